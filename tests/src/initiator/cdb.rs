//! Command descriptor blocks, built from SBC-3 and SPC-4, apart from the parser under test.

/// A SCSI command as the initiator sends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cdb(pub [u8; 16]);

fn cdb(bytes: &[u8]) -> Cdb {
    let mut whole = [0; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    Cdb(whole)
}

/// The 10-byte layout: LBA in bytes 2 to 5, a 16-bit length in bytes 7 and 8.
fn ten(opcode: u8, flags: u8, lba: u32, length: u16) -> Cdb {
    let [a, b, c, d] = lba.to_be_bytes();
    let [e, f] = length.to_be_bytes();
    cdb(&[opcode, flags, a, b, c, d, 0, e, f, 0])
}

/// The 16-byte layout: LBA in bytes 2 to 9, a 32-bit length in bytes 10 to 13.
fn sixteen(opcode: u8, flags: u8, lba: u64, length: u32) -> Cdb {
    let mut bytes = [0; 16];
    bytes[0] = opcode;
    bytes[1] = flags;
    bytes[2..10].copy_from_slice(&lba.to_be_bytes());
    bytes[10..14].copy_from_slice(&length.to_be_bytes());
    Cdb(bytes)
}

fn fua_bit(fua: bool) -> u8 {
    if fua { 0x08 } else { 0 }
}

impl Cdb {
    /// TEST UNIT READY (SPC-4 6.47).
    #[must_use]
    pub fn test_unit_ready() -> Self {
        cdb(&[0x00, 0, 0, 0, 0, 0])
    }

    /// INQUIRY (SPC-4 6.6); with a page, its vital product data.
    #[must_use]
    pub fn inquiry(page: Option<u8>, allocation: u16) -> Self {
        let [high, low] = allocation.to_be_bytes();
        cdb(&[0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0])
    }

    /// MODE SENSE (6) of a page without block descriptors (SPC-4 6.13); `control` is PC.
    #[must_use]
    pub fn mode_sense_6(control: u8, page: u8, allocation: u8) -> Self {
        cdb(&[0x1a, 0x08, control << 6 | page, 0, allocation, 0])
    }

    /// MODE SELECT (6) (SPC-4 6.11); with `save` the pages are saved.
    #[must_use]
    pub fn mode_select_6(save: bool, length: u8) -> Self {
        cdb(&[0x15, 0x10 | u8::from(save), 0, 0, length, 0])
    }

    /// REPORT LUNS (SPC-4 6.33).
    #[must_use]
    pub fn report_luns(allocation: u32) -> Self {
        let [a, b, c, d] = allocation.to_be_bytes();
        cdb(&[0xa0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// READ CAPACITY (16) (SBC-3 5.16).
    #[must_use]
    pub fn read_capacity_16() -> Self {
        sixteen(0x9e, 0x10, 0, 32)
    }

    /// READ (10) (SBC-3 5.11).
    #[must_use]
    pub fn read_10(lba: u32, blocks: u16) -> Self {
        ten(0x28, 0, lba, blocks)
    }

    /// READ (16) (SBC-3 5.13).
    #[must_use]
    pub fn read_16(lba: u64, blocks: u32) -> Self {
        sixteen(0x88, 0, lba, blocks)
    }

    /// WRITE (10) (SBC-3 5.33).
    #[must_use]
    pub fn write_10(lba: u32, blocks: u16, fua: bool) -> Self {
        ten(0x2a, fua_bit(fua), lba, blocks)
    }

    /// WRITE (16) (SBC-3 5.35).
    #[must_use]
    pub fn write_16(lba: u64, blocks: u32, fua: bool) -> Self {
        sixteen(0x8a, fua_bit(fua), lba, blocks)
    }

    /// COMPARE AND WRITE (SBC-3 5.3): its data-out buffer is what to compare, then what to write.
    #[must_use]
    pub fn compare_and_write(lba: u64, blocks: u8) -> Self {
        let mut whole = sixteen(0x89, 0, lba, 0);
        whole.0[13] = blocks;
        whole
    }

    /// WRITE SAME (10) (SBC-3 5.43).
    #[must_use]
    pub fn write_same_10(lba: u32, blocks: u16, unmap: bool) -> Self {
        ten(0x41, if unmap { 0x08 } else { 0 }, lba, blocks)
    }

    /// WRITE SAME (16) (SBC-3 5.44).
    #[must_use]
    pub fn write_same_16(lba: u64, blocks: u32, unmap: bool) -> Self {
        sixteen(0x93, if unmap { 0x08 } else { 0 }, lba, blocks)
    }

    /// WRITE SAME (16) with NDOB: zeros, without a data-out buffer.
    #[must_use]
    pub fn write_zeros_16(lba: u64, blocks: u32, unmap: bool) -> Self {
        sixteen(0x93, if unmap { 0x09 } else { 0x01 }, lba, blocks)
    }

    /// ORWRITE (16) (SBC-3 5.5).
    #[must_use]
    pub fn or_write_16(lba: u64, blocks: u32, fua: bool) -> Self {
        sixteen(0x8b, fua_bit(fua), lba, blocks)
    }

    /// WRITE ATOMIC (16) (SBC-4 5.48), without a boundary.
    #[must_use]
    pub fn write_atomic_16(lba: u64, blocks: u16, fua: bool) -> Self {
        sixteen(0x9c, fua_bit(fua), lba, u32::from(blocks))
    }

    /// VERIFY (16) (SBC-3 5.31) with BYTCHK 01b: its data-out buffer is what the blocks must hold.
    #[must_use]
    pub fn verify_16(lba: u64, blocks: u32) -> Self {
        sixteen(0x8f, 0x02, lba, blocks)
    }

    /// WRITE AND VERIFY (16) (SBC-3 5.38).
    #[must_use]
    pub fn write_and_verify_16(lba: u64, blocks: u32) -> Self {
        sixteen(0x8e, 0x02, lba, blocks)
    }

    /// EXTENDED COPY (LID1) (SPC-4 6.4) with a parameter list of so many bytes.
    #[must_use]
    pub fn extended_copy(bytes: u32) -> Self {
        sixteen(0x83, 0x00, 0, bytes)
    }

    /// SANITIZE, OVERWRITE (SBC-4 5.30) with a parameter list of so many bytes; see [`overwrite_list`]. With `immed` it
    /// is answered when it has begun.
    #[must_use]
    pub fn sanitize_overwrite(bytes: u16, immed: bool) -> Self {
        ten(0x48, u8::from(immed) << 7 | 0x01, 0, bytes)
    }

    /// RECEIVE COPY RESULTS, by its service action and the list identifier.
    #[must_use]
    pub fn receive_copy_results(action: u8, list: u8, allocation: u32) -> Self {
        sixteen(0x84, action, u64::from(list) << 56, allocation)
    }

    /// UNMAP (SBC-3 5.28) of a parameter list of `bytes`; see [`unmap_list`].
    #[must_use]
    pub fn unmap(bytes: u16) -> Self {
        ten(0x42, 0, 0, bytes)
    }

    /// SYNCHRONIZE CACHE (10) of the whole LUN (SBC-3 5.22).
    #[must_use]
    pub fn synchronize_cache_10() -> Self {
        ten(0x35, 0, 0, 0)
    }

    /// SYNCHRONIZE CACHE (16) of the whole LUN (SBC-3 5.23).
    #[must_use]
    pub fn synchronize_cache_16() -> Self {
        sixteen(0x91, 0, 0, 0)
    }
}

/// A logical unit for an EXTENDED COPY, by its NAA designator: an identification descriptor CSCD descriptor.
#[must_use]
pub fn copy_end(naa: u64) -> [u8; 32] {
    let mut descriptor = [0; 32];
    descriptor[..8].copy_from_slice(&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 8]);
    descriptor[8..16].copy_from_slice(&naa.to_be_bytes());
    descriptor[30] = 2;
    descriptor
}

/// A segment descriptor 02h: block to block, as (source, destination, blocks, their first blocks).
#[must_use]
pub fn copy_segment(ends: (u16, u16), blocks: u16, lbas: (u64, u64)) -> [u8; 28] {
    let mut descriptor = [0; 28];
    descriptor[..4].copy_from_slice(&[0x02, 0x02, 0, 0x18]);
    descriptor[4..6].copy_from_slice(&ends.0.to_be_bytes());
    descriptor[6..8].copy_from_slice(&ends.1.to_be_bytes());
    descriptor[10..12].copy_from_slice(&blocks.to_be_bytes());
    descriptor[12..20].copy_from_slice(&lbas.0.to_be_bytes());
    descriptor[20..28].copy_from_slice(&lbas.1.to_be_bytes());
    descriptor
}

/// The parameter list of SANITIZE, OVERWRITE: one pass with this pattern.
#[must_use]
pub fn overwrite_list(pattern: &[u8]) -> Vec<u8> {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    [&[0x01, 0, high, low], pattern].concat()
}

/// The parameter list of EXTENDED COPY (LID1), its results held under this list identifier.
#[must_use]
pub fn copy_list(list: u8, ends: &[[u8; 32]], segments: &[[u8; 28]]) -> Vec<u8> {
    let mut all = vec![0; 16];
    all[0] = list;
    all[2..4].copy_from_slice(&(32 * ends.len() as u16).to_be_bytes());
    all[8..12].copy_from_slice(&(28 * segments.len() as u32).to_be_bytes());
    all.extend(ends.as_flattened());
    all.extend(segments.as_flattened());
    all
}

/// The parameter list of UNMAP (SBC-3 5.28.2) for ranges of (first block, blocks).
#[must_use]
pub fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = u16::try_from(ranges.len() * 16).unwrap_or(u16::MAX);
    let mut list = Vec::new();
    list.extend_from_slice(&(descriptors.saturating_add(6)).to_be_bytes());
    list.extend_from_slice(&descriptors.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

/// The LUN field of a PDU (SAM-5 4.7.3): peripheral addressing below 256, flat space addressing above.
#[must_use]
pub fn lun_field(number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    if number < 256 { [0, low, 0, 0, 0, 0, 0, 0] } else { [0x40 | high, low, 0, 0, 0, 0, 0, 0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_descriptor_blocks_have_their_fields_where_the_standard_puts_them() {
        let rows: [(Cdb, &[u8]); 10] = [
            (Cdb::read_10(0x0102_0304, 0x0506), &[0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]),
            (Cdb::write_10(1, 8, true), &[0x2a, 8, 0, 0, 0, 1, 0, 0, 8, 0]),
            (Cdb::read_16(0x0102, 3), &[0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0]),
            (Cdb::compare_and_write(9, 1), &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0]),
            (Cdb::write_same_16(5, 6, true), &[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0]),
            (Cdb::write_zeros_16(5, 6, false), &[0x93, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0]),
            (Cdb::write_atomic_16(5, 6, true), &[0x9c, 8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0]),
            (Cdb::verify_16(5, 6), &[0x8f, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0]),
            (Cdb::unmap(24), &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]),
            (Cdb::inquiry(Some(0x83), 255), &[0x12, 1, 0x83, 0, 255, 0]),
        ];
        for (built, expected) in rows {
            assert_eq!(&built.0[..expected.len()], expected);
        }
    }

    #[test]
    fn an_unmap_list_counts_its_own_bytes() {
        let list = unmap_list(&[(7, 8), (100, 1)]);
        assert_eq!(list.len(), 40);
        assert_eq!(&list[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
        assert_eq!(&list[8..24], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0]);
    }
}
