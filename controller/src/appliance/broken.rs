//! What it means for a group that something is broken, as one of its LUNs says: a function of what is broken, of what
//! is known to be, and of the group's stage. The tests below walk all of it.

use protocol::interlink::copy_report::Pairing;

use super::copies::GIVEN_UP;
use super::lifecycle::{Before, Stage};
use super::switch::{Switch, SwitchStep};
use super::wish::Parting;
use crate::disk::DiskError;
use crate::pair::PairFault;

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// The two part; no copy is broken by it.
    Parts(Parting),
    /// A copy is broken, and leaves the pair as soon as it can.
    Breaks,
    /// A copy is broken in a switch in which it cannot leave: the two part, and meet again without it.
    BreaksInASwitch,
}

/// What follows from a breakage. `current`: it is of the generation that the group is at; what a LUN says of its disk
/// is true later as well, what it says of the peer is not. `known`: what is broken already.
pub(super) fn verdict(breakage: PairFault, current: bool, known: Option<PairFault>, stage: Stage) -> Verdict {
    match breakage {
        PairFault::ProtocolViolation | PairFault::Overdue if !current => return Verdict::Nothing,
        PairFault::ProtocolViolation => return Verdict::Parts(Parting::ProtocolViolation),
        PairFault::Overdue => return Verdict::Parts(Parting::Overdue),
        PairFault::OwnDisk(_) | PairFault::PeerDisk => {}
    }
    let given_up = breakage == GIVEN_UP;
    match known {
        Some(GIVEN_UP) => return Verdict::Nothing,
        // What has failed after it found no room is more than full: it may have lost what was answered.
        Some(PairFault::OwnDisk(known)) if !given_up && !breakage.is_worse_than(known) => {
            return Verdict::Nothing;
        }
        _ => {}
    }
    if !given_up && goes_on_with(stage, breakage) {
        return Verdict::Nothing;
    }
    // What was given up at the moment when the peer said that its copy leaves may not stay the last one either.
    let stays = |switch: Switch| switch.pairing == Pairing::Whole || (given_up && !switch.is_proposer());
    // Nor what fails before it is the only one by a person's word, while the other copy is whole.
    let undone = match stage {
        Stage::Switching { switch, pairing: Pairing::Whole } => {
            switch.can_be_undone_here() || matches!(switch.step, SwitchStep::Flushing(_))
        }
        _ => false,
    };
    if undone || stage.switch().is_some_and(stays) { Verdict::BreaksInASwitch } else { Verdict::Breaks }
}

/// A copy whose controller has lost its peer is the last one: what its disk could not take its host has heard of, and
/// nothing that was answered is lost by it. Only a flush that failed may have lost some of that: the peer's copy has
/// it, as long as that one is a member.
fn goes_on_with(stage: Stage, breakage: PairFault) -> bool {
    match stage {
        Stage::WaitingOut { .. } | Stage::Agreed { before: Before::WaitingOut, .. } => {
            breakage != PairFault::OwnDisk(DiskError::FlushFailed)
        }
        Stage::GoingAlone { .. } | Stage::Alone | Stage::Agreed { before: Before::Alone, .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write as _;

    use protocol::interlink::copy_report::Generation;

    use protocol::interlink::will::{Wanted, Will};

    use super::*;
    use crate::time::Time;

    fn switching(step: SwitchStep, pairing: Pairing) -> Stage {
        let switch =
            Switch { generation: Generation::default(), pairing, since: None, step, was_main: false };
        Stage::Switching { switch, pairing: Pairing::Whole }
    }

    /// A pair is split by a person's word.
    fn splitting(step: SwitchStep) -> Stage {
        let generation =
            Generation { will: Will { wanted: Wanted::Split, main: None }, ..Generation::default() };
        let switch = Switch { generation, pairing: Pairing::Out, since: None, step, was_main: false };
        Stage::Switching { switch, pairing: Pairing::Whole }
    }

    fn stages() -> Vec<(&'static str, Stage)> {
        let agreed = |before| Stage::Agreed { pairing: Pairing::Whole, before };
        vec![
            ("Apart", Stage::Apart),
            ("WaitingOut", Stage::WaitingOut { until: Time(630) }),
            ("GoingAlone", Stage::GoingAlone { ticket: 7 }),
            ("Alone", Stage::Alone),
            ("Agreed", agreed(Before::Nothing)),
            ("Agreed waiting", agreed(Before::WaitingOut)),
            ("Agreed alone", agreed(Before::Alone)),
            ("Placed", Stage::Placed(Pairing::Whole)),
            ("Served", Stage::Served(Pairing::Whole)),
            ("Switching, proposed", switching(SwitchStep::Proposed, Pairing::Whole)),
            ("Switching, asked", switching(SwitchStep::Asked, Pairing::Whole)),
            ("Switching out, proposed", switching(SwitchStep::Proposed, Pairing::Out)),
            ("Switching out, asked", switching(SwitchStep::Asked, Pairing::Out)),
            ("Splitting, asked", splitting(SwitchStep::Asked)),
            ("Splitting, writes", splitting(SwitchStep::WritesFirst)),
            ("Splitting, awaits", splitting(SwitchStep::AwaitsBegin)),
            ("Splitting, proposed", splitting(SwitchStep::Proposed)),
            ("Splitting, flushes", splitting(SwitchStep::Flushing(1))),
            ("Closed", Stage::Closed(Pairing::Whole)),
            ("Yielding", Stage::Yielding(Pairing::Whole)),
        ]
    }

    const BREAKAGES: [(&str, PairFault); 8] = [
        ("nonsense", PairFault::ProtocolViolation),
        ("overdue", PairFault::Overdue),
        ("peer", PairFault::PeerDisk),
        ("full", PairFault::OwnDisk(DiskError::Full)),
        ("io", PairFault::OwnDisk(DiskError::Io)),
        ("flush", PairFault::OwnDisk(DiskError::FlushFailed)),
        ("absent", PairFault::OwnDisk(DiskError::Absent)),
        ("silent", GIVEN_UP),
    ];

    const fn cell(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Nothing => "-",
            Verdict::Parts(_) => "parts",
            Verdict::Breaks => "breaks",
            Verdict::BreaksInASwitch => "switch",
        }
    }

    /// A row of verdicts for every breakage.
    fn row(table: &mut String, name: &str, verdict: impl Fn(PairFault) -> Verdict) {
        write!(table, "{name:<24}").expect("a string");
        BREAKAGES.iter().for_each(|(_, breakage)| {
            write!(table, "{:<9}", cell(verdict(*breakage))).expect("a string");
        });
        *table = format!("{}\n", table.trim_end_matches(' '));
    }

    fn head() -> String {
        let names: String = BREAKAGES.iter().map(|(name, _)| format!("{name:<9}")).collect();
        format!("{:<24}{}\n", "", names.trim_end())
    }

    #[test]
    fn every_breakage_in_every_stage_has_its_verdict() {
        let mut table = head();
        for (name, stage) in stages() {
            row(&mut table, name, |breakage| verdict(breakage, true, None, stage));
        }
        assert_eq!(table, EVERY_STAGE, "\n{table}");
    }

    #[test]
    fn what_is_broken_already_breaks_again_only_by_something_worse() {
        let mut table = head();
        for (name, known) in BREAKAGES.iter().skip(2) {
            row(&mut table, name, |breakage| {
                verdict(breakage, true, Some(*known), Stage::Served(Pairing::Whole))
            });
        }
        assert_eq!(table, EVERY_KNOWN, "\n{table}");
    }

    #[test]
    fn what_a_lun_said_of_an_earlier_generation_is_true_of_its_disk_alone() {
        for (name, breakage) in BREAKAGES {
            for (stage_name, stage) in stages() {
                let late = verdict(breakage, false, None, stage);
                let of_the_meeting = matches!(breakage, PairFault::ProtocolViolation | PairFault::Overdue);
                let current = verdict(breakage, true, None, stage);
                let expected = if of_the_meeting { Verdict::Nothing } else { current };
                assert_eq!(late, expected, "{name} {stage_name}");
            }
        }
    }

    const EVERY_STAGE: &str = concat!(
        "                        nonsense overdue  peer     full     io       flush    absent   silent\n",
        "Apart                   parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "WaitingOut              parts    parts    -        -        -        breaks   -        breaks\n",
        "GoingAlone              parts    parts    -        -        -        -        -        breaks\n",
        "Alone                   parts    parts    -        -        -        -        -        breaks\n",
        "Agreed                  parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "Agreed waiting          parts    parts    -        -        -        breaks   -        breaks\n",
        "Agreed alone            parts    parts    -        -        -        -        -        breaks\n",
        "Placed                  parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "Served                  parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "Switching, proposed     parts    parts    switch   switch   switch   switch   switch   switch\n",
        "Switching, asked        parts    parts    switch   switch   switch   switch   switch   switch\n",
        "Switching out, proposed parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "Switching out, asked    parts    parts    breaks   breaks   breaks   breaks   breaks   switch\n",
        "Splitting, asked        parts    parts    switch   switch   switch   switch   switch   switch\n",
        "Splitting, writes       parts    parts    switch   switch   switch   switch   switch   switch\n",
        "Splitting, awaits       parts    parts    breaks   breaks   breaks   breaks   breaks   switch\n",
        "Splitting, proposed     parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "Splitting, flushes      parts    parts    switch   switch   switch   switch   switch   switch\n",
        "Closed                  parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "Yielding                parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
    );

    const EVERY_KNOWN: &str = concat!(
        "                        nonsense overdue  peer     full     io       flush    absent   silent\n",
        "peer                    parts    parts    breaks   breaks   breaks   breaks   breaks   breaks\n",
        "full                    parts    parts    -        -        breaks   breaks   breaks   breaks\n",
        "io                      parts    parts    -        -        -        -        -        breaks\n",
        "flush                   parts    parts    -        -        -        -        -        breaks\n",
        "absent                  parts    parts    -        -        -        -        -        breaks\n",
        "silent                  parts    parts    -        -        -        -        -        -\n",
    );
}
