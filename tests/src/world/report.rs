//! What a run met.

use core::fmt;
use core::ops::AddAssign;

use super::faults::{KINDS, MET};
use crate::judge::reservations::state::ACTIONS;

/// Crashes, as the table of the reservations they met has them.
const CRASHES: [&str; 5] = ["kill main", "kill sub", "power of main", "power of sub", "both"];

/// What one run, or several together, met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Commands answered.
    pub commands: u64,
    /// Of these, GOOD.
    pub good: u64,
    /// Comparisons that failed.
    pub miscompares: u64,
    /// Refused with NOT READY or a unit attention.
    pub refused: u64,
    /// Refused with BUSY or TASK SET FULL.
    pub busy: u64,
    /// Left open.
    pub unknown: u64,
    /// Pairs of commands in flight together on common blocks, at least one of them writing.
    pub overlaps: u64,
    /// Commands that waited for a range another held.
    pub range_waits: u64,
    /// Reads the sub left to main, because something in flight overlapped them.
    pub contended_reads: u64,
    /// Commands forwarded to main.
    pub forwards: u64,
    /// Commands that waited for credit.
    pub credit_waits: u64,
    /// Frames of the interlink delivered.
    pub frames: u64,
    /// Frames that overtook an older one on another connection.
    pub frames_reordered: u64,
    /// Actions performed after one of a later event.
    pub actions_permuted: u64,
    /// Disk I/O completed after one that was submitted later.
    pub disk_reordered: u64,
    /// Disk I/O submitted beside other disk I/O on common blocks, one of them writing.
    pub disk_conflicts: u64,
    /// Times a connection to a host took no more.
    pub blocked: u64,
    /// Longest command, in simulated milliseconds.
    pub longest_ms: u64,
    /// Longest silence on the control connection after the handshake, in simulated milliseconds.
    pub control_gap_ms: u64,
    /// Longest way of a frame over a bridge, in simulated milliseconds.
    pub bridge_delay_ms: u64,
    /// Faults by kind and by how the pairs stood when they happened.
    pub met: [[u64; MET.len()]; KINDS.len()],
    /// Records that a crash caught between their write and their flush.
    pub record_crashes: u64,
    /// Runs in which that happened.
    pub record_crash_runs: u64,
    /// Runs with faults.
    pub faulty_runs: u64,
    /// Times a copy had left the pair because its disk was silent.
    pub silent_left: u64,
    /// Times both copies lost what was not durable.
    pub losses: u64,
    /// Writes that a crash had interrupted and a redo record completed.
    pub replays: u64,
    /// Disk I/O that failed.
    pub disk_errors: u64,
    /// Task management functions answered, in the order of [`super::script::Function::ALL`].
    pub functions: [u64; 3],
    /// Commands that were given up before their answer.
    pub given_up: u64,
    /// Sessions that were logged out with commands in flight.
    pub logouts: u64,
    /// Connections that were lost with commands in flight.
    pub connections_lost: u64,
    /// Events that were done: reservations, mode pages, what they are.
    pub events_done: u64,
    /// Events that conflicted with the state, or made no sense in it.
    pub conflicts: u64,
    /// Commands that reservations or write protection kept out.
    pub kept_out: u64,
    /// PERSISTENT RESERVE OUT that were done, by service action.
    pub reserved: [u64; ACTIONS.len()],
    /// Crashes with a PERSISTENT RESERVE OUT under way: by service action; of main, of the sub, loss of
    /// power of main, of the sub, both.
    pub caught: [[u64; CRASHES.len()]; ACTIONS.len()],
    /// Times all memory of the reservations was lost.
    pub memory_losses: u64,
    /// Commands by which the prober looked whether a LUN that is called serving answers.
    pub probes: u64,
    /// Longest time without an answered write in which a LUN was called serving, in simulated milliseconds.
    pub longest_owed_ms: u64,
    /// Longest time for which a main that nothing was the matter with refused a LUN, in simulated milliseconds.
    pub longest_refused_ms: u64,
    /// Steps of scripts.
    pub steps: u64,
    /// Events.
    pub events: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.commands += other.commands;
        self.good += other.good;
        self.miscompares += other.miscompares;
        self.refused += other.refused;
        self.busy += other.busy;
        self.unknown += other.unknown;
        self.overlaps += other.overlaps;
        self.range_waits += other.range_waits;
        self.contended_reads += other.contended_reads;
        self.forwards += other.forwards;
        self.credit_waits += other.credit_waits;
        self.frames += other.frames;
        self.frames_reordered += other.frames_reordered;
        self.actions_permuted += other.actions_permuted;
        self.disk_reordered += other.disk_reordered;
        self.disk_conflicts += other.disk_conflicts;
        self.blocked += other.blocked;
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self.control_gap_ms = self.control_gap_ms.max(other.control_gap_ms);
        self.bridge_delay_ms = self.bridge_delay_ms.max(other.bridge_delay_ms);
        for (row, other) in self.met.iter_mut().zip(other.met) {
            row.iter_mut().zip(other).for_each(|(count, other)| *count += other);
        }
        self.record_crashes += other.record_crashes;
        self.record_crash_runs += other.record_crash_runs;
        self.faulty_runs += other.faulty_runs;
        self.silent_left += other.silent_left;
        self.losses += other.losses;
        self.replays += other.replays;
        self.disk_errors += other.disk_errors;
        self.functions.iter_mut().zip(other.functions).for_each(|(count, other)| *count += other);
        self.given_up += other.given_up;
        self.logouts += other.logouts;
        self.connections_lost += other.connections_lost;
        self.events_done += other.events_done;
        self.conflicts += other.conflicts;
        self.kept_out += other.kept_out;
        self.reserved.iter_mut().zip(other.reserved).for_each(|(count, other)| *count += other);
        for (row, other) in self.caught.iter_mut().zip(other.caught) {
            row.iter_mut().zip(other).for_each(|(count, other)| *count += other);
        }
        self.memory_losses += other.memory_losses;
        self.probes += other.probes;
        self.longest_owed_ms = self.longest_owed_ms.max(other.longest_owed_ms);
        self.longest_refused_ms = self.longest_refused_ms.max(other.longest_refused_ms);
        self.steps += other.steps;
        self.events += other.events;
        self.simulated_ms += other.simulated_ms;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} commands: {} good, {} miscompared, {} refused, {} busy, {} unknown; {} overlaps; longest {} ms",
            self.commands,
            self.good,
            self.miscompares,
            self.refused,
            self.busy,
            self.unknown,
            self.overlaps,
            self.longest_ms
        )?;
        writeln!(
            f,
            "{} waits for a range, {} reads left to main, {} forwards, {} waits for credit; {} disk conflicts",
            self.range_waits, self.contended_reads, self.forwards, self.credit_waits, self.disk_conflicts
        )?;
        let [tasks, sets, resets] = self.functions;
        writeln!(
            f,
            "{tasks} ABORT TASK, {sets} ABORT TASK SET, {resets} LOGICAL UNIT RESET: {} commands given up; \
             {} logouts, {} connections lost",
            self.given_up, self.logouts, self.connections_lost
        )?;
        writeln!(
            f,
            "{} frames, {} reordered; {} actions permuted; {} disk I/Os reordered; {} times blocked",
            self.frames, self.frames_reordered, self.actions_permuted, self.disk_reordered, self.blocked
        )?;
        write!(
            f,
            "control silent for {} ms at most, bridges {} ms late at most; {} events in {} simulated ms",
            self.control_gap_ms, self.bridge_delay_ms, self.events, self.simulated_ms
        )?;
        write!(
            f,
            "\n{} probes of what is called serving: no write answered for {} ms at most, refused by a main that is \
             well for {} ms at most",
            self.probes, self.longest_owed_ms, self.longest_refused_ms
        )?;
        self.fmt_events(f)?;
        if self.met == [[0; MET.len()]; KINDS.len()] {
            return Ok(());
        }
        writeln!(
            f,
            "\n{} records caught by a crash, in {} of {} runs; {} times both copies lost their memory; {} writes \
             replayed; {} disk errors; {} copies left the pair because their disk was silent",
            self.record_crashes,
            self.record_crash_runs,
            self.faulty_runs,
            self.losses,
            self.replays,
            self.disk_errors,
            self.silent_left
        )?;
        write!(f, "{:>12}", "")?;
        MET.iter().try_for_each(|met| write!(f, "{:>8}", format!("{met:?}")))?;
        for (kind, row) in KINDS.iter().zip(self.met) {
            write!(f, "\n{:>12}", format!("{kind:?}"))?;
            row.iter().try_for_each(|count| write!(f, "{count:>8}"))?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.events_done == 0 {
            return Ok(());
        }
        write!(
            f,
            "\n{} events done, {} refused; {} commands kept out; {} times the memory of reservations was lost",
            self.events_done, self.conflicts, self.kept_out, self.memory_losses
        )?;
        write!(f, "\n{:>30}{:>8}", "", "done")?;
        CRASHES.iter().try_for_each(|crash| write!(f, "{crash:>15}"))?;
        for (action, (done, row)) in ACTIONS.iter().zip(self.reserved.iter().zip(self.caught)) {
            write!(f, "\n{:>30}{done:>8}", format!("{action:?}"))?;
            row.iter().try_for_each(|count| write!(f, "{count:>15}"))?;
        }
        Ok(())
    }

    /// Service actions that no crash of some kind met.
    #[must_use]
    pub fn never_caught(&self) -> Vec<String> {
        let cells = ACTIONS.iter().zip(self.caught).flat_map(|(action, row)| {
            let cells = CRASHES.iter().zip(row).filter(|(_, count)| *count == 0);
            cells.map(move |(crash, _)| format!("{action:?}: {crash}"))
        });
        cells.collect()
    }

    /// Faults that never met a pair in a certain status.
    #[must_use]
    pub fn never_met(&self) -> Vec<String> {
        let cells = KINDS.iter().zip(self.met).flat_map(|(kind, row)| {
            MET.iter()
                .zip(row)
                .filter(|(_, count)| *count == 0)
                .map(move |(met, _)| format!("{kind:?} in {met:?}"))
        });
        cells.collect()
    }

    /// Counts that must not be zero, or the run has tested nothing.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let counts = [
            ("commands", self.commands),
            ("good answers", self.good),
            ("miscompares", self.miscompares),
            ("overlaps", self.overlaps),
            ("waits for a range", self.range_waits),
            ("reads left to main", self.contended_reads),
            ("forwards", self.forwards),
            ("waits for credit", self.credit_waits),
            ("reordered frames", self.frames_reordered),
            ("permuted actions", self.actions_permuted),
            ("reordered disk I/O", self.disk_reordered),
            ("blocked connections", self.blocked),
            ("ABORT TASK", self.functions[0]),
            ("ABORT TASK SET", self.functions[1]),
            ("LOGICAL UNIT RESET", self.functions[2]),
            ("commands given up", self.given_up),
            ("logouts", self.logouts),
            ("lost connections", self.connections_lost),
            ("events", self.events_done),
            ("commands kept out", self.kept_out),
        ];
        counts.iter().filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect()
    }
}
