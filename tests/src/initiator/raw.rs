//! A connection that sends whatever it is told to, right or wrong, for tests of abuse.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::pdu::{self, Digests, Header, IMMEDIATE, Pdu, opcode};

/// Longest silence of the target that is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A connection to a target, without any opinion on what is sent over it.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
    digests: Digests,
}

impl Raw {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, input: Vec::new(), digests: Digests::default() })
    }

    /// Connects and logs in with these keys, separated by `|`, in one request from the operational stage to full
    /// feature phase; the first CmdSN is 1. A login that is refused is an error.
    pub fn log_in(address: SocketAddr, keys: &str, digests: Digests) -> io::Result<Self> {
        let mut raw = Self::connect(address)?;
        let header = Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x87).with(8, &[0x80, 0, 0, 1, 2, 3]);
        raw.send(header.with_u32(24, 1), keys.replace('|', "\0").as_bytes())?;
        match raw.receive()? {
            Some(pdu) if pdu.header.0[36] == 0 => {
                raw.digests = digests;
                Ok(raw)
            }
            answer => Err(io::Error::new(ErrorKind::ConnectionRefused, format!("{answer:?}"))),
        }
    }

    /// Sends a PDU with its padding and digests.
    pub fn send(&mut self, header: Header, data: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        pdu::encode(&mut bytes, header, data, self.digests);
        self.send_bytes(&bytes)
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// The next PDU; `None` if the target has closed the connection, in whatever way.
    pub fn receive(&mut self) -> io::Result<Option<Pdu>> {
        loop {
            let decoded = pdu::decode(&self.input, self.digests);
            if let Some((pdu, length)) = decoded.map_err(|_| io::Error::other("a digest does not fit"))? {
                self.input.drain(..length);
                return Ok(Some(pdu));
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if is_end(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}
