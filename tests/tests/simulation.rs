//! The simulated world under seeds. `TWINLUN_SEEDS=A..B` runs other seeds than the usual 500.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use twinlun_tests::world::settings::Settings;
use twinlun_tests::world::{self, Report, Run, scenario};

/// Seeds of one run of the tests.
const SEEDS: u64 = 500;

/// They are shared out among so many tests, which run side by side.
const SHARES: u64 = 4;

/// What every seed must at least be.
const SIMULATED_MS_MIN: u64 = 5_000;
const COMMANDS_MIN: u64 = 200;

fn run(settings: &Settings) -> Run {
    world::run(settings).unwrap_or_else(|failure| panic!("{failure}"))
}

fn run_all(scenario: impl Fn(u64) -> Settings, seeds: impl Iterator<Item = u64>) -> Report {
    let mut sum = Report::default();
    seeds.for_each(|seed| sum += run(&scenario(seed)).report);
    println!("{sum}");
    sum
}

fn share(number: u64) {
    let (from, to) = match std::env::var("TWINLUN_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("TWINLUN_SEEDS is a range like 0..500");
            (from.parse().unwrap(), to.parse().unwrap())
        }
        Err(_) => (0, SEEDS),
    };
    let mut sum = Report::default();
    for seed in (from..to).filter(|seed| seed % SHARES == number) {
        let report = run(&Settings::of_seed(seed)).report;
        assert!(report.simulated_ms >= SIMULATED_MS_MIN, "seed {seed}: {} ms", report.simulated_ms);
        assert!(report.commands >= COMMANDS_MIN, "seed {seed}: {} commands", report.commands);
        sum += report;
    }
    println!("{sum}");
    assert_eq!(sum.disk_conflicts, 0, "disk I/O was submitted beside other disk I/O on the same blocks");
    assert_eq!(sum.missing(), Vec::<&str>::new(), "some of what the simulation is for was never met");
}

#[test]
fn every_history_is_linearizable_and_both_copies_are_identical_in_the_first_share_of_seeds() {
    share(0);
}

#[test]
fn every_history_is_linearizable_and_both_copies_are_identical_in_the_second_share_of_seeds() {
    share(1);
}

#[test]
fn every_history_is_linearizable_and_both_copies_are_identical_in_the_third_share_of_seeds() {
    share(2);
}

#[test]
fn every_history_is_linearizable_and_both_copies_are_identical_in_the_fourth_share_of_seeds() {
    share(3);
}

fn faults(seeds: std::ops::Range<u64>) -> Report {
    let mut sum = Report::default();
    seeds.for_each(|seed| sum += run(&Settings::with_faults(seed)).report);
    println!("{sum}");
    assert!(
        sum.record_crash_runs * 2 >= sum.faulty_runs,
        "a crash between a record's write and its flush in {} of {} runs only",
        sum.record_crash_runs,
        sum.faulty_runs
    );
    assert!(sum.silent_left > 0, "no copy left the pair because its disk was silent");
    assert!(sum.functions.iter().all(|count| *count > 0) && sum.given_up > 0, "nothing was given up");
    assert!(sum.losses > 0 && sum.disk_errors > 0);
    assert!(sum.probes > 0, "nobody looked whether what is called serving answers");
    sum
}

#[test]
fn every_kind_of_fault_meets_pairs_in_every_status_and_nothing_durable_is_lost() {
    assert_eq!(
        faults(0..350).never_met(),
        Vec::<String>::new(),
        "faults that never met a pair in some status"
    );
}

#[test]
fn nothing_durable_is_lost_and_every_pair_is_duplex_again_in_the_second_share_of_seeds_with_faults() {
    faults(350..570);
}

#[test]
fn nothing_durable_is_lost_and_every_pair_is_duplex_again_in_the_third_share_of_seeds_with_faults() {
    faults(570..790);
}

#[test]
fn nothing_durable_is_lost_and_every_pair_is_duplex_again_in_the_fourth_share_of_seeds_with_faults() {
    faults(790..1000);
}

#[test]
fn nothing_durable_is_lost_and_luns_of_one_group_stay_together_through_every_kind_of_fault() {
    let sum = run_all(Settings::with_faults_in_a_group, 0..150);
    assert!(sum.losses > 0 && sum.disk_errors > 0 && sum.record_crashes > 0 && sum.probes > 0);
}

#[test]
fn a_main_whose_peer_comes_back_refused_answers_its_hosts_all_the_time() {
    let sum = run_all(scenario::peers_that_come_back_refused, 0..24);
    assert!(sum.probes > 24 * 20, "only {} probes", sum.probes);
}

#[test]
fn a_main_whose_disk_is_well_serves_on_when_the_two_part_while_the_other_copy_leaves() {
    let sum = run_all(scenario::pairs_that_part_in_a_turn, 0..40);
    assert!(sum.disk_errors > 0 && sum.probes > 0);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    for settings in [Settings::of_seed, Settings::with_faults] {
        let first = run(&settings(7));
        assert_eq!(first, run(&settings(7)));
        assert_ne!(first.hash, run(&settings(8)).hash);
    }
}

#[test]
fn a_read_beside_a_write_of_the_same_64_kib_sees_all_of_it_or_nothing() {
    let sum = run_all(scenario::reads_beside_writes_of_one_range, 0..20);
    assert!(sum.overlaps > 0 && sum.range_waits > 0 && sum.contended_reads > 0, "nothing overlapped");
}

#[test]
fn no_write_gets_lost_between_the_comparison_and_the_write_of_compare_and_write() {
    let sum = run_all(scenario::writes_across_compare_and_writes, 0..20);
    assert!(sum.miscompares > 0 && sum.range_waits > 0, "nothing overlapped");
}

#[test]
fn controllers_that_forward_large_writes_to_each_other_with_hardly_any_credit_all_finish() {
    let sum = run_all(scenario::large_writes_forwarded_both_ways_with_tiny_credit, 0..10);
    assert!(sum.credit_waits > 0, "nothing waited for credit");
    assert_eq!(sum.busy, 0, "a write was refused");
}

#[test]
fn a_write_that_is_all_or_nothing_is_so_on_both_copies_through_every_crash() {
    let sum = run_all(scenario::atomic_writes_through_crashes, 0..24);
    assert!(sum.replays > 60, "{} writes were caught by a crash and completed", sum.replays);
    assert!(sum.losses > 0 && sum.miscompares > 0 && sum.range_waits > 0);
}

/// How long the control connection may be silent: a lease of 600 ms is renewed every 100.
const CONTROL_GAP_MS_MAX: u64 = 250;

#[test]
fn liveness_is_on_time_while_the_bridges_are_saturated() {
    for seed in 0..6 {
        let report = run(&scenario::saturated_bridges(seed)).report;
        println!("{report}");
        assert!(
            report.bridge_delay_ms > 2 * CONTROL_GAP_MS_MAX,
            "seed {seed}: the bridges are not saturated"
        );
        assert!(report.control_gap_ms <= CONTROL_GAP_MS_MAX, "seed {seed}: {} ms", report.control_gap_ms);
    }
}
