//! Sense data (SPC-4 4.5): why a command ended with CHECK CONDITION.

/// SCSI status codes (SAM-5 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Status {
    /// The command completed.
    Good = 0x00,
    /// Sense data tells why it did not.
    CheckCondition = 0x02,
    /// Try again later; nothing was done.
    Busy = 0x08,
    /// A reservation of another I_T nexus forbids it.
    ReservationConflict = 0x18,
    /// The task set has no room.
    TaskSetFull = 0x28,
    /// Aborted by a task management function of another nexus.
    TaskAborted = 0x40,
}

/// Sense keys (SPC-4 table 48).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum SenseKey {
    /// 0h
    NoSense = 0x0,
    /// 1h
    RecoveredError = 0x1,
    /// 2h
    NotReady = 0x2,
    /// 3h
    MediumError = 0x3,
    /// 4h
    HardwareError = 0x4,
    /// 5h
    IllegalRequest = 0x5,
    /// 6h
    UnitAttention = 0x6,
    /// 7h
    DataProtect = 0x7,
    /// Ah
    CopyAborted = 0xa,
    /// Bh
    AbortedCommand = 0xb,
    /// Eh
    Miscompare = 0xe,
}

/// Additional sense code and qualifier (SPC-4 annex F), as `(ASC, ASCQ)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Asc(pub u8, pub u8);

/// The field that is in error, as the SENSE KEY SPECIFIC field of ILLEGAL REQUEST names it (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct FieldPointer {
    /// In the CDB; else in the parameter list.
    pub in_cdb: bool,
    /// The byte of its most significant bit.
    pub byte: u16,
}

/// Which end of a copy operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum CopyEnd {
    /// The copy source.
    Source = 1,
    /// The copy destination.
    Destination = 2,
}

/// How a copy source or destination ended a command of the copy manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Forwarded {
    /// Which of them.
    pub end: CopyEnd,
    /// With which status.
    pub status: Status,
    /// And, for CHECK CONDITION, which sense key and code.
    pub sense: Option<(SenseKey, Asc)>,
}

/// What COPY ABORTED tells beside its code (SPC-4 4.5.2.4.5, 6.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CopyDetails {
    /// The segment that was being processed, counted from zero.
    pub segment: u16,
    /// The byte of a field in error, in that segment's descriptor; [`Sense::field`] names one of the parameter list.
    pub in_segment: Option<u16>,
    /// What one of the ends said.
    pub forwarded: Option<Forwarded>,
}

/// Why a command ended with CHECK CONDITION.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Sense {
    /// The sense key.
    pub key: SenseKey,
    /// ASC and ASCQ.
    pub code: Asc,
    /// INFORMATION field, for instance the offset of a miscompare (SBC-3 5.3) in bytes.
    pub information: Option<u64>,
    /// The field in error, where it is worth telling.
    pub field: Option<FieldPointer>,
    /// With COPY ABORTED: where the copy stopped, and why.
    pub copy: Option<CopyDetails>,
    /// PROGRESS INDICATION of NOT READY, in 65536ths, where there is one and no field (SPC-4 4.5.2.4.4).
    pub progress: Option<u16>,
}

impl Sense {
    /// Sense without an INFORMATION field.
    #[must_use]
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self { key, code: Asc(asc, ascq), information: None, field: None, progress: None, copy: None }
    }

    /// NO SENSE: nothing to report.
    pub const NO_SENSE: Self = Self::new(SenseKey::NoSense, 0x00, 0x00);
    /// NOT READY, INITIALIZING COMMAND REQUIRED: START STOP UNIT has stopped the unit.
    pub const STOPPED: Self = Self::new(SenseKey::NotReady, 0x04, 0x02);
    /// NOT READY, LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE: the other controller may serve.
    pub const UNAVAILABLE: Self = Self::new(SenseKey::NotReady, 0x04, 0x0c);
    /// MEDIUM ERROR, SANITIZE COMMAND FAILED (SBC-4 4.11.4).
    pub const SANITIZE_FAILED: Self = Self::new(SenseKey::MediumError, 0x31, 0x03);
    /// MEDIUM ERROR, FORMAT COMMAND FAILED (SBC-3 4.19).
    pub const FORMAT_FAILED: Self = Self::new(SenseKey::MediumError, 0x31, 0x01);
    /// ILLEGAL REQUEST, INVALID FIELD IN COMMAND INFORMATION UNIT: the PDU does not fit its CDB.
    pub const INVALID_FIELD_IN_INFORMATION_UNIT: Self = Self::new(SenseKey::IllegalRequest, 0x0e, 0x03);
    /// ILLEGAL REQUEST, PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = Self::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    /// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPERATION_CODE: Self = Self::new(SenseKey::IllegalRequest, 0x20, 0x00);
    /// ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Self = Self::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// ILLEGAL REQUEST, INVALID FIELD IN CDB.
    pub const INVALID_FIELD_IN_CDB: Self = Self::new(SenseKey::IllegalRequest, 0x24, 0x00);
    /// ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED.
    pub const LUN_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x00);
    /// ILLEGAL REQUEST, OPERATION IN PROGRESS: the list identifier is in use.
    pub const OPERATION_IN_PROGRESS: Self = Self::new(SenseKey::IllegalRequest, 0x00, 0x16);
    /// ILLEGAL REQUEST, TOO MANY TARGET DESCRIPTORS.
    pub const TOO_MANY_CSCD_DESCRIPTORS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x06);
    /// ILLEGAL REQUEST, UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    pub const UNSUPPORTED_CSCD_DESCRIPTOR: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x07);
    /// ILLEGAL REQUEST, TOO MANY SEGMENT DESCRIPTORS.
    pub const TOO_MANY_SEGMENT_DESCRIPTORS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x08);
    /// ILLEGAL REQUEST, UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    pub const UNSUPPORTED_SEGMENT_DESCRIPTOR: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x09);
    /// ILLEGAL REQUEST, INLINE DATA LENGTH EXCEEDED.
    pub const INLINE_DATA_LENGTH_EXCEEDED: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x0b);
    /// COPY ABORTED, no additional sense.
    pub const COPY_ABORTED: Self = Self::new(SenseKey::CopyAborted, 0x00, 0x00);
    /// COPY ABORTED, UNREACHABLE COPY TARGET: a segment names a CSCD descriptor that is not there.
    pub const UNREACHABLE_COPY_TARGET: Self = Self::new(SenseKey::CopyAborted, 0x08, 0x04);
    /// COPY ABORTED, THIRD PARTY DEVICE FAILURE: a source or destination failed a command.
    pub const THIRD_PARTY_DEVICE_FAILURE: Self = Self::new(SenseKey::CopyAborted, 0x0d, 0x01);
    /// COPY ABORTED, COPY TARGET DEVICE NOT REACHABLE.
    pub const COPY_TARGET_NOT_REACHABLE: Self = Self::new(SenseKey::CopyAborted, 0x0d, 0x02);
    /// COPY ABORTED, INCORRECT COPY TARGET DEVICE TYPE.
    pub const INCORRECT_COPY_TARGET_TYPE: Self = Self::new(SenseKey::CopyAborted, 0x0d, 0x03);
    /// COPY ABORTED, INVALID FIELD IN PARAMETER LIST.
    pub const COPY_ABORTED_BY_PARAMETER: Self = Self::new(SenseKey::CopyAborted, 0x26, 0x00);
    /// COPY ABORTED, INVALID OPERATION FOR COPY SOURCE OR DESTINATION.
    pub const INVALID_COPY_OPERATION: Self = Self::new(SenseKey::CopyAborted, 0x26, 0x0c);
    /// ILLEGAL REQUEST, INVALID RELEASE OF PERSISTENT RESERVATION.
    pub const INVALID_RELEASE: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x04);
    /// ILLEGAL REQUEST, INSUFFICIENT REGISTRATION RESOURCES.
    pub const INSUFFICIENT_REGISTRATION_RESOURCES: Self = Self::new(SenseKey::IllegalRequest, 0x55, 0x04);
    /// ILLEGAL REQUEST, SAVING PARAMETERS NOT SUPPORTED.
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x39, 0x00);
    /// ABORTED COMMAND, no additional sense: the command may or may not have been executed.
    pub const ABORTED_COMMAND: Self = Self::new(SenseKey::AbortedCommand, 0x00, 0x00);
    /// UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub const POWER_ON: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x00);
    /// UNIT ATTENTION, BUS DEVICE RESET FUNCTION OCCURRED: the logical unit was reset.
    pub const LOGICAL_UNIT_RESET: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x03);
    /// UNIT ATTENTION, I_T NEXUS LOSS OCCURRED.
    pub const NEXUS_LOSS: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x07);
    /// UNIT ATTENTION, MODE PARAMETERS CHANGED.
    pub const MODE_PARAMETERS_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x01);
    /// UNIT ATTENTION, RESERVATIONS PREEMPTED.
    pub const RESERVATIONS_PREEMPTED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x03);
    /// UNIT ATTENTION, RESERVATIONS RELEASED.
    pub const RESERVATIONS_RELEASED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x04);
    /// UNIT ATTENTION, REGISTRATIONS PREEMPTED.
    pub const REGISTRATIONS_PREEMPTED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x05);
    /// UNIT ATTENTION, ASYMMETRIC ACCESS STATE CHANGED.
    pub const ASYMMETRIC_ACCESS_STATE_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x06);
    /// UNIT ATTENTION, CAPACITY DATA HAS CHANGED.
    pub const CAPACITY_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x09);
    /// UNIT ATTENTION, REPORTED LUNS DATA HAS CHANGED.
    pub const REPORTED_LUNS_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x3f, 0x0e);
    /// MEDIUM ERROR, UNRECOVERED READ ERROR.
    pub const UNRECOVERED_READ: Self = Self::new(SenseKey::MediumError, 0x11, 0x00);
    /// MEDIUM ERROR, WRITE ERROR.
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0x00);
    /// DATA PROTECT, WRITE PROTECTED: the LUN is read-only.
    pub const WRITE_PROTECTED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x00);
    /// DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT: the volume's disk is full (SBC-3 4.7.3.6).
    pub const SPACE_ALLOCATION_FAILED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x07);

    /// MISCOMPARE DURING VERIFY OPERATION at byte `offset` of the compared data (SBC-3 5.3).
    #[must_use]
    pub const fn miscompare(offset: u64) -> Self {
        Self { information: Some(offset), ..Self::new(SenseKey::Miscompare, 0x1d, 0x00) }
    }

    /// NOT READY, LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS, and how far it is in 65536ths (SBC-4 4.11.3).
    #[must_use]
    pub const fn sanitize_in_progress(progress: u16) -> Self {
        Self { progress: Some(progress), ..Self::new(SenseKey::NotReady, 0x04, 0x1b) }
    }

    /// NOT READY, LOGICAL UNIT NOT READY, FORMAT IN PROGRESS, and how far it is in 65536ths (SBC-3 5.4.1).
    #[must_use]
    pub const fn format_in_progress(progress: u16) -> Self {
        Self { progress: Some(progress), ..Self::new(SenseKey::NotReady, 0x04, 0x04) }
    }

    /// INVALID FIELD IN CDB, naming the byte where the field begins.
    #[must_use]
    pub const fn invalid_cdb_field(byte: u16) -> Self {
        Self { field: Some(FieldPointer { in_cdb: true, byte }), ..Self::INVALID_FIELD_IN_CDB }
    }

    /// The same, pointing at the byte of the parameter list where the field in error begins.
    #[must_use]
    pub const fn in_list(self, byte: u16) -> Self {
        Self { field: Some(FieldPointer { in_cdb: false, byte }), ..self }
    }

    /// COPY ABORTED while this segment was being processed.
    #[must_use]
    pub const fn at_segment(self, segment: u16) -> Self {
        Self { copy: Some(CopyDetails { segment, in_segment: None, forwarded: None }), ..self }
    }

    /// The same sense, which names this segment if it names none.
    #[must_use]
    pub const fn at_least_segment(self, segment: u16) -> Self {
        if self.copy.is_some() { self } else { self.at_segment(segment) }
    }

    /// Fixed format (SPC-4 4.5.3), response code 70h. An INFORMATION that does not fit four bytes is left out. What a
    /// copy source or destination said follows, and the COMMAND-SPECIFIC INFORMATION says where.
    #[must_use]
    pub fn to_fixed(&self) -> Vec<u8> {
        let mut data = vec![0; FIXED_BYTES];
        data[0] = 0x70;
        data[2] = self.key as u8;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            data[0] |= 0x80;
            data[3..7].copy_from_slice(&information.to_be_bytes());
        }
        data[7] = 10;
        data[12] = self.code.0;
        data[13] = self.code.1;
        if let Some(specific) = self.specific() {
            data[15..18].copy_from_slice(&specific);
        }
        if let Some(copy) = self.copy {
            data[8..12].copy_from_slice(&u32::from(copy.segment).to_be_bytes());
            if let Some(forwarded) = copy.forwarded {
                let pointer = if forwarded.end == CopyEnd::Source { 8 } else { 9 };
                data[pointer] = FIXED_BYTES as u8;
                data.extend_from_slice(&forwarded.to_bytes());
                data[7] += 1 + FIXED_BYTES as u8;
            }
        }
        debug_assert!(data.len() <= LONGEST_BYTES && data.len() == usize::from(data[7]) + 8, "{data:02x?}");
        data
    }

    /// Descriptor format (SPC-4 4.5.2), response code 72h, with an information, a command-specific information, a sense
    /// key specific and a forwarded sense data descriptor where there is something to tell.
    #[must_use]
    pub fn to_descriptor(&self) -> Vec<u8> {
        let mut data = vec![0x72, self.key as u8, self.code.0, self.code.1, 0, 0, 0, 0];
        if let Some(information) = self.information {
            data.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            data.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(copy) = self.copy {
            data.extend_from_slice(&[0x01, 0x0a, 0x00, 0x00]);
            data.extend_from_slice(&u64::from(copy.segment).to_be_bytes());
        }
        if let Some(specific) = self.specific() {
            data.extend_from_slice(&[0x02, 0x06, 0x00, 0x00]);
            data.extend_from_slice(&specific);
            data.push(0);
        }
        if let Some(forwarded) = self.copy.and_then(|copy| copy.forwarded) {
            data.extend_from_slice(&[0x0c, 2 + FIXED_BYTES as u8, forwarded.end as u8]);
            data.extend_from_slice(&forwarded.to_bytes());
        }
        // Of the descriptors each is there once at most.
        data[7] = (data.len() - 8) as u8;
        debug_assert!(data.len() <= LONGEST_BYTES && data.len().is_multiple_of(2), "{data:02x?}");
        data
    }

    /// SENSE KEY SPECIFIC: a field pointer, progress, or with COPY ABORTED a segment pointer (SPC-4 4.5.2.4.5).
    fn specific(&self) -> Option<[u8; 3]> {
        const SKSV: u8 = 0x80;
        const SD: u8 = 0x20;
        let in_segment = self.copy.and_then(|copy| copy.in_segment);
        match (in_segment, self.field) {
            (Some(byte), _) => {
                let [high, low] = byte.to_be_bytes();
                Some([SKSV | SD, high, low])
            }
            (None, Some(field)) => Some(field.to_bytes()),
            (None, None) => self.progress.map(|progress| {
                let [high, low] = progress.to_be_bytes();
                [SKSV, high, low]
            }),
        }
    }
}

impl Forwarded {
    /// The status, and sense data in fixed format.
    fn to_bytes(self) -> [u8; 1 + FIXED_BYTES] {
        let mut bytes = [0; 1 + FIXED_BYTES];
        bytes[0] = self.status as u8;
        if let Some((key, code)) = self.sense {
            bytes[1] = 0x70;
            bytes[3] = key as u8;
            bytes[8] = 10;
            (bytes[13], bytes[14]) = (code.0, code.1);
        }
        bytes
    }
}

impl FieldPointer {
    /// SKSV, C/D, no bit pointer, FIELD POINTER.
    const fn to_bytes(self) -> [u8; 3] {
        let [high, low] = self.byte.to_be_bytes();
        [if self.in_cdb { 0xc0 } else { 0x80 }, high, low]
    }
}

/// Length of fixed format sense data in bytes.
pub const FIXED_BYTES: usize = 18;

/// The longest sense data there is (SPC-4 4.5.1).
const LONGEST_BYTES: usize = 252;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_carries_key_codes_and_a_valid_information_field() {
        assert_eq!(
            Sense::miscompare(0x1f3).to_fixed(),
            [0xf0, 0, 0x0e, 0, 0, 1, 0xf3, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            Sense::UNAVAILABLE.to_fixed(),
            [0x70, 0, 0x02, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x0c, 0, 0, 0, 0]
        );
    }

    #[test]
    fn information_too_large_for_fixed_format_is_not_marked_valid() {
        let data = Sense::miscompare(1 << 32).to_fixed();
        assert_eq!((data[0], &data[3..7]), (0x70, &[0, 0, 0, 0][..]));
    }

    #[test]
    fn the_field_in_error_is_named_in_both_formats() {
        let sense = Sense::invalid_cdb_field(0x102);
        assert_eq!(sense.to_fixed(), [0x70, 0, 0x05, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 1, 2]);
        assert_eq!(sense.to_descriptor(), [0x72, 0x05, 0x24, 0, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0xc0, 1, 2, 0]);
        let list = FieldPointer { in_cdb: false, byte: 8 };
        let sense = Sense { field: Some(list), ..Sense::INVALID_FIELD_IN_PARAMETER_LIST };
        assert_eq!(sense.to_fixed()[15..], [0x80, 0, 8]);
    }

    #[test]
    fn a_copy_that_stopped_tells_its_segment_the_field_and_what_an_end_said() {
        let sense = Sense::UNREACHABLE_COPY_TARGET.at_segment(0x102);
        assert_eq!(sense.to_fixed(), [0x70, 0, 0x0a, 0, 0, 0, 0, 10, 0, 0, 1, 2, 0x08, 0x04, 0, 0, 0, 0]);
        let details = CopyDetails { segment: 1, in_segment: Some(20), forwarded: None };
        let sense = Sense { information: Some(9), copy: Some(details), ..Sense::COPY_ABORTED };
        assert_eq!(sense.to_fixed(), [0xf0, 0, 0x0a, 0, 0, 0, 9, 10, 0, 0, 0, 1, 0, 0, 0, 0xa0, 0, 20]);
        let forwarded = Forwarded {
            end: CopyEnd::Destination,
            status: Status::CheckCondition,
            sense: Some((SenseKey::DataProtect, Asc(0x27, 0))),
        };
        let details = CopyDetails { segment: 1, in_segment: None, forwarded: Some(forwarded) };
        let sense = Sense { copy: Some(details), ..Sense::THIRD_PARTY_DEVICE_FAILURE };
        let end = [0x02, 0x70, 0, 0x07, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x27, 0, 0, 0, 0, 0];
        let fixed = [0x70, 0, 0x0a, 0, 0, 0, 0, 29, 0, 18, 0, 1, 0x0d, 0x01, 0, 0, 0, 0];
        assert_eq!(sense.to_fixed(), [&fixed[..], &end].concat());
        let head = [0x72, 0x0a, 0x0d, 0x01, 0, 0, 0, 12 + 22, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(sense.to_descriptor(), [&head[..], &[0x0c, 20, 2], &end].concat());
        let source = Forwarded { end: CopyEnd::Source, status: Status::ReservationConflict, sense: None };
        let details = CopyDetails { segment: 0, in_segment: None, forwarded: Some(source) };
        let sense = Sense { copy: Some(details), ..Sense::THIRD_PARTY_DEVICE_FAILURE };
        assert_eq!(sense.to_fixed()[8..12], [18, 0, 0, 0]);
        assert_eq!(sense.to_fixed()[18..20], [0x18, 0]);
    }

    #[test]
    fn progress_is_told_in_both_formats() {
        let sense = Sense::sanitize_in_progress(0x1234);
        assert_eq!(
            sense.to_fixed(),
            [0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x1b, 0, 0x80, 0x12, 0x34]
        );
        assert_eq!(
            sense.to_descriptor(),
            [0x72, 0x02, 0x04, 0x1b, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0x80, 0x12, 0x34, 0]
        );
    }

    #[test]
    fn descriptor_format_carries_information_in_its_own_descriptor() {
        assert_eq!(Sense::LBA_OUT_OF_RANGE.to_descriptor(), [0x72, 0x05, 0x21, 0, 0, 0, 0, 0]);
        assert_eq!(
            Sense::miscompare(1 << 32).to_descriptor(),
            [0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12, 0, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        );
    }
}
