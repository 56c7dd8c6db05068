//! When a change is answered, and when its blocks are free for the next one: two questions, by the mode of the pair.
//!
//! | mode | answered when | free when |
//! |---|---|---|
//! | `sync` | both copies have it, or have ended without it | it is answered, and no copy lacks something of it |
//!
//! A change that is answered and not free is under way as before: its range is held, it has its place in the order,
//! and a LUN that has to be quiet waits for it. What a copy lacks is copied again first.

use super::task::Legs;

/// A mode of completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum CompletionMode {
    /// Nothing is answered that only one of two copies has.
    #[default]
    Sync,
}

impl CompletionMode {
    /// Whether the origin of a change hears how it ended.
    pub(super) const fn answers_at(self, legs: Legs) -> bool {
        match self {
            Self::Sync => legs.own.has_ended() && legs.peer.has_ended(),
        }
    }

    /// Whether its blocks are free. `lacks`: one of the copies is to get it anew from the other.
    pub(super) const fn frees_at(self, legs: Legs, lacks: bool) -> bool {
        match self {
            Self::Sync => self.answers_at(legs) && !lacks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lun::task::Leg;

    #[test]
    fn in_sync_a_change_is_answered_and_its_blocks_are_free_when_no_copy_is_still_taking_it() {
        use Leg::{Done, Flushing, Lost, None, Verifying, Writing};
        let (over, under_way) = ([None, Done, Lost], [Writing, Flushing, Verifying]);
        let all = || over.iter().chain(&under_way);
        for (own, peer) in all().flat_map(|own| all().map(move |peer| (*own, *peer))) {
            let ends = over.contains(&own) && over.contains(&peer);
            let (mode, legs) = (CompletionMode::Sync, Legs { own, peer });
            assert_eq!([mode.answers_at(legs), mode.frees_at(legs, false)], [ends; 2], "{legs:?}");
            assert!(!mode.frees_at(legs, true), "{legs:?}");
        }
    }
}
