//! Reject (RFC 7143 11.17).

use protocol::iscsi::{Reject, RejectReason};

use super::sender::Sender;
use crate::iscsi::connection::framing::Received;

/// Tells the initiator that a PDU was not served, and returns the PDU's header, as far as the initiator takes it.
pub fn send(sender: &mut Sender<'_>, pdu: &Received, reason: RejectReason) {
    let mut header = pdu.bhs.to_vec();
    header.extend_from_slice(&pdu.ahs);
    header.truncate(sender.parameters.send_segment() as usize);
    let reject = Reject {
        reason,
        data_segment_length: header.len() as u32,
        stat_sn: sender.take_stat_sn(),
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
        data_sn: 0,
    };
    sender.output.pdu(&reject.encode(), &header, sender.parameters.digests());
}
