//! The phases of a meeting, whole.

use core::fmt::Write as _;

use super::*;

const STEPS: [Step; 5] =
    [Step::LeadingOwn, Step::LeadingPeer, Step::LeadingRest, Step::Following, Step::Placed];

fn phases() -> Vec<Phase> {
    let mut phases = vec![Phase::Apart];
    for (own, peer) in [(false, false), (true, false), (false, true), (true, true)] {
        phases.push(Phase::Settling { own, peer });
    }
    phases.extend([Phase::Comparing, Phase::Making { waits: 0 }, Phase::Making { waits: 2 }]);
    phases.extend(STEPS.map(|step| Phase::Agreeing { waits: 1, step }));
    phases.push(Phase::Joined);
    phases
}

fn events() -> Vec<Progress> {
    let mut events = vec![
        Progress::Identity { peer: false },
        Progress::Identity { peer: true },
        Progress::OwnIdentity,
        Progress::PeerIdentity,
        Progress::Tells,
        Progress::Makes(3),
    ];
    events.extend(STEPS.map(|step| Progress::CarriesOut(step, 3)));
    events.extend([
        Progress::OneLess,
        Progress::SendsAgreements,
        Progress::Marks(3),
        Progress::StartsDurable,
        Progress::Begin,
        Progress::Lost,
    ]);
    events
}

/// A short name: `Settling` with what is durable, `Making` and `Agreeing` with what they wait for.
fn name(phase: Phase) -> String {
    match phase {
        Phase::Apart => "Apart".to_owned(),
        Phase::Settling { own, peer } => format!("Settling {}{}", u8::from(own), u8::from(peer)),
        Phase::Comparing => "Comparing".to_owned(),
        Phase::Making { waits } => format!("Making {waits}"),
        Phase::Agreeing { waits, step } => format!("{step:?} {waits}"),
        Phase::Joined => "Joined".to_owned(),
    }
}

/// Every transition that changes the phase; everything that is not listed changes nothing. A loss is left out: see the
/// next test.
const TABLE: &str = "\
Apart: Identity { peer: false } -> Settling 00
Apart: Identity { peer: true } -> Settling 01
Settling 00: OwnIdentity -> Settling 10
Settling 00: PeerIdentity -> Settling 01
Settling 10: PeerIdentity -> Settling 11
Settling 01: OwnIdentity -> Settling 11
Settling 11: Tells -> Comparing
Comparing: Makes(3) -> Making 3
Comparing: CarriesOut(LeadingOwn, 3) -> LeadingOwn 3
Comparing: CarriesOut(Following, 3) -> Following 3
Making 0: Tells -> Comparing
Making 2: OneLess -> Making 1
LeadingOwn 1: OneLess -> LeadingOwn 0
LeadingOwn 1: SendsAgreements -> LeadingPeer 0
LeadingPeer 1: CarriesOut(LeadingRest, 3) -> LeadingRest 3
LeadingPeer 1: OneLess -> LeadingPeer 0
LeadingRest 1: OneLess -> LeadingRest 0
LeadingRest 1: Marks(3) -> LeadingRest 3
LeadingRest 1: StartsDurable -> Joined
Following 1: OneLess -> Following 0
Following 1: Marks(3) -> Following 3
Following 1: StartsDurable -> Placed 0
Placed 1: OneLess -> Placed 0
Placed 1: Begin -> Joined
";

#[test]
fn the_whole_table() {
    let mut table = String::new();
    for phase in phases() {
        for event in events().into_iter().filter(|event| *event != Progress::Lost) {
            let next = phase.on(event);
            if next != phase {
                writeln!(table, "{}: {event:?} -> {}", name(phase), name(next)).unwrap();
            }
        }
    }
    assert_eq!(table, TABLE, "\n{table}");
}

#[test]
fn a_loss_ends_every_phase() {
    for phase in phases() {
        assert_eq!(phase.on(Progress::Lost), Phase::Apart);
    }
}

#[test]
fn nothing_joins_that_was_not_durable_on_both() {
    for phase in phases().into_iter().filter(|phase| *phase != Phase::Joined) {
        for event in events().into_iter().filter(|event| phase.on(*event) == Phase::Joined) {
            let allowed = [(Step::LeadingRest, Progress::StartsDurable), (Step::Placed, Progress::Begin)];
            assert!(
                allowed
                    .iter()
                    .any(|(step, by)| phase == Phase::Agreeing { waits: 1, step: *step } && event == *by),
                "{phase:?} joins with {event:?}"
            );
        }
    }
}
