//! The world of one controller under test: its disk, its state store and its connections are lists of what is under
//! way, and nothing in them happens until a test lets it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::block::{BLOCK_BYTES, BlockRange};

use super::range;
use crate::command::{NexusId, Outcome, TaskTag};
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::link::{Frame, LinkId, Via};
use crate::status::StuckStatus;
use crate::time::Time;
use crate::volume::stack::VolumeId;
use crate::volume::superblock::Superblock;
use crate::world::{Ticket, World};

/// Something that is under way outside.
pub(super) enum Job {
    Disk(u16, DiskIo, Ticket),
    /// Number, key, record: durable when this is done.
    Persisted(u64, String, Vec<u8>, Ticket),
    Volume(u16, Superblock, Ticket),
    Service(u16, Superblock, Ticket),
}

/// Everything outside of one controller.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) jobs: Vec<Job>,
    pub(super) sent: BTreeMap<LinkId, VecDeque<Frame>>,
    pub(super) closed: Vec<LinkId>,
    pub(super) answers: Vec<(TaskTag, Outcome)>,
    pub(super) volumes: BTreeMap<u16, (Superblock, Vec<u8>)>,
    pub(super) records: BTreeMap<String, Vec<u8>>,
    /// How many records were handed over.
    pub(super) persists: u64,
    /// By key the number of the one that is durable.
    pub(super) persisted: BTreeMap<String, u64>,
    /// A redo record is there, and how many ever were.
    pub(super) record: bool,
    pub(super) recorded: u64,
    /// Changes that are not flushed.
    pub(super) unflushed: bool,
    /// Bytes written and not flushed, and the most that ever were.
    pub(super) unflushed_bytes: (u64, u64),
    pub(super) broken_disk: Option<DiskError>,
    /// It still reads and flushes.
    pub(super) only_changes_fail: bool,
    /// Writes are said to be done and are not.
    pub(super) forgetful: bool,
}

/// Records by their keys, and volumes by their LUNs.
pub(crate) type Records = BTreeMap<String, Vec<u8>>;
pub(crate) type Volumes = BTreeMap<u16, (Superblock, Vec<u8>)>;

/// The world of one controller.
pub(crate) struct FakeWorld {
    seed: u128,
    pub(super) stuck: AtomicBool,
    bridge: LinkId,
    now: Arc<AtomicU64>,
    pub(super) outside: Mutex<Outside>,
}

impl FakeWorld {
    /// Of the controller of this side, where it is `now`; `random` is what it takes for chance.
    pub(super) fn new(random: u128, side: usize, now: Arc<AtomicU64>, outside: Outside) -> Self {
        let bridge = LinkId(side as u32);
        Self { seed: random, stuck: AtomicBool::new(false), bridge, now, outside: Mutex::new(outside) }
    }
}

impl World for FakeWorld {
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
    fn submit(&self, volume: VolumeId, io: DiskIo, ticket: Ticket) -> Option<DiskResult> {
        let volume = number_of(volume);
        self.outside.lock().jobs.push(Job::Disk(volume, io, ticket));
        None
    }
    fn persist(&self, key: &str, record: Vec<u8>, ticket: Ticket) {
        let mut outside = self.outside.lock();
        outside.persists += 1;
        let number = outside.persists;
        outside.jobs.push(Job::Persisted(number, key.to_owned(), record, ticket));
    }
    fn create_volume(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket) {
        self.outside.lock().jobs.push(Job::Volume(number_of(volume), superblock, ticket));
    }
    fn has_room(&self, _volume: VolumeId) -> bool {
        self.outside.lock().broken_disk.is_none()
    }
    fn begin_service(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket) {
        self.outside.lock().jobs.push(Job::Service(number_of(volume), superblock, ticket));
    }
    fn answer(&self, _nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        self.outside.lock().answers.push((tag, outcome));
    }
}

/// Volumes count from here: what takes a LUN's place in the table for its volume's id finds none.
pub(super) const FIRST_VOLUME: u16 = 100;

/// Which volume it is, from the first one on.
fn number_of(volume: VolumeId) -> u16 {
    assert!(volume.0 >= FIRST_VOLUME, "{volume:?} is none");
    volume.0 - FIRST_VOLUME
}

/// Whether it changes blocks.
pub(super) fn is_change(io: &DiskIo) -> bool {
    matches!(io, DiskIo::Write { .. } | DiskIo::WriteSame { .. } | DiskIo::Unmap(_))
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

/// What the disk does with it.
pub(super) fn carry_out(outside: &mut Outside, volume: u16, io: &DiskIo) -> DiskResult {
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
    let (_, bytes) = outside.volumes.get_mut(&volume).ok_or(DiskError::Absent)?;
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
