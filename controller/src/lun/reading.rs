//! Data that came from the own volume: reads become answers here, and only here, with the proof that the copy was
//! the truth after it was read.

use bytes::Bytes;
use protocol::block::BlockRange;
use protocol::interlink::Report;
use protocol::scsi::log;
use protocol::scsi::provisioning::{LBA_STATUS_DESCRIPTOR_BYTES, LBA_STATUS_HEADER_BYTES, lba_status};
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::blocks::{first_difference, first_unexpected, ored};
use super::task::{Action, Origin, Stage};
use crate::command::{Data, Op, Outcome, REPORT_BYTES_MAX};
use crate::disk::{DiskError, DiskIo};
use crate::lease::{self, Proof};
use crate::pair::{Breakage, Role, Service};
use crate::time::Time;

/// The disk I/O that finds out what is to be told: as many descriptors as there is room for, and one at least.
pub(super) fn report_io(what: Report, allocation: u32, blocks: u64) -> DiskIo {
    match what {
        Report::LbaStatus { start } => {
            let room = u64::from(allocation).min(REPORT_BYTES_MAX);
            let room = room.saturating_sub(LBA_STATUS_HEADER_BYTES as u64);
            let descriptors = room.div_ceil(LBA_STATUS_DESCRIPTOR_BYTES as u64).max(1);
            let range = BlockRange { start, blocks: blocks.saturating_sub(start.0) };
            DiskIo::Extents { range, descriptors: u16::try_from(descriptors).unwrap_or(u16::MAX) }
        }
        Report::Provisioning { .. } => DiskIo::Usage,
    }
}

/// What was found out, as parameter data cut to the allocation length.
fn report(what: Report, allocation: u32, found: &[Bytes]) -> Data {
    let found = found.concat();
    let mut data = match what {
        Report::LbaStatus { .. } => lba_status(&found),
        Report::Provisioning { pointer } => {
            let count = |at: usize| {
                found.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes))
            };
            log::logical_block_provisioning(pointer, count(0), count(8))
        }
    };
    data.truncate(allocation as usize);
    if data.is_empty() { Data::new() } else { vec![Bytes::from(data)] }
}

impl Lun {
    /// The own volume's data of a task is there.
    pub(super) fn on_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        match (&task.op, task.origin) {
            (Op::Read { .. }, Origin::Copy) => self.on_copy_data(slot, &data, actions),
            (Op::Read { .. } | Op::Verify { .. } | Op::Report { .. }, _) => {
                self.on_read_data(slot, data, now, actions);
            }
            (Op::Prefetch { .. }, _) => self.finish(slot, Outcome::Good(Data::new()), actions),
            (Op::CompareAndWrite { compare, .. }, _) => match first_difference(compare, &data) {
                Some(offset) => self.finish(slot, Outcome::Check(Sense::miscompare(offset)), actions),
                None if self.may_not_admit() => self.put_back(slot, actions),
                None => self.change(slot, actions),
            },
            (Op::OrWrite { .. }, _) if self.may_not_admit() => self.put_back(slot, actions),
            (Op::OrWrite { data: added, .. }, _) => {
                let result = ored(&data, added);
                if let Some(task) = self.tasks.get_mut(slot as usize) {
                    task.result = vec![result];
                }
                self.change(slot, actions);
            }
            _ => {}
        }
    }

    /// Whether the copy here is the truth *now*, after its data was read.
    fn on_read_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        match (self.view.role, self.view.service) {
            (Role::Main, Service::Mirrored | Service::Alone) => {
                self.answer_read(slot, &lease::of_main(), data, actions);
            }
            // Between losing the peer and going on alone main is still main.
            (Role::Main, Service::Refused) if self.gate.waits() => {
                self.answer_read(slot, &lease::of_main(), data, actions);
            }
            (Role::Sub, Service::Mirrored) => match self.lease.proof(now) {
                Some(proof) => self.answer_read(slot, &proof, data, actions),
                None => {
                    if let Some(task) = self.tasks.get_mut(slot as usize) {
                        task.stage = Stage::Lease;
                        self.awaiting_lease.insert(slot, data);
                    }
                }
            },
            (Role::Sub, Service::Forwarded) => self.forward_instead(slot, now, actions),
            _ => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }

    /// The only place where a read's data becomes an answer: it takes the proof that it may.
    fn answer_read(&mut self, slot: u32, _proof: &Proof, data: Data, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        let outcome = match &task.op {
            Op::Verify { expected, .. } => match first_unexpected(expected, &data) {
                Some(offset) => Outcome::Check(Sense::miscompare(offset)),
                None => Outcome::Good(Data::new()),
            },
            Op::Report { what, allocation } => Outcome::Good(report(*what, *allocation, &data)),
            _ => Outcome::Good(data),
        };
        self.finish(slot, outcome, actions);
    }

    /// Reads that waited for the lease.
    pub(super) fn answer_leased(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (slot, data) in core::mem::take(&mut self.awaiting_lease) {
            self.on_read_data(slot, data, now, actions);
        }
    }

    /// A read of the own copy that main has to do after all: later, if main may not have its place yet and would not
    /// know the message.
    fn forward_instead(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        if !self.peer_in_place && matches!(task.origin, Origin::Host { .. }) {
            return self.put_back(slot, actions);
        }
        let (op, received) = (task.op.clone(), task.received);
        let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
        self.finish(slot, Outcome::Aborted, actions);
        if let Origin::Host { nexus, tag } = origin {
            self.forward(nexus, tag, op, received, now, actions);
        }
    }

    pub(super) fn on_read_error(
        &mut self,
        slot: u32,
        error: DiskError,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        match (self.view.role, self.view.service) {
            // The other copy may be good: this one leaves the pair rather than report the medium.
            (Role::Main, Service::Mirrored) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
                self.finish(slot, Outcome::Status(Status::Busy), actions);
            }
            (Role::Sub, Service::Mirrored | Service::Forwarded) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
                self.forward_instead(slot, now, actions);
            }
            (Role::Main, Service::Alone) => {
                self.finish(slot, Outcome::Check(error.sense(false)), actions);
            }
            _ => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }
}
