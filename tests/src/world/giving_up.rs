//! How simulated hosts give commands up: task management functions, logouts, lost connections.

use controller::time::Time;
use core::time::Duration;

use super::host::{Host, Phase};
use super::hub::{Event, Hub};
use super::script::Function;
use crate::initiator::Tag;
use crate::initiator::pdu::RESERVED_TAG;
use crate::judge::{History, Outcome};

/// A command without an answer for this long is aborted: a reset by another host may have taken it along.
const PATIENCE: Duration = Duration::from_secs(6);

/// Responses of task management functions (RFC 7143 11.6.1).
const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;
const REJECTED: u8 = 255;

impl Host {
    /// Now and then a host gives up what it has just begun.
    pub(super) fn change_its_mind(&mut self, hub: &mut Hub) {
        let percent = self.settings.gives_up_percent;
        if percent == 0 || self.functions.len() >= 2 {
            return;
        }
        if let Some(old) = self.too_old(hub.now()) {
            return self.manage(hub, Function::AbortTask, old);
        }
        if !self.random.percent(percent) {
            return;
        }
        let sent = self.sent();
        if sent.is_empty() {
            return;
        }
        let tag = *self.random.pick(&sent);
        match self.random.below(20) {
            0 => self.log_out(hub),
            1 => {
                hub.after(Duration::ZERO, Event::Closed(self.number, hub.wires[self.number].epoch));
                hub.report.connections_lost += 1;
            }
            2 => self.manage(hub, Function::LogicalUnitReset, tag),
            3..8 => self.manage(hub, Function::AbortTaskSet, tag),
            _ => self.manage(hub, Function::AbortTask, tag),
        }
    }

    /// Sends a Logout Request; it sends nothing more in this session.
    pub(super) fn log_out(&mut self, hub: &mut Hub) {
        self.initiator.logout();
        self.phase = Phase::LoggingOut;
        hub.report.logouts += 1;
        self.flush(hub);
    }

    fn sent(&self) -> Vec<Tag> {
        let functions = self.functions.values().flat_map(|(_, tags)| tags).collect::<Vec<_>>();
        let free = |tag: &Tag| self.initiator.is_sent(*tag) && !functions.contains(&tag);
        self.pending.keys().copied().filter(free).collect()
    }

    fn too_old(&self, now: Time) -> Option<Tag> {
        self.sent().into_iter().find(|tag| now.since(self.pending[tag].begun) > PATIENCE)
    }

    /// Sends a task management function; `tag` names the command, or one on the logical unit.
    pub(super) fn manage(&mut self, hub: &mut Hub, function: Function, tag: Tag) {
        let lun_of = |tag: &Tag| self.settings.shapes[self.pending[tag].workload].lun;
        let lun = lun_of(&tag);
        if function == Function::LogicalUnitReset {
            return self.manage_lun(hub, function, lun);
        }
        let (referenced, covers) = match function {
            Function::AbortTask => (tag, vec![tag]),
            Function::AbortTaskSet | Function::LogicalUnitReset => {
                let all = self.pending.keys().copied();
                let covered = all.filter(|tag| self.initiator.is_sent(*tag) && lun_of(tag) == lun).collect();
                (RESERVED_TAG, covered)
            }
        };
        let request = self.initiator.manage(function.code(), lun, referenced);
        self.functions.insert(request, (function, covers));
        self.flush(hub);
    }

    /// Sends one that concerns all of this host's commands on a logical unit.
    pub(super) fn manage_lun(&mut self, hub: &mut Hub, function: Function, lun: u16) {
        let all =
            self.pending.iter().filter(|(_, pending)| self.settings.shapes[pending.workload].lun == lun);
        let covers = all.map(|(tag, _)| *tag).filter(|tag| self.initiator.is_sent(*tag)).collect();
        let request = self.initiator.manage(function.code(), lun, RESERVED_TAG);
        self.functions.insert(request, (function, covers));
        self.begin_reset(hub, request, lun);
        self.flush(hub);
    }

    /// A function was answered: what it gave up has taken effect by now or never will.
    pub(super) fn managed(
        &mut self,
        hub: &mut Hub,
        history: &mut History,
        tag: Tag,
        response: u8,
    ) -> Result<(), String> {
        let Some((function, covers)) = self.functions.remove(&tag) else {
            return Err(format!("host {}: an answer to function {tag} twice", self.number));
        };
        self.end_reset(hub, tag, response == COMPLETE);
        match (function, response) {
            (_, COMPLETE) | (Function::AbortTask, NO_SUCH_TASK) => {}
            // Not now, for instance because main is out of reach: what it was to give up goes on.
            (Function::LogicalUnitReset, REJECTED) if hub.settings.has_trouble() => return Ok(()),
            _ => return Err(format!("host {}: response {response} to {function:?}", self.number)),
        }
        let kind = Function::ALL.iter().position(|other| *other == function).unwrap_or(0);
        hub.report.functions[kind] += 1;
        for covered in covers {
            let Some(pending) = self.pending.remove(&covered) else { continue };
            self.initiator.forget(covered);
            let lun = self.settings.shapes[pending.workload].lun;
            self.gave_up(hub, lun, covered, pending.asked, pending.id, response == COMPLETE);
            if let Some(id) = pending.id {
                // What was not there any more, though never answered, another host's reset took along.
                let outcome = if response == COMPLETE { Outcome::Aborted } else { Outcome::Unknown };
                history.end(id, outcome);
            }
            hub.report.given_up += 1;
        }
        Ok(())
    }

    /// The session begins: what the one before it left behind has taken effect by now or never will. A controller
    /// that was started again knows nothing of that.
    pub(super) fn settle(&mut self, hub: &Hub, history: &mut History) {
        let side = self.settings.side;
        let life = hub.processes[side.index()].life;
        for (id, ..) in self.unsettled.extract_if(.., |(_, there, then)| *there == side && *then == life) {
            history.end(id, Outcome::Aborted);
        }
    }

    /// The session is over: what was in flight has taken effect by now or never will.
    pub(super) fn logged_out(&mut self, hub: &mut Hub, history: &mut History) {
        for pending in core::mem::take(&mut self.pending).into_values() {
            if let Some(id) = pending.id {
                history.end(id, Outcome::Aborted);
            }
            hub.report.given_up += 1;
        }
        let epoch = hub.wires[self.number].epoch;
        hub.after(Duration::ZERO, Event::Closed(self.number, epoch));
    }

    /// Gives up the last command of a script.
    pub(super) fn give_up_last(&mut self, hub: &mut Hub, function: Function) -> Result<(), String> {
        let tag = self.last.map(|(tag, _)| tag).filter(|tag| self.pending.contains_key(tag));
        let tag = tag.ok_or_else(|| format!("host {} has nothing to give up", self.number))?;
        self.manage(hub, function, tag);
        Ok(())
    }
}
