//! INQUIRY (SPC-4 6.6): the CDB and the standard data. Vital product data pages are in [`super::vpd`].

use super::cdb::{Cdb, be16};

/// T10 VENDOR IDENTIFICATION.
pub const VENDOR: &[u8; 8] = b"TWINLUN ";
/// PRODUCT IDENTIFICATION.
pub const PRODUCT: &[u8; 16] = b"VIRTUAL-DISK    ";
/// PRODUCT REVISION LEVEL.
pub const REVISION: &[u8; 4] = b"0001";

/// VERSION DESCRIPTORs, no version claimed: SAM-5, iSCSI, SPC-4, SBC-3 (SPC-4 table 147).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0960, 0x0460, 0x04c0];

/// Length of the standard data in bytes.
pub const STANDARD_BYTES: usize = 96;

/// The INQUIRY CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// EVPD: a vital product data page is wanted.
    pub evpd: bool,
    /// The obsolete CMDDT bit.
    pub cmddt: bool,
    /// PAGE CODE.
    pub page: u8,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

impl Inquiry {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self {
            evpd: cdb[1] & 1 != 0,
            cmddt: cdb[1] & 2 != 0,
            page: cdb[2],
            allocation: be16(cdb, 3) as usize,
        }
    }
}

/// PERIPHERAL QUALIFIER and PERIPHERAL DEVICE TYPE, the first byte of every answer to INQUIRY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Peripheral {
    /// A direct access block device, connected.
    Disk = 0x00,
    /// A well known logical unit, connected.
    WellKnown = 0x1e,
    /// Qualifier 011b, type 1Fh: there is no logical unit of that number.
    Absent = 0x7f,
}

/// Standard INQUIRY data (SPC-4 6.6.2): SPC-4, hierarchical LUNs, several ports, command queuing, implicit
/// asymmetric access only, third-party copy, no protection information.
#[must_use]
pub fn standard(peripheral: Peripheral) -> [u8; STANDARD_BYTES] {
    let mut data = [0; STANDARD_BYTES];
    data[0] = peripheral as u8;
    data[2] = 0x06; // VERSION: SPC-4
    data[3] = 0x12; // HISUP, RESPONSE DATA FORMAT 2
    data[4] = (STANDARD_BYTES - 5) as u8;
    data[5] = 0x18; // TPGS 01b, 3PC
    data[6] = 0x10; // MULTIP
    data[7] = 0x02; // CMDQUE
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].copy_from_slice(REVISION);
    for (slot, code) in data[58..74].chunks_exact_mut(2).zip(VERSION_DESCRIPTORS) {
        slot.copy_from_slice(&code.to_be_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_data_is_what_spc_4_lays_out() {
        let data = standard(Peripheral::Disk);
        assert_eq!(data[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x18, 0x10, 0x02]);
        assert_eq!(&data[8..36], b"TWINLUN VIRTUAL-DISK    0001");
        assert_eq!(data[36..58], [0; 22]);
        assert_eq!(data[58..66], [0x00, 0xa0, 0x09, 0x60, 0x04, 0x60, 0x04, 0xc0]);
        assert_eq!(data[66..], [0; 30]);
    }

    #[test]
    fn an_absent_unit_differs_in_its_first_byte_only() {
        let (absent, disk) = (standard(Peripheral::Absent), standard(Peripheral::Disk));
        assert_eq!(absent[0], 0x7f);
        assert_eq!(absent[1..], disk[1..]);
    }

    #[test]
    fn the_cdb_gives_page_and_a_two_byte_allocation_length() {
        let mut cdb = [0; 16];
        cdb[..6].copy_from_slice(&[0x12, 0x01, 0x83, 0x01, 0x02, 0]);
        let wanted = Inquiry { evpd: true, cmddt: false, page: 0x83, allocation: 0x102 };
        assert_eq!(Inquiry::of(&cdb), wanted);
    }
}
