//! What came of copies that have ended, by list identifier, until another copy of that name begins, the nexus is gone,
//! the LUN is reset or there is no room (SPC-4 6.17 to 6.20).

use std::collections::BTreeMap;

use protocol::scsi::sense::Sense;

use super::{COPY_RESULTS_MAX, NEXUS_COPY_RESULTS_MAX, Progress};
use crate::command::{LunIndex, NexusId};

/// What is remembered of one copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    pub(super) progress: Progress,
    /// Why it failed, until that is told.
    pub(super) sense: Option<Sense>,
}

type Name = (NexusId, LunIndex, u8);

/// What is remembered of all of them.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// With the order in which they ended.
    kept: BTreeMap<Name, (u64, Kept)>,
    ended: u64,
}

impl Results {
    /// Remembers one; the oldest makes room for it.
    pub(super) fn keep(&mut self, nexus: NexusId, lun: LunIndex, list: u8, kept: Kept) {
        let own = self.kept.keys().filter(|name| name.0 == nexus).count();
        if own >= NEXUS_COPY_RESULTS_MAX {
            self.forget_oldest(|name| name.0 == nexus);
        } else if self.kept.len() >= COPY_RESULTS_MAX {
            self.forget_oldest(|_| true);
        }
        self.ended += 1;
        self.kept.insert((nexus, lun, list), (self.ended, kept));
    }

    fn forget_oldest(&mut self, chosen: impl Fn(&Name) -> bool) {
        let among = self.kept.iter().filter(|(name, _)| chosen(name));
        if let Some(oldest) = among.min_by_key(|(_, (ended, _))| *ended).map(|(name, _)| *name) {
            self.kept.remove(&oldest);
        }
    }

    pub(super) fn get(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<&Kept> {
        self.kept.get(&(nexus, lun, list)).map(|(_, kept)| kept)
    }

    pub(super) fn failure_told(&mut self, nexus: NexusId, lun: LunIndex, list: u8) {
        if let Some((_, kept)) = self.kept.get_mut(&(nexus, lun, list)) {
            kept.sense = None;
        }
    }

    pub(super) fn forget(&mut self, nexus: NexusId, lun: LunIndex, list: u8) {
        self.kept.remove(&(nexus, lun, list));
    }

    pub(super) fn forget_nexus(&mut self, nexus: NexusId) {
        self.kept.retain(|name, _| name.0 != nexus);
    }

    pub(super) fn forget_lun(&mut self, lun: LunIndex) {
        self.kept.retain(|name, _| name.1 != lun);
    }

    /// How many there are, and how many of the nexus that has most.
    pub(super) fn counts(&self) -> (usize, usize) {
        let names: Vec<NexusId> = self.kept.keys().map(|name| name.0).collect();
        (names.len(), names.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap_or(0))
    }
}
