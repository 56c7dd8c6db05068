//! What becomes of a controller's files while it is down: volumes that are gone, a configuration or records for which
//! its peer has to refuse it.

use std::collections::BTreeMap;

use controller::plan::{Plan, Side};
use controller::time::Time;

use super::Simulation;
use super::director::{Mending, members};
use super::faults::{Meanwhile, REFUSED};
use super::volume::Volume;

/// How a controller's files are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Files {
    /// As they should be.
    #[default]
    Right,
    /// Its configuration of the mirrored LUNs is another.
    Changed,
    /// Its records are not there, but here.
    Aside(BTreeMap<String, Vec<u8>>),
}

impl Simulation {
    /// A controller has just ended, and is started again at `until`.
    pub(super) fn meanwhile(&mut self, side: Side, meanwhile: Meanwhile, until: Time) {
        let files = match meanwhile {
            Meanwhile::Nothing => return,
            Meanwhile::VolumesRemoved => return self.remove_volumes(side),
            Meanwhile::FileChanged => Files::Changed,
            Meanwhile::RecordsGone => {
                Files::Aside(core::mem::take(&mut self.hub.lock().records[side.index()]))
            }
        };
        self.director.files[side.index()] = files;
        self.mend_at(until + REFUSED, Mending::PutRight(side));
    }

    /// It is started again with the right ones.
    pub(super) fn put_right(&mut self, side: Side) {
        if !self.hub.lock().processes[side.index()].down {
            self.end(side, false);
        }
        if let Files::Aside(records) = core::mem::take(&mut self.director.files[side.index()]) {
            self.hub.lock().records[side.index()] = records;
        }
        self.restart(side);
    }

    /// The configuration that a controller finds.
    pub(super) fn plan(&self, side: Side) -> Plan {
        let mut plan = self.settings.plan(side);
        if self.director.files[side.index()] == Files::Changed {
            let mirrored = plan.luns.iter().filter(|lun| lun.mirror);
            plan.shared.extend(mirrored.map(|lun| (format!("lun.{}.changed", lun.name), "yes".to_owned())));
        }
        plan
    }

    /// The mirrored volumes of a controller that is down go, where the other has a copy that is whole.
    fn remove_volumes(&mut self, side: Side) {
        let only = self.settings.troubled;
        for at in (0..self.settings.luns.len()).filter(|at| only.is_none_or(|only| only == *at)) {
            let hub = &mut *self.hub.lock();
            if self.settings.luns[at].mirror
                && members(hub, &self.settings.luns[at].name)[side.peer().index()]
            {
                hub.disks[side.index()].volumes[at] = Volume::default();
            }
        }
    }
}
