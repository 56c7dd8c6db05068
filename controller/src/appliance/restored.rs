//! What the controller finds when it starts. What cannot be read is an error, never "there was none".

use std::collections::BTreeMap;

use protocol::interlink::shared::SharedState;

use super::record::{CONTROL_KEY, ControlRecord};
use crate::plan::{LunPlan, Plan};
use crate::volume::record::{self, Kind, RecordError};
use crate::volume::superblock::VolumeFound;

/// What the controller finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The records of the state store, by key.
    pub records: BTreeMap<String, Vec<u8>>,
    /// Why the state store cannot be used, if it cannot.
    pub unusable: Option<String>,
    /// The volume of every LUN of the plan, in its order.
    pub volumes: Vec<VolumeFound>,
}

/// Key of a LUN's shared state in the state store.
pub(crate) fn shared_key(lun: &str) -> String {
    format!("shared.{lun}")
}

impl Restored {
    /// The control record of this controller; in words why it cannot be used.
    pub fn control(&self, controller: &str) -> Result<ControlRecord, String> {
        if let Some(reason) = &self.unusable {
            return Err(reason.clone());
        }
        let read = match self.records.get(CONTROL_KEY) {
            Some(record) => ControlRecord::read(controller, record),
            None if self.records.is_empty() => Ok(ControlRecord::default()),
            None => Err(RecordError::Missing),
        };
        read.map_err(|error| match error {
            RecordError::Other(other) => format!("its state folder is that of {other}"),
            error => format!("its control record cannot be used, {error}"),
        })
    }

    /// The volume of every LUN of the plan, in its order, as it counts. One that was made and under which nothing was
    /// ever served counts as blank: the two have not agreed on its LUN yet, which may have got another size in their
    /// files.
    #[must_use]
    pub fn volumes_that_count(&self, plan: &Plan) -> Vec<VolumeFound> {
        let groups = self.control(&plan.names[plan.side.index()]).unwrap_or_default().groups;
        let counts = |(index, lun): (usize, &LunPlan)| {
            let found = self.volumes.get(index).copied().unwrap_or(VolumeFound::Missing);
            let record = groups.iter().find(|record| record.lun == lun.name);
            let agreed = record.is_some_and(|record| record.generation.number > 0);
            match found {
                VolumeFound::Open(superblock) if !agreed && !superblock.was_served() => VolumeFound::Blank,
                found => found,
            }
        };
        plan.luns.iter().enumerate().map(counts).collect()
    }

    /// The shared state of a LUN.
    pub(crate) fn shared(&self, controller: &str, lun: &str) -> Result<SharedState, RecordError> {
        let Some(record) = self.records.get(&shared_key(lun)) else {
            return Ok(SharedState::default());
        };
        let (_, content) = record::unwrap(Kind::Unit, controller, record)?;
        SharedState::decode(content).map_err(|_| RecordError::Damaged)
    }
}
