//! Giving memory back to the system that the process needs no more.
//!
//! glibc keeps what was freed, for whoever asks next: after a burst of many hosts hundreds of MiB may lie idle, and only
//! what lies at the end of an arena goes back by itself. So once a second it is looked whether much has lain idle for a
//! while, and if so it goes back ([`Tidy::look`]). Under a steady load nothing does: what is in turn needed and free is
//! not idle. With another C library nothing is done.

use std::fs;

/// So much has to lie idle before it is given back, in bytes.
const IDLE_BYTES: u64 = 16 * 1024 * 1024;

/// In so many looks, one after the other.
const LOOKS: usize = 3;

/// What was seen of the process's memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    resident: u64,
    free: u64,
}

/// Looks after the memory of the process.
#[derive(Debug, Default)]
pub struct Tidy {
    /// The least that was resident, in bytes.
    least_resident: Option<u64>,
    /// What the allocator calls free although it is given back, in bytes.
    given_back: u64,
    /// What was free beyond that in the last looks, newest last.
    idle: [u64; LOOKS],
}

impl Tidy {
    /// Looks, and gives back what has lain idle for some looks. May take some milliseconds.
    pub fn look(&mut self) {
        let Some(resident) = resident_bytes() else { return };
        if !self.is_worth_asking(resident) {
            return;
        }
        let Some(free) = free_bytes() else { return };
        if self.has_idle(Seen { resident, free }) {
            give_back();
            self.given_back = free_bytes().unwrap_or_default();
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
    fn has_idle(&mut self, seen: Seen) -> bool {
        self.given_back = self.given_back.min(seen.free);
        self.idle.rotate_left(1);
        // More cannot lie idle than is resident.
        self.idle[LOOKS - 1] = (seen.free - self.given_back).min(seen.resident);
        self.idle.iter().all(|idle| *idle >= IDLE_BYTES)
    }
}

/// Memory of this process that is in use, in bytes.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// What the allocator has free, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn free_bytes() -> Option<u64> {
    #[expect(unsafe_code, reason = "the allocator's figures have no safe binding")]
    // SAFETY: it takes nothing and gives a plain structure; glibc locks each arena for it.
    let figures = unsafe { libc::mallinfo2() };
    Some(figures.fordblks as u64)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn free_bytes() -> Option<u64> {
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
        let seen = |free: u64| Seen { resident: 300 * MIB, free: free * MIB };
        // A load that needs it every other second keeps it.
        for free in [200, 3, 200, 200, 3, 200, 200] {
            assert!(!tidy.has_idle(seen(free)), "{free}");
        }
        assert!(tidy.has_idle(seen(200)));
        tidy.given_back = 200 * MIB;
        for _ in 0..10 {
            assert!(!tidy.has_idle(seen(200)));
        }
        // Some of it is used again, and free again.
        assert!(!tidy.has_idle(seen(50)) && !tidy.has_idle(seen(190)) && !tidy.has_idle(seen(190)));
        assert!(tidy.has_idle(seen(190)));
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn memory_that_threads_have_freed_goes_back_to_the_system() {
        let mut tidy = Tidy::default();
        tidy.look();
        let before = resident_bytes().unwrap();
        let pieces: Vec<Vec<Vec<u8>>> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1000).map(|_| vec![1; 64 * 1024]).collect::<Vec<_>>()))
            .map(|thread| thread.join().unwrap())
            .collect();
        // Every hundredth stays, so that no arena ends with what is free.
        let mut kept = Vec::new();
        for mut pieces in pieces {
            kept.extend(
                pieces.drain(..).enumerate().filter(|(at, _)| at % 100 == 99).map(|(_, piece)| piece),
            );
        }
        assert!(resident_bytes().unwrap() > before + 128 * MIB, "the allocator keeps it");
        (0..=LOOKS).for_each(|_| tidy.look());
        assert!(resident_bytes().unwrap() < before + 32 * MIB);
        drop(kept);
    }
}
