//! Which copies of the copy manager this LUN lets pass. A piece comes in the name of a host's EXTENDED COPY; it neither
//! waits for unit attentions nor takes them, and passes only while the copy has a licence here.
//!
//! Who ends a copy takes its licence away, under this LUN's lock: no piece of it that comes later is let in, whatever it
//! has waited for. A reset does so for every copy that was sent to this LUN, reads it or writes it, and a PREEMPT for
//! those of whoever it drove out. Such an event is answered when those copies have ended (`events.rs`), here and, before
//! the sub says that it has the event, there.

use std::collections::BTreeMap;

use protocol::interlink::shared::Attention;
use protocol::scsi::sense::Sense;

use super::Lun;
use super::task::Action;
use crate::command::{NexusId, Outcome, TaskTag};
use crate::time::Time;

/// The licences of one LUN: at most [`crate::copy_manager::EXTENDED_COPIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Licences {
    /// By nexus and task; false once it was taken away, until the copy has ended.
    held: BTreeMap<(NexusId, u32), bool>,
}

impl Licences {
    /// A copy that lost its licence has not ended.
    pub(super) fn awaits(&self) -> bool {
        self.held.values().any(|valid| !valid)
    }

    fn allow(&self, nexus: NexusId, tag: TaskTag) -> bool {
        self.held.get(&(nexus, tag.task())) == Some(&true)
    }

    /// A nexus is gone.
    pub(super) fn nexus_lost(&mut self, nexus: NexusId) {
        self.held.range_mut((nexus, 0)..=(nexus, u32::MAX)).for_each(|(_, valid)| *valid = false);
    }
}

impl Lun {
    /// Pieces of this task pass.
    pub fn license(&mut self, nexus: NexusId, task: u32) {
        self.licences.held.insert((nexus, task), true);
    }

    /// They do not any more.
    pub fn revoke(&mut self, nexus: NexusId, task: u32) {
        if let Some(valid) = self.licences.held.get_mut(&(nexus, task)) {
            *valid = false;
        }
    }

    /// The copy has ended; what waited for that goes on.
    pub fn end_licence(&mut self, nexus: NexusId, task: u32, now: Time, actions: &mut Vec<Action>) {
        if self.licences.held.remove(&(nexus, task)) == Some(false) {
            self.pump_events(actions);
            self.let_in(now, actions);
        }
    }

    /// Leave to come in at the door.
    pub(super) fn may_pass(&mut self, nexus: NexusId, tag: TaskTag) -> Result<(), Outcome> {
        if !tag.is_piece() {
            return self.may_enter(nexus);
        }
        if !self.licences.allow(nexus, tag) {
            return Err(Outcome::Aborted);
        }
        if self.serving() { Ok(()) } else { Err(Outcome::Check(Sense::UNAVAILABLE)) }
    }

    /// An event that is about to hold ends copies of this controller's hosts.
    pub(super) fn revoke_for(&mut self, reset: bool, attentions: &[Attention], actions: &mut Vec<Action>) {
        if reset {
            actions.push(Action::WasReset);
        }
        let drives_out = |attention: &&Attention| {
            [Sense::REGISTRATIONS_PREEMPTED.code, Sense::RESERVATIONS_PREEMPTED.code]
                .contains(&attention.code)
        };
        let driven: Vec<&Attention> = attentions.iter().filter(drives_out).collect();
        for (key, valid) in &mut self.licences.held {
            let out = driven
                .iter()
                .any(|attention| self.attentions.is_meant(attention, key.0, self.setup.handle(key.0)));
            if *valid && (reset || out) {
                *valid = false;
                actions.push(Action::Revoked { nexus: key.0, task: key.1 });
            }
        }
    }
}
