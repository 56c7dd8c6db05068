//! The loop around the copy manager: its acts are performed one after the other, by whoever brought an event while
//! nobody else does. So a piece that ends at once is handled by the loop that asked for it, and no stack grows.

use super::Controller;
use crate::command::{LunIndex, NexusId};
use crate::copy_manager::{Act, CopyManager, CopyOrder, Progress};
use crate::world::World;
use protocol::scsi::sense::Sense;

/// Acts performed at one go; the next tick goes on. A copy whose pieces end at once must not keep a worker from its
/// hosts: some eight MiB.
const ACTS_AT_ONCE: usize = 32;

impl<W: World> Controller<W> {
    /// EXTENDED COPY. The outcome comes through [`World::answer`], perhaps before this returns.
    pub fn extended_copy(&self, order: CopyOrder) {
        let now = self.world.now();
        self.with_copies(|copies| copies.begin(order, now));
    }

    /// How far the copy of a list identifier is or came; `None` if there is none.
    pub fn copy_progress(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<Progress> {
        self.copies.lock().progress(nexus, lun, list)
    }

    /// Why the copy of a list identifier failed, if it did; `None` if there is no such copy that has ended.
    pub fn copy_failure(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<Option<Sense>> {
        self.copies.lock().failure(nexus, lun, list)
    }

    /// Why it failed has been told, and is not again.
    pub fn copy_failure_told(&self, nexus: NexusId, lun: LunIndex, list: u8) {
        self.copies.lock().failure_told(nexus, lun, list);
    }

    /// The LUN that has this NAA designator, and its number.
    pub fn lun_of_naa(&self, naa: u64) -> Option<(LunIndex, u16)> {
        let appliance = self.appliance.lock();
        let found = (0..self.plan.luns.len()).find(|index| {
            appliance.view().lun_identity(*index).is_some_and(|identity| identity.naa == naa)
        })?;
        Some((LunIndex(found as u16), self.plan.luns[found].number))
    }

    /// Lets the copy manager handle an event, and performs what it asks for unless somebody does already.
    pub(super) fn with_copies(&self, handle: impl FnOnce(&mut CopyManager)) {
        let mut copies = self.copies.lock();
        handle(&mut copies);
        if copies.driven || !copies.has_acts() {
            return;
        }
        copies.driven = true;
        for _ in 0..ACTS_AT_ONCE {
            let Some(act) = copies.next_act() else {
                break;
            };
            drop(copies);
            self.perform_act(act);
            copies = self.copies.lock();
        }
        copies.driven = false;
        let left = copies.has_acts();
        drop(copies);
        if left {
            self.world.wake_at(self.world.now());
        }
    }

    fn perform_act(&self, act: Act) {
        match act {
            Act::Permit(lun, nexus, task) => {
                self.with_lun(usize::from(lun.0), |lun, _| lun.permit_copy(nexus, task));
            }
            Act::Revoke(lun, nexus, task) => {
                self.with_lun(usize::from(lun.0), |lun, _| lun.revoke_copy(nexus, task));
            }
            Act::EndPermit(lun, nexus, task) => {
                let now = self.world.now();
                self.with_lun(usize::from(lun.0), |lun, actions| lun.copy_ended(nexus, task, now, actions));
            }
            Act::Ask(command) => self.command(command),
            Act::Abort(lun, nexus, tag) => self.abort_here(lun, nexus, tag),
            Act::Answer(nexus, tag, outcome) => self.world.answer(nexus, tag, outcome),
        }
    }
}
