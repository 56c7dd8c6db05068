//! Where a command goes: the one table that decides it. Pure.
//!
//! The sub never orders anything: every change goes to main. It reads its own copy while that copy is whole and
//! nothing in the way is in flight; otherwise main reads for it (the seed's paragraph 61: what overlaps a write
//! whose data is on its way is read from the main volume).

use crate::status::{PairStatus, Role};

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

/// Decides the way of a command: role, pair status, kind.
#[must_use]
pub const fn route(role: Role, status: PairStatus, kind: Kind) -> Route {
    use Kind::{Change, ReadContended, ReadFree};
    use PairStatus::{Copy, Duplex, Simplex, Split, Suspended};
    match (role, status, kind) {
        (_, Suspended | Split, _) => Route::Refuse,
        (Role::Main, Simplex | Copy | Duplex, _) => Route::Here,
        (Role::Sub, Duplex, ReadFree) => Route::Here,
        (Role::Sub, Duplex, ReadContended | Change) => Route::ToMain,
        (Role::Sub, Simplex | Copy, ReadFree | ReadContended | Change) => Route::ToMain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_as_a_whole() {
        use PairStatus::{Copy, Duplex, Simplex, Split, Suspended};
        let mut seen = String::new();
        for role in [Role::Main, Role::Sub] {
            for status in [Simplex, Copy, Duplex, Split, Suspended] {
                let row = [Kind::ReadFree, Kind::ReadContended, Kind::Change].map(|kind| {
                    match route(role, status, kind) {
                        Route::Here => "here",
                        Route::ToMain => "main",
                        Route::Refuse => "refuse",
                    }
                });
                seen += &format!("{role:?} {status:?}: {}\n", row.join(" "));
            }
        }
        assert_eq!(
            seen,
            "Main Simplex: here here here\nMain Copy: here here here\nMain Duplex: here here here\n\
             Main Split: refuse refuse refuse\nMain Suspended: refuse refuse refuse\n\
             Sub Simplex: main main main\nSub Copy: main main main\nSub Duplex: here main main\n\
             Sub Split: refuse refuse refuse\nSub Suspended: refuse refuse refuse\n"
        );
    }
}
