//! READ DEFECT DATA (10) and (12) (SBC-3 5.14, 5.15): there are no defects, and both lists are empty.

use super::cdb::{Cdb, be16, be32};

/// Which lists are asked for, and how addresses would be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadDefectData {
    /// READ DEFECT DATA (12), which has the longer header.
    pub twelve: bool,
    /// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT, where the answer has them too.
    pub request: u8,
    /// ADDRESS DESCRIPTOR INDEX of READ DEFECT DATA (12): the first defect wanted.
    pub index: u32,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

impl ReadDefectData {
    /// READ DEFECT DATA (10).
    #[must_use]
    pub const fn of_10(cdb: &Cdb) -> Self {
        Self { twelve: false, request: cdb[2] & 0x1f, index: 0, allocation: be16(cdb, 7) as usize }
    }

    /// READ DEFECT DATA (12).
    #[must_use]
    pub const fn of_12(cdb: &Cdb) -> Self {
        Self { twelve: true, request: cdb[1] & 0x1f, index: be32(cdb, 2), allocation: be32(cdb, 6) as usize }
    }

    /// DEFECT LIST FORMAT 111b is reserved (SBC-3 table 15).
    #[must_use]
    pub const fn format_is_reserved(&self) -> bool {
        self.request & 0x07 == 0x07
    }

    /// The parameter data: a header that names the lists asked for and counts no defect.
    #[must_use]
    pub fn parameter_data(&self) -> Vec<u8> {
        let mut data = vec![0; if self.twelve { 8 } else { 4 }];
        data[1] = self.request;
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_are_empty_in_the_format_asked_for() {
        let mut cdb = [0; 16];
        cdb[..10].copy_from_slice(&[0x37, 0, 0x1d, 0, 0, 0, 0, 1, 2, 0]);
        let ten = ReadDefectData::of_10(&cdb);
        assert_eq!((ten.parameter_data(), ten.allocation), (vec![0, 0x1d, 0, 0], 0x102));
        cdb[..12].copy_from_slice(&[0xb7, 0x08, 0, 0, 0, 1, 0, 0, 1, 2, 0, 0]);
        let twelve = ReadDefectData::of_12(&cdb);
        assert_eq!(twelve.parameter_data(), [0, 0x08, 0, 0, 0, 0, 0, 0]);
        assert_eq!((twelve.index, twelve.allocation), (1, 0x102));
        assert!(!twelve.format_is_reserved());
        cdb[1] = 0x0f;
        assert!(ReadDefectData::of_12(&cdb).format_is_reserved());
    }
}
