//! How commands end. A change ends with its legs ([`Blocks::finish_if_whole`]); when the pair changes or time runs out,
//! those that were not admitted are taken back, and changes that one copy may lack wait until the pair is decided on.

use protocol::scsi::sense::Sense;

use super::next::{Next, after_legs};
use super::terms::Fate;
use super::{Blocks, Happened};
use crate::command::{Command, NexusId, Op, Outcome};
use crate::disk::{DiskError, DiskIo};
use crate::lun::resync::next_piece;
use crate::lun::task::{Action, Leg, Origin, Slot, Stage, Task, send_back};
use crate::pair::{Breakage, PairView};

impl Blocks {
    /// The pair is decided on: so are the changes that waited for it.
    pub(in crate::lun) fn decide_lost(&mut self, actions: &mut Vec<Action>) {
        for slot in self.tasks.chosen(Task::awaits_decision) {
            self.finish_if_whole(slot, actions);
        }
    }

    /// Ends a change when its legs have come so far that the mode has it answered. Its blocks are free then, or after
    /// they were copied again.
    pub(super) fn finish_if_whole(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot) else {
            return;
        };
        let legs = task.legs();
        if task.stage != Stage::Legs || !self.mode.answers_at(legs) {
            return;
        }
        let copied_again = task.copied_again.is_some() && self.resync.goes_on();
        match after_legs(task, copied_again, self.terms.fate(self.resync.ends())) {
            Next::Finish(outcome) if !self.mode.frees_at(legs, copied_again) => {
                self.copy_again(slot, outcome, actions);
            }
            next => self.go_on(slot, next, actions),
        }
    }

    /// Both have done with a change that the own copy could not take, or with a piece of its blocks: the next one. Its
    /// origin hears of the end at once; the ranges stay held.
    pub(super) fn copy_again(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let Some(range) = task.copied_again.as_mut().and_then(next_piece) else {
            return self.finish(slot, outcome, actions);
        };
        // It has another place in the order from now on.
        self.mirror.end(task.sequence, slot);
        let origin = core::mem::replace(&mut task.origin, Origin::Copy);
        let op = core::mem::replace(&mut task.op, Op::Read { range });
        task.stage = Stage::Read;
        (task.own, task.peer, task.failed) = (Leg::None, Leg::None, None);
        task.result.clear();
        actions.push(self.volume.submit(Slot::Task(slot), DiskIo::Read(range)));
        if origin != Origin::Copy {
            self.tell(origin, op, outcome, actions);
        }
    }

    /// Back to the gate with a command that has begun nothing, to wait there for the decision about the pair.
    pub(super) fn put_back(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let Origin::Host { nexus, tag } = task.origin else {
            return self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
        };
        task.origin = Origin::Nobody;
        let (op, received) = (task.op.clone(), task.received);
        let lun = self.index;
        self.happened.push_back(Happened::Back(Command { lun, nexus, tag, op, received }));
        self.finish(slot, Outcome::Aborted, actions);
    }

    /// A read of the local copy that is main's to do.
    pub(super) fn leave_to_main(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let (op, received) = (task.op.clone(), task.received);
        let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
        self.finish(slot, Outcome::Aborted, actions);
        if let Origin::Host { nexus, tag } = origin {
            let lun = self.index;
            self.happened.push_back(Happened::ToMain(Command { lun, nexus, tag, op, received }));
        }
    }

    /// The peer is out of reach: nothing is admitted, no write answered until it is decided how this controller goes
    /// on. Which forwarded commands the local disk still has, of this role or an earlier one. [`Blocks::hold_tasks`]
    /// follows where this is a main that will go on, else [`Blocks::suspend_tasks`].
    pub(in crate::lun) fn lose_peer(&mut self, view: PairView, actions: &mut Vec<Action>) -> Vec<u32> {
        self.terms.lose_peer(view);
        self.resync.stop();
        self.mirror.lose();
        let (writing, granted) = self.replica.lose(self.tasks.locks());
        self.granted(granted, actions);
        writing
    }

    /// The peer is gone from a LUN whose only whole copy is here: what it forwarded and was not admitted is never
    /// executed.
    pub(in crate::lun) fn peer_gone(&mut self, view: PairView, actions: &mut Vec<Action>) {
        self.terms.lose_peer(view);
        self.withdraw_those(&Outcome::Aborted, actions, |task| matches!(task.origin, Origin::Peer { .. }));
    }

    /// The peer is out of reach, and what becomes of the pair is undecided: waiting commands of this controller's hosts
    /// go back to the gate in the order in which they came.
    pub(in crate::lun) fn hold_tasks(&mut self, actions: &mut Vec<Action>) {
        for task in self.tasks.iter_mut() {
            self.mirror.give_room(task.lose_peer());
            task.forget_copy();
        }
        let is_host = |task: &Task| matches!(task.origin, Origin::Host { .. });
        let back = self.tasks.in_turn(|task| task.has_begun_nothing() && is_host(task));
        let gone = self.tasks.chosen(|task| task.has_begun_nothing() && !is_host(task));
        let decide = self.tasks.chosen(|task| task.stage == Stage::Legs);
        // Remove all of them first: removing one would otherwise admit the next.
        for slot in gone {
            self.withdraw(slot, Outcome::Aborted, actions);
        }
        for slot in back {
            self.put_back(slot, actions);
        }
        for slot in decide {
            self.finish_if_whole(slot, actions);
        }
    }

    /// A turn waits for what is in flight. What waits for the range of a change that in turn waits for the decision
    /// about the pair would be in flight for ever: when nothing else is left it goes back to the gate that it came in
    /// by.
    pub(in crate::lun) fn make_way(&mut self, gate_is_open: bool, actions: &mut Vec<Action>) {
        if gate_is_open || !self.terms.view().is_mirrored() {
            return;
        }
        for slot in self.tasks.stuck() {
            // The going of another may have let it in.
            let Some(task) = self.tasks.get_mut(slot).filter(|task| task.can_make_way()) else {
                continue;
            };
            let Origin::Peer { link, id } = task.origin else {
                self.put_back(slot, actions);
                continue;
            };
            task.origin = Origin::Nobody;
            self.finish(slot, Outcome::Aborted, actions);
            actions.push(send_back(link, id, self.terms.view().generation));
        }
    }

    /// Nothing is served any more: what was not admitted is refused, what was ends with the local copy.
    pub(in crate::lun) fn suspend_tasks(&mut self, actions: &mut Vec<Action>) {
        for slot in self.tasks.chosen(|_| true) {
            let Some(task) = self.tasks.get_mut(slot) else {
                continue;
            };
            self.mirror.give_room(task.lose_peer());
            task.forget_copy();
            match task.stage {
                Stage::Range | Stage::Credit | Stage::Lease => {
                    self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
                }
                Stage::Legs => self.finish_if_whole(slot, actions),
                Stage::Read => {}
            }
        }
    }

    /// Takes back a task that was not admitted, or holds its ranges but has begun nothing.
    pub(in crate::lun) fn withdraw(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.tasks.get(slot).is_some_and(Task::has_begun_nothing) {
            self.finish(slot, outcome, actions);
        }
    }

    /// Takes back those of the tasks which have begun nothing that `chosen` picks. The end of one may let another have
    /// its slot: whoever is in it then is looked at anew.
    pub(in crate::lun) fn withdraw_those(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(&Task) -> bool,
    ) {
        let chosen = |task: &Task| task.has_begun_nothing() && chosen(task);
        for slot in self.tasks.chosen(chosen) {
            if self.tasks.get(slot).is_some_and(chosen) {
                self.finish(slot, outcome.clone(), actions);
            }
        }
    }

    /// Ends those of hosts' commands that wait for a range and that `refusal` keeps out.
    pub(in crate::lun) fn refuse_waiting(
        &mut self,
        actions: &mut Vec<Action>,
        refusal: impl Fn(NexusId, &Op) -> Option<Outcome>,
    ) {
        let mut refused = Vec::new();
        for (slot, task) in self.tasks.iter() {
            if let (Stage::Range, Origin::Host { nexus, .. }) = (task.stage, task.origin)
                && let Some(outcome) = refusal(nexus, &task.op)
            {
                refused.push((slot, outcome));
            }
        }
        for (slot, outcome) in refused {
            self.withdraw(slot, outcome, actions);
        }
    }

    /// The own copy could not take a change. The only whole one stays when all it lacks is room: its hosts hear so, and
    /// can go on when there is some.
    pub(super) fn report_own_disk(&self, error: DiskError, actions: &mut Vec<Action>) {
        if !(error.wants_room() && matches!(self.terms.fate(self.resync.ends()), Fate::Good)) {
            actions.push(Action::Broken(Breakage::OwnDisk(error), self.terms.view().generation));
        }
    }
}
