//! UNMAP, WRITE SAME and GET LBA STATUS (SBC-3 5.28, 5.41, 5.42, 5.4): the CDBs and their parameter data.

use super::cdb::{Cdb, be16, be32, be64};
use super::sense::Sense;
use crate::block::BlockRange;

/// Bytes before the first UNMAP block descriptor.
pub const UNMAP_HEADER_BYTES: usize = 8;

/// Bytes of one UNMAP block descriptor.
pub const UNMAP_DESCRIPTOR_BYTES: usize = 16;

/// The UNMAP CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmap {
    /// ANCHOR: unmapped blocks keep their space.
    pub anchor: bool,
    /// PARAMETER LIST LENGTH in bytes; zero is allowed and unmaps nothing.
    pub list_bytes: u16,
}

impl Unmap {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self { anchor: cdb[1] & 1 != 0, list_bytes: be16(cdb, 7) }
    }
}

/// An UNMAP block descriptor: a first block and a count, unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnmapDescriptor {
    /// UNMAP LOGICAL BLOCK ADDRESS.
    pub lba: u64,
    /// NUMBER OF LOGICAL BLOCKS; may be zero.
    pub blocks: u32,
}

/// Takes an UNMAP parameter list apart (SBC-3 5.28.2). A last descriptor that is not whole by the list's own
/// length is ignored, as the standard says; a list shorter than it says is refused.
pub fn unmap_descriptors(list: &[u8]) -> Result<Vec<UnmapDescriptor>, Sense> {
    let Some((header, rest)) = list.split_first_chunk::<UNMAP_HEADER_BYTES>() else {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    };
    let bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let Some(descriptors) = rest.get(..bytes) else {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    };
    let whole = descriptors.as_chunks::<UNMAP_DESCRIPTOR_BYTES>().0;
    Ok(whole.iter().map(|one| UnmapDescriptor { lba: be64(one, 0), blocks: be32(one, 8) }).collect())
}

/// The WRITE SAME CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteSame {
    /// LOGICAL BLOCK ADDRESS.
    pub lba: u64,
    /// NUMBER OF LOGICAL BLOCKS; zero would mean up to the last block.
    pub blocks: u32,
    /// WRPROTECT.
    pub protect: u8,
    /// ANCHOR.
    pub anchor: bool,
    /// UNMAP.
    pub unmap: bool,
    /// PBDATA or LBDATA, both obsolete: each block is to hold its own address.
    pub address_data: bool,
    /// NDOB: there is no data-out buffer, zeros are written. Only WRITE SAME (16) has it.
    pub no_data: bool,
}

impl WriteSame {
    /// WRITE SAME (10).
    #[must_use]
    pub const fn of_10(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be32(cdb, 2) as u64, be16(cdb, 7) as u32, false)
    }

    /// WRITE SAME (16).
    #[must_use]
    pub const fn of_16(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be64(cdb, 2), be32(cdb, 10), cdb[1] & 0x01 != 0)
    }

    const fn with_flags(cdb: &Cdb, lba: u64, blocks: u32, no_data: bool) -> Self {
        Self {
            lba,
            blocks,
            protect: cdb[1] >> 5,
            anchor: cdb[1] & 0x10 != 0,
            unmap: cdb[1] & 0x08 != 0,
            address_data: cdb[1] & 0x06 != 0,
            no_data,
        }
    }
}

/// The GET LBA STATUS CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetLbaStatus {
    /// STARTING LOGICAL BLOCK ADDRESS.
    pub lba: u64,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: u32,
}

impl GetLbaStatus {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self { lba: be64(cdb, 2), allocation: be32(cdb, 10) }
    }
}

/// Bytes before the first LBA status descriptor.
pub const LBA_STATUS_HEADER_BYTES: usize = 8;

/// Bytes of one LBA status descriptor.
pub const LBA_STATUS_DESCRIPTOR_BYTES: usize = 16;

/// PROVISIONING STATUS (SBC-3 table 44).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ProvisioningStatus {
    /// Mapped, or nobody knows.
    Mapped = 0,
    /// Deallocated: a hole, which reads as zeros.
    Deallocated = 1,
}

/// One LBA status descriptor; a count that does not fit its 32 bits is cut to what does.
#[must_use]
pub fn lba_status_descriptor(
    range: BlockRange,
    status: ProvisioningStatus,
) -> [u8; LBA_STATUS_DESCRIPTOR_BYTES] {
    let mut descriptor = [0; LBA_STATUS_DESCRIPTOR_BYTES];
    descriptor[..8].copy_from_slice(&range.start.0.to_be_bytes());
    descriptor[8..12].copy_from_slice(&u32::try_from(range.blocks).unwrap_or(u32::MAX).to_be_bytes());
    descriptor[12] = status as u8;
    descriptor
}

/// The parameter data of GET LBA STATUS (SBC-3 5.4.2) around its descriptors. PARAMETER DATA LENGTH counts what
/// follows it.
#[must_use]
pub fn lba_status(descriptors: &[u8]) -> Vec<u8> {
    debug_assert!(descriptors.len().is_multiple_of(LBA_STATUS_DESCRIPTOR_BYTES), "whole descriptors only");
    let mut data = vec![0; LBA_STATUS_HEADER_BYTES];
    let length = u32::try_from(descriptors.len() + 4).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&length.to_be_bytes());
    data.extend_from_slice(descriptors);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A parameter list that says `said` bytes of descriptors and holds `held`.
    fn list(said: u16, held: &[u8]) -> Vec<u8> {
        let mut list = vec![0; 8];
        list[..2].copy_from_slice(&(said + 6).to_be_bytes());
        list[2..4].copy_from_slice(&said.to_be_bytes());
        list.extend_from_slice(held);
        list
    }

    const ONE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 8, 0, 0, 0, 0];

    #[test]
    fn descriptors_are_read_in_their_order() {
        let two = [[0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], ONE].concat();
        assert_eq!(
            unmap_descriptors(&list(32, &two)),
            Ok(vec![
                UnmapDescriptor { lba: 1 << 32, blocks: u32::MAX },
                UnmapDescriptor { lba: 0x1000, blocks: 8 }
            ])
        );
    }

    #[test]
    fn a_partial_last_descriptor_is_ignored_and_a_truncated_list_refused() {
        assert_eq!(unmap_descriptors(&list(17, &[&ONE[..], &[0; 1]].concat())).map(|all| all.len()), Ok(1));
        assert_eq!(unmap_descriptors(&list(0, &[])), Ok(vec![]));
        assert_eq!(unmap_descriptors(&list(32, &ONE)), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
        assert_eq!(unmap_descriptors(&[0; 7]), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
    }

    #[test]
    fn write_same_flags_are_told_apart() {
        let mut cdb = [0; 16];
        cdb[..14].copy_from_slice(&[0x93, 0x09, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        let wanted = WriteSame {
            lba: 1 << 32,
            blocks: 0x1_0000,
            protect: 0,
            anchor: false,
            unmap: true,
            address_data: false,
            no_data: true,
        };
        assert_eq!(WriteSame::of_16(&cdb), wanted);
        let ten = WriteSame::of_10(&[0x41, 0xf7, 0, 0, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let wanted = WriteSame {
            lba: 5,
            blocks: 256,
            protect: 7,
            anchor: true,
            unmap: false,
            address_data: true,
            no_data: false,
        };
        assert_eq!(ten, wanted);
    }

    #[test]
    fn get_lba_status_has_its_address_and_allocation_length() {
        let mut cdb = [0; 16];
        cdb[..14].copy_from_slice(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 1, 0]);
        assert_eq!(GetLbaStatus::of(&cdb), GetLbaStatus { lba: 5, allocation: 256 });
    }

    #[test]
    fn descriptors_stand_behind_a_header_that_counts_them() {
        let hole = BlockRange::new(5, 3).unwrap();
        let rest = BlockRange::new(8, 1 << 33).unwrap();
        let descriptors = [
            lba_status_descriptor(hole, ProvisioningStatus::Deallocated),
            lba_status_descriptor(rest, ProvisioningStatus::Mapped),
        ];
        let mut wanted = vec![0; 40];
        (wanted[3], wanted[15], wanted[19], wanted[20]) = (36, 5, 3, 1);
        wanted[31] = 8;
        wanted[32..36].fill(0xff);
        assert_eq!(lba_status(&descriptors.concat()), wanted);
    }

    proptest! {
        #[test]
        fn no_parameter_list_yields_more_descriptors_than_it_has_bytes_for(
            list in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            if let Ok(all) = unmap_descriptors(&list) {
                prop_assert!(all.len() * UNMAP_DESCRIPTOR_BYTES + UNMAP_HEADER_BYTES <= list.len());
            }
        }
    }
}
