//! How much one command may ask for. VPD page B0h (Block Limits) tells hosts, and the device server holds them
//! to it: whatever is larger ends with INVALID FIELD.

use controller::copy_manager::EXTENDED_COPIES_MAX;
use controller::volume::redo;
use protocol::block::BLOCK_BYTES;
use protocol::scsi::extended_copy::{CopyLimits, HEADER_BYTES};
use protocol::scsi::vpd::BlockLimits;

/// Blocks one READ or WRITE moves at most: 8 MiB. Bounds the memory of a command.
pub const TRANSFER_BLOCKS_MAX: u32 = 16_384;

/// Blocks one PRE-FETCH has read ahead at most.
pub const PREFETCH_BLOCKS_MAX: u32 = TRANSFER_BLOCKS_MAX;

/// Blocks Linux should ask for at once: 1 MiB.
const TRANSFER_BLOCKS_OPTIMAL: u32 = 2_048;

/// Blocks one COMPARE AND WRITE compares at most: as many as its CDB can name.
pub const COMPARE_AND_WRITE_BLOCKS_MAX: u8 = u8::MAX;

/// Blocks one WRITE ATOMIC or ORWRITE writes at most, for they are written all or nothing: 256 KiB. The standard has no
/// field that would tell it of ORWRITE.
pub const ATOMIC_BLOCKS_MAX: u32 = redo::ATOMIC_BLOCKS_MAX;

const _: () = assert!(COMPARE_AND_WRITE_BLOCKS_MAX as u32 <= ATOMIC_BLOCKS_MAX);

/// Blocks one UNMAP makes holes of at most, over all its descriptors: 256 MiB. Its ranges are held meanwhile.
pub const UNMAP_BLOCKS_MAX: u32 = 524_288;

/// Descriptors in one UNMAP parameter list at most.
pub const UNMAP_DESCRIPTORS_MAX: u16 = 256;

/// Blocks one WRITE SAME writes at most: 16 MiB, which takes a slow disk well below a second. Its range is held
/// meanwhile.
pub const WRITE_SAME_BLOCKS_MAX: u32 = 32_768;

/// CSCD descriptors of one EXTENDED COPY at most: copy sources and destinations.
pub const CSCD_DESCRIPTORS_MAX: u16 = 16;

/// Segment descriptors of one EXTENDED COPY at most. Each can name 32 MiB, less a block.
pub const SEGMENT_DESCRIPTORS_MAX: u16 = 8;

/// Bytes of an EXTENDED COPY parameter list at most: what is longer than its descriptors may be is read all the same,
/// to say what is wrong with it.
pub const EXTENDED_COPY_LIST_BYTES_MAX: u32 = HEADER_BYTES as u32 + COPY_LIMITS.descriptors_bytes() + 1024;

/// The limits of EXTENDED COPY as RECEIVE COPY OPERATING PARAMETERS and VPD page 8Fh tell them.
pub(super) const COPY_LIMITS: CopyLimits = CopyLimits {
    cscds_max: CSCD_DESCRIPTORS_MAX,
    segments_max: SEGMENT_DESCRIPTORS_MAX,
    copies_max: EXTENDED_COPIES_MAX as u16,
    named_copies_max: EXTENDED_COPIES_MAX as u8,
    block_bytes: BLOCK_BYTES,
};

/// Blocks in a page of the file systems below, the smallest hole there is: 4 KiB.
const PAGE_BLOCKS: u32 = 8;

/// Bytes one READ or WRITE moves at most.
pub const TRANSFER_BYTES_MAX: u64 = TRANSFER_BLOCKS_MAX as u64 * BLOCK_BYTES as u64;

/// Bytes of data-out one command takes at most.
pub const DATA_OUT_BYTES_MAX: u64 = TRANSFER_BYTES_MAX;

/// The limits of a LUN whose physical blocks are logical ones.
const BLOCK_LIMITS: BlockLimits = BlockLimits {
    compare_and_write_max: COMPARE_AND_WRITE_BLOCKS_MAX,
    transfer_granularity: 1,
    transfer_max: TRANSFER_BLOCKS_MAX,
    transfer_optimal: TRANSFER_BLOCKS_OPTIMAL,
    prefetch_max: PREFETCH_BLOCKS_MAX,
    unmap_max: UNMAP_BLOCKS_MAX,
    unmap_descriptors_max: UNMAP_DESCRIPTORS_MAX as u32,
    unmap_granularity: PAGE_BLOCKS,
    write_same_max: WRITE_SAME_BLOCKS_MAX as u64,
    atomic_max: ATOMIC_BLOCKS_MAX,
    copy: COPY_LIMITS,
    atomic_granularity: 0,
};

/// The limits as VPD page B0h tells them.
///
/// OPTIMAL TRANSFER LENGTH GRANULARITY is a physical block: what is larger, file systems take for the stripe of a RAID.
pub(super) const fn block_limits(physical_block_exponent: u8) -> BlockLimits {
    let atomic_granularity = atomic_granularity(physical_block_exponent);
    BlockLimits { atomic_granularity, transfer_granularity: 1 << physical_block_exponent, ..BLOCK_LIMITS }
}

/// Blocks at whose multiples a WRITE ATOMIC begins and ends: a physical block, where that is larger than a logical one.
/// Zero: anywhere.
pub(super) const fn atomic_granularity(physical_block_exponent: u8) -> u32 {
    if physical_block_exponent == 0 { 0 } else { 1 << physical_block_exponent }
}
