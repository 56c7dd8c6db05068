//! Asynchronous Message (RFC 7143 11.9).

use protocol::iscsi::{AsyncEvent, AsyncMessage};

use super::sender::Sender;

/// Tells the initiator of an event that answers none of its requests.
pub fn send(sender: &mut Sender<'_>, event: AsyncEvent) {
    let header = AsyncMessage {
        event,
        data_segment_length: 0,
        lun: [0; 8],
        stat_sn: sender.take_stat_sn(),
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
    };
    sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
}
