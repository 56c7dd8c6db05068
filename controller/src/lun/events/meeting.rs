//! The sub's hosts between a meeting and main's word which state holds: what the sub remembers may be old, so nobody is
//! judged by it. They wait at the door. Main's hosts wait behind the event in which the two find it.

use crate::lun::Lun;
use crate::lun::task::Action;
use crate::pair::Role;
use crate::time::Time;

impl Lun {
    /// The LUN takes a place in the pair.
    pub(super) fn forget_state(&mut self) {
        self.events.unknown = self.view.role == Role::Sub && !self.view.links.is_empty();
        self.events.opens = false;
    }

    /// Main's state is here.
    pub(in crate::lun) fn know_state(&mut self) {
        self.events.unknown = false;
    }

    /// Hosts' commands wait again, for another reason.
    pub(in crate::lun) fn keep_the_door(&mut self) {
        self.events.opens = false;
    }

    /// Hosts may be served: now, or with the state.
    pub(in crate::lun) fn open_door(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.events.opens = true;
        self.let_in(now, actions);
    }

    /// What waited at the door goes on, if nothing is awaited any more.
    pub(in crate::lun) fn let_in(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.events.unknown || !core::mem::take(&mut self.events.opens) {
            return;
        }
        for command in self.held.take().unwrap_or_default() {
            self.command(command, now, actions);
        }
    }
}
