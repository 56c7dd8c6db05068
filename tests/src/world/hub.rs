//! What everything in the simulated world shares: the time, the chance, and the queue of what is going to happen.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use controller::command::{NexusId, Outcome, TaskTag};
use controller::plan::Side;
use controller::time::Time;
use controller::volume::superblock::Superblock;
use controller::world::{Frame, LinkId, Ticket, Via, VolumeIndex};
use protocol::block::BlockRange;

use super::disk::Disk;
use super::interlink::Interlink;
use super::portal::Wire;
use super::report::Report;
use super::settings::Settings;
use super::trace::Trace;
use crate::random::Random;

/// Something that is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The regular tick of a controller.
    Tick(Side),
    /// A tick that was asked for.
    Wake(Side),
    /// A connection of the interlink is dialed.
    Dial(usize),
    /// One end of a connection learns that it is open.
    LinkUp(usize, Side),
    /// One end of a connection learns that it is gone.
    LinkDown(usize, Side),
    /// An action: a frame goes out.
    Send(Side, Via, Frame),
    /// An action: a link is closed.
    Close(Side, LinkId),
    /// A connection sends some of what waits, from that side.
    Transmit(usize, Side),
    /// Bytes arrive at that side of a connection.
    Arrive(usize, Side, Bytes),
    /// A piece of disk I/O takes effect.
    DiskPiece(Side, u64, BlockRange),
    /// Disk I/O is complete.
    DiskDone(Side, u64),
    /// A record is durable.
    Persisted(Side, &'static str, Vec<u8>, Ticket),
    /// A volume was made.
    VolumeMade(Side, VolumeIndex, Superblock, Ticket),
    /// An action: an outcome goes to its nexus.
    Answer(Side, NexusId, TaskTag, Outcome),
    /// A host connects, or looks whether there is something to do.
    Host(usize),
    /// Bytes arrive at a host.
    ToHost(usize, u32, Vec<u8>),
    /// Bytes arrive at a host's controller.
    ToTarget(usize, u32, Vec<u8>),
    /// A host's connection has room again.
    Writable(usize, u32),
    /// A host's connection was closed by its controller.
    Closed(usize, u32),
}

/// The shared state.
pub(super) struct Hub {
    pub(super) settings: Settings,
    now: Time,
    pub(super) random: Random,
    next: u64,
    queue: BTreeMap<(Time, u64), Queued>,
    pub(super) trace: Trace,
    pub(super) report: Report,
    pub(super) disks: [Disk; 2],
    pub(super) records: [BTreeMap<&'static str, Vec<u8>>; 2],
    pub(super) interlink: Interlink,
    pub(super) wires: Vec<Wire>,
    /// When each record, by controller and key, will be durable: the next one of its key comes later.
    durable_at: BTreeMap<(Side, &'static str), Time>,
    performer: Performer,
}

#[derive(Debug)]
struct Queued {
    /// For actions: the event they belong to.
    cause: Option<u64>,
    event: Event,
}

/// The thread that performs the actions of the current event: in their order, each a little later.
#[derive(Clone, Copy, Debug, Default)]
struct Performer {
    cause: u64,
    cursor: Time,
    last_performed: u64,
}

impl Hub {
    pub(super) fn new(settings: Settings) -> Self {
        let mut random = Random::new(settings.seed ^ 0x7377_6f72_6c64);
        Self {
            now: Time(0),
            next: 0,
            queue: BTreeMap::new(),
            trace: Trace::new(settings.print),
            report: Report::default(),
            disks: [Disk::new(settings.luns.len()), Disk::new(settings.luns.len())],
            records: Default::default(),
            interlink: Interlink::new(settings.bridges),
            wires: settings.hosts.iter().map(|_| Wire::default()).collect(),
            durable_at: BTreeMap::new(),
            performer: Performer::default(),
            random: random.fork(),
            settings,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Something happens at a time of its own.
    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.push(time, None, event);
    }

    /// Something happens a while from now.
    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// An action of the current event: performed late, after the earlier ones of the same event, in any order
    /// with those of others.
    pub(super) fn perform(&mut self, event: Event) {
        let time = self.perform_time();
        self.push(time, Some(self.performer.cause), event);
    }

    /// When the next action of the current event is performed.
    pub(super) fn perform_time(&mut self) -> Time {
        let delay = self.settings.action.draw(&mut self.random);
        self.performer.cursor = self.performer.cursor.max(self.now) + delay;
        self.performer.cursor
    }

    /// Records of one key become durable in their order.
    pub(super) fn persist(&mut self, side: Side, key: &'static str, record: Vec<u8>, ticket: Ticket) {
        let delay = self.settings.disk.draw(&mut self.random);
        let time = self.perform_time() + delay;
        let earliest = self.durable_at.get(&(side, key)).map_or(time, |last| *last + Duration::from_nanos(1));
        let time = time.max(earliest);
        self.durable_at.insert((side, key), time);
        self.push(time, None, Event::Persisted(side, key, record, ticket));
    }

    fn push(&mut self, time: Time, cause: Option<u64>, event: Event) {
        self.next += 1;
        self.queue.insert((time, self.next), Queued { cause, event });
    }

    /// The next event; the time is then its time.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let ((time, number), queued) = self.queue.pop_first()?;
        self.now = time;
        self.performer.cause = number;
        self.performer.cursor = time;
        if let Some(cause) = queued.cause {
            if cause < self.performer.last_performed {
                self.report.actions_permuted += 1;
            }
            self.performer.last_performed = self.performer.last_performed.max(cause);
        }
        Some(queued.event)
    }
}
