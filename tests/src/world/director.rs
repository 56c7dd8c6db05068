//! Makes the faults of a run happen, mends them, and watches how the pairs stand.

use core::time::Duration;

use controller::appliance::{CONTROL_KEY, ControlRecord};
use controller::command::LunIndex;
use controller::pair::{PairStatus, Role, Service};
use controller::plan::Side;
use controller::time::Time;
use protocol::block::BlockRange;

use super::disk::Trouble;
use super::events::Memory;
use super::faults::{Fault, KINDS, Kind, MET, Met, When};
use super::files::Files;
use super::hub::{Event, Hub};
use super::settings::NAMES;
use super::{SIDES, Simulation, TICK, unit};
use crate::judge;
use crate::workload::content;

/// Until a host hears that the machine it talked to has lost power.
const UNHEARD_MAX_MS: u64 = 1_500;

/// A fault that waits for a status that does not come happens anyway.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a fault waits for the record it was meant for; then it takes the next one.
const RECORD_PATIENCE: Duration = Duration::from_secs(3);

/// From the last mending until every pair must be DUPLEX again.
pub(super) const MENDING_MAX: Duration = Duration::from_secs(20);

/// What ends a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mending {
    Restart(Side),
    Resume(Side),
    Reconnect,
    Repair(Side),
    PutRight(Side),
}

/// The state of the direction of a run.
#[derive(Debug, Default)]
pub(super) struct Director {
    next: usize,
    /// Since when the next fault waits for its moment.
    since: Option<Time>,
    /// When it happens.
    due: Option<Time>,
    /// Records still to be let through, and those under way when last looked at.
    records: u64,
    writing: u32,
    pub(super) mendings: Vec<(Time, Mending)>,
    /// When everything was mended and every fault was over.
    calm: Option<Time>,
    /// By LUN and controller: what is known of each copy.
    copies: Vec<[Copy; 2]>,
    /// LUNs that may lose what was not durable.
    may_lose: Vec<bool>,
    /// By LUN and controller: who has what was last answered of its events in memory.
    pub(super) memory: Vec<[Memory; 2]>,
    /// By controller: how its files are not what they should be.
    pub(super) files: [Files; 2],
    /// What was to be whole on a copy and was not when its controller started.
    torn: Option<String>,
}

/// What a copy has been through since the pair was last DUPLEX.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Copy {
    /// Its controller ended, or its disk failed.
    forgot: bool,
    /// It lost power.
    lost_power: bool,
}

impl Director {
    pub(super) fn new(luns: usize) -> Self {
        Self {
            copies: vec![Default::default(); luns],
            may_lose: vec![false; luns],
            memory: vec![Default::default(); luns],
            ..Self::default()
        }
    }
}

impl Simulation {
    /// Whether all faults are over, and everything is mended.
    pub(super) fn is_calm(&self) -> bool {
        self.director.calm.is_some() || !self.settings.has_trouble()
    }

    /// What is due now happens.
    pub(super) fn conduct(&mut self, now: Time) -> Result<(), String> {
        if let Some(torn) = self.director.torn.take() {
            return Err(torn);
        }
        while let Some(at) = self.director.mendings.iter().position(|(time, _)| *time <= now) {
            let (_, mending) = self.director.mendings.remove(at);
            self.mend(mending);
        }
        if self.director.may_lose.contains(&true) {
            self.look_for_losses();
        }
        if !self.play(now)? {
            return Ok(());
        }
        let Some(fault) = self.settings.faults.get(self.director.next).copied() else {
            if self.director.mendings.is_empty() && self.director.calm.is_none() {
                self.director.calm = Some(now);
            }
            return self.check_mended(now);
        };
        if self.director.due.is_none() && self.is_moment(&fault, now) {
            self.director.due = Some(now + fault.after);
        }
        if self.director.due.is_some_and(|due| due <= now) {
            self.director.due = None;
            self.director.since = None;
            self.director.next += 1;
            self.inject(&fault, now);
        }
        Ok(())
    }

    fn is_moment(&mut self, fault: &Fault, now: Time) -> bool {
        let since = *self.director.since.get_or_insert(now);
        let patience = now.since(since) >= PATIENCE && now.0 > PATIENCE.as_nanos() as u64 * 2;
        match fault.when {
            When::Settled => self.began.is_some() && (patience || self.is_settled()),
            When::Is(met) => patience || self.met().contains(&met),
            When::Event(action) => patience || (self.began.is_some() && self.is_under_way(action)),
            When::Record(skipped) => {
                let writing = self.hub.lock().processes[fault.side.index()].writing;
                let more = writing.saturating_sub(self.director.writing);
                self.director.writing = writing;
                self.director.records += u64::from(more);
                // Where there are not so many, any will do.
                let enough = self.director.records > skipped || now.since(since) >= RECORD_PATIENCE;
                patience || (writing > 0 && enough)
            }
        }
    }

    /// How the mirrored LUNs stand, each status once.
    fn met(&self) -> Vec<Met> {
        let luns = self.settings.luns.iter().enumerate().filter(|(_, lun)| lun.mirror);
        let met = luns.map(|(at, _)| self.met_by(at)).collect::<Vec<_>>();
        MET.into_iter().filter(|status| met.contains(status)).collect()
    }

    fn met_by(&self, lun: usize) -> Met {
        let up = |side: &Side| !self.hub.lock().processes[side.index()].down;
        let places =
            SIDES.into_iter().filter(up).filter_map(|side| self.place(side, lun)).collect::<Vec<_>>();
        if places.iter().any(|(.., turning)| *turning) {
            Met::Turn
        } else if places.iter().any(|(_, status, ..)| *status == PairStatus::Copy) {
            Met::Copy
        } else if places.len() == 2 && places.iter().all(|(_, status, ..)| *status == PairStatus::Duplex) {
            Met::Duplex
        } else {
            Met::Alone
        }
    }

    pub(super) fn place(&self, side: Side, lun: usize) -> Option<(Role, PairStatus, Service, bool)> {
        self.units[side.index()].controller.place(LunIndex(lun as u16))
    }

    /// Every mirrored LUN is DUPLEX on both sides, under its preferred main, and nothing is about to change.
    pub(super) fn is_settled(&self) -> bool {
        self.settings.luns.iter().enumerate().all(|(at, lun)| {
            let main = if lun.mirror { self.met_by(at) == Met::Duplex } else { true };
            let service = if lun.mirror { Service::Mirrored } else { Service::Alone };
            let up = !self.hub.lock().processes[lun.main.index()].down;
            let place = self.place(lun.main, at);
            main && up && place.is_some_and(|(role, _, served, _)| role == Role::Main && served == service)
        })
    }

    fn check_mended(&mut self, now: Time) -> Result<(), String> {
        let late = self.director.calm.is_some_and(|calm| now.since(calm) > MENDING_MAX);
        if late && !self.settled_once {
            self.settled_once = self.is_settled();
            if !self.settled_once {
                return Err(format!(
                    "everything is mended, but not every pair is DUPLEX again: {}",
                    self.stuck()
                ));
            }
        }
        Ok(())
    }

    fn inject(&mut self, fault: &Fault, now: Time) {
        let row = KINDS.iter().position(|kind| *kind == fault.kind).unwrap_or(0);
        let met = self.met();
        {
            let hub = &mut *self.hub.lock();
            for status in &met {
                let column = MET.iter().position(|other| other == status).unwrap_or(0);
                hub.report.met[row][column] += 1;
            }
            hub.faults += 1;
            hub.trace.event(hub.now().0, format_args!("FAULT {fault:?} meets {met:?}"));
        }
        let side = fault.side;
        let until = now + fault.lasts;
        self.note_caught(fault);
        let begun = self.now();
        self.service.fault_begins(begun);
        if !matches!(fault.kind, Kind::Kill | Kind::PowerLoss | Kind::Both) {
            self.doubt_memory();
        }
        match fault.kind {
            Kind::Kill | Kind::PowerLoss => {
                self.end(side, fault.kind == Kind::PowerLoss);
                self.meanwhile(side, fault.meanwhile, until);
                self.mend_at(until, Mending::Restart(side));
            }
            Kind::Both => {
                for side in SIDES {
                    let (power, late) = {
                        let random = &mut self.hub.lock().random;
                        (random.percent(70), random.below(2_000))
                    };
                    self.end(side, power);
                    self.mend_at(until + Duration::from_millis(late), Mending::Restart(side));
                }
            }
            Kind::Pause => {
                let process = &mut self.hub.lock().processes[side.index()];
                process.paused = (!process.down).then_some(until);
                self.director.mendings.push((until, Mending::Resume(side)));
            }
            Kind::CutOneWay => {
                self.hub.lock().cut_off(&[side]);
                self.mend_at(until, Mending::Reconnect);
            }
            Kind::CutBothWays => {
                self.hub.lock().cut_off(&SIDES);
                self.mend_at(until, Mending::Reconnect);
            }
            Kind::HalfOpen => {
                self.hub.lock().half_open(side);
            }
            Kind::DiskError => self.trouble(side, Trouble::Io, until),
            Kind::DiskFull => self.trouble(side, Trouble::Full, until),
            Kind::FlushFails => self.trouble(side, Trouble::Flush, until),
            Kind::Silence => self.trouble(side, Trouble::Silent, until),
            Kind::Stall => {
                let process = &mut self.hub.lock().processes[side.index()];
                process.stalled = (!process.down).then_some(until);
                self.director.mendings.push((until, Mending::Resume(side)));
            }
        }
    }

    fn trouble(&mut self, side: Side, trouble: Trouble, until: Time) {
        let life = self.hub.lock().processes[side.index()].life;
        self.service.doubt(side, life);
        self.hub.lock().disks[side.index()].trouble = Some(trouble);
        self.note_failure(side, false);
        self.mend_at(until, Mending::Repair(side));
    }

    pub(super) fn mend_at(&mut self, at: Time, mending: Mending) {
        self.director.mendings.push((at, mending));
    }

    fn mend(&mut self, mending: Mending) {
        {
            let hub = &mut *self.hub.lock();
            hub.trace.event(hub.now().0, format_args!("MENDS {mending:?}"));
        }
        match mending {
            Mending::Restart(side) => self.restart(side),
            Mending::Resume(side) => {
                self.service.excuse();
                let process = &mut self.hub.lock().processes[side.index()];
                (process.paused, process.stalled) = (None, None);
            }
            Mending::Reconnect => self.hub.lock().heal_interlink(),
            Mending::PutRight(side) => self.put_right(side),
            Mending::Repair(side) => {
                self.service.excuse();
                let trouble = self.hub.lock().disks[side.index()].trouble.take();
                let peer_alone = |lun| {
                    self.place(side.peer(), lun)
                        .is_some_and(|(role, _, service, _)| role == Role::Main && service == Service::Alone)
                };
                let mut luns = self.settings.luns.iter().enumerate().filter(|(_, lun)| lun.mirror);
                let left = trouble == Some(Trouble::Silent) && luns.any(|(lun, _)| peer_alone(lun));
                self.hub.lock().report.silent_left += u64::from(left);
                // Room that is made is noticed; who repairs a disk starts its controller again.
                if trouble != Some(Trouble::Full) && !self.hub.lock().processes[side.index()].down {
                    self.end(side, false);
                    self.restart(side);
                }
            }
        }
    }

    /// A controller's process ends, or its machine loses power.
    pub(super) fn end(&mut self, side: Side, power: bool) {
        if self.hub.lock().processes[side.index()].down {
            if power {
                // Its process is gone already; now its page cache is too.
                let hub = &mut *self.hub.lock();
                hub.crash(side, power);
            }
            self.note_failure(side, power);
            return;
        }
        self.hub.lock().crash(side, power);
        self.forget_events(side);
        for host in &mut self.hosts {
            if host.settings.side == side && host.connection.is_some() {
                host.connection = None;
                let hub = &mut *self.hub.lock();
                let epoch = hub.wires[host.number].epoch;
                hub.disconnect(host.number);
                let late = if power { hub.random.below(UNHEARD_MAX_MS) } else { hub.random.below(20) };
                hub.after(Duration::from_millis(late), Event::HostLost(host.number, epoch));
            }
        }
        self.note_failure(side, power);
    }

    pub(super) fn restart(&mut self, side: Side) {
        if !self.hub.lock().processes[side.index()].down {
            return;
        }
        self.hub.lock().processes[side.index()].down = false;
        self.director.memory.iter_mut().for_each(|memory| memory[side.index()] = Memory::Perhaps);
        self.service.restarted(side);
        self.units[side.index()] = unit(self.plan(side), &self.hub, side);
        self.note_lost(side);
        self.forget_single_events(side);
        self.look_for_torn(side);
        let controller = &self.units[side.index()].controller;
        self.settings.credit_bytes.iter().for_each(|bytes| controller.set_credit(*bytes));
        controller.start();
        let hub = &mut *self.hub.lock();
        hub.after(TICK, Event::Tick(side));
        hub.machine_back(side);
    }

    /// A controller starts: no write that is all or nothing is there in part on a copy of its that is whole.
    fn look_for_torn(&mut self, side: Side) {
        for (at, lun) in self.settings.luns.iter().enumerate() {
            let hub = self.hub.lock();
            let whole = if lun.mirror { members(&hub, &lun.name)[side.index()] } else { lun.main == side };
            if let (true, Some(blocks)) = (whole, BlockRange::new(0, lun.blocks)) {
                let bytes = hub.disks[side.index()].volumes[at].read(blocks);
                let judged = judge::whole::check(&self.history, lun.number, &content::pieces(&bytes, 0));
                self.director.torn = judged.err().map(|torn| torn.to_string()).or(self.director.torn.take());
            }
        }
    }

    /// A controller has ended, or its disk fails: whether some LUN may now lose what was not durable, because no
    /// copy that is whole is left in anyone's memory and one of them lost its.
    pub(super) fn note_failure(&mut self, side: Side, power: bool) {
        for (at, lun) in self.settings.luns.iter().enumerate() {
            let copies = &mut self.director.copies[at];
            copies[side.index()].forgot = true;
            copies[side.index()].lost_power |= power;
            let members = members(&self.hub.lock(), &lun.name);
            let of_members =
                || copies.iter().zip(members).filter(|(_, member)| *member).map(|(copy, _)| copy);
            if of_members().all(|copy| copy.forgot) && of_members().any(|copy| copy.lost_power) {
                self.director.may_lose[at] = true;
            }
        }
    }

    /// A controller has found its volumes: what a failed flush took is gone, as after a loss of power.
    fn note_lost(&mut self, side: Side) {
        for (at, lun) in self.settings.luns.iter().enumerate() {
            let hub = self.hub.lock();
            let copies = &mut self.director.copies[at];
            copies[side.index()].lost_power |= hub.disks[side.index()].volumes[at].lost;
            let members = members(&hub, &lun.name);
            let mut of_members = copies.iter().zip(members).filter(|(_, member)| *member);
            let lost = copies[side.index()].lost_power && members[side.index()];
            self.director.may_lose[at] |= lost && of_members.all(|(copy, _)| copy.forgot);
        }
    }

    /// A copy that has lost what was not durable is served from again, as it may: that is the loss.
    fn look_for_losses(&mut self) {
        for at in 0..self.director.may_lose.len() {
            if !self.director.may_lose[at] {
                continue;
            }
            let main = SIDES.into_iter().find(|side| {
                let served = |(role, _, service, _)| role == Role::Main && service != Service::Refused;
                self.director.copies[at][side.index()].lost_power
                    && !self.hub.lock().processes[side.index()].down
                    && self.place(*side, at).is_some_and(served)
            });
            let Some(main) = main else { continue };
            let Some(whole) = BlockRange::new(0, self.settings.luns[at].blocks) else { continue };
            let bytes = self.hub.lock().disks[main.index()].volumes[at].read(whole);
            let number = self.settings.luns[at].number;
            self.history.lose(number);
            self.history.restore(number, content::pieces(&bytes, 0));
            self.director.copies[at][main.index()].lost_power = false;
            self.hub.lock().report.losses += 1;
        }
    }

    /// At every tick: who is in step again, and that no two controllers are alone with one LUN.
    pub(super) fn watch_pairs(&mut self) -> Result<(), String> {
        for (at, lun) in self.settings.luns.iter().enumerate() {
            if !lun.mirror {
                continue;
            }
            let alone = SIDES.iter().all(|side| {
                let alone = |(role, _, service, _)| role == Role::Main && service == Service::Alone;
                !self.hub.lock().processes[side.index()].down && self.place(*side, at).is_some_and(alone)
            });
            if alone {
                return Err(format!(
                    "LUN {}: both controllers complete writes alone: two histories",
                    lun.number
                ));
            }
            let troubled = self.hub.lock().disks.iter().any(|disk| disk.trouble.is_some());
            let known = self.director.copies[at] != [Copy::default(); 2];
            if known && !troubled && self.met_by(at) == Met::Duplex {
                self.director.copies[at] = Default::default();
                self.director.may_lose[at] = false;
            }
        }
        Ok(())
    }
}

/// Whose copies of a LUN are whole by the newest generation that is durable.
pub(super) fn members(hub: &Hub, lun: &str) -> [bool; 2] {
    let mut newest = (0, 0b11);
    for (name, records) in NAMES.iter().zip(&hub.records) {
        let record = records.get(CONTROL_KEY).and_then(|record| ControlRecord::read(name, record).ok());
        for record in record.unwrap_or_default().groups {
            let generation = record.generation;
            if record.lun != lun || generation.number < newest.0 {
                continue;
            }
            let members = if generation.number == newest.0 {
                newest.1 & generation.members
            } else {
                generation.members
            };
            newest = (generation.number, members);
        }
    }
    [0, 1].map(|side| newest.1 & (1 << side) != 0)
}
