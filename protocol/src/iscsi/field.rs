//! Reading and writing the fields of a Basic Header Segment; all offsets are constants of the PDU files.

use super::{Bhs, DATA_SEGMENT_LENGTH_MAX, DecodeError, Lun, Opcode};

/// The I bit of byte 0 (RFC 7143 11.2.1.1).
pub(super) const IMMEDIATE: u8 = 0x40;
/// The F (in Login PDUs: T) bit of byte 1 (11.2.1.3).
pub(super) const FINAL: u8 = 0x80;
/// The C (in Data-In: A) bit of byte 1 (11.10.2).
pub(super) const CONTINUE: u8 = 0x40;

/// `bit` if `set`, else nothing.
pub(super) const fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

pub(super) const fn u16_at(bhs: &Bhs, at: usize) -> u16 {
    u16::from_be_bytes([bhs[at], bhs[at + 1]])
}

pub(super) const fn u32_at(bhs: &Bhs, at: usize) -> u32 {
    u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]])
}

pub(super) const fn lun(bhs: &Bhs) -> Lun {
    [bhs[8], bhs[9], bhs[10], bhs[11], bhs[12], bhs[13], bhs[14], bhs[15]]
}

/// DataSegmentLength (11.2.1.6), in bytes.
pub(super) const fn data_segment_length(bhs: &Bhs) -> u32 {
    u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]])
}

pub(super) const fn put_u16(bhs: &mut Bhs, at: usize, value: u16) {
    let bytes = value.to_be_bytes();
    bhs[at] = bytes[0];
    bhs[at + 1] = bytes[1];
}

pub(super) const fn put_u32(bhs: &mut Bhs, at: usize, value: u32) {
    let bytes = value.to_be_bytes();
    bhs[at] = bytes[0];
    bhs[at + 1] = bytes[1];
    bhs[at + 2] = bytes[2];
    bhs[at + 3] = bytes[3];
}

pub(super) fn put_lun(bhs: &mut Bhs, lun: &Lun) {
    bhs[8..16].copy_from_slice(lun);
}

/// Writes DataSegmentLength; `length` is at most [`DATA_SEGMENT_LENGTH_MAX`], as every negotiated limit is.
pub(super) const fn put_data_segment_length(bhs: &mut Bhs, length: u32) {
    debug_assert!(length <= DATA_SEGMENT_LENGTH_MAX);
    let bytes = length.to_be_bytes();
    bhs[5] = bytes[1];
    bhs[6] = bytes[2];
    bhs[7] = bytes[3];
}

/// An empty header with its first two bytes.
pub(super) const fn start(opcode: Opcode, immediate: bool, byte1: u8) -> Bhs {
    let mut bhs = [0; super::BHS_BYTES];
    bhs[0] = opcode as u8 | bit(immediate, IMMEDIATE);
    bhs[1] = byte1;
    bhs
}

pub(super) const fn is_immediate(bhs: &Bhs) -> bool {
    bhs[0] & IMMEDIATE != 0
}

pub(super) const fn is_final(bhs: &Bhs) -> bool {
    bhs[1] & FINAL != 0
}

/// Refuses a header that is not of this type.
pub(super) const fn expect_opcode(bhs: &Bhs, opcode: Opcode) -> Result<(), DecodeError> {
    let found = Opcode::value_of(bhs);
    if found == opcode as u8 { Ok(()) } else { Err(DecodeError::UnknownOpcode(found)) }
}

/// TotalAHSLength "is only used in PDUs that have an AHS and MUST be 0 in all other PDUs" (11.2.1.5).
pub(super) const fn expect_no_ahs(bhs: &Bhs) -> Result<(), DecodeError> {
    if bhs[4] == 0 {
        Ok(())
    } else {
        Err(DecodeError::Inconsistent { rule: "TotalAHSLength must be 0", section: "11.2.1.5" })
    }
}

/// DataSegmentLength "MUST be 0 whenever the PDU has no data segment" (11.2.1.6).
pub(super) const fn expect_no_data(bhs: &Bhs) -> Result<(), DecodeError> {
    if data_segment_length(bhs) == 0 {
        Ok(())
    } else {
        Err(DecodeError::Inconsistent { rule: "DataSegmentLength must be 0", section: "11.2.1.6" })
    }
}
