//! The simulated world: both controllers with their front ends, hosts, disks and networks, in one thread under
//! simulated time.
//!
//! What runs is the product's own loop, its cores, its sessions and its device server, in bytes: only sockets,
//! disks and clocks are simulated. Whatever could happen late or in another order in the product does so here,
//! by chance: actions of different events, frames on different connections, pieces of disk I/O, pieces of TCP
//! streams. All chance comes from the seed, so the same seed gives the same trace.

mod answers;
mod breaks;
mod brief;
mod director;
mod disk;
mod events;
pub mod faults;
mod files;
mod giving_up;
mod grouped;
mod host;
mod hub;
mod interlink;
pub mod long_work;
mod portal;
mod report;
mod reserving;
pub mod resets;
mod run;
pub mod scenario;
pub mod scenarios;
pub mod script;
mod service;
pub mod settings;
mod side;
mod trace;
mod unit;
mod volume;

use core::time::Duration;
use std::sync::Arc;

use controller::command::LunIndex;
use controller::plan::Side;
use controller::time::{TICK, Time};
use parking_lot::Mutex;
use protocol::block::BlockRange;

use self::brief::Brief;
use self::director::Director;
use self::host::{Host, Phase};
use self::hub::{Event, Hub};
use self::portal::Socket;
pub use self::report::Report;
pub use self::run::{Failure, Run, run};
pub use self::settings::Settings;
use self::unit::{Unit, unit};
use crate::judge::{self, Extent, History, Kind, Outcome};
use crate::random::Random;
use crate::workload::content;

/// Both sides, in order.
const SIDES: [Side; 2] = [Side::First, Side::Second];

/// A run that has not ended by then is stuck.
const SIMULATED_MAX: Duration = Duration::from_secs(120);

/// No command may take longer (Linux aborts at 15 s).
const COMMAND_MAX: Duration = Duration::from_secs(10);

struct Simulation {
    hub: Arc<Mutex<Hub>>,
    units: [Unit; 2],
    hosts: Vec<Host>,
    history: History,
    settings: Settings,
    ticks: [u64; 2],
    /// When the hosts began to work.
    began: Option<Time>,
    round: u64,
    director: Director,
    script: script::Script,
    /// Every pair was DUPLEX again after the last fault was mended.
    settled_once: bool,
    service: service::Service,
}

impl Simulation {
    fn new(settings: Settings) -> Self {
        let mut random = Random::new(settings.seed ^ 0x0068_6f73_7473);
        let hub = Arc::new(Mutex::new(Hub::new(settings.clone())));
        let units = SIDES.map(|side| unit(settings.plan(side), &hub, side));
        for unit in &units {
            settings.credit_bytes.iter().for_each(|bytes| unit.controller.set_credit(*bytes));
            unit.controller.start();
        }
        let host =
            |(number, host): (usize, &settings::HostSettings)| Host::new(number, host.clone(), random.fork());
        let mut hosts: Vec<Host> = settings.hosts.iter().enumerate().map(host).collect();
        if !settings.faults.is_empty() && !settings.hosts_stay {
            hosts.iter_mut().for_each(Host::use_both_paths);
        }
        {
            let hub = &mut *hub.lock();
            SIDES.iter().for_each(|side| hub.after(TICK, Event::Tick(*side)));
            for slot in 0..hub.interlink.slots() {
                let delay = settings.latency.draw(&mut hub.random);
                hub.after(delay, Event::Dial(slot));
            }
            for host in 0..hosts.len() {
                let delay = settings.host_latency.draw(&mut hub.random);
                hub.after(delay, Event::Host(host));
            }
        }
        Self {
            hub,
            units,
            hosts,
            history: History::new(),
            director: Director::new(settings.luns.len()),
            service: service::Service::new(settings.luns.len()),
            script: script::Script::default(),
            settled_once: !settings.has_trouble(),
            settings,
            ticks: [0; 2],
            began: None,
            round: 0,
        }
    }

    fn now(&self) -> Time {
        self.hub.lock().now()
    }

    fn run(mut self) -> Result<Run, String> {
        while self.hosts.iter().any(|host| host.phase != Phase::Done) {
            self.step()?;
            let now = self.now();
            if self.settings.has_trouble() {
                self.conduct(now)?;
            }
            self.direct();
        }
        self.await_settled()?;
        self.prove_service()?;
        self.await_settled()?;
        self.units.iter().for_each(|unit| unit.controller.stop());
        while !self.units.iter().all(|unit| unit.controller.stopped()) || self.hub.lock().disk_busy() {
            self.step()?;
        }
        self.look_at_disks()?;
        judge::check(&self.history).map_err(|violation| violation.to_string())?;
        let hub = self.hub.lock();
        let mut report = hub.report;
        report.overlaps = self.history.overlaps();
        for unit in &self.units {
            let luns = (0..self.settings.luns.len()).map(|at| LunIndex(at as u16));
            for counters in luns.filter_map(|lun| unit.controller.counters(lun)) {
                report.range_waits += counters.range_waits;
                report.contended_reads += counters.contended_reads;
                report.forwards += counters.forwards;
                report.credit_waits += counters.credit_waits;
            }
        }
        report.faulty_runs = u64::from(!self.settings.faults.is_empty());
        report.record_crash_runs = u64::from(report.record_crashes > 0);
        report.events = hub.trace.events();
        report.simulated_ms = hub.now().0 / 1_000_000;
        Ok(Run { report, hash: hub.trace.hash() })
    }

    /// A connection that a cut has spoiled may be noticed long after the cut, and part the two again: what they then
    /// have to copy they do before they end. Else the copies are not expected to be the same.
    fn await_settled(&mut self) -> Result<(), String> {
        let done = self.now();
        while self.settings.has_trouble() && !self.is_settled() {
            self.step()?;
            let now = self.now();
            self.conduct(now)?;
            if now.since(done) > director::MENDING_MAX {
                return Err(format!("in the end not every pair is DUPLEX again: {}", self.stuck()));
            }
        }
        Ok(())
    }

    /// Begins rounds and ends the work.
    fn direct(&mut self) {
        let busy = |host: &Host| matches!(host.phase, Phase::Away | Phase::Asking | Phase::LoggingOut);
        let faulty = self.settings.has_trouble();
        let all_work = !self.hosts.iter().any(busy);
        let goes_on = all_work || (faulty && self.began.is_some());
        if !goes_on {
            return;
        }
        let now = self.now();
        let began = *self.began.get_or_insert(now);
        let worked = now.since(began);
        let commands = self.hub.lock().report.commands;
        let enough = worked >= self.settings.at_least
            && commands >= self.settings.commands_min
            && self.is_calm()
            && (self.settled_once || self.is_settled());
        if enough {
            self.settled_once = true;
            let idle = self.hosts.iter().all(|host| host.outstanding() == 0);
            if all_work && idle {
                self.end_work();
            }
        } else {
            let round = 1 + (worked.as_nanos() / self.settings.round.as_nanos().max(1)) as u64;
            if round > self.round {
                self.round = round;
                let hub = &mut *self.hub.lock();
                for host in &mut self.hosts {
                    host.begin_round(round);
                    host.proceed(hub, &mut self.history);
                }
            }
        }
    }

    /// One event.
    fn step(&mut self) -> Result<(), String> {
        let (now, event) = {
            let hub = &mut *self.hub.lock();
            let event = hub.pop().ok_or("nothing is left to happen")?;
            (hub.now(), event)
        };
        let patience = match (self.settings.script.is_empty(), self.settings.has_trouble()) {
            (false, _) => SIMULATED_MAX,
            (true, true) => COMMAND_MAX + faults::LASTS_MAX * 2,
            (true, false) => COMMAND_MAX,
        };
        let stuck = |host: &Host| host.oldest().is_some_and(|oldest| now.since(oldest) > patience);
        if now.0 > SIMULATED_MAX.as_nanos() as u64 || self.hosts.iter().any(stuck) {
            return Err(self.stuck());
        }
        self.happen(now, event)?;
        self.units.iter().for_each(|unit| unit.controller.check());
        self.hub.lock().violation.take().map_or(Ok(()), Err)
    }

    fn stuck(&self) -> String {
        let mut text = "nothing moves any more".to_owned();
        for host in &self.hosts {
            text +=
                &format!("\n    host {}: {:?}, {} in flight", host.number, host.phase, host.outstanding());
        }
        let open = self.history.operations().iter().filter(|operation| operation.returned == u64::MAX);
        open.take(20).for_each(|operation| text += &format!("\n    {operation}"));
        for unit in &self.units {
            text += &format!("\n    {:?}", unit.controller.status());
        }
        text
    }

    fn happen(&mut self, now: Time, event: Event) -> Result<(), String> {
        self.note(now, &event);
        match event {
            Event::Tick(side) => self.tick(side)?,
            Event::Wake(side) => self.units[side.index()].controller.on_tick(),
            Event::Dial(slot) => self.hub.lock().dial(slot),
            Event::LinkUp(connection, side) => {
                let (link, dialed) = self.hub.lock().link_up(connection, side);
                self.units[side.index()].controller.on_link_up(link, dialed);
            }
            Event::LinkDown(connection, side) => {
                let link = self.hub.lock().link_down(connection, side);
                // Long after its cause, if nobody noticed before.
                self.doubt_memory();
                if let Some(link) = link {
                    self.units[side.index()].controller.on_link_down(link);
                }
            }
            Event::Send(side, via, frame) => self.hub.lock().put(side, via, frame),
            Event::Close(side, link) => self.hub.lock().close_link(side, link),
            Event::Transmit(connection, side) => self.hub.lock().transmit(connection, side),
            Event::Arrive(connection, side, bytes) => {
                let frames = self.hub.lock().arrive(connection, side, &bytes);
                for frame in frames {
                    self.units[side.index()].controller.on_frame(frame.link, frame.head, frame.payload);
                }
            }
            Event::DiskPiece(side, number, piece) => self.hub.lock().disk_piece(side, number, piece),
            Event::DiskDone(side, number) => {
                let (ticket, result) = self.hub.lock().disk_done(side, number);
                self.units[side.index()].controller.on_disk(ticket, result);
            }
            Event::Persisted(side, key, record, ticket) => {
                {
                    let hub = &mut *self.hub.lock();
                    hub.records[side.index()].insert(key, record);
                    hub.processes[side.index()].writing -= 1;
                }
                self.units[side.index()].controller.on_persisted(ticket);
            }
            Event::VolumeMade(side, volume, superblock, ticket) => {
                self.hub.lock().volume_made(side, volume, superblock);
                self.units[side.index()].controller.on_volume(ticket, Ok(()));
            }
            Event::Answer(side, service::PROBER, tag, outcome) => self.probed(side, tag, &outcome),
            Event::Answer(side, nexus, tag, outcome) => {
                self.units[side.index()].sessions.answer(nexus, tag, outcome);
            }
            Event::Host(host) => self.host_proceeds(host),
            Event::ToHost(host, epoch, bytes) => self.arrives_at_host(host, epoch, &bytes)?,
            Event::ToTarget(host, epoch, bytes) => self.arrives_at_target(host, epoch, &bytes),
            Event::Writable(host, epoch) => self.writable(host, epoch),
            Event::Closed(host, epoch) => self.closed(host, epoch),
            Event::HostLost(host, epoch) => {
                let hub = &mut *self.hub.lock();
                if hub.wires[host].epoch == epoch {
                    self.hosts[host].disconnected(hub);
                }
            }
        }
        Ok(())
    }

    /// Takes an event into the trace.
    fn note(&self, now: Time, event: &Event) {
        let trace = &mut self.hub.lock().trace;
        trace.event(now.0, format_args!("{}", Brief(event)));
        match event {
            Event::Arrive(_, _, bytes) => trace.bytes(bytes),
            Event::ToHost(_, _, bytes) | Event::ToTarget(_, _, bytes) => trace.bytes(bytes),
            Event::DiskPiece(_, number, piece) => {
                [*number, piece.start.0, piece.blocks].iter().for_each(|number| trace.number(*number));
            }
            Event::DiskDone(_, number) => trace.number(*number),
            _ => {}
        }
    }

    fn tick(&mut self, side: Side) -> Result<(), String> {
        self.units[side.index()].controller.on_tick();
        self.settle_events();
        if self.settings.has_trouble() {
            self.watch_pairs()?;
            self.watch_groups()?;
        }
        self.ticks[side.index()] += 1;
        self.look_at_service(side)?;
        self.hub.lock().after(TICK, Event::Tick(side));
        if !self.ticks[side.index()].is_multiple_of(10) {
            return Ok(());
        }
        let now = controller::world::World::now(self.units[side.index()].controller.world());
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            if host.settings.side == side
                && host.connection.as_mut().is_some_and(|connection| connection.on_tick(now).is_err())
            {
                let epoch = self.hub.lock().wires[at].epoch;
                self.closed(at, epoch);
            }
        }
        Ok(())
    }

    fn host_proceeds(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let side = host.settings.side;
        let unnoticed = !matches!(host.phase, Phase::Away | Phase::Done);
        if host.connection.is_none() && unnoticed {
            host.disconnected(&mut self.hub.lock());
        } else if host.connection.is_none() && host.phase != Phase::Done {
            let down = self.hub.lock().processes[side.index()].down;
            if down {
                host.disconnected(&mut self.hub.lock());
                return;
            }
            let epoch = self.hub.lock().connect(at, side);
            let socket = Socket { hub: self.hub.clone(), host: at, epoch };
            let frontend = &self.units[side.index()].frontend;
            host.connection = Some(frontend.connect(Arc::new(socket)));
            host.connected(&mut self.hub.lock());
        } else if host.takes_other_path {
            let epoch = self.hub.lock().wires[at].epoch;
            self.closed(at, epoch);
        } else {
            host.waits = false;
            host.proceed(&mut self.hub.lock(), &mut self.history);
        }
    }

    fn arrives_at_host(&mut self, at: usize, epoch: u32, bytes: &[u8]) -> Result<(), String> {
        let hub = &mut *self.hub.lock();
        if !hub.connected(at, epoch) {
            return Ok(());
        }
        self.hosts[at].receive(hub, &mut self.history, bytes)?;
        hub.delivered_to_host(at);
        if self.hosts[at].takes_other_path && self.hosts[at].phase == Phase::Working {
            hub.after(Duration::ZERO, Event::Host(at));
        }
        Ok(())
    }

    fn arrives_at_target(&mut self, at: usize, epoch: u32, bytes: &[u8]) {
        if !self.hub.lock().connected(at, epoch) {
            return;
        }
        self.hub.lock().arrived_at_target(at);
        self.hosts[at].input.extend_from_slice(bytes);
        self.take_input(at, epoch);
    }

    /// The controller's end takes what has arrived, unless it wants none now.
    fn take_input(&mut self, at: usize, epoch: u32) {
        let host = &mut self.hosts[at];
        let Some(connection) = &mut host.connection else { return };
        if !connection.wants_input() {
            return;
        }
        if connection.receive(&mut host.input).is_err() {
            self.closed(at, epoch);
        } else if connection.wants_input() {
            self.hub.lock().taken_by_target(at);
        }
    }

    fn writable(&mut self, at: usize, epoch: u32) {
        if !self.hub.lock().connected(at, epoch) {
            return;
        }
        let Some(connection) = &mut self.hosts[at].connection else { return };
        if connection.on_writable().is_err() {
            self.closed(at, epoch);
        } else {
            self.take_input(at, epoch);
        }
    }

    /// A host loses its connection.
    fn disconnect(&mut self, at: usize) {
        let epoch = self.hub.lock().wires[at].epoch;
        self.closed(at, epoch);
    }

    /// The controller closed a host's connection, or said that it is over.
    fn closed(&mut self, at: usize, epoch: u32) {
        if !self.hub.lock().connected(at, epoch) {
            return;
        }
        if let Some(mut connection) = self.hosts[at].connection.take() {
            connection.closed();
        }
        let hub = &mut *self.hub.lock();
        hub.disconnect(at);
        self.hosts[at].disconnected(hub);
    }

    /// Compares both copies, and lets the judges know what is on the disks.
    fn look_at_disks(&mut self) -> Result<(), String> {
        let hub = self.hub.lock();
        for (at, lun) in self.settings.luns.iter().enumerate() {
            let whole = BlockRange::new(0, lun.blocks).ok_or("a LUN too large")?;
            let copies = SIDES.map(|side| hub.disks[side.index()].volumes[at].read(whole));
            let held = content::pieces(&copies[lun.main.index()], 0);
            judge::whole::check(&self.history, lun.number, &held).map_err(|torn| torn.to_string())?;
            if lun.mirror {
                let difference =
                    judge::copies::first_difference(&copies[0][..], &copies[1][..], whole.bytes());
                if let Ok(Some(byte)) = difference {
                    let block = byte / 512;
                    let seen = SIDES.map(|side| {
                        content::pieces(&copies[side.index()][(block * 512) as usize..][..512], block)[0].seen
                    });
                    return Err(format!("LUN {}: the copies differ at block {block}: {seen:?}", lun.number));
                }
            }
            let id = self.history.invoke(
                u32::MAX,
                lun.number,
                Kind::Read,
                vec![Extent { start: 0, blocks: lun.blocks }],
            );
            self.history.end(id, Outcome::Read(content::pieces(&copies[lun.main.index()], 0)));
        }
        Ok(())
    }
}
