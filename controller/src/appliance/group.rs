//! A group: the LUNs that have one generation, one role and one life on this controller. What happens to it is an event
//! here; what is to be done comes back as a list of [`Wish`]es, which the appliance core carries out in their order.
//!
//! ```text
//!  event ──► Stage::on (lifecycle.rs) ──► stage, order ──► wishes: tell every LUN, say something to the peer,
//!              ▲                             │              write down, flush, part
//!              └── Facts: role, mirror, end  └──► PairView: role, status, service, generation (GroupState)
//! ```
//!
//! What always holds: from the moment a group is agreed on until the peer is lost, and while it goes on alone, all its
//! LUNs have one generation; its newest generation is no older than the one it is at.

use protocol::interlink::copy_report::{Generation, Pairing};
use protocol::interlink::will::{PairCommand, Wanted, Will};
use protocol::interlink::{GenerationTag, Message};

use super::broken::{self, Verdict};
use super::copies::Copies;
use super::copy::LunCopy;
use super::effect::LunOrder;
use super::group_state::GroupState;
use super::ids::Ids;
use super::lifecycle::{Ends, Event, Stage};
use super::pending::Pending;
use super::switch::{Heard, Switch, SwitchStep};
use super::theirs::Theirs;
use super::wish::{Parting, Setting, Wish};
use crate::disk::DiskError;
use crate::group::{self, Refusal};
use crate::pair::{PairFault, Quiet, Role, Service};
use crate::plan::{LunPlan, Side};
use crate::time::Time;

/// A group of LUNs.
#[derive(Debug)]
pub(super) struct Group {
    state: GroupState,
    /// The newest generation this controller ever proposed or was told of.
    newest: Generation,
    refusal: Option<Refusal>,
}

impl Group {
    /// A group at the start of its controller; nothing has happened yet. `plan` is what the file says of all its LUNs.
    pub(super) fn restored(side: Side, plan: &LunPlan, copies: Vec<LunCopy>) -> Self {
        let newest = copies.iter().map(LunCopy::generation).max_by_key(|generation| generation.number);
        Self {
            newest: newest.unwrap_or_default(),
            state: GroupState::new(side, plan, Copies::new(copies)),
            refusal: None,
        }
    }

    /// Where it stands, to be read.
    pub(super) const fn state(&self) -> &GroupState {
        &self.state
    }

    /// The same, to be told what concerns it alone.
    pub(super) const fn state_mut(&mut self) -> &mut GroupState {
        &mut self.state
    }

    /// What this controller has of its LUNs.
    pub(super) const fn copies(&self) -> &Copies {
        self.state.copies()
    }

    /// The same, to be changed.
    pub(super) const fn copies_mut(&mut self) -> &mut Copies {
        self.state.copies_mut()
    }

    pub(super) const fn stage(&self) -> Stage {
        self.state.stage()
    }

    fn role(&self) -> Role {
        self.state.role()
    }

    /// How hosts are served here.
    pub(super) fn service(&self) -> Service {
        self.state.service()
    }

    /// An event: the stage changes, and the LUNs are told.
    pub(super) fn on(&mut self, event: Event, ending: Option<Ends>) -> Vec<Wish> {
        self.state.on(event, ending)
    }

    pub(super) const fn newest(&self) -> Generation {
        self.newest
    }

    pub(super) const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// The flush of a LUN is over, however many connections came to nothing meanwhile. It says nothing of what is
    /// served under another generation. `own` is this controller's name.
    pub(super) fn on_flushed_apart(
        &mut self,
        lun: usize,
        as_of: GenerationTag,
        good: bool,
        own: &str,
        joined: bool,
    ) -> Vec<Wish> {
        let current = self.copies_mut().of_mut(lun).on_flushed(as_of);
        if self.stage() != Stage::Apart || !current {
            return Vec::new();
        }
        let awaited = self.is_refused_unsettled(own);
        if good {
            self.copies_mut().of_mut(lun).note_flushed();
            let mut wishes = vec![Wish::Write(Pending::Noted)];
            if awaited && self.copies().are_settled() {
                wishes.push(Wish::Part(Parting::OwnDiskAnswers));
            }
            return wishes;
        }
        // What was answered and not flushed before may be gone from this copy: it is no better than one whose
        // controller has lost its memory. Where the two are just meeting, the peer has been told otherwise.
        self.state.forget();
        if awaited || !joined { vec![Wish::Part(Parting::OwnDisk)] } else { Vec::new() }
    }

    /// Whether it was refused for what this copy's disk had not flushed, and that has come back. `own` is this
    /// controller's name.
    pub(super) fn is_settled_since(&self, own: &str) -> bool {
        self.copies().are_settled() && self.is_refused_unsettled(own)
    }

    fn is_refused_unsettled(&self, own: &str) -> bool {
        let reason = self.refusal.as_ref().map(Refusal::reason);
        matches!(reason, Some(Refusal::Unsettled(name)) if name == own)
    }

    /// The peer is out of reach. `until`: when the last lease has run out.
    pub(super) fn lose(&mut self, until: Time, ending: Option<Ends>) -> Vec<Wish> {
        let right = self.state.may_go_on(ending);
        self.copies_mut().iter_mut().for_each(LunCopy::forget_meeting);
        self.state.part();
        self.on(Event::Lost { right, until }, ending)
    }

    /// A clean end begins, of this controller or of the peer.
    pub(super) fn begin_ending(&mut self, own: bool, ending: Option<Ends>) -> Vec<Wish> {
        let event = if own { Event::OwnEnd } else { Event::PeerEnds { right: self.state.may_go_on(ending) } };
        self.on(event, ending)
    }

    /// The leases that were granted have run out: name the own copies alone, in the record that is written by this
    /// ticket.
    pub(super) fn go_alone(&mut self, ticket: u64, ids: &mut Ids) {
        let own = self.state.side().index();
        if !self.state.goes_alone(ticket) {
            return;
        }
        let newest = self.next(own, 1 << own, self.copies().generation().will, ids);
        self.copies_mut().take_on(newest, false);
    }

    /// The two have agreed on it; of each LUN the generation is its own, as it names what the LUN was at before.
    pub(super) fn agree(&mut self, lun: usize, generation: Generation, pairing: Pairing) -> Vec<Wish> {
        let wishes = self.on(Event::Agreed(pairing), None);
        self.newest = generation;
        let sub = usize::from(generation.main) != self.state.side().index();
        let left =
            pairing == Pairing::Out && sub && !self.state.theirs().is_some_and(Theirs::knows_own_as_old);
        self.copies_mut().of_mut(lun).agree(generation, left);
        wishes
    }

    /// Nothing keeps it from being served.
    pub(super) fn accept(&mut self) {
        self.refusal = None;
    }

    /// The two do not agree. A main that serves alone, or is about to, goes on with that; but not if what the peer has
    /// may be newer, or is another history: whatever would be written from now on a person may have to throw away.
    pub(super) fn refuse(&mut self, refusal: Refusal, newer: bool, ending: Option<Ends>) -> Vec<Wish> {
        let for_good = matches!(refusal.reason(), Refusal::SplitBrain(..) | Refusal::PutBack { .. }) || newer;
        let wishes = self.on(Event::Refused { for_good }, ending);
        self.refusal = Some(refusal);
        wishes
    }

    /// The generation of a group that has a part in the meeting is durable on both. Whether that is new.
    pub(super) fn know_as_joint(&mut self) -> bool {
        self.stage().is_agreed() && self.copies_mut().know_as_joint()
    }

    /// There may be room for copies that want it: they are refilled when there is for each of them. How much they need
    /// is not known before.
    pub(super) fn refill(&mut self, room: impl Fn(usize) -> bool, now: Setting, ids: &mut Ids) -> Vec<Wish> {
        let has_room = || self.copies().iter().all(|copy| room(copy.lun()));
        let wants = now.joined && self.state.wants_room() && has_room();
        if wants && self.state.refilling_mut().is_due(now.now) {
            self.state.refilling_mut().tried();
            return self.propose(Pairing::Copy, now, ids);
        }
        Vec::new()
    }

    /// Something is broken, as a LUN says under a generation: a disk here that fails takes these copies out of the
    /// pair, the peer's go on as main.
    pub(super) fn on_broken(
        &mut self,
        breakage: PairFault,
        as_of: GenerationTag,
        setting: Setting,
        ids: &mut Ids,
    ) -> Vec<Wish> {
        let current = self.copies().generation().tag() == as_of;
        let verdict = broken::verdict(breakage, current, self.copies().breakage(), self.stage());
        if matches!(verdict, Verdict::Breaks | Verdict::BreaksInASwitch) {
            self.copies_mut().break_by(breakage);
        }
        match verdict {
            Verdict::Nothing => Vec::new(),
            Verdict::Parts(parting) => vec![Wish::Part(parting)],
            Verdict::BreaksInASwitch => self.part_in_a_switch(ids),
            Verdict::Breaks => {
                let mut wishes = self.on(Event::DiskLost, setting.ending);
                wishes.extend(self.leave_if_broken(setting, ids));
                wishes
            }
        }
    }

    /// A disk has failed here in a switch in which its copy cannot leave. What was written down of one that would make
    /// it the only copy is taken back: this controller never goes on by it.
    fn part_in_a_switch(&mut self, ids: &mut Ids) -> Vec<Wish> {
        let parts = Wish::Part(Parting::InASwitch);
        let written = |switch: Switch| switch.can_be_undone_here() && switch.step == SwitchStep::WritesFirst;
        if self.stage().switch().is_some_and(written) {
            self.copies_mut().take_back(ids);
            self.newest = self.copies().generation();
            return vec![Wish::Write(Pending::Noted), parts];
        }
        vec![parts]
    }

    /// Time has passed: what had to wait for its time is looked at again, as something else may have been under way.
    pub(super) fn tick(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let mut wishes = self.leave_if_broken(setting, ids);
        wishes.extend(self.pursue(setting, ids));
        wishes.extend(self.prefer(setting, ids));
        wishes.extend(self.state.part_for_left_copy(setting));
        wishes
    }

    /// A copy whose disk has failed leaves the pair.
    fn leave_if_broken(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        if self.state.leaves_broken() { self.propose(Pairing::Out, setting, ids) } else { Vec::new() }
    }

    /// A pair that is DUPLEX under another main than the preferred one goes back to it.
    fn prefer(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let elsewhere = self.state.preferred() != self.state.side() && !setting.peer_leaves;
        if elsewhere { self.hand_over(setting, ids) } else { Vec::new() }
    }

    /// The other controller becomes main, if the pair is DUPLEX and this one is: it is about to end.
    pub(super) fn hand_over(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let whole = self.state.is_main_of_two() && !self.copies().are_broken();
        if whole { self.propose(Pairing::Whole, setting, ids) } else { Vec::new() }
    }

    /// A person asks something of the pair; `told`: by way of the peer.
    pub(super) fn on_command(
        &mut self,
        command: PairCommand,
        told: bool,
        setting: Setting,
        ids: &mut Ids,
    ) -> Vec<Wish> {
        self.state.hear_command(command, told, setting);
        self.pursue(setting, ids)
    }

    /// What a person has asked goes on.
    fn pursue(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let mut wishes = Vec::new();
        if let Some(change) = self.state.pursue(setting, &mut wishes) {
            let main = change.swaps.then_some(self.state.side().peer());
            let will = self.state.will(change.wanted, main);
            wishes.extend(self.propose_as(will, change.pairing, setting, ids));
        }
        wishes
    }

    /// A copy is flushed before its pair is split, or in the switch that splits it.
    pub(super) fn on_flushed_to_split(
        &mut self,
        ahead: bool,
        result: Result<(), DiskError>,
        setting: Setting,
        ids: &mut Ids,
    ) -> Vec<Wish> {
        if let Err(error) = result {
            let as_of = self.copies().generation().tag();
            return self.on_broken(PairFault::OwnDisk(error), as_of, setting, ids);
        }
        if ahead {
            self.state.on_flushed_ahead();
            return self.pursue(setting, ids);
        }
        let flushed = self.stage().switch().map(Switch::flushed);
        flushed.map_or_else(Vec::new, |switch| self.on(Event::SwitchSteps(switch), setting.ending))
    }

    /// The generation after the newest.
    fn next(&mut self, main: usize, members: u8, will: Will, ids: &mut Ids) -> Generation {
        self.newest = Generation { will, ..group::next(self.newest, ids.make(), main, members) };
        self.newest
    }

    fn propose(&mut self, pairing: Pairing, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        self.propose_as(self.copies().generation().will, pairing, setting, ids)
    }

    /// Proposes a switch to a generation under which the other is main.
    fn propose_as(&mut self, will: Will, pairing: Pairing, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        if !setting.joined || setting.ending.is_some() || self.stage().switch().is_some() {
            return Vec::new();
        }
        let main = self.state.side().peer().index();
        let members = if pairing == Pairing::Whole { 0b11 } else { 1 << main };
        let was_main = self.role() == Role::Main;
        let generation = self.next(main, members, will, ids);
        let switch = Switch { generation, pairing, since: None, step: SwitchStep::Proposed, was_main };
        let mut wishes = self.on(Event::Switches(switch), setting.ending);
        if self.stage().switch().is_some() {
            wishes.push(Wish::Say(Message::Switch { generation, pairing }));
        }
        wishes
    }

    /// The peer proposes a switch; `leads`: this controller leads.
    fn on_switch(
        &mut self,
        generation: Generation,
        pairing: Pairing,
        leads: bool,
        ending: Option<Ends>,
    ) -> Vec<Wish> {
        // Two proposals that cross: the leader's stands.
        if self.stage().switch().is_some_and(|switch| switch.is_proposer() && leads)
            || usize::from(generation.main) != self.state.side().index()
        {
            return Vec::new();
        }
        let mut wishes = Vec::new();
        if pairing == Pairing::Out {
            if self.state.cannot_be_the_only_one(generation.will.wanted) {
                return vec![Wish::Part(Parting::InASwitch)];
            }
            // A copy that fails leaves; one that is to be made has not been there.
            if generation.will.wanted == Wanted::Pair && !self.state.is_left_apart() {
                self.copies_mut().peer_leaves();
            }
            wishes.push(Wish::Tell(LunOrder::LastCopy));
        }
        self.newest = generation;
        let was_main = self.role() == Role::Main;
        let switch = Switch { generation, pairing, since: None, step: SwitchStep::Asked, was_main };
        wishes.extend(self.on(Event::Switches(switch), ending));
        wishes
    }

    /// Time has passed; `quiet(lun)` tells whether anything is in flight there, `at` names the group when its
    /// generation is durable. A switch that takes too long ends the meeting.
    pub(super) fn tick_switch(
        &mut self,
        at: usize,
        quiet: &impl Fn(usize) -> Quiet,
        setting: Setting,
    ) -> Vec<Wish> {
        let Some(mut switch) = self.stage().switch() else {
            return Vec::new();
        };
        let late = switch.is_late(setting.now);
        let next = switch.step_when(|| self.state.quiet(quiet), self.copies().iter().count());
        switch.step = next.unwrap_or(switch.step);
        let mut wishes = self.on(Event::SwitchSteps(switch), setting.ending);
        match next {
            Some(SwitchStep::Flushing(_)) if self.copies().are_broken() => {
                wishes.push(Wish::Part(Parting::InASwitch));
            }
            Some(SwitchStep::Flushing(_)) => {
                let flush = |copy: &LunCopy| Wish::Flush(copy.lun(), Pending::FlushSplit(copy.lun()));
                wishes.extend(self.copies().iter().map(flush));
            }
            Some(step) => {
                let image = step == SwitchStep::WritesLast && switch.splits();
                self.copies_mut().take_on(switch.generation, image);
                wishes.push(Wish::Write(Pending::Switch(at)));
            }
            None => {}
        }
        wishes.extend(late.then_some(Wish::Part(Parting::Overdue)));
        wishes
    }

    /// The generation of the switch is durable here.
    pub(super) fn on_own_switch_durable(&mut self, ending: Option<Ends>) -> Vec<Wish> {
        let Some((switch, word)) = self.stage().switch().and_then(Switch::on_durable) else {
            return Vec::new();
        };
        let mut wishes = self.on(Event::SwitchSteps(switch), ending);
        if switch.has_own_place() {
            wishes.extend(self.on(Event::SwitchPlaces(switch.pairing), ending));
        }
        wishes.push(Wish::Say(word));
        wishes
    }

    /// The peer says something of it, under the generation `as_of`; `at` names the group when something is durable,
    /// `leads`: this controller leads.
    pub(super) fn on_message(
        &mut self,
        at: usize,
        as_of: GenerationTag,
        message: &Message,
        leads: bool,
        setting: Setting,
        ids: &mut Ids,
    ) -> Vec<Wish> {
        let ending = setting.ending;
        let current = self.copies().generation().tag() == as_of;
        match *message {
            Message::Switch { generation, pairing } if current => {
                self.on_switch(generation, pairing, leads, ending)
            }
            Message::SwitchDurable(_) | Message::SwitchBegin(_) | Message::SwitchBegun(_) => {
                self.on_switch_word(message, ending)
            }
            Message::Copied if current && !self.copies().are_broken() => {
                self.state.name_both(Role::Sub, Pending::CopiedAtSub(at))
            }
            Message::Pair(command) if current => self.on_command(command, true, setting, ids),
            Message::CopiedDurable if current => self.state.name_both(Role::Main, Pending::CopiedAtMain(at)),
            _ => Vec::new(),
        }
    }

    /// The peer says how far it is with the switch.
    fn on_switch_word(&mut self, word: &Message, ending: Option<Ends>) -> Vec<Wish> {
        let Some(switch) = self.stage().switch() else {
            return Vec::new();
        };
        match switch.on_word(word) {
            Some(Heard::Steps(switch)) => self.on(Event::SwitchSteps(switch), ending),
            Some(Heard::Over(answer)) => {
                self.state.hear_of_image();
                let mut wishes = self.on(Event::SwitchOver(switch.pairing), ending);
                wishes.extend(answer.map(Wish::Say));
                wishes
            }
            None => Vec::new(),
        }
    }

    /// Both have it durable.
    pub(super) fn on_copied_at_main(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let mut wishes = self.on(Event::CopyWhole, setting.ending);
        wishes.extend(if self.copies().are_broken() {
            // The disk it was copied from has failed meanwhile: there is another copy now.
            self.propose(Pairing::Out, setting, ids)
        } else {
            self.prefer(setting, ids)
        });
        wishes
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        self.copies().check();
        assert!(
            self.newest.number >= self.copies().generation().number,
            "a generation newer than the newest"
        );
        let placed = !matches!(self.stage(), Stage::Apart | Stage::Agreed { .. });
        assert!(
            !placed || self.copies().are_one(),
            "LUNs of one group at different generations: {:?}",
            self.copies()
        );
        assert!(self.state.mirror() || self.stage().switch().is_none(), "a switch without a second copy");
    }
}

#[cfg(test)]
#[path = "group_unit_tests.rs"]
mod tests;
