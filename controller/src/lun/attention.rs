//! Unit attentions (SAM-5 5.14): what a nexus has to be told before its next command is carried out.

use std::collections::{BTreeMap, VecDeque};

use protocol::scsi::sense::Sense;

use crate::command::NexusId;

/// The unit attentions of one LUN, by nexus.
#[derive(Debug, Default)]
pub(super) struct Attentions {
    pending: BTreeMap<NexusId, VecDeque<Sense>>,
}

impl Attentions {
    /// A new nexus begins with POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub(super) fn nexus_added(&mut self, nexus: NexusId) {
        self.pending.insert(nexus, VecDeque::from([Sense::POWER_ON]));
    }

    /// Nobody is left to be told.
    pub(super) fn nexus_lost(&mut self, nexus: NexusId) {
        self.pending.remove(&nexus);
    }

    /// Takes the oldest attention of a nexus. Those who have none are not in the map, which makes the usual
    /// case a look at an empty map.
    pub(super) fn take(&mut self, nexus: NexusId) -> Option<Sense> {
        if self.pending.is_empty() {
            return None;
        }
        let queue = self.pending.get_mut(&nexus)?;
        let sense = queue.pop_front();
        if queue.is_empty() {
            self.pending.remove(&nexus);
        }
        sense
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_nexus_is_told_once_of_the_power_on() {
        let mut attentions = Attentions::default();
        attentions.nexus_added(NexusId(1));
        assert_eq!(attentions.take(NexusId(2)), None);
        assert_eq!(attentions.take(NexusId(1)), Some(Sense::POWER_ON));
        assert_eq!(attentions.take(NexusId(1)), None);
    }
}
