//! One session with one connection: login without authentication or digests, and single commands before the
//! load begins.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::str::FromStr;

use super::wire::{
    DATA_IN, FINAL, HEADER_BYTES, Header, IMMEDIATE, LOGIN_REQUEST, LOGIN_RESPONSE, NO_TAG, NOP_IN, NOP_OUT,
    READ, SCSI_RESPONSE, WRITE, Wire,
};

/// A unit attention is told once; after more of them than this something else is wrong.
const ATTENTIONS_MAX: u32 = 16;
/// What this side accepts in one data segment; it is received into no buffer of that size.
const RECEIVE_SEGMENT_BYTES: u32 = 262_144;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("write the target as iscsi://HOST:PORT/TARGET-NAME/LUN")]
    Url,
    #[error("the connection: {0}")]
    Io(#[from] io::Error),
    #[error("login refused with status {0:04x}h")]
    Login(u16),
    #[error("SCSI status {status:02x}h, sense {sense:02x?}")]
    Status { status: u8, sense: Vec<u8> },
    #[error("PDU {0:02x}h was not expected")]
    Unexpected(u8),
    #[error("the LUN has {0} bytes, less than one block of the load")]
    TooSmall(u64),
    #[error("the target takes no {0} bytes with a command")]
    TooLong(usize),
    #[error("process {0} is gone or cannot be read")]
    Process(u32),
}

/// `iscsi://host:port/name/lun`.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) lun: u8,
}

impl FromStr for Url {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.strip_prefix("iscsi://").ok_or(Error::Url)?.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(address), Some(name), Some(lun), None) => {
                let lun = lun.parse().map_err(|_| Error::Url)?;
                Ok(Self { address: address.to_owned(), name: name.to_owned(), lun })
            }
            _ => Err(Error::Url),
        }
    }
}

/// A session in full feature phase.
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    /// How PDUs look: with digests or without.
    pub(crate) wire: Wire,
    pub(crate) lun: [u8; 8],
    /// The next CmdSN, the last one the target takes, the next StatSN.
    pub(crate) command_sn: u32,
    pub(crate) command_sn_max: u32,
    pub(crate) status_sn: u32,
    /// Data the target takes with a command, and in one Data-Out PDU.
    pub(crate) immediate_bytes: usize,
    pub(crate) segment_bytes: usize,
}

impl Session {
    /// Connects and logs in; what the LUN has to say first (unit attentions) has been heard afterwards.
    pub(crate) fn open(url: &Url, number: usize, digests: bool) -> Result<Self, Error> {
        let stream = TcpStream::connect(&url.address)?;
        stream.set_nodelay(true)?;
        let lun = [0, url.lun, 0, 0, 0, 0, 0, 0];
        let mut session = Self {
            stream,
            wire: Wire::default(),
            lun,
            command_sn: 1,
            command_sn_max: 1,
            status_sn: 0,
            immediate_bytes: 0,
            segment_bytes: 8192,
        };
        session.login(&url.name, number, digests)?;
        session.wire.digests = digests;
        for _ in 0..ATTENTIONS_MAX {
            match session.run([0; 16], 0) {
                Err(Error::Status { .. }) => {}
                other => return other.map(|_| session),
            }
        }
        session.run([0; 16], 0).map(|_| session)
    }

    fn login(&mut self, name: &str, number: usize, digests: bool) -> Result<(), Error> {
        let session_id = u32::try_from(number).unwrap_or(0) & 0xffff | (std::process::id() << 16);
        let security = format!(
            "InitiatorName=iqn.2026-11.com.example:load-{number}\0TargetName={name}\0SessionType=Normal\0\
             AuthMethod=None\0"
        );
        let digest = if digests { "CRC32C" } else { "None" };
        let operational = format!(
            "HeaderDigest={digest}\0DataDigest={digest}\0MaxRecvDataSegmentLength={RECEIVE_SEGMENT_BYTES}\0\
             InitialR2T=Yes\0ImmediateData=Yes\0FirstBurstLength=262144\0MaxBurstLength=1048576\0\
             MaxConnections=1\0ErrorRecoveryLevel=0\0MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0\
             DataSequenceInOrder=Yes\0DefaultTime2Wait=0\0DefaultTime2Retain=0\0"
        );
        let mut limits = Limits::default();
        // CSG and NSG (section 11.12.3): security to operational, operational to full feature phase.
        for (stage, mut text) in [(0b0000_0001, security), (0b0000_0111, operational)] {
            loop {
                let mut header = Header::new(LOGIN_REQUEST | IMMEDIATE, FINAL | stage, 0);
                // ISID: type 2 (random), and this connection's own number.
                header = header.put(8, 0x8000_0000 | (session_id >> 16)).put(12, session_id << 16);
                header = header.put(24, self.command_sn).put(28, self.status_sn);
                let mut out = Vec::new();
                self.wire.push(&mut out, header, text.as_bytes());
                self.stream.write_all(&out)?;
                let (answer, data) = self.receive()?;
                if answer.opcode() != LOGIN_RESPONSE {
                    return Err(Error::Unexpected(answer.opcode()));
                }
                let status = (u16::from(answer.0[36]) << 8) | u16::from(answer.0[37]);
                if status != 0 {
                    return Err(Error::Login(status));
                }
                self.note(&answer);
                limits.take(&data);
                text.clear();
                if answer.0[1] & FINAL != 0 {
                    break;
                }
            }
        }
        self.segment_bytes = limits.segment;
        self.immediate_bytes = if limits.immediate { limits.first_burst.min(limits.segment) } else { 0 };
        Ok(())
    }

    /// Takes over the sequence numbers of a PDU of the target.
    pub(crate) fn note(&mut self, header: &Header) {
        self.status_sn = header.word(24).wrapping_add(1);
        self.command_sn_max = header.word(32);
    }

    fn receive(&mut self) -> Result<(Header, Vec<u8>), Error> {
        let mut header = Header([0; HEADER_BYTES]);
        self.stream.read_exact(&mut header.0)?;
        let mut data = vec![0; self.wire.bytes(&header) - HEADER_BYTES];
        self.stream.read_exact(&mut data)?;
        data.drain(..self.wire.header_bytes() - HEADER_BYTES);
        data.truncate(header.data_bytes());
        Ok((header, data))
    }

    /// Runs one command that reads at most `bytes` and gives back what it read.
    pub(crate) fn run(&mut self, cdb: [u8; 16], bytes: u32) -> Result<Vec<u8>, Error> {
        self.exchange(if bytes > 0 { READ } else { 0 }, cdb, bytes, &[])
    }

    /// Runs one command whose data fits in its PDU.
    pub(crate) fn write(&mut self, cdb: [u8; 16], data: &[u8]) -> Result<(), Error> {
        if data.len() > self.immediate_bytes {
            return Err(Error::TooLong(data.len()));
        }
        self.exchange(WRITE, cdb, data.len() as u32, data).map(|_| ())
    }

    fn exchange(&mut self, direction: u8, cdb: [u8; 16], bytes: u32, data: &[u8]) -> Result<Vec<u8>, Error> {
        let sn = [self.command_sn, self.status_sn];
        let mut out = Vec::new();
        self.wire.push(&mut out, Header::command(direction, self.lun, 1, bytes, sn, cdb), data);
        self.stream.write_all(&out)?;
        self.command_sn = self.command_sn.wrapping_add(1);
        let mut read = Vec::new();
        loop {
            let (header, data) = self.receive()?;
            match header.opcode() {
                DATA_IN => {
                    read.extend_from_slice(&data);
                    if header.0[1] & 1 != 0 {
                        self.note(&header);
                        return Ok(read);
                    }
                }
                SCSI_RESPONSE => {
                    self.note(&header);
                    return match header.0[3] {
                        0 => Ok(read),
                        status => Err(Error::Status { status, sense: data }),
                    };
                }
                NOP_IN => {
                    if let Some(answer) = self.nop_answer(&header) {
                        let mut out = Vec::new();
                        self.wire.push(&mut out, answer, &[]);
                        self.stream.write_all(&out)?;
                    }
                }
                other => return Err(Error::Unexpected(other)),
            }
        }
    }

    /// The NOP-Out that a NOP-In asks for, if it does (section 11.19).
    pub(crate) fn nop_answer(&self, header: &Header) -> Option<Header> {
        let target_tag = header.word(20);
        (target_tag != NO_TAG).then(|| {
            Header::new(NOP_OUT | IMMEDIATE, FINAL, NO_TAG)
                .lun([0, header.0[9], 0, 0, 0, 0, 0, 0])
                .put(20, target_tag)
                .put(24, self.command_sn)
                .put(28, self.status_sn)
        })
    }

    /// Capacity in bytes and bytes of a block: READ CAPACITY(16) (SBC-3).
    pub(crate) fn capacity(&mut self) -> Result<(u64, u32), Error> {
        let mut cdb = [0; 16];
        cdb[0] = 0x9e;
        cdb[1] = 0x10;
        cdb[13] = 32;
        let data = self.run(cdb, 32)?;
        match (data.first_chunk::<8>(), data.get(8..12)) {
            (Some(last), Some(&[a, b, c, d])) => {
                let block = u32::from_be_bytes([a, b, c, d]);
                Ok((u64::from_be_bytes(*last).saturating_add(1).saturating_mul(u64::from(block)), block))
            }
            _ => Err(Error::Unexpected(DATA_IN)),
        }
    }
}

/// What the target said of its limits; the defaults are those of section 13.
struct Limits {
    segment: usize,
    first_burst: usize,
    immediate: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment: 8192, first_burst: 65_536, immediate: true }
    }
}

impl Limits {
    fn take(&mut self, data: &[u8]) {
        for pair in data.split(|byte| *byte == 0).filter_map(|pair| core::str::from_utf8(pair).ok()) {
            match pair.split_once('=') {
                Some(("MaxRecvDataSegmentLength", n)) => self.segment = n.parse().unwrap_or(self.segment),
                Some(("FirstBurstLength", n)) => self.first_burst = n.parse().unwrap_or(self.first_burst),
                Some(("ImmediateData", yes)) => self.immediate = yes == "Yes",
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_as_a_url() {
        let url: Url = "iscsi://127.0.0.1:3260/iqn.2026-11.com.example:demo/7".parse().unwrap();
        assert_eq!((url.address.as_str(), url.lun), ("127.0.0.1:3260", 7));
        assert_eq!(url.name, "iqn.2026-11.com.example:demo");
        for wrong in
            ["", "iscsi://host", "iscsi://host/name/300", "http://host/name/0", "iscsi://host/name/0/x"]
        {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
