//! The tasks of a session by initiator task tag, from the arrival of the command PDU to its answer.

use controller::time::Time;
use protocol::iscsi::{CmdSn, Lun, TaskAttribute};

use super::data_out::Mark;
use super::data_out_buffer::DataOutBuffer;
use crate::device_server::limits::TRANSFER_BYTES_MAX;

/// Where a task stands; each waiting state is named by what it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// For commands with a lower CmdSN.
    Order,
    /// For data-out.
    Data,
    /// For being executed.
    Ready,
    /// For its outcome.
    Outcome,
}

/// What becomes of the outcome of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It is answered.
    Answered,
    /// Nobody hears of it: a task management function of its own session aborted it.
    Unheard,
    /// It is answered with TASK ABORTED: a function of another I_T nexus aborted it (SAM-5 5.6).
    TaskAborted,
}

/// One SCSI command.
#[derive(Debug)]
pub struct Task {
    /// Initiator Task Tag.
    pub tag: u32,
    /// LUN field.
    pub lun: Lun,
    /// CDB.
    pub cdb: [u8; 16],
    /// CmdSN.
    pub number: CmdSn,
    /// Expected Data Transfer Length, in bytes.
    pub expected: u32,
    /// The R bit.
    pub reads: bool,
    /// The W bit.
    pub writes: bool,
    /// Bytes of data-out the CDB takes, whatever the initiator expects.
    pub takes: u64,
    /// Bytes counted against the bounds on data-out: what is here, promised or asked for.
    pub counted_out: u32,
    /// R2Ts may be sent for it: all of its data-out is counted.
    pub solicited: bool,
    /// When the last of it arrived, its data-out included: its age begins there.
    pub received: Time,
    /// When its host last sent data of it, or was last asked for some.
    pub owed: Mark,
    /// ATTR.
    pub attribute: TaskAttribute,
    /// Its place in the order in which tasks entered their task sets.
    pub entered: u64,
    /// Where it stands.
    pub state: State,
    /// How it will end.
    pub ending: Ending,
    /// Its data-out.
    pub data_out: DataOutBuffer,
}

impl Task {
    /// Bytes of data-in the initiator expects.
    #[must_use]
    pub const fn expected_in(&self) -> u32 {
        if self.reads && !self.writes { self.expected } else { 0 }
    }

    /// Bytes of data-in it is counted with: no command yields more than the limits say, whatever is expected.
    #[must_use]
    pub fn charged_in(&self) -> u64 {
        u64::from(self.expected_in()).min(TRANSFER_BYTES_MAX)
    }
}

/// Tags that are looked at together.
const TAGS_AT_ONCE: usize = 8;

/// All tasks of one session. A search over the tags, several at a time, beats a map at the depths the window allows.
#[derive(Debug, Default)]
pub struct Tasks {
    tags: Vec<u32>,
    tasks: Vec<Task>,
}

impl Tasks {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Where the task with this tag is; valid until the next change.
    #[must_use]
    pub fn find(&self, tag: u32) -> Option<usize> {
        let (groups, rest) = self.tags.as_chunks::<TAGS_AT_ONCE>();
        // Without a way out in the middle a group is compared at once.
        let group =
            groups.iter().position(|group| group.iter().fold(false, |met, known| met | (*known == tag)));
        let (from, tags) = match group {
            Some(at) => (at * TAGS_AT_ONCE, groups.get(at).map_or(rest, <[u32; TAGS_AT_ONCE]>::as_slice)),
            None => (groups.len() * TAGS_AT_ONCE, rest),
        };
        tags.iter().position(|known| *known == tag).map(|at| from + at)
    }

    /// The task with this tag.
    pub fn get_mut(&mut self, tag: u32) -> Option<&mut Task> {
        let at = self.find(tag)?;
        self.tasks.get_mut(at)
    }

    /// The task with this tag.
    #[must_use]
    pub fn get(&self, tag: u32) -> Option<&Task> {
        self.tasks.get(self.find(tag)?)
    }

    /// The task at a place that [`Tasks::find`] gave.
    #[must_use]
    pub fn at(&self, at: usize) -> Option<&Task> {
        self.tasks.get(at)
    }

    /// The task at a place that [`Tasks::find`] gave.
    pub fn at_mut(&mut self, at: usize) -> Option<&mut Task> {
        self.tasks.get_mut(at)
    }

    /// Adds a task whose tag no other has. Gives its place, valid until the next change.
    pub fn insert(&mut self, task: Task) -> usize {
        debug_assert!(self.find(task.tag).is_none());
        self.tags.push(task.tag);
        self.tasks.push(task);
        self.tasks.len() - 1
    }

    /// Removes the task at a place that [`Tasks::find`] gave.
    pub fn remove_at(&mut self, at: usize) -> Option<Task> {
        if at >= self.tasks.len() {
            return None;
        }
        self.tags.swap_remove(at);
        Some(self.tasks.swap_remove(at))
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    /// All of them, in no particular order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.tasks.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(tag: u32) -> Task {
        Task {
            tag,
            lun: Lun::default(),
            cdb: [0; 16],
            number: CmdSn(0),
            expected: 0,
            reads: false,
            writes: false,
            takes: 0,
            counted_out: 0,
            solicited: false,
            received: Time(0),
            owed: Mark::default(),
            attribute: TaskAttribute::Simple,
            entered: 0,
            state: State::Order,
            ending: Ending::Answered,
            data_out: DataOutBuffer::default(),
        }
    }

    #[test]
    fn each_task_is_found_by_its_tag_however_many_there_are() {
        let mut tasks = Tasks::default();
        for count in 1..5 * TAGS_AT_ONCE as u32 {
            tasks.insert(task(count * 7));
            for known in 1..=count {
                assert_eq!(tasks.get(known * 7).map(|task| task.tag), Some(known * 7), "of {count}");
            }
            assert!(tasks.get(count * 7 + 1).is_none() && tasks.find(0).is_none());
        }
        for gone in (1..5 * TAGS_AT_ONCE as u32).step_by(3) {
            let at = tasks.find(gone * 7).unwrap();
            assert_eq!(tasks.remove_at(at).map(|task| task.tag), Some(gone * 7));
            assert!(tasks.find(gone * 7).is_none());
        }
        assert!((1..5 * TAGS_AT_ONCE as u32).all(|tag| tasks.find(tag * 7).is_some() == (tag % 3 != 1)));
    }
}
