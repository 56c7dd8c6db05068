//! Latencies, kept to within 2 %: 64 steps for each doubling.

use std::time::Duration;

const STEPS_LOG2: u32 = 6;
const STEPS: usize = 1 << STEPS_LOG2;
/// Doublings of a nanosecond that are told apart: up to 2^40 ns, 18 minutes.
const DOUBLINGS: usize = 41 - STEPS_LOG2 as usize;

/// How many latencies there were of each length.
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * DOUBLINGS] }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let place = bucket(nanoseconds).min(self.counts.len() - 1);
        self.counts[place] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// The latency in microseconds that `percent` of all do not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let mut left = (total as f64 * percent / 100.0).ceil() as u64;
        for (place, count) in self.counts.iter().enumerate() {
            if *count >= left {
                return lower_bound(place) as f64 / 1000.0;
            }
            left -= count;
        }
        0.0
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let doubling = (64 - nanoseconds.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    doubling as usize * STEPS + (nanoseconds >> doubling) as usize
}

fn lower_bound(place: usize) -> u64 {
    match place / STEPS {
        0 => place as u64,
        n => ((STEPS + place % STEPS) as u64) << (n - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_kept_to_within_two_percent() {
        let mut nanoseconds = 1_u64;
        while nanoseconds < 1 << 40 {
            let kept = lower_bound(bucket(nanoseconds));
            assert!(kept <= nanoseconds && nanoseconds - kept <= nanoseconds / 50, "{nanoseconds}: {kept}");
            nanoseconds += 1 + nanoseconds / 13;
        }
    }

    #[test]
    fn percentiles_are_found_in_order() {
        let mut histogram = Histogram::default();
        for microseconds in 1..=100 {
            histogram.add(Duration::from_micros(microseconds));
        }
        assert!((histogram.percentile(50.0) - 50.0).abs() < 1.0);
        assert!((histogram.percentile(99.0) - 99.0).abs() < 2.0);
        assert!(histogram.percentile(100.0) > histogram.percentile(1.0));
    }
}
