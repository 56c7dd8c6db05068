//! What everything in the simulated world shares: the time, the chance, and the queue of what is going to happen.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use controller::appliance::{CONTROL_KEY, ControlRecord};
use controller::command::{NexusId, Outcome, TaskTag};
use controller::link::{Frame, LinkId, Via};
use controller::plan::Side;
use controller::time::Time;
use controller::volume::stack::VolumeId;
use controller::volume::superblock::Superblock;
use controller::world::Ticket;
use protocol::block::BlockRange;

use super::disk::Disk;
use super::interlink::Interlink;
use super::portal::Wire;
use super::report::Report;
use super::script::Hold;
use super::settings::{NAMES, Settings};
use super::trace::Trace;
use crate::judge::caching::Caching;
use crate::judge::reservations::Judge;
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
    Persisted(Side, String, Vec<u8>, Ticket),
    /// A volume was made.
    VolumeMade(Side, VolumeId, Superblock, Ticket),
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
    /// A host learns that its connection is gone.
    HostLost(usize, u32),
}

impl Event {
    /// The controller whose process it belongs to: it never happens when that process is gone.
    fn process(&self) -> Option<Side> {
        match self {
            Self::Tick(side)
            | Self::Wake(side)
            | Self::LinkUp(_, side)
            | Self::LinkDown(_, side)
            | Self::Send(side, ..)
            | Self::Close(side, _)
            | Self::DiskPiece(side, ..)
            | Self::DiskDone(side, _)
            | Self::Persisted(side, ..)
            | Self::VolumeMade(side, ..)
            | Self::Answer(side, ..) => Some(*side),
            _ => None,
        }
    }

    /// Whether a crash of its controller leaves open whether it happens.
    const fn touches_disk(&self) -> bool {
        matches!(self, Self::DiskPiece(..) | Self::Persisted(..) | Self::VolumeMade(..))
    }

    /// Whether it waits while its controller's disk stalls.
    const fn needs_disk(&self) -> bool {
        matches!(self, Self::DiskPiece(..) | Self::DiskDone(..) | Self::Persisted(..))
    }
}

/// One controller's process and machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// Counts its runs.
    pub(super) life: u32,
    /// It is gone and has not been started again.
    pub(super) down: bool,
    /// It stands still until then.
    pub(super) paused: Option<Time>,
    /// Its disk stands still until then.
    pub(super) stalled: Option<Time>,
    /// Records on their way to its disk.
    pub(super) writing: u32,
    /// What its clock is ahead of the simulation's, in nanoseconds.
    pub(super) clock: i64,
}

/// The second controller's machine started this much earlier, in nanoseconds: clocks of two machines have nothing
/// in common.
const CLOCKS: [i64; 2] = [1_000_000_000_000, 777_777_000_000_000];

/// What is held is looked at again at every multiple of this time.
const HELD_NANOS: u64 = 500_000;

/// What the clock of a machine says when it has just booted, in nanoseconds.
const BOOTED: i64 = 20_000_000_000;

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
    pub(super) records: [BTreeMap<String, Vec<u8>>; 2],
    pub(super) interlink: Interlink,
    pub(super) wires: Vec<Wire>,
    pub(super) processes: [Process; 2],
    /// Faults that happened.
    pub(super) faults: u64,
    /// Frames from this controller do not arrive.
    pub(super) cut: [bool; 2],
    /// By LUN: the judges of what changes it other than its blocks, where hosts do that.
    pub(super) judges: Vec<Judge>,
    /// By LUN: what hosts may believe of its write cache.
    pub(super) caching: Vec<Caching>,
    /// What one of them found.
    pub(super) violation: Option<String>,
    /// What takes no effect until it is let go.
    pub(super) held: Vec<Hold>,
    /// When each record, by controller and key, will be durable: the next one of its key comes later.
    durable_at: BTreeMap<(Side, String), Time>,
    performer: Performer,
}

#[derive(Debug)]
struct Queued {
    /// The run of the process it belongs to.
    life: Option<(Side, u32)>,
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
            trace: Trace::new(settings.print, settings.last.clone()),
            report: Report::default(),
            disks: [(); 2].map(|()| Disk::new(settings.luns.len(), settings.troubled)),
            records: Default::default(),
            interlink: Interlink::new(settings.bridges),
            wires: settings.hosts.iter().map(|host| Wire::new(0, host.side, false)).collect(),
            processes: CLOCKS.map(|clock| Process { clock, ..Process::default() }),
            cut: [false; 2],
            faults: 0,
            judges: settings.judges(),
            caching: settings.luns.iter().map(|lun| Caching::new(lun.write_cache)).collect(),
            violation: None,
            held: Vec::new(),
            durable_at: BTreeMap::new(),
            performer: Performer::default(),
            random: random.fork(),
            settings,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Something for whoever reads the trace.
    pub(super) fn trace_word(&mut self, words: core::fmt::Arguments<'_>) {
        let now = self.now.0;
        self.trace.event(now, words);
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
    pub(super) fn persist(&mut self, side: Side, key: &str, record: Vec<u8>, ticket: Ticket) {
        let delay = self.settings.disk.draw(&mut self.random);
        let time = self.perform_time() + delay;
        let earliest =
            self.durable_at.get(&(side, key.to_owned())).map_or(time, |last| *last + Duration::from_nanos(1));
        let time = time.max(earliest);
        self.durable_at.insert((side, key.to_owned()), time);
        self.processes[side.index()].writing += 1;
        self.push(time, None, Event::Persisted(side, key.to_owned(), record, ticket));
    }

    fn push(&mut self, time: Time, cause: Option<u64>, event: Event) {
        let process = match &event {
            Event::Dial(slot) => Some(self.interlink.dialer(*slot)),
            other => other.process(),
        };
        let life = process.map(|side| (side, self.processes[side.index()].life));
        self.next += 1;
        self.queue.insert((time, self.next), Queued { life, cause, event });
    }

    /// The next event; the time is then its time. What belongs to a process that is gone never happens; what
    /// belongs to one that stands still happens later, in its order.
    pub(super) fn pop(&mut self) -> Option<Event> {
        loop {
            let ((time, number), queued) = self.queue.pop_first()?;
            if queued.life.is_some_and(|(side, life)| self.processes[side.index()].life != life) {
                continue;
            }
            self.now = time;
            // At full steps, so that what is held keeps its order.
            let again = Time((time.0 / HELD_NANOS + 1) * HELD_NANOS);
            let held = self.is_held(&queued.event) || self.waits_for_silent_disk(&queued.event);
            let held = held.then_some(again);
            if let Some(until) = held.max(self.stands_still(&queued.event)) {
                self.next += 1;
                self.queue.insert((until, self.next), queued);
                continue;
            }
            self.performer.cause = number;
            self.performer.cursor = time;
            if let Some(cause) = queued.cause {
                if cause < self.performer.last_performed {
                    self.report.actions_permuted += 1;
                }
                self.performer.last_performed = self.performer.last_performed.max(cause);
            }
            return Some(queued.event);
        }
    }

    fn waits_for_silent_disk(&self, event: &Event) -> bool {
        match event {
            Event::DiskPiece(side, number, _) | Event::DiskDone(side, number) => {
                self.disks[side.index()].waits_in_silence(*number)
            }
            _ => false,
        }
    }

    /// Whether a scenario holds an event.
    fn is_held(&self, event: &Event) -> bool {
        self.held.iter().any(|hold| match (*hold, event) {
            (Hold::Bridges(side), Event::Transmit(connection, sender)) => {
                side == *sender && self.interlink.is_bridge_of(*connection, side)
            }
            (Hold::Replies(side), Event::Transmit(connection, sender)) => {
                side == *sender && self.interlink.is_bridge_of(*connection, side.peer())
            }
            (
                Hold::Wire(side),
                Event::Arrive(connection, receiver, _) | Event::LinkDown(connection, receiver),
            ) => side.peer() == *receiver && self.interlink.is_bridge_of(*connection, side),
            (Hold::Records(side), Event::Persisted(of, key, record, _)) => {
                let own = NAMES[side.index()];
                let groups =
                    |record: &Vec<u8>| ControlRecord::read(own, record).ok().map(|record| record.groups);
                side == *of
                    && key == CONTROL_KEY
                    && groups(record) != self.records[side.index()].get(key).and_then(groups)
            }
            (Hold::Disk(side, io), Event::DiskDone(of, number)) => {
                side == *of && self.disks[side.index()].kind_of(*number) == Some(io)
            }
            (Hold::Closes(side), Event::Close(of, _)) => side == *of,
            (Hold::Ticks(side), Event::Tick(of) | Event::Wake(of)) => side == *of,
            _ => false,
        })
    }

    /// Until when an event has to wait for a process or a disk that stands still.
    fn stands_still(&self, event: &Event) -> Option<Time> {
        let side = match event {
            Event::Arrive(_, side, _) => *side,
            Event::ToTarget(host, ..) | Event::Writable(host, _) | Event::Closed(host, _) => {
                self.wires[*host].side
            }
            Event::Dial(slot) => self.interlink.dialer(*slot),
            other => other.process()?,
        };
        let process = &self.processes[side.index()];
        let stalled = process.stalled.filter(|_| event.needs_disk());
        // The disk goes on by itself while the process stands still.
        let paused = process.paused.filter(|_| !matches!(event, Event::DiskPiece(..)));
        stalled.max(paused).filter(|until| *until > self.now)
    }

    /// Whether a controller's disk stands still.
    pub(super) fn stalled(&self, side: Side) -> bool {
        self.processes[side.index()].stalled.is_some_and(|until| until > self.now)
    }

    /// What a controller's clock says.
    pub(super) fn clock(&self, side: Side) -> Time {
        Time((self.now.0 as i64 + self.processes[side.index()].clock) as u64)
    }

    /// The simulation's time at which a controller's clock says `time`.
    pub(super) fn time_of(&self, side: Side, time: Time) -> Time {
        Time((time.0 as i64 - self.processes[side.index()].clock).max(0) as u64)
    }

    /// A controller's process ends at once (`kill -9`), or its machine loses power. What its disk was doing is
    /// done in part; what was not durable then survives as chance wants, if the power is lost.
    pub(super) fn crash(&mut self, side: Side, power: bool) {
        let keys: Vec<(Time, u64)> = self
            .queue
            .iter()
            .filter(|(_, queued)| queued.event.process() == Some(side) && queued.event.touches_disk())
            .filter(|(_, queued)| queued.life == Some((side, self.processes[side.index()].life)))
            .map(|(key, _)| *key)
            .collect();
        let worst = !self.settings.script.is_empty();
        let mut unwritten = Vec::new();
        for key in keys {
            let Some(queued) = self.queue.remove(&key) else { continue };
            // In a scenario the worst happens.
            let held = self.is_held(&queued.event);
            let happens = self.random.percent(50) && !(power && worst || held);
            match queued.event {
                Event::DiskPiece(_, number, piece) if happens => self.disk_piece(side, number, piece),
                Event::Persisted(_, key, record, _) => {
                    self.report.record_crashes += 1;
                    if happens && !unwritten.contains(&key) {
                        self.records[side.index()].insert(key, record);
                    } else {
                        unwritten.push(key);
                    }
                }
                Event::VolumeMade(_, volume, superblock, _) => {
                    let at = usize::from(volume.0);
                    if happens {
                        self.volume_made(side, volume, superblock);
                    } else if self.random.percent(50) {
                        self.disks[side.index()].volumes[at].blank = true;
                    }
                }
                _ => {}
            }
        }
        self.durable_at.retain(|(of, _), _| *of != side);
        let disk = &mut self.disks[side.index()];
        disk.forget();
        if power {
            disk.volumes.iter_mut().for_each(|volume| volume.lose_power(&mut self.random, worst));
        }
        let now = self.now.0 as i64;
        let process = &mut self.processes[side.index()];
        let clock = if power { BOOTED - now } else { process.clock };
        *process = Process { life: process.life + 1, down: true, clock, ..Process::default() };
        self.process_gone(side, power);
    }
}
