//! What a controller tells its peer of itself, small and bounded, so that either can be asked about both. It
//! is told over the control connection and decides nothing: a controller acts on what it knows itself.

use bytes::{BufMut, BytesMut};

use super::frame::FrameError;
use super::wire::{Reader, put_list, put_string};

/// LUNs in one word at most.
pub const WORD_LUNS_MAX: usize = 256;
/// Different reasons in one word at most.
pub const PEER_STATUS_REASONS_MAX: usize = 16;
/// Hosts named in one word at most; the rest are counted.
pub const PEER_STATUS_HOSTS_MAX: usize = 32;
/// Bytes of one text at most; a longer one is cut.
pub const WORD_TEXT_BYTES_MAX: usize = 512;

/// How far a copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Done, in percent.
    pub percent: u8,
    /// What the rest takes at the pace so far, in seconds.
    pub seconds_left: Option<u32>,
}

/// One LUN as the sender has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunReport {
    /// The number hosts use.
    pub lun: u16,
    /// The sender is main.
    pub main: bool,
    /// The sender serves hosts.
    pub serving: bool,
    /// The pair status: 0 SIMPLEX, 1 COPY, 2 DUPLEX, 3 SPLIT, 4 SUSPENDED.
    pub status: u8,
    /// While COPY, from main.
    pub copied: Option<Copied>,
    /// Commands in flight at the sender.
    pub commands: u32,
    /// Bytes in the sender's communication volume.
    pub communication_bytes: u64,
    /// What is wrong: a place in [`PeerStatus::reasons`].
    pub reason: Option<u8>,
}

/// One host that is logged in at the sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostReport {
    /// InitiatorName.
    pub initiator: String,
    /// InitiatorAlias.
    pub alias: String,
    /// The host's address and port.
    pub address: String,
    /// The portal's address and port.
    pub portal: String,
    /// Logged in for so many seconds.
    pub seconds: u32,
    /// Its commands in flight.
    pub commands: u32,
}

/// What a controller says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerStatus {
    /// Every LUN.
    pub luns: Vec<LunReport>,
    /// What is wrong, each text once. Those that no LUN refers to are about the sender as a whole.
    pub reasons: Vec<String>,
    /// Sessions of hosts.
    pub hosts: u32,
    /// The first of them.
    pub named: Vec<HostReport>,
}

impl PeerStatus {
    /// What is wrong with the sender as a whole.
    pub fn unreferenced(&self) -> impl Iterator<Item = &str> {
        let referenced =
            |at: usize| self.luns.iter().any(|lun| lun.reason.is_some_and(|it| usize::from(it) == at));
        let reasons = self.reasons.iter().enumerate();
        reasons.filter(move |(at, _)| !referenced(*at)).map(|(_, reason)| reason.as_str())
    }

    pub(super) fn put(&self, body: &mut BytesMut) {
        let luns = self.luns.get(..WORD_LUNS_MAX).unwrap_or(&self.luns);
        put_list(body, WORD_LUNS_MAX, luns, |body, lun| {
            body.put_u16(lun.lun);
            body.put_u8(u8::from(lun.main));
            body.put_u8(u8::from(lun.serving));
            body.put_u8(lun.status);
            // 255: no copy; a time of 2^32-1: not known.
            body.put_u8(lun.copied.map_or(u8::MAX, |copied| copied.percent.min(100)));
            body.put_u32(lun.copied.and_then(|copied| copied.seconds_left).unwrap_or(u32::MAX));
            body.put_u32(lun.commands);
            body.put_u64(lun.communication_bytes);
            body.put_u8(
                lun.reason.filter(|at| usize::from(*at) < PEER_STATUS_REASONS_MAX).unwrap_or(u8::MAX),
            );
        });
        let reasons = self.reasons.get(..PEER_STATUS_REASONS_MAX).unwrap_or(&self.reasons);
        put_list(body, PEER_STATUS_REASONS_MAX, reasons, |body, reason| put_text(body, reason));
        body.put_u32(self.hosts);
        let named = self.named.get(..PEER_STATUS_HOSTS_MAX).unwrap_or(&self.named);
        put_list(body, PEER_STATUS_HOSTS_MAX, named, |body, host| {
            for text in [&host.initiator, &host.alias, &host.address, &host.portal] {
                put_text(body, text);
            }
            body.put_u32(host.seconds);
            body.put_u32(host.commands);
        });
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let word = Self {
            luns: reader.list(WORD_LUNS_MAX, lun)?,
            reasons: reader.list(PEER_STATUS_REASONS_MAX, text)?,
            hosts: reader.u32()?,
            named: reader.list(PEER_STATUS_HOSTS_MAX, host)?,
        };
        let known = |at: u8| usize::from(at) < word.reasons.len();
        if word.luns.iter().filter_map(|lun| lun.reason).all(known) {
            Ok(word)
        } else {
            Err(FrameError::Content)
        }
    }
}

fn lun(reader: &mut Reader<'_>) -> Result<LunReport, FrameError> {
    let (lun, main, serving, status) = (reader.u16()?, reader.bool()?, reader.bool()?, reader.u8()?);
    let (percent, seconds) = (reader.u8()?, reader.u32()?);
    if status > 4 || (percent > 100 && percent != u8::MAX) {
        return Err(FrameError::Content);
    }
    let seconds_left = (seconds != u32::MAX).then_some(seconds);
    Ok(LunReport {
        lun,
        main,
        serving,
        status,
        copied: (percent <= 100).then_some(Copied { percent, seconds_left }),
        commands: reader.u32()?,
        communication_bytes: reader.u64()?,
        reason: Some(reader.u8()?).filter(|at| *at != u8::MAX),
    })
}

fn host(reader: &mut Reader<'_>) -> Result<HostReport, FrameError> {
    Ok(HostReport {
        initiator: text(reader)?,
        alias: text(reader)?,
        address: text(reader)?,
        portal: text(reader)?,
        seconds: reader.u32()?,
        commands: reader.u32()?,
    })
}

fn text(reader: &mut Reader<'_>) -> Result<String, FrameError> {
    let text = reader.string()?;
    if text.len() > WORD_TEXT_BYTES_MAX { Err(FrameError::Content) } else { Ok(text) }
}

fn put_text(body: &mut BytesMut, text: &str) {
    let mut length = text.len().min(WORD_TEXT_BYTES_MAX);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    put_string(body, &text[..length]);
}
