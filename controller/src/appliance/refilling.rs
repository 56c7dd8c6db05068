//! A copy that left the pair because its disk was full comes back when there is room again: by a switch to a pair that
//! is being refilled, under the same main, without anybody starting anything.
//!
//! How much room a copy needs is not known before it has it all. So one that runs out of room again rests before the
//! next try, each time twice as long.

use core::time::Duration;

use crate::time::Time;

/// The rest before a copy is refilled, after it left for the first time.
const REST_MIN: Duration = Duration::from_secs(1);

/// The longest rest between two tries.
const REST_LONGEST: Duration = Duration::from_secs(300);

/// When a copy may be refilled next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Refilling {
    tries: u32,
    /// Seen for the first time to be out, for want of room.
    out: Option<Time>,
}

impl Refilling {
    fn rest(&self) -> Duration {
        REST_MIN.saturating_mul(1 << self.tries.min(16)).min(REST_LONGEST)
    }

    /// Whether a try is due.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        now.since(*self.out.get_or_insert(now)) >= self.rest()
    }

    pub(super) fn tried(&mut self) {
        *self = Self { tries: self.tries.saturating_add(1), out: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_try_that_comes_to_nothing_is_followed_by_a_longer_rest() {
        let mut refilling = Refilling::default();
        let mut now = Time(1);
        let mut rests = Vec::new();
        for _ in 0..12 {
            let begun = now;
            while !refilling.is_due(now) {
                now = now + Duration::from_millis(500);
            }
            rests.push(now.since(begun).as_secs());
            refilling.tried();
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }
}
