//! Which copies of the copy manager this LUN lets pass. A piece comes in the name of a host's EXTENDED COPY; it neither
//! waits for unit attentions nor takes them, and passes only while the copy has a licence here.
//!
//! Who ends a copy takes its licence away, under this LUN's lock: no piece of it that comes later is let in, whatever it
//! has waited for. A reset does so for every copy that was sent to this LUN, reads it or writes it, and a PREEMPT for
//! those of whoever it drove out. Such an event is answered when those copies have ended (`events.rs`), here and, before
//! the sub says that it has the event, there: then none of their pieces is under way on any LUN. But one may be with the
//! disk of another LUN, which hangs. This LUN does not wait for that for longer than [`ENDS_TICKS`]: here no piece of it is
//! let in any more, whatever becomes of it there.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::interlink::shared::Attention;
use protocol::scsi::sense::Sense;

use super::Lun;
use super::task::Action;
use crate::command::{NexusId, Outcome, TaskTag};
use crate::time::{TICK, Time};

/// How long an event waits for the end of the copies that it ended, in ticks: 3 s.
const ENDS_TICKS: u32 = (Duration::from_secs(3).as_millis() / TICK.as_millis()) as u32;

/// The licences of one LUN: at most [`crate::copy_manager::EXTENDED_COPIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Licences {
    /// By nexus and task; false once it was taken away, until the copy has ended.
    held: BTreeMap<(NexusId, u32), bool>,
    /// How long their end is waited for yet, in ticks.
    patience: u32,
}

impl Licences {
    /// A copy that lost its licence has not ended, and is waited for.
    pub(super) fn awaits(&self) -> bool {
        self.patience > 0 && self.held.values().any(|valid| !valid)
    }

    /// Time has passed: at a tick. True when nobody waits any longer.
    pub(super) fn tick(&mut self) -> bool {
        let before = self.patience;
        self.patience = before.saturating_sub(1);
        before == 1
    }

    fn take_away(&mut self, taken: impl Fn(&(NexusId, u32)) -> bool) -> Vec<(NexusId, u32)> {
        let out = self.held.iter_mut().filter(|(key, valid)| **valid && taken(key));
        let out: Vec<_> = out
            .map(|(key, valid)| {
                *valid = false;
                *key
            })
            .collect();
        if !out.is_empty() {
            self.patience = ENDS_TICKS;
        }
        out
    }

    fn allow(&self, nexus: NexusId, tag: TaskTag) -> bool {
        self.held.get(&(nexus, tag.task())) == Some(&true)
    }

    /// A nexus is gone.
    pub(super) fn nexus_lost(&mut self, nexus: NexusId) {
        self.take_away(|(owner, _)| *owner == nexus);
    }
}

impl Lun {
    /// Pieces of this task pass.
    pub fn license(&mut self, nexus: NexusId, task: u32) {
        self.licences.held.insert((nexus, task), true);
    }

    /// They do not any more.
    pub fn revoke(&mut self, nexus: NexusId, task: u32) {
        self.licences.take_away(|key| *key == (nexus, task));
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
        let out = |nexus: NexusId| driven.iter().any(|attention| self.unit.is_meant(attention, nexus));
        let revoked = self.licences.take_away(|(nexus, _)| reset || out(*nexus));
        actions.extend(revoked.into_iter().map(|(nexus, task)| Action::Revoked { nexus, task }));
    }
}
