//! Known ways to lose data or to lie: each is a script in the simulated world, run under a few seeds, and has met its
//! dangerous moment when it comes to its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use twinlun_tests::world::scenario::Scenario;
use twinlun_tests::world::{self, long_work, resets, scenarios};

/// Seeds of each scenario.
const SEEDS: u64 = 12;

/// Runs a scenario under its seeds: no judge objects, and every step was taken.
fn holds(scenario: Scenario) {
    let (from, to) = match std::env::var("TWINLUN_SCENARIO_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("TWINLUN_SCENARIO_SEEDS is a range like 0..100");
            (from.parse().unwrap(), to.parse().unwrap())
        }
        Err(_) => (0, SEEDS),
    };
    for seed in from..to {
        let settings = scenario(seed);
        let run = world::run(&settings).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(run.report.steps, settings.script.len() as u64, "seed {seed}: the script was cut short");
    }
}

#[test]
fn the_source_is_the_copy_whose_controller_kept_its_memory_whatever_its_role() {
    holds(scenarios::resync_by_role);
}

#[test]
fn a_volume_that_is_missing_at_boot_is_refilled_and_never_copied_from() {
    holds(scenarios::empty_volume);
}

#[test]
fn a_data_mount_that_is_missing_at_boot_is_waited_for() {
    holds(scenarios::mount_missing);
}

#[test]
fn a_controller_that_was_paused_with_a_read_in_hand_finds_its_lease_gone() {
    holds(scenarios::paused_reader);
}

#[test]
fn a_reset_proves_nothing_main_waits_until_the_subs_lease_has_run_out() {
    holds(scenarios::early_survivor);
}

#[test]
fn no_read_returns_what_is_not_on_every_copy_and_time_never_runs_backwards() {
    holds(scenarios::time_backwards);
}

#[test]
fn a_controller_that_starts_alone_waits_when_the_other_may_know_more() {
    holds(scenarios::starter_alone);
}

#[test]
fn two_histories_of_one_number_are_both_refused() {
    holds(scenarios::two_histories);
}

#[test]
fn a_command_that_waited_too_long_is_never_executed() {
    holds(scenarios::ghost_waits);
}

#[test]
fn a_kept_write_of_a_lost_session_is_never_executed() {
    holds(scenarios::ghost_session);
}

#[test]
fn a_write_that_was_stuck_in_a_bridge_for_too_long_is_never_executed() {
    holds(scenarios::ghost_pipe);
}

#[test]
fn a_login_waits_until_nothing_of_the_lost_session_can_be_written_any_more() {
    holds(scenarios::ghost_login);
}

#[test]
fn a_logout_is_answered_when_nothing_of_its_session_can_be_written_any_more() {
    holds(scenarios::ghost_logout);
}

#[test]
fn an_aborted_write_of_a_lun_with_one_copy_is_not_executed_later() {
    holds(scenarios::ghost_adrift);
}

#[test]
fn no_byte_reaches_a_copy_before_both_disks_know_that_the_mark_of_the_clean_end_is_gone() {
    holds(scenarios::intent_too_late);
}

#[test]
fn the_mark_of_a_clean_end_waits_for_the_flush_of_both_copies() {
    holds(scenarios::intent_too_early_gone);
}

#[test]
fn a_flush_that_failed_is_never_followed_by_one_that_worked() {
    holds(scenarios::flush_second_time);
}

#[test]
fn a_full_disk_of_the_sub_takes_its_copy_out_and_only_the_last_copys_fullness_reaches_hosts() {
    holds(scenarios::sub_full);
}

#[test]
fn a_full_disk_of_main_takes_its_copy_out_and_its_hosts_are_served_by_the_other() {
    holds(scenarios::main_full);
}

#[test]
fn a_disk_that_fails_in_a_turn_leaves_the_pair_before_anybody_reads_what_it_lacks() {
    holds(scenarios::failing_in_a_turn);
}

#[test]
fn a_compare_and_write_whose_answer_was_lost_with_the_interlink_is_not_sent_again() {
    holds(scenarios::lost_answer);
}

#[test]
fn a_compare_and_write_whose_answer_was_lost_with_main_is_not_sent_again() {
    holds(scenarios::lost_answer_of_a_restart);
}

#[test]
fn an_abort_is_answered_when_the_forwarded_write_can_no_longer_arrive() {
    holds(scenarios::abort_task);
}

#[test]
fn an_abort_of_the_task_set_is_answered_when_the_forwarded_write_can_no_longer_arrive() {
    holds(scenarios::abort_task_set);
}

#[test]
fn a_reset_is_answered_when_the_forwarded_write_can_no_longer_arrive() {
    holds(scenarios::logical_unit_reset);
}

#[test]
fn a_frame_sent_before_main_went_on_alone_changes_nothing_after_it() {
    holds(scenarios::old_bridge);
}

#[test]
fn a_controller_that_lost_its_state_and_crashed_when_it_had_learnt_its_peers_is_still_refused() {
    holds(scenarios::lost_state);
}

#[test]
fn a_reset_through_main_gives_up_a_write_that_the_sub_still_keeps() {
    holds(resets::reset_of_what_is_kept);
}

#[test]
fn a_write_that_was_on_its_way_to_main_is_never_executed_after_a_reset_through_main() {
    holds(resets::reset_of_what_is_sent);
}

#[test]
fn a_reset_through_main_waits_for_a_write_that_the_subs_copy_still_takes() {
    holds(resets::reset_of_what_is_ordered);
}

#[test]
fn a_reset_through_the_sub_waits_for_a_write_that_mains_copy_still_takes() {
    holds(resets::reset_of_what_main_writes);
}

#[test]
fn a_sanitize_operation_whose_main_loses_power_before_a_block_is_written_is_done_on_both_copies() {
    holds(long_work::sanitize_before_a_block);
}

#[test]
fn a_sanitize_operation_whose_main_loses_power_in_the_middle_is_done_on_both_copies() {
    holds(long_work::sanitize_main_lost);
}

#[test]
fn a_sanitize_operation_outlives_a_loss_of_power_of_both_controllers() {
    holds(long_work::sanitize_both_lost);
}

#[test]
fn an_extended_copy_through_the_sub_is_on_both_copies_when_it_is_answered() {
    holds(long_work::copy);
}

#[test]
fn an_extended_copy_whose_destination_loses_its_main_is_no_success_and_leaves_both_copies_alike() {
    holds(long_work::copy_main_lost);
}

#[test]
fn an_extended_copy_whose_copy_manager_dies_leaves_both_copies_alike() {
    holds(long_work::copy_manager_lost);
}

#[test]
fn the_luns_of_a_group_are_always_under_one_generation_role_and_turn() {
    holds(scenarios::group_cut_and_crashed);
}

#[test]
fn the_luns_of_a_group_break_and_end_together() {
    holds(scenarios::group_breaks_and_ends);
}
