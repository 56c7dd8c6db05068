//! Where a command goes: the one table that decides it. Pure.
//!
//! The sub never orders anything: every change goes to main. It reads its own copy while that copy is whole and
//! nothing in the way is in flight; otherwise main reads for it: a range that overlaps a
//! write whose data is on its way is read from the main volume.

use crate::command::Op;
use crate::exclusive::Ranges;
use crate::pair::{Role, Service};

/// Where a command is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Here: admitted under this LUN's lock, on this controller's volume (and, for a change, on the peer's).
    Here,
    /// At main: kept in the communication volume and forwarded.
    ToMain,
    /// Nowhere now: NOT READY, TARGET PORT IN UNAVAILABLE STATE, so that multipath takes the other path.
    Refuse,
}

/// What kind of command asks for its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// READ of a range that nothing in flight overlaps, as far as this controller knows.
    ReadFree,
    /// READ of a range that something in flight overlaps.
    ReadContended,
    /// Everything that changes the LUN or makes it durable.
    Change,
}

impl Kind {
    /// The kind of a command. `is_free`: whether nothing in flight overlaps these blocks, as far as this controller
    /// knows.
    pub fn of(op: &Op, is_free: impl FnOnce(&Ranges) -> bool) -> Self {
        match op {
            Op::Read { range } | Op::Verify { range, .. } => {
                if is_free(&Ranges::One(*range)) {
                    Self::ReadFree
                } else {
                    Self::ReadContended
                }
            }
            // Only a hint, for whichever copy the reads come from.
            Op::Prefetch { .. } => Self::ReadFree,
            _ => Self::Change,
        }
    }
}

/// Decides the way of a command: role, service, kind.
#[must_use]
pub const fn route(role: Role, service: Service, kind: Kind) -> Route {
    use Kind::{Change, ReadContended, ReadFree};
    use Service::{Alone, Forwarded, Mirrored, Refused, Undecided};
    match (role, service, kind) {
        (Role::Main, Mirrored | Alone, _) => Route::Here,
        (Role::Sub, Mirrored, ReadFree) => Route::Here,
        (Role::Sub, Mirrored, ReadContended | Change) => Route::ToMain,
        (Role::Sub, Forwarded, _) => Route::ToMain,
        (_, Refused | Undecided, _) | (Role::Main, Forwarded, _) | (Role::Sub, Alone, _) => Route::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use protocol::block::BlockRange;

    use super::*;
    use crate::command::Data;

    #[test]
    fn only_a_read_asks_what_is_in_flight() {
        let range = BlockRange::new(3, 2).unwrap();
        let read = Op::Read { range };
        let its = |ranges: &Ranges| *ranges == Ranges::One(range);
        assert_eq!(Kind::of(&read, its), Kind::ReadFree);
        assert_eq!(Kind::of(&read, |ranges| !its(ranges)), Kind::ReadContended);
        assert_eq!(Kind::of(&Op::Prefetch { range }, |_| panic!("it is only a hint")), Kind::ReadFree);
        for op in [Op::Write { range, data: Data::new(), fua: false }, Op::SynchronizeCache] {
            assert_eq!(Kind::of(&op, |_| panic!("a change waits where it is ordered")), Kind::Change);
        }
    }

    #[test]
    fn the_table_as_a_whole() {
        let mut seen = String::new();
        for role in [Role::Main, Role::Sub] {
            for service in
                [Service::Refused, Service::Undecided, Service::Mirrored, Service::Alone, Service::Forwarded]
            {
                let row = [Kind::ReadFree, Kind::ReadContended, Kind::Change].map(|kind| {
                    match route(role, service, kind) {
                        Route::Here => "here",
                        Route::ToMain => "main",
                        Route::Refuse => "refuse",
                    }
                });
                seen += &format!("{role:?} {service:?}: {}\n", row.join(" "));
            }
        }
        assert_eq!(
            seen,
            "Main Refused: refuse refuse refuse\nMain Undecided: refuse refuse refuse\n\
             Main Mirrored: here here here\nMain Alone: here here here\n\
             Main Forwarded: refuse refuse refuse\n\
             Sub Refused: refuse refuse refuse\nSub Undecided: refuse refuse refuse\n\
             Sub Mirrored: here main main\nSub Alone: refuse refuse refuse\n\
             Sub Forwarded: main main main\n"
        );
    }
}
