//! Every message there and back, the bytes of each as they are on the wire today, and what is not a message.

use bytes::Bytes;
use proptest::prelude::*;

use super::copy_report::{CopyFound, CopyReport, Generation, GroupRecord, Pairing, Start, Starts, Told};
use super::event::{Event, ModeSelection};
use super::frame::{FrameError, GenerationTag};
use super::hello::{Hello, Identity, LunIdentity, Purpose};
use super::message::{Agreement, Message};
use super::operation::{Ending, Report, WireOp};
use super::peer_status::{Copied, HostReport, LunReport, PeerStatus};
use super::sanitize::{Order, Position, Sanitize, Step};
use super::shared::{
    Attention, Modes, NexusHandle, NexusName, Recipients, Registrant, Requester, Reservation, Reservations,
    SharedState, Stamp,
};
use super::will::{PairCommand, Wanted, Will};
use crate::block::{BlockRange, Lba};
use crate::scsi::persistent_reservation::{InAction, InitiatorPort, Move, OutAction, ReserveOut};
use crate::scsi::sanitize::Method;
use crate::scsi::sense::{Asc, Sense, Status};

const GENERATION: Generation = Generation {
    number: 3,
    id: 0x1111,
    parent: 0x2222,
    main: 1,
    members: 0b10,
    will: Will { wanted: Wanted::Pair, main: None },
};

fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

fn identity() -> Identity {
    let lun = LunIdentity { name: "data0".into(), volume: 0xabc, naa: 3 << 60, serial: 7, blocks: 2048 };
    Identity { appliance: 0xfeed, luns: vec![lun] }
}

fn who() -> Requester {
    let name = NexusName { initiator: "iqn.1994-05.org:host".into(), isid: [2, 1, 2, 3, 0, 1], port: 2 };
    Requester { handle: NexusHandle { side: 1, incarnation: 77, nexus: 5 }, name }
}

fn order() -> Order {
    let method = Method::Overwrite { pattern: Bytes::from_static(&[1, 2, 3]), invert: true, passes: 5 };
    Order { method, ause: true }
}

fn events() -> Vec<Event> {
    let select = ModeSelection { save: true, write_protect: Some(true), ..ModeSelection::default() };
    let other = ModeSelection { write_protect: None, descriptor_sense: Some(true), ..select };
    let cache = ModeSelection { descriptor_sense: Some(false), write_cache: Some(false), ..other };
    let port = InitiatorPort { initiator: "iqn.1994-05.org:b".into(), isid: [2; 6] };
    let out = ReserveOut {
        action: OutAction::RegisterAndMove,
        kind: 5,
        key: 1,
        action_key: 2,
        aptpl: true,
        all_target_ports: false,
        others: vec![port.clone()],
        moved: Some(Move { unregister: true, port: 2, to: port }),
    };
    let erase = Order { method: Method::BlockErase, ause: false };
    let (from, to) = (Position { pass: 1, next: 7 }, Position { pass: 1, next: 9 });
    vec![
        Event::Reset,
        Event::ReserverLost(who().handle),
        Event::Reserve(who()),
        Event::Release(who()),
        Event::ModeSelect { who: who(), select },
        Event::ModeSelect { who: who(), select: other },
        Event::ModeSelect { who: who(), select: cache },
        Event::ReserveIn { who: who(), action: InAction::ReadFullStatus, allocation: 512 },
        Event::ReserveOut { who: who(), out: Box::new(out) },
        Event::Sanitize { who: who(), order: Some(Box::new(order())), immed: true },
        Event::Sanitize { who: who(), order: Some(Box::new(erase)), immed: false },
        Event::Sanitize { who: who(), order: None, immed: false },
        Event::Sanitized { from, step: Step::To(to) },
        Event::Sanitized { from, step: Step::Done },
        Event::Sanitized { from, step: Step::Failed },
    ]
}

fn shared_state() -> SharedState {
    SharedState {
        stamp: Stamp { generation: 3, version: 9, whole: true },
        current: Modes { write_protect: true, descriptor_sense: false, write_cache: Some(true) },
        saved: Modes { write_protect: false, descriptor_sense: true, write_cache: Some(false) },
        reserver: Some(who().handle),
        reservations: Reservations {
            generation: 4,
            aptpl: true,
            registrants: vec![Registrant { nexus: who().name, key: 0xabcd }],
            reservation: Some(Reservation { kind: 5, holder: who().name }),
        },
        sanitize: Sanitize::Idle,
    }
}

#[test]
fn a_sanitize_operation_is_a_part_of_the_state_and_none_adds_no_byte_to_it() {
    let idle = shared_state();
    let at = Position { pass: 4, next: 9 };
    let erase = Order { method: Method::BlockErase, ause: false };
    for sanitize in [
        Sanitize::UnderWay { order: order(), at },
        Sanitize::UnderWay { order: erase, at },
        Sanitize::UnderWay {
            order: Order { method: Method::Format, ause: true },
            at: Position { pass: 0, next: 1 },
        },
        Sanitize::FormatFailed,
        Sanitize::Failed { ause: true },
        Sanitize::Failed { ause: false },
    ] {
        let state = SharedState { sanitize, ..idle.clone() };
        let record = state.encode();
        assert_eq!(SharedState::decode(&record), Ok(state.clone()));
        assert_eq!(record[..idle.encode().len()], idle.encode()[..]);
        assert!(SharedState::decode(&record[..record.len() - 1]).is_err());
        assert!(!state.survives_as(&idle));
        assert_eq!(state.after_power_loss().sanitize, state.sanitize);
    }
}

#[test]
fn mode_parameters_are_one_byte_of_the_state_and_none_adds_a_bit_to_it() {
    let choices = [None, Some(false), Some(true)];
    for (write_protect, descriptor_sense) in [(false, false), (false, true), (true, false), (true, true)] {
        for write_cache in choices {
            let modes = Modes { write_protect, descriptor_sense, write_cache };
            let state = SharedState { current: modes, saved: Modes::default(), ..shared_state() };
            let record = state.encode();
            assert_eq!(SharedState::decode(&record), Ok(state));
            let cache = [0, 4, 12][choices.iter().position(|choice| *choice == write_cache).unwrap()];
            assert_eq!(record[17], u8::from(write_protect) | u8::from(descriptor_sense) << 1 | cache);
            assert_eq!(record[18], 0);
        }
    }
    for bits in [0x08, 0x10, 0x80] {
        let mut record = shared_state().encode().to_vec();
        record[17] = bits;
        assert_eq!(SharedState::decode(&record), Err(FrameError::Content), "{bits:#x}");
    }
}

fn word() -> PeerStatus {
    let lun = LunReport {
        lun: 7,
        main: true,
        serving: true,
        status: 1,
        copied: Some(Copied { percent: 43, seconds_left: Some(90) }),
        commands: 3,
        communication_bytes: 4096,
        reason: Some(0),
    };
    let host = HostReport {
        initiator: "iqn.1993-08.org.debian:host0".into(),
        alias: "host0".into(),
        address: "192.0.2.7:51000".into(),
        portal: "192.0.2.1:3260".into(),
        seconds: 7200,
        commands: 3,
    };
    let idle = LunReport { copied: None, reason: None, ..lun.clone() };
    PeerStatus { luns: vec![lun, idle], reasons: vec!["being refilled".into()], hosts: 62, named: vec![host] }
}

/// Those of the control connection, from the first to the last.
fn control_messages() -> Vec<Message> {
    let hello = Hello {
        versions: (1, 1),
        purpose: Purpose::Control,
        side: 0,
        appliance: 0xfeed,
        incarnation: 0xbeef,
        bridges: 2,
        shared: vec![("appliance.iqn".into(), "iqn.2026-11.com.example:demo".into())],
        rooms: vec![("data0".into(), 131_072)],
        identity: identity(),
    };
    let bridge = Hello {
        purpose: Purpose::Bridge(1),
        shared: vec![],
        rooms: vec![],
        identity: Identity::default(),
        ..hello.clone()
    };
    let standing = CopyReport {
        generation: GENERATION,
        clean: true,
        kept: false,
        copy: CopyFound::Whole,
        known: true,
        device: false,
        starts: None,
        may_go_on: false,
        remembers: false,
    };
    let agreement =
        Agreement { lun: "data0".into(), generation: GENERATION, pairing: Pairing::Whole, create: 0b01 };
    vec![
        Message::Hello(Box::new(hello)),
        Message::Hello(Box::new(bridge)),
        Message::Identity(identity()),
        Message::IdentityDurable,
        Message::CopyReports(vec![("data0".into(), standing)]),
        Message::Agreements(vec![agreement]),
        Message::AgreementsDurable,
        Message::Begin,
        Message::Ping(5),
        Message::Pong(5),
        Message::Goodbye,
        Message::Drained,
        Message::Farewell,
        Message::Switch { generation: GENERATION, pairing: Pairing::Out },
        Message::SwitchDurable(3),
        Message::SwitchBegin(3),
        Message::SwitchBegun(3),
        Message::Copied,
        Message::CopiedDurable,
        Message::PeerStatus(Box::new(word())),
    ]
}

/// Everything that can be forwarded or applied but events.
fn operations() -> [WireOp; 15] {
    [
        WireOp::Read(range(0, 8)),
        WireOp::Write(range(8, 8)),
        WireOp::WriteSame { range: range(1, 2), unmap: false },
        WireOp::WriteSame { range: range(1, 2), unmap: true },
        WireOp::CompareAndWrite(range(5, 1)),
        WireOp::Unmap(vec![range(0, 1), range(9, 3)]),
        WireOp::SynchronizeCache,
        WireOp::WriteAndVerify(range(8, 8)),
        WireOp::Verify(range(8, 8)),
        WireOp::OrWrite(range(8, 8)),
        WireOp::WriteAtomic(range(16, 8)),
        WireOp::Prefetch(range(8, 8)),
        WireOp::StartStop { start: true },
        WireOp::Report { what: Report::LbaStatus { start: Lba(9) }, allocation: 24 },
        WireOp::Report { what: Report::Provisioning { pointer: 2 }, allocation: 512 },
    ]
}

/// Those of the bridges.
fn data_messages() -> Vec<Message> {
    let ops = operations();
    let endings = [
        Ending::Good,
        Ending::Check(Sense::miscompare(300)),
        Ending::Check(Sense::UNAVAILABLE),
        Ending::Check(Sense::sanitize_in_progress(0x8001)),
        Ending::Check(Sense::invalid_cdb_field(2)),
        Ending::Status(Status::Busy),
        Ending::Aborted,
        Ending::Stale,
    ];
    let mut all = vec![
        Message::Order { id: 1, sequence: 2, released: 3 },
        Message::Done { id: 1 },
        Message::Cancel { id: 1 },
        Message::Applied { sequence: 2, good: true },
        Message::Released { released: 3 },
    ];
    all.extend(endings.map(|ending| Message::Ended { id: 4, ending }));
    let attentions = [Recipients::All, Recipients::AllBut(who().handle), Recipients::One(who().name)]
        .map(|whom| Attention { whom, code: Asc(0x29, 0x03) });
    all.extend([
        Message::SharedAsk,
        Message::SharedTold,
        Message::Shared { reset: true, met: false, attentions: attentions.to_vec() },
        Message::SharedTaken { version: 9 },
    ]);
    let forward = |op| Message::Forward { id: 1, age_ms: 20, sent: 7, durable: true, version: 6, op };
    all.extend(ops.iter().cloned().map(forward));
    all.extend(events().into_iter().map(|event| forward(WireOp::Event(Box::new(event)))));
    all.extend(ops.map(|op| Message::Apply { sequence: 2, released: 3, durable: false, op }));
    all
}

fn every_message() -> Vec<Message> {
    [control_messages(), data_messages()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change of these bytes is a change of the protocol: it needs a new version, and the old one still spoken.
#[test]
fn version_1_on_the_wire_is_what_it_was() {
    let golden = include_str!("version_1.hex");
    let now: String =
        every_message().iter().map(|message| hex(&message.encode(7, GENERATION.tag(), &[])) + "\n").collect();
    assert_eq!(now, golden);
}

/// What version 2 added.
fn every_later_message() -> Vec<Message> {
    let start = |number| Start { number, id: 0xbeef };
    let starts = Starts { joint: start(3), coming: start(4) };
    let will = Will { wanted: Wanted::Split, main: Some(1) };
    let generation = Generation { will, ..GENERATION };
    vec![
        Message::Starts(vec![("data0".into(), Told { starts, may_go_on: true, remembers: true })]),
        Message::Leaving,
        Message::Ready,
        Message::Pair(PairCommand::Resync),
        Message::Switch { generation, pairing: Pairing::Out },
    ]
}

#[test]
fn version_2_on_the_wire_is_what_it_was() {
    let later = every_later_message();
    let now: String =
        later.iter().map(|message| hex(&message.encode(7, GENERATION.tag(), &[])) + "\n").collect();
    assert_eq!(now, include_str!("version_2.hex"));
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let payload = Bytes::from_static(b"data");
    for message in every_message().into_iter().chain(every_later_message()) {
        let payload = if message.is_data() { payload.clone() } else { Bytes::new() };
        let head = message.encode(7, GENERATION.tag(), core::slice::from_ref(&payload));
        let (prefix, read) = Message::decode(&head, &payload).unwrap();
        assert_eq!(read, message);
        assert_eq!((prefix.lun, prefix.generation), (7, GENERATION.tag()));
    }
}

#[test]
fn records_come_back_as_they_were_written_and_a_damaged_one_is_no_record() {
    let start = |number| Start { number, id: 7 };
    let groups = vec![GroupRecord {
        lun: "data0".into(),
        generation: GENERATION,
        clean: true,
        flushed: true,
        volume: start(1),
        volume_coming: start(2),
        starts: Starts { joint: start(3), coming: start(4) },
    }];
    let record = GroupRecord::encode_all(&groups);
    assert_eq!(GroupRecord::decode_all(&record), Ok(groups));
    assert!(GroupRecord::decode_all(&record[..record.len() - 1]).is_err());
    assert!(GroupRecord::decode_all_of_first(&record).is_err());
    assert_eq!(Identity::from_record(&identity().to_record()), Ok(identity()));
    let shared = shared_state().encode();
    assert_eq!(SharedState::decode(&shared), Ok(shared_state()));
    assert!(SharedState::decode(&shared[..shared.len() - 1]).is_err());
}

#[test]
fn a_loss_of_power_leaves_saved_pages_and_the_reservations_that_persist_through_it() {
    let state = shared_state();
    let left = state.after_power_loss();
    assert_eq!((left.current, left.reserver), (state.saved, None));
    assert_eq!(left.reservations, Reservations { generation: 0, ..state.reservations.clone() });
    assert!(left.stamp < state.stamp, "what is whole is newer");
    assert!(left.survives_as(&state));
    let mut volatile = state.clone();
    volatile.reservations.aptpl = false;
    assert_eq!(volatile.after_power_loss().reservations, Reservations::default());
    assert!(!volatile.survives_as(&state));
}

/// The largest there may be, so that telling it never costs the control connection much.
#[test]
fn a_word_is_cut_to_its_bound_however_much_there_is_to_say() {
    let long = "x".repeat(60_000);
    let host = HostReport { initiator: long.clone(), alias: long.clone(), ..word().named[0].clone() };
    let lun = word().luns[0].clone();
    let word = PeerStatus {
        luns: (0..2000).map(|lun_number| LunReport { lun: lun_number, ..lun.clone() }).collect(),
        reasons: vec![long; 300],
        hosts: 5000,
        named: vec![host; 5000],
    };
    let head = Message::PeerStatus(Box::new(word)).encode(7, GENERATION.tag(), &[]);
    assert!(head.len() < 48 * 1024, "{} bytes", head.len());
    let Ok((_, Message::PeerStatus(read))) = Message::decode(&head, &[]) else { panic!("it is read again") };
    assert_eq!((read.luns.len(), read.reasons.len(), read.named.len(), read.hosts), (256, 16, 32, 5000));
}

proptest! {
    /// A peer that lies with right checksums meets an error, never a panic or an allocation it chose.
    #[test]
    fn no_body_makes_the_decoder_panic(kind in 0u8..48, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SharedState::decode(&body);
        let prefix = super::Prefix { version: 1, kind, lun: 0, generation: GenerationTag::default() };
        let head = super::frame::encode(prefix, &body, &[]);
        let _ = Message::decode(&head, &[]);
    }

    #[test]
    fn no_damage_makes_the_decoder_panic_or_pass(
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        which in any::<prop::sample::Index>(),
    ) {
        let all = every_message();
        let mut head = all[which.index(all.len())].encode(7, GENERATION.tag(), &[]).to_vec();
        let at = at.index(head.len());
        head[at] ^= 1 << bit;
        prop_assert!(Message::decode(&head, &[]).is_err());
    }
}

#[test]
fn what_is_found_of_a_copy_comes_over_as_it_was_told_and_version_1_hears_only_words_it_knows() {
    let all = [
        CopyFound::Missing,
        CopyFound::Blank,
        CopyFound::Whole,
        CopyFound::Foreign,
        CopyFound::Failed,
        CopyFound::Stale,
        CopyFound::Unreadable,
        CopyFound::Others,
        CopyFound::Unsettled,
    ];
    let standing = |copy| CopyReport {
        generation: GENERATION,
        clean: false,
        kept: true,
        copy,
        known: true,
        device: false,
        starts: None,
        may_go_on: false,
        remembers: false,
    };
    let of = |copies: &[CopyFound]| {
        Message::CopyReports(copies.iter().map(|copy| ("data0".into(), standing(*copy))).collect())
    };
    let told = of(&all);
    let head = told.encode(0, Default::default(), &[]);
    assert_eq!(Message::decode(&head, &Bytes::new()).unwrap().1, told);
    assert!(all.iter().all(|copy| all[..5].contains(&copy.in_version_1())));
}
