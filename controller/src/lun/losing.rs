//! Main without its peer: what was not admitted waits at the gate, what the own copy has waits for the decision
//! about the pair.

use protocol::scsi::sense::Sense;

use super::task::{Action, Fate, Leg, Origin, Stage, Task};
use super::{ALONE_FLUSH_INTERVAL, Lun};
use crate::command::{Command, LunIndex, Op, Outcome};
use crate::pair::{Breakage, PairStatus, Role, Service};
use crate::time::Time;

impl Lun {
    /// What becomes of a change that the own copy has and the peer's may lack.
    pub(super) fn fate(&self) -> Fate {
        match (self.view.role, self.view.service, self.view.status) {
            // The generation names the own copy as the only whole one: what it has is kept.
            (Role::Main, Service::Alone, _) => Fate::Good,
            (Role::Main, Service::Mirrored, PairStatus::Copy) if !self.resync.ends() => Fate::Good,
            // One of the copies failed; it leaves the pair first. When the copy is complete the sub may already read
            // its own.
            (Role::Main, Service::Mirrored, _) => Fate::Undecided,
            (Role::Main, Service::Refused, _) if self.gate.waits() => Fate::Undecided,
            _ => Fate::Unknown,
        }
    }

    /// The own copy could not take a change, or took half of it: its host hears of it at once, but its range stays
    /// held until this copy has left the pair. Nobody reads what only one of them has.
    pub(super) fn end_undecided(&mut self, slot: u32, actions: &mut Vec<Action>) {
        if let Some(task) = self.tasks.get_mut(slot as usize) {
            let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
            let aborted = Outcome::Check(Sense::ABORTED_COMMAND);
            match origin {
                Origin::Event(number) => self.on_event_flushed(number, aborted, actions),
                origin => self.end(origin, aborted, actions),
            }
        }
    }

    /// The pair is decided on: so are the changes that waited for it.
    pub(super) fn decide_lost(&mut self, actions: &mut Vec<Action>) {
        let waiting: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.awaits_decision())
            .map(|(slot, _)| slot as u32)
            .collect();
        for slot in waiting {
            self.finish_if_whole(slot, actions);
        }
    }

    /// The order of changes starts anew. What is left of the one before waits for the decision about the pair: also
    /// where the peer's word about its copy is still on its way, for it comes too late to be understood.
    pub(super) fn end_order(&mut self) {
        self.mirror.begin();
        for (_, task) in &mut self.tasks {
            self.mirror.give_room(core::mem::take(&mut task.credit));
            if task.peer == Leg::Writing {
                task.peer = Leg::Lost;
            }
        }
    }

    /// Back to the door with a command that has begun nothing, to wait there for the decision about the pair.
    pub(super) fn put_back(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let Origin::Host { nexus, tag } = task.origin else {
            return self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
        };
        task.origin = Origin::Nobody;
        let (op, received) = (task.op.clone(), task.received);
        let lun = LunIndex(self.setup.index);
        if self.gate.waits() {
            self.keep_waiting(Command { lun, nexus, tag, op, received }, actions);
        } else {
            let outcome = Outcome::Check(Sense::UNAVAILABLE);
            actions.push(Action::Answer { nexus, tag, outcome });
        }
        match task_stage(&self.tasks, slot) {
            Some(Stage::Range | Stage::Credit) => self.withdraw(slot, Outcome::Aborted, actions),
            _ => self.finish(slot, Outcome::Aborted, actions),
        }
    }

    /// The peer is out of reach: see [`Lun::lose_peer`]. Waiting commands of own hosts go back to the door in the
    /// order they came.
    pub(super) fn hold_main_side(&mut self, actions: &mut Vec<Action>) {
        let mut back: Vec<(Time, u32)> = Vec::new();
        let mut gone = Vec::new();
        let mut decide = Vec::new();
        for (slot, task) in &mut self.tasks {
            let slot = slot as u32;
            self.mirror.give_room(core::mem::take(&mut task.credit));
            task.forget_copy();
            match (task.stage, task.origin) {
                (Stage::Range | Stage::Credit, Origin::Host { .. }) => back.push((task.received, slot)),
                (Stage::Range | Stage::Credit, _) => gone.push(slot),
                (Stage::Legs, _) => {
                    if task.peer == Leg::Writing {
                        task.peer = Leg::Lost;
                    }
                    decide.push(slot);
                }
                (Stage::Read | Stage::Lease, _) => {}
            }
        }
        back.sort_unstable();
        // Nobody may be admitted by another's going before all of them are out of the queue.
        for slot in gone {
            self.withdraw(slot, Outcome::Aborted, actions);
        }
        for (_, slot) in back {
            self.put_back(slot, actions);
        }
        for slot in decide {
            self.finish_if_whole(slot, actions);
        }
    }

    /// A turn waits for what is in flight. What waits for the range of a change that in turn waits for the decision about
    /// the pair would be in flight for ever: when nothing else is left it goes back to the door it came in by.
    pub(super) fn make_way(&mut self, actions: &mut Vec<Action>) {
        let waits = |task: &Task| {
            task.stage == Stage::Range && matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. })
        };
        let stuck = !self.gate.is_open()
            && self.is_mirrored()
            && self.tasks.iter().any(|(_, task)| task.awaits_decision())
            && self.tasks.iter().all(|(_, task)| task.awaits_decision() || waits(task));
        if !stuck {
            return;
        }
        let waiting = self.tasks.iter().filter(|(_, task)| waits(task));
        let mut back: Vec<(Time, u32)> = waiting.map(|(slot, task)| (task.received, slot as u32)).collect();
        back.sort_unstable();
        for (_, slot) in back {
            // The going of another may have let it in.
            let Some(task) = self.tasks.get_mut(slot as usize).filter(|task| waits(task)) else {
                continue;
            };
            let Origin::Peer { link, id } = task.origin else {
                self.put_back(slot, actions);
                continue;
            };
            task.origin = Origin::Nobody;
            self.withdraw(slot, Outcome::Aborted, actions);
            self.send_back(link, id, actions);
        }
    }

    /// Ends the meeting over a leg that only the peer can end, and does not.
    pub(super) fn tick_legs(&mut self, actions: &mut Vec<Action>) {
        let command = match (self.view.role, self.view.service) {
            (Role::Main, Service::Mirrored) => {
                let waits =
                    |slot: u32| self.tasks.get(slot as usize).is_some_and(|task| task.peer == Leg::Writing);
                self.mirror.oldest(waits)
            }
            (Role::Sub, Service::Mirrored) => self.forwarder.oldest_change(),
            _ => None,
        };
        let event = match self.view.role {
            Role::Main => self.event_at_sub(),
            Role::Sub => self.forwarder.oldest_event(),
        };
        if self.legs.overdue(command, event, self.volume.ran()) {
            actions.push(Action::Broken(Breakage::Overdue, self.view.generation));
        }
    }

    /// While there is no other copy, what is in memory goes to the disk every second.
    pub(super) fn flush_alone(&mut self, now: Time, actions: &mut Vec<Action>) {
        let alone = self.view.service == Service::Alone && self.view.status == PairStatus::Suspended;
        // A turn waits for what is in flight.
        let due =
            alone && !self.gate.waits() && self.caches() && now.since(self.flushed) >= ALONE_FLUSH_INTERVAL;
        if due && self.enter(Origin::Nobody, Op::SynchronizeCache, true, now, actions) {
            self.flushed = now;
        }
    }

    /// The interlink is gone: see [`Lun::suspend`].
    pub(super) fn suspend_main_side(&mut self, actions: &mut Vec<Action>) {
        let slots: Vec<u32> = self.tasks.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let Some(task) = self.tasks.get_mut(slot as usize) else {
                continue;
            };
            self.mirror.give_room(core::mem::take(&mut task.credit));
            task.forget_copy();
            match task.stage {
                Stage::Range | Stage::Credit => {
                    self.withdraw(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
                }
                Stage::Lease => {
                    self.awaiting_lease.remove(&slot);
                    self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
                }
                Stage::Legs => {
                    if task.peer == Leg::Writing {
                        task.peer = Leg::Lost;
                    }
                    self.finish_if_whole(slot, actions);
                }
                Stage::Read => {}
            }
        }
    }
}

fn task_stage(tasks: &slab::Slab<Task>, slot: u32) -> Option<Stage> {
    tasks.get(slot as usize).map(|task| task.stage)
}
