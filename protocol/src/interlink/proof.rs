//! The proof: what comes before the greeting on every connection of an interlink that is not encrypted.
//!
//! ```text
//!  dialing                                       accepting
//!    │ CHALLENGE{nonce of the dialing} ────────────►│
//!    │◄──────────── CHALLENGE{nonce of the accepting}
//!    │ PROOF{MAC of the dialing} ──────────────────►│ wrong? closed, without another word
//!    │◄──────────────────── PROOF{MAC of the accepting}
//!    │ wrong? closed                                │
//! ```
//!
//! Each is a frame as any other, so that an end that encrypts knows the other for one that does not; its version counts
//! the proof's own changes. The MAC is HMAC-SHA-256 under the secret of both controllers, over a [`claim`].

use super::frame::{FrameError, MAGIC, PREFIX_BYTES, Prefix, decode, encode};
use super::message::HELLO_KIND;

/// Bytes of a nonce, and of a MAC.
pub const WORD_BYTES: usize = 32;

/// Bytes of every frame of the proof.
pub const FRAME_BYTES: usize = PREFIX_BYTES + WORD_BYTES;

/// The version of the proof.
const VERSION: u16 = 1;

/// What a MAC of this version is for, so that it is good for nothing else.
const CONTEXT: &[u8; 26] = b"Twinlun interlink, proof 1";

/// Kinds no [`super::Message`] has.
const CHALLENGE: u8 = 254;
const PROOF: u8 = 255;

/// A frame of the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A random number, new for every connection.
    Challenge([u8; WORD_BYTES]),
    /// The MAC.
    Proof([u8; WORD_BYTES]),
}

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It dialed.
    Dialing,
    /// It was dialed.
    Accepting,
}

/// Both challenges of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonces {
    /// Of the end that dialed.
    pub dialing: [u8; WORD_BYTES],
    /// Of the end that was dialed.
    pub accepting: [u8; WORD_BYTES],
}

/// What the controller of this side (0: the first of the configuration; 1: the second) at this end of the connection
/// puts its MAC on. An answer that somebody else got in another place, and carries here, fits nowhere.
#[must_use]
pub fn claim(end: End, side: u8, nonces: &Nonces) -> Vec<u8> {
    let end = match end {
        End::Dialing => 0,
        End::Accepting => 1,
    };
    [&CONTEXT[..], &[end, side], &nonces.dialing, &nonces.accepting].concat()
}

impl Step {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, word) = match self {
            Self::Challenge(word) => (CHALLENGE, word),
            Self::Proof(word) => (PROOF, word),
        };
        let prefix = Prefix { version: VERSION, kind, lun: 0, generation: Default::default() };
        encode(prefix, word, &[]).to_vec()
    }

    /// Reads a frame.
    pub fn decode(frame: &[u8; FRAME_BYTES]) -> Result<Self, FrameError> {
        let (prefix, body) = decode(frame, &[])?;
        let word = body.try_into().map_err(|_| FrameError::Length)?;
        match (prefix.version, prefix.kind) {
            (VERSION, CHALLENGE) => Ok(Self::Challenge(word)),
            (VERSION, PROOF) => Ok(Self::Proof(word)),
            _ => Err(FrameError::Content),
        }
    }
}

/// What the first bytes of a connection are, as far as they are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// They may become a frame of the proof.
    Proof,
    /// The greeting of a release that proves nothing.
    Greeting,
    /// Nothing that belongs here.
    Other,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn first(bytes: &[u8]) -> First {
    let magic = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    let announced = bytes.get(8..12);
    match (MAGIC.starts_with(magic), bytes.get(6)) {
        (false, _) => First::Other,
        (true, Some(&HELLO_KIND)) => First::Greeting,
        (true, Some(&(CHALLENGE | PROOF)) | None) => {
            let right = announced.is_none_or(|bytes| bytes == (WORD_BYTES as u32).to_be_bytes());
            if right { First::Proof } else { First::Other }
        }
        (true, Some(_)) => First::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(step: Step) -> [u8; FRAME_BYTES] {
        step.encode().try_into().unwrap()
    }

    /// A change of these bytes is a change of the proof and needs a new version of it.
    #[test]
    fn the_proof_on_the_wire_is_what_it_was() {
        let hex = |step: Step| step.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(Step::Challenge([0xab; 32])), format!("{CHALLENGED}{}", "ab".repeat(32)));
        assert_eq!(hex(Step::Proof([0xcd; 32])), format!("{PROVEN}{}", "cd".repeat(32)));
    }

    const CHALLENGED: &str =
        "54574c490001fe00000000200000000000000000000000000000000000000000000000000000000000000000f4259b93";
    const PROVEN: &str =
        "54574c490001ff00000000200000000000000000000000000000000000000000000000000000000000000000955a40d3";

    #[test]
    fn a_frame_of_the_proof_comes_back_as_it_was_made_and_nothing_else_is_one() {
        for step in [Step::Challenge([7; 32]), Step::Proof([9; 32])] {
            let frame = whole(step);
            assert_eq!(Step::decode(&frame), Ok(step));
            for bit in 0..frame.len() * 8 {
                let mut damaged = frame;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Step::decode(&damaged).is_err(), "bit {bit}");
            }
            for bytes in 0..=frame.len() {
                assert_eq!(first(&frame[..bytes]), First::Proof, "{bytes} bytes");
            }
        }
        for (version, kind) in [(2, CHALLENGE), (0, PROOF), (1, HELLO_KIND), (1, 9)] {
            let prefix = Prefix { version, kind, lun: 0, generation: Default::default() };
            let frame = encode(prefix, &[7; 32], &[]);
            assert_eq!(Step::decode(frame[..].try_into().unwrap()), Err(FrameError::Content));
        }
    }

    #[test]
    fn a_release_that_only_greets_is_told_from_what_does_not_belong_here() {
        let hello = Prefix { version: 1, kind: HELLO_KIND, lun: 0, generation: Default::default() };
        let greeting = encode(hello, &[0; 60], &[]);
        assert_eq!(first(&greeting[..5]), First::Proof);
        assert_eq!(first(&greeting), First::Greeting);
        let other = encode(Prefix { kind: 9, ..hello }, &[0; 8], &[]);
        assert_eq!(first(&other), First::Other);
        let longer = encode(Prefix { kind: CHALLENGE, ..hello }, &[0; 33], &[]);
        assert_eq!(first(&longer), First::Other);
        assert_eq!(first(b"GET / HTTP/1.1"), First::Other);
        assert_eq!((first(b"TW"), first(b"")), (First::Proof, First::Proof));
    }

    #[test]
    fn no_two_claims_of_one_connection_are_alike() {
        let nonces = Nonces { dialing: [1; 32], accepting: [2; 32] };
        let turned = Nonces { dialing: [2; 32], accepting: [1; 32] };
        let mut claims = Vec::new();
        for nonces in [&nonces, &turned] {
            for end in [End::Dialing, End::Accepting] {
                claims.extend([0, 1].map(|side| claim(end, side, nonces)));
            }
        }
        let all = claims.len();
        claims.sort();
        claims.dedup();
        assert_eq!(claims.len(), all);
    }
}
