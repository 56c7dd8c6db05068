//! The answer of a command: its data split into Data-In PDUs, its status, its residual, its sense
//! (RFC 7143 4.2.5.2, 11.4, 11.7).

use bytes::Bytes;
use controller::command::Outcome;
use protocol::iscsi::{DataIn, RESERVED_TAG, Residual, ScsiResponse, StatSn, sense_segment};
use protocol::scsi::sense::{Sense, Status};

use super::sender::Sender;
use super::tasks::{Ending, Task};
use crate::iscsi::connection::output::Pieces;

/// Answers a task that has ended.
pub fn answer(sender: &mut Sender<'_>, task: &Task, outcome: Outcome) {
    let (status, sense, data) = match outcome {
        Outcome::Aborted if task.ending == Ending::TaskAborted => (Status::TaskAborted, None, Vec::new()),
        Outcome::Good(data) => (Status::Good, None, data),
        Outcome::Check(sense) => (Status::CheckCondition, Some(sense), Vec::new()),
        Outcome::Status(status) => (status, None, Vec::new()),
        // Given up without anybody having asked for it: it may be sent again.
        Outcome::Aborted => (Status::CheckCondition, Some(Sense::ABORTED_COMMAND), Vec::new()),
    };
    let present = data.iter().map(|piece| piece.len() as u64).sum::<u64>();
    let residual = residual(task, present);
    let length = present.min(u64::from(task.expected_in())) as u32;
    if length > 0 && status == Status::Good {
        return send_data(sender, task, data, length, residual);
    }
    respond(sender, task, status, sense, residual);
}

/// What was not transferred (11.4.5): of the data of a read, or of what a write's CDB takes.
fn residual(task: &Task, present: u64) -> Residual {
    if present == 0 && (task.writes || !task.reads) {
        Residual::of(task.takes, task.expected)
    } else {
        Residual::of(present, task.expected_in())
    }
}

/// Sends `length` bytes of `data` with GOOD in the last PDU.
fn send_data(sender: &mut Sender<'_>, task: &Task, data: Vec<Bytes>, length: u32, residual: Residual) {
    let mut pieces = Pieces::new(data);
    let (mut offset, mut data_sn, mut burst_left) = (0, 0, sender.parameters.agreed.max_burst_length);
    while offset < length {
        let part = (length - offset).min(sender.parameters.data_in_segment()).min(burst_left);
        let last = offset + part == length;
        burst_left -= part;
        let header = DataIn {
            final_bit: last || burst_left == 0,
            acknowledge: false,
            status: last.then_some(Status::Good as u8),
            residual: if last { residual } else { Residual::None },
            data_segment_length: part,
            lun: [0; 8],
            initiator_task_tag: task.tag,
            target_transfer_tag: RESERVED_TAG,
            stat_sn: if last { sender.take_stat_sn() } else { StatSn(0) },
            exp_cmd_sn: sender.expected(),
            max_cmd_sn: sender.maximum(),
            data_sn,
            buffer_offset: offset,
        };
        sender.output.pdu_with(&header.encode(), &mut pieces, part as usize, sender.parameters.digests());
        offset += part;
        data_sn += 1;
        if burst_left == 0 {
            burst_left = sender.parameters.agreed.max_burst_length;
        }
    }
}

/// Sends a SCSI Response PDU.
fn respond(sender: &mut Sender<'_>, task: &Task, status: Status, sense: Option<Sense>, residual: Residual) {
    let encode = |sense| sense_segment::encode(&sender.sense_data(&task.lun, &sense));
    let segment = sense.map(encode).unwrap_or_default();
    let header = ScsiResponse {
        status: status as u8,
        residual,
        data_segment_length: segment.len() as u32,
        initiator_task_tag: task.tag,
        stat_sn: sender.take_stat_sn(),
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
        // No Data-In was sent: what has data has its status in the last Data-In, or none of the data (11.4.8).
        exp_data_sn: 0,
        ..ScsiResponse::default()
    };
    sender.output.pdu(&header.encode(), &segment, sender.parameters.digests());
}

#[cfg(test)]
mod tests;
