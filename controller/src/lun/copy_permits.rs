//! Which EXTENDED COPYs may read or write this LUN. A chunk comes in the name of a host's EXTENDED COPY; it neither
//! waits for unit attentions nor takes them, and passes only while the copy has a permit here.
//!
//! An event that ends a copy revokes its permit under this LUN's lock, so no chunk of it that comes later is let in,
//! whatever it has waited for. A reset revokes every EXTENDED COPY addressed to, reading or writing this LUN; a PREEMPT
//! those of the nexuses it removes. The event completes when these copies have ended on both controllers (`events/`):
//! then none of their chunks is under way on any LUN. But one may be with the disk of another LUN, which hangs. This
//! LUN does not wait for that for longer than [`ENDS_TICKS`]: no chunk is let in here any more, whatever becomes of it
//! there.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::interlink::shared::Attention;
use protocol::scsi::sense::Sense;

use super::task::Action;
use super::unit_state::UnitState;
use crate::command::{NexusId, TaskTag};
use crate::time::TICK;

/// How long an event waits for the end of the copies that it ended, in ticks: 3 s.
const ENDS_TICKS: u32 = (Duration::from_secs(3).as_millis() / TICK.as_millis()) as u32;

/// What a LUN is told of an EXTENDED COPY that uses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// Its pieces pass.
    Begins,
    /// They do not any more.
    Revoked,
    /// It has ended.
    Ended,
}

/// The permits of one LUN: at most [`crate::copy_manager::EXTENDED_COPIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct CopyPermits {
    /// By nexus and task; false once it was revoked, until the copy has ended.
    permits: BTreeMap<(NexusId, u32), bool>,
    /// How long their end is waited for yet, in ticks.
    patience: u32,
}

impl CopyPermits {
    /// A copy that lost its permit has not ended, and is waited for.
    pub(super) fn awaits(&self) -> bool {
        self.patience > 0 && self.permits.values().any(|valid| !valid)
    }

    /// The end of one is waited for, by the tick.
    pub(super) const fn counts(&self) -> bool {
        self.patience > 0
    }

    /// Time has passed: at a tick. True when nobody waits any longer.
    pub(super) fn tick(&mut self) -> bool {
        let before = self.patience;
        self.patience = before.saturating_sub(1);
        before == 1
    }

    /// There is news of a copy. True if somebody waited for that.
    pub(super) fn on(&mut self, nexus: NexusId, task: u32, news: News) -> bool {
        let key = (nexus, task);
        match news {
            News::Begins => {
                self.permits.insert(key, true);
            }
            News::Revoked => {
                self.revoke(|other| *other == key);
            }
            News::Ended => return self.permits.remove(&key) == Some(false),
        }
        false
    }

    /// An event that is about to hold ends copies of this controller's hosts: a reset all of them, a PREEMPT those of
    /// the nexuses that it drives out, as its attentions say.
    pub(super) fn revoke_for(
        &mut self,
        reset: bool,
        attentions: &[Attention],
        unit: &UnitState,
        actions: &mut Vec<Action>,
    ) {
        if reset {
            actions.push(Action::WasReset);
        }
        let drives_out = |attention: &&Attention| {
            [Sense::REGISTRATIONS_PREEMPTED.code, Sense::RESERVATIONS_PREEMPTED.code]
                .contains(&attention.code)
        };
        let driven: Vec<&Attention> = attentions.iter().filter(drives_out).collect();
        let out = |nexus: NexusId| driven.iter().any(|attention| unit.is_meant(attention, nexus));
        let revoked = self.revoke(|(nexus, _)| reset || out(*nexus));
        actions.extend(revoked.into_iter().map(|(nexus, task)| Action::Revoked { nexus, task }));
    }

    /// Chunks of the chosen tasks pass no more. Which they are.
    fn revoke(&mut self, taken: impl Fn(&(NexusId, u32)) -> bool) -> Vec<(NexusId, u32)> {
        let out = self.permits.iter_mut().filter(|(key, valid)| **valid && taken(key));
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

    /// Whether a chunk passes.
    pub(super) fn allows(&self, nexus: NexusId, tag: TaskTag) -> bool {
        self.permits.get(&(nexus, tag.task())) == Some(&true)
    }

    /// A nexus is gone.
    pub(super) fn nexus_lost(&mut self, nexus: NexusId) {
        self.revoke(|(owner, _)| *owner == nexus);
    }
}
