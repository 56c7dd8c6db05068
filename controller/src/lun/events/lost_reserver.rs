//! A legacy reservation ends with its session (SPC-2 5.5.1): main is told until it says so.

use core::time::Duration;

use protocol::interlink::shared::NexusHandle;

use crate::lun::unit_state::UnitState;
use crate::time::Time;

/// How long a session's end may go unanswered before main is told again.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);

/// When main was last told of a session's end.
#[derive(Debug, Default)]
pub(super) struct LostReserver {
    told: Option<Time>,
}

impl LostReserver {
    /// The session whose end main is to be told now.
    pub(super) fn due(&mut self, unit: &UnitState, now: Time) -> Option<NexusHandle> {
        let reserver = unit.state().reserver?;
        let told = |at: Time| now.since(at) < RELEASE_AGAIN;
        if !unit.is_of_lost_session(reserver) || self.told.is_some_and(told) {
            return None;
        }
        self.told = Some(now);
        Some(reserver)
    }
}
