//! Credits: how many bytes of the peer's buffers this LUN may fill, by class.
//!
//! Each class has its own budget, so an apply never waits for a forward's buffer. A command larger than the whole
//! budget may go while nothing else of its class is in flight: nothing waits for ever.

/// Bytes of one class that one controller lends its peer over all LUNs.
pub const CLASS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The least that one LUN gets of a class, whatever the number of LUNs.
pub const LUN_CLASS_BYTES_MIN: u64 = 1024 * 1024;

/// The most that one LUN gets of a class.
pub const LUN_CLASS_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// One class's credit of one LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Budget {
    limit: u64,
    used: u64,
    /// The most that was ever used.
    peak: u64,
}

impl Budget {
    /// This LUN's share among `luns`.
    pub(super) fn share_of(luns: usize) -> Self {
        let share = CLASS_BYTES_MAX / (luns.max(1) as u64);
        Self { limit: share.clamp(LUN_CLASS_BYTES_MIN, LUN_CLASS_BYTES_MAX), used: 0, peak: 0 }
    }

    /// A budget of that many bytes.
    pub(super) const fn of(limit: u64) -> Self {
        Self { limit, used: 0, peak: 0 }
    }

    /// Takes `bytes`, if there is room or nothing else is in flight.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        if self.used > 0 && self.used + bytes > self.limit {
            return false;
        }
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        true
    }

    /// The limit, what is used of it, and the most that ever was.
    pub(super) const fn usage(&self) -> (u64, u64, u64) {
        (self.limit, self.used, self.peak)
    }

    /// Gives `bytes` back.
    pub(super) fn give(&mut self, bytes: u64) {
        debug_assert!(self.used >= bytes);
        self.used = self.used.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_larger_than_the_budget_goes_alone() {
        let mut budget = Budget::of(10);
        assert!(budget.take(11));
        assert!(!budget.take(1));
        budget.give(11);
        assert!(budget.take(10));
        assert!(!budget.take(1));
    }
}
