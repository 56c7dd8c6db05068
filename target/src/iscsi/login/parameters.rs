//! What a session agreed on, and this target's own wishes and limits (RFC 7143 section 13).

use protocol::iscsi::Digests;
use protocol::iscsi::parameters::{Parameters as Agreed, TaskReporting};

/// MaxRecvDataSegmentLength this target declares, in bytes (RFC 7143 13.12).
pub const RECEIVE_SEGMENT_BYTES_MAX: u32 = 256 * 1024;

/// MaxRecvDataSegmentLength of either side until it declares another, and during login, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u32 = 8192;

/// The smallest MaxBurstLength and FirstBurstLength there are, in bytes (13.13, 13.14).
pub const BURST_BYTES_MIN: u32 = 512;

/// The largest MaxBurstLength this target agrees to, in bytes (13.13).
pub const BURST_BYTES_MAX: u32 = 1024 * 1024;

/// The largest FirstBurstLength this target agrees to, in bytes (13.14).
pub const FIRST_BURST_BYTES_MAX: u32 = 256 * 1024;

/// R2Ts one task may have outstanding at most (13.17).
pub const OUTSTANDING_R2T_MAX: u32 = 8;

/// What this target would have. With one connection the order of the responses is the fence (4.2.2.3.3).
pub const WISHES: Agreed = Agreed {
    header_digest: true,
    data_digest: true,
    max_connections: 1,
    initial_r2t: false,
    immediate_data: true,
    max_recv_data_segment_length: RECEIVE_SEGMENT_BYTES_MAX,
    max_burst_length: BURST_BYTES_MAX,
    first_burst_length: FIRST_BURST_BYTES_MAX,
    default_time_2_wait: 0,
    default_time_2_retain: 0,
    max_outstanding_r2t: OUTSTANDING_R2T_MAX,
    data_pdu_in_order: true,
    data_sequence_in_order: true,
    error_recovery_level: 0,
    task_reporting: TaskReporting::ResponseFence,
    protocol_level: 1,
};

/// What is in force in a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// The keys, as agreed.
    pub agreed: Agreed,
    /// SessionType=Discovery (13.21).
    pub discovery: bool,
    /// The longest data segment this target takes, in bytes: what it declared (13.12).
    pub receive_segment: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { agreed: Agreed::default(), discovery: false, receive_segment: SEGMENT_BYTES_DEFAULT }
    }
}

impl Parameters {
    /// The digests in use.
    #[must_use]
    pub const fn digests(&self) -> Digests {
        Digests { header: self.agreed.header_digest, data: self.agreed.data_digest }
    }

    /// The longest data segment the initiator takes, in bytes (13.12).
    #[must_use]
    pub const fn send_segment(&self) -> u32 {
        self.agreed.max_recv_data_segment_length
    }

    /// The longest data segment of a Data-In that is not the last of its sequence, in bytes: "SHOULD be filled to
    /// the integer number of 4-byte words" (11.7.7).
    #[must_use]
    pub const fn data_in_segment(&self) -> u32 {
        self.send_segment() & !3
    }
}
