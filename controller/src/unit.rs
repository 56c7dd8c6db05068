//! The one loop: lock, handle, take the actions, unlock, perform them. Generic over its [`World`], written once
//! for the product and for the simulated world.
//!
//! Locks are taken in the order appliance, then LUN, and never held across I/O. A completion that comes back at
//! once is handled in the same loop, so a cached read is two short locks and one system call.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::interlink::event::Event;
use protocol::interlink::shared::{Requester, SharedState};
use protocol::interlink::will::PairCommand;
use protocol::interlink::{GenerationTag, Message};
use protocol::scsi::sense::Sense;

use self::lun_numbers::LunNumbers;
use self::luns::{Luns, lun_of};
use crate::appliance::{Appliance, Effect, LinkRefusal, PairRefusal, Restored, shared_key};
use crate::command::{Admission, Command, Initiator, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::copy_manager::{Act, CopyDriver, CopyManager, CopyOrder};
use crate::disk::{DiskError, DiskResult};
use crate::lease::Lease;
use crate::limits;
use crate::link::{Frame, LinkId, LinkKind, NO_LUN, Via};
use crate::lun::{Action, CopyNews, Lun, LunCounters};
use crate::pair::{PairStatus, Quiet, Role, Service};
use crate::plan::Plan;
use crate::status::ControllerStatus;
use crate::volume::record::{self, Kind};
use crate::world::{Ticket, World};

mod effects;
mod lun_numbers;
mod lun_view;
mod luns;
mod report;
mod sense_formats;

use self::lun_view::Known;
pub use self::lun_view::{LunName, LunView};
pub use self::sense_formats::SenseFormats;

/// One storage control unit.
pub struct Controller<W: World> {
    world: W,
    plan: Plan,
    numbers: LunNumbers,
    appliance: Mutex<Appliance>,
    luns: Luns,
    sense_formats: SenseFormats,
    copies: CopyDriver,
}

impl<W: World> Controller<W> {
    /// A controller at its start. Nothing is served before its peer was met, but for LUNs without a copy that
    /// have been served before.
    pub fn new(world: W, plan: Plan, restored: Restored) -> Self {
        let numbers = plan.luns.iter().map(|lun| lun.number);
        let lease = Arc::new(Lease::default());
        let random = world.random();
        let luns = Luns::new(&plan, &restored, random as u64, &lease);
        let sense_formats = luns.sense_formats(numbers.clone());
        let numbers = LunNumbers::new(numbers);
        let appliance = Appliance::new(plan.clone(), &restored, random, lease);
        luns.learn_capacities(&appliance);
        let appliance = Mutex::new(appliance);
        Self { world, plan, numbers, appliance, luns, sense_formats, copies: CopyDriver::default() }
    }

    /// Begins: once, before anything else.
    pub fn start(&self) {
        self.with_appliance(|appliance| appliance.start(self.world.now()));
    }

    /// The world it lives in.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// A host's command; also each part of an EXTENDED COPY. The outcome comes through [`World::answer`], perhaps
    /// before this returns.
    pub fn command(&self, command: Command) {
        let index = usize::from(command.lun.0);
        let now = self.world.now();
        self.with_lun(index, |lun, actions| lun.command(command, now, actions));
    }

    /// Asks for a task to be given up. One that was not admitted ends with [`Outcome::Aborted`]; one that was
    /// ends as it would have; one that is not known here has ended already. Only its outcome says it is over.
    pub fn abort(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        let now = self.world.now();
        self.with_copies(|copies| copies.give_up(nexus, tag.task(), now));
        self.abort_here(lun, nexus, tag);
    }

    /// EXTENDED COPY. The outcome comes through [`World::answer`], perhaps before this returns.
    pub fn extended_copy(&self, order: CopyOrder) {
        let now = self.world.now();
        self.with_copies(|copies| copies.begin(order, now));
    }

    /// How far EXTENDED COPY commands are or came, and why they failed.
    pub fn copies(&self) -> &CopyDriver {
        &self.copies
    }

    fn abort_here(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        let now = self.world.now();
        self.with_lun(usize::from(lun.0), |lun, actions| lun.abort(nexus, tag, now, actions));
    }

    /// A new I_T nexus: every LUN owes it the unit attention POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub fn nexus_added(&self, nexus: NexusId, initiator: &Initiator) {
        self.luns.iter().for_each(|mut lun| lun.nexus_added(nexus, initiator));
    }

    /// Who a nexus of this controller is, for the events it asks for. `None` if there is no such nexus, or too many.
    pub fn who(&self, lun: LunIndex, nexus: NexusId) -> Option<Requester> {
        self.luns.lock(usize::from(lun.0))?.unit().who(nexus)
    }

    /// The state of a LUN that both controllers share, as it is here.
    pub fn shared(&self, lun: LunIndex) -> Option<SharedState> {
        Some(self.luns.lock(usize::from(lun.0))?.unit().state().clone())
    }

    /// Resets a LUN (SAM-5 6.3.3), for a task management function of this name: what was not admitted on either
    /// controller never is, what was is awaited; reservations by RESERVE end, mode parameters are as saved, and
    /// every nexus of both controllers has its unit attention. Then [`World::answer`] brings GOOD; anything else
    /// means that nobody knows.
    pub fn reset(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        let op = Op::Event(Box::new(Event::Reset));
        self.command(Command { lun, nexus, tag, op, received: self.world.now() });
    }

    /// An I_T nexus is gone. What was not admitted is never executed; the rest runs to its end unanswered.
    pub fn nexus_lost(&self, nexus: NexusId) {
        let now = self.world.now();
        self.with_copies(|copies| copies.nexus_lost(nexus, now));
        for index in 0..self.luns.len() {
            self.with_lun(index, |lun, actions| lun.nexus_lost(nexus, now, actions));
        }
    }

    /// The LUN of that number, if there is one.
    pub fn lun(&self, number: u64) -> Option<LunIndex> {
        self.numbers.find(number)
    }

    /// The numbers of all LUNs, ascending.
    pub fn lun_numbers(&self) -> Vec<u16> {
        self.numbers.iter().map(|(number, _)| number).collect()
    }

    /// The numbers of those that have an identity, ascending (REPORT LUNS).
    pub fn known_lun_numbers(&self) -> Vec<u16> {
        let appliance = self.appliance.lock();
        let is_known = |lun: &LunIndex| appliance.view().lun_identity(usize::from(lun.0)).is_some();
        self.numbers.iter().filter(|(_, lun)| is_known(lun)).map(|(number, _)| number).collect()
    }

    /// The LUN that has this NAA designator, and its number.
    pub fn lun_of_naa(&self, naa: u64) -> Option<(LunIndex, u16)> {
        let appliance = self.appliance.lock();
        let is_its = |index: &usize| appliance.view().lun_identity(*index).is_some_and(|its| its.naa == naa);
        let found = (0..self.plan.luns.len()).find(is_its)?;
        Some((LunIndex(found as u16), self.plan.luns[found].number))
    }

    /// Asks for leave to answer a command that only describes the LUN, and for what to say. An `Err` is the
    /// command's outcome: a unit attention, not ready.
    pub fn admit(&self, lun: LunIndex, nexus: NexusId, admission: Admission) -> Result<LunView, Outcome> {
        let index = usize::from(lun.0);
        let missing = || Outcome::Check(Sense::LUN_NOT_SUPPORTED);
        let known = Known::new(&self.appliance.lock(), &self.plan, index).ok_or_else(missing)?;
        let mut core = self.luns.lock(index).ok_or_else(missing)?;
        core.admit(nexus, admission)?;
        Ok(known.view(&self.plan, &core))
    }

    /// Capacity, whether no host may write, and LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT, for checking a command's
    /// range before [`Controller::command`].
    pub fn capacity(&self, lun: LunIndex) -> Option<(u64, bool, u8)> {
        let index = usize::from(lun.0);
        let plan = self.plan.luns.get(index)?;
        Some((self.luns.lock(index)?.blocks(), plan.read_only, plan.physical_block_exponent))
    }

    /// False until the appliance's identity exists: logins are answered with status 0301h (RFC 7143 11.13.5).
    pub fn serving(&self) -> bool {
        self.appliance.lock().view().has_identity()
    }

    /// What this controller says of itself, and what its peer said last.
    pub fn status(&self) -> ControllerStatus {
        let status = report::status(&self.world, &self.plan, &self.appliance.lock(), &self.luns);
        let usages: Vec<_> = self.luns.iter().map(|lun| lun.usage()).collect();
        let mut limits = limits::of(&self.plan, &usages);
        limits.extend(self.copies.limits());
        limits.push(self.luns.background_limit());
        limits.extend(self.world.limits());
        ControllerStatus { hosts: self.world.hosts(), limits, ..status }
    }

    /// Looks whether what always holds of every LUN does; for simulated worlds, after every event.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        self.appliance.lock().check();
        self.luns.check(&self.plan.groups());
        self.copies.check();
    }

    /// In which format sense data of the LUNs goes to hosts, now and later.
    pub fn sense_formats(&self) -> SenseFormats {
        self.sense_formats.clone()
    }

    /// What a LUN met so far: waits, forwards.
    pub fn counters(&self, lun: LunIndex) -> Option<LunCounters> {
        self.luns.lock(usize::from(lun.0)).map(|lun| lun.counters())
    }

    /// The generation under which a LUN is served, or was last agreed on.
    pub fn generation(&self, lun: LunIndex) -> Option<GenerationTag> {
        self.luns.lock(usize::from(lun.0)).map(|lun| lun.view().generation)
    }

    /// A LUN's role, pair status and service here, and whether its role is changing.
    pub fn place(&self, lun: LunIndex) -> Option<(Role, PairStatus, Service, bool)> {
        let index = usize::from(lun.0);
        let is_changing = self.appliance.lock().view().is_switching(index);
        let lun = self.luns.lock(index)?;
        let view = lun.view();
        Some((view.role, view.status, view.service, is_changing))
    }

    /// Gives every LUN only this many bytes of credit in each class, to see how it fares with little.
    pub fn set_credit(&self, bytes: u64) {
        self.luns.iter().for_each(|mut lun| lun.set_credit(bytes));
    }

    /// A person asks something of the pairs of LUNs, by their indices ([`Appliance::on_pair_command`]).
    pub fn pair_command(&self, luns: &[usize], command: PairCommand) -> Vec<Result<bool, PairRefusal>> {
        self.with_appliance(|appliance| appliance.on_pair_command(luns, command))
    }

    /// Begins a clean end: new commands are refused, those in flight finish, everything is flushed and the
    /// clean mark is made durable; then [`Controller::stopped`] turns true.
    pub fn stop(&self) {
        let now = self.world.now();
        self.with_appliance(|appliance| appliance.stop(now));
    }

    /// A clean end is to come when hosts have left, or their time is up: the peer is told, and both flush meanwhile.
    pub fn announce_stop(&self) {
        self.with_appliance(Appliance::announce_stop);
    }

    /// True when a clean end is complete.
    pub fn stopped(&self) -> bool {
        self.appliance.lock().view().stopped()
    }

    /// A connection of the interlink is open. The one who dialed tells its kind; the one who accepted passes
    /// `None` and learns it from the first frame.
    pub fn on_link_up(&self, link: LinkId, dialed: Option<LinkKind>) {
        if self.world.stuck().is_some() {
            return self.world.close(link);
        }
        self.with_appliance(|appliance| appliance.on_link_up(link, dialed));
    }

    /// A connection of the interlink came to nothing before it was a link.
    pub fn on_link_refused(&self, refusal: LinkRefusal) {
        self.appliance.lock().on_refusal(refusal);
    }

    /// Bytes of a whole frame came in on a link: `head` is prefix and body, `payload` the data.
    pub fn on_frame(&self, link: LinkId, head: Bytes, payload: Bytes) {
        let now = self.world.now();
        let Ok((prefix, message)) = Message::decode(&head, &payload) else {
            return self.with_appliance(|appliance| appliance.on_violation(link));
        };
        let lun = self.lun(u64::from(prefix.lun)).map(|index| usize::from(index.0));
        match lun {
            Some(index) if message.is_data() => self.with_lun(index, |lun, actions| {
                lun.on_message(link, &prefix, message, &payload, now, actions);
            }),
            None if message.is_data() => {}
            _ if self.world.stuck().is_some() => self.with_appliance(Appliance::on_stuck),
            _ => self.with_appliance(|appliance| {
                appliance.on_message(link, lun, prefix.generation, message, now);
            }),
        }
    }

    /// A connection of the interlink is gone.
    pub fn on_link_down(&self, link: LinkId) {
        self.with_appliance(|appliance| appliance.on_link_down(link));
    }

    /// Disk I/O that [`World::submit`] did not finish at once is complete.
    pub fn on_disk(&self, ticket: Ticket, result: DiskResult) {
        self.on_disk_answers(core::iter::once((ticket, result)));
    }

    /// The same for several, in their order: what follows from those of one LUN is done together.
    pub fn on_disk_answers(&self, answers: impl Iterator<Item = (Ticket, DiskResult)>) {
        let now = self.world.now();
        let mut answers = answers.peekable();
        while let Some((ticket, result)) = answers.next() {
            let Some(index) = lun_of(ticket) else {
                self.on_done(ticket, result.map(|_| ()));
                continue;
            };
            self.with_lun(index, |lun, actions| {
                lun.on_disk(ticket, result, now, actions);
                while let Some((ticket, result)) = answers.next_if(|(next, _)| lun_of(*next) == Some(index)) {
                    lun.on_disk(ticket, result, now, actions);
                }
            });
        }
    }

    /// A record is durable.
    pub fn on_persisted(&self, ticket: Ticket) {
        let Some(index) = lun_of(ticket) else {
            return self.on_done(ticket, Ok(()));
        };
        let now = self.world.now();
        self.with_lun(index, |lun, actions| lun.on_persisted(ticket, now, actions));
    }

    /// A volume asked for by [`World::create_volume`] exists, open and durable, or could not be made.
    pub fn on_volume(&self, ticket: Ticket, result: Result<(), DiskError>) {
        self.on_done(ticket, result);
    }

    /// Time has passed: at least every [`crate::time::TICK`].
    pub fn on_tick(&self) {
        let now = self.world.now();
        let stuck = self.world.stuck().is_some();
        if stuck {
            self.with_appliance(Appliance::on_stuck);
        }
        self.luns.tick(now, |index, actions| self.perform(index, actions));
        self.with_copies(|copies| copies.on_tick(now));
        if stuck {
            return;
        }
        self.with_appliance(|appliance| {
            let quiet = |index: usize| self.luns.lock(index).map_or(Quiet::No, |lun| lun.quiet());
            let has_room = |index| self.plan.base(index).is_some_and(|volume| self.world.has_room(volume));
            appliance.on_tick(now, quiet, has_room);
        });
    }

    fn on_done(&self, ticket: Ticket, result: Result<(), DiskError>) {
        let stuck = self.world.stuck().is_some();
        self.with_appliance(|appliance| {
            if stuck {
                appliance.hold_done(ticket, result);
            } else {
                appliance.on_done(ticket, result, self.world.now());
            }
        });
    }

    /// Locks a LUN, lets it handle an event, and performs what it asks for.
    fn with_lun(&self, index: usize, handle: impl FnOnce(&mut Lun, &mut Vec<Action>)) {
        let Some(mut actions) = self.luns.handle(index, handle) else {
            return;
        };
        self.perform(index, &mut actions);
        luns::reuse(actions);
    }

    /// Performs all actions, and those that follow from them at once behind them.
    fn perform(&self, index: usize, actions: &mut Vec<Action>) {
        let mut more = Vec::new();
        while !actions.is_empty() {
            self.perform_each(index, actions.drain(..), &mut more);
            actions.append(&mut more);
        }
    }

    fn perform_each(&self, index: usize, actions: impl Iterator<Item = Action>, more: &mut Vec<Action>) {
        for action in actions {
            match action {
                Action::Answer { nexus, tag, outcome } if tag.is_piece() => {
                    let now = self.world.now();
                    self.with_copies(|copies| copies.on_piece(nexus, tag, outcome, now));
                }
                Action::Broken(breakage, as_of) => {
                    self.with_appliance(|appliance| appliance.on_broken(index, breakage, as_of));
                }
                Action::Revoked { nexus, task } => {
                    let now = self.world.now();
                    self.with_copies(|copies| copies.give_up(nexus, task, now));
                }
                Action::WasReset => {
                    self.with_copies(|copies| copies.was_reset(LunIndex(index as u16)));
                }
                Action::Background => {
                    for (turn, mut actions) in self.luns.share_background(index, self.world.now()) {
                        self.perform(turn, &mut actions);
                    }
                }
                Action::CopyComplete(as_of) => {
                    self.with_appliance(|appliance| appliance.on_copy_complete(index, as_of));
                }
                Action::Disk { volume, io, ticket } => {
                    if let Some(result) = self.world.submit(volume, io, ticket)
                        && let Some(mut lun) = self.luns.lock(index)
                    {
                        lun.on_disk(ticket, result, self.world.now(), more);
                    }
                }
                Action::Answer { nexus, tag, outcome } => self.world.answer(nexus, tag, outcome),
                Action::Send { via, message, payload, generation } => {
                    let number = self.plan.luns[index].number;
                    self.world.send(via, Frame::new(&message, number, generation, payload));
                }
                Action::Persist { record, ticket } => self.persist(index, &record, ticket),
            }
        }
    }

    /// Makes a LUN's shared state durable.
    fn persist(&self, index: usize, record: &[u8], ticket: Ticket) {
        if self.luns.may_persist(index) {
            let record = record::wrap(Kind::Unit, self.plan.own_name(), record);
            self.world.persist(&shared_key(&self.plan.luns[index].name), record, ticket);
        }
    }

    /// Locks the appliance, lets it handle an event; what it decides about LUNs takes effect before the lock is
    /// given up, so that decisions reach them in their order. Then performs the rest.
    pub(crate) fn with_appliance<T>(&self, handle: impl FnOnce(&mut Appliance) -> T) -> T {
        let (answer, left) = {
            let mut appliance = self.appliance.lock();
            (handle(&mut appliance), effects::take(&mut appliance, &self.luns, &self.world))
        };
        for effect in left.effects {
            self.perform_effect(effect);
        }
        for (index, mut actions) in left.actions {
            self.perform(index, &mut actions);
        }
        answer
    }

    fn perform_effect(&self, effect: Effect) {
        if let Effect::Tell(link) = effect {
            self.report_to_peer(link);
        } else if let Some((ticket, result)) = effects::perform(effect, &self.world, &self.plan) {
            self.on_done(ticket, result.map(|_| ()));
        }
    }

    /// Tells the peer in short what this controller says of itself.
    fn report_to_peer(&self, link: LinkId) {
        let told = report::for_peer(&self.world, &self.plan, &self.appliance, &self.luns);
        let message = Message::PeerStatus(Box::new(told));
        self.world.send(Via::Link(link), Frame::new(&message, NO_LUN, GenerationTag::default(), Vec::new()));
    }

    /// Lets the copy manager handle an event, and performs what it asks for unless another thread does already.
    fn with_copies(&self, handle: impl FnOnce(&mut CopyManager)) {
        if self.copies.handle(handle, |act| self.perform_act(act)) {
            self.world.wake_at(self.world.now());
        }
    }

    fn tell_of_copy(&self, lun: LunIndex, nexus: NexusId, task: u32, news: CopyNews) {
        let now = self.world.now();
        self.with_lun(usize::from(lun.0), |lun, actions| lun.on_copy(nexus, task, news, now, actions));
    }

    fn perform_act(&self, act: Act) {
        match act {
            Act::Permit(lun, nexus, task) => self.tell_of_copy(lun, nexus, task, CopyNews::Begins),
            Act::Revoke(lun, nexus, task) => self.tell_of_copy(lun, nexus, task, CopyNews::Revoked),
            Act::EndPermit(lun, nexus, task) => self.tell_of_copy(lun, nexus, task, CopyNews::Ended),
            Act::Ask(command) => self.command(command),
            Act::Abort(lun, nexus, tag) => self.abort_here(lun, nexus, tag),
            Act::Answer(nexus, tag, outcome) => self.world.answer(nexus, tag, outcome),
        }
    }

    /// A tick of one LUN whose actions are not performed yet; whether it has given its disk up.
    #[cfg(test)]
    pub(crate) fn gives_up_and_says_so_later(&self, index: usize) -> bool {
        self.luns.gives_up_and_says_so_later(index, self.world.now())
    }
}
