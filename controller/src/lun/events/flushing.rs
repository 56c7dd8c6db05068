//! An event that ends the write cache: a MODE SELECT that makes WCE 0, or a reset that brings a saved 0 back.
//!
//! ```text
//!            everything before it has ended               both copies are flushed
//!  Draining ────────────────────────────────► Flushing ───────────────────────────► Flushed, then its legs
//! ```
//!
//! From its answer on every write that was ever answered is durable on both copies. So it is a SYNCHRONIZE CACHE and
//! then a barrier like any event, with nothing between the two:
//! * When the flush begins, no host's command is under way and what comes waits behind the event. Nothing is
//!   answered that the flush does not cover.
//! * What waited is admitted under the new state only, by which it is durable on both copies before its answer
//!   ([`Lun::caches`]). The sub sends what an older state let pass again, under the new one.
//! * A crash before the new state is on both leaves WCE as it was, or 0, for an event that nobody was told of; the
//!   copies are flushed in either case. After it, whoever is main has the new state or meets one who has.
//! * If the pair loses a copy meanwhile, what the flush said of it means nothing: the event is given back, and flushes
//!   anew when the pair is decided on, or its host hears that it came to nothing.

use protocol::interlink::shared::SharedState;
use protocol::scsi::sense::{Sense, Status};

use super::{Running, Stage};
use crate::command::{Op, Outcome};
use crate::lun::Lun;
use crate::lun::task::{Action, Origin};
use crate::time::Time;

impl Lun {
    /// WCE: whether a change may be answered before it is durable on both copies.
    pub(in crate::lun) const fn caches(&self) -> bool {
        self.unit.caches()
    }

    /// Whether the write cache ends with this state.
    pub(super) const fn ends_write_cache(&self, next: &SharedState) -> bool {
        self.caches() && !next.current.caches(self.setup.write_cache)
    }

    /// Everything before the event has ended: both copies are flushed before it goes on.
    pub(super) fn flush_first(&mut self, mut running: Running, actions: &mut Vec<Action>) {
        self.events.flushes = self.events.flushes.wrapping_add(1);
        running.stage = Stage::Flushing(self.events.flushes);
        self.events.running = Some(running);
        let origin = Origin::Event(self.events.flushes);
        self.enter(origin, Op::SynchronizeCache, true, Time(0), actions);
    }

    /// The flush of this number is over. It counts for nothing if its event was given up or put back.
    pub(in crate::lun) fn on_event_flushed(
        &mut self,
        number: u32,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        let waits = |running: &mut Running| matches!(running.stage, Stage::Flushing(this) if this == number);
        let Some(mut running) = self.events.running.take_if(waits) else {
            return;
        };
        match outcome {
            Outcome::Good(_) => {
                running.stage = Stage::Flushed;
                self.events.running = Some(running);
            }
            Outcome::Check(sense) if sense != Sense::ABORTED_COMMAND => {
                self.end(running.origin, Outcome::Check(sense), actions);
            }
            // The pair changes. The event has not happened: a host may send it again whatever it is.
            Outcome::Check(_) | Outcome::Status(_) | Outcome::Aborted => {
                self.end(running.origin, Outcome::Status(Status::Busy), actions);
            }
        }
        self.pump_events(actions);
    }
}
