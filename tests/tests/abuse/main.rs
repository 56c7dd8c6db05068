//! Abuse over real TCP, against the built binary: whatever is sent gets the standard's answer or a closed connection,
//! and the session beside it notices nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod floods;
mod lengths;
mod pdus;

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
