//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19).

use protocol::iscsi::{NopIn, NopOut, RESERVED_TAG};

use super::sender::Sender;

/// Answers a NOP-Out with its own data, as far as the initiator takes it.
pub fn answer(sender: &mut Sender<'_>, nop: &NopOut, data: &[u8]) {
    if nop.initiator_task_tag == RESERVED_TAG {
        // It answers our own ping, and is not answered itself.
        return;
    }
    let echoed = &data[..data.len().min(sender.parameters.send_segment() as usize)];
    let header = NopIn {
        data_segment_length: echoed.len() as u32,
        lun: [0; 8],
        initiator_task_tag: nop.initiator_task_tag,
        target_transfer_tag: RESERVED_TAG,
        stat_sn: sender.take_stat_sn(),
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
    };
    sender.output.pdu(&header.encode(), echoed, sender.parameters.digests());
}

/// Asks the initiator whether it is there. Uses up no StatSN (11.19.1).
pub fn ping(sender: &mut Sender<'_>) {
    let transfer_tag = sender.tags.take();
    let header = NopIn {
        data_segment_length: 0,
        lun: [0; 8],
        initiator_task_tag: RESERVED_TAG,
        target_transfer_tag: transfer_tag,
        stat_sn: *sender.stat_sn,
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
    };
    sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
}
