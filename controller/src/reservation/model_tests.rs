//! Random sequences against a model that follows SPC-4 5.13 word by word: a map of keys, a holder, and loops.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::interlink::shared::{NexusName, Recipients, Reservations};
use protocol::scsi::persistent_reservation::{InitiatorPort, Kind, Move, OutAction, ReserveOut};
use protocol::scsi::sense::{Asc, Sense};

use super::perform;

/// (initiator, target port), small enough that sequences meet each other.
type Nexus = (u8, u16);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Model {
    generation: u32,
    aptpl: bool,
    keys: BTreeMap<Nexus, u64>,
    held: Option<(Kind, Nexus)>,
}

#[derive(Clone, Debug)]
struct Step {
    by: Nexus,
    action: OutAction,
    key: u64,
    action_key: u64,
    kind: Kind,
    aptpl: bool,
    all: bool,
    other: Option<u8>,
    to: (u8, u16, bool),
}

fn port(initiator: u8) -> InitiatorPort {
    InitiatorPort { initiator: format!("i{initiator}"), isid: [initiator; 6] }
}

fn name((initiator, target): Nexus) -> NexusName {
    port(initiator).nexus(target)
}

impl Step {
    fn out(&self) -> ReserveOut {
        let (to, target, unregister) = self.to;
        let moves = self.action == OutAction::RegisterAndMove;
        ReserveOut {
            action: self.action,
            kind: self.kind.code(),
            key: self.key,
            action_key: self.action_key,
            aptpl: self.aptpl,
            all_target_ports: self.all,
            others: self.other.filter(|_| self.action == OutAction::Register).map(port).into_iter().collect(),
            moved: moves.then(|| Move { unregister, port: target, to: port(to) }),
        }
    }
}

impl Model {
    fn holds(&self, nexus: Nexus) -> bool {
        self.held.is_some_and(|(kind, holder)| {
            if kind.is_all_registrants() { self.keys.contains_key(&nexus) } else { holder == nexus }
        })
    }

    fn everybody_but(&self, nexus: Nexus, sense: Sense) -> Vec<(Nexus, Asc)> {
        self.keys.keys().filter(|other| **other != nexus).map(|other| (*other, sense.code)).collect()
    }

    /// Whether it is done, and who is told.
    fn act(&mut self, step: &Step) -> (bool, Vec<(Nexus, Asc)>) {
        let by = step.by;
        let own = self.keys.get(&by).copied();
        let registers = matches!(step.action, OutAction::Register | OutAction::RegisterAndIgnoreExistingKey);
        let right_key = match step.action {
            OutAction::RegisterAndIgnoreExistingKey => true,
            OutAction::Register => own.unwrap_or(0) == step.key,
            _ => own == Some(step.key),
        };
        if !right_key {
            return (false, vec![]);
        }
        if registers {
            return self.register(step, own);
        }
        match step.action {
            OutAction::Reserve => match self.held {
                None => {
                    self.held = Some((step.kind, by));
                    (true, vec![])
                }
                Some((kind, _)) => (kind == step.kind && self.holds(by), vec![]),
            },
            OutAction::Release => {
                if !self.holds(by) {
                    return (true, vec![]);
                }
                let kind = self.held.unwrap().0;
                if kind != step.kind {
                    return (false, vec![]);
                }
                self.held = None;
                let quiet = kind.is_holders_alone();
                (true, if quiet { vec![] } else { self.everybody_but(by, Sense::RESERVATIONS_RELEASED) })
            }
            OutAction::Clear => {
                let told = self.everybody_but(by, Sense::RESERVATIONS_PREEMPTED);
                self.generation += 1;
                self.keys.clear();
                self.held = None;
                (true, told)
            }
            OutAction::RegisterAndMove => self.hand_over(step),
            _ => self.preempt(step),
        }
    }

    fn register(&mut self, step: &Step, own: Option<u64>) -> (bool, Vec<(Nexus, Asc)>) {
        let by = step.by;
        let others: Vec<u8> = step.other.filter(|_| step.action == OutAction::Register).into_iter().collect();
        if !others.is_empty() && (own.is_some() || step.action_key == 0) {
            return (false, vec![]);
        }
        if step.action_key == 0 && own.is_none() {
            return (true, vec![]);
        }
        self.generation += 1;
        self.aptpl = step.aptpl;
        if step.action_key != 0 {
            for target in [1, 2] {
                if target == by.1 || step.all {
                    self.keys.insert((by.0, target), step.action_key);
                    for other in &others {
                        self.keys.insert((*other, target), step.action_key);
                    }
                }
            }
            return (true, vec![]);
        }
        let held = self.holds(by);
        self.keys.remove(&by);
        match self.held {
            Some((kind, _)) if kind.is_all_registrants() && self.keys.is_empty() => self.held = None,
            Some((kind, _)) if !kind.is_all_registrants() && held => {
                self.held = None;
                if !kind.is_holders_alone() {
                    return (true, self.everybody_but(by, Sense::RESERVATIONS_RELEASED));
                }
            }
            _ => {}
        }
        (true, vec![])
    }

    fn preempt(&mut self, step: &Step) -> (bool, Vec<(Nexus, Asc)>) {
        let (by, named) = (step.by, step.action_key);
        let takes = match self.held {
            None => false,
            Some((kind, _)) if kind.is_all_registrants() => named == 0,
            Some((_, holder)) => self.keys.get(&holder) == Some(&named),
        };
        if named == 0 && !takes {
            return (false, vec![]);
        }
        let victims: Vec<Nexus> = self
            .keys
            .iter()
            .filter(|(_, key)| named == 0 || **key == named)
            .map(|(nexus, _)| *nexus)
            .collect();
        if victims.is_empty() {
            return (false, vec![]);
        }
        self.generation += 1;
        let mut told = vec![];
        for victim in victims {
            if victim != by {
                told.push((victim, Sense::REGISTRATIONS_PREEMPTED.code));
            }
            if victim != by || !takes {
                self.keys.remove(&victim);
            }
        }
        if takes {
            let old = self.held.replace((step.kind, by));
            if old.is_some_and(|(kind, _)| kind != step.kind) {
                told.extend(self.everybody_but(by, Sense::RESERVATIONS_RELEASED));
            }
        } else if self.keys.is_empty() {
            self.held = None;
        }
        (true, told)
    }

    fn hand_over(&mut self, step: &Step) -> (bool, Vec<(Nexus, Asc)>) {
        let (to, target, unregister) = step.to;
        let alone = self.held.is_some_and(|(kind, holder)| !kind.is_all_registrants() && holder == step.by);
        if !alone || step.action_key == 0 || ![1, 2].contains(&target) || (to, target) == step.by {
            return (false, vec![]);
        }
        self.generation += 1;
        self.aptpl = step.aptpl;
        self.keys.insert((to, target), step.action_key);
        self.held = self.held.map(|(kind, _)| (kind, (to, target)));
        if unregister {
            self.keys.remove(&step.by);
        }
        (true, vec![])
    }
}

fn step() -> impl Strategy<Value = Step> {
    let nexus = (0u8..3, 1u16..3);
    let action = prop::sample::select(OutAction::ALL.to_vec());
    let kind = prop::sample::select(Kind::ALL.to_vec());
    (
        nexus,
        action,
        0u64..3,
        0u64..3,
        kind,
        any::<[bool; 2]>(),
        prop::option::weighted(0.2, 0u8..4),
        (0u8..4, 0u16..4, any::<bool>()),
    )
        .prop_map(|(by, action, key, action_key, kind, [aptpl, all], other, to)| Step {
            by,
            action,
            key,
            action_key,
            kind,
            aptpl,
            all,
            other,
            to,
        })
}

proptest! {
    #[test]
    fn every_sequence_ends_as_the_standard_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::default();
        let mut state = Reservations::default();
        for mut step in steps {
            // Half of the time with the key that is right.
            if step.aptpl {
                step.key = model.keys.get(&step.by).copied().unwrap_or(0);
            }
            let (done, told) = model.act(&step);
            let result = perform(&state, &name(step.by), &step.out());
            prop_assert_eq!(result.is_ok(), done, "{:?}", step);
            if let Ok(result) = result {
                let mut attentions: Vec<_> = result.attentions.into_iter().map(|a| (a.whom, a.code)).collect();
                let one = |nexus| Recipients::One(name(nexus));
                let mut wanted: Vec<_> = told.into_iter().map(|(nexus, code)| (one(nexus), code)).collect();
                attentions.sort_by_key(|told| format!("{told:?}"));
                wanted.sort_by_key(|told| format!("{told:?}"));
                prop_assert_eq!(attentions, wanted, "{:?}", step);
                state = result.next.unwrap_or(state);
            }
            let keys: Vec<_> = state.registrants.iter().map(|r| (r.nexus.clone(), r.key)).collect();
            let wanted: Vec<_> = model.keys.iter().map(|(nexus, key)| (name(*nexus), *key)).collect();
            prop_assert_eq!(keys, wanted);
            let held = state.reservation.as_ref().map(|held| held.kind);
            prop_assert_eq!(held, model.held.map(|(kind, _)| kind.code()));
            if let (Some(reservation), Some((kind, holder))) = (&state.reservation, model.held)
                && !kind.is_all_registrants()
            {
                prop_assert_eq!(&reservation.holder, &name(holder));
            }
            prop_assert_eq!((state.generation, state.aptpl), (model.generation, model.aptpl));
        }
    }
}
