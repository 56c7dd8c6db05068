//! Both controllers, and what happens outside of them, step by step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::MutexGuard;
use protocol::block::BLOCK_BYTES;
use protocol::interlink::event::Event;
use protocol::interlink::shared::{Requester, SharedState};
use protocol::interlink::{Message, WireOp};
use protocol::scsi::sense::Sense;

use super::BLOCKS;
use super::fake_world::{FakeWorld, Job, Outside, carry_out};
use super::plans::{
    InGroup, device_plans, plan_with, plans, plans_of_a_group, plans_of_groups, plans_of_many, plans_of_two,
};
use crate::appliance::{CONTROL_KEY, Restored};
use crate::command::{Admission, Command, Initiator, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::link::{Frame, LinkId, LinkKind};
use crate::pair::PairStatus;
use crate::plan::{Plan, Side};
use crate::time::Time;
use crate::unit::Controller;
use crate::volume::superblock::VolumeFound;

/// Both controllers, their connections (0: bridge of alpha, 1: bridge of beta, 2: control; the same ids on both
/// sides), and the seed's state.
pub(crate) struct TwoControllers {
    pub(crate) controllers: [Controller<FakeWorld>; 2],
    pub(super) now: Arc<AtomicU64>,
    pick: u64,
    pub(super) mirror: bool,
    pub(super) blocks: u64,
    /// What is sent over the control connection does not arrive.
    control_held: bool,
    bridges_held: bool,
    /// The side whose records of the shared state wait.
    shared_held: Option<usize>,
    /// The side whose control records wait.
    records_held: Option<usize>,
    /// No volume is finished.
    volumes_held: bool,
    /// The disk of this LUN of this side takes no mark of a start.
    marks_held: Option<(usize, u16)>,
    /// The volume of this LUN cannot be made at this side.
    unmakable: Option<(usize, u16)>,
    cut: bool,
    stalled: [bool; 2],
    /// Beta cannot read more than the first release could.
    first_release: bool,
}

/// Something that may happen next at a side.
#[derive(Clone, Copy)]
enum Next {
    /// This one of what its disk and state store have to do.
    Job(usize),
    /// The first frame of this connection arrives.
    Frame(LinkId),
}

/// What came into the language with FORMAT UNIT.
fn tells_of_a_format(frame: &Frame) -> bool {
    let payload = Bytes::from(frame.payload.concat());
    match Message::decode(&frame.head, &payload).unwrap().1 {
        Message::Forward { op: WireOp::Event(event), .. } => *event != event.clone().in_version_1(),
        Message::Shared { .. } | Message::SharedTold => {
            let sanitize = SharedState::decode(&payload).unwrap().sanitize;
            sanitize != sanitize.clone().in_version_1()
        }
        _ => false,
    }
}

/// Seeds that differ in few bits would make choices that hang together: xorshift is linear (SplitMix64's finish).
fn stirred(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)) | 1
}

impl TwoControllers {
    pub(crate) fn new(seed: u64, mirror: bool) -> Self {
        Self::restored(seed, mirror, [Restored::default(), Restored::default()])
    }

    /// Two whose configurations say these.
    pub(crate) fn configured(seed: u64, shared: [&[(&str, &str)]; 2]) -> Self {
        let [first, second] =
            [Side::First, Side::Second].map(|side| plan_with(side, true, shared[side.index()]));
        Self::planned(seed, [first, second], [Restored::default(), Restored::default()])
    }

    /// Two whose volumes are blank devices with room for so many blocks; zero: the device is not there. `blocks` is
    /// the configured capacity, zero if the devices decide.
    pub(crate) fn on_devices(seed: u64, blocks: u64, rooms: [u64; 2]) -> Self {
        let found = rooms.map(|room| if room == 0 { VolumeFound::Missing } else { VolumeFound::Blank });
        let restored = found.map(|found| Restored { volumes: vec![found], ..Restored::default() });
        Self::planned(seed, device_plans(blocks, rooms), restored)
    }

    /// Two with a mirrored LUN of so many blocks.
    pub(crate) fn sized(seed: u64, blocks: u64) -> Self {
        Self::planned(seed, plans(true, blocks), [Restored::default(), Restored::default()])
    }

    /// Two with a mirrored LUN that have met and serve.
    pub(crate) fn met(seed: u64) -> Self {
        let mut duo = Self::new(seed, true);
        duo.connect();
        duo.settle(1);
        duo
    }

    /// Two with two mirrored LUNs of so many blocks, each of which has another main.
    pub(crate) fn two_luns(seed: u64, blocks: u64) -> Self {
        Self::planned(seed, plans_of_two(blocks), [Restored::default(), Restored::default()])
    }

    /// Two with so many mirrored LUNs, of which alpha is main.
    pub(crate) fn many_luns(seed: u64, blocks: u64, luns: u16) -> Self {
        Self::planned(seed, plans_of_many(blocks, luns), [Restored::default(), Restored::default()])
    }

    /// Two LUNs in one group.
    pub(crate) fn grouped(seed: u64) -> Self {
        Self::planned(seed, plans_of_a_group(BLOCKS), [Restored::default(), Restored::default()])
    }

    /// Two LUNs which each machine's file has in one group or not.
    pub(crate) fn grouped_as(seed: u64, files: [[InGroup; 2]; 2]) -> Self {
        Self::planned(seed, plans_of_groups(BLOCKS, files), [Restored::default(), Restored::default()])
    }

    /// The same two LUNs before the files join them.
    pub(crate) fn ungrouped(seed: u64) -> Self {
        let plans = plans_of_a_group(BLOCKS).map(|mut plan| {
            plan.luns.iter_mut().for_each(|lun| lun.group = None);
            plan
        });
        Self::planned(seed, plans, [Restored::default(), Restored::default()])
    }

    fn restored(seed: u64, mirror: bool, restored: [Restored; 2]) -> Self {
        Self::planned(seed, plans(mirror, BLOCKS), restored)
    }

    pub(super) fn planned(seed: u64, plans: [Plan; 2], restored: [Restored; 2]) -> Self {
        let now = Arc::new(AtomicU64::new(1));
        let [first, second] = restored;
        let make = |plan: Plan, restored: Restored| {
            let side = plan.side;
            let outside = Outside::default();
            let random = u128::from(seed) << 8 | side as u128;
            let world = FakeWorld::new(random, side.index(), Arc::clone(&now), outside);
            Controller::new(world, plan, restored)
        };
        let (mirror, blocks) = (plans[0].luns[0].mirror, plans[0].luns[0].blocks);
        let [first_plan, second_plan] = plans;
        let controllers = [make(first_plan, first), make(second_plan, second)];
        let (now, pick) = (Arc::clone(&now), stirred(seed));
        let duo = Self {
            controllers,
            now,
            pick,
            mirror,
            blocks,
            control_held: false,
            bridges_held: false,
            shared_held: None,
            records_held: None,
            volumes_held: false,
            marks_held: None,
            unmakable: None,
            cut: true,
            stalled: [false; 2],
            first_release: false,
        };
        duo.controllers.iter().for_each(Controller::start);
        duo
    }

    pub(crate) fn plans_on_devices(blocks: u64, rooms: [u64; 2]) -> [Plan; 2] {
        device_plans(blocks, rooms)
    }

    pub(crate) fn plans_of_two_luns(blocks: u64) -> [Plan; 2] {
        plans_of_two(blocks)
    }

    pub(crate) fn connect(&mut self) {
        self.connect_control();
        self.connect_bridges();
    }

    pub(crate) fn connect_control(&mut self) {
        self.cut = false;
        let [alpha, beta] = &self.controllers;
        alpha.on_link_up(LinkId(2), Some(LinkKind::Control));
        beta.on_link_up(LinkId(2), None);
    }

    pub(crate) fn connect_bridges(&mut self) {
        self.cut = false;
        let [alpha, beta] = &self.controllers;
        alpha.on_link_up(LinkId(0), Some(LinkKind::Bridge(0)));
        beta.on_link_up(LinkId(0), None);
        beta.on_link_up(LinkId(1), Some(LinkKind::Bridge(0)));
        alpha.on_link_up(LinkId(1), None);
    }

    /// The control connection is open on one side, and there is nobody at its other end.
    pub(crate) fn half_open(&mut self) {
        self.controllers[0].on_link_up(LinkId(2), Some(LinkKind::Control));
    }

    pub(crate) fn cut(&mut self) {
        self.cut = true;
        for controller in &self.controllers {
            controller.world().outside.lock().sent.clear();
            (0..3).for_each(|link| controller.on_link_down(LinkId(link)));
            controller.world().outside.lock().closed.clear();
        }
    }

    fn random(&mut self, below: usize) -> usize {
        self.pick ^= self.pick << 13;
        self.pick ^= self.pick >> 7;
        self.pick ^= self.pick << 17;
        (self.pick % below.max(1) as u64) as usize
    }

    /// What is sent over bridges waits, or goes on.
    pub(crate) fn hold_bridges(&mut self, held: bool) {
        self.bridges_held = held;
    }

    /// What is sent over the control connection waits, or goes on.
    pub(crate) fn hold_control(&mut self, held: bool) {
        self.control_held = held;
    }

    /// The disk takes no record of a shared state of this side, or of neither.
    pub(crate) fn hold_shared(&mut self, side: Option<usize>) {
        self.shared_held = side;
    }

    /// The disk takes no control record of this side, or of neither.
    pub(crate) const fn hold_records(&mut self, side: Option<usize>) {
        self.records_held = side;
    }

    /// The volume of a LUN is too large for a side's file system.
    pub(crate) const fn cannot_make(&mut self, side: usize, lun: u16) {
        self.unmakable = Some((side, lun));
    }

    /// The disk of this LUN of this side takes no mark of a start, or all do.
    pub(crate) fn hold_marks(&mut self, held: Option<(usize, u16)>) {
        self.marks_held = held;
    }

    /// No volume that is being made is finished, or they go on.
    pub(crate) fn hold_volumes(&mut self, held: bool) {
        self.volumes_held = held;
    }

    /// One step of the outside, after which what always holds does. False if nothing is left to do.
    pub(crate) fn step(&mut self) -> bool {
        let stepped = self.step_outside();
        self.controllers.iter().for_each(Controller::check);
        stepped
    }

    /// Picks one of the things that may happen now, and lets it happen. False if there are none.
    fn step_outside(&mut self) -> bool {
        let choices = self.choices();
        if choices.is_empty() {
            return false;
        }
        let (side, next) = choices[self.random(choices.len())];
        match next {
            Next::Job(at) => self.carry_on(side, at),
            Next::Frame(link) => self.deliver(side, link),
        }
        true
    }

    /// What may happen now at either side.
    fn choices(&self) -> Vec<(usize, Next)> {
        let mut choices = Vec::new();
        let held = |link| if link == LinkId(2) { self.control_held } else { self.bridges_held };
        for side in 0..2 {
            let mut outside = self.outside(side);
            if self.cut {
                outside.sent.clear();
            }
            let may_run = |job: &Job| match job {
                Job::Disk(..) => !self.stalled[side],
                Job::Persisted(_, key, ..) => {
                    let held = if key == CONTROL_KEY { self.records_held } else { self.shared_held };
                    held != Some(side)
                }
                Job::Volume(..) => !self.volumes_held,
                Job::Service(volume, ..) => self.marks_held != Some((side, *volume)),
            };
            let jobs = outside.jobs.iter().enumerate().filter(|(_, job)| may_run(job));
            choices.extend(jobs.map(|(at, _)| (side, Next::Job(at))));
            let sent = outside.sent.iter().filter(|(link, queue)| !(queue.is_empty() || held(**link)));
            choices.extend(sent.map(|(link, _)| (side, Next::Frame(*link))));
        }
        choices
    }

    /// A side's disk or state store does one of the things it was asked for.
    fn carry_on(&self, side: usize, at: usize) {
        let controller = &self.controllers[side];
        let mut outside = controller.world().outside.lock();
        match outside.jobs.swap_remove(at) {
            Job::Disk(volume, io, ticket) => {
                let result = carry_out(&mut outside, volume, &io);
                drop(outside);
                controller.on_disk(ticket, result);
            }
            Job::Persisted(number, key, record, ticket) => {
                // Handed over one after the other they become durable in this order.
                let newest = outside.persisted.entry(key.clone()).or_default();
                if number > *newest {
                    *newest = number;
                    outside.records.insert(key, record);
                }
                drop(outside);
                controller.on_persisted(ticket);
            }
            Job::Volume(volume, _, ticket) if self.unmakable == Some((side, volume)) => {
                drop(outside);
                controller.on_volume(ticket, Err(DiskError::SizeLimit));
            }
            Job::Volume(volume, superblock, ticket) => {
                let bytes = vec![0; (superblock.blocks * u64::from(BLOCK_BYTES)) as usize];
                outside.volumes.insert(volume, (superblock, bytes));
                drop(outside);
                controller.on_volume(ticket, Ok(()));
            }
            Job::Service(volume, superblock, ticket) => {
                let failed = outside.broken_disk.filter(|error| *error != DiskError::Full);
                // As `VolumePlace::begin_service` does.
                let found = outside
                    .volumes
                    .get_mut(&volume)
                    .filter(|found| failed.is_none() && found.0.is_same_copy(&superblock));
                let result = found.map(|found| found.0 = superblock).ok_or(failed.unwrap_or(DiskError::Io));
                drop(outside);
                controller.on_volume(ticket, result);
            }
        }
    }

    /// The next frame of a connection arrives.
    fn deliver(&self, from: usize, link: LinkId) {
        let frame = self.outside(from).sent.get_mut(&link).and_then(VecDeque::pop_front).unwrap();
        assert!(!(self.first_release && tells_of_a_format(&frame)), "the first release cannot read it");
        self.controllers[1 - from].on_frame(link, frame.head, Bytes::from(frame.payload.concat()));
    }

    /// The pair's status at each.
    pub(crate) fn statuses(&self) -> [PairStatus; 2] {
        self.controllers.each_ref().map(|controller| controller.status().luns[0].status)
    }

    /// Time passes, and what was closed is dialed again, as the interlink does.
    pub(crate) fn settle_and_redial(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.settle(0);
            if (0..2).any(|side| self.has_closed_control(side)) {
                self.cut();
                self.settle(2);
                self.connect();
            }
        }
    }

    /// Steps until nothing is left, with `ticks` of 50 ms in between.
    pub(crate) fn settle(&mut self, ticks: u32) {
        for _ in 0..=ticks {
            while self.step() {}
            self.now.fetch_add(50_000_000, Ordering::Relaxed);
            self.controllers.iter().for_each(Controller::on_tick);
        }
        while self.step() {}
    }

    /// The generation the two agreed on.
    pub(crate) fn generation(&self) -> protocol::interlink::GenerationTag {
        self.controllers[0].generation(LunIndex(0)).unwrap_or_default()
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.now.load(Ordering::Relaxed))
    }

    /// A greeting that is well formed, by a controller of another appliance.
    pub(crate) fn greeting_of_another_appliance(&self) -> Vec<u8> {
        use protocol::interlink::hello::{Hello, Identity, Purpose};
        let hello = Hello {
            versions: (1, 1),
            purpose: Purpose::Control,
            side: 1,
            appliance: 0xdead,
            incarnation: 1,
            bridges: 1,
            shared: Vec::new(),
            rooms: Vec::new(),
            identity: Identity::default(),
        };
        let message = protocol::interlink::Message::Hello(Box::new(hello));
        message.encode(u16::MAX, Default::default(), &[]).to_vec()
    }

    /// Time passes without anything happening.
    pub(crate) fn advance(&mut self) {
        self.now.fetch_add(50_000_000, Ordering::Relaxed);
    }

    pub(crate) fn ask(&self, side: usize, tag: u32, op: Op) {
        self.ask_of(side, NexusId(1), tag, op);
    }

    /// A session begins, and has been told so.
    pub(crate) fn log_in(&self, side: usize, nexus: u64, initiator: &str) {
        let initiator = Initiator { name: initiator.to_owned(), isid: [0, 2, 61, 0, 0, 1] };
        self.controllers[side].nexus_added(NexusId(nexus), &initiator);
        assert_eq!(self.told(side, nexus), [Sense::POWER_ON]);
    }

    /// The unit attentions of a session.
    pub(crate) fn told(&self, side: usize, nexus: u64) -> Vec<Sense> {
        let admit = || self.controllers[side].admit(LunIndex(0), NexusId(nexus), Admission::Attention).err();
        core::iter::from_fn(admit)
            .map(|outcome| match outcome {
                Outcome::Check(sense) => sense,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// An event that a session asks for.
    pub(crate) fn event(&self, side: usize, nexus: u64, tag: u32, event: impl FnOnce(Requester) -> Event) {
        let who = self.controllers[side].who(LunIndex(0), NexusId(nexus)).unwrap();
        self.ask_of(side, NexusId(nexus), tag, Op::Event(Box::new(event(who))));
    }

    pub(crate) fn ask_of(&self, side: usize, nexus: NexusId, tag: u32, op: Op) {
        self.controllers[side].command(Command {
            lun: LunIndex(0),
            nexus,
            tag: TaskTag::of(tag),
            op,
            received: Time(self.now.load(Ordering::Relaxed)),
        });
    }

    pub(crate) fn answers(&self, side: usize) -> Vec<(u32, Outcome)> {
        let mut outside = self.outside(side);
        core::mem::take(&mut outside.answers)
            .into_iter()
            .map(|(tag, outcome)| (tag.task(), outcome))
            .collect()
    }

    /// Beta offers no newer version of the interlink than the first.
    pub(crate) fn speak_version_1(&mut self) {
        self.first_release = true;
        self.controllers[1].with_appliance(|appliance| appliance.speak_version_1());
    }

    pub(crate) fn advance_and_tick(&mut self) {
        self.advance();
        self.controllers.iter().for_each(Controller::on_tick);
    }

    /// From now on a disk answers nothing.
    pub(crate) fn stall_disk(&mut self, side: usize) {
        self.stalled[side] = true;
    }

    pub(crate) fn resume_disk(&mut self, side: usize) {
        self.stalled[side] = false;
    }

    /// What is outside of a side.
    pub(super) fn outside(&self, side: usize) -> MutexGuard<'_, Outside> {
        self.controllers[side].world().outside.lock()
    }
}
