//! Abuse over real TCP, against the built binary: whatever is sent gets the standard's answer or a closed connection,
//! and the session beside it notices nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::pdu::{Digests, FINAL, Header, IMMEDIATE, Pdu, RESERVED_TAG, opcode};
use twinlun_tests::initiator::raw::Raw;
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

/// What the target is to make of an abuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// The connection is closed without another word.
    Closed,
    /// A Reject with this reason, and the session goes on.
    Reject(u8),
    /// A Reject with this reason, and the connection is closed: a format error (7.7).
    Fatal(u8),
    /// A Login Response with this status, and the connection is closed.
    Login(u16),
    /// SCSI status, sense key and additional sense code of tag 1, and the session goes on.
    Status(u8, u8, u16),
    /// GOOD with that many bytes of data.
    Good(usize),
    /// No answer, and the session goes on.
    Nothing,
}

struct Beside {
    appliance: Appliance,
    session: Session,
    round: u8,
}

impl Beside {
    fn start(name: &str) -> Self {
        let lun = Lun { number: 0, mib: 16, main: 0, mirror: false };
        let appliance =
            Appliance::start(name, &[lun], Processes::One).unwrap_or_else(|error| panic!("{error}"));
        let settings = Settings::linux("iqn.1993-08.org.debian:beside", IQN, 1);
        let session = Session::connect(appliance.portals[0], settings).unwrap();
        Self { appliance, session, round: 0 }
    }

    fn portal(&self) -> SocketAddr {
        self.appliance.portals[0]
    }

    /// The session beside the abuse writes and reads what it wrote.
    fn is_undisturbed(&mut self, after: &str) {
        self.round = self.round.wrapping_add(1);
        let data = vec![self.round; 4096];
        let write = Request { lun: 0, cdb: Cdb::write_16(64, 8, false), out: data.clone(), in_bytes: 0 };
        let read = Request { lun: 0, cdb: Cdb::read_16(64, 8), out: Vec::new(), in_bytes: 4096 };
        let written = self.session.execute(&write).unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert!(written.is_good(), "after {after}: {written:?}");
        assert_eq!(self.session.execute(&read).unwrap().data, data, "after {after}");
    }

    fn end(self) {
        self.session.logout().unwrap();
        self.appliance.stop().unwrap();
    }
}

const KEYS: &str = "InitiatorName=iqn.1993-08.org.debian:abuser|TargetName=iqn.2026-11.com.example:tested|";

fn log_in(portal: SocketAddr, keys: &str) -> Raw {
    let mut raw = Raw::log_in(portal, &format!("{KEYS}{keys}"), Digests::default()).unwrap();
    // The unit attention of a new nexus.
    raw.send(command(0x40, 900, 1, &[0; 16], 0), &[]).unwrap();
    assert_eq!(raw.receive().unwrap().unwrap().header.opcode(), opcode::SCSI_RESPONSE);
    raw
}

/// A SCSI Command (11.3): flags R 40h, W 20h; always F and SIMPLE.
fn command(flags: u8, tag: u32, number: u32, cdb: &[u8; 16], expected: u32) -> Header {
    Header::new(opcode::SCSI_COMMAND, FINAL | flags | 1)
        .with_u32(16, tag)
        .with_u32(20, expected)
        .with_u32(24, number)
        .with(32, cdb)
}

fn cdb(bytes: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

fn write_10(blocks: u8) -> [u8; 16] {
    cdb(&[0x2a, 0, 0, 0, 0, 0, 0, 0, blocks, 0])
}

/// True if the session still answers a ping; its tag is 88.
fn answers(raw: &mut Raw) -> bool {
    let ping = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL).with_u32(16, 88).with_u32(20, RESERVED_TAG);
    raw.send(ping, b"still there").unwrap();
    let answer = raw.receive().unwrap();
    answer.is_some_and(|pdu| pdu.header.opcode() == opcode::NOP_IN && pdu.data == b"still there")
}

fn judge(raw: &mut Raw, expected: Expected, name: &str) {
    let next = |raw: &mut Raw| raw.receive().unwrap_or_else(|error| panic!("{name}: {error}"));
    let rejected = |pdu: Option<Pdu>, reason| {
        let pdu = pdu.unwrap_or_else(|| panic!("{name}: closed"));
        assert_eq!((pdu.header.opcode(), pdu.header.0[2]), (opcode::REJECT, reason), "{name}");
        assert!(pdu.data.len() >= 48, "{name}: the header comes back");
    };
    let goes_on = match expected {
        Expected::Closed => {
            assert!(next(raw).is_none(), "{name}");
            false
        }
        Expected::Reject(reason) => {
            rejected(next(raw), reason);
            true
        }
        Expected::Fatal(reason) => {
            rejected(next(raw), reason);
            assert!(next(raw).is_none(), "{name}");
            false
        }
        Expected::Login(status) => {
            let pdu = next(raw).unwrap_or_else(|| panic!("{name}: closed"));
            let found = u16::from_be_bytes([pdu.header.0[36], pdu.header.0[37]]);
            assert_eq!((pdu.header.opcode(), found), (opcode::LOGIN_RESPONSE, status), "{name}");
            assert!(next(raw).is_none(), "{name}");
            false
        }
        Expected::Status(status, key, code) => {
            let pdu = next(raw).unwrap_or_else(|| panic!("{name}: closed"));
            let sense = pdu.data.get(2..).unwrap_or_default();
            let found = sense
                .get(13)
                .map_or((0, 0), |_| (sense[2] & 0x0f, u16::from_be_bytes([sense[12], sense[13]])));
            assert_eq!((pdu.header.tag(), pdu.header.0[3], found), (1, status, (key, code)), "{name}");
            true
        }
        Expected::Good(bytes) => {
            let pdu = next(raw).unwrap_or_else(|| panic!("{name}: closed"));
            assert_eq!((pdu.header.tag(), pdu.header.0[3], pdu.data.len()), (1, 0, bytes), "{name}");
            true
        }
        Expected::Nothing => true,
    };
    if goes_on {
        assert!(answers(raw), "{name}: the session goes on");
    }
}

#[test]
fn abuse_before_and_during_login_is_answered_and_disturbs_nobody() {
    let mut beside = Beside::start("abuse-login");
    let login = |flags| Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, flags);
    let bytes = |header: Header| header.0.to_vec();
    let oversized = bytes(login(0x87).with(5, &[0xff, 0xff, 0xff]));
    let with_ahs = [bytes(login(0x87).with(4, &[255])), vec![0; 1020]].concat();
    let cases: [(&str, Vec<u8>, Expected); 12] = [
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n..............".to_vec(),
            Expected::Closed,
        ),
        ("nothing but FFh", vec![0xff; 48], Expected::Closed),
        ("nothing but 00h", vec![0; 48], Expected::Login(0x020b)),
        ("a login longer than a login may be", oversized, Expected::Closed),
        ("a login with additional header segments", with_ahs, Expected::Login(0x0200)),
        ("a command before the login", bytes(command(0x40, 1, 1, &[0; 16], 0)), Expected::Login(0x020b)),
        ("a reserved stage", bytes(login(0x80 | 2 << 2 | 3)), Expected::Login(0x0200)),
        ("from full feature phase", bytes(login(0x80 | 3 << 2 | 3)), Expected::Login(0x0200)),
        ("T and C", bytes(login(0xc7)), Expected::Login(0x0200)),
        ("an unknown version", bytes(login(0x87).with(2, &[9, 9])), Expected::Login(0x0205)),
        ("a handle of nobody", bytes(login(0x87).with(14, &[0x12, 0x34])), Expected::Login(0x020a)),
        ("no name", bytes(login(0x87)), Expected::Login(0x0207)),
    ];
    for (name, sent, expected) in cases {
        let mut raw = Raw::connect(beside.portal()).unwrap();
        raw.send_bytes(&sent).unwrap();
        // What is too short to be judged ends with the connection.
        raw.half_close().unwrap();
        judge(&mut raw, expected, name);
        beside.is_undisturbed(name);
    }
    for (name, keys, status) in [
        ("a name twice", format!("{KEYS}InitiatorName=iqn.b|"), 0x0200),
        ("no pair", format!("{KEYS}nonsense|"), 0x0200),
        ("an answer as an offer", format!("{KEYS}InitialR2T=Reject|"), 0x0200),
        ("a declaration out of bounds", format!("{KEYS}MaxRecvDataSegmentLength=1|"), 0x0200),
        ("a key of the wrong stage", format!("{KEYS}SendTargets=All|"), 0x0200),
        ("a key of targets", format!("{KEYS}TargetPortalGroupTag=1|"), 0x0200),
        ("65 keys", format!("{KEYS}{}", (0..65).map(|n| format!("X-{n}=1|")).collect::<String>()), 0x0200),
        ("a value of 256 bytes", format!("{KEYS}X-a={}|", "v".repeat(256)), 0x0200),
        ("another target", "InitiatorName=iqn.a|TargetName=iqn.b|".to_owned(), 0x0203),
        ("an odd session", "InitiatorName=iqn.a|SessionType=Odd|".to_owned(), 0x0209),
    ] {
        let mut raw = Raw::connect(beside.portal()).unwrap();
        raw.send(login(0x87).with_u32(24, 1), keys.replace('|', "\0").as_bytes()).unwrap();
        judge(&mut raw, Expected::Login(status), name);
        beside.is_undisturbed(name);
    }
    beside.end();
}

#[test]
fn abuse_in_full_feature_phase_is_answered_and_disturbs_nobody() {
    let mut beside = Beside::start("abuse-session");
    let tmf = |flags, tag| {
        Header::new(opcode::TASK_MANAGEMENT_REQUEST | IMMEDIATE, FINAL | flags).with_u32(16, tag)
    };
    let text =
        |flags, transfer_tag| Header::new(opcode::TEXT_REQUEST | IMMEDIATE, flags).with_u32(20, transfer_tag);
    let data_out = Header::new(opcode::DATA_OUT, FINAL).with_u32(20, RESERVED_TAG);
    let read = command(0x40, 1, 2, &cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), 512);
    let cases: [(&str, Header, &[u8], Expected); 23] = [
        ("a vendor's opcode", Header::new(0x1e, FINAL), b"", Expected::Reject(0x05)),
        ("an unassigned opcode", Header::new(0x0f, FINAL), b"", Expected::Reject(0x05)),
        ("an opcode of targets", Header::new(0x3f, FINAL), b"", Expected::Reject(0x05)),
        ("another login", Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x87), b"", Expected::Reject(0x04)),
        ("a SNACK", Header::new(0x10, FINAL | 1), b"", Expected::Reject(0x03)),
        ("a reserved SNACK", Header::new(0x10, FINAL | 9), b"", Expected::Fatal(0x04)),
        ("a reserved attribute", read.with(1, &[FINAL | 0x40 | 7]), b"", Expected::Fatal(0x04)),
        ("neither W nor F", read.with(1, &[0x40]), b"", Expected::Fatal(0x09)),
        ("a length without a direction", read.with(1, &[FINAL]), b"", Expected::Fatal(0x09)),
        ("the reserved tag", read.with_u32(16, RESERVED_TAG), b"", Expected::Reject(0x09)),
        ("below the window", read.with_u32(24, 0x8000_0000), b"", Expected::Nothing),
        ("above the window", read.with_u32(24, 2 + 128), b"", Expected::Nothing),
        ("the attribute ACA", read.with(1, &[FINAL | 0x44]), b"", Expected::Status(2, 5, 0x4900)),
        ("NACA", read.with(41, &[4]), b"", Expected::Status(2, 5, 0x2400)),
        ("a unit that does not exist", read.with(9, &[99]), b"", Expected::Status(2, 5, 0x2500)),
        ("immediate data of a read", read, &[0; 16], Expected::Status(2, 0xb, 0x0c0c)),
        ("Data-Out of nobody", data_out.with_u32(16, 5), b"data", Expected::Reject(0x09)),
        ("a function with the reserved tag", tmf(2, RESERVED_TAG), b"", Expected::Reject(0x09)),
        ("a function with data", tmf(2, 7), b"data", Expected::Fatal(0x09)),
        ("a text of no exchange", text(FINAL, 77), b"", Expected::Reject(0x09)),
        ("a final text that goes on", text(0xc0, RESERVED_TAG), b"", Expected::Fatal(0x09)),
        ("a text that is none", text(FINAL, RESERVED_TAG), b"nonsense\0", Expected::Reject(0x04)),
        (
            "a logout for no reason",
            Header::new(opcode::LOGOUT_REQUEST | IMMEDIATE, FINAL | 9),
            b"",
            Expected::Fatal(0x04),
        ),
    ];
    for (name, header, data, expected) in cases {
        let mut raw = log_in(beside.portal(), "");
        raw.send(header, data).unwrap();
        judge(&mut raw, expected, name);
        beside.is_undisturbed(name);
    }
    let mut raw = log_in(beside.portal(), "");
    raw.send_bytes(&Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL).with(5, &[4, 0, 1]).0).unwrap();
    judge(&mut raw, Expected::Closed, "a segment longer than was agreed");
    let mut raw = log_in(beside.portal(), "");
    raw.send_bytes(&read.with(4, &[1]).0).unwrap();
    raw.send_bytes(&[0, 9, 1, 0]).unwrap();
    judge(&mut raw, Expected::Fatal(0x04), "an additional header segment longer than it is");
    let mut raw = log_in(beside.portal(), "");
    raw.send_bytes(&read.0[..47]).unwrap();
    raw.half_close().unwrap();
    judge(&mut raw, Expected::Closed, "half a header, then the end");
    beside.is_undisturbed("torn PDUs");
    beside.end();
}

type Lying = (&'static str, [u8; 16], Vec<u8>, Expected);

/// MODE SELECT (SPC-4 6.11) with lists that are not what they or their CDBs say.
fn lying_mode_lists() -> [Lying; 6] {
    let six = |bytes: u8| cdb(&[0x15, 0x10, 0, 0, bytes]);
    let ten = |bytes: u16| cdb(&[0x55, 0x10, 0, 0, 0, 0, 0, (bytes >> 8) as u8, bytes as u8]);
    let length = Expected::Status(2, 5, 0x1a00);
    let field = Expected::Status(2, 5, 0x2600);
    [
        ("a MODE SELECT list that is not all there", six(0xff), vec![0; 24], length),
        ("a MODE SELECT (10) list of 64 KiB that is not there", ten(0xffff), vec![0; 8], length),
        ("a block descriptor longer than its list", six(4), vec![0, 0, 0, 0xf8], length),
        ("half a page", six(7), vec![0, 0, 0, 0, 0x08, 0x12, 0x04], length),
        ("a page that there is not", six(6), vec![0, 0, 0, 0, 0x3c, 0], field),
        (
            "bits that cannot be changed",
            six(24),
            [&[0, 0, 0, 0, 0x08, 0x12][..], &[0xff; 18]].concat(),
            field,
        ),
    ]
}

/// PERSISTENT RESERVE OUT (SPC-4 6.16), likewise.
fn lying_keys() -> [Lying; 5] {
    let out = |action: u8, bytes: u32| {
        let mut cdb = cdb(&[0x5f, action, 0x05]);
        cdb[5..9].copy_from_slice(&bytes.to_be_bytes());
        cdb
    };
    // Keys, then what the action takes, then a TransportID whose length lies.
    let list = |flags: u8, moved: [u8; 4], ids: &[u8]| {
        let mut list = vec![7; 16];
        list.extend_from_slice(&[0, 0, 0, 0]);
        list.extend_from_slice(&if flags == 0 { moved } else { [flags, 0, 0, 0] });
        list.extend_from_slice(ids);
        list
    };
    let id = [&[0x45, 0, 0xff, 0xff][..], b"iqn.a,i,0x0123456789\0"].concat();
    let registered = [&[0, 0, 0, id.len() as u8][..], &id].concat();
    let length = Expected::Status(2, 5, 0x1a00);
    let field = Expected::Status(2, 5, 0x2600);
    [
        ("keys of 23 bytes", out(0, 23), vec![0; 23], length),
        ("keys that are not all there", out(0, 24), vec![0; 8], length),
        ("keys of 4 GiB", out(0, u32::MAX), vec![0; 24], length),
        ("a TransportID longer than its list", out(0, 24 + 4 + 25), list(0x08, [0; 4], &registered), field),
        ("a move to a TransportID longer than its list", out(7, 24 + 25), list(0, [0, 0, 0, 25], &id), field),
    ]
}

#[test]
fn a_host_that_sends_a_byte_at_a_time_is_served_and_disturbs_nobody() {
    let mut beside = Beside::start("abuse-drip");
    let keys = format!("{KEYS}ImmediateData=Yes|").replace('|', "\0");
    let login = Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x87).with(8, &[0x80, 0, 0, 1, 2, 3]);
    let drip = |raw: &mut Raw, beside: &mut Beside, header: Header, data: &[u8]| {
        let mut bytes = Vec::new();
        twinlun_tests::initiator::pdu::encode(&mut bytes, header, data, Digests::default());
        for (at, byte) in bytes.iter().enumerate() {
            raw.send_bytes(&[*byte]).unwrap();
            // The target sees each part alone: whatever it does for it is done when the other host has its answer.
            if at < 64 || at % 16 == 0 {
                beside.is_undisturbed("a byte of many");
            }
        }
    };
    let mut raw = Raw::connect(beside.portal()).unwrap();
    drip(&mut raw, &mut beside, login.with_u32(24, 1), keys.as_bytes());
    let answer = raw.receive().unwrap().unwrap();
    assert_eq!((answer.header.opcode(), answer.header.0[36]), (opcode::LOGIN_RESPONSE, 0));
    drip(&mut raw, &mut beside, command(0x40, 900, 1, &[0; 16], 0), &[]);
    raw.receive().unwrap().unwrap();
    drip(&mut raw, &mut beside, command(0x20, 1, 2, &write_10(1), 512), &[9; 512]);
    judge(&mut raw, Expected::Good(0), "a write, a byte at a time");
    let read_10 = cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]);
    raw.send(command(0x40, 1, 3, &read_10, 512), &[]).unwrap();
    assert_eq!(raw.receive().unwrap().unwrap().data, [9; 512]);
    beside.end();
}

#[test]
fn lying_lengths_and_parameter_lists_are_answered() {
    let mut beside = Beside::start("abuse-lengths");
    let unmap = |bytes: u16| cdb(&[0x42, 0, 0, 0, 0, 0, 0, (bytes >> 8) as u8, bytes as u8]);
    let lying = [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 16]].concat();
    let nothing = Expected::Good(0);
    // Without data: allocation length 0 is no error (SPC-4 4.3.5.6).
    for (name, bytes, expected) in [
        ("MODE SENSE (6)", &[0x1a, 0, 0x3f, 0, 0][..], nothing),
        ("MODE SENSE (10)", &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 0], nothing),
        ("INQUIRY", &[0x12, 0, 0, 0, 0], nothing),
        ("INQUIRY of a page", &[0x12, 1, 0x83, 0, 0], nothing),
        ("REQUEST SENSE", &[0x03, 0, 0, 0, 0], nothing),
        // Below 16 it is one (SPC-4 6.33).
        ("REPORT LUNS", &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Expected::Status(2, 5, 0x2400)),
        ("READ CAPACITY (16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], nothing),
        ("READ (10) of no blocks", &[0x28, 0, 0, 0, 0, 0, 0, 0, 0], nothing),
    ] {
        for (flags, expected_length) in [(0, 0), (0x40, 0), (0x40, 4096)] {
            let mut raw = log_in(beside.portal(), "");
            raw.send(command(flags, 1, 2, &cdb(bytes), expected_length), &[]).unwrap();
            judge(&mut raw, expected, name);
        }
    }
    let unmap_lists = [
        ("an UNMAP list longer than it is", unmap(24), lying, Expected::Status(2, 5, 0x1a00)),
        ("an UNMAP list of 7 bytes", unmap(7), vec![0; 7], Expected::Status(2, 5, 0x1a00)),
        ("an UNMAP list that is not all there", unmap(0xffff), vec![0; 24], Expected::Status(2, 5, 0x1a00)),
    ];
    for (name, cdb, data, expected) in unmap_lists.into_iter().chain(lying_mode_lists()).chain(lying_keys()) {
        let mut raw = log_in(beside.portal(), "");
        raw.send(command(0x20, 1, 2, &cdb, data.len() as u32), &data).unwrap();
        judge(&mut raw, expected, name);
        beside.is_undisturbed(name);
    }
    // More expected than any command yields, less than it yields, and more data than it takes.
    let read_10 = cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 8]);
    for (expected_length, bytes) in [(u32::MAX, 4096), (512, 512), (1, 1)] {
        let mut raw = log_in(beside.portal(), "");
        raw.send(command(0x40, 1, 2, &read_10, expected_length), &[]).unwrap();
        judge(&mut raw, Expected::Good(bytes), "a length that lies");
    }
    let mut raw = log_in(beside.portal(), "");
    raw.send(command(0x20, 1, 2, &write_10(1), 4096), &[3; 4096]).unwrap();
    judge(&mut raw, Expected::Good(0), "more data than blocks");
    beside.is_undisturbed("lying lengths");
    beside.end();
}

#[test]
fn data_out_in_the_wrong_place_ends_its_command_only() {
    let mut beside = Beside::start("abuse-data-out");
    let cases: [(&str, u32, u32, usize, u8); 5] = [
        ("the wrong offset", 0, 512, 1024, FINAL),
        ("an offset that overflows", 0, u32::MAX - 3, 1024, FINAL),
        ("too much", 0, 0, 1536, FINAL),
        ("too little", 0, 0, 512, FINAL),
        ("the wrong DataSN", 7, 0, 1024, FINAL),
    ];
    for (name, data_sn, offset, length, flags) in cases {
        let mut raw = log_in(beside.portal(), "ImmediateData=No|");
        raw.send(command(0x20, 1, 2, &write_10(2), 1024), &[]).unwrap();
        let r2t = raw.receive().unwrap().unwrap();
        assert_eq!(r2t.header.opcode(), opcode::R2T);
        let data = Header::new(opcode::DATA_OUT, flags)
            .with_u32(16, 1)
            .with(20, &r2t.header.0[20..24])
            .with_u32(36, data_sn)
            .with_u32(40, offset);
        raw.send(data, &vec![0xee; length]).unwrap();
        let code = if data_sn == 0 { 0x0c0d } else { 0x4705 };
        judge(&mut raw, Expected::Status(2, 0xb, code), name);
        beside.is_undisturbed(name);
    }
    beside.end();
}

#[test]
fn wrong_digests_cost_what_they_cover() {
    let mut beside = Beside::start("abuse-digests");
    let both = Digests { header: true, data: true };
    let log_in = |portal| {
        let keys = format!("{KEYS}HeaderDigest=CRC32C|DataDigest=CRC32C|");
        let mut raw = Raw::log_in(portal, &keys, both).unwrap();
        raw.send(command(0x40, 900, 1, &[0; 16], 0), &[]).unwrap();
        raw.receive().unwrap().unwrap();
        raw
    };
    let mut ping = Vec::new();
    let header = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL).with_u32(16, 5).with_u32(20, RESERVED_TAG);
    twinlun_tests::initiator::pdu::encode(&mut ping, header, b"ping", both);
    for (at, expected) in
        [(10, Expected::Closed), (49, Expected::Closed), (53, Expected::Reject(2)), (57, Expected::Reject(2))]
    {
        let mut raw = log_in(beside.portal());
        let mut wrong = ping.clone();
        wrong[at] ^= 0x10;
        raw.send_bytes(&wrong).unwrap();
        judge(&mut raw, expected, &format!("byte {at}"));
        beside.is_undisturbed("a wrong digest");
    }
    beside.end();
}

#[test]
fn floods_of_half_open_logins_and_slow_hosts_keep_nobody_out_and_memory_is_bounded() {
    let mut beside = Beside::start("abuse-floods");
    let before = beside.appliance.memory().unwrap();
    let mut flood = Vec::new();
    for n in 0..600_usize {
        let mut raw = Raw::connect(beside.portal()).unwrap();
        // Some say nothing, some a part of a header, some a part of a long login.
        let login = Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x40 | 1 << 2).with(5, &[0, 0x20, 0]);
        let _closed_already = raw.send_bytes(&login.0[..[0, 13, 48][n % 3]]);
        flood.push(raw);
        if n % 100 == 99 {
            beside.is_undisturbed("half-open logins");
            drop(log_in(beside.portal(), ""));
        }
    }
    // Hosts that ask to write and never send: each gets R2Ts for its own share, and more from what all share.
    let mut hoarders = Vec::new();
    for n in 0..16_u8 {
        let keys = format!("InitiatorName=iqn.hoarder{n}|TargetName={IQN}|");
        let mut raw = Raw::log_in(beside.portal(), &keys, Digests::default()).unwrap();
        for number in 1..=100 {
            let write = cdb(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0]);
            raw.send(command(0x20, number, number, &write, 0x4000 * 512), &[]).unwrap();
        }
        hoarders.push(raw);
        beside.is_undisturbed("R2Ts that are not answered");
    }
    let each = beside.appliance.memory().unwrap().saturating_sub(before) / 616;
    assert!(each < 256 * 1024, "{each} bytes for each that does not pay");
    drop((flood, hoarders));
    beside.is_undisturbed("floods");
    beside.end();
}

#[test]
fn idle_sessions_cost_less_than_64_kib_each() {
    const SESSIONS: u16 = 300;
    let mut beside = Beside::start("abuse-idle");
    let log_in = |number: u16| {
        let settings = Settings::linux(&format!("iqn.1993-08.org.debian:idle{number}"), IQN, number);
        let mut session = Session::connect(beside.appliance.portals[0], settings).unwrap();
        let read = Request { lun: 0, cdb: Cdb::read_16(0, 8), out: Vec::new(), in_bytes: 4096 };
        assert!(session.execute(&read).unwrap().is_good());
        session
    };
    let first = log_in(1000);
    let before = beside.appliance.memory().unwrap();
    let sessions = (0..SESSIONS).map(log_in).collect::<Vec<_>>();
    let each = beside.appliance.memory().unwrap().saturating_sub(before) / u64::from(SESSIONS);
    assert!(each < 64 * 1024, "{each} bytes each");
    beside.is_undisturbed("many sessions");
    drop((first, sessions));
    beside.end();
}

/// NOP-Outs that answer pings nobody sent: nothing is to be done for them but to read them.
#[test]
fn hosts_that_send_as_fast_as_they_can_keep_no_other_host_and_not_the_peer_waiting() {
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    let lun = Lun { number: 0, mib: 16, main: 0, mirror: true };
    let appliance = Appliance::start("fast-hosts", &[lun], Processes::Two).unwrap();
    let settings = Settings::linux("iqn.1993-08.org.debian:beside", IQN, 1);
    let mut session = Session::connect(appliance.portals[0], settings).unwrap();
    let read = Request { lun: 0, cdb: Cdb::read_16(64, 8), out: Vec::new(), in_bytes: 4096 };
    let _unit_attention = session.execute(&read).unwrap();
    let nop = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL)
        .with_u32(16, RESERVED_TAG)
        .with_u32(20, RESERVED_TAG)
        .with_u32(24, 1);
    let nops: Arc<[u8]> = nop.0.repeat(20_000).into();
    let log_in = |host: usize| {
        let keys = format!("InitiatorName=iqn.fast{host}|TargetName={IQN}|");
        Raw::log_in(appliance.portals[0], &keys, Digests::default()).unwrap()
    };
    for mut raw in (0..40).map(log_in).collect::<Vec<_>>() {
        let nops = Arc::clone(&nops);
        // Until the appliance is gone: nobody waits for it.
        thread::spawn(move || while raw.send_bytes(&nops).is_ok() {});
    }
    let (begun, mut worst) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(15) {
        let asked = Instant::now();
        let answered = session.execute(&read).is_ok_and(|response| response.is_good());
        worst = worst.max(asked.elapsed());
        assert!(answered && worst < Duration::from_secs(1), "a read of 4 KiB took {worst:?}");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!appliance.logs().contains("does not get on"), "{}", appliance.logs());
}
