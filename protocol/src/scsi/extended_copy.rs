//! EXTENDED COPY (LID1) and RECEIVE COPY RESULTS (SPC-4 6.4, 6.17 to 6.20): parameter lists and parameter data of the
//! copy manager.
//!
//! Known are what copies from blocks to blocks: the identification descriptor CSCD descriptor (E4h), and the segment
//! descriptor 02h. What a host wrote wrong is found in this order: lengths, the use of the list identifier, how many
//! descriptors there are, their types.

use super::cdb::{Cdb, be32};
use super::sense::Sense;

/// Bytes of the parameter list header.
pub const HEADER_BYTES: usize = 16;

/// Bytes of a CSCD descriptor.
pub const CSCD_BYTES: usize = 32;

/// Bytes of a segment descriptor 02h.
pub const SEGMENT_BYTES: usize = 28;

/// Identification descriptor CSCD descriptor.
pub const IDENTIFICATION: u8 = 0xe4;

/// Copy from block device to block device.
pub const BLOCK_TO_BLOCK: u8 = 0x02;

/// The CSCD descriptor ID of the logical unit that the command was sent to.
pub const OWN_UNIT: u16 = 0xffff;

/// Blocks that one segment descriptor 02h can name.
pub const SEGMENT_BLOCKS: u32 = u16::MAX as u32;

/// PARAMETER LIST LENGTH of EXTENDED COPY, in bytes.
#[must_use]
pub const fn parameter_list_bytes(cdb: &Cdb) -> u32 {
    be32(cdb, 10)
}

/// LIST IDENTIFIER of RECEIVE COPY RESULTS.
#[must_use]
pub const fn list_identifier(cdb: &Cdb) -> u8 {
    cdb[2]
}

/// ALLOCATION LENGTH of RECEIVE COPY RESULTS, in bytes.
#[must_use]
pub const fn allocation(cdb: &Cdb) -> usize {
    be32(cdb, 10) as usize
}

/// How much a copy manager takes and does at once, as RECEIVE COPY OPERATING PARAMETERS and VPD page 8Fh tell it.
/// Neither inline data nor held data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyLimits {
    /// MAXIMUM CSCD DESCRIPTOR COUNT.
    pub cscds_max: u16,
    /// MAXIMUM SEGMENT DESCRIPTOR COUNT.
    pub segments_max: u16,
    /// TOTAL CONCURRENT COPIES.
    pub copies_max: u16,
    /// MAXIMUM CONCURRENT COPIES: those that have a list identifier.
    pub named_copies_max: u8,
    /// Bytes of a block.
    pub block_bytes: u32,
}

impl CopyLimits {
    /// MAXIMUM DESCRIPTOR LIST LENGTH, in bytes.
    #[must_use]
    pub const fn descriptors_bytes(&self) -> u32 {
        self.cscds_max as u32 * CSCD_BYTES as u32 + self.segments_max as u32 * SEGMENT_BYTES as u32
    }

    /// MAXIMUM SEGMENT LENGTH, in bytes: what the field of the descriptor can name.
    const fn segment_bytes(&self) -> u32 {
        SEGMENT_BLOCKS * self.block_bytes
    }

    /// DATA SEGMENT GRANULARITY, a power of two.
    const fn granularity(&self) -> u8 {
        self.block_bytes.trailing_zeros() as u8
    }
}

/// LIST ID USAGE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListUsage {
    /// 00b: what came of the copy is kept.
    Hold,
    /// 10b, the NRCR bit of SPC-3: it need not be.
    Discard,
    /// 11b: there is no list identifier.
    None,
}

/// The parameter list of EXTENDED COPY (LID1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParameterList {
    /// LIST IDENTIFIER.
    pub list: u8,
    /// LIST ID USAGE.
    pub usage: ListUsage,
    /// CSCD descriptors.
    pub cscds: Vec<Cscd>,
    /// Segment descriptors.
    pub segments: Vec<BlockToBlock>,
}

/// An identification descriptor CSCD descriptor: who is a copy source or destination. The logical units that the copy
/// manager reaches are in its own device, so the RELATIVE INITIATOR PORT IDENTIFIER is not looked at; nor is LU ID
/// TYPE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cscd {
    /// The byte of the parameter list where it begins.
    pub at: u16,
    /// NUL, a device that takes everything; obsolete in SPC-4.
    pub null: bool,
    /// PERIPHERAL DEVICE TYPE.
    pub device_type: u8,
    /// The NAA designator of a logical unit, if it is one of eight bytes.
    pub naa: Option<u64>,
    /// DISK BLOCK LENGTH in bytes; zero if it is not told.
    pub block_bytes: u32,
}

/// Segment descriptor 02h. With blocks of one length on both sides DC and CAT make no difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockToBlock {
    /// SOURCE CSCD DESCRIPTOR ID.
    pub source: u16,
    /// DESTINATION CSCD DESCRIPTOR ID.
    pub destination: u16,
    /// BLOCK DEVICE NUMBER OF BLOCKS.
    pub blocks: u16,
    /// SOURCE BLOCK DEVICE LOGICAL BLOCK ADDRESS.
    pub source_lba: u64,
    /// DESTINATION BLOCK DEVICE LOGICAL BLOCK ADDRESS.
    pub destination_lba: u64,
}

/// Where the fields of a segment descriptor stand that an error may be about.
pub mod segment_field {
    /// SOURCE CSCD DESCRIPTOR ID.
    pub const SOURCE: u16 = 4;
    /// DESTINATION CSCD DESCRIPTOR ID.
    pub const DESTINATION: u16 = 6;
    /// SOURCE BLOCK DEVICE LOGICAL BLOCK ADDRESS.
    pub const SOURCE_LBA: u16 = 12;
    /// DESTINATION BLOCK DEVICE LOGICAL BLOCK ADDRESS.
    pub const DESTINATION_LBA: u16 = 20;
}

/// Where the fields of a CSCD descriptor stand that an error may be about.
pub mod cscd_field {
    /// NUL and PERIPHERAL DEVICE TYPE.
    pub const DEVICE_TYPE: u16 = 1;
    /// The designation descriptor.
    pub const DESIGNATION: u16 = 4;
    /// DISK BLOCK LENGTH.
    pub const BLOCK_LENGTH: u16 = 29;
}

fn be16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

fn be32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16_at(bytes, at)) << 16 | u32::from(be16_at(bytes, at + 2))
}

fn be64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32_at(bytes, at)) << 32 | u64::from(be32_at(bytes, at + 4))
}

/// Where a field of the parameter list stands, as far as sense data can tell.
fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

impl ParameterList {
    /// Reads a parameter list that is not empty.
    pub fn of(list: &[u8], limits: &CopyLimits) -> Result<Self, Sense> {
        if list.len() < HEADER_BYTES {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        let cscd_bytes = u64::from(be16_at(list, 2));
        let segment_bytes = u64::from(be32_at(list, 8));
        if cscd_bytes + segment_bytes > u64::from(limits.descriptors_bytes()) {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        if be32_at(list, 12) != 0 {
            return Err(Sense::INLINE_DATA_LENGTH_EXCEEDED.in_list(12));
        }
        // Both are within the limits: neither sum overflows.
        let cscd_end = HEADER_BYTES + cscd_bytes as usize;
        let end = cscd_end + segment_bytes as usize;
        let (Some(cscds), Some(segments)) = (list.get(HEADER_BYTES..cscd_end), list.get(cscd_end..end))
        else {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        };
        let usage = usage_of(list)?;
        let cscds = cscds_of(cscds, limits)?;
        let segments = segments_of(segments, cscd_end, limits)?;
        Ok(Self { list: list[0], usage, cscds, segments })
    }
}

fn usage_of(list: &[u8]) -> Result<ListUsage, Sense> {
    match (list[1] >> 3 & 0x03, list[0]) {
        (0b00, _) => Ok(ListUsage::Hold),
        (0b10, _) => Ok(ListUsage::Discard),
        (0b11, 0) => Ok(ListUsage::None),
        (0b11, _) => Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(0)),
        _ => Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(1)),
    }
}

fn cscds_of(list: &[u8], limits: &CopyLimits) -> Result<Vec<Cscd>, Sense> {
    if !list.len().is_multiple_of(CSCD_BYTES) {
        return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(2));
    }
    if list.len() / CSCD_BYTES > usize::from(limits.cscds_max) {
        return Err(Sense::TOO_MANY_CSCD_DESCRIPTORS.in_list(2));
    }
    let descriptors = list.chunks_exact(CSCD_BYTES).enumerate();
    descriptors.map(|(number, one)| Cscd::of(one, place(HEADER_BYTES + number * CSCD_BYTES))).collect()
}

fn segments_of(list: &[u8], begin: usize, limits: &CopyLimits) -> Result<Vec<BlockToBlock>, Sense> {
    let mut segments = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let at = begin + (list.len() - rest.len());
        if segments.len() >= usize::from(limits.segments_max) {
            return Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS.in_list(8));
        }
        if rest[0] != BLOCK_TO_BLOCK {
            return Err(Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR.in_list(place(at)));
        }
        let Some((one, others)) = rest.split_at_checked(SEGMENT_BYTES) else {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        };
        // DESCRIPTOR LENGTH counts what follows it.
        if usize::from(be16_at(one, 2)) != SEGMENT_BYTES - 4 {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(place(at + 2)));
        }
        segments.push(BlockToBlock::of(one));
        rest = others;
    }
    Ok(segments)
}

impl Cscd {
    fn of(one: &[u8], at: u16) -> Result<Self, Sense> {
        const BINARY: u8 = 0x01;
        const NAA_OF_UNIT: u8 = 0x03;
        if one[0] != IDENTIFICATION {
            return Err(Sense::UNSUPPORTED_CSCD_DESCRIPTOR.in_list(at));
        }
        // ASSOCIATION 00b: the logical unit, not one of its ports.
        let designates = (one[4] & 0x0f, one[5] & 0x3f, one[7]) == (BINARY, NAA_OF_UNIT, 8);
        Ok(Self {
            at,
            null: one[1] & 0x20 != 0,
            device_type: one[1] & 0x1f,
            naa: designates.then(|| be64_at(one, 8)),
            block_bytes: be32_at(one, 28) & 0x00ff_ffff,
        })
    }
}

impl BlockToBlock {
    fn of(one: &[u8]) -> Self {
        Self {
            source: be16_at(one, usize::from(segment_field::SOURCE)),
            destination: be16_at(one, usize::from(segment_field::DESTINATION)),
            blocks: be16_at(one, 10),
            source_lba: be64_at(one, usize::from(segment_field::SOURCE_LBA)),
            destination_lba: be64_at(one, usize::from(segment_field::DESTINATION_LBA)),
        }
    }
}

/// COPY MANAGER STATUS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CopyStatus {
    /// The copy goes on.
    InProgress = 0x00,
    /// It ended, and all of it was done.
    Completed = 0x01,
    /// It ended before that.
    Failed = 0x02,
}

/// Parameter data of RECEIVE COPY STATUS (LID1). No data is ever held, so none is discarded.
#[must_use]
pub fn copy_status(status: CopyStatus, segments: u16, bytes: u32) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 8, status as u8];
    data.extend_from_slice(&segments.to_be_bytes());
    // TRANSFER COUNT UNITS: bytes.
    data.push(0);
    data.extend_from_slice(&bytes.to_be_bytes());
    data
}

/// Parameter data of RECEIVE COPY DATA (LID1): no data is held.
#[must_use]
pub fn held_data() -> Vec<u8> {
    vec![0; 4]
}

/// Parameter data of RECEIVE COPY FAILURE DETAILS (LID1); nothing but its length for a copy that did not fail.
#[must_use]
pub fn failure_details(failure: Option<&Sense>) -> Vec<u8> {
    let Some(sense) = failure else {
        return vec![0; 4];
    };
    let sense = sense.to_fixed();
    let mut data = vec![0; 60];
    // EXTENDED COPY COMMAND STATUS: CHECK CONDITION.
    data[56] = 0x02;
    debug_assert!(sense.len() <= usize::from(u16::MAX), "its length has two bytes");
    data[58..60].copy_from_slice(&place(sense.len()).to_be_bytes());
    data.extend_from_slice(&sense);
    let available = data.len() as u32 - 4;
    data[..4].copy_from_slice(&available.to_be_bytes());
    data
}

/// Descriptor type codes that are known, ascending.
const DESCRIPTORS: [u8; 2] = [BLOCK_TO_BLOCK, IDENTIFICATION];

/// Parameter data of RECEIVE COPY OPERATING PARAMETERS.
#[must_use]
pub fn operating_parameters(limits: &CopyLimits) -> Vec<u8> {
    const SNLID: u8 = 0x01;
    let mut data = vec![0; 44];
    data[4] = SNLID;
    data[8..10].copy_from_slice(&limits.cscds_max.to_be_bytes());
    data[10..12].copy_from_slice(&limits.segments_max.to_be_bytes());
    data[12..16].copy_from_slice(&limits.descriptors_bytes().to_be_bytes());
    data[16..20].copy_from_slice(&limits.segment_bytes().to_be_bytes());
    data[34..36].copy_from_slice(&limits.copies_max.to_be_bytes());
    data[36] = limits.named_copies_max;
    data[37] = limits.granularity();
    debug_assert!(DESCRIPTORS.is_sorted(), "descriptor type codes come in ascending order (SPC-4 6.19)");
    data[43] = DESCRIPTORS.len() as u8;
    data.extend_from_slice(&DESCRIPTORS);
    let available = data.len() as u32 - 4;
    data[..4].copy_from_slice(&available.to_be_bytes());
    data
}

/// Service actions of RECEIVE COPY RESULTS that there are.
pub const RESULTS: [u8; 4] = {
    use super::cdb::service_action as sa;
    [
        sa::RECEIVE_COPY_STATUS,
        sa::RECEIVE_COPY_DATA,
        sa::RECEIVE_COPY_OPERATING_PARAMETERS,
        sa::RECEIVE_COPY_FAILURE_DETAILS,
    ]
};

/// The third-party copy descriptors of VPD page 8Fh (SPC-4 7.8): commands, parameter data, descriptors, CSCD
/// descriptor IDs, copy operations.
#[must_use]
pub fn third_party_copy_page(limits: &CopyLimits) -> Vec<u8> {
    use super::cdb::{opcode, service_action};
    let mut commands = vec![opcode::EXTENDED_COPY, 1, service_action::EXTENDED_COPY_LID1];
    commands.extend_from_slice(&[opcode::RECEIVE_COPY_RESULTS, RESULTS.len() as u8]);
    commands.extend_from_slice(&RESULTS);
    commands.insert(0, commands.len() as u8);

    let mut parameters = vec![0; 28];
    parameters[4..6].copy_from_slice(&limits.cscds_max.to_be_bytes());
    parameters[6..8].copy_from_slice(&limits.segments_max.to_be_bytes());
    parameters[8..12].copy_from_slice(&limits.descriptors_bytes().to_be_bytes());

    let mut descriptors = vec![DESCRIPTORS.len() as u8];
    descriptors.extend_from_slice(&DESCRIPTORS);

    let mut ids = vec![0, 2];
    ids.extend_from_slice(&OWN_UNIT.to_be_bytes());

    let mut operations = vec![0; 32];
    operations[..4].copy_from_slice(&u32::from(limits.copies_max).to_be_bytes());
    operations[4..8].copy_from_slice(&u32::from(limits.named_copies_max).to_be_bytes());
    operations[8..12].copy_from_slice(&limits.segment_bytes().to_be_bytes());
    operations[12] = limits.granularity();

    let mut page = Vec::new();
    for (kind, body) in [
        (0x0001_u16, commands),
        (0x0004, parameters),
        (0x0008, descriptors),
        (0x000c, ids),
        (0x8001, operations),
    ] {
        let mut body = body;
        body.resize(body.len().next_multiple_of(4), 0);
        page.extend_from_slice(&kind.to_be_bytes());
        page.extend_from_slice(&place(body.len()).to_be_bytes());
        page.extend_from_slice(&body);
    }
    page
}

#[cfg(test)]
mod tests;
