//! The initiator over a blocking TCP socket, for tests with real processes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::{Event, Initiator, Request, Response, Settings, Tag};

/// Longest silence of the target while something is outstanding: longer than anything may stall a host.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long a write waits before it looks whether there is something to read.
const WRITE_PATIENCE: Duration = Duration::from_millis(5);

/// Bytes read from the socket at once.
const READ_BYTES: usize = 256 * 1024;

/// A logged-in session over TCP.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    initiator: Initiator,
    buffer: Vec<u8>,
}

impl Session {
    /// Connects and logs in. A refused login is [`io::ErrorKind::ConnectionRefused`] with its status.
    pub fn connect(address: impl ToSocketAddrs, settings: Settings) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let mut session = Self { stream, initiator: Initiator::new(settings), buffer: vec![0; READ_BYTES] };
        match session.event()? {
            Event::LoggedIn => Ok(session),
            other => Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("{other:?}"))),
        }
    }

    /// Sends a command without waiting for its end.
    pub fn submit(&mut self, request: Request) -> io::Result<Tag> {
        let tag = self.initiator.command(request);
        self.flush()?;
        Ok(tag)
    }

    /// Waits for whatever happens next.
    pub fn event(&mut self) -> io::Result<Event> {
        loop {
            self.flush()?;
            if let Some(event) = self.initiator.event() {
                return Ok(event);
            }
            let length = self.stream.read(&mut self.buffer)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.initiator.input(&self.buffer[..length]).map_err(io::Error::other)?;
        }
    }

    /// Waits for the end of the next command that ends.
    pub fn completion(&mut self) -> io::Result<(Tag, Response)> {
        loop {
            if let Event::Completed { tag, response } = self.event()? {
                return Ok((tag, response));
            }
        }
    }

    /// Executes one command while none is outstanding, again after a unit attention.
    pub fn execute(&mut self, request: &Request) -> io::Result<Response> {
        loop {
            self.submit(request.clone())?;
            let (_, response) = self.completion()?;
            if response.code().0 != 0x06 {
                return Ok(response);
            }
        }
    }

    /// The targets and their addresses, from a discovery session.
    pub fn send_targets(&mut self) -> io::Result<String> {
        self.initiator.send_targets();
        loop {
            if let Event::Text(text) = self.event()? {
                return Ok(text);
            }
        }
    }

    /// Logs out and waits for the answer.
    pub fn logout(mut self) -> io::Result<()> {
        self.initiator.logout();
        while self.event()? != Event::LoggedOut {}
        Ok(())
    }

    /// Sends what is to be sent. While the socket takes nothing it reads, so that both sides never wait for
    /// each other.
    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.initiator.output();
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(length) => sent += length,
                Err(error) if is_pause(&error) => self.read_what_is_there()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_what_is_there(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let result = self.stream.read(&mut self.buffer);
        self.stream.set_nonblocking(false)?;
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.initiator.input(&self.buffer[..length]).map_err(io::Error::other),
            Err(error) if is_pause(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
