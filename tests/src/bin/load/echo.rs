//! A message and its short answer over a loopback connection, between two threads that do nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::session::Error;

/// Bytes of an answer, and of what goes with the data of a message.
const HEAD_BYTES: usize = 64;

/// The median round trip in microseconds of a message with `bytes` of data.
pub(crate) fn round_trip(bytes: usize, length: Duration) -> Result<f64, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let (peer, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    peer.set_nodelay(true)?;
    let answering = thread::spawn(move || answer(peer, bytes));
    let message = vec![0x5a; HEAD_BYTES + bytes];
    let mut received = [0; HEAD_BYTES];
    let mut trips = Histogram::default();
    let begin = Instant::now();
    let mut sent = begin;
    while sent.duration_since(begin) < length {
        stream.write_all(&message)?;
        stream.read_exact(&mut received)?;
        let now = Instant::now();
        trips.add(now.duration_since(sent));
        sent = now;
    }
    drop(stream);
    answering.join().map_err(|_| Error::Process(std::process::id()))??;
    Ok(trips.percentile(50.0))
}

fn answer(mut stream: TcpStream, bytes: usize) -> Result<(), Error> {
    let mut message = vec![0; HEAD_BYTES + bytes];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&[0xa5; HEAD_BYTES])?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_some_time() {
        assert!(round_trip(4096, Duration::from_millis(1)).unwrap() > 0.0);
    }
}
