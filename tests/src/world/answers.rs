//! What a simulated host makes of an answer: what it means for the history, what it does next, and whether a controller
//! may answer so.

use super::host::{Host, Pending, Phase};
use super::hub::Hub;
use super::script::Ask;
use crate::initiator::{Response, Tag};
use crate::judge::History;
use crate::workload::Ended;

/// A sense key: the command was not executed, and the next one is not met by the same.
const UNIT_ATTENTION: u8 = 0x06;

/// The sense key of a copy that ended early.
const COPY_ABORTED: u8 = 0x0a;

impl Host {
    /// A command was answered.
    pub(super) fn completed(
        &mut self,
        hub: &mut Hub,
        history: &mut History,
        tag: Tag,
        response: &Response,
    ) -> Result<(), String> {
        let Some(pending) = self.pending.remove(&tag) else { return Err(format!("tag {tag} twice")) };
        let lun = self.settings.shapes[pending.workload].lun;
        if self.end_event(hub, history, &pending, tag, response)? {
            return Ok(());
        }
        if let (Some(id), Some(begun), Some(caching)) = (pending.id, pending.caching, hub.caching(lun))
            && caching.off_since(begun)
        {
            history.ask_durable(id);
        }
        let mut ended = self.workloads[pending.workload].ended(history, pending.id, response);
        let is_last = self.last.is_some_and(|(last, _)| last == tag);
        if is_last && matches!(self.last_ask, Some(Ask::CopyZeros(_))) && response.code().0 == COPY_ABORTED {
            // Some of it is copied.
            ended = Ended::Unknown;
        }
        self.had_leave(hub, lun, pending.asked, pending.id, &ended);
        if is_last {
            self.last_end = Some(ended.clone());
            self.last_code = Some(response.code());
            let again = response.code().0 == UNIT_ATTENTION && self.phase == Phase::Working;
            if let Some(ask) = self.last_ask.filter(|_| again) {
                self.ask_for(hub, history, ask)?;
            }
        }
        if let (Some(invoked), Ended::Good) = (pending.flush, &ended) {
            history.end_flush(lun, invoked);
        }
        self.move_on(hub, history, &pending, &ended);
        if let Some(operation) = pending.id.map(|id| history.operation(id))
            && let Some((block, side)) = hub.missing_on_a_copy(operation)
        {
            return Err(format!(
                "block {block} was never on the copy of {side:?}, but a host has heard: {operation}"
            ));
        }
        self.count(hub, history, &pending, ended, response)
    }

    /// What the host is about after an answer.
    fn move_on(&mut self, hub: &mut Hub, history: &History, pending: &Pending, ended: &Ended) {
        match self.phase {
            // Whoever may not yet reserve must be able to reset.
            Phase::Asking if matches!(ended, Ended::Good | Ended::Conflict) => {
                self.asking -= 1;
                if self.asking == 0 {
                    self.phase = Phase::Working;
                }
            }
            Phase::Asking => {
                // Asked again by the next Host event, not at once; perhaps by the other path.
                self.takes_other_path = self.may_move && self.random.percent(15);
                self.waits = true;
                self.later(hub);
            }
            Phase::LookingBack if pending.id.is_some() && *ended == Ended::Good => {
                let looked_at = pending.id.map(|id| history.operation(id).extents[0]);
                self.to_look_at
                    .pop_if(|(workload, extent)| *workload == pending.workload && Some(*extent) == looked_at);
            }
            _ => {}
        }
    }

    /// Counts the answer in the report. Err if no controller may answer so in this run.
    fn count(
        &mut self,
        hub: &mut Hub,
        history: &History,
        pending: &Pending,
        ended: Ended,
        response: &Response,
    ) -> Result<(), String> {
        let lun = self.settings.shapes[pending.workload].lun;
        let age = hub.now().since(pending.begun).as_millis() as u64;
        let faulty = hub.settings.has_trouble();
        let mirrored = hub.settings.luns.iter().any(|plan| plan.number == lun && plan.mirror);
        let code = response.code();
        let report = &mut hub.report;
        report.longest_ms = report.longest_ms.max(age);
        report.commands += 1;
        match ended {
            Ended::Good => report.good += 1,
            Ended::Miscompare => report.miscompares += 1,
            Ended::Refused if faulty => {
                // NOT READY: the other path may serve.
                self.takes_other_path = self.may_move && self.random.percent(10);
                report.refused += 1;
            }
            Ended::Failed if faulty && (hub.faults > 1 || !mirrored) => report.unknown += 1,
            // A unit attention tells of another host's reset.
            Ended::Refused if code.0 == UNIT_ATTENTION => report.refused += 1,
            Ended::Refused if self.phase != Phase::Asking => {
                return Err(format!("host {}: refused with {code:02x?} though nothing failed", self.number));
            }
            Ended::Refused => report.refused += 1,
            Ended::Busy => report.busy += 1,
            Ended::Conflict | Ended::Protected if !hub.judges.is_empty() => report.kept_out += 1,
            Ended::Aborted => report.given_up += 1,
            Ended::Unknown => report.unknown += 1,
            Ended::Failed | Ended::Conflict | Ended::Protected => {
                return Err(format!("host {}: {code:02x?} though another copy could serve", self.number));
            }
            Ended::Unexpected(what) => {
                let operation = pending.id.map_or(String::new(), |id| history.operation(id).to_string());
                return Err(format!("host {}: {what} for {operation}", self.number));
            }
        }
        Ok(())
    }
}
