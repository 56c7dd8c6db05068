//! The core of one controller as part of an appliance: it meets its peer over the interlink, makes the
//! appliance's identity with it, agrees on the generation of every group, and ends cleanly. Events go in,
//! [`Effect`]s come out ([`Appliance::take_effects`]); no I/O, no clock, no lock.
//!
//! [`Appliance`] only coordinates (`coordinator.rs`). Each part is a struct that takes what it needs and returns what
//! is to be done: effects, a group's wishes, the deeds of a meeting.
//!
//! ```text
//!   connections, greetings ── PeerSession ─┬─ Peer (what it told)
//!                                          └─ Handshake (the steps of a meeting) ── Phase, Meeting
//!   pings, leases          ── Liveness
//!   marks of volumes       ── Marking
//!   a clean end            ── Shutdown
//!   this controller's side ── Local ─┬─ Identities, Ids, Tickets (what is waited for)
//!                                    └─ Groups ── Group ── GroupState ─┬─ Stage (its life)
//!                                                                      └─ Copies ── LunCopy (what it has of a LUN)
//!   what others read       ── View
//! ```
//!
//! The first controller of the configuration leads: it dials the control connection, sends the identity, the
//! agreements and the word to begin. Every step is durable on both before the next one starts, so a crash
//! anywhere leaves two states that [`crate::group::agree`] can put together.
//!
//! What always holds: each part what its own page says ([`Appliance::check`]), a LUN belongs to exactly one group, and
//! a controller whose records cannot be read writes nothing.

mod asked;
mod broken;
mod comparison;
mod coordinator;
mod copies;
mod copy;
mod creation;
mod deed;
mod effect;
mod group;
mod group_state;
mod groups;
mod hand_over;
mod handshake;
mod identities;
mod ids;
mod judging;
mod lifecycle;
mod liveness;
mod local;
mod marking;
mod meeting;
mod mute;
mod notes;
mod pair_command;
mod peer;
mod pending;
mod phase;
mod record;
mod refilling;
mod report;
mod restored;
mod session;
mod shutdown;
mod starts;
mod switch;
#[cfg(test)]
mod tests;
mod theirs;
mod tickets;
mod view;
mod wish;

pub use coordinator::Appliance;
pub use effect::{Apart, Effect, LinkRefusal, LunOrder};
pub use pair_command::PairRefusal;
pub use record::{CONTROL_KEY, ControlRecord};
pub use report::LunReport;
pub use restored::Restored;
pub(crate) use restored::shared_key;
pub(crate) use tickets::owns;
pub use view::{About, View};
