//! Giving memory back to the system that the process needs no more.
//!
//! glibc keeps freed memory for the next request: after a burst of many hosts hundreds of MiB may lie idle, and
//! only what lies at the end of an arena goes back by itself. So once a second it is looked whether much has lain idle
//! for a while, and if so it goes back ([`Tidy::look`]). Under a steady load nothing does: what is in turn needed and
//! free is not idle. With another C library nothing is done.

use std::fs;

/// So much has to lie idle before it is given back, in bytes.
const IDLE_BYTES: u64 = 16 * 1024 * 1024;

/// In so many looks, one after the other.
const LOOKS: usize = 3;

/// Looks after the memory of the process.
///
/// What the allocator calls free tells nothing: it counts what it has given back as well. So what is resident is
/// compared with what is allocated.
#[derive(Debug, Default)]
pub struct Tidy {
    /// The least that was resident, in bytes.
    least_resident: Option<u64>,
    /// The least by which more was resident than allocated since the last time that something was given back, in bytes;
    /// it may be negative, for not all that is allocated is in use.
    least_slack: Option<i64>,
    /// By how much it was more in the last looks, newest last.
    idle: [i64; LOOKS],
}

impl Tidy {
    /// Looks, and gives back what has lain idle for some looks. May take some milliseconds.
    pub fn look(&mut self) {
        let Some(resident) = resident_bytes() else { return };
        if self.least_slack.is_none() {
            self.least_slack = slack(resident);
        }
        if !self.is_worth_asking(resident) {
            return;
        }
        let Some(now) = slack(resident) else { return };
        if self.has_idle(now) {
            give_back();
            self.least_slack = resident_bytes().and_then(slack);
            self.idle = [0; LOOKS];
        }
    }

    /// True if so much is resident that some of it may lie idle.
    fn is_worth_asking(&mut self, resident: u64) -> bool {
        let least = self.least_resident.map_or(resident, |least| least.min(resident));
        self.least_resident = Some(least);
        let worth = resident >= least + IDLE_BYTES;
        if !worth {
            self.idle = [0; LOOKS];
        }
        worth
    }

    /// True if much has lain idle in all of the last looks.
    fn has_idle(&mut self, slack: i64) -> bool {
        let least = self.least_slack.map_or(slack, |least| least.min(slack));
        self.least_slack = Some(least);
        self.idle.rotate_left(1);
        self.idle[LOOKS - 1] = slack - least;
        self.idle.iter().all(|idle| *idle >= IDLE_BYTES.cast_signed())
    }
}

/// By how much more is resident than allocated, in bytes.
fn slack(resident: u64) -> Option<i64> {
    Some(resident.cast_signed() - allocated_bytes()?.cast_signed())
}

/// Memory of this process that is in use, in bytes.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// What is allocated, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn allocated_bytes() -> Option<u64> {
    #[expect(unsafe_code, reason = "the allocator's figures have no safe binding")]
    // SAFETY: it takes nothing and gives a plain structure; glibc locks each arena for it.
    let figures = unsafe { libc::mallinfo2() };
    Some(figures.uordblks as u64 + figures.hblkhd as u64)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn allocated_bytes() -> Option<u64> {
    None
}

/// Has the allocator give whole pages that are free back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    #[expect(unsafe_code, reason = "it has no safe binding")]
    // SAFETY: only memory that nobody has allocated is touched; glibc locks each arena for it.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_lies_idle_for_some_looks_is_given_back_and_not_counted_again() {
        let mut tidy = Tidy::default();
        assert!(!tidy.is_worth_asking(100 * MIB));
        assert!(!tidy.is_worth_asking(110 * MIB));
        assert!(tidy.is_worth_asking(300 * MIB));
        // A load that needs it every other second keeps it.
        for slack in [0, 200, 3, 200, 200, 3, 200, 200] {
            assert!(!tidy.has_idle(slack * MIB.cast_signed()), "{slack}");
        }
        assert!(tidy.has_idle(200 * MIB.cast_signed()));
        // Not all of that could be given back.
        tidy.least_slack = Some(150 * MIB.cast_signed());
        for _ in 0..10 {
            assert!(!tidy.has_idle(150 * MIB.cast_signed()));
        }
        assert!(!tidy.has_idle(170 * MIB.cast_signed()) && !tidy.has_idle(170 * MIB.cast_signed()));
        assert!(tidy.has_idle(170 * MIB.cast_signed()));
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn memory_that_threads_have_freed_goes_back_to_the_system() {
        let mut tidy = Tidy::default();
        tidy.look();
        let before = resident_bytes().unwrap();
        // The second time what was given back is used and freed again, between two looks.
        for _ in 0..2 {
            let pieces: Vec<Vec<Vec<u8>>> = (0..4)
                .map(|_| std::thread::spawn(|| (0..1000).map(|_| vec![1; 64 * 1024]).collect::<Vec<_>>()))
                .map(|thread| thread.join().unwrap())
                .collect();
            // Every hundredth stays, so that no arena ends with what is free.
            let mut kept = Vec::new();
            for mut pieces in pieces {
                kept.extend(pieces.drain(..).enumerate().filter(|(at, _)| at % 100 == 99));
            }
            let kept_back = resident_bytes().unwrap().saturating_sub(before);
            assert!(kept_back > 64 * MIB, "the allocator keeps it: {kept_back}");
            (0..=LOOKS).for_each(|_| tidy.look());
            let held = resident_bytes().unwrap().saturating_sub(before);
            assert!(held < 32 * MIB, "{held}");
            drop(kept);
        }
    }
}
