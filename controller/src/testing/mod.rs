//! Two controllers in a fake world, for this crate's tests: everything outside happens one step at a time, in the order
//! a seed picks. Frames on one connection keep their order; everything else may overtake.
//!
//! [`two_controllers`] lets things happen, [`restarts`] ends controllers and starts them anew from what they left, and
//! [`sides`] shows and changes what one of them has outside, in its [`fake_world`].

mod fake_world;
mod plans;
mod restarts;
mod sides;
mod two_controllers;

use bytes::Bytes;
use protocol::block::{BLOCK_BYTES, BlockRange};

pub(crate) use self::plans::InGroup;
pub(crate) use self::two_controllers::TwoControllers;
use crate::command::{Data, Op};

/// Logical blocks of a LUN, unless a test wants another size.
pub(crate) const BLOCKS: u64 = 64;

pub(crate) fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

pub(crate) fn blocks_of(byte: u8, blocks: u64) -> Data {
    vec![Bytes::from(vec![byte; (blocks * u64::from(BLOCK_BYTES)) as usize])]
}

pub(crate) fn write(start: u64, blocks: u64, byte: u8) -> Op {
    Op::Write { range: range(start, blocks), data: blocks_of(byte, blocks), fua: false }
}
