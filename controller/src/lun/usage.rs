//! How much of a LUN's bounds is in use, for whoever asks: counted where the queues are, read under the LUN's lock.

use super::Lun;
use crate::status::ReservationStatus;

/// How much of a bound is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Now.
    pub now: u64,
    /// The most since the start.
    pub peak: u64,
}

/// What one LUN uses of its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LunUsage {
    /// Commands in flight: [`super::LUN_COMMANDS_MAX`].
    pub commands: Used,
    /// Commands that wait for a decision about the pair: [`super::HELD_COMMANDS_MAX`].
    pub held: Used,
    /// Commands that wait for ranges: [`crate::exclusive::WAITERS_MAX`].
    pub waiters: Used,
    /// Requests in the communication volume: [`super::COMMUNICATION_VOLUME_REQUESTS_MAX`].
    pub requests: u64,
    /// Bytes in the communication volume: [`super::COMMUNICATION_VOLUME_BYTES_MAX`].
    pub communication_bytes: Used,
    /// Bytes of changes under way to the peer.
    pub apply_bytes: Used,
    /// Bytes of forwarded commands at main.
    pub forward_bytes: Used,
    /// What one LUN gets of each of these two classes.
    pub class_bytes: u64,
    /// Pieces of a copy under way.
    pub copy_pieces: u64,
    /// Pieces of a sanitize operation under way.
    pub sanitize_pieces: u64,
    /// Nexuses known: [`super::NEXUSES_MAX`].
    pub nexuses: u64,
}

/// The most there was of what does not count its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Peaks {
    pub(super) commands: usize,
}

/// The TYPE of a persistent reservation (SPC-4 6.13.3.4) in words.
const fn kind_of(kind: u8) -> &'static str {
    match kind {
        1 => "write exclusive",
        3 => "exclusive access",
        5 => "write exclusive, registrants only",
        6 => "exclusive access, registrants only",
        7 => "write exclusive, all registrants",
        8 => "exclusive access, all registrants",
        _ => "persistent",
    }
}

impl Lun {
    /// Who has reserved the LUN, for people. `peer`: the name of the other controller, whose hosts RESERVE (6) names
    /// only there.
    #[must_use]
    pub fn reservation(&self, peer: &str) -> Option<ReservationStatus> {
        if let Some(handle) = self.unit.state().reserver {
            let own = self.unit.name_of(handle);
            let holder = own.map_or_else(|| format!("a host of {peer}"), |name| name.initiator.clone());
            return Some(ReservationStatus { kind: "reserve(6)".to_owned(), holders: vec![holder] });
        }
        let reservations = &self.unit.state().reservations;
        let reservation = reservations.reservation.as_ref()?;
        let holders = match reservation.kind {
            7 | 8 => reservations.registrants.iter().map(|one| one.nexus.initiator.clone()).collect(),
            _ => vec![reservation.holder.initiator.clone()],
        };
        Some(ReservationStatus { kind: kind_of(reservation.kind).to_owned(), holders })
    }

    /// What this LUN uses of its bounds.
    #[must_use]
    pub fn usage(&self) -> LunUsage {
        let used = |now: usize, peak: usize| Used { now: now as u64, peak: peak as u64 };
        let (class_bytes, now, peak) = self.mirror.usage();
        let apply_bytes = Used { now, peak };
        let (_, now, peak) = self.forwarder.usage();
        let (waiting, waiting_peak) = self.locks.waiting();
        let (held, held_peak) = self.gate.waiting();
        LunUsage {
            commands: used(self.tasks.len(), self.peaks.commands),
            held: used(held, held_peak),
            waiters: used(waiting, waiting_peak),
            requests: self.forwarder.volume().len() as u64,
            communication_bytes: Used {
                now: self.forwarder.volume().bytes(),
                peak: self.forwarder.volume().bytes_peak(),
            },
            apply_bytes,
            forward_bytes: Used { now, peak },
            class_bytes,
            nexuses: self.unit.nexuses() as u64,
            sanitize_pieces: u64::from(self.sanitizing.running()),
            copy_pieces: u64::from(self.resync.running()),
        }
    }
}
