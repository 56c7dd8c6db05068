//! iSCSI (RFC 7143): the PDUs, one file each in the order of section 11, the text keys of section 13, digests.
//!
//! A PDU here is its Basic Header Segment as a plain struct: `decode` makes one from 48 bytes, `encode` makes
//! 48 bytes of one and allocates nothing. What follows the header on the wire stays outside:
//!
//! * DataSegmentLength is an explicit field (`data_segment_length`, in bytes without padding) of every PDU that
//!   may carry a data segment; the encoding side sets it. PDUs without a data segment have no such field, always
//!   encode 0 and refuse to decode anything else.
//! * TotalAHSLength is an explicit field (`total_ahs_length`, in 4-byte words) of [`ScsiCommand`] alone, the only
//!   PDU for which additional header segments are defined; everywhere else it must be 0.
//! * [`frame`] says from a header where in the byte stream the other segments, padding and digests lie;
//!   [`ahs`] reads additional header segments, [`digest`] computes digests, [`text`] reads the data segments of
//!   Login and Text PDUs, [`keys`] lists their keys, [`negotiation`] answers them.
//!
//! Reserved fields are sent as 0 and ignored on receipt; reserved values of defined fields are a [`DecodeError`]
//! (RFC 7143 11: "Receipt of reserved code values in defined fields MUST be reported as a protocol error").

pub mod ahs;
pub mod async_message;
pub mod binary;
pub mod data_in;
pub mod data_out;
pub mod digest;
pub mod error;
mod field;
pub mod frame;
pub mod keys;
pub mod login_request;
pub mod login_response;
pub mod logout_request;
pub mod logout_response;
pub mod names;
pub mod negotiation;
pub mod nop_in;
pub mod nop_out;
pub mod opcode;
pub mod parameters;
pub mod pdu;
pub mod ready_to_transfer;
pub mod reject;
pub mod residual;
pub mod scsi_command;
pub mod scsi_response;
pub mod sense_segment;
pub mod serial;
pub mod snack;
pub mod task_management_request;
pub mod task_management_response;
#[cfg(test)]
mod testing;
pub mod text;
pub mod text_request;
pub mod text_response;

pub use async_message::{AsyncEvent, AsyncMessage};
pub use data_in::DataIn;
pub use data_out::DataOut;
pub use error::DecodeError;
pub use frame::{Digests, Frame};
pub use login_request::{Isid, LoginRequest, LoginStage};
pub use login_response::{LoginResponse, LoginStatus};
pub use logout_request::{LogoutReason, LogoutRequest};
pub use logout_response::{LogoutResponse, LogoutResult};
pub use nop_in::NopIn;
pub use nop_out::NopOut;
pub use opcode::Opcode;
pub use parameters::Parameters;
pub use pdu::{InitiatorPdu, TargetPdu};
pub use ready_to_transfer::ReadyToTransfer;
pub use reject::{Reject, RejectReason};
pub use residual::Residual;
pub use scsi_command::{ScsiCommand, TaskAttribute};
pub use scsi_response::{ScsiResponse, ServiceResponse};
pub use serial::{CmdSn, StatSn};
pub use snack::{Snack, SnackType};
pub use task_management_request::{TaskManagementFunction, TaskManagementRequest};
pub use task_management_response::{TaskManagementResponse, TaskManagementResult};
pub use text_request::TextRequest;
pub use text_response::TextResponse;

/// Bytes in the Basic Header Segment, the first segment of every PDU (RFC 7143 11.2.1).
pub const BHS_BYTES: usize = 48;

/// A Basic Header Segment as it is on the wire.
pub type Bhs = [u8; BHS_BYTES];

/// A logical unit number as it is on the wire: the eight bytes of SAM-5 4.7 (RFC 7143 11.2.1.7).
pub type Lun = [u8; 8];

/// The reserved value of Initiator Task Tag, Target Transfer Tag and Referenced Task Tag: "no such tag"
/// (RFC 7143 11.2.1.8, 11.7.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// The largest DataSegmentLength the 24-bit field can hold, in bytes.
pub const DATA_SEGMENT_LENGTH_MAX: u32 = (1 << 24) - 1;
