//! What a session negotiated (RFC 7143 section 13), and this target's own limits.

use protocol::iscsi::Digests;

/// MaxRecvDataSegmentLength this target declares, in bytes (RFC 7143 13.12).
pub const RECEIVE_SEGMENT_BYTES_MAX: u32 = 256 * 1024;

/// MaxRecvDataSegmentLength of either side until it declares another, and during login, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u32 = 8192;

/// The largest MaxBurstLength this target agrees to, in bytes (13.13).
pub const BURST_BYTES_MAX: u32 = 1024 * 1024;

/// The largest FirstBurstLength this target agrees to, in bytes (13.14).
pub const FIRST_BURST_BYTES_MAX: u32 = 256 * 1024;

/// R2Ts one task may have outstanding at most (13.17).
pub const OUTSTANDING_R2T_MAX: u32 = 8;

/// The parameters in force: the defaults of RFC 7143 until negotiated otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// HeaderDigest and DataDigest (13.1).
    pub digests: Digests,
    /// SessionType=Discovery (13.21).
    pub discovery: bool,
    /// InitialR2T: unsolicited Data-Out is forbidden (13.10).
    pub initial_r2t: bool,
    /// ImmediateData: data may come with the command (13.11).
    pub immediate_data: bool,
    /// The longest data segment the initiator takes, in bytes (13.12).
    pub send_segment: u32,
    /// The longest data segment this target takes, in bytes: declared by this target (13.12).
    pub receive_segment: u32,
    /// The longest sequence of solicited Data-Out or of Data-In, in bytes (13.13).
    pub max_burst: u32,
    /// The most unsolicited data of one command, immediate data included, in bytes (13.14).
    pub first_burst: u32,
    /// R2Ts outstanding for one task at most (13.17).
    pub max_outstanding_r2t: u32,
    /// DefaultTime2Wait, in seconds (13.15).
    pub time_to_wait: u16,
    /// DefaultTime2Retain, in seconds (13.16).
    pub time_to_retain: u16,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            discovery: false,
            initial_r2t: true,
            immediate_data: true,
            send_segment: SEGMENT_BYTES_DEFAULT,
            receive_segment: SEGMENT_BYTES_DEFAULT,
            max_burst: 262_144,
            first_burst: 65_536,
            max_outstanding_r2t: 1,
            time_to_wait: 2,
            time_to_retain: 20,
        }
    }
}
