//! The initiator over a blocking TCP socket, for tests with real processes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

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
    /// Longest silence that is waited for.
    silence: Duration,
}

impl Session {
    /// Connects and logs in. A refused login is [`io::ErrorKind::ConnectionRefused`] with its status.
    pub fn connect(address: impl ToSocketAddrs, settings: Settings) -> io::Result<Self> {
        Self::log_in(TcpStream::connect(address)?, settings, SILENCE_MAX)
    }

    /// Connects and logs in to a target that may be down or hang: waits no longer than `silence` for it, now and
    /// whenever it has something to say.
    pub fn connect_within(address: &SocketAddr, settings: Settings, silence: Duration) -> io::Result<Self> {
        Self::log_in(TcpStream::connect_timeout(address, silence)?, settings, silence)
    }

    fn log_in(stream: TcpStream, settings: Settings, silence: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence))?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let initiator = Initiator::new(settings);
        let mut session = Self { stream, initiator, buffer: vec![0; READ_BYTES], silence };
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

    /// The next command that ends, if one does within `patience`.
    pub fn completion_within(&mut self, patience: Duration) -> io::Result<Option<(Tag, Response)>> {
        self.stream.set_read_timeout(Some(patience))?;
        let result = self.completion();
        self.stream.set_read_timeout(Some(self.silence))?;
        match result {
            Ok(completion) => Ok(Some(completion)),
            Err(error) if is_pause(&error) && self.initiator.logged_in() => Ok(None),
            Err(error) => Err(error),
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

    /// Gives up a command by ABORT TASK: the response to that function, and the command's own if it ended first.
    pub fn abort_task(&mut self, lun: u16, referenced: Tag) -> io::Result<(u8, Option<Response>)> {
        let function = self.initiator.abort_task(lun, referenced);
        let mut ended = None;
        loop {
            match self.event()? {
                Event::Completed { tag, response } if tag == referenced => ended = Some(response),
                Event::TaskManagement { tag, response } if tag == function => {
                    self.initiator.forget(referenced);
                    return Ok((response, ended));
                }
                _ => {}
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
        let mut moved = Instant::now();
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(length) => {
                    sent += length;
                    moved = Instant::now();
                }
                Err(error) if is_pause(&error) => {
                    if moved.elapsed() > self.silence {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    self.read_what_is_there()?;
                }
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
