//! The load itself: keeps `depth` commands under way on one connection, reads whatever has come in one piece,
//! and answers it with everything there is to send in one piece.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::session::{Error, Session};
use super::wire::{DATA_IN, DATA_OUT, FINAL, Header, NOP_IN, R2T, READ, SCSI_RESPONSE, WRITE, transfer_cdb};

/// Received at once at most; larger than what a socket usually holds, small enough for the cache.
const RECEIVE_BYTES: usize = 512 * 1024;

/// SCSI statuses (SAM-5 section 5.3.1).
const GOOD: u8 = 0x00;
const BUSY: u8 = 0x08;
const TASK_SET_FULL: u8 = 0x28;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) write: bool,
    pub(crate) random: bool,
    /// Bytes of one command.
    pub(crate) bytes: u32,
    /// Commands under way at once.
    pub(crate) depth: u32,
    /// Bytes of the LUN to touch; zero: all.
    pub(crate) span: u64,
    /// Until when; none: so many commands.
    pub(crate) until: Option<Instant>,
    /// How many commands without `until`; none: every block of the span once.
    pub(crate) commands: Option<u64>,
    /// Commands begun earlier are not counted.
    pub(crate) count_from: Instant,
    pub(crate) seed: u64,
}

/// What happened.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    /// BUSY and TASK SET FULL; such commands are sent again and not counted.
    pub(crate) refused: u64,
    pub(crate) latency: Histogram,
}

/// One connection under load.
pub(crate) struct Driver {
    session: Session,
    load: Load,
    /// Places on the LUN, each `load.bytes` long, and blocks of one.
    places: u64,
    blocks: u32,
    next: u64,
    /// Commands to begin yet, without `load.until`.
    left: u64,
    random: u64,
    payload: Vec<u8>,
    /// Per tag: the place, and when its command was sent.
    slots: Vec<(u64, Instant)>,
    free: Vec<u32>,
    again: Vec<u64>,
    out: Vec<u8>,
    tally: Tally,
}

impl Driver {
    pub(crate) fn new(mut session: Session, load: Load) -> Result<Self, Error> {
        let (capacity, block) = session.capacity()?;
        let span = if load.span == 0 { capacity } else { load.span.min(capacity) };
        let places = span / u64::from(load.bytes);
        if places == 0 {
            return Err(Error::TooSmall(capacity));
        }
        let mut random = load.seed | 1;
        let payload = (0..load.bytes).map(|_| (step(&mut random) >> 56) as u8).collect();
        let now = Instant::now();
        Ok(Self {
            session,
            load,
            places,
            blocks: load.bytes / block,
            next: 0,
            left: load.commands.unwrap_or(places),
            random,
            payload,
            slots: vec![(0, now); load.depth as usize],
            free: (0..load.depth).collect(),
            again: Vec::new(),
            out: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Runs to the end of the load.
    pub(crate) fn run(mut self) -> Result<Tally, Error> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut held = 0;
        // Bytes of a data segment that has not come in yet, and that nobody looks at.
        let mut skip = 0;
        loop {
            self.issue(Instant::now());
            if !self.out.is_empty() {
                self.session.stream.write_all(&self.out)?;
                self.out.clear();
            }
            if self.free.len() == self.slots.len() {
                return Ok(self.tally);
            }
            let received = match self.session.stream.read(&mut buffer[held..]) {
                Ok(0) => return Err(Error::Io(ErrorKind::UnexpectedEof.into())),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Io(error)),
            };
            let end = held + received;
            let now = Instant::now();
            let mut at = skip.min(end);
            skip -= at;
            while let Some(header) = Header::first(&buffer[at..end]) {
                let needs_data = header.opcode() == SCSI_RESPONSE && header.rest_bytes() > 0;
                let whole = self.session.wire.bytes(&header);
                if needs_data && end - at < whole {
                    break;
                }
                let data_begin = (at + self.session.wire.header_bytes()).min(end);
                let data_end = (data_begin + header.data_bytes()).min(end);
                self.on_pdu(&header, &buffer[data_begin..data_end], now)?;
                let here = whole.min(end - at);
                skip = whole - here;
                at += here;
            }
            buffer.copy_within(at..end, 0);
            held = end - at;
        }
    }

    fn on_pdu(&mut self, header: &Header, data: &[u8], now: Instant) -> Result<(), Error> {
        match header.opcode() {
            DATA_IN if header.0[1] & 1 == 0 => {}
            DATA_IN | SCSI_RESPONSE => {
                self.session.note(header);
                self.on_status(header, data, now)?;
            }
            R2T => self.on_r2t(header),
            NOP_IN => {
                if let Some(answer) = self.session.nop_answer(header) {
                    self.session.wire.push(&mut self.out, answer, &[]);
                }
            }
            other => return Err(Error::Unexpected(other)),
        }
        Ok(())
    }

    fn on_status(&mut self, header: &Header, data: &[u8], now: Instant) -> Result<(), Error> {
        let tag = header.tag();
        let Some((place, sent)) = self.slots.get(tag as usize).copied() else {
            return Err(Error::Unexpected(header.opcode()));
        };
        match header.0[3] {
            GOOD if sent >= self.load.count_from => {
                self.tally.commands += 1;
                self.tally.latency.add(now.duration_since(sent));
            }
            GOOD => {}
            BUSY | TASK_SET_FULL => {
                self.tally.refused += 1;
                self.again.push(place);
            }
            status => return Err(Error::Status { status, sense: data.to_vec() }),
        }
        self.free.push(tag);
        Ok(())
    }

    /// Ready To Transfer (section 11.8): Data-Out PDUs for what it asks for.
    fn on_r2t(&mut self, header: &Header) {
        let (offset, wanted) = (header.word(40) as usize, header.word(44) as usize);
        let end = (offset + wanted).min(self.payload.len());
        let mut at = offset.min(end);
        let mut data_sn = 0;
        while at < end {
            let to = (at + self.session.segment_bytes).min(end);
            let flags = if to == end { FINAL } else { 0 };
            let pdu = Header::new(DATA_OUT, flags, header.tag())
                .lun(self.session.lun)
                .put(20, header.word(20))
                .put(28, self.session.status_sn)
                .put(36, data_sn)
                .put(40, u32::try_from(at).unwrap_or(u32::MAX));
            self.session.wire.push(&mut self.out, pdu, &self.payload[at..to]);
            data_sn += 1;
            at = to;
        }
    }

    /// Sends commands while there are free tags and the command window (section 4.2.2.1) is open.
    fn issue(&mut self, now: Instant) {
        while !self.free.is_empty() {
            let window = self.session.command_sn_max.wrapping_sub(self.session.command_sn) as i32;
            if window < 0 {
                return;
            }
            let Some(place) = self.next_place(now) else { return };
            let Some(tag) = self.free.pop() else { return };
            self.slots[tag as usize] = (place, now);
            let sn = [self.session.command_sn, self.session.status_sn];
            self.session.command_sn = self.session.command_sn.wrapping_add(1);
            let cdb = transfer_cdb(self.load.write, place * u64::from(self.blocks), self.blocks);
            let direction = if self.load.write { WRITE } else { READ };
            let header = Header::command(direction, self.session.lun, tag, self.load.bytes, sn, cdb);
            let immediate =
                if self.load.write { self.session.immediate_bytes.min(self.payload.len()) } else { 0 };
            if let Some(stamp) = self.payload.first_chunk_mut::<8>() {
                *stamp = (place ^ self.random).to_ne_bytes();
            }
            self.session.wire.push(&mut self.out, header, &self.payload[..immediate]);
        }
    }

    /// Where the next command goes; none when the load is over.
    fn next_place(&mut self, now: Instant) -> Option<u64> {
        let over = match self.load.until {
            Some(until) => now >= until,
            None => self.left == 0 && self.again.is_empty(),
        };
        if over {
            return None;
        }
        if let Some(place) = self.again.pop() {
            return Some(place);
        }
        self.left = self.left.saturating_sub(1);
        if self.load.random {
            let wide = u128::from(step(&mut self.random)) * u128::from(self.places);
            return Some((wide >> 64) as u64);
        }
        let place = self.next % self.places;
        self.next += 1;
        Some(place)
    }
}

/// splitmix64: the next of a sequence of well-mixed numbers.
fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A connection that hears nothing for this long is lost.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);
