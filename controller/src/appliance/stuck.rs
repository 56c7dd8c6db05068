//! A controller whose workers do not get on: it does not claim to live.
//!
//! Its control thread alone could go on for ever granting leases and renewing its own, while nothing that is sent to it
//! is ever handled. So it parts from its peer, which does what it does when it loses one, and meets nobody until
//! everything gets on again. Nothing else of this core happens meanwhile: it does not go on alone either.

use super::{Apart, Appliance, Effect};
use crate::disk::DiskError;
use crate::world::Ticket;

impl Appliance {
    /// Something is durable while the workers do not get on: what follows from it comes when they do.
    pub fn hold_done(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        self.held_done.push((ticket, result));
    }

    /// Everything gets on.
    pub(super) fn on_getting_on(&mut self, effects: &mut Vec<Effect>) {
        for (ticket, result) in core::mem::take(&mut self.held_done) {
            self.on_done(ticket, result, effects);
        }
    }

    /// The workers do not get on: to be called as long as that lasts, instead of everything else.
    pub fn on_stuck(&mut self, effects: &mut Vec<Effect>) {
        if self.is_unusable() {
            return;
        }
        let own = self.plan.names[self.plan.side.index()].clone();
        if self.peer.is_some() {
            return self.lose(Apart::Stuck(own), effects);
        }
        effects.extend(std::mem::take(&mut self.links).into_keys().map(Effect::Close));
        if self.apart != Apart::Stopping {
            self.apart = Apart::Stuck(own);
        }
    }
}
