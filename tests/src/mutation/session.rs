//! A whole connection under mutated bytes: login, command window, Data-Out, R2T, task management, logout, with a
//! controller that answers at once, later, or never.
//!
//! An input is a list of steps: a byte of flags, a length (two bytes), so many bytes of a PDU. The flags say what is
//! put right again before the host sends it, so that mutations reach beyond the first check; and what happens beside.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use controller::command::{Initiator, LunIndex, NexusId, Outcome, TaskTag};
use controller::time::Time;
use controller::unit::SenseFormats;
use parking_lot::Mutex;
use protocol::iscsi::{BHS_BYTES, Digests, Frame, TargetPdu};
use target::device_server::{self, Request};
use target::iscsi::backend::Backend;
use target::iscsi::connection::Connection;
use target::iscsi::directory::{FrontendConfig, PortalGroup};
use target::iscsi::sessions::Sessions;
use target::transport::Transport;

use super::corpus;

/// The target name that the captured logins ask for.
const IQN: &str = "iqn.2001-04.com.example:disk";

/// Steps of one input at most.
const STEPS_MAX: usize = 256;

/// CmdSN becomes what is due, unless the PDU is immediate.
const IN_ORDER: u8 = 1;
/// DataSegmentLength and TotalAHSLength become what is there, padded.
const WHOLE: u8 = 2;
/// The Target Transfer Tag becomes that of the last R2T.
const SOLICITED: u8 = 4;
/// The task that waits longest is answered.
const ANSWER: u8 = 8;
/// The socket takes nothing until the next step with this flag.
const FULL: u8 = 16;
/// Time passes.
const LATER: u8 = 32;
/// What was sent so far is received in pieces.
const PIECES: u8 = 64;

#[derive(Default)]
struct Socket {
    written: Mutex<BytesMut>,
    full: AtomicBool,
}

impl Transport for Socket {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = self.written.lock();
        pieces.iter().for_each(|piece| written.extend_from_slice(piece));
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn want_writable(&self) {}

    fn shutdown(&self) {}
}

/// Answers a command at once, or keeps it, by its tag.
struct Toy {
    now: RefCell<Time>,
    sessions: Arc<Sessions>,
    kept: RefCell<VecDeque<Request>>,
}

/// What a command comes to: data, if it reads, at most 64 KiB.
fn outcome(request: &Request) -> Outcome {
    let bytes = usize::from(request.cdb[8]) * 256;
    let reads = request.cdb[0] & 2 == 0;
    Outcome::Good(if reads && bytes > 0 { vec![Bytes::from(vec![7; bytes])] } else { Vec::new() })
}

impl Backend for Toy {
    fn sense_formats(&self) -> SenseFormats {
        SenseFormats::default()
    }
    fn now(&self) -> Time {
        *self.now.borrow()
    }

    fn serving(&self) -> bool {
        true
    }

    fn nexus_added(&self, _: NexusId, _: &Initiator) {}

    fn nexus_lost(&self, nexus: NexusId) {
        self.kept.borrow_mut().retain(|request| request.nexus != nexus);
    }

    fn lun(&self, number: u16) -> Option<LunIndex> {
        (number < 2).then_some(LunIndex(number))
    }

    fn luns(&self) -> Vec<LunIndex> {
        vec![LunIndex(0), LunIndex(1)]
    }

    fn reset(&self, _: LunIndex, nexus: NexusId, tag: TaskTag) {
        self.sessions.answer(nexus, tag, Outcome::Good(Vec::new()));
    }

    fn abort(&self, _: LunIndex, nexus: NexusId, tag: TaskTag) {
        let mut kept = self.kept.borrow_mut();
        let at = kept.iter().position(|request| request.nexus == nexus && request.tag == tag);
        if let Some(request) = at.and_then(|at| kept.remove(at)) {
            drop(kept);
            self.sessions.answer(request.nexus, request.tag, Outcome::Aborted);
        }
    }

    fn execute(&self, request: Request) -> Option<Outcome> {
        if request.tag.task() & 1 == 0 {
            return Some(outcome(&request));
        }
        self.kept.borrow_mut().push_back(request);
        None
    }

    fn data_out_bytes(&self) -> fn(&[u8; 16]) -> u64 {
        device_server::data_out_bytes
    }
}

/// The host's side: what it must know to put a PDU right.
#[derive(Default)]
struct Host {
    cmd_sn: Option<u32>,
    transfer_tag: Option<[u8; 4]>,
    /// Bytes of the target that were read.
    answered: usize,
    pdus: usize,
}

impl Host {
    fn put_right(&mut self, flags: u8, pdu: &[u8]) -> Vec<u8> {
        let mut pdu = pdu.to_vec();
        pdu.resize(pdu.len().max(BHS_BYTES), 0);
        if flags & WHOLE != 0 {
            let length = pdu.len() - BHS_BYTES;
            pdu[4] = 0;
            pdu[5..8].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
            pdu.resize(BHS_BYTES + length.next_multiple_of(4), 0);
        }
        let opcode = pdu[0] & 0x3f;
        if flags & SOLICITED != 0
            && let Some(tag) = self.transfer_tag
        {
            pdu[20..24].copy_from_slice(&tag);
        }
        // Data-Out and SNACK have no CmdSN.
        if flags & IN_ORDER != 0 && !matches!(opcode, 5 | 0x10) {
            let sent = u32::from_be_bytes([pdu[24], pdu[25], pdu[26], pdu[27]]);
            let due = *self.cmd_sn.get_or_insert(sent);
            pdu[24..28].copy_from_slice(&due.to_be_bytes());
            let login = opcode == 3;
            if pdu[0] & 0x40 == 0 && !login {
                self.cmd_sn = Some(due.wrapping_add(1));
            }
        }
        pdu
    }

    /// Everything the target says is PDUs of a target.
    fn hear(&mut self, socket: &Socket) -> Result<(), String> {
        let written = socket.written.lock();
        while let Some(bhs) = written.get(self.answered..).and_then(|rest| rest.first_chunk::<BHS_BYTES>()) {
            let pdu = TargetPdu::decode(bhs).map_err(|error| format!("the target sent {error}"))?;
            if let TargetPdu::ReadyToTransfer(ready) = pdu {
                self.transfer_tag = Some(ready.target_transfer_tag.to_be_bytes());
            }
            self.pdus += 1;
            self.answered += Frame::of(bhs, Digests::default()).total_bytes();
        }
        Ok(())
    }
}

fn steps(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    core::iter::from_fn(move || {
        let (head, rest) = input.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]])).min(rest.len());
        let (pdu, rest) = rest.split_at(length);
        input = rest;
        Some((head[0], pdu))
    })
}

pub(super) fn read(input: &[u8]) -> Result<(), String> {
    play(input).map(|_| ())
}

/// How many PDUs the target answers to the whole corpus.
#[cfg(test)]
pub(super) fn answered_by_corpus() -> usize {
    corpus().iter().filter_map(|input| play(input).ok()).max().unwrap_or(0)
}

/// Plays an input and gives how many PDUs the target sent.
fn play(input: &[u8]) -> Result<usize, String> {
    let socket = Arc::new(Socket::default());
    let toy = Toy { now: RefCell::new(Time(0)), sessions: Arc::default(), kept: RefCell::default() };
    let group = PortalGroup { tag: 1, addresses: vec!["127.0.0.1:3260".to_owned()] };
    let directory = FrontendConfig {
        iqn: IQN.to_owned(),
        portal_groups: vec![group],
        own_group: 1,
        access: Default::default(),
    };
    let mut connection = Connection::new(socket.clone(), toy.sessions.clone(), Arc::new(directory), Time(0));
    let mut host = Host::default();
    let mut received = BytesMut::new();
    for (flags, pdu) in steps(input).take(STEPS_MAX) {
        let pdu = host.put_right(flags, pdu);
        let pieces = if flags & PIECES != 0 { 7 } else { pdu.len() };
        let full = flags & FULL != 0;
        let ended = pdu.chunks(pieces).any(|piece| {
            received.extend_from_slice(piece);
            connection.receive(&mut received, &toy).is_err()
        });
        if flags & ANSWER != 0 {
            let request = toy.kept.borrow_mut().pop_front();
            if let Some(request) = request {
                toy.sessions.answer(request.nexus, request.tag, outcome(&request));
            }
        }
        if flags & LATER != 0 {
            let now = *toy.now.borrow() + Duration::from_secs(4);
            *toy.now.borrow_mut() = now;
        }
        let now = *toy.now.borrow();
        if ended || connection.on_tick(now).is_err() {
            break;
        }
        if socket.full.swap(full, Ordering::Relaxed) && !full && connection.on_writable(&toy).is_err() {
            break;
        }
        // With digests only their owner can tell where a PDU ends.
        if !uses_digests(input) {
            host.hear(&socket)?;
        }
    }
    connection.closed(&toy);
    if toy.sessions.list().is_empty() && toy.kept.borrow().is_empty() {
        Ok(host.pdus)
    } else {
        Err("a session is left behind".to_owned())
    }
}

/// Whether digests may have been agreed on.
fn uses_digests(input: &[u8]) -> bool {
    input.windows(6).any(|window| window == b"CRC32C")
}

/// Captured sessions: each login with every other PDU behind it, and all of them in a row.
pub(super) fn corpus() -> Vec<Vec<u8>> {
    let captured = corpus::captured();
    let step = |flags: u8, bhs: &[u8], data: &[u8]| {
        let length = (bhs.len() + data.len()) as u16;
        [&[flags][..], &length.to_be_bytes(), bhs, data].concat()
    };
    let from_host = |pdu: &&corpus::Captured| pdu.bhs[0] & 0x20 == 0;
    let text = |pdu: &corpus::Captured| {
        let text = String::from_utf8_lossy(&pdu.data).replace("CRC32C", "None");
        text.into_bytes()
    };
    let logins: Vec<Vec<u8>> = captured
        .iter()
        .filter(|pdu| pdu.bhs[0] & 0x3f == 3)
        .map(|pdu| step(IN_ORDER | WHOLE, &pdu.bhs, &text(pdu)))
        .collect();
    // Commands first, what they need after them, and the logout last.
    let mut rest: Vec<_> = captured.iter().filter(from_host).filter(|pdu| pdu.data.len() < 2048).collect();
    rest.retain(|pdu| pdu.bhs[0] & 0x3f != 3);
    rest.sort_by_key(|pdu| [1, 5, 0, 2, 4, 6].iter().position(|opcode| *opcode == pdu.bhs[0] & 0x3f));
    let whole: Vec<Vec<u8>> =
        rest.iter().map(|pdu| step(IN_ORDER | WHOLE | SOLICITED | ANSWER, &pdu.bhs, &pdu.data)).collect();
    let mut all = Vec::new();
    for login in &logins {
        all.push(login.clone());
        all.extend(whole.iter().map(|pdu| [&login[..], pdu].concat()));
        all.push([&login[..], &whole.concat()].concat());
    }
    all.retain(|input| input.len() < super::INPUT_BYTES_MAX / 2);
    all
}
