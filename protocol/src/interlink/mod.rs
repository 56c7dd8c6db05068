//! The messages between the two controllers.
//!
//! A connection of the interlink carries frames: a fixed prefix ([`frame`]), a body that depends on the kind of
//! message ([`message`]) and a payload of data. Prefix and body are covered by one CRC32C, the payload by
//! another. Every frame names the generation it belongs to, so that a deposed controller's late message changes
//! nothing.
//!
//! Where the interlink is not encrypted, each end proves first that it knows the secret of both ([`proof`]).
//!
//! Versions: each side offers `[VERSION_MIN, VERSION_MAX]` in its [`hello::Hello`]; the highest common one is
//! used. A new version is a new entry in [`frame::Version`], which tells what it changed.

pub mod copy_report;
pub mod event;
pub mod frame;
pub mod hello;
pub mod message;
pub mod operation;
pub mod peer_status;
pub mod proof;
pub mod sanitize;
pub mod shared;
#[cfg(test)]
mod tests;
pub mod will;
mod wire;

pub use frame::{FrameError, FrameLengths, GenerationTag, Prefix, Version, frame_lengths};
pub use message::Message;
pub use operation::{Ending, Report, WireOp};
