//! The data-out of a session's commands: R2Ts within the bounds, Data-Out PDUs to their tasks (RFC 7143 11.7, 11.8).

use controller::command::Outcome;
use controller::time::Time;
use core::time::Duration;
use protocol::iscsi::{DataOut, RESERVED_TAG, ReadyToTransfer, RejectReason, ScsiCommand, TaskAttribute};

use super::full_feature::{DATA_IN_BYTES_MAX, FullFeature, Received};
use super::memory::Purpose;
use super::output::Output;
use super::tasks::{Ending, State, Task};
use super::transfer::{Header, Progress, Refusal, Solicitation};
use super::{data_in, task_set};

/// Data-out of one session asked for by R2T and not yet executed at most, in bytes; a single command may exceed
/// it alone.
pub const SOLICITED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// How long a host may leave an R2T unanswered, or a burst without its end; then its connection is closed, which
/// is what 4.2.3.3 and 10.7 leave to a target.
pub const DATA_OUT_SILENCE_MAX: Duration = Duration::from_secs(30);

/// A host that leaves an R2T unanswered while so many bytes go over its connection, in bytes, has passed it over: they are
/// more than can have stood before it in either direction.
const PASSED_OVER_BYTES: u64 = 2 * (SOLICITED_BYTES_MAX + DATA_IN_BYTES_MAX);

/// What goes over a connection, as far as its host's R2Ts have to wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Data-Out, and output that waited, in bytes.
    bytes: u64,
    /// When some of it last moved.
    moved: Time,
}

/// A moment, and what had gone over the connection by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    time: Time,
    bytes: u64,
}

impl Flow {
    /// Now.
    #[must_use]
    pub const fn mark(&self, now: Time) -> Mark {
        Mark { time: now, bytes: self.bytes }
    }

    fn pass(&mut self, bytes: u64, now: Time) {
        self.bytes += bytes;
        self.moved = now;
    }

    /// True if a host has had time enough for what it owes since then, on a line that is no faster than this: it, or
    /// the line, has been silent, or it has passed it over.
    fn is_overdue(&self, since: Mark, now: Time) -> bool {
        let late = |time: Time| now.since(time) > DATA_OUT_SILENCE_MAX;
        late(since.time) && (late(self.moved) || self.bytes - since.bytes > PASSED_OVER_BYTES)
    }
}

/// Aborted tasks whose Data-Out is still dropped without a word, at most.
pub const SILENCED_MAX: usize = 128;

impl FullFeature {
    /// Takes a task as far as its data-out allows.
    pub(super) fn proceed(&mut self, tag: u32, output: &mut Output) {
        if let Some(at) = self.tasks.find(tag) {
            self.proceed_at(at, output);
        }
    }

    /// The same, for the task at a place that [`super::tasks::Tasks::find`] gave.
    pub(super) fn proceed_at(&mut self, at: usize, output: &mut Output) {
        let Some(task) = self.tasks.at_mut(at).filter(|task| task.state == State::Data) else {
            return;
        };
        let tag = task.tag;
        if task.ending == Ending::Unheard {
            // Only what the initiator still had to send was waited for.
            if !task.gather.is_open() {
                self.remove_at(at, output);
                self.after_unheard(tag, output);
            }
            return;
        }
        match task.gather.progress() {
            Progress::Complete => {
                task.state = State::Turn;
                if task.attribute == TaskAttribute::HeadOfQueue {
                    self.turn.push_front(tag);
                } else {
                    self.turn.push_back(tag);
                }
            }
            Progress::Failed(refusal) => {
                if let Some(task) = self.remove_at(at, output) {
                    let outcome = match refusal {
                        Refusal::Check(sense) => Outcome::Check(sense),
                        Refusal::Status(status) => Outcome::Status(status),
                    };
                    data_in::answer(&mut self.sender(output), &task, outcome);
                }
            }
            Progress::Waiting => self.solicit(tag, output),
        }
    }

    /// Sends the R2Ts that are due for a task, if the bounds leave room for the whole of it.
    fn solicit(&mut self, tag: u32, output: &mut Output) {
        let (max_burst, outstanding) =
            (self.parameters.agreed.max_burst_length, self.parameters.agreed.max_outstanding_r2t);
        loop {
            let Some(task) = self.tasks.get_mut(tag).filter(|task| task.state == State::Data) else {
                return;
            };
            let Some(solicitation) = task.gather.next_solicitation(max_burst, outstanding) else {
                return;
            };
            if !task.solicited && !self.admit_solicited(tag) {
                return self.starved.push_back(tag);
            }
            self.request_data(tag, solicitation, output);
        }
    }

    /// Counts the data-out of a task in. Nobody overtakes a task that waits: the small ones behind it could hold
    /// for ever what it needs.
    fn admit_solicited(&mut self, tag: u32) -> bool {
        let all = self.out_bytes;
        let waiting = !self.starved.is_empty();
        let Some(task) = self.tasks.get_mut(tag) else {
            return false;
        };
        let more = u64::from(task.gather.wanted().saturating_sub(task.counted_out));
        let others = all - u64::from(task.counted_out);
        if waiting || (others > 0 && all + more > SOLICITED_BYTES_MAX) || !self.take_memory(more) {
            return false;
        }
        let Some(task) = self.tasks.get_mut(tag) else {
            return false;
        };
        task.solicited = true;
        task.counted_out = task.gather.wanted();
        self.out_bytes += more;
        true
    }

    fn request_data(&mut self, tag: u32, solicitation: Solicitation, output: &mut Output) {
        let transfer_tag = self.fresh_transfer_tag();
        let Some(task) = self.tasks.get_mut(tag) else {
            return;
        };
        task.gather.on_solicited(solicitation, transfer_tag);
        task.owed = self.flow.mark(self.clock);
        let lun = task.lun;
        let sender = self.sender(output);
        let header = ReadyToTransfer {
            lun,
            initiator_task_tag: tag,
            target_transfer_tag: transfer_tag,
            stat_sn: *sender.stat_sn,
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
            r2t_sn: solicitation.number,
            buffer_offset: solicitation.offset,
            desired_data_transfer_length: solicitation.length,
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }

    pub(super) fn on_data_out(&mut self, data: &DataOut, pdu: &Received, now: Time, output: &mut Output) {
        let tag = data.initiator_task_tag;
        if pdu.data.is_none() {
            // The task learns of it below, if there is one.
            self.reject(pdu, RejectReason::DataDigestError, output);
        }
        let header = Header {
            transfer_tag: data.target_transfer_tag,
            data_sn: data.data_sn,
            offset: data.buffer_offset,
            last: data.final_bit,
        };
        self.flow.pass(u64::from(data.data_segment_length), now);
        let taken = self.tasks.get_mut(tag).map(|task| {
            // "the LUN field MUST hold a valid value and be consistent with whatever was specified with the
            // command" (11.7.4), and is reserved without Target Transfer Tag.
            if data.target_transfer_tag != RESERVED_TAG && data.lun != task.lun {
                return Err(());
            }
            task.gather.on_data(header, data.data_segment_length, pdu.data.clone()).map_err(|_| ())?;
            task.received = now;
            task.owed = self.flow.mark(now);
            Ok(())
        });
        match taken {
            Some(Ok(())) => self.proceed(tag, output),
            None if self.silenced.contains(&tag) || pdu.data.is_none() => {}
            Some(Err(())) | None => self.reject(pdu, RejectReason::InvalidPduField, output),
        }
    }

    /// Removes a task and gives back what it held; tasks that waited for that go on.
    pub(super) fn remove(&mut self, tag: u32, output: &mut Output) -> Option<Task> {
        self.remove_at(self.tasks.find(tag)?, output)
    }

    /// The same, for the task at a place that [`super::tasks::Tasks::find`] gave.
    pub(super) fn remove_at(&mut self, at: usize, output: &mut Output) -> Option<Task> {
        let task = self.tasks.remove_at(at)?;
        if task.state == State::Outcome {
            self.data_in_bytes = self.data_in_bytes.saturating_sub(task.charged_in());
        }
        if task_set::is_special(task.attribute) {
            self.special = self.special.saturating_sub(1);
        }
        self.out_bytes = self.out_bytes.saturating_sub(u64::from(task.counted_out));
        self.solicit_starved(output);
        Some(task)
    }

    /// Asks for what waits to be asked for, in its order.
    pub(super) fn solicit_starved(&mut self, output: &mut Output) {
        if !self.starved.is_empty() {
            for starved in core::mem::take(&mut self.starved) {
                self.solicit(starved, output);
            }
        }
    }

    /// Removes a task that is not being executed and forgets it; its Data-Out may still come.
    pub(super) fn forget(&mut self, tag: u32, output: &mut Output) -> Option<Task> {
        let task = self.remove(tag, output)?;
        if task.state == State::Turn {
            self.turn.retain(|waits| *waits != tag);
        }
        if task.writes {
            if self.silenced.len() >= SILENCED_MAX {
                self.silenced.pop_front();
            }
            self.silenced.push_back(tag);
        }
        Some(task)
    }

    /// Makes room for what a command brings unasked; a command for which there is none is refused.
    pub(super) fn admit_unasked(&mut self, task: &mut Task, command: &ScsiCommand) {
        let terms = if command.final_bit { command.data_segment_length } else { self.first_burst() };
        let bytes = terms.min(task.gather.wanted());
        if !self.holding.take(self.level() + u64::from(bytes), Purpose::Unasked) {
            use protocol::scsi::sense::Status;
            let status = if self.tasks.count() == 0 { Status::Busy } else { Status::TaskSetFull };
            return task.gather.refuse(Refusal::Status(status));
        }
        task.counted_out = bytes;
        self.out_bytes += u64::from(bytes);
    }

    /// Time has passed, in which so many bytes of output that waited, and of a Data-Out PDU that is not whole yet, went
    /// over the connection.
    pub fn on_tick(&mut self, bytes: u64, now: Time) {
        self.clock = now;
        if bytes > 0 {
            self.flow.pass(bytes, now);
        }
    }

    /// True if the host has left something it owes unsent for too long.
    #[must_use]
    pub fn owes_data(&self, now: Time) -> bool {
        self.owed().any(|task| self.flow.is_overdue(task.owed, now))
    }

    /// True if the host holds memory by what it does not take or not send.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.holding.taken() > 0 && (self.backlog > 0 || self.owed().next().is_some())
    }

    /// The tasks whose data-out the host has been asked for, or has begun.
    fn owed(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.state == State::Data && task.gather.is_open())
    }
}
