//! What is promised of LUNs in one group beside what is promised of each.
//!
//! * On each controller all are in one place under one generation, at every moment: [`controller::unit::Controller`]
//!   looks for itself, after every event. So they have one source, and what one of them loses with the memory of both
//!   controllers the others lose at the same moment, from the same controller.
//! * On each disk their records name one generation, main and members, and none is clean where another is not.
//! * Two controllers that serve the group as a pair under one generation are not both main of it, nor both sub.
//!
//! That a write to one LUN is never kept where an earlier one to another is lost needs no judge of its own: each LUN's
//! history is linearizable, and then that of all of them is (Herlihy and Wing, theorem 1).

use controller::appliance::{CONTROL_KEY, ControlRecord};
use controller::command::LunIndex;
use controller::pair::Service;
use controller::plan::Side;
use protocol::interlink::copy_report::GroupRecord;

use super::settings::NAMES;
use super::{SIDES, Simulation};

impl Simulation {
    /// At every tick.
    pub(super) fn watch_groups(&self) -> Result<(), String> {
        for luns in self.settings.plan(Side::First).groups().iter().filter(|luns| luns.len() > 1) {
            SIDES.iter().try_for_each(|side| self.watch_records(*side, luns))?;
            self.watch_roles(luns[0])?;
        }
        Ok(())
    }

    fn watch_records(&self, side: Side, luns: &[usize]) -> Result<(), String> {
        let hub = self.hub.lock();
        let record = hub.records[side.index()].get(CONTROL_KEY);
        let record = record.and_then(|record| ControlRecord::read(NAMES[side.index()], record).ok());
        let is_in = |record: &GroupRecord| luns.iter().any(|lun| self.settings.luns[*lun].name == record.lun);
        let records: Vec<GroupRecord> =
            record.into_iter().flat_map(|record| record.groups).filter(is_in).collect();
        let said = |record: &GroupRecord| {
            let generation = record.generation;
            (generation.tag(), generation.main, generation.members, record.clean)
        };
        let one = records.windows(2).all(|two| said(&two[0]) == said(&two[1]));
        let whole = records.is_empty() || records.len() == luns.len();
        if one && whole { Ok(()) } else { Err(format!("{side:?}: LUNs of one group differ: {records:?}")) }
    }

    /// One that was paused, or that a word has not reached yet, may be at an older generation.
    fn watch_roles(&self, lun: usize) -> Result<(), String> {
        let both = SIDES.map(|side| {
            let up = !self.hub.lock().processes[side.index()].down;
            let place = self.place(side, lun).filter(|_| up)?;
            let generation = self.units[side.index()].controller.generation(LunIndex(lun as u16))?;
            matches!(place.2, Service::Mirrored).then_some((generation, place.0))
        });
        match both {
            [Some((first, one)), Some((second, other))] if first == second && one == other => {
                Err(format!("both controllers are {one:?} of a group under {first:?}"))
            }
            _ => Ok(()),
        }
    }
}
