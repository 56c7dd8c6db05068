//! The interlink under TLS 1.3 (RFC 8446) with pinned certificates.
//!
//! Each controller has a key and a self-signed certificate of its own and keeps its peer's ([`certificates`]). Each
//! side of a connection takes exactly that certificate and nothing else: no authority, no name, no date ([`pinned`]).
//! There is no resumption, no early data and no older version.
//!
//! ```text
//!  dialing                                     accepting
//!    │ ClientHello ──────────────────────────────►│
//!    │◄──── ServerHello, certificate, Finished    │
//!    │ the peer's? else alert, end                │
//!    │ certificate, Finished, greeting ──────────►│ the peer's? else alert, end
//!    │◄─────────────────────────────── greeting   │
//! ```
//!
//! The handshake (`handshake`) is over within the time a greeting may take, or the connection is closed. From then
//! on one `records::Tls` serves both directions: each writer seals what it writes, the reader's task opens what
//! it reads, each under a lock that is held for a bounded piece of work and never across I/O. The end of a connection
//! is what it is without TLS: the peer is lost, and nothing is concluded from how it ended.
//!
//! An end that does not encrypt where the other does is told so in the other's terms: the one that encrypts
//! answers with an alert (RFC 8446 6), the one that does not with the first bytes of a frame.

pub mod certificates;
pub(crate) mod handshake;
pub mod pinned;
pub(super) mod records;
#[cfg(test)]
mod tests;
