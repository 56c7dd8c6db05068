//! What the simulated world tells the judges of events: whose memory a fault has taken, and when all is well again; and
//! how a run with events ends.

use controller::plan::Side;

use super::Simulation;
use super::faults::{Fault, Kind};
use super::host::{Host, Phase};
use crate::judge::reservations::Judge;
use crate::judge::reservations::state::{ACTIONS, Action, Command};

/// Whether a controller remembers the events of a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Memory {
    /// All of them.
    #[default]
    All,
    /// Perhaps not: it has been restarted, or the two were apart.
    Perhaps,
    /// It does not run.
    None,
}

impl Simulation {
    pub(super) fn is_under_way(&self, action: Action) -> bool {
        let hub = self.hub.lock();
        let mut commands = hub.judges.iter().flat_map(Judge::changes_under_way);
        commands.any(|command| matches!(command, Command::Out(out) if out.action == action))
    }

    /// Which reservations a crash meets.
    pub(super) fn note_caught(&mut self, fault: &Fault) {
        let main = self.settings.luns[0].main;
        let column = match (fault.kind, fault.side == main) {
            (Kind::Kill, true) => 0,
            (Kind::Kill, false) => 1,
            (Kind::PowerLoss, true) => 2,
            (Kind::PowerLoss, false) => 3,
            (Kind::Both, _) => 4,
            _ => return,
        };
        for action in ACTIONS {
            if self.is_under_way(action) {
                self.hub.lock().report.caught[action as usize][column] += 1;
            }
        }
    }

    /// The two may have parted, and one of them may go on.
    pub(super) fn doubt_memory(&mut self) {
        for memory in self.director.memory.iter_mut().flatten() {
            *memory = if *memory == Memory::None { Memory::None } else { Memory::Perhaps };
        }
    }

    /// A controller's memory is gone: of events that nobody else remembers only what was durable is left.
    pub(super) fn forget_events(&mut self, side: Side) {
        let hub = &mut *self.hub.lock();
        for (at, judge) in hub.judges.iter_mut().enumerate() {
            let memory = &mut self.director.memory[at];
            memory[side.index()] = Memory::None;
            let left = memory[side.peer().index()];
            // Main of a LUN without a mirror may serve it again before it hears what its peer remembers.
            let plan = &self.settings.luns[at];
            if left != Memory::All || (!plan.mirror && plan.main == side) {
                judge.lose_power(left == Memory::None);
                hub.report.memory_losses += 1;
            }
        }
    }

    /// Main of a LUN without a mirror starts again: it may serve the LUN before it hears what its peer, which has
    /// judged its own hosts until now, remembers.
    pub(super) fn forget_single_events(&mut self, side: Side) {
        for (judge, plan) in self.hub.lock().judges.iter_mut().zip(&self.settings.luns) {
            if !plan.mirror && plan.main == side {
                judge.lose_power(false);
            }
        }
    }

    /// Of what was never answered something may still happen; a while after all is well, nothing does.
    pub(super) fn settle_events(&mut self) {
        // A cut is not noticed at once.
        let well = !self.settings.has_trouble() || (self.director.mendings.is_empty() && self.is_settled());
        if self.hub.lock().judges.is_empty() || !well {
            return;
        }
        let hub = &mut *self.hub.lock();
        let now = hub.now();
        hub.judges.iter_mut().for_each(|judge| judge.settle(now));
        self.director.memory.iter_mut().for_each(|memory| *memory = Default::default());
    }

    /// The work is over and nothing is under way: everybody asks what the reservations are, one ends them, everybody
    /// looks back.
    pub(super) fn end_work(&mut self) {
        let any = |phase| self.hosts.iter().any(|host| host.phase == phase);
        let next = if any(Phase::Working) && self.hub.lock().judges.is_empty() {
            Phase::LookingBack
        } else if any(Phase::Working) {
            Phase::Inspecting
        } else if any(Phase::Inspecting) && self.hosts.iter().all(Host::has_swept) {
            Phase::Sweeping
        } else if any(Phase::Sweeping) && self.hosts.iter().all(Host::has_swept) {
            Phase::LookingBack
        } else {
            return;
        };
        let hub = &mut *self.hub.lock();
        let mut swept = Vec::new();
        for host in &mut self.hosts {
            match next {
                Phase::Inspecting => host.begin_inspection(),
                // Each LUN by one of those who have it.
                Phase::Sweeping => host.begin_sweep(&mut swept),
                _ => host.begin_look_back(),
            }
            host.proceed(hub, &mut self.history);
        }
    }
}
