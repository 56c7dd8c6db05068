//! A controller whose workers do not get on: it does not claim to live.
//!
//! Its control thread alone could go on for ever granting leases and renewing its own, while nothing that is sent to it
//! is ever handled. So it parts from its peer, which does what it does when it loses one, and meets nobody until
//! everything gets on again. Nothing else of this core happens meanwhile: it does not go on alone either.

use super::{Apart, Appliance, Effect};

impl Appliance {
    /// The workers do not get on: to be called as long as that lasts, instead of everything else.
    pub fn on_stuck(&mut self, effects: &mut Vec<Effect>) {
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
