//! The loop around the copy manager: its acts are performed one after the other, by the thread that brought an event
//! while no other does. So a piece that ends at once is handled by the loop that asked for it, and no stack grows.

use parking_lot::Mutex;
use protocol::scsi::sense::Sense;

use super::{Act, CopyManager, Progress};
use crate::command::{LunIndex, NexusId};
use crate::status::LimitStatus;

/// Acts performed at one go; the next tick goes on. A copy whose pieces end at once must not keep a worker from its
/// hosts: some eight MiB.
const ACTS_AT_ONCE: usize = 32;

/// The copy manager behind a lock. Its lock is never held together with any other.
#[derive(Debug, Default)]
pub struct CopyDriver {
    state: Mutex<Driven>,
}

#[derive(Debug, Default)]
struct Driven {
    manager: CopyManager,
    /// A thread is performing its acts.
    is_busy: bool,
}

impl CopyDriver {
    /// Lets the copy manager handle an event, and performs the acts that it asks for unless another thread does
    /// already. True if acts are left for the next tick.
    pub(crate) fn handle(&self, handle: impl FnOnce(&mut CopyManager), mut perform: impl FnMut(Act)) -> bool {
        let mut state = self.state.lock();
        handle(&mut state.manager);
        if state.is_busy || !state.manager.has_acts() {
            return false;
        }
        state.is_busy = true;
        for _ in 0..ACTS_AT_ONCE {
            let Some(act) = state.manager.next_act() else {
                break;
            };
            drop(state);
            perform(act);
            state = self.state.lock();
        }
        state.is_busy = false;
        state.manager.has_acts()
    }

    /// How far the copy of a list identifier is or came; `None` if there is none.
    #[must_use]
    pub fn progress(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<Progress> {
        self.state.lock().manager.progress(nexus, lun, list)
    }

    /// Why the copy of a list identifier failed, if it did; `None` if there is no such copy that has ended.
    #[must_use]
    pub fn failure(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<Option<Sense>> {
        self.state.lock().manager.failure(nexus, lun, list)
    }

    /// Why it failed has been told, and is not again.
    pub fn failure_told(&self, nexus: NexusId, lun: LunIndex, list: u8) {
        self.state.lock().manager.failure_told(nexus, lun, list);
    }

    /// What always holds of copies, whatever came before.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub(crate) fn check(&self) {
        let state = self.state.lock();
        state.manager.check();
        assert!(state.is_busy || !state.manager.has_acts(), "what is to be done is left");
    }

    /// The limits, with their use.
    pub(crate) fn limits(&self) -> Vec<LimitStatus> {
        self.state.lock().manager.limits()
    }
}
