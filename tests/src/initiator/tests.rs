//! The initiator against a scripted target.

use super::*;
use crate::initiator::pdu::{decode, encode};

fn settings() -> Settings {
    Settings {
        first_cmd_sn: 0xffff_ffff,
        ..Settings::linux("iqn.1993-08.org.debian:a", "iqn.2026-11.com.example:demo", 1)
    }
}

/// A response with StatSN, ExpCmdSN and MaxCmdSN.
fn from_target(opcode: u8, flags: u8, tag: u32, sn: [u32; 3]) -> Header {
    Header::new(opcode, flags).with_u32(16, tag).with_u32(24, sn[0]).with_u32(28, sn[1]).with_u32(32, sn[2])
}

fn feed(initiator: &mut Initiator, header: Header, data: &[u8]) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    encode(&mut bytes, header, data, Digests::default());
    bytes.chunks(7).try_for_each(|piece| initiator.input(piece))
}

fn sent(initiator: &mut Initiator) -> Vec<Pdu> {
    let bytes = initiator.output();
    let mut at = 0;
    let mut pdus = Vec::new();
    while let Some((pdu, length)) = decode(&bytes[at..], Digests::default()).unwrap() {
        at += length;
        pdus.push(pdu);
    }
    assert_eq!(at, bytes.len());
    pdus
}

/// Logged in with a window of two commands: CmdSN ffffffffh and 0.
fn logged_in(keys: &str) -> Initiator {
    let mut initiator = Initiator::new(settings());
    let request = sent(&mut initiator).remove(0);
    assert_eq!((request.header.0[0], request.header.0[1]), (0x43, 0x87));
    assert!(request.data.starts_with(b"InitiatorName=iqn.1993-08.org.debian:a\0TargetName="));
    let answer = from_target(opcode::LOGIN_RESPONSE, 0x87, 0, [100, 0xffff_ffff, 0]).with(14, &[0, 1]);
    feed(&mut initiator, answer, keys.as_bytes()).unwrap();
    assert_eq!(initiator.event(), Some(Event::LoggedIn));
    initiator
}

const KEYS: &str =
    "InitialR2T=Yes\0MaxRecvDataSegmentLength=1024\0MaxBurstLength=2048\0FirstBurstLength=512\0";

fn write(bytes: usize) -> Request {
    let out = (0..bytes).map(|n| n as u8).collect();
    Request { lun: 0, cdb: Cdb::write_10(0, (bytes / 512) as u16, false), out, in_bytes: 0 }
}

fn read(bytes: u32) -> Request {
    Request { lun: 0, cdb: Cdb::read_10(0, (bytes / 512) as u16), out: Vec::new(), in_bytes: bytes }
}

#[test]
fn a_write_sends_immediate_data_and_then_what_each_r2t_asks_for() {
    let mut initiator = logged_in(KEYS);
    let tag = initiator.command(write(3072));
    let command = sent(&mut initiator).remove(0);
    assert_eq!((command.header.0[0], command.header.0[1], command.data.len()), (0x01, 0xa1, 512));
    let r2t = |sn, offset, length| {
        from_target(opcode::R2T, FINAL, tag, [101, 0, 1])
            .with_u32(20, 9)
            .with_u32(36, sn)
            .with_u32(40, offset)
            .with_u32(44, length)
    };
    feed(&mut initiator, r2t(0, 512, 2048), &[]).unwrap();
    let data = sent(&mut initiator);
    let shape: Vec<_> =
        data.iter().map(|pdu| (pdu.header.0[1], pdu.header.u32(36), pdu.header.u32(40))).collect();
    assert_eq!(shape, [(0, 0, 512), (FINAL, 1, 1536)]);
    feed(&mut initiator, r2t(1, 2560, 512), &[]).unwrap();
    assert_eq!(sent(&mut initiator).remove(0).data, write(3072).out[2560..]);
    let response = from_target(opcode::SCSI_RESPONSE, FINAL, tag, [101, 0, 1]);
    feed(&mut initiator, response, &[]).unwrap();
    assert!(matches!(initiator.event(), Some(Event::Completed { response, .. }) if response.is_good()));
    assert_eq!(initiator.outstanding(), 0);
}

#[test]
fn unsolicited_data_follows_the_command_when_the_target_allows_it() {
    let mut initiator = logged_in("InitialR2T=No\0MaxRecvDataSegmentLength=1024\0FirstBurstLength=2048\0");
    initiator.command(write(4096));
    let shape: Vec<_> =
        sent(&mut initiator).iter().map(|pdu| (pdu.header.0[0], pdu.header.0[1], pdu.data.len())).collect();
    assert_eq!(shape, [(0x01, 0x21, 1024), (0x05, FINAL, 1024)]);
}

#[test]
fn commands_wait_for_the_window_to_open_and_numbers_wrap() {
    let mut initiator = logged_in(KEYS);
    let tags: Vec<_> = (0..3).map(|_| initiator.command(read(512))).collect();
    let numbers: Vec<_> = sent(&mut initiator).iter().map(|pdu| pdu.header.u32(24)).collect();
    assert_eq!(numbers, [0xffff_ffff, 0]);
    let data = from_target(opcode::DATA_IN, 0x81, tags[0], [101, 0, 1]);
    feed(&mut initiator, data, &[1; 512]).unwrap();
    assert_eq!(sent(&mut initiator)[0].header.u32(24), 1);
}

#[test]
fn sense_data_reaches_the_response() {
    let mut initiator = logged_in(KEYS);
    let tag = initiator.command(read(512));
    let header = from_target(opcode::SCSI_RESPONSE, 0x82, tag, [101, 0, 1]).with(3, &[2]).with_u32(44, 512);
    let mut data = vec![0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0];
    data.resize(20, 0);
    feed(&mut initiator, header, &data).unwrap();
    let Some(Event::Completed { response, .. }) = initiator.event() else { panic!("no response") };
    assert_eq!((response.code(), response.residual), ((6, 0x29, 0), Residual::Underflow(512)));
}

#[test]
fn a_ping_of_the_target_is_answered_with_its_tag() {
    let mut initiator = logged_in(KEYS);
    let ping = from_target(opcode::NOP_IN, FINAL, RESERVED_TAG, [101, 0, 1]).with_u32(20, 77);
    feed(&mut initiator, ping, &[]).unwrap();
    let answer = sent(&mut initiator).remove(0).header;
    assert_eq!((answer.0[0], answer.tag(), answer.u32(20)), (0x40, RESERVED_TAG, 77));
}

#[test]
fn a_refused_login_tells_its_status() {
    let mut initiator = Initiator::new(settings());
    let answer = Header::new(opcode::LOGIN_RESPONSE, 0).with(36, &[3, 1]);
    feed(&mut initiator, answer, &[]).unwrap();
    assert_eq!(initiator.event(), Some(Event::LoginFailed { class: 3, detail: 1 }));
}

#[test]
fn what_the_rfc_does_not_allow_is_a_fault() {
    let data_in = |flags, sn| from_target(opcode::DATA_IN, flags, 1, [101, 0, 1]).with_u32(36, sn);
    let r2t = from_target(opcode::R2T, FINAL, 1, [101, 0, 1]).with_u32(20, 9);
    let task = |what| Fault::Task { tag: 1, what };
    let rows: [(Header, usize, Fault); 10] = [
        (data_in(0x81, 1), 512, task("DataSN is out of order")),
        (data_in(0x81, 0).with_u32(40, 512), 512, task("Data-In out of order")),
        (data_in(0x81, 0), 1024, task("more Data-In than asked for")),
        (data_in(0x81, 0), 256, task("the residual count does not explain the length of the data")),
        (r2t.with_u32(40, 0).with_u32(44, 512), 0, task("an R2T out of order or past the data")),
        (r2t, 0, task("an R2T for nothing or for more than MaxBurstLength")),
        (
            from_target(opcode::SCSI_RESPONSE, 0x80, 1, [102, 0, 1]),
            0,
            Fault::StatSn { expected: 101, found: 102 },
        ),
        (from_target(opcode::SCSI_RESPONSE, 0x80, 1, [101, 5, 3]), 0, Fault::Window { expected: 5, max: 3 }),
        (from_target(opcode::SCSI_RESPONSE, 0x80, 8, [101, 0, 1]), 0, Fault::UnknownTask(8)),
        (from_target(0x3d, 0x80, 1, [101, 0, 1]), 0, Fault::Opcode(0x3d)),
    ];
    for (header, bytes, fault) in rows {
        let mut initiator = logged_in(KEYS);
        assert_eq!(initiator.command(read(512)), 1);
        assert_eq!(feed(&mut initiator, header, &vec![0; bytes]), Err(fault));
    }
}
