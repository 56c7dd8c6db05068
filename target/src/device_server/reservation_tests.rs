//! What every row of the table asks leave for, against the standards' tables as they stand in
//! `tests/conformance/reservations`: each type of persistent reservation, each part a nexus can have in it, nexuses of
//! one controller and of both. That whole controllers keep to it is shown in `tests/tests/reservation_matrix.rs`.

use bytes::Bytes;
use controller::command::{Access, Outcome};
use controller::reservation::{is_spared, passes, perform};
use protocol::interlink::event::Event;
use protocol::interlink::shared::{NexusName, Registrant, Reservation, Reservations};
use protocol::scsi::persistent_reservation::{InitiatorPort, Kind, Move, OutAction, ReserveOut};
use protocol::scsi::sense::Status;

use super::decode_tests::{BOUNDS, view, who};
use super::medium::{self, DataOut};
use super::state::Told;
use super::table::{Run, TABLE, find};
use super::{shared, state};

const LIST: &str = include_str!("../../../tests/conformance/reservations");

/// One command of the list.
struct Line {
    cdb: [u8; 16],
    answers: String,
    data: Vec<u8>,
    name: String,
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
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
            let mut cdb = [0; 16];
            let bytes = hexadecimal(words.next().unwrap());
            cdb[..bytes.len()].copy_from_slice(&bytes);
            let answers = words.next().unwrap().to_owned();
            let data = if answers.len() == 5 { data(words.next().unwrap()) } else { Vec::new() };
            Line { cdb, answers, data, name: words.collect::<Vec<_>>().join(" ") }
        })
        .collect()
}

#[test]
fn every_command_stands_in_the_list_of_reservations() {
    let lines = lines();
    for row in TABLE {
        let stands = lines.iter().any(|line| {
            line.cdb[0] == row.opcode && row.service_action.is_none_or(|action| line.cdb[1] & 0x1f == action)
        });
        assert!(stands, "{} does not stand in tests/conformance/reservations", row.name);
    }
    for line in lines {
        let row = find(&line.cdb).unwrap_or_else(|sense| panic!("{}: {sense:?}", line.name));
        assert!(line.cdb[row.usage.len()..].iter().all(|byte| *byte == 0), "{}", line.name);
        assert!(line.name.contains(row.name.split(',').next_back().unwrap().trim()), "{}", line.name);
    }
}

/// What a command comes to, before anybody is asked for leave.
enum Asks {
    Leave(Access),
    Legacy,
    Out,
}

fn asks(line: &Line) -> Asks {
    let cdb = &line.cdb;
    Asks::Leave(match find(cdb).unwrap().run {
        Run::Describe(admission, _) => admission.access(),
        Run::PreventAllow => state::prevent_allow_admission(cdb).access(),
        Run::Medium(decode) => {
            let data =
                DataOut { pieces: vec![Bytes::from(line.data.clone())], announced: line.data.len() as u64 };
            let op = decode(cdb, BOUNDS, data).unwrap();
            op.map_or(medium::idle_admission(cdb).access(), |op| op.access())
        }
        Run::Shared(_) if cdb[0] == 0x5f => return Asks::Out,
        Run::Shared(decode) => match decode(cdb, &view(), who(), &line.data).unwrap() {
            None => shared::IDLE_ADMISSION.access(),
            Some(Event::Reserve(_) | Event::Release(_)) => return Asks::Legacy,
            Some(event) => controller::command::Op::Event(Box::new(event)).access(),
        },
        Run::Tell(told) => match told(cdb).unwrap() {
            Told::ByMain(op) => op.access(),
            Told::Here(_) => controller::command::Admission::Ready.access(),
        },
        Run::ExtendedCopy | Run::CopyResults => controller::command::Admission::Changing.access(),
        Run::RequestSense => controller::command::Admission::RequestSense.access(),
        Run::ReportLuns => Access::Always,
    })
}

fn nexus(name: &str, port: u16) -> NexusName {
    NexusName { initiator: name.into(), isid: [0; 6], port }
}

const HOLDER_KEY: u64 = 1;
const REGISTRANT_KEY: u64 = 2;

/// A reservation whose holder is at one controller, with registrants at both.
fn held(kind: Kind, port: u16) -> Reservations {
    let registrant = |name, port, key| Registrant { nexus: nexus(name, port), key };
    let mut registrants = vec![
        registrant("holder", port, HOLDER_KEY),
        registrant("registrant", 1, REGISTRANT_KEY),
        registrant("registrant", 2, REGISTRANT_KEY),
    ];
    registrants.sort_by(|a, b| a.nexus.cmp(&b.nexus));
    let reservation = Some(Reservation { kind: kind.code(), holder: nexus("holder", port) });
    Reservations { generation: 3, aptpl: false, registrants, reservation }
}

/// The PERSISTENT RESERVE OUT of a nexus with the key it is registered with.
fn out(line: &Line, kind: Kind, key: u64) -> ReserveOut {
    let action = OutAction::of(line.cdb[1]).unwrap();
    let action_key = match action {
        OutAction::Preempt | OutAction::PreemptAndAbort if key == HOLDER_KEY => REGISTRANT_KEY,
        OutAction::Preempt | OutAction::PreemptAndAbort => HOLDER_KEY,
        _ => 9,
    };
    let to = InitiatorPort { initiator: "heir".into(), isid: [0; 6] };
    ReserveOut {
        action,
        kind: kind.code(),
        key,
        action_key,
        aptpl: false,
        all_target_ports: false,
        others: Vec::new(),
        moved: (action == OutAction::RegisterAndMove).then_some(Move { unregister: false, port: 1, to }),
    }
}

/// Which letter of a line is for a nexus: `None` for a holder.
fn column(line: &Line, kind: Kind, name: &str) -> Option<usize> {
    let all = matches!(kind, Kind::WriteExclusiveAllRegistrants | Kind::ExclusiveAccessAllRegistrants);
    let writes = matches!(
        kind,
        Kind::WriteExclusive | Kind::WriteExclusiveRegistrantsOnly | Kind::WriteExclusiveAllRegistrants
    );
    let one = matches!(kind, Kind::WriteExclusive | Kind::ExclusiveAccess);
    match (name, line.answers.len()) {
        ("holder", _) => None,
        ("registrant", 2) if all => None,
        ("registrant", 2) => Some(0),
        (_, 2) => Some(1),
        _ if one => Some(usize::from(!writes)),
        ("registrant", _) => Some(2),
        _ => Some(3 + usize::from(!writes)),
    }
}

fn wanted(line: &Line, kind: Kind, name: &str) -> bool {
    let all = matches!(kind, Kind::WriteExclusiveAllRegistrants | Kind::ExclusiveAccessAllRegistrants);
    match column(line, kind, name) {
        Some(column) => line.answers.as_bytes()[column] == b'P',
        None => !(all && line.name == "REGISTER AND MOVE"),
    }
}

#[test]
fn every_command_conflicts_with_every_type_as_the_standards_say() {
    for line in lines() {
        for kind in Kind::ALL {
            for holder_port in [1, 2] {
                let state = held(kind, holder_port);
                for (name, key) in [("holder", HOLDER_KEY), ("registrant", REGISTRANT_KEY), ("stranger", 0)] {
                    for port in [1, 2].into_iter().filter(|port| name != "holder" || *port == holder_port) {
                        let nexus = nexus(name, port);
                        let passes = match asks(&line) {
                            Asks::Leave(access) => passes(&state, &nexus, access),
                            Asks::Legacy => is_spared(&state, &nexus),
                            Asks::Out => {
                                let done = perform(&state, &nexus, &out(&line, kind, key));
                                done.err() != Some(Outcome::Status(Status::ReservationConflict))
                            }
                        };
                        let wanted = wanted(&line, kind, name);
                        assert_eq!(passes, wanted, "{}: {kind:?}, {name} at {port}", line.name);
                    }
                }
            }
        }
    }
}
