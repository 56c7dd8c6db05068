//! Every pair of stage and event, and what must hold of all of them.

use core::fmt::Write as _;

use protocol::interlink::copy_report::Generation;

use super::*;
use crate::appliance::switch::SwitchStep;

const UNTIL: Time = Time(630);
const TICKET: u64 = 7;

fn switch(step: SwitchStep, pairing: Pairing, was_main: bool) -> Switch {
    Switch { generation: Generation::default(), pairing, since: None, step, was_main }
}

fn switching(step: SwitchStep) -> Stage {
    Stage::Switching { switch: switch(step, Pairing::Whole, false), pairing: Pairing::Whole }
}

fn agreed(before: Before) -> Stage {
    Stage::Agreed { pairing: Pairing::Whole, before }
}

fn stages() -> Vec<(&'static str, Stage)> {
    vec![
        ("Apart", Stage::Apart),
        ("WaitingOut", Stage::WaitingOut { until: UNTIL }),
        ("GoingAlone", Stage::GoingAlone { ticket: TICKET }),
        ("Alone", Stage::Alone),
        ("Agreed", agreed(Before::Nothing)),
        ("Agreed waiting", agreed(Before::WaitingOut)),
        ("Agreed alone", agreed(Before::Alone)),
        ("Placed", Stage::Placed(Pairing::Whole)),
        ("Served", Stage::Served(Pairing::Whole)),
        ("Served copy", Stage::Served(Pairing::Copy)),
        ("Served out", Stage::Served(Pairing::Out)),
        ("Switching asked", switching(SwitchStep::Asked)),
        ("Switching placed", switching(SwitchStep::AwaitsPeersPlace)),
        ("Closed", Stage::Closed(Pairing::Whole)),
        ("Yielding", Stage::Yielding(Pairing::Whole)),
        ("Yielding out", Stage::Yielding(Pairing::Out)),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let asked = switch(SwitchStep::Asked, Pairing::Whole, false);
    vec![
        ("StartsAlone", Event::StartsAlone { until: UNTIL }),
        ("StartsSimplex", Event::StartsSimplex),
        ("Lost, right", Event::Lost { right: true, until: UNTIL }),
        ("Lost, no right", Event::Lost { right: false, until: UNTIL }),
        ("LeaseOut", Event::LeaseOut(TICKET)),
        ("AloneDurable", Event::AloneDurable(TICKET)),
        ("Agreed", Event::Agreed(Pairing::Whole)),
        ("Refused", Event::Refused { for_good: false }),
        ("Refused for good", Event::Refused { for_good: true }),
        ("TakesPlace", Event::TakesPlace { open: false }),
        ("TakesPlace, open", Event::TakesPlace { open: true }),
        ("Begins", Event::Begins),
        ("Switches", Event::Switches(asked)),
        ("SwitchPlaces", Event::SwitchPlaces(Pairing::Whole)),
        ("SwitchOver", Event::SwitchOver(Pairing::Whole)),
        ("CopyWhole", Event::CopyWhole),
        ("OwnEnd", Event::OwnEnd),
        ("PeerEnds, right", Event::PeerEnds { right: true }),
        ("PeerEnds, no right", Event::PeerEnds { right: false }),
        ("DiskLost", Event::DiskLost),
    ]
}

fn every_facts() -> Vec<Facts> {
    let mut all = Vec::new();
    for role in [Role::Main, Role::Sub] {
        for mirror in [true, false] {
            for ending in [None, Some(Ends::Own), Some(Ends::Peer)] {
                all.push(Facts { role, mirror, ending });
            }
        }
    }
    all
}

fn name(stage: Stage) -> String {
    match stage {
        Stage::WaitingOut { .. } => "WaitingOut".into(),
        Stage::GoingAlone { .. } => "GoingAlone".into(),
        Stage::Agreed { before, .. } => format!("Agreed({before:?})"),
        Stage::Switching { switch, .. } => format!("Switching({:?})", switch.step),
        other => format!("{other:?}"),
    }
}

/// What every event makes of every stage, at a mirrored main. What changes nothing is left out.
#[test]
fn the_table_as_a_whole() {
    let mut seen = String::new();
    for ending in [None, Some(Ends::Own), Some(Ends::Peer)] {
        let facts = Facts { role: Role::Main, mirror: true, ending };
        let plain = |stage: Stage, event| stage.on(event, Facts { ending: None, ..facts });
        writeln!(seen, "ending: {ending:?}").unwrap();
        for (stage_name, stage) in stages() {
            for (event_name, event) in events() {
                let after = stage.on(event, facts);
                let same = if ending.is_none() { (stage, Order::Nothing) } else { plain(stage, event) };
                if after != same {
                    writeln!(seen, "{stage_name} + {event_name}: {} {:?}", name(after.0), after.1).unwrap();
                }
            }
        }
    }
    let expected = include_str!("lifecycle_table.txt");
    assert_eq!(seen, expected, "the table is now:\n{seen}");
}

#[test]
fn nothing_opens_once_the_end_has_begun() {
    let opens = |order| matches!(order, Order::Open | Order::Begin(_));
    for facts in every_facts().into_iter().filter(|facts| facts.ending == Some(Ends::Own)) {
        for (stage_name, stage) in stages() {
            for (event_name, event) in events() {
                let (after, order) = stage.on(event, facts);
                let opened = opens(order) || matches!((stage, after), (Stage::Placed(_), Stage::Served(_)));
                assert!(!opened, "{stage_name} + {event_name} {facts:?}: {after:?} {order:?}");
            }
        }
    }
}

#[test]
fn no_stage_in_which_hosts_wait_is_forgotten_by_a_loss() {
    // Whatever is lost in whatever stage: what is left is a stage that something ends, or one that serves or refuses.
    for facts in every_facts() {
        for (stage_name, stage) in stages() {
            for right in [true, false] {
                let (after, _) = stage.on(Event::Lost { right, until: UNTIL }, facts);
                let known = matches!(
                    after,
                    Stage::Apart | Stage::WaitingOut { .. } | Stage::GoingAlone { .. } | Stage::Alone
                );
                assert!(known, "{stage_name} {facts:?}: {after:?}");
            }
        }
    }
}

#[test]
fn a_wait_for_the_lease_ends_by_going_alone_an_agreement_a_refusal_for_good_a_lost_disk_or_the_own_end() {
    let waiting = Stage::WaitingOut { until: UNTIL };
    for facts in every_facts() {
        for (event_name, event) in events() {
            let (after, _) = waiting.on(event, facts);
            let ends = match event {
                Event::LeaseOut(_) => facts.ending.is_none(),
                Event::Agreed(_) | Event::Refused { for_good: true } | Event::OwnEnd | Event::DiskLost => {
                    true
                }
                _ => false,
            };
            assert_eq!(after != waiting, ends, "{event_name} {facts:?}: {after:?}");
        }
    }
}

#[test]
fn hosts_are_served_in_no_stage_in_which_the_generation_is_undecided() {
    for (stage_name, stage) in stages() {
        for facts in every_facts() {
            let (_, service) = stage.view(facts.role, facts.mirror);
            let undecided = matches!(
                stage,
                Stage::Apart
                    | Stage::WaitingOut { .. }
                    | Stage::GoingAlone { .. }
                    | Stage::Agreed { before: Before::Nothing | Before::WaitingOut, .. }
            );
            assert_eq!(!service.serves(), undecided, "{stage_name} {facts:?}");
            // A main that goes on keeps what came; nobody else has anything to wait for.
            let goes_on =
                undecided && !matches!(stage, Stage::Apart | Stage::Agreed { before: Before::Nothing, .. });
            assert_eq!(service == Service::Undecided, goes_on, "{stage_name} {facts:?}");
        }
    }
}

#[test]
fn in_a_switch_at_most_one_of_the_two_has_the_right_to_go_on_and_a_main_of_both_generations_never_loses_it() {
    use SwitchStep::{Asked, AwaitsBegin, AwaitsPeersPlace, Draining, Proposed, WritesFirst, WritesLast};
    let facts = |role| Facts { role, mirror: true, ending: None };
    let right = |step, pairing, was_main, role| {
        let stage = Stage::Switching { switch: switch(step, pairing, was_main), pairing: Pairing::Whole };
        stage.has_right(facts(role))
    };
    // The steps that can meet, proposer and other, and each one's role by the generation it has written last.
    let together = [
        (Proposed, Asked),
        (Proposed, WritesFirst),
        (Proposed, AwaitsBegin),
        (Draining, AwaitsBegin),
        (WritesLast, AwaitsBegin),
        (AwaitsPeersPlace, AwaitsBegin),
    ];
    for (pairing, proposer_was_main) in [(Pairing::Whole, true), (Pairing::Out, true), (Pairing::Out, false)]
    {
        for (proposer, other) in together {
            let written = |step| matches!(step, WritesFirst | AwaitsBegin | WritesLast | AwaitsPeersPlace);
            let role = |was_main, step, becomes_main: bool| {
                let main = if written(step) { becomes_main } else { was_main };
                if main { Role::Main } else { Role::Sub }
            };
            let first = right(proposer, pairing, proposer_was_main, role(proposer_was_main, proposer, false));
            let second = right(other, pairing, !proposer_was_main, role(!proposer_was_main, other, true));
            // The disk of a main that proposes to leave has failed, so it has no use of its right.
            let both = first && second && pairing == Pairing::Whole;
            assert!(!both, "{pairing:?} {proposer:?} {other:?}");
            if !proposer_was_main {
                assert!(second, "main before and after: {proposer:?} {other:?}");
            }
        }
    }
}
