//! Unit attentions (SAM-5 5.14): what a nexus has to be told before its next command is carried out; and with them
//! the nexuses of this controller.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::interlink::shared::{Attention, NexusHandle, NexusName, Recipients};
use protocol::scsi::sense::{Asc, Sense, SenseKey};

use crate::command::NexusId;

/// Nexuses that one LUN of one controller knows at most; one more is served but cannot reserve.
pub const NEXUSES_MAX: usize = 1024;

/// Unit attentions that wait for one nexus at most. No two are alike, so this is never reached.
const PENDING_MAX: usize = 16;

/// ASC of POWER ON, RESET, OR BUS DEVICE RESET OCCURRED and its like: told before any other.
const RESETS: u8 = 0x29;

/// The nexuses of one LUN on this controller, and their unit attentions.
#[derive(Debug, Default)]
pub(super) struct Attentions {
    nexuses: BTreeMap<NexusId, Arc<NexusName>>,
    pending: BTreeMap<NexusId, VecDeque<Sense>>,
}

impl Attentions {
    /// A new nexus begins with POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub(super) fn nexus_added(&mut self, nexus: NexusId, name: Arc<NexusName>) {
        if self.nexuses.len() < NEXUSES_MAX {
            self.nexuses.insert(nexus, name);
        }
        self.pending.insert(nexus, VecDeque::from([Sense::POWER_ON]));
    }

    /// Nobody is left to be told.
    pub(super) fn nexus_lost(&mut self, nexus: NexusId) {
        self.nexuses.remove(&nexus);
        self.pending.remove(&nexus);
    }

    /// Nexuses known.
    pub(super) fn count(&self) -> usize {
        self.nexuses.len()
    }

    /// The names of a nexus's ports.
    pub(super) fn name(&self, nexus: NexusId) -> Option<&Arc<NexusName>> {
        self.nexuses.get(&nexus)
    }

    /// All nexuses, in their order.
    pub(super) fn nexuses(&self) -> impl Iterator<Item = (NexusId, &NexusName)> {
        self.nexuses.iter().map(|(nexus, name)| (*nexus, &**name))
    }

    /// Raises an attention for those of this controller's nexuses that it is for. `handle` names a session as the
    /// peer knows it.
    pub(super) fn raise(&mut self, attention: &Attention, handle: impl Fn(NexusId) -> NexusHandle) {
        for (nexus, name) in &self.nexuses {
            if means(&attention.whom, name, handle(*nexus)) {
                queue(self.pending.entry(*nexus).or_default(), attention.code);
            }
        }
    }

    /// Whether an attention is for a nexus of this controller.
    pub(super) fn is_meant(&self, attention: &Attention, nexus: NexusId, handle: NexusHandle) -> bool {
        self.nexuses.get(&nexus).is_some_and(|name| means(&attention.whom, name, handle))
    }

    /// Takes the first attention of a nexus. Those who have none are not in the map, which makes the usual
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

fn means(whom: &Recipients, name: &NexusName, handle: NexusHandle) -> bool {
    match whom {
        Recipients::All => true,
        Recipients::AllBut(other) => handle != *other,
        Recipients::One(one) => *name == *one,
    }
}

/// One that waits already is not told twice; of the resets only the first, which is before all others.
fn queue(pending: &mut VecDeque<Sense>, code: Asc) {
    let sense = Sense::new(SenseKey::UnitAttention, code.0, code.1);
    let told = |other: &Sense| *other == sense || (code.0 == RESETS && other.code.0 == RESETS);
    if pending.iter().any(told) || pending.len() >= PENDING_MAX {
        return;
    }
    if code.0 == RESETS {
        pending.push_front(sense);
    } else {
        pending.push_back(sense);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(initiator: &str) -> Arc<NexusName> {
        Arc::new(NexusName { initiator: initiator.into(), isid: [0; 6], port: 1 })
    }

    fn handle(nexus: NexusId) -> NexusHandle {
        NexusHandle { side: 0, incarnation: 7, nexus: nexus.0 }
    }

    fn two() -> Attentions {
        let mut attentions = Attentions::default();
        for (nexus, initiator) in [(1, "one"), (2, "two")] {
            attentions.nexus_added(NexusId(nexus), name(initiator));
            assert_eq!(attentions.take(NexusId(nexus)), Some(Sense::POWER_ON));
        }
        attentions
    }

    fn raise(attentions: &mut Attentions, whom: Recipients, sense: Sense) {
        attentions.raise(&Attention { whom, code: sense.code }, handle);
    }

    #[test]
    fn a_new_nexus_is_told_once_of_the_power_on() {
        let mut attentions = Attentions::default();
        attentions.nexus_added(NexusId(1), name("one"));
        assert_eq!(attentions.take(NexusId(2)), None);
        assert_eq!(attentions.take(NexusId(1)), Some(Sense::POWER_ON));
        assert_eq!(attentions.take(NexusId(1)), None);
    }

    #[test]
    fn a_reset_is_told_before_what_was_raised_earlier() {
        let mut attentions = two();
        raise(&mut attentions, Recipients::All, Sense::ASYMMETRIC_ACCESS_STATE_CHANGED);
        raise(&mut attentions, Recipients::All, Sense::LOGICAL_UNIT_RESET);
        for nexus in [NexusId(1), NexusId(2)] {
            assert_eq!(attentions.take(nexus), Some(Sense::LOGICAL_UNIT_RESET));
            assert_eq!(attentions.take(nexus), Some(Sense::ASYMMETRIC_ACCESS_STATE_CHANGED));
            assert_eq!(attentions.take(nexus), None);
        }
    }

    #[test]
    fn what_a_nexus_was_not_told_yet_is_not_queued_again() {
        let mut attentions = Attentions::default();
        attentions.nexus_added(NexusId(1), name("one"));
        for sense in
            [Sense::LOGICAL_UNIT_RESET, Sense::MODE_PARAMETERS_CHANGED, Sense::MODE_PARAMETERS_CHANGED]
        {
            raise(&mut attentions, Recipients::All, sense);
        }
        assert_eq!(attentions.take(NexusId(1)), Some(Sense::POWER_ON));
        assert_eq!(attentions.take(NexusId(1)), Some(Sense::MODE_PARAMETERS_CHANGED));
        assert_eq!(attentions.take(NexusId(1)), None);
    }

    #[test]
    fn an_attention_reaches_those_it_is_for() {
        let mut attentions = two();
        raise(&mut attentions, Recipients::AllBut(handle(NexusId(1))), Sense::MODE_PARAMETERS_CHANGED);
        raise(&mut attentions, Recipients::One((*name("one")).clone()), Sense::REGISTRATIONS_PREEMPTED);
        assert_eq!(attentions.take(NexusId(1)), Some(Sense::REGISTRATIONS_PREEMPTED));
        assert_eq!(attentions.take(NexusId(2)), Some(Sense::MODE_PARAMETERS_CHANGED));
        assert_eq!((attentions.take(NexusId(1)), attentions.take(NexusId(2))), (None, None));
    }
}
