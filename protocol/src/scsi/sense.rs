//! Sense data (SPC-4 4.5): why a command ended with CHECK CONDITION.

/// SCSI status codes (SAM-5 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// Bh
    AbortedCommand = 0xb,
    /// Eh
    Miscompare = 0xe,
}

/// Additional sense code and qualifier (SPC-4 annex F), as `(ASC, ASCQ)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Asc(pub u8, pub u8);

/// Why a command ended with CHECK CONDITION.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Sense {
    /// The sense key.
    pub key: SenseKey,
    /// ASC and ASCQ.
    pub code: Asc,
    /// INFORMATION field, for instance the offset of a miscompare (SBC-3 5.3) in bytes.
    pub information: Option<u64>,
}

impl Sense {
    /// Sense without an INFORMATION field.
    #[must_use]
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self { key, code: Asc(asc, ascq), information: None }
    }

    /// NOT READY, LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE: the other controller may serve.
    pub const UNAVAILABLE: Self = Self::new(SenseKey::NotReady, 0x04, 0x0c);
    /// ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Self = Self::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// ILLEGAL REQUEST, INVALID FIELD IN CDB.
    pub const INVALID_FIELD_IN_CDB: Self = Self::new(SenseKey::IllegalRequest, 0x24, 0x00);
    /// ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED.
    pub const LUN_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// ABORTED COMMAND, no additional sense: the command may or may not have been executed.
    pub const ABORTED_COMMAND: Self = Self::new(SenseKey::AbortedCommand, 0x00, 0x00);
    /// UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub const POWER_ON: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x00);
    /// MEDIUM ERROR, UNRECOVERED READ ERROR.
    pub const UNRECOVERED_READ: Self = Self::new(SenseKey::MediumError, 0x11, 0x00);
    /// MEDIUM ERROR, WRITE ERROR.
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0x00);
    /// DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT: the volume's disk is full (SBC-3 4.7.3.6).
    pub const SPACE_ALLOCATION_FAILED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x07);

    /// MISCOMPARE DURING VERIFY OPERATION at byte `offset` of the compared data (SBC-3 5.3).
    #[must_use]
    pub const fn miscompare(offset: u64) -> Self {
        Self { key: SenseKey::Miscompare, code: Asc(0x1d, 0x00), information: Some(offset) }
    }
}
