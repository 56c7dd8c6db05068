//! The product's world: the system's clock, files and devices, sockets.

use core::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use controller::command::{NexusId, Outcome, TaskTag};
use controller::disk::buffers::BufferPool;
use controller::disk::file::VolumeFile;
use controller::disk::pool::Lane;
use controller::disk::{DiskError, DiskIo, DiskResult};
use controller::link::{Frame, LinkId, Via};
use controller::status::{ContestStatus, FileSystemStatus, HostStatus, LimitStatus, StuckStatus};
use controller::time::Time;
use controller::unit::Controller;
use controller::volume::files::VolumePlace;
use controller::volume::stack::VolumeId;
use controller::volume::store::Store;
use controller::volume::superblock::Superblock;
use controller::world::{Ticket, World};
use protocol::block::BLOCK_BYTES;
use rustix::time::{ClockId, clock_gettime};

use super::accept_errors::{AcceptErrors, LATELY};
use super::liveness::Liveness;
use super::requests::{AnswerTo, DiskRequest};
use super::rooms::{self, Looked, Seen};
use super::timer::Timer;
use super::workers::{ThreadKind, thread_kind};
use crate::admin::limits::{self, Use};
use crate::batch::{self, Batch};
use crate::interlink::link::LinkTable;
use crate::iscsi::sessions::{SessionView, Sessions};
use crate::portal::CONNECTIONS_MAX;

/// The world of one controller.
pub struct ProductWorld {
    /// The controller that lives in it.
    pub(crate) controller: Weak<Controller<Self>>,
    /// One for every LUN of the plan.
    pub(crate) volumes: Vec<Arc<VolumeSlot>>,
    pub(crate) buffers: BufferPool,
    /// `None` if what it holds cannot be used: then nothing is to be written either.
    pub(crate) store: Option<Store>,
    pub(crate) links: Arc<LinkTable>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) timer: Arc<Timer>,
    /// The interlink is encrypted.
    pub(crate) encrypts: bool,
    /// The controller's name.
    pub(crate) name: String,
    /// When the file systems were looked at.
    pub(crate) looked: Looked,
    /// What went wrong around it.
    pub(crate) troubles: AcceptErrors,
    pub(crate) liveness: Liveness,
}

/// Where one volume is, or will be.
pub(crate) struct VolumeSlot {
    /// `None` if this controller keeps no copy of the LUN, or its disk did not answer at the start.
    pub(crate) place: Option<VolumePlace>,
    /// Where it is if its disk did not answer at the start.
    pub(crate) silent: Option<PathBuf>,
    pub(crate) lane: Lane,
    pub(crate) open: OnceLock<Arc<VolumeFile>>,
    /// The LUN's name.
    pub(crate) lun: String,
    /// Its size in bytes, as far as it is known.
    pub(crate) bytes: AtomicU64,
    pub(crate) seen: Seen,
}

/// CLOCK_BOOTTIME.
pub(crate) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)))
}

impl ProductWorld {
    fn slot(&self, volume: VolumeId) -> Option<&VolumeSlot> {
        self.volumes.get(usize::from(volume.0)).map(Arc::as_ref)
    }
}

/// Tells the controller, if it is still there, of something that is complete; what it then does is one batch.
pub(crate) fn tell(
    controller: Weak<Controller<ProductWorld>>,
    event: impl FnOnce(&Controller<ProductWorld>) + Send + 'static,
) -> impl FnOnce() + Send + 'static {
    move || {
        if let Some(controller) = controller.upgrade() {
            let _batch = Batch::begin();
            event(&controller);
        }
    }
}

impl World for ProductWorld {
    fn now(&self) -> Time {
        now()
    }

    fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        // The kernel's generator fails only before it was seeded, early at boot.
        while let Err(error) = getrandom::fill(&mut bytes) {
            tracing::error!("the system has no random numbers: {error}");
            std::thread::yield_now();
        }
        u128::from_ne_bytes(bytes)
    }

    fn wake_at(&self, at: Time) {
        self.timer.set(at);
    }

    fn send(&self, via: Via, frame: Frame) {
        match via {
            Via::Link(link) => self.links.send(link, frame),
            Via::AnyBridge => self.links.send_on_any_bridge(frame),
        }
    }

    fn close(&self, link: LinkId) {
        self.links.close(link);
    }

    fn submit(&self, volume: VolumeId, io: DiskIo, ticket: Ticket) -> Option<DiskResult> {
        let Some(file) = self.slot(volume).and_then(|slot| slot.open.get()) else {
            return Some(Err(DiskError::Absent));
        };
        let answer_to = AnswerTo { controller: self.controller.clone(), ticket };
        if !matches!(thread_kind(), ThreadKind::Worker(_)) || !file.may_be_done_at_once(&io) {
            return file.submit(io, false, move |result| answer_to.tell(result));
        }
        batch::ask_after_bridges(DiskRequest { file: Arc::clone(file), io, answer_to });
        None
    }

    fn persist(&self, key: &str, record: Vec<u8>, ticket: Ticket) {
        if let Some(store) = &self.store {
            let durable = tell(self.controller.clone(), move |unit| unit.on_persisted(ticket));
            store.persist(key, record, Box::new(durable));
        }
    }

    fn create_volume(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket) {
        let controller = self.controller.clone();
        let Some(slot) = self.slot(volume) else { return };
        let place = slot.place.clone();
        let job = move || {
            let made = place.map_or(Err(DiskError::Absent), |place| place.create(&superblock));
            tell(controller, move |unit| {
                let result = made.map(|file| unit.world().opened(volume, file, superblock.blocks));
                unit.on_volume(ticket, result);
            })();
        };
        if slot.lane.submit_single(Box::new(job)).is_err() {
            tracing::error!("a volume cannot be made: its disk does not answer");
        }
    }

    fn begin_service(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket) {
        let controller = self.controller.clone();
        let Some(slot) = self.slot(volume) else { return };
        let marked = slot.place.clone().zip(slot.open.get().cloned());
        let job = move || {
            let begun = marked
                .map_or(Err(DiskError::Absent), |(place, file)| file.begin_service(&place, &superblock));
            tell(controller, move |unit| unit.on_volume(ticket, begun))();
        };
        if slot.lane.submit_single(Box::new(job)).is_err() {
            tracing::error!("a superblock cannot be written: its disk does not answer");
        }
    }

    fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        self.sessions.answer(nexus, tag, outcome);
    }

    fn has_room(&self, volume: VolumeId) -> bool {
        rooms::sees_room(&self.volumes, volume)
    }

    fn want_of_room(&self, volume: VolumeId) -> Option<String> {
        rooms::tell_want_of_room(&self.volumes, volume, &self.name)
    }

    fn file_systems(&self) -> Vec<FileSystemStatus> {
        rooms::all_file_systems(&self.volumes)
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = self.troubles.tell(&self.name);
        if let Some(error) = self.store.as_ref().and_then(Store::trouble) {
            let name = &self.name;
            troubles.push(format!(
                "{name} cannot write its records in its state folder: {error}. What depends on them waits, and LUNs \
                 may be refused. Make room there or look at its disk; {name} tries on by itself"
            ));
        }
        troubles.extend(self.volumes.iter().filter_map(|slot| slot.silent.as_ref()).map(|path| {
            let (name, path) = (&self.name, path.display());
            format!(
                "{name} runs without {path}: its disk did not answer when {name} started. Nothing is created or \
                 overwritten there, and its LUN has no copy on {name}. Look at the disk; when it answers, start {name} \
                 again"
            )
        }));
        let lately = |at: &Time| self.now().since(*at) < LATELY;
        if let Some(at) = self.sessions.last_refused().filter(lately) {
            let (most, ago) = (self.sessions.connections_most(), self.now().since(at).as_secs());
            let why = if most < CONNECTIONS_MAX {
                "its process may open no more files (`ulimit -n`, LimitNOFILE= of its service)"
            } else {
                "that is the limit"
            };
            troubles.push(format!(
                "{} has refused a connection of a host, the last time {ago} s ago: {most} are open at a time at most, \
                 {why}. Those that are open go on",
                self.name
            ));
        }
        troubles
    }

    fn stuck(&self) -> Option<StuckStatus> {
        self.liveness.stuck()
    }

    fn encrypts(&self) -> bool {
        self.encrypts
    }

    fn hosts(&self) -> Vec<HostStatus> {
        let now = self.now();
        let text =
            |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        let host = |session: SessionView| HostStatus {
            address: text(session.ends.map(|(host, _)| host)),
            portal: text(session.ends.map(|(_, portal)| portal)),
            seconds: now.since(session.since).as_secs(),
            commands: u32::try_from(session.usage.tasks).unwrap_or(u32::MAX),
            initiator: session.initiator,
            alias: session.alias,
        };
        self.sessions.list().into_iter().map(host).collect()
    }

    fn contests(&self) -> Vec<ContestStatus> {
        self.sessions.visits.contests(self.now())
    }

    fn limits(&self) -> Vec<LimitStatus> {
        let jobs = self.volumes.iter().map(|slot| slot.lane.load()).max().unwrap_or_default();
        limits::of(&Use {
            sessions: &self.sessions,
            jobs,
            links: self.links.count(),
            link_bytes: self.links.bytes(),
            times: self.timer.count(),
        })
    }
}

impl ProductWorld {
    /// From now on the volume can be read and written.
    pub(crate) fn opened(&self, volume: VolumeId, file: std::fs::File, blocks: u64) {
        if let Some(slot) = self.slot(volume)
            && let Some(place) = &slot.place
        {
            slot.bytes.store(blocks.saturating_mul(u64::from(BLOCK_BYTES)), Ordering::Relaxed);
            let open = VolumeFile::new(file, place.path(), blocks, self.buffers.clone(), slot.lane.clone());
            // Open already: it was asked for twice, and both mean the same volume.
            let _twice = slot.open.set(Arc::new(open));
        }
    }
}
