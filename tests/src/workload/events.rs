//! Commands that change a logical unit other than its blocks, drawn so that most of them do something: whoever draws
//! knows a state the unit may be in.

use crate::judge::reservations::state::{ACTIONS, Action, Command, Nexus, Out, PORTS, Session, State, TYPES};
use crate::random::Random;

/// What a host's events are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Events {
    /// How often a host begins one instead of another command, in percent.
    pub percent: u64,
    /// RESERVE and RELEASE.
    pub legacy: bool,
    /// MODE SELECT.
    pub modes: bool,
}

/// A key that several hosts use.
const COMMON_KEY: u64 = 0x77;

/// How often each service action is drawn, in the order of [`ACTIONS`].
const WEIGHTS: [u64; ACTIONS.len()] = [20, 24, 10, 6, 8, 12, 10, 10];

/// Draws a command of a host's session on a unit that may be in `state`.
pub fn draw(random: &mut Random, events: Events, state: &State, who: Session, hosts: u32) -> Command {
    match random.below(100) {
        0..6 => Command::ReadKeys,
        6..11 => Command::ReadReservation,
        11..16 => Command::ReadFullStatus,
        16..20 if events.modes => Command::WriteCache { on: random.percent(50), save: random.percent(70) },
        20..24 if events.modes => {
            // It has to be possible to write most of the time.
            let protect = !state.protect.0 && random.percent(60);
            Command::ModeSelect { protect, save: random.percent(50) }
        }
        24..28 if events.legacy => Command::Reserve,
        28..34 if events.legacy || state.reserver.is_some() => Command::Release,
        _ => out(random, state, who.nexus, hosts),
    }
}

/// A PERSISTENT RESERVE OUT.
pub fn out(random: &mut Random, state: &State, who: Nexus, hosts: u32) -> Command {
    let mut drawn = random.below(WEIGHTS.iter().sum());
    let mut weights = ACTIONS.iter().zip(WEIGHTS);
    let action = weights.find_map(|(action, weight)| {
        let found = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        found.then_some(*action)
    });
    out_of(random, state, who, hosts, action.unwrap_or(Action::Register))
}

/// A PERSISTENT RESERVE OUT of this service action.
pub fn out_of(random: &mut Random, state: &State, who: Nexus, hosts: u32, action: Action) -> Command {
    let own = state.keys.get(who);
    let some_key = |random: &mut Random| {
        let keys: Vec<u64> = state.keys.iter().map(|(_, key)| key).collect();
        if keys.is_empty() { COMMON_KEY } else { *random.pick(&keys) }
    };
    let wrong = random.percent(8);
    let new_key =
        if random.percent(40) { COMMON_KEY } else { 0x10 + u64::from(who.host) + random.below(2) * 0x100 };
    let registers = matches!(action, Action::Register | Action::RegisterAndIgnoreExistingKey);
    let action_key = match action {
        Action::Register | Action::RegisterAndIgnoreExistingKey if random.percent(15) => 0,
        Action::Register | Action::RegisterAndIgnoreExistingKey | Action::RegisterAndMove => new_key,
        Action::Preempt | Action::PreemptAndAbort => match state.held {
            _ if wrong => 0x999,
            Some((_, None)) if random.percent(50) => 0,
            _ => some_key(random),
        },
        _ => 0,
    };
    let kind = match state.held {
        Some((kind, _)) if action == Action::Release && !wrong => kind,
        Some((kind, _)) if random.percent(20) => kind,
        _ => *random.pick(&TYPES),
    };
    let host = random.below(u64::from(hosts)) as u32;
    let other = host != who.host && action == Action::Register && own.is_none() && action_key != 0;
    Command::Out(Out {
        action,
        kind,
        key: if wrong && random.percent(50) { 0x999 } else { own.unwrap_or(0) },
        action_key,
        aptpl: random.percent(50),
        all_target_ports: registers && action_key != 0 && random.percent(20),
        others: if other && random.percent(20) { vec![host] } else { Vec::new() },
        to: Nexus { host, port: *random.pick(&PORTS) },
        unregister: random.percent(50),
    })
}
