//! Everything that reads what somebody else wrote, under mutation for a moment. `cargo run -p twinlun-tests --bin
//! mutate -- --seconds N` goes on for longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use twinlun_tests::mutation::{self, Memory, TARGETS};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

struct Counted;

impl Memory for Counted {
    fn begin(&self) -> usize {
        ALLOCATED.reset_peak_usage();
        ALLOCATED.current_usage()
    }

    fn peak(&self) -> usize {
        ALLOCATED.peak_usage()
    }
}

/// For each target, and then it has taken a hundred thousand inputs, or this long on a slow machine.
const SHARE: Duration = Duration::from_millis(1500);

/// One test for all of them: the memory that is counted is the process's.
#[test]
fn no_mutation_of_what_was_right_brings_a_parser_or_a_session_down_or_fools_it() {
    for target in TARGETS {
        let inputs = mutation::run(target, 1, 100_000, Instant::now() + SHARE, &Counted);
        let inputs = inputs.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}: {inputs} inputs", target.name);
        assert!(inputs > 0, "{}: no input was read", target.name);
    }
}
