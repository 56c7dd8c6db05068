//! The one loop: lock, handle, take the actions, unlock, perform them. Generic over its [`World`], written once
//! for the product and for the simulated world.
//!
//! Locks are taken in the order appliance, then LUN, and never held across I/O. A completion that comes back at
//! once is handled in the same loop, so a cached read is two short locks and one system call.

use core::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::interlink::event::Event;
use protocol::interlink::shared::{Modes, SharedState, Who};
use protocol::interlink::{GenerationTag, Message};

use crate::appliance::{Appliance, Effect, LinkRefusal, LunOrder, Restored, shared_key};
use crate::command::{Admission, Command, Initiator, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::copy_manager::CopyManager;
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::lease::Lease;
use crate::link::{Frame, LinkId, LinkKind, Via};
use crate::lun::{Action, Lun, LunCounters, LunSetup};
use crate::pair::{Breakage, PairStatus, Quiet, Role, Service};
use crate::plan::Plan;
use crate::status::ControllerStatus;
use crate::volume::record::{self, Kind};
use crate::world::{Ticket, VolumeIndex, World};

mod sense_formats;
mod telling;
mod third_party;

pub use sense_formats::SenseFormats;

/// What names a LUN to hosts, the same on both controllers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunName {
    /// NAA identifier, type 3 (locally assigned).
    pub naa: u64,
    /// Unit serial number.
    pub serial: String,
}

/// What the device server must know of a LUN to describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunView {
    /// The number hosts use.
    pub number: u16,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// What names it; none before it is made.
    pub identity: Option<LunName>,
    /// This controller's role.
    pub role: Role,
    /// The pair.
    pub status: PairStatus,
    /// Whether this controller can serve the LUN now.
    pub serving: bool,
    /// WCE as it is configured.
    pub write_cache: bool,
    /// No host may write.
    pub read_only: bool,
    /// The changeable mode parameters as they are, and as they are saved.
    pub modes: [Modes; 2],
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT.
    pub physical_block_exponent: u8,
    /// Which controller this is: relative target port and target port group are this index + 1.
    pub controller_index: usize,
    /// Whether the peer can serve the LUN, as far as known.
    pub peer_serving: bool,
}

/// Which LUN a ticket is of; `None` if it is the appliance's.
const fn lun_of(ticket: Ticket) -> Option<usize> {
    if Appliance::owns(ticket) { None } else { Some((ticket.0 >> 48) as usize) }
}

/// Actions that [`ROOM`] has room for at most.
const ROOM_ACTIONS: usize = 1024;

thread_local! {
    /// Where this thread's next event of a LUN puts its actions: asking the allocator for room costs more than most
    /// events do.
    static ROOM: Cell<Vec<Action>> = const { Cell::new(Vec::new()) };
}

/// One storage control unit.
pub struct Controller<W: World> {
    world: W,
    plan: Plan,
    /// LUN numbers with their places, ascending.
    numbers: Vec<(u16, LunIndex)>,
    appliance: Mutex<Appliance>,
    luns: Vec<Mutex<Lun>>,
    /// LUNs of whose shared state the record cannot be read.
    unreadable: Vec<bool>,
    sense_formats: SenseFormats,
    /// Never locked together with any other.
    copies: Mutex<CopyManager>,
}

impl<W: World> Controller<W> {
    /// A controller at its start. Nothing is served before its peer was met, but for LUNs without a copy that
    /// have been served before.
    pub fn new(world: W, plan: Plan, restored: Restored) -> Self {
        let mut numbers: Vec<(u16, LunIndex)> =
            plan.luns.iter().zip(0..).map(|(lun, index)| (lun.number, LunIndex(index))).collect();
        numbers.sort_unstable();
        let lease = Arc::new(Lease::default());
        let random = world.random();
        let luns: Vec<Mutex<Lun>> = plan
            .luns
            .iter()
            .zip(0..)
            .map(|(lun, index)| {
                let setup = LunSetup {
                    index,
                    blocks: lun.blocks,
                    write_cache: lun.write_cache,
                    luns: plan.luns.len(),
                    side: plan.side,
                    incarnation: random as u64,
                };
                // A LUN whose state cannot be read is refused; this one is never used.
                let own = &plan.names[plan.side.index()];
                let state = restored.shared(own, &lun.name).unwrap_or_default();
                Mutex::new(Lun::new(setup, state, Arc::clone(&lease)))
            })
            .collect();
        let own = &plan.names[plan.side.index()];
        let unreadable = plan.luns.iter().map(|lun| restored.shared(own, &lun.name).is_err()).collect();
        let formats = plan.luns.iter().zip(&luns).map(|(plan, lun)| (plan.number, lun.lock().sense_format()));
        let sense_formats = SenseFormats::new(formats.collect());
        let appliance = Appliance::new(plan.clone(), &restored, random, lease);
        for (index, lun) in luns.iter().enumerate() {
            if let Some(identity) = appliance.view().lun_identity(index) {
                lun.lock().learn(identity.blocks);
            }
        }
        let appliance = Mutex::new(appliance);
        Self { world, plan, numbers, appliance, luns, unreadable, sense_formats, copies: Mutex::default() }
    }

    /// Begins: once, before anything else.
    pub fn start(&self) {
        let now = self.world.now();
        self.with_appliance(|appliance| appliance.start(now));
    }

    /// The world it lives in.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// The one door. The outcome comes through [`World::answer`], perhaps before this returns.
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

    fn abort_here(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        let now = self.world.now();
        self.with_lun(usize::from(lun.0), |lun, actions| lun.abort(nexus, tag, now, actions));
    }

    /// A new I_T nexus: every LUN owes it the unit attention POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub fn nexus_added(&self, nexus: NexusId, initiator: &Initiator) {
        for lun in &self.luns {
            lun.lock().nexus_added(nexus, initiator);
        }
    }

    /// Who a nexus of this controller is, for the events it asks for. `None` if there is no such nexus, or too many.
    pub fn who(&self, lun: LunIndex, nexus: NexusId) -> Option<Who> {
        self.luns.get(usize::from(lun.0))?.lock().who(nexus)
    }

    /// The state of a LUN that both controllers share, as it is here.
    pub fn shared(&self, lun: LunIndex) -> Option<SharedState> {
        Some(self.luns.get(usize::from(lun.0))?.lock().shared().clone())
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
        let number = u16::try_from(number).ok()?;
        // Most number their LUNs from 0 without gaps: then the number is the place, however many there are.
        if let Some((found, index)) = self.numbers.get(usize::from(number))
            && *found == number
        {
            return Some(*index);
        }
        let at = self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.numbers.get(at).map(|(_, index)| *index)
    }

    /// The numbers of all LUNs, ascending.
    pub fn lun_numbers(&self) -> Vec<u16> {
        self.numbers.iter().map(|(number, _)| *number).collect()
    }

    /// The numbers of those that have an identity, ascending (REPORT LUNS).
    pub fn known_lun_numbers(&self) -> Vec<u16> {
        let appliance = self.appliance.lock();
        let known = self
            .numbers
            .iter()
            .filter(|(_, lun)| appliance.view().lun_identity(usize::from(lun.0)).is_some());
        known.map(|(number, _)| *number).collect()
    }

    /// Asks for leave to answer a command that only describes the LUN, and for what to say. An `Err` is the
    /// command's outcome: a unit attention, not ready.
    pub fn admit(&self, lun: LunIndex, nexus: NexusId, admission: Admission) -> Result<LunView, Outcome> {
        let index = usize::from(lun.0);
        let not_there = || Outcome::Check(protocol::scsi::sense::Sense::LUN_NOT_SUPPORTED);
        let (core, plan) = self.luns.get(index).zip(self.plan.luns.get(index)).ok_or_else(not_there)?;
        let (identity, report, peer_serving) = {
            let appliance = self.appliance.lock();
            let identity = appliance
                .view()
                .lun_identity(index)
                .map(|identity| LunName { naa: identity.naa, serial: format!("{:016x}", identity.serial) });
            (identity, appliance.view().lun_report(index), appliance.view().peer_serves(index))
        };
        let mut core = core.lock();
        core.admit(nexus, admission)?;
        Ok(LunView {
            number: plan.number,
            blocks: core.blocks(),
            identity,
            role: report.role,
            status: core.view().status,
            serving: core.serving(),
            write_cache: plan.write_cache,
            read_only: plan.read_only,
            modes: [core.shared().current, core.shared().saved],
            physical_block_exponent: plan.physical_block_exponent,
            controller_index: self.plan.side.index(),
            peer_serving,
        })
    }

    /// Capacity, whether no host may write, and LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT, for checking a command's
    /// range before it comes to the door.
    pub fn capacity(&self, lun: LunIndex) -> Option<(u64, bool, u8)> {
        let index = usize::from(lun.0);
        let plan = self.plan.luns.get(index)?;
        Some((self.luns.get(index)?.lock().blocks(), plan.read_only, plan.physical_block_exponent))
    }

    /// False until the appliance's identity exists: logins are answered with status 0301h (RFC 7143 11.13.5).
    pub fn serving(&self) -> bool {
        self.appliance.lock().view().has_identity()
    }

    /// What this controller says of itself, and what its peer said last.
    pub fn status(&self) -> ControllerStatus {
        telling::status(self)
    }

    /// Looks whether what always holds of every LUN does; for simulated worlds, after every event.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        self.appliance.lock().check();
        self.luns.iter().for_each(|lun| lun.lock().check());
        self.copies.lock().check();
        for group in self.plan.groups() {
            let places: Vec<_> = group
                .iter()
                .map(|lun| {
                    let lun = self.luns[*lun].lock();
                    (lun.view().role, lun.view().status, lun.view().service, lun.view().generation)
                })
                .collect();
            assert!(places.windows(2).all(|two| two[0] == two[1]), "LUNs of one group differ: {places:?}");
        }
    }

    /// In which format sense data of the LUNs goes to hosts, now and later.
    pub fn sense_formats(&self) -> SenseFormats {
        self.sense_formats.clone()
    }

    /// What a LUN met so far: waits, forwards.
    pub fn counters(&self, lun: LunIndex) -> Option<LunCounters> {
        self.luns.get(usize::from(lun.0)).map(|lun| lun.lock().counters())
    }

    /// The generation under which a LUN is served, or was last agreed on.
    pub fn generation(&self, lun: LunIndex) -> Option<protocol::interlink::GenerationTag> {
        self.luns.get(usize::from(lun.0)).map(|lun| lun.lock().view().generation)
    }

    /// A LUN's role, pair status and service here, and whether it is taking a turn.
    pub fn place(&self, lun: LunIndex) -> Option<(Role, PairStatus, Service, bool)> {
        let index = usize::from(lun.0);
        let turning = self.appliance.lock().view().is_turning(index);
        let core = self.luns.get(index)?.lock();
        let view = core.view();
        Some((view.role, view.status, view.service, turning))
    }

    /// Gives every LUN only this many bytes of credit in each class, to see how it fares with little.
    pub fn set_credit(&self, bytes: u64) {
        for lun in &self.luns {
            lun.lock().set_credit(bytes);
        }
    }

    /// Begins a clean end: new commands are refused, those in flight finish, everything is flushed and the
    /// clean mark is made durable; then [`Controller::stopped`] turns true.
    pub fn stop(&self) {
        let now = self.world.now();
        self.with_appliance(|appliance| appliance.stop(now));
    }

    /// True when a clean end is complete.
    pub fn stopped(&self) -> bool {
        self.appliance.lock().stopped()
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
            return self.with_appliance(|appliance| appliance.on_nonsense(link));
        };
        let lun = self.lun(u64::from(prefix.lun)).map(|index| usize::from(index.0));
        if message.is_data() {
            if let Some(index) = lun {
                self.with_lun(index, |lun, actions| {
                    lun.on_message(link, &prefix, message, &payload, now, actions);
                });
            }
            return;
        }
        if self.world.stuck().is_some() {
            return self.with_appliance(Appliance::on_stuck);
        }
        self.with_appliance(|appliance| {
            appliance.on_message(link, lun, prefix.generation, message, now);
        });
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
        for index in 0..self.luns.len() {
            self.with_lun(index, |lun, actions| lun.on_tick(now, actions));
        }
        self.with_copies(|copies| copies.on_tick(now));
        if stuck {
            return;
        }
        self.with_appliance(|appliance| {
            let quiet = |index: usize| self.luns.get(index).map_or(Quiet::No, |lun| lun.lock().quiet());
            appliance.on_tick(now, quiet);
            appliance.refill(now, |index| self.world.has_room(VolumeIndex(index as u16)));
        });
    }

    fn on_done(&self, ticket: Ticket, result: Result<(), DiskError>) {
        let stuck = self.world.stuck().is_some();
        self.with_appliance(|appliance| {
            if stuck {
                appliance.hold_done(ticket, result);
            } else {
                appliance.on_done(ticket, result);
            }
        });
    }

    /// Locks a LUN, lets it handle an event, and performs what it asks for.
    fn with_lun(&self, index: usize, handle: impl FnOnce(&mut Lun, &mut Vec<Action>)) {
        let Some(lun) = self.luns.get(index) else {
            return;
        };
        let mut actions = ROOM.with(Cell::take);
        handle(&mut lun.lock(), &mut actions);
        self.perform(index, &mut actions);
        if actions.capacity() <= ROOM_ACTIONS {
            ROOM.with(|room| room.set(actions));
        }
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
                Action::Answer { nexus, tag, outcome } => self.world.answer(nexus, tag, outcome),
                Action::Send { via, message, payload, generation } => {
                    let head = message.encode(self.plan.luns[index].number, generation, &payload);
                    self.world.send(via, Frame { head, payload });
                }
                Action::Disk { io, ticket } => {
                    let volume = VolumeIndex(index as u16);
                    if let Some(result) = self.world.submit(volume, io, ticket) {
                        let now = self.world.now();
                        self.luns[index].lock().on_disk(ticket, result, now, more);
                    }
                }
                Action::Persist { record, ticket } => {
                    if self.unreadable.get(index) != Some(&false) {
                        // What could not be read is never written over.
                        continue;
                    }
                    let record = record::wrap(Kind::Unit, &self.plan.names[self.plan.side.index()], &record);
                    self.world.persist(&shared_key(&self.plan.luns[index].name), record, ticket);
                }
                Action::Broken(breakage, as_of) => {
                    self.with_appliance(|appliance| {
                        appliance.on_broken(index, breakage, as_of);
                    });
                }
                Action::Revoked { nexus, task } => {
                    let now = self.world.now();
                    self.with_copies(|copies| copies.give_up(nexus, task, now));
                }
                Action::WasReset => {
                    self.with_copies(|copies| copies.was_reset(LunIndex(index as u16)));
                }
                Action::CopyComplete(as_of) => {
                    self.with_appliance(|appliance| {
                        appliance.on_copy_complete(index, as_of);
                    });
                }
            }
        }
    }

    /// Locks the appliance, lets it handle an event; what it decides about LUNs takes effect before the lock is
    /// given up, so that decisions reach them in their order. Then performs the rest.
    pub(crate) fn with_appliance(&self, handle: impl FnOnce(&mut Appliance)) {
        let mut actions: Vec<(usize, Vec<Action>)> = Vec::new();
        let mut outside = Vec::new();
        {
            let mut appliance = self.appliance.lock();
            handle(&mut appliance);
            let mut queue = VecDeque::from(appliance.take_effects());
            while let Some(effect) = queue.pop_front() {
                let loses = if let Effect::Order { lun, order: LunOrder::LosePeer, .. } = effect {
                    Some(lun)
                } else {
                    None
                };
                if let Some(effect) = self.tell_lun(effect, &mut actions) {
                    outside.push(effect);
                }
                // Whether it gave its disk up before is known in the same step, or it might become the last copy.
                if let Some((lun, generation)) = loses.and_then(|lun| self.gave_disk_up(lun)) {
                    let silent = Breakage::OwnDisk(DiskError::Silent);
                    appliance.on_broken(lun, silent, generation);
                    queue.extend(appliance.take_effects());
                }
            }
        }
        for effect in outside {
            self.perform_effect(effect);
        }
        for (index, mut actions) in actions {
            self.perform(index, &mut actions);
        }
    }

    /// A LUN that has given its disk up, and its generation.
    fn gave_disk_up(&self, index: usize) -> Option<(usize, GenerationTag)> {
        let lun = self.luns.get(index)?.lock();
        lun.gave_disk_up().then(|| (index, lun.view().generation))
    }

    /// A tick of one LUN whose actions are not performed yet; whether it has given its disk up.
    #[cfg(test)]
    pub(crate) fn gives_up_and_says_so_later(&self, index: usize) -> bool {
        let mut lun = self.luns[index].lock();
        lun.on_tick(self.world.now(), &mut Vec::new());
        lun.gave_disk_up()
    }

    /// Performs an effect that is about a LUN core or must keep its place; gives back any other.
    fn tell_lun(&self, effect: Effect, actions: &mut Vec<(usize, Vec<Action>)>) -> Option<Effect> {
        let mut told = Vec::new();
        let now = self.world.now();
        let index = match effect {
            Effect::Begin { lun: index, view, blocks, open } => {
                let mut lun = self.luns.get(index)?.lock();
                lun.begin(view, blocks, now, &mut told);
                if open {
                    lun.open(now, &mut told);
                }
                index
            }
            Effect::Order { lun: index, order, view } => {
                let mut lun = self.luns.get(index)?.lock();
                match order {
                    LunOrder::Open => lun.open(now, &mut told),
                    LunOrder::Suspend => lun.suspend(view, now, &mut told),
                    LunOrder::PeerGone => lun.peer_gone(view, now, &mut told),
                    LunOrder::LosePeer => lun.lose_peer(view, now, &mut told),
                    LunOrder::Hold => lun.hold(now, &mut told),
                    LunOrder::LastCopy => lun.stay_as_last_copy(),
                    LunOrder::Copied => lun.on_copied(view),
                    LunOrder::Close => lun.close(view, now, &mut told),
                }
                index
            }
            Effect::Identified(index, blocks) => {
                self.luns.get(index)?.lock().learn(blocks);
                index
            }
            Effect::LunsChanged => {
                self.luns.iter().for_each(|lun| lun.lock().luns_changed());
                return None;
            }
            // Handed over in the order of the decisions: a record that comes later must not be the older one.
            Effect::Persist(key, record, ticket) => {
                self.world.persist(key, record, ticket);
                return None;
            }
            other => return Some(other),
        };
        if !told.is_empty() {
            actions.push((index, told));
        }
        None
    }

    fn perform_effect(&self, effect: Effect) {
        match effect {
            Effect::Send(link, message) => {
                let head = message.encode(u16::MAX, Default::default(), &[]);
                self.world.send(Via::Link(link), Frame { head, payload: Vec::new() });
            }
            Effect::Tell(link) => telling::tell(self, link),
            Effect::SendAbout(link, index, generation, message) => {
                let number = self.plan.luns.get(index).map_or(u16::MAX, |lun| lun.number);
                let head = message.encode(number, generation.tag(), &[]);
                self.world.send(Via::Link(link), Frame { head, payload: Vec::new() });
            }
            Effect::Close(link) => self.world.close(link),
            Effect::Wake(at) => self.world.wake_at(at),
            Effect::Create(index, superblock, ticket) => {
                self.world.create_volume(VolumeIndex(index as u16), superblock, ticket);
            }
            Effect::BeginService(index, superblock, ticket) => {
                self.world.begin_service(VolumeIndex(index as u16), superblock, ticket);
            }
            Effect::Flush(index, ticket) => {
                if let Some(result) = self.world.submit(VolumeIndex(index as u16), DiskIo::Flush, ticket) {
                    self.on_done(ticket, result.map(|_| ()));
                }
            }
            Effect::Begin { .. }
            | Effect::Order { .. }
            | Effect::Identified(..)
            | Effect::LunsChanged
            | Effect::Persist(..) => {}
        }
    }
}
