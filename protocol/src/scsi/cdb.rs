//! Command descriptor blocks (SPC-4 4.3): operation codes, the control byte, and the CDBs that name blocks.
//!
//! A CDB shorter than 16 bytes stands at the start of the 16-byte field of the SCSI Command PDU (RFC 7143
//! 11.3.5). Decoding never fails: every bit pattern means something, and what is not allowed is for the device
//! server to refuse.

/// A command descriptor block of up to 16 bytes.
pub type Cdb = [u8; 16];

/// Operation codes (SPC-4 table E.2, SBC-3 table 10).
pub mod opcode {
    /// TEST UNIT READY
    pub const TEST_UNIT_READY: u8 = 0x00;
    /// REQUEST SENSE
    pub const REQUEST_SENSE: u8 = 0x03;
    /// FORMAT UNIT
    pub const FORMAT_UNIT: u8 = 0x04;
    /// READ (6)
    pub const READ_6: u8 = 0x08;
    /// WRITE (6)
    pub const WRITE_6: u8 = 0x0a;
    /// INQUIRY
    pub const INQUIRY: u8 = 0x12;
    /// MODE SELECT (6)
    pub const MODE_SELECT_6: u8 = 0x15;
    /// RESERVE (6)
    pub const RESERVE_6: u8 = 0x16;
    /// RELEASE (6)
    pub const RELEASE_6: u8 = 0x17;
    /// MODE SENSE (6)
    pub const MODE_SENSE_6: u8 = 0x1a;
    /// START STOP UNIT
    pub const START_STOP_UNIT: u8 = 0x1b;
    /// SEND DIAGNOSTIC
    pub const SEND_DIAGNOSTIC: u8 = 0x1d;
    /// PREVENT ALLOW MEDIUM REMOVAL
    pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
    /// READ CAPACITY (10)
    pub const READ_CAPACITY_10: u8 = 0x25;
    /// READ (10)
    pub const READ_10: u8 = 0x28;
    /// WRITE (10)
    pub const WRITE_10: u8 = 0x2a;
    /// SYNCHRONIZE CACHE (10)
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    /// WRITE AND VERIFY (10)
    pub const WRITE_AND_VERIFY_10: u8 = 0x2e;
    /// VERIFY (10)
    pub const VERIFY_10: u8 = 0x2f;
    /// PRE-FETCH (10)
    pub const PRE_FETCH_10: u8 = 0x34;
    /// READ DEFECT DATA (10)
    pub const READ_DEFECT_DATA_10: u8 = 0x37;
    /// WRITE SAME (10)
    pub const WRITE_SAME_10: u8 = 0x41;
    /// UNMAP
    pub const UNMAP: u8 = 0x42;
    /// SANITIZE
    pub const SANITIZE: u8 = 0x48;
    /// LOG SENSE
    pub const LOG_SENSE: u8 = 0x4d;
    /// MODE SELECT (10)
    pub const MODE_SELECT_10: u8 = 0x55;
    /// RESERVE (10)
    pub const RESERVE_10: u8 = 0x56;
    /// RELEASE (10)
    pub const RELEASE_10: u8 = 0x57;
    /// PERSISTENT RESERVE IN
    pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
    /// PERSISTENT RESERVE OUT
    pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
    /// MODE SENSE (10)
    pub const MODE_SENSE_10: u8 = 0x5a;
    /// THIRD-PARTY COPY OUT: EXTENDED COPY
    pub const EXTENDED_COPY: u8 = 0x83;
    /// THIRD-PARTY COPY IN: RECEIVE COPY RESULTS
    pub const RECEIVE_COPY_RESULTS: u8 = 0x84;
    /// READ (16)
    pub const READ_16: u8 = 0x88;
    /// COMPARE AND WRITE
    pub const COMPARE_AND_WRITE: u8 = 0x89;
    /// WRITE (16)
    pub const WRITE_16: u8 = 0x8a;
    /// ORWRITE (16)
    pub const ORWRITE_16: u8 = 0x8b;
    /// WRITE AND VERIFY (16)
    pub const WRITE_AND_VERIFY_16: u8 = 0x8e;
    /// VERIFY (16)
    pub const VERIFY_16: u8 = 0x8f;
    /// PRE-FETCH (16)
    pub const PRE_FETCH_16: u8 = 0x90;
    /// SYNCHRONIZE CACHE (16)
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    /// WRITE SAME (16)
    pub const WRITE_SAME_16: u8 = 0x93;
    /// WRITE ATOMIC (16)
    pub const WRITE_ATOMIC_16: u8 = 0x9c;
    /// SERVICE ACTION IN (16)
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    /// REPORT LUNS
    pub const REPORT_LUNS: u8 = 0xa0;
    /// MAINTENANCE IN
    pub const MAINTENANCE_IN: u8 = 0xa3;
    /// READ (12)
    pub const READ_12: u8 = 0xa8;
    /// WRITE (12)
    pub const WRITE_12: u8 = 0xaa;
    /// WRITE AND VERIFY (12)
    pub const WRITE_AND_VERIFY_12: u8 = 0xae;
    /// VERIFY (12)
    pub const VERIFY_12: u8 = 0xaf;
    /// READ DEFECT DATA (12)
    pub const READ_DEFECT_DATA_12: u8 = 0xb7;
}

/// Service actions: the low five bits of byte 1 of the opcodes that have them.
pub mod service_action {
    /// EXTENDED COPY (LID1), of THIRD-PARTY COPY OUT
    pub const EXTENDED_COPY_LID1: u8 = 0x00;
    /// RECEIVE COPY STATUS (LID1), of THIRD-PARTY COPY IN
    pub const RECEIVE_COPY_STATUS: u8 = 0x00;
    /// RECEIVE COPY DATA (LID1), of THIRD-PARTY COPY IN
    pub const RECEIVE_COPY_DATA: u8 = 0x01;
    /// RECEIVE COPY OPERATING PARAMETERS, of THIRD-PARTY COPY IN
    pub const RECEIVE_COPY_OPERATING_PARAMETERS: u8 = 0x03;
    /// RECEIVE COPY FAILURE DETAILS (LID1), of THIRD-PARTY COPY IN
    pub const RECEIVE_COPY_FAILURE_DETAILS: u8 = 0x04;
    /// READ CAPACITY (16), of SERVICE ACTION IN (16)
    pub const READ_CAPACITY_16: u8 = 0x10;
    /// GET LBA STATUS, of SERVICE ACTION IN (16)
    pub const GET_LBA_STATUS: u8 = 0x12;
    /// REPORT TARGET PORT GROUPS, of MAINTENANCE IN
    pub const REPORT_TARGET_PORT_GROUPS: u8 = 0x0a;
    /// REPORT SUPPORTED OPERATION CODES, of MAINTENANCE IN
    pub const REPORT_SUPPORTED_OPERATION_CODES: u8 = 0x0c;
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, of MAINTENANCE IN
    pub const REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS: u8 = 0x0d;
}

/// NACA, a bit of the control byte that ends every CDB (SAM-5 5.2).
pub const CONTROL_NACA: u8 = 0x04;

/// The service action of a CDB whose operation code has them.
#[must_use]
pub const fn service_action(cdb: &Cdb) -> u8 {
    cdb[1] & 0x1f
}

/// Two bytes, most significant first.
pub(crate) const fn be16(cdb: &Cdb, at: usize) -> u16 {
    u16::from_be_bytes([cdb[at], cdb[at + 1]])
}

/// Four bytes, most significant first.
pub(crate) const fn be32(cdb: &Cdb, at: usize) -> u32 {
    u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]])
}

/// Eight bytes, most significant first.
pub(crate) const fn be64(cdb: &Cdb, at: usize) -> u64 {
    ((be32(cdb, at) as u64) << 32) | be32(cdb, at + 4) as u64
}

/// The fields that READ, WRITE, VERIFY, ORWRITE, PRE-FETCH and SYNCHRONIZE CACHE share (SBC-3 5.5 to 5.11,
/// 5.18 to 5.22, 5.29 to 5.38).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// LOGICAL BLOCK ADDRESS.
    pub lba: u64,
    /// TRANSFER LENGTH, or NUMBER OF LOGICAL BLOCKS, in blocks.
    pub blocks: u32,
    /// RDPROTECT or WRPROTECT: protection information, 0 for none.
    pub protect: u8,
    /// Disable page out: a hint not to keep the blocks cached.
    pub dpo: bool,
    /// Force unit access.
    pub fua: bool,
}

impl Transfer {
    /// READ (6), WRITE (6): a TRANSFER LENGTH of zero means 256 blocks.
    #[must_use]
    pub const fn of_6(cdb: &Cdb) -> Self {
        let blocks = if cdb[4] == 0 { 256 } else { cdb[4] as u32 };
        Self { lba: (be32(cdb, 0) & 0x1f_ffff) as u64, blocks, protect: 0, dpo: false, fua: false }
    }

    /// READ (10), WRITE (10), SYNCHRONIZE CACHE (10).
    #[must_use]
    pub const fn of_10(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be32(cdb, 2) as u64, be16(cdb, 7) as u32)
    }

    /// READ (12), WRITE (12).
    #[must_use]
    pub const fn of_12(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be32(cdb, 2) as u64, be32(cdb, 6))
    }

    /// READ (16), WRITE (16), SYNCHRONIZE CACHE (16).
    #[must_use]
    pub const fn of_16(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be64(cdb, 2), be32(cdb, 10))
    }

    /// COMPARE AND WRITE (SBC-3 5.3): the length counts the blocks compared, as many again are written.
    #[must_use]
    pub const fn of_compare_and_write(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be64(cdb, 2), cdb[13] as u32)
    }

    /// WRITE ATOMIC (16) (SBC-4 5.48): the length has two bytes, before it stands the ATOMIC BOUNDARY.
    #[must_use]
    pub const fn of_write_atomic(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, be64(cdb, 2), be16(cdb, 12) as u32)
    }

    const fn with_flags(cdb: &Cdb, lba: u64, blocks: u32) -> Self {
        Self { lba, blocks, protect: cdb[1] >> 5, dpo: cdb[1] & 0x10 != 0, fua: cdb[1] & 0x08 != 0 }
    }
}

/// ATOMIC BOUNDARY of WRITE ATOMIC (16) (SBC-4 5.48), in blocks; zero if the whole transfer is one.
#[must_use]
pub const fn atomic_boundary(cdb: &Cdb) -> u16 {
    be16(cdb, 10)
}

/// BYTCHK of VERIFY and WRITE AND VERIFY (SBC-3 table 137): what the blocks are compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteCheck {
    /// 00b: nothing.
    None,
    /// 01b: the data-out buffer.
    Whole,
    /// 10b
    Reserved,
    /// 11b: the one block of the data-out buffer.
    OneBlock,
}

impl ByteCheck {
    /// Decodes byte 1 of the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        match cdb[1] >> 1 & 3 {
            0 => Self::None,
            1 => Self::Whole,
            2 => Self::Reserved,
            _ => Self::OneBlock,
        }
    }
}

/// START STOP UNIT (SBC-3 5.25). IMMED is not made use of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartStopUnit {
    /// POWER CONDITION; zero for the START bit.
    pub power_condition: u8,
    /// LOEJ: load or eject the medium.
    pub load_eject: bool,
    /// START.
    pub start: bool,
}

impl StartStopUnit {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self { power_condition: cdb[4] >> 4, load_eject: cdb[4] & 0x02 != 0, start: cdb[4] & 0x01 != 0 }
    }
}

/// SEND DIAGNOSTIC (SPC-4 6.42).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendDiagnostic {
    /// SELF-TEST CODE; zero for none but the default self-test.
    pub code: u8,
    /// SELFTEST: the default self-test.
    pub self_test: bool,
    /// PARAMETER LIST LENGTH in bytes.
    pub list_bytes: u16,
}

impl SendDiagnostic {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self { code: cdb[1] >> 5, self_test: cdb[1] & 0x04 != 0, list_bytes: be16(cdb, 3) }
    }
}

/// REQUEST SENSE (SPC-4 6.39).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestSense {
    /// DESC: descriptor format instead of fixed format.
    pub descriptor: bool,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

impl RequestSense {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        Self { descriptor: cdb[1] & 1 != 0, allocation: cdb[4] as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CDB from its bytes.
    fn cdb(bytes: &[u8]) -> Cdb {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    fn plain(lba: u64, blocks: u32) -> Transfer {
        Transfer { lba, blocks, protect: 0, dpo: false, fua: false }
    }

    #[test]
    fn a_six_byte_transfer_of_zero_blocks_means_256_and_its_address_has_21_bits() {
        assert_eq!(Transfer::of_6(&cdb(&[0x08, 0xff, 0xff, 0xfe, 0, 0])), plain(0x1f_fffe, 256));
        assert_eq!(Transfer::of_6(&cdb(&[0x0a, 0, 0x12, 0x34, 7, 0])), plain(0x1234, 7));
    }

    #[test]
    fn ten_twelve_and_sixteen_byte_transfers_find_their_fields() {
        let ten = cdb(&[0x2a, 0x08, 1, 2, 3, 4, 0x1f, 0x80, 1, 0]);
        assert_eq!(Transfer::of_10(&ten), Transfer { fua: true, ..plain(0x0102_0304, 0x8001) });
        let twelve = cdb(&[0xa8, 0x10, 1, 2, 3, 4, 0x80, 0, 0, 1, 0, 0]);
        assert_eq!(Transfer::of_12(&twelve), Transfer { dpo: true, ..plain(0x0102_0304, 0x8000_0001) });
        let sixteen = cdb(&[0x88, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0, 0, 1, 0, 0]);
        let wanted = Transfer { protect: 7, ..plain(0x0102_0304_0506_0708, 0x8000_0001) };
        assert_eq!(Transfer::of_16(&sixteen), wanted);
    }

    #[test]
    fn compare_and_write_counts_its_blocks_in_byte_13() {
        let caw = cdb(&[0x89, 0x18, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0]);
        let wanted = Transfer { dpo: true, fua: true, ..plain(9, 1) };
        assert_eq!(Transfer::of_compare_and_write(&caw), wanted);
    }
}
