//! Events in words, for the trace.

use std::fmt;

use super::hub::Event;

/// An event in one line, without its data.
pub(super) struct Brief<'a>(pub(super) &'a Event);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Send(side, via, frame) => {
                let payload: usize = frame.payload.iter().map(bytes::Bytes::len).sum();
                let kind = frame.head.get(6).copied().unwrap_or(0);
                write!(f, "{side:?} sends kind {kind}, {payload} bytes, {via:?}")
            }
            Event::Arrive(connection, side, bytes) => {
                write!(f, "{side:?} gets {} bytes on connection {connection}", bytes.len())
            }
            Event::ToHost(host, _, bytes) => write!(f, "host {host} gets {} bytes", bytes.len()),
            Event::ToTarget(host, _, bytes) => write!(f, "host {host} sent {} bytes", bytes.len()),
            Event::Persisted(side, key, record, ticket) => {
                write!(f, "{side:?} persisted {key}, {} bytes, {ticket:?}", record.len())
            }
            Event::Answer(side, nexus, tag, outcome) => {
                write!(f, "{side:?} answers {nexus:?} {tag:?} ")?;
                match outcome {
                    controller::command::Outcome::Good(_) => f.write_str("Good"),
                    other => write!(f, "{other:?}"),
                }
            }
            other => write!(f, "{other:?}"),
        }
    }
}
