//! Two controllers in a toy world, for this crate's tests: everything outside happens one step at a time, in the
//! order a seed picks. Frames on one connection keep their order; everything else may overtake.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::block::{BLOCK_BYTES, BlockRange};
use protocol::interlink::event::Event;
use protocol::interlink::shared::{SharedState, Who};
use protocol::interlink::standing::GroupRecord;
use protocol::interlink::{Message, WireOp};
use protocol::scsi::sense::Sense;

use crate::appliance::{CONTROL_KEY, ControlRecord, Restored};
use crate::command::{Admission, Command, Data, Initiator, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::link::{Frame, LinkId, LinkKind, Via};
use crate::pair::PairStatus;
use crate::plan::{LunPlan, Plan, Side};
use crate::status::StuckStatus;
use crate::time::Time;
use crate::unit::Controller;
use crate::volume::superblock::{Superblock, VolumeFound};
use crate::world::{Ticket, VolumeIndex, World};

pub(crate) const BLOCKS: u64 = 64;

enum Job {
    Disk(VolumeIndex, DiskIo, Ticket),
    /// Number, key, record: durable when this is done.
    Persisted(u64, String, Vec<u8>, Ticket),
    Volume(VolumeIndex, Superblock, Ticket),
    Service(VolumeIndex, Superblock, Ticket),
}

#[derive(Default)]
struct Outside {
    jobs: Vec<Job>,
    sent: BTreeMap<LinkId, VecDeque<Frame>>,
    closed: Vec<LinkId>,
    answers: Vec<(TaskTag, Outcome)>,
    pub(crate) volumes: BTreeMap<u16, (Superblock, Vec<u8>)>,
    records: BTreeMap<String, Vec<u8>>,
    /// How many records were handed over.
    persists: u64,
    /// By key the number of the one that is durable.
    persisted: BTreeMap<String, u64>,
    /// A redo record is there, and how many ever were.
    record: bool,
    recorded: u64,
    /// Changes that are not flushed.
    unflushed: bool,
    /// Bytes written and not flushed, and the most that ever were.
    unflushed_bytes: (u64, u64),
    broken_disk: Option<DiskError>,
    /// It still reads and flushes.
    only_changes_fail: bool,
    /// Writes are said to be done and are not.
    forgetful: bool,
}

/// Records by their keys, and volumes by their LUNs.
type Records = BTreeMap<String, Vec<u8>>;
type Volumes = BTreeMap<u16, (Superblock, Vec<u8>)>;

pub(crate) struct Toy {
    seed: u128,
    stuck: AtomicBool,
    bridge: LinkId,
    now: Arc<AtomicU64>,
    outside: Mutex<Outside>,
}

impl World for Toy {
    fn now(&self) -> Time {
        Time(self.now.load(Ordering::Relaxed))
    }
    fn random(&self) -> u128 {
        self.seed
    }
    fn wake_at(&self, _at: Time) {}
    fn stuck(&self) -> Option<StuckStatus> {
        let stuck = StuckStatus { what: "a worker".to_owned(), seconds: 2, ends_in_seconds: 10 };
        self.stuck.load(Ordering::Relaxed).then_some(stuck)
    }
    fn send(&self, via: Via, frame: Frame) {
        let link = match via {
            Via::Link(link) => link,
            Via::AnyBridge => self.bridge,
        };
        self.outside.lock().sent.entry(link).or_default().push_back(frame);
    }
    fn close(&self, link: LinkId) {
        self.outside.lock().closed.push(link);
    }
    fn submit(&self, volume: VolumeIndex, io: DiskIo, ticket: Ticket) -> Option<DiskResult> {
        self.outside.lock().jobs.push(Job::Disk(volume, io, ticket));
        None
    }
    fn persist(&self, key: &str, record: Vec<u8>, ticket: Ticket) {
        let mut outside = self.outside.lock();
        outside.persists += 1;
        let number = outside.persists;
        outside.jobs.push(Job::Persisted(number, key.to_owned(), record, ticket));
    }
    fn create_volume(&self, volume: VolumeIndex, superblock: Superblock, ticket: Ticket) {
        self.outside.lock().jobs.push(Job::Volume(volume, superblock, ticket));
    }
    fn has_room(&self, _volume: VolumeIndex) -> bool {
        self.outside.lock().broken_disk.is_none()
    }
    fn begin_service(&self, volume: VolumeIndex, superblock: Superblock, ticket: Ticket) {
        self.outside.lock().jobs.push(Job::Service(volume, superblock, ticket));
    }
    fn answer(&self, _nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        self.outside.lock().answers.push((tag, outcome));
    }
}

fn is_change(io: &DiskIo) -> bool {
    matches!(io, DiskIo::Write { .. } | DiskIo::WriteSame { .. } | DiskIo::Unmap(_))
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

/// Every block of zeros is a hole.
fn extents(bytes: &[u8], start: u64, count: usize) -> Vec<u8> {
    use protocol::scsi::provisioning::{ProvisioningStatus, lba_status_descriptor};
    let holes: Vec<bool> =
        bytes.chunks(BLOCK_BYTES as usize).map(|block| block.iter().all(|byte| *byte == 0)).collect();
    let mut at = start;
    let mut found = Vec::new();
    for run in holes.chunk_by(|a, b| a == b).take(count) {
        let status = if run[0] { ProvisioningStatus::Deallocated } else { ProvisioningStatus::Mapped };
        found.extend(lba_status_descriptor(range(at, run.len() as u64), status));
        at += run.len() as u64;
    }
    found
}

fn carry_out(outside: &mut Outside, volume: VolumeIndex, io: &DiskIo) -> DiskResult {
    // A full disk still reads and flushes.
    let reads = |error: &DiskError| *error == DiskError::Full || outside.only_changes_fail;
    if let Some(error) = outside.broken_disk.filter(|error| is_change(io) || !reads(error)) {
        return Err(error);
    }
    let (bytes, most) = outside.unflushed_bytes;
    outside.unflushed_bytes = match io {
        DiskIo::Write { range, .. } => (bytes + range.bytes(), most.max(bytes + range.bytes())),
        DiskIo::Flush => (0, most),
        _ => (bytes, most),
    };
    outside.unflushed = is_change(io) || (outside.unflushed && *io != DiskIo::Flush);
    if outside.forgetful && matches!(io, DiskIo::Write { .. }) {
        return Ok(Vec::new());
    }
    let (_, bytes) = outside.volumes.get_mut(&volume.0).ok_or(DiskError::Absent)?;
    let place = |range: &BlockRange| range.start.byte_offset() as usize..range.end().byte_offset() as usize;
    match io {
        DiskIo::Read(range) => return Ok(vec![Bytes::copy_from_slice(&bytes[place(range)])]),
        DiskIo::Write { range, data } => bytes[place(range)].copy_from_slice(&data.concat()),
        DiskIo::WriteSame { range, block } => {
            for piece in bytes[place(range)].chunks_exact_mut(block.len()) {
                piece.copy_from_slice(block);
            }
        }
        DiskIo::Unmap(ranges) => ranges.iter().for_each(|range| bytes[place(range)].fill(0)),
        DiskIo::Verify { range, data } if bytes[place(range)] != data.concat() => return Err(DiskError::Io),
        DiskIo::Extents { range, descriptors } => {
            let found = extents(&bytes[place(range)], range.start.0, usize::from(*descriptors));
            return Ok(vec![Bytes::from(found)]);
        }
        DiskIo::Usage => return Ok(vec![Bytes::from([7_u64.to_be_bytes(), 9_u64.to_be_bytes()].concat())]),
        DiskIo::Verify { .. } | DiskIo::Prefetch(_) | DiskIo::Flush => {}
        DiskIo::Record { .. } => {
            assert!(!core::mem::replace(&mut outside.record, true), "a record over another");
            outside.recorded += 1;
        }
        DiskIo::Unrecord => outside.record = false,
    }
    Ok(Vec::new())
}

/// Both controllers, their connections (0: bridge of alpha, 1: bridge of beta, 2: control; the same ids on both
/// sides), and the seed's state.
pub(crate) struct Duo {
    pub(crate) controllers: [Controller<Toy>; 2],
    now: Arc<AtomicU64>,
    pick: u64,
    mirror: bool,
    blocks: u64,
    /// What is sent over the control connection does not arrive.
    control_held: bool,
    bridges_held: bool,
    /// The side whose records of the shared state wait.
    shared_held: Option<usize>,
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

fn plans(mirror: bool, blocks: u64) -> [Plan; 2] {
    [Side::First, Side::Second].map(|side| {
        let mut plan = plan(side, mirror);
        plan.luns[0].blocks = blocks;
        plan
    })
}

fn plans_of_two(blocks: u64) -> [Plan; 2] {
    plans(true, blocks).map(|mut plan| {
        let second = LunPlan { number: 1, name: "data1".into(), main: Side::Second, ..plan.luns[0].clone() };
        plan.luns.push(second);
        plan
    })
}

fn plan(side: Side, mirror: bool) -> Plan {
    plan_with(side, mirror, &[])
}

fn plan_with(side: Side, mirror: bool, shared: &[(&str, &str)]) -> Plan {
    let lun = LunPlan {
        number: 0,
        name: "data0".into(),
        blocks: BLOCKS,
        main: Side::First,
        mirror,
        write_cache: true,
        read_only: false,
        physical_block_exponent: 3,
        device: false,
        room: None,
    };
    Plan {
        side,
        names: ["alpha".into(), "beta".into()],
        luns: vec![lun],
        shared: shared.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        bridges: 1,
    }
}

fn device_plans(blocks: u64, rooms: [u64; 2]) -> [Plan; 2] {
    [Side::First, Side::Second].map(|side| {
        let mut plan = plan(side, true);
        plan.luns.iter_mut().for_each(|lun| {
            (lun.blocks, lun.device, lun.room) = (blocks, true, Some(rooms[side.index()]));
        });
        plan
    })
}

/// Seeds that differ in few bits would make choices that hang together: xorshift is linear (SplitMix64's finish).
fn stirred(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)) | 1
}

impl Duo {
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

    /// As [`Duo::crash`], and started again with a second LUN in their files.
    pub(crate) fn crash_and_add_a_lun(self, seed: u64) -> Self {
        let plans = plans_of_two(self.blocks);
        self.crash_planned(seed, plans, |_, restored| restored.volumes.push(VolumeFound::Missing))
    }

    fn restored(seed: u64, mirror: bool, restored: [Restored; 2]) -> Self {
        Self::planned(seed, plans(mirror, BLOCKS), restored)
    }

    fn planned(seed: u64, plans: [Plan; 2], restored: [Restored; 2]) -> Self {
        let now = Arc::new(AtomicU64::new(1));
        let [first, second] = restored;
        let make = |plan: Plan, restored: Restored| {
            let side = plan.side;
            let outside = Mutex::new(Outside::default());
            let toy = Toy {
                seed: u128::from(seed) << 8 | side as u128,
                stuck: AtomicBool::new(false),
                bridge: LinkId(side as u32),
                now: Arc::clone(&now),
                outside,
            };
            Controller::new(toy, plan, restored)
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

    /// Ends both at once as a crash would: what they keep is their volumes and records.
    pub(crate) fn crash(self, seed: u64, mirror: bool) -> Self {
        self.crash_and(seed, mirror, |_, _| {})
    }

    /// The same, and a side's state folder is empty when it starts again: neither records nor volumes.
    pub(crate) fn crash_losing_state(self, seed: u64, lost: usize) -> Self {
        let lose = |outside: &mut Outside| {
            outside.records.clear();
            outside.volumes.clear();
        };
        lose(&mut self.controllers[lost].world().outside.lock());
        self.crash(seed, true)
    }

    /// The same, and something happens to what a side keeps before it starts again.
    pub(crate) fn crash_and(self, seed: u64, mirror: bool, change: impl Fn(usize, &mut Restored)) -> Self {
        let plans = plans(mirror, self.blocks);
        self.crash_planned(seed, plans, change)
    }

    /// As [`Duo::crash_and`], for volumes on devices that have these rooms now.
    pub(crate) fn crash_on_devices(
        self,
        seed: u64,
        rooms: [u64; 2],
        change: impl Fn(usize, &mut Restored),
    ) -> Self {
        self.crash_planned(seed, device_plans(0, rooms), change)
    }

    /// As [`Duo::crash`], and the configuration now says so many blocks.
    pub(crate) fn crash_resized(self, seed: u64, blocks: u64) -> Self {
        self.crash_planned(seed, plans(true, blocks), |_, _| ())
    }

    fn crash_planned(self, seed: u64, plans: [Plan; 2], change: impl Fn(usize, &mut Restored)) -> Self {
        let kept = self.controllers.map(|controller| {
            let mut outside = core::mem::take(&mut *controller.world().outside.lock());
            let volumes = core::mem::take(&mut outside.volumes);
            (outside.records, volumes)
        });
        let mut restored = kept.each_ref().map(|(records, volumes)| Restored {
            records: records.clone(),
            volumes: vec![
                volumes.get(&0).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found)),
            ],
            unusable: None,
        });
        restored.iter_mut().enumerate().for_each(|(side, restored)| change(side, restored));
        let duo = Self::planned(seed, plans, restored);
        for (controller, (records, volumes)) in duo.controllers.iter().zip(kept) {
            let mut outside = controller.world().outside.lock();
            outside.records = records;
            outside.volumes = volumes;
        }
        duo
    }

    /// One ends as a crash would, and finds an empty state folder when it starts again; the other notices.
    pub(crate) fn crash_one_losing_state(self, seed: u64, side: usize) -> Self {
        {
            let mut outside = self.controllers[side].world().outside.lock();
            outside.records.clear();
            outside.volumes.clear();
        }
        self.crash_one(seed, side)
    }

    /// One ends as a crash would, and starts again from its volume and records; the other notices.
    pub(crate) fn crash_one(self, seed: u64, side: usize) -> Self {
        let plan = plans(self.mirror, self.blocks)[side].clone();
        self.crash_one_planned(seed, side, plan, None)
    }

    /// As [`Duo::crash_one`], of two with two LUNs.
    pub(crate) fn crash_one_of_two(self, seed: u64, side: usize) -> Self {
        let plan = plans_of_two(self.blocks)[side].clone();
        self.crash_one_planned(seed, side, plan, None)
    }

    /// One ends as a crash would and starts again by this plan; `volumes`: what it finds then.
    pub(crate) fn crash_one_planned(
        mut self,
        seed: u64,
        side: usize,
        plan: Plan,
        volumes: Option<Vec<VolumeFound>>,
    ) -> Self {
        self.cut();
        let kept = core::mem::take(&mut *self.controllers[side].world().outside.lock());
        let found =
            |lun| kept.volumes.get(&lun).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found));
        let volumes = volumes.unwrap_or_else(|| (0..plan.luns.len()).map(|lun| found(lun as u16)).collect());
        let restored = Restored { records: kept.records.clone(), volumes, unusable: None };
        let toy = Toy {
            seed: u128::from(seed) << 8 | 0x80 | side as u128,
            stuck: AtomicBool::new(false),
            bridge: LinkId(side as u32),
            now: Arc::clone(&self.now),
            outside: Mutex::new(Outside {
                records: kept.records,
                volumes: kept.volumes,
                ..Outside::default()
            }),
        };
        self.controllers[side] = Controller::new(toy, plan, restored);
        self.controllers[side].start();
        self
    }

    pub(crate) fn plans_on_devices(blocks: u64, rooms: [u64; 2]) -> [Plan; 2] {
        device_plans(blocks, rooms)
    }

    pub(crate) fn plans_of_two_luns(blocks: u64) -> [Plan; 2] {
        plans_of_two(blocks)
    }

    /// A LUN of one side is all `byte`.
    pub(crate) fn spoil_lun(&self, side: usize, lun: u16, byte: u8) {
        if let Some((_, bytes)) = self.controllers[side].world().outside.lock().volumes.get_mut(&lun) {
            bytes.fill(byte);
        }
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

    /// Whether a side has closed the control connection since the last cut.
    pub(crate) fn has_closed_control(&self, side: usize) -> bool {
        self.controllers[side].world().outside.lock().closed.contains(&LinkId(2))
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

    /// The workers of a side do not get on, or do again: what comes to it on bridges is not looked at here.
    pub(crate) fn stick(&self, side: usize, stuck: bool) {
        self.controllers[side].world().stuck.store(stuck, Ordering::Relaxed);
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

    /// The volume of a LUN is too large for a side's file system.
    pub(crate) const fn cannot_make(&mut self, side: usize, lun: u16) {
        self.unmakable = Some((side, lun));
    }

    /// The disk of this LUN of this side takes no mark of a start, or all do.
    pub(crate) fn hold_marks(&mut self, held: Option<(usize, u16)>) {
        self.marks_held = held;
    }

    /// As [`Duo::crash`], of two with two LUNs.
    pub(crate) fn crash_of_two(self, seed: u64) -> Self {
        let blocks = self.blocks;
        self.crash_of_two_resized(seed, blocks)
    }

    /// As [`Duo::crash_of_two`], and the files now say so many blocks of the second LUN.
    pub(crate) fn crash_of_two_resized(self, seed: u64, blocks: u64) -> Self {
        let mut plans = plans_of_two(self.blocks);
        plans.iter_mut().for_each(|plan| plan.luns[1].blocks = blocks);
        let second = [0, 1].map(|side| {
            let outside = self.controllers[side].world().outside.lock();
            outside.volumes.get(&1).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found))
        });
        self.crash_planned(seed, plans, |side, restored| restored.volumes.push(second[side]))
    }

    /// No volume that is being made is finished, or they go on.
    pub(crate) fn hold_volumes(&mut self, held: bool) {
        self.volumes_held = held;
    }

    /// How many volumes of the LUN a side makes at once.
    pub(crate) fn volumes_being_made(&self, side: usize) -> usize {
        let outside = self.controllers[side].world().outside.lock();
        outside.jobs.iter().filter(|job| matches!(job, Job::Volume(..))).count()
    }

    /// One step of the outside, after which what always holds does. False if nothing is left to do.
    pub(crate) fn step(&mut self) -> bool {
        let stepped = self.step_outside();
        self.controllers.iter().for_each(Controller::check);
        stepped
    }

    fn step_outside(&mut self) -> bool {
        let mut choices = Vec::new();
        let held = |link| if link == LinkId(2) { self.control_held } else { self.bridges_held };
        for side in 0..2 {
            let mut outside = self.controllers[side].world().outside.lock();
            if self.cut {
                outside.sent.clear();
            }
            let (stalled, shared_held) = (self.stalled[side], self.shared_held == Some(side));
            let may_run = |job: &Job| match job {
                Job::Disk(..) => !stalled,
                Job::Persisted(_, key, ..) => !(shared_held && key.starts_with("shared.")),
                Job::Volume(..) => !self.volumes_held,
                Job::Service(volume, ..) => self.marks_held != Some((side, volume.0)),
            };
            let jobs = outside.jobs.iter().enumerate().filter(|(_, job)| may_run(job));
            choices.extend(jobs.map(|(at, _)| (side, Ok(at))));
            choices.extend(
                outside
                    .sent
                    .iter()
                    .filter(|(link, queue)| !(queue.is_empty() || held(**link)))
                    .map(|(link, _)| (side, Err(*link))),
            );
        }
        if choices.is_empty() {
            return false;
        }
        let at = self.random(choices.len());
        let (side, what) = choices[at];
        let controller = &self.controllers[side];
        let mut outside = controller.world().outside.lock();
        match what {
            Ok(job) => match outside.jobs.swap_remove(job) {
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
                Job::Volume(volume, _, ticket) if self.unmakable == Some((side, volume.0)) => {
                    drop(outside);
                    controller.on_volume(ticket, Err(DiskError::SizeLimit));
                }
                Job::Volume(volume, superblock, ticket) => {
                    let bytes = vec![0; (superblock.blocks * u64::from(BLOCK_BYTES)) as usize];
                    outside.volumes.insert(volume.0, (superblock, bytes));
                    drop(outside);
                    controller.on_volume(ticket, Ok(()));
                }
                Job::Service(volume, superblock, ticket) => {
                    let failed = outside.broken_disk.filter(|error| *error != DiskError::Full);
                    // As `VolumePlace::begin_service` does.
                    let found = outside
                        .volumes
                        .get_mut(&volume.0)
                        .filter(|found| failed.is_none() && found.0.is_same_copy(&superblock));
                    let result =
                        found.map(|found| found.0 = superblock).ok_or(failed.unwrap_or(DiskError::Io));
                    drop(outside);
                    controller.on_volume(ticket, result);
                }
            },
            Err(link) => {
                let frame = outside.sent.get_mut(&link).and_then(VecDeque::pop_front).unwrap();
                drop(outside);
                assert!(
                    !(self.first_release && tells_of_a_format(&frame)),
                    "the first release cannot read it"
                );
                self.controllers[1 - side].on_frame(link, frame.head, Bytes::from(frame.payload.concat()));
            }
        }
        true
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

    /// Whether a redo record is on a side's disk, and how many ever were.
    pub(crate) fn record(&self, side: usize) -> (bool, u64) {
        let outside = self.controllers[side].world().outside.lock();
        (outside.record, outside.recorded)
    }

    /// The generation the two agreed on.
    pub(crate) fn generation(&self) -> protocol::interlink::GenerationTag {
        self.controllers[0].generation(LunIndex(0)).unwrap_or_default()
    }

    /// What a side's disk says of the LUN's generation.
    pub(crate) fn durable(&self, side: usize) -> Option<GroupRecord> {
        let outside = self.controllers[side].world().outside.lock();
        let name = ["alpha", "beta"][side];
        ControlRecord::read(name, outside.records.get(CONTROL_KEY)?).ok()?.groups.into_iter().next()
    }

    /// Whether a side's disk is being changed, and whether it has changes that are not flushed.
    pub(crate) fn changing(&self, side: usize) -> (bool, bool) {
        let outside = self.controllers[side].world().outside.lock();
        let changing = outside.jobs.iter().any(|job| matches!(job, Job::Disk(_, io, _) if is_change(io)));
        (changing, outside.unflushed)
    }

    /// The most bytes that were ever written to a side's disk and not flushed.
    pub(crate) fn most_unflushed(&self, side: usize) -> u64 {
        self.controllers[side].world().outside.lock().unflushed_bytes.1
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
    pub(crate) fn event(&self, side: usize, nexus: u64, tag: u32, event: impl FnOnce(Who) -> Event) {
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
        let mut outside = self.controllers[side].world().outside.lock();
        core::mem::take(&mut outside.answers)
            .into_iter()
            .map(|(tag, outcome)| (tag.task(), outcome))
            .collect()
    }

    pub(crate) fn volume(&self, side: usize) -> Vec<u8> {
        self.controllers[side].world().outside.lock().volumes[&0].1.clone()
    }

    /// The copy of each LUN that a side has.
    pub(crate) fn volumes(&self, side: usize) -> Vec<Vec<u8>> {
        self.controllers[side]
            .world()
            .outside
            .lock()
            .volumes
            .values()
            .map(|(_, bytes)| bytes.clone())
            .collect()
    }

    /// Overwrites a LUN's blocks on both copies behind the controllers' backs, from the first.
    pub(crate) fn fill(&self, lun: u16, content: &[u8]) {
        for controller in &self.controllers {
            if let Some((_, bytes)) = controller.world().outside.lock().volumes.get_mut(&lun) {
                bytes[..content.len()].copy_from_slice(content);
            }
        }
    }

    /// The shared state in a side's state store.
    pub(crate) fn shared(&self, side: usize) -> Option<protocol::interlink::shared::SharedState> {
        let restored = Restored { records: self.records(side), ..Restored::default() };
        restored
            .records
            .contains_key("shared.data0")
            .then(|| restored.shared(["alpha", "beta"][side], "data0").unwrap())
    }

    /// What a side keeps: its records, and its volumes.
    pub(crate) fn kept(&self, side: usize) -> (Records, Volumes) {
        let outside = self.controllers[side].world().outside.lock();
        (outside.records.clone(), outside.volumes.clone())
    }

    /// Somebody puts records or volumes of a side back, to be found at its next start.
    pub(crate) fn put_back(
        &self,
        side: usize,
        records: Option<BTreeMap<String, Vec<u8>>>,
        volumes: Option<BTreeMap<u16, (Superblock, Vec<u8>)>>,
    ) {
        let mut outside = self.controllers[side].world().outside.lock();
        outside.jobs.clear();
        outside.records = records.unwrap_or_else(|| core::mem::take(&mut outside.records));
        outside.volumes = volumes.unwrap_or_else(|| core::mem::take(&mut outside.volumes));
    }

    pub(crate) fn set_record(&self, side: usize, key: &str, record: Vec<u8>) {
        self.controllers[side].world().outside.lock().records.insert(key.to_owned(), record);
    }

    pub(crate) fn change_record(&self, side: usize, key: &str, change: impl Fn(&mut Vec<u8>)) {
        self.controllers[side].world().outside.lock().records.entry(key.to_owned()).and_modify(change);
    }

    /// Beta offers no newer version of the interlink than the first.
    pub(crate) fn speak_version_1(&mut self) {
        self.first_release = true;
        self.controllers[1].with_appliance(|appliance, _| appliance.speak_version_1());
    }

    pub(crate) fn advance_and_tick(&mut self) {
        self.advance();
        self.controllers.iter().for_each(Controller::on_tick);
    }

    /// What a controller's state store holds.
    pub(crate) fn records(&self, side: usize) -> BTreeMap<String, Vec<u8>> {
        self.controllers[side].world().outside.lock().records.clone()
    }

    /// Overwrites a copy behind its controller's back.
    pub(crate) fn spoil(&self, side: usize, byte: u8) {
        if let Some((_, bytes)) = self.controllers[side].world().outside.lock().volumes.get_mut(&0) {
            bytes.fill(byte);
        }
    }

    /// From now on a disk answers nothing.
    pub(crate) fn stall_disk(&mut self, side: usize) {
        self.stalled[side] = true;
    }

    /// Whether a flush is on its way to a side's disk.
    pub(crate) fn flushing(&self, side: usize) -> bool {
        let outside = self.controllers[side].world().outside.lock();
        outside.jobs.iter().any(|job| matches!(job, Job::Disk(_, DiskIo::Flush, _)))
    }

    pub(crate) fn resume_disk(&mut self, side: usize) {
        self.stalled[side] = false;
    }

    /// A disk that failed works again.
    pub(crate) fn mend_disk(&self, side: usize) {
        self.controllers[side].world().outside.lock().broken_disk = None;
    }

    pub(crate) fn break_disk(&self, side: usize, error: DiskError) {
        self.controllers[side].world().outside.lock().broken_disk = Some(error);
    }

    /// From now on a disk reads and flushes, and every change fails.
    pub(crate) fn break_writes(&self, side: usize) {
        let mut outside = self.controllers[side].world().outside.lock();
        (outside.broken_disk, outside.only_changes_fail) = (Some(DiskError::Io), true);
    }

    /// From now on a disk takes writes and keeps none.
    pub(crate) fn forgetful_disk(&self, side: usize) {
        self.controllers[side].world().outside.lock().forgetful = true;
    }

    pub(crate) fn has_redo_record(&self, side: usize) -> bool {
        self.controllers[side].world().outside.lock().record
    }

    pub(crate) fn remove_volume(&self, side: usize) {
        self.controllers[side].world().outside.lock().volumes.clear();
    }
}

pub(crate) fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

pub(crate) fn blocks_of(byte: u8, blocks: u64) -> Data {
    vec![Bytes::from(vec![byte; (blocks * u64::from(BLOCK_BYTES)) as usize])]
}

pub(crate) fn write(start: u64, blocks: u64, byte: u8) -> Op {
    Op::Write { range: range(start, blocks), data: blocks_of(byte, blocks), fua: false }
}
