//! REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36).

use super::cdb::{Cdb, be32};

/// The CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportTaskManagementFunctions {
    /// REPD: the extended parameter data, with timeouts.
    pub extended: bool,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: u32,
}

/// ALLOCATION LENGTH below this is refused (SPC-4 6.36.1).
pub const ALLOCATION_MIN: u32 = 4;

impl ReportTaskManagementFunctions {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self { extended: cdb[2] & 0x80 != 0, allocation: be32(cdb, 6) }
    }

    /// ABORT TASK, ABORT TASK SET, CLEAR TASK SET and LOGICAL UNIT RESET, which are those that SCSI has and iSCSI
    /// carries to this target; no timeouts are specified.
    #[must_use]
    pub fn parameter_data(&self) -> Vec<u8> {
        const ATS: u8 = 0x80;
        const ATSS: u8 = 0x40;
        const CTSS: u8 = 0x10;
        const LURS: u8 = 0x08;
        let mut data = vec![0; if self.extended { 16 } else { 4 }];
        data[0] = ATS | ATSS | CTSS | LURS;
        if self.extended {
            data[3] = 12; // ADDITIONAL DATA LENGTH
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_told_with_and_without_timeouts() {
        let mut cdb = [0; 16];
        cdb[..10].copy_from_slice(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 1, 2]);
        let asked = ReportTaskManagementFunctions::of(&cdb);
        assert_eq!((asked.parameter_data(), asked.allocation), (vec![0xd8, 0, 0, 0], 0x102));
        cdb[2] = 0x80;
        let mut wanted = vec![0; 16];
        (wanted[0], wanted[3]) = (0xd8, 12);
        assert_eq!(ReportTaskManagementFunctions::of(&cdb).parameter_data(), wanted);
    }
}
