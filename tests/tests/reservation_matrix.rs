//! Every command there is against every type of persistent reservation, through both controllers of a real appliance:
//! what `tests/conformance/reservations` says from the standards' tables is what hosts hear.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::reservation::{host_name, request};
use twinlun_tests::initiator::response::status;
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Response, Settings};
use twinlun_tests::judge::reservations::state::{ACTIONS, Action, Command, Nexus, Out};

const LIST: &str = include_str!("../conformance/reservations");

/// One mebibyte, so that SANITIZE takes no time.
const LUN: Lun = Lun { number: 0, mib: 1, main: 0, mirror: true };

/// The types: WRITE EXCLUSIVE, EXCLUSIVE ACCESS, each for registrants only, and for all registrants.
const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
const RECEIVE_COPY_RESULTS: u8 = 0x84;
const REPORT_SUPPORTED_OPERATION_CODES: u8 = 0xa3;

/// Bytes of data-in that any answer fits.
const IN_BYTES: u32 = 8192;

/// One command of the list.
struct Line {
    cdb: [u8; 16],
    answers: &'static str,
    data: Vec<u8>,
    name: String,
}

fn hexadecimal(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn data(text: &str) -> Vec<u8> {
    let piece = |piece: &str| match piece.strip_prefix('z') {
        Some(zeros) => vec![0; zeros.parse().unwrap()],
        None => hexadecimal(piece.trim_matches('-')),
    };
    text.split('+').flat_map(piece).collect()
}

fn lines() -> Vec<Line> {
    let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let bytes = hexadecimal(words.next().unwrap());
            let mut cdb = [0; 16];
            cdb[..bytes.len()].copy_from_slice(&bytes);
            let answers = words.next().unwrap();
            let data = if answers.len() == 5 { data(words.next().unwrap()) } else { Vec::new() };
            Line { cdb, answers, data, name: words.collect::<Vec<_>>().join(" ") }
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Holder,
    Registrant,
    Stranger,
}

/// A session with its part in the reservation.
struct Host {
    part: Part,
    controller: usize,
    number: u32,
    session: Session,
}

impl Host {
    fn log_in(appliance: &Appliance, part: Part, controller: usize, number: u32) -> Self {
        let settings = Settings::linux(&host_name(number), IQN, number as u16);
        let session = Session::connect(appliance.portals[controller], settings).unwrap();
        Self { part, controller, number, session }
    }

    /// Its key once it is registered.
    fn key(&self) -> u64 {
        u64::from(self.number)
    }

    /// The key it is registered with: none for a stranger.
    fn registered(&self) -> u64 {
        if self.part == Part::Stranger { 0 } else { self.key() }
    }

    /// Sends until no unit attention is in the way.
    fn ask(&mut self, cdb: &Cdb, out: &[u8], in_bytes: u32) -> Response {
        const UNIT_ATTENTION: u8 = 0x06;
        loop {
            let request = Request { lun: LUN.number, cdb: cdb.clone(), out: out.to_vec(), in_bytes };
            let response = self.session.execute(&request).unwrap();
            if response.code().0 != UNIT_ATTENTION {
                return response;
            }
        }
    }

    fn out(&mut self, action: Action, kind: u8, keys: (u64, u64)) -> Response {
        let out = Out {
            action,
            kind,
            key: keys.0,
            action_key: keys.1,
            aptpl: false,
            all_target_ports: false,
            others: Vec::new(),
            to: Nexus { host: 99, port: 1 },
            unregister: false,
        };
        let (cdb, list, in_bytes) = request(&Command::Out(out)).unwrap();
        self.ask(&cdb, &list, in_bytes)
    }
}

/// The first holds; of the others two are registered and two are not, one of each at each controller.
struct Hosts([Host; 5]);

impl Hosts {
    fn log_in(appliance: &Appliance, controller: usize) -> Self {
        let parts = [
            (Part::Holder, controller),
            (Part::Registrant, 0),
            (Part::Registrant, 1),
            (Part::Stranger, 0),
            (Part::Stranger, 1),
        ];
        let mut number = 10 * controller as u32;
        Self(parts.map(|(part, controller)| {
            number += 1;
            Host::log_in(appliance, part, controller, number)
        }))
    }

    fn log_out(self) {
        self.0.into_iter().for_each(|host| host.session.logout().unwrap());
    }

    fn holder(&mut self) -> &mut Host {
        &mut self.0[0]
    }

    /// Whatever was, is no more, and the first holds this type.
    fn reserve(&mut self, kind: u8) {
        let key = self.holder().key();
        self.holder().out(Action::RegisterAndIgnoreExistingKey, 0, (0, key));
        assert!(self.holder().out(Action::Clear, 0, (key, 0)).is_good());
        for host in self.0.iter_mut().filter(|host| host.part != Part::Stranger) {
            let key = host.key();
            assert!(host.out(Action::Register, 0, (0, key)).is_good());
        }
        assert!(self.holder().out(Action::Reserve, kind, (key, 0)).is_good());
    }
}

/// Whether a line lets a part pass.
fn passes(line: &Line, kind: u8, part: Part) -> bool {
    let (all, writes) = (kind >= 7, [1, 5, 7].contains(&kind));
    let holds = part == Part::Holder || (part == Part::Registrant && all);
    let of_actions = line.answers.len() == 2;
    let column = match part {
        _ if holds && (of_actions || part == Part::Holder) => {
            return !(all && line.name == "REGISTER AND MOVE");
        }
        Part::Registrant if of_actions => 0,
        _ if of_actions => 1,
        _ if kind < 5 => usize::from(!writes),
        Part::Registrant => 2,
        _ => 3 + usize::from(!writes),
    };
    line.answers.as_bytes()[column] == b'P'
}

/// What a host hears to a line.
fn hear(host: &mut Host, line: &Line, kind: u8, holder_key: u64, other_key: u64) -> Response {
    if line.cdb[0] != PERSISTENT_RESERVE_OUT {
        let in_bytes = if line.data.is_empty() { IN_BYTES } else { 0 };
        return host.ask(&Cdb(line.cdb), &line.data, in_bytes);
    }
    let action = ACTIONS[usize::from(line.cdb[1])];
    let action_key = match action {
        Action::Preempt | Action::PreemptAndAbort if host.part == Part::Holder => other_key,
        Action::Preempt | Action::PreemptAndAbort => holder_key,
        _ => 77,
    };
    host.out(action, kind, (host.registered(), action_key))
}

/// Sends every line as every host with one type held through one controller.
fn go_through(hosts: &mut Hosts, lines: &[Line], kind: u8) {
    let (holder_key, other_key) = (hosts.0[0].key(), hosts.0[1].key());
    hosts.reserve(kind);
    for line in lines {
        for at in 0..hosts.0.len() {
            let host = &mut hosts.0[at];
            let response = hear(host, line, kind, holder_key, other_key);
            let passes = passes(line, kind, host.part);
            let (part, controller) = (host.part, host.controller);
            let heard = format!("{}: type {kind}, {part:?} at {controller}: {response:?}", line.name);
            assert_eq!(response.status != status::RESERVATION_CONFLICT, passes, "{heard}");
            // There is no copy to tell of, and nothing that failed to be left behind.
            let may_be_refused = line.cdb[0] == RECEIVE_COPY_RESULTS || line.cdb[..2] == [0x48, 0x1f];
            assert!(!passes || response.is_good() || may_be_refused, "{heard}");
            if line.cdb[0] == PERSISTENT_RESERVE_OUT && passes {
                hosts.reserve(kind);
            }
        }
    }
}

/// Operation code and, where there is one, service action of everything the target says it does.
fn told(host: &mut Host) -> BTreeSet<(u8, Option<u8>)> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (REPORT_SUPPORTED_OPERATION_CODES, 0x0c, 0x20);
    let data = host.ask(&Cdb(cdb), &[], IN_BYTES).data;
    let command = |command: &[u8]| (command[0], (command[5] & 0x01 == 1).then_some(command[3]));
    data[4..].chunks(8).map(command).collect()
}

#[test]
fn every_command_passes_or_conflicts_through_both_controllers_as_the_standards_say() {
    let appliance = Appliance::start("matrix", &[LUN], Processes::Two).unwrap();
    let lines = lines();
    for controller in 0..2 {
        let mut hosts = Hosts::log_in(&appliance, controller);
        for (opcode, action) in told(hosts.holder()) {
            let stands = |line: &Line| {
                line.cdb[0] == opcode && action.is_none_or(|action| line.cdb[1] & 0x1f == action)
            };
            assert!(lines.iter().any(stands), "{opcode:02x} {action:02x?} does not stand in the list");
        }
        TYPES.into_iter().for_each(|kind| go_through(&mut hosts, &lines, kind));
        let key = hosts.holder().key();
        assert!(hosts.holder().out(Action::Clear, 0, (key, 0)).is_good());
        hosts.log_out();
    }
    appliance.stop().unwrap();
}
