//! How simulated hosts reserve a LUN, reset it and select its mode pages; and what the judges of the LUNs hear of it
//! and of every command that asks leave.

use super::host::{Host, Pending, Phase};
use super::hub::Hub;
use super::script::Function;
use crate::initiator::reservation::{self, Heard};
use crate::initiator::{Request, Response, Tag};
use crate::judge::caching::Caching;
use crate::judge::reservations::state::{Access, Action, Answer, Command, Leave, Nexus, Out, Session};
use crate::judge::reservations::{AskId, EventId, Judge, UNDER_WAY_MAX};
use crate::judge::{History, OpId};
use crate::workload::{Ended, events};

/// With this key a host ends all reservations when the work is over.
const LAST_KEY: u64 = 0x1a57;

/// What a host has to do with events.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    /// The event under way: its tag, its LUN, its name and what it is.
    event: Option<(Tag, u16, EventId, Command)>,
    /// Resets under way.
    resets: Vec<(Tag, u16, EventId)>,
    /// What is left to do when the work is over, by workload; the last first.
    left: Vec<(usize, Command)>,
}

impl Hub {
    /// The judge of a LUN by its number, if its events are judged.
    pub(super) fn judge(&mut self, lun: u16) -> Option<&mut Judge> {
        let at = self.settings.luns.iter().position(|plan| plan.number == lun)?;
        self.judges.get_mut(at)
    }

    /// What hosts may believe of a LUN's write cache.
    pub(super) fn caching(&mut self, lun: u16) -> Option<&mut Caching> {
        let at = self.settings.luns.iter().position(|plan| plan.number == lun)?;
        self.caching.get_mut(at)
    }

    /// What a judge found is told by the next step.
    pub(super) fn found(&mut self, lun: u16, result: Result<(), String>) {
        if let Err(what) = result {
            self.violation.get_or_insert_with(|| format!("LUN {lun}: {what}"));
        }
    }
}

/// What a command asks leave for, by its opcode.
const fn access(opcode: u8) -> Access {
    match opcode {
        0x28 | 0x88 | 0x8f => Access::Read,
        0x35 | 0x91 => Access::Write,
        0x00 => Access::Describe,
        0x12 => Access::Always,
        _ => Access::Change,
    }
}

impl Host {
    pub(super) fn session(&self, hub: &Hub) -> Session {
        let port = self.settings.side.index() as u16 + 1;
        let nexus = Nexus { host: self.number as u32, port };
        Session { nexus, number: hub.wires[self.number].epoch }
    }

    /// A command begins that may need leave.
    pub(super) fn ask_leave(&self, hub: &mut Hub, request: &Request, id: Option<OpId>) -> Option<AskId> {
        let who = self.session(hub);
        hub.judge(request.lun).map(|judge| judge.ask(who, access(request.cdb.0[0]), id))
    }

    /// It ended.
    pub(super) fn had_leave(
        &self,
        hub: &mut Hub,
        lun: u16,
        asked: Option<AskId>,
        id: Option<OpId>,
        ended: &Ended,
    ) {
        let (Some(asked), Some(judge)) = (asked, hub.judge(lun)) else { return };
        let leave = match ended {
            Ended::Good | Ended::Miscompare => Some(Leave::Granted),
            Ended::Conflict => Some(Leave::Conflict),
            Ended::Protected => Some(Leave::Protected),
            Ended::Refused | Ended::Busy | Ended::Aborted => return judge.over(asked, id),
            Ended::Unknown | Ended::Failed | Ended::Unexpected(_) => None,
        };
        let result = judge.ended(asked, id, leave);
        hub.found(lun, result);
    }

    /// A command was given up; `never`: nothing of it happens from now on.
    pub(super) fn gave_up(
        &mut self,
        hub: &mut Hub,
        lun: u16,
        tag: Tag,
        asked: Option<AskId>,
        id: Option<OpId>,
        never: bool,
    ) {
        let now = hub.now();
        let Some(judge) = hub.judge(lun) else { return };
        if let Some((_, _, event, _)) = self.reserving.event.take_if(|(event, ..)| *event == tag) {
            judge.lost(event, now);
        }
        match asked {
            Some(asked) if never => judge.over(asked, id),
            Some(asked) => _ = judge.ended(asked, id, None),
            None => {}
        }
    }

    /// The connection is gone.
    pub(super) fn lose_events(&mut self, hub: &mut Hub) {
        if hub.judges.is_empty() {
            return;
        }
        let now = hub.now();
        let who = self.session(hub);
        let event = self.reserving.event.take();
        for (_, lun, id) in
            self.reserving.resets.drain(..).chain(event.map(|(tag, lun, id, _)| (tag, lun, id)))
        {
            hub.judge(lun).iter_mut().for_each(|judge| judge.lost(id, now));
        }
        for pending in self.pending.values() {
            let lun = self.settings.shapes[pending.workload].lun;
            if let (Some(asked), Some(judge)) = (pending.asked, hub.judge(lun)) {
                _ = judge.ended(asked, pending.id, None);
            }
        }
        // Whatever it had reserved by RESERVE is free a while later.
        for judge in &mut hub.judges {
            if judge.may_be_reserved_by(who) {
                let id = judge.begin(who, Command::SessionLost);
                judge.lost(id, now);
            }
        }
    }

    /// Perhaps an event; false if it is a data command's turn.
    pub(super) fn begin_some_event(&mut self, hub: &mut Hub, history: &mut History) -> bool {
        let Some(events) = self.settings.events else { return false };
        if self.reserving.event.is_some() || !self.random.percent(events.percent) {
            return false;
        }
        let workload = self.random.below(self.settings.shapes.len() as u64) as usize;
        let (who, hosts) = (self.session(hub), hub.wires.len() as u32);
        let Some(judge) = hub.judge(self.settings.shapes[workload].lun) else { return false };
        if judge.under_way() >= UNDER_WAY_MAX {
            return false;
        }
        let command = events::draw(&mut self.random, events, judge.a_state(), who, hosts);
        self.begin_event(hub, history, workload, command);
        true
    }

    fn begin_event(&mut self, hub: &mut Hub, history: &mut History, workload: usize, command: Command) {
        let lun = self.settings.shapes[workload].lun;
        let Some((cdb, out, in_bytes)) = reservation::request(&command) else { return };
        let who = self.session(hub);
        let Some(id) = hub.judge(lun).map(|judge| judge.begin(who, command.clone())) else { return };
        hub.trace_word(format_args!("host {} asks LUN {lun}: {command:?}", self.number));
        let flushes = matches!(command, Command::WriteCache { on: false, .. });
        let flush = flushes.then(|| history.begin_flush());
        let tag = self.send_event(hub, Request { lun, cdb, out, in_bytes }, workload, flush);
        if let (Command::WriteCache { on: true, .. }, Some(caching)) = (&command, hub.caching(lun)) {
            caching.ask_on();
        }
        self.reserving.event = Some((tag, lun, id, command));
    }

    /// A LOGICAL UNIT RESET begins.
    pub(super) fn begin_reset(&mut self, hub: &mut Hub, tag: Tag, lun: u16) {
        let who = self.session(hub);
        if let Some(judge) = hub.judge(lun) {
            let id = judge.begin(who, Command::Reset);
            self.reserving.resets.push((tag, lun, id));
        }
    }

    /// It was answered. Where the LUN is not served there is nothing to be reset.
    pub(super) fn end_reset(&mut self, hub: &mut Hub, tag: Tag, complete: bool) {
        let at = self.reserving.resets.iter().position(|(reset, ..)| *reset == tag);
        let Some((_, lun, id)) = at.map(|at| self.reserving.resets.swap_remove(at)) else { return };
        let (now, certain) = (hub.now(), !hub.settings.has_trouble());
        let Some(judge) = hub.judge(lun) else { return };
        let result = if complete && certain {
            judge.answered(id, &Answer::Good, &[])
        } else {
            judge.lost(id, now);
            Ok(())
        };
        if complete && self.phase == Phase::Sweeping {
            self.reserving.left.pop();
        }
        hub.found(lun, result);
    }

    /// Whether an answer is that of the event under way; then it is dealt with.
    pub(super) fn end_event(
        &mut self,
        hub: &mut Hub,
        history: &mut History,
        pending: &Pending,
        tag: Tag,
        response: &Response,
    ) -> Result<bool, String> {
        let Some((_, lun, id, command)) = self.reserving.event.take_if(|(event, ..)| *event == tag) else {
            return Ok(false);
        };
        let (now, hosts) = (hub.now(), hub.wires.len() as u32);
        let heard = reservation::heard(&command, response, hosts)?;
        hub.trace_word(format_args!("host {} hears {heard:?} to {command:?}", self.number));
        hub.report.commands += 1;
        if let (Command::WriteCache { on, save }, Some(caching)) = (&command, hub.caching(lun)) {
            match (on, &heard, pending.caching) {
                (true, Heard::Answer(_) | Heard::NotDone, _) => caching.answered_on(),
                (false, Heard::Answer(Answer::Good), Some(begun)) if *save => caching.saved_off(begun),
                _ => {}
            }
        }
        if let (Some(invoked), Heard::Answer(Answer::Good)) = (pending.flush, &heard) {
            history.end_flush(lun, invoked);
        }
        let Some(judge) = hub.judge(lun) else { return Ok(true) };
        let (answer, result) = match heard {
            Heard::Answer(answer) => {
                let result = judge.answered(id, &answer, &response.data);
                (Some(answer), result)
            }
            Heard::NotDone => (None, judge.refused(id)),
            Heard::Unknown => {
                judge.lost(id, now);
                (None, Ok(()))
            }
        };
        let report = &mut hub.report;
        match answer {
            Some(Answer::Conflict | Answer::Illegal) => report.conflicts += 1,
            Some(_) => report.events_done += 1,
            None => report.refused += 1,
        }
        if let (Some(Answer::Good), Command::Out(out)) = (&answer, &command) {
            report.reserved[out.action as usize] += 1;
        }
        if answer.is_some() && matches!(self.phase, Phase::Inspecting | Phase::Sweeping) {
            self.reserving.left.pop_if(|(_, wanted)| *wanted == command);
        }
        hub.found(lun, result);
        Ok(true)
    }

    /// The work is over: what do the controllers say?
    pub(super) fn begin_inspection(&mut self) {
        self.phase = Phase::Inspecting;
        let all = [Command::ReadKeys, Command::ReadReservation, Command::ReadFullStatus];
        let workloads = 0..self.settings.shapes.len();
        self.reserving.left =
            workloads.flat_map(|workload| all.clone().map(|command| (workload, command))).collect();
    }

    /// It ends all reservations and write protections of its LUNs that nobody has `swept`, so that all can look back.
    pub(super) fn begin_sweep(&mut self, swept: &mut Vec<u16>) {
        self.phase = Phase::Sweeping;
        let nobody = Nexus { host: 0, port: 1 };
        let out = |action, key, action_key| {
            Command::Out(Out {
                action,
                kind: 0,
                key,
                action_key,
                aptpl: false,
                all_target_ports: false,
                others: Vec::new(),
                to: nobody,
                unregister: false,
            })
        };
        let luns: Vec<u16> = self.settings.shapes.iter().map(|shape| shape.lun).collect();
        let workloads: Vec<usize> = (0..luns.len()).filter(|at| !swept.contains(&luns[*at])).collect();
        swept.extend(luns);
        let all = [
            Command::ModeSelect { protect: false, save: true },
            out(Action::Clear, LAST_KEY, 0),
            out(Action::RegisterAndIgnoreExistingKey, 0, LAST_KEY),
            Command::Reset,
        ];
        self.reserving.left = workloads
            .into_iter()
            .flat_map(|workload| all.clone().map(|command| (workload, command)))
            .collect();
    }

    /// Nothing is left to do of it.
    pub(super) fn has_swept(&self) -> bool {
        self.reserving.left.is_empty() && self.pending.is_empty() && self.reserving.resets.is_empty()
    }

    /// The next of what is left to do when the work is over.
    pub(super) fn sweep(&mut self, hub: &mut Hub, history: &mut History) {
        if !self.pending.is_empty() || !self.reserving.resets.is_empty() {
            return;
        }
        match self.reserving.left.last().cloned() {
            Some((workload, Command::Reset)) => {
                let lun = self.settings.shapes[workload].lun;
                self.manage_lun(hub, Function::LogicalUnitReset, lun);
            }
            Some((workload, command)) => self.begin_event(hub, history, workload, command),
            None => {}
        }
    }
}
