//! Data that came from the own volume: reads become answers here, and only here, with the proof that the copy was
//! the truth after it was read.

use bytes::Bytes;
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::main_side::sense_of;
use super::task::{Action, Breakage, Origin, Stage, first_difference};
use crate::command::{Data, Op, Outcome};
use crate::disk::DiskError;
use crate::lease::{self, Proof};
use crate::route::Service;
use crate::status::Role;
use crate::time::Time;

impl Lun {
    /// The own volume's data of a task is there.
    pub(super) fn on_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        match (&task.op, task.origin) {
            (Op::Read { .. }, Origin::Copy) => self.on_copy_data(slot, &data, actions),
            (Op::Read { .. }, _) => self.on_read_data(slot, data, now, actions),
            (Op::CompareAndWrite { compare, .. }, _) => match first_difference(compare, &data) {
                Some(offset) => self.finish(slot, Outcome::Check(Sense::miscompare(offset)), actions),
                None if self.may_not_admit() => self.put_back(slot, actions),
                None => self.change(slot, actions),
            },
            _ => {}
        }
    }

    /// Whether the copy here is the truth *now*, after its data was read.
    fn on_read_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        match (self.standing.role, self.standing.service) {
            (Role::Main, Service::Mirrored | Service::Alone) => {
                self.answer_read(slot, &lease::of_main(), data, actions);
            }
            // Between losing the peer and going on alone main is still main.
            (Role::Main, Service::Refused) if self.held.is_some() => {
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
        self.finish(slot, Outcome::Good(data), actions);
    }

    /// Reads that waited for the lease.
    pub(super) fn answer_leased(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (slot, data) in core::mem::take(&mut self.awaiting_lease) {
            self.on_read_data(slot, data, now, actions);
        }
    }

    /// A read of the own copy that main has to do after all.
    fn forward_instead(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        let (origin, op, received) = (task.origin, task.op.clone(), task.received);
        if let Some(task) = self.tasks.get_mut(slot as usize) {
            task.origin = Origin::Nobody;
        }
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
        match (self.standing.role, self.standing.service) {
            // The other copy may be good: this one leaves the pair rather than report the medium.
            (Role::Main, Service::Mirrored) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error)));
                self.finish(slot, Outcome::Status(Status::Busy), actions);
            }
            (Role::Sub, Service::Mirrored | Service::Forwarded) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error)));
                self.forward_instead(slot, now, actions);
            }
            (Role::Main, Service::Alone) => {
                self.finish(slot, Outcome::Check(sense_of(error, false)), actions);
            }
            _ => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }
}
