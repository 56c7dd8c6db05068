//! PDUs that are wrong, of no use or in the wrong place, before, during and after the login.

use twinlun_tests::initiator::pdu::{Digests, FINAL, Header, IMMEDIATE, RESERVED_TAG, opcode};
use twinlun_tests::initiator::raw::Raw;

use crate::{Beside, Expected, KEYS, cdb, command, judge, log_in, write_10};

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
