//! What hosts met in a round.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Sense key, ASC and ASCQ.
pub type Code = (u8, u8, u8);

/// What a host met.
#[derive(Clone, Debug, Default)]
pub struct Met {
    /// Commands that ended GOOD, of those that touch blocks.
    pub good: u64,
    /// Commands whose end was left open.
    pub open: u64,
    /// Connections lost, given up or refused.
    pub lost: u64,
    /// Answers that were not GOOD, by path.
    pub codes: BTreeMap<(usize, Code), u64>,
    /// The longest time between two GOOD answers, or from a command to its GOOD.
    pub pause: Duration,
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} good, {} open, {} connections lost", self.good, self.open, self.lost)?;
        for ((side, (key, asc, ascq)), count) in &self.codes {
            write!(f, ", {count} x {key:02x}/{asc:02x}/{ascq:02x} by {}", super::NAMES[*side])?;
        }
        Ok(())
    }
}

impl std::ops::AddAssign<&Self> for Met {
    fn add_assign(&mut self, other: &Self) {
        self.good += other.good;
        self.open += other.open;
        self.lost += other.lost;
        self.pause = self.pause.max(other.pause);
        for (key, count) in &other.codes {
            *self.codes.entry(*key).or_default() += count;
        }
    }
}
