//! What Twinlun's integration tests are made of: an initiator of its own, the simulated world, judges.
//!
//! * [`appliance`]: the built binary, started for a test.
//! * [`conformance`]: libiscsi's conformance tests, each alone, and which of them may be skipped.
//! * [`disaster`]: two processes of which one is killed, stopped or cut off, again and again.
//! * [`initiator`]: iSCSI from the host's side, written from RFC 7143 without the encoding under test.
//! * [`small`]: a small file system, full when a test wants it to be.
//! * [`workload`]: what hosts do, drawn from a seed, and block contents that tell who wrote them.
//! * [`judge`]: decides from what hosts saw, and from the bytes of both copies, whether the appliance told the
//!   truth. It shares nothing with the code under test.
//! * [`mutation`]: what was right once, and is not any more, for everything that reads bytes.
//! * [`world`]: two controllers under simulated time, disks and networks; the same seed gives the same trace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is tests")]

pub mod appliance;
pub mod conformance;
pub mod disaster;
pub mod initiator;
pub mod judge;
pub mod mutation;
pub mod random;
pub mod small;
pub mod workload;
pub mod world;
