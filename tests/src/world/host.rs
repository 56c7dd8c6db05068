//! A simulated host: an initiator with its workloads, one session, and what it waits for.

use std::collections::BTreeMap;

use bytes::BytesMut;
use controller::plan::Side;
use controller::time::Time;
use target::frontend::HostConnection;

use super::hub::{Event as Happening, Hub};
use super::reserving::Reserving;
use super::script::{Ask, Function};
use super::settings::{Delay, HostSettings, IQN, LUN_BLOCKS};
use super::side::SimWorld;
use crate::initiator::pdu::Digests;
use crate::initiator::reservation::host_name;
use crate::initiator::{Cdb, Event, Fault, Initiator, Request, Settings as Offers, Tag};
use crate::judge::caching::Moment;
use crate::judge::reservations::AskId;
use crate::judge::{Extent, History, OpId};
use crate::random::Random;
use crate::workload::content::Mark;
use crate::workload::{Ended, Workload};

/// Until a host that was refused tries again.
const RETRY: Delay = Delay::micros(20_000, 60_000);

/// No command has this tag.
const NO_TAG: Tag = 0;

/// Blocks of one read of the last look at everything.
const LAST_LOOK_BLOCKS: u64 = 2048;

/// What a host is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Not logged in.
    Away,
    /// Asks its LUNs whether they are ready.
    Asking,
    /// Works.
    Working,
    /// Asks what the reservations are.
    Inspecting,
    /// Ends all of them.
    Sweeping,
    /// Reads everything once more.
    LookingBack,
    /// Has asked for the end of its session.
    LoggingOut,
    /// Has nothing left to do.
    Done,
}

/// A command in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) workload: usize,
    pub(super) id: Option<OpId>,
    pub(super) begun: Time,
    /// Under which name it asked leave.
    pub(super) asked: Option<AskId>,
    /// For SYNCHRONIZE CACHE, and a MODE SELECT that ends the write cache: its tick in the history.
    pub(super) flush: Option<u64>,
    /// The write cache when it began.
    pub(super) caching: Option<Moment>,
}

pub(super) struct Host {
    pub(super) number: usize,
    pub(super) settings: HostSettings,
    pub(super) phase: Phase,
    pub(super) connection: Option<HostConnection<SimWorld>>,
    /// What the controller's end has not cut into PDUs yet.
    pub(super) input: BytesMut,
    pub(super) initiator: Initiator,
    pub(super) random: Random,
    pub(super) workloads: Vec<Workload>,
    pub(super) pending: BTreeMap<Tag, Pending>,
    /// What had no answer when a connection was lost, with the controller it went to and which of its runs that was.
    pub(super) unsettled: Vec<(OpId, Side, u32)>,
    /// Task management functions in flight, and the commands each gives up.
    pub(super) functions: BTreeMap<Tag, (Function, Vec<Tag>)>,
    /// LUNs not known to be ready.
    pub(super) asking: usize,
    /// The round the quota belongs to, and what is left of it.
    round: u64,
    quota: u64,
    /// What is left to look at, by workload.
    pub(super) to_look_at: Vec<(usize, Extent)>,
    /// It was refused and asks again only after a while.
    pub(super) waits: bool,
    /// It has a path to the other controller too.
    pub(super) may_move: bool,
    /// This path refuses: it will take the other one.
    pub(super) takes_other_path: bool,
    /// The last command of a script that was sent, and how it ended.
    pub(super) last: Option<(Tag, Option<OpId>)>,
    pub(super) last_end: Option<Ended>,
    pub(super) last_ask: Option<Ask>,
    /// The sense key and code of the last answer to a script's command.
    pub(super) last_code: Option<(u8, u8, u8)>,
    /// Between which LUNs a script's EXTENDED COPY copies.
    pub(super) naas: [u64; 2],
    pub(super) reserving: Reserving,
    /// The last write of a script.
    pub(super) last_write: Option<(OpId, Extent)>,
}

impl Host {
    pub(super) fn new(number: usize, settings: HostSettings, mut random: Random) -> Self {
        let workload = |shape| Workload::new(number as u32, shape, random.fork());
        let workloads: Vec<Workload> = settings.shapes.clone().into_iter().map(workload).collect();
        Self {
            number,
            phase: Phase::Away,
            connection: None,
            input: BytesMut::new(),
            initiator: Initiator::new(offers(number, &settings)),
            random: random.fork(),
            asking: workloads.len(),
            workloads,
            pending: BTreeMap::new(),
            unsettled: Vec::new(),
            functions: BTreeMap::new(),
            round: 0,
            quota: 0,
            to_look_at: Vec::new(),
            waits: false,
            may_move: false,
            takes_other_path: false,
            last: None,
            last_end: None,
            last_ask: None,
            last_code: None,
            naas: [0; 2],
            reserving: Reserving::default(),
            last_write: None,
            settings,
        }
    }

    /// It takes the other path when this one fails.
    pub(super) fn use_both_paths(&mut self) {
        self.may_move = true;
    }

    /// Commands in flight.
    pub(super) fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// When the oldest command in flight began.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.pending.values().map(|pending| pending.begun).min()
    }

    /// A new connection: log in.
    pub(super) fn connected(&mut self, hub: &mut Hub) {
        self.initiator = Initiator::new(offers(self.number, &self.settings));
        self.phase = Phase::Away;
        self.input.clear();
        self.flush(hub);
    }

    /// The connection is gone, or the host gives it up: what is in flight will never be answered. It goes on by
    /// this controller or the other one.
    pub(super) fn disconnected(&mut self, hub: &mut Hub) {
        let side = self.settings.side;
        let life = hub.processes[side.index()].life;
        self.unsettled.extend(self.pending.values().filter_map(|pending| Some((pending.id?, side, life))));
        if self.takes_other_path || (self.may_move && self.random.percent(40)) {
            self.settings.side = self.settings.side.peer();
        }
        self.takes_other_path = false;
        self.waits = false;
        hub.report.unknown += self.pending.len() as u64;
        self.lose_events(hub);
        self.pending.clear();
        self.functions.clear();
        // Tags begin anew in the next session.
        self.last = self.last.map(|(_, id)| (NO_TAG, id));
        if self.phase == Phase::Done {
            return;
        }
        self.phase = Phase::Away;
        self.asking = self.workloads.len();
        self.later(hub);
    }

    pub(super) fn later(&mut self, hub: &mut Hub) {
        let delay = RETRY.draw(&mut self.random);
        hub.after(delay, Happening::Host(self.number));
    }

    pub(super) fn flush(&mut self, hub: &mut Hub) {
        let bytes = self.initiator.output();
        hub.send_to_target(self.number, &bytes);
    }

    fn send(
        &mut self,
        hub: &mut Hub,
        request: Request,
        workload: usize,
        id: Option<OpId>,
        flush: Option<u64>,
    ) -> Tag {
        let asked = self.ask_leave(hub, &request, id);
        let tag = self.initiator.command(request);
        self.insert_pending(hub, tag, workload, id, asked, flush);
        tag
    }

    /// Sends what changes or tells the state of a LUN: leave is part of what it asks.
    pub(super) fn send_event(
        &mut self,
        hub: &mut Hub,
        request: Request,
        workload: usize,
        flush: Option<u64>,
    ) -> Tag {
        let tag = self.initiator.command(request);
        self.insert_pending(hub, tag, workload, None, None, flush);
        tag
    }

    fn insert_pending(
        &mut self,
        hub: &mut Hub,
        tag: Tag,
        workload: usize,
        id: Option<OpId>,
        asked: Option<AskId>,
        flush: Option<u64>,
    ) {
        let caching = hub.caching(self.settings.shapes[workload].lun).map(|caching| caching.moment());
        self.pending.insert(tag, Pending { workload, id, begun: hub.now(), asked, flush, caching });
    }

    /// Begins what may begin now.
    pub(super) fn proceed(&mut self, hub: &mut Hub, history: &mut History) {
        match self.phase {
            Phase::Away | Phase::LoggingOut | Phase::Done => {}
            Phase::Asking => self.ask(hub),
            Phase::Working => {
                self.work(hub, history);
                self.change_its_mind(hub);
            }
            Phase::Inspecting | Phase::Sweeping => self.sweep(hub, history),
            Phase::LookingBack => self.look_back(hub, history),
        }
        self.flush(hub);
    }

    /// TEST UNIT READY to every LUN, one after another, until each is ready.
    fn ask(&mut self, hub: &mut Hub) {
        if let Some(next) = self.asking.checked_sub(1)
            && self.pending.is_empty()
            && !self.waits
        {
            let lun = self.settings.shapes[next].lun;
            let request = Request { lun, cdb: Cdb::test_unit_ready(), out: Vec::new(), in_bytes: 0 };
            self.send(hub, request, next, None, None);
        }
    }

    fn work(&mut self, hub: &mut Hub, history: &mut History) {
        while self.quota > 0 && (self.pending.len() as u64) < self.settings.depth {
            self.quota -= 1;
            if self.begin_some_event(hub, history)
                || self.settings.events.is_some_and(|events| events.percent == 100)
            {
                continue;
            }
            let workload = self.random.below(self.workloads.len() as u64) as usize;
            let (request, id) = self.workloads[workload].next(history);
            let flushes = matches!(request.cdb.0[0], 0x35 | 0x91);
            let flush = flushes.then(|| history.begin_flush());
            self.send(hub, request, workload, id, flush);
        }
    }

    /// Sends a command of a script.
    pub(super) fn ask_for(&mut self, hub: &mut Hub, history: &mut History, ask: Ask) -> Result<(), String> {
        if self.phase != Phase::Working {
            return Err(format!("host {} is not ready for {ask:?}", self.number));
        }
        let workload = &mut self.workloads[0];
        let some = |(request, id)| (request, Some(id));
        let (request, id) = match ask {
            Ask::Synchronize => return self.synchronize(hub, history),
            Ask::Sanitize => (workload.sanitize_of(history, LUN_BLOCKS), None),
            Ask::Read(extent) => some(workload.read_of(history, extent)),
            Ask::Write(extent) => some(workload.write_through(history, extent, false)),
            Ask::CompareAndWrite(lba) => some(workload.compare_and_write_of(history, lba, Mark::Zeros)),
            Ask::CopyZeros(extent) => some(workload.copy_of_zeros(history, extent, self.naas)),
        };
        let write = match ask {
            Ask::Write(extent) => Some(extent),
            Ask::CompareAndWrite(start) => Some(Extent { start, blocks: 1 }),
            Ask::Read(_) | Ask::Synchronize | Ask::Sanitize | Ask::CopyZeros(_) => None,
        };
        self.last_write = id.zip(write).or(self.last_write);
        self.last_end = None;
        self.last_code = None;
        self.last_ask = Some(ask);
        let tag = self.send(hub, request, 0, id, None);
        self.last = Some((tag, id));
        self.flush(hub);
        Ok(())
    }

    fn synchronize(&mut self, hub: &mut Hub, history: &mut History) -> Result<(), String> {
        let lun = self.settings.shapes[0].lun;
        let request = Request { lun, cdb: Cdb::synchronize_cache_10(), out: Vec::new(), in_bytes: 0 };
        let begun = history.begin_flush();
        self.last_end = None;
        self.last_ask = Some(Ask::Synchronize);
        let tag = self.send(hub, request, 0, None, Some(begun));
        self.last = Some((tag, None));
        self.flush(hub);
        Ok(())
    }

    /// A round begins.
    pub(super) fn begin_round(&mut self, round: u64) {
        if self.phase == Phase::Working && self.round < round {
            self.round = round;
            self.quota = self.settings.per_round;
        }
    }

    /// The work is over: what is in flight ends, then every region is read once more.
    pub(super) fn begin_look_back(&mut self) {
        self.phase = Phase::LookingBack;
        self.quota = 0;
        for (workload, shape) in self.settings.shapes.iter().enumerate() {
            let mut start = shape.start;
            let end = shape.start + shape.blocks;
            while start < end {
                let blocks = LAST_LOOK_BLOCKS.min(end - start);
                self.to_look_at.push((workload, Extent { start, blocks }));
                start += blocks;
            }
        }
    }

    fn look_back(&mut self, hub: &mut Hub, history: &mut History) {
        if !self.pending.is_empty() {
            return;
        }
        match self.to_look_at.last() {
            None => self.phase = Phase::Done,
            Some((workload, extent)) => {
                let (request, id) = self.workloads[*workload].read_of(history, *extent);
                self.send(hub, request, *workload, Some(id), None);
            }
        }
    }

    /// Bytes from the controller.
    pub(super) fn receive(
        &mut self,
        hub: &mut Hub,
        history: &mut History,
        bytes: &[u8],
    ) -> Result<(), String> {
        self.initiator.input(bytes).map_err(|fault: Fault| format!("host {}: {fault}", self.number))?;
        while let Some(event) = self.initiator.event() {
            if matches!(event, Event::LoggedIn) {
                self.settle(hub, history);
            }
            match event {
                Event::LoggedIn if self.settings.insists => self.phase = Phase::Working,
                Event::LoggedIn => self.phase = Phase::Asking,
                Event::LoginFailed { class: 3, detail: 1 } => {}
                Event::Completed { tag, response } => self.completed(hub, history, tag, &response)?,
                Event::TaskManagement { tag, response } => self.managed(hub, history, tag, response)?,
                Event::LoggedOut => self.logged_out(hub, history),
                other => return Err(format!("host {}: {other:?}", self.number)),
            }
        }
        self.proceed(hub, history);
        Ok(())
    }
}

fn offers(number: usize, settings: &HostSettings) -> Offers {
    let name = host_name(number as u32);
    Offers {
        first_cmd_sn: u32::MAX - 20,
        initial_r2t: settings.initial_r2t,
        immediate_data: settings.immediate_data,
        first_burst_bytes: settings.bursts_bytes.0,
        max_burst_bytes: settings.bursts_bytes.1,
        max_outstanding_r2t: 1 + number as u32 % 3,
        receive_segment_bytes: if number % 3 == 2 { 8192 } else { 262_144 },
        digests: Digests { header: settings.digests, data: settings.digests },
        ..Offers::linux(&name, IQN, number as u16)
    }
}
