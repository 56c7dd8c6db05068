//! Hosts with two paths, as multipath hosts are: one that is refused or loses a connection uses the other controller
//! meanwhile. What a lost connection leaves open stays open in the history. Some hosts have one path only: they show
//! what each controller does.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Failure;
use super::met::{Code, Met};
use super::pair::IQN;
use crate::initiator::tcp::Session;
use crate::initiator::{Fault, Request, Settings, Tag};
use crate::judge::{History, OpId, Outcome};
use crate::random::Random;
use crate::workload::{Ended, Mix, Shape, Workload};

/// Blocks of one round's region.
pub const REGION_BLOCKS: u64 = 8192;

/// Its first blocks, where the hosts work; behind them is what becomes a hole.
pub(super) const WORKED_BLOCKS: u64 = REGION_BLOCKS - HOLE_BLOCKS;

/// Blocks that are written before a disaster and made a hole while the sub is away: 2 MiB, so that a resync, which
/// goes chunk by chunk, meets whole chunks of it.
pub(super) const HOLE_BLOCKS: u64 = 4096;

/// Blocks at its beginning that everyone fights for.
const CROWDED_BLOCKS: u64 = 24;

/// How long a host waits for a connection and its login.
const LOGIN_WITHIN: Duration = Duration::from_millis(700);

/// How long a path that was lost or refuses is left alone.
const PATH_REST: Duration = Duration::from_millis(100);

/// How long a host waits for answers before it looks for something else to do.
const GLANCE: Duration = Duration::from_millis(2);

/// A host that had no answer for this long sends on nevertheless, though slowly: what a stopped controller finds
/// in its sockets when it goes on was sent long after its peer had taken over.
const UNANSWERED: Duration = Duration::from_millis(200);

/// Between two commands that are sent nevertheless.
const NEVERTHELESS: Duration = Duration::from_millis(120);

/// Commands in flight of one host at most.
const IN_FLIGHT_MAX: usize = 48;

/// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE (SPC-4 5.15.2.7).
pub const UNAVAILABLE: Code = (0x02, 0x04, 0x0c);

/// The hosts: one per line, each with the path it prefers and whether it has the other one too.
const HOSTS: [(usize, bool); 6] = [(0, false), (1, false), (0, true), (1, true), (0, false), (1, false)];

/// What a host shows while it works.
#[derive(Debug, Default)]
struct Shown {
    good: AtomicU64,
    unavailable: AtomicU64,
}

/// Hosts at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Met, String>>>,
    history: Arc<Mutex<History>>,
    shown: Arc<Vec<Shown>>,
}

impl Load {
    /// Starts them in a region; `interval` is the mean time between two commands of one host.
    #[must_use]
    pub fn start(portals: [SocketAddr; 2], region: u64, interval: Duration, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let history = Arc::new(Mutex::new(History::new()));
        let shown: Arc<Vec<Shown>> = Arc::new(HOSTS.iter().map(|_| Shown::default()).collect());
        let mut random = Random::new(seed);
        let threads = (0..HOSTS.len())
            .map(|number| {
                let host = Host::new(number, portals, region, interval, random.fork(), &history, &shown);
                let stop = Arc::clone(&stop);
                thread::spawn(move || host.run(&stop))
            })
            .collect();
        Self { stop, threads, history, shown }
    }

    /// What the hosts have seen so far.
    pub(super) fn history(&self) -> &Mutex<History> {
        &self.history
    }

    /// Waits until every host of these controllers alone had this many more GOOD answers.
    pub fn wait_for_good(&self, sides: &[usize], count: u64) -> Result<(), Failure> {
        self.wait(sides, count, "GOOD answers to the hosts", |shown| &shown.good)
    }

    /// Waits until every host of this controller alone was told that it is not accessible there.
    pub fn wait_for_refusals(&self, side: usize) -> Result<(), Failure> {
        self.wait(&[side], 1, "NOT READY 04/0C to the hosts", |shown| &shown.unavailable)
    }

    fn wait(
        &self,
        sides: &[usize],
        count: u64,
        what: &str,
        counter: impl Fn(&Shown) -> &AtomicU64,
    ) -> Result<(), Failure> {
        let read = |number: usize| counter(&self.shown[number]).load(Ordering::Relaxed);
        let before: Vec<u64> = (0..HOSTS.len()).map(read).collect();
        let begun = Instant::now();
        let done = |number: usize| {
            let (path, both) = HOSTS[number];
            both || !sides.contains(&path) || read(number) >= before[number] + count
        };
        while !(0..HOSTS.len()).all(done) {
            if begun.elapsed() > PROGRESS_WITHIN || self.threads.iter().any(JoinHandle::is_finished) {
                let names: Vec<&str> = sides.iter().map(|side| super::NAMES[*side]).collect();
                let what = format!("{what} of {}", names.join(" and "));
                return Err(Failure::Never { what, waited: begun.elapsed(), seen: String::new() });
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Lets what is in flight end, and tells what they met.
    pub fn stop(self) -> Result<(History, Vec<Met>), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut met = Vec::new();
        for thread in self.threads {
            let told = thread.join().map_err(|_| Failure::Host("a host panicked".to_owned()))?;
            met.push(told.map_err(Failure::Host)?);
        }
        let history =
            Arc::into_inner(self.history).ok_or_else(|| Failure::Host("a host hangs".to_owned()))?;
        Ok((history.into_inner().unwrap_or_else(PoisonError::into_inner), met))
    }
}

/// Hosts that work get answers within this time.
const PROGRESS_WITHIN: Duration = Duration::from_secs(20);

/// The hosts that have only the path to `side`, of what all met.
pub fn only(met: &[Met], side: usize) -> impl Iterator<Item = &Met> {
    met.iter().zip(HOSTS).filter(move |(_, (path, both))| !both && *path == side).map(|(met, _)| met)
}

/// Where a round's hosts work.
pub(super) fn shapes(region: u64) -> [Shape; 2] {
    let start = region * REGION_BLOCKS;
    let rest = WORKED_BLOCKS - CROWDED_BLOCKS;
    [
        Shape { lun: 0, start, blocks: CROWDED_BLOCKS, blocks_min: 1, blocks_max: 16, mix: Mix::ALL },
        Shape {
            lun: 0,
            start: start + CROWDED_BLOCKS,
            blocks: rest,
            blocks_min: 1,
            blocks_max: 512,
            mix: Mix::ALL,
        },
    ]
}

/// One command under way.
struct Pending {
    workload: usize,
    id: Option<OpId>,
    begun: Instant,
}

/// One way to the LUN.
struct Path {
    portal: SocketAddr,
    session: Option<Session>,
    pending: BTreeMap<Tag, Pending>,
    /// Left alone until then.
    rests_until: Instant,
}

struct Host {
    number: usize,
    paths: [Path; 2],
    /// In the order of preference.
    order: Vec<usize>,
    workloads: Vec<Workload>,
    random: Random,
    history: Arc<Mutex<History>>,
    shown: Arc<Vec<Shown>>,
    depth: usize,
    /// How long it waits for an answer before it gives the connection up.
    patience: Duration,
    interval: Duration,
    next: Instant,
    last_answer: Instant,
    last_good: Option<Instant>,
    met: Met,
}

impl Host {
    fn new(
        number: usize,
        portals: [SocketAddr; 2],
        region: u64,
        interval: Duration,
        mut random: Random,
        history: &Arc<Mutex<History>>,
        shown: &Arc<Vec<Shown>>,
    ) -> Self {
        let now = Instant::now();
        let (preferred, both) = HOSTS[number];
        let path = |portal| Path { portal, session: None, pending: BTreeMap::new(), rests_until: now };
        let workload = |shape: &Shape, random| Workload::new(number as u32, *shape, random);
        Self {
            number,
            paths: portals.map(path),
            order: if both { vec![preferred, 1 - preferred] } else { vec![preferred] },
            workloads: shapes(region).iter().map(|shape| workload(shape, random.fork())).collect(),
            depth: random.between(2, 6) as usize,
            // Some wait for whatever comes, as a host that queues does.
            patience: Duration::from_millis(if number < 2 { 90_000 } else { random.between(4500, 9000) }),
            interval,
            next: now,
            last_answer: now,
            last_good: None,
            met: Met::default(),
            history: Arc::clone(history),
            shown: Arc::clone(shown),
            random,
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Met, String> {
        loop {
            let stopped = stop.load(Ordering::Relaxed);
            if stopped && self.in_flight() == 0 {
                return Ok(self.met);
            }
            if stopped || !self.may_begin() || !self.begin_one()? {
                self.collect()?;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.paths.iter().map(|path| path.pending.len()).sum()
    }

    fn may_begin(&self) -> bool {
        let now = Instant::now();
        let unanswered = now.saturating_duration_since(self.last_answer) > UNANSWERED;
        match self.in_flight() {
            in_flight if in_flight < self.depth => now >= self.next,
            in_flight => unanswered && in_flight < IN_FLIGHT_MAX && now >= self.next + NEVERTHELESS,
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the next command on the best path there is.
    fn begin_one(&mut self) -> Result<bool, String> {
        let Some(side) = self.usable_path()? else { return Ok(false) };
        let at = self.random.below(self.workloads.len() as u64) as usize;
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let (request, id) = self.workloads[at].next(&mut history);
        drop(history);
        self.next = Instant::now() + self.interval.mul_f64(self.random.between(1, 19) as f64 / 10.0);
        self.submit(side, request, at, id)?;
        Ok(true)
    }

    fn submit(&mut self, side: usize, request: Request, at: usize, id: Option<OpId>) -> Result<(), String> {
        let path = &mut self.paths[side];
        let Some(session) = &mut path.session else { return Ok(()) };
        let pending = Pending { workload: at, id, begun: Instant::now() };
        match session.submit(request) {
            Ok(tag) => drop(path.pending.insert(tag, pending)),
            // What was sent of it is not known: it stays open, as all of this connection do.
            Err(error) => {
                self.met.open += 1;
                self.lose(side, &error)?;
            }
        }
        Ok(())
    }

    fn usable_path(&mut self) -> Result<Option<usize>, String> {
        for side in self.order.clone() {
            if Instant::now() < self.paths[side].rests_until {
                continue;
            }
            if self.paths[side].session.is_some() {
                return Ok(Some(side));
            }
            let name = format!("iqn.1993-08.org.debian:host{}", self.number);
            let settings = Settings::linux(&name, IQN, (2 * self.number + side) as u16);
            match Session::connect_within(&self.paths[side].portal, settings, LOGIN_WITHIN) {
                Ok(session) => {
                    self.paths[side].session = Some(session);
                    return Ok(Some(side));
                }
                Err(error) => self.lose(side, &error)?,
            }
        }
        Ok(None)
    }

    /// The connection is gone: whatever was in flight on it stays open.
    fn lose(&mut self, side: usize, error: &io::Error) -> Result<(), String> {
        if error.get_ref().is_some_and(|inner| inner.is::<Fault>()) {
            return Err(format!("host {}: {error}", self.number));
        }
        let path = &mut self.paths[side];
        path.session = None;
        path.rests_until = Instant::now() + PATH_REST;
        let lost = std::mem::take(&mut path.pending);
        self.met.lost += 1;
        self.met.open += lost.len() as u64;
        let mut history = self.history();
        lost.values().filter_map(|pending| pending.id).for_each(|id| history.end(id, Outcome::Unknown));
        Ok(())
    }

    /// Takes the answers that are there.
    fn collect(&mut self) -> Result<(), String> {
        let mut idle = true;
        for side in 0..2 {
            let path = &mut self.paths[side];
            let Some(session) = path.session.as_mut().filter(|_| !path.pending.is_empty()) else { continue };
            idle = false;
            match session.completion_within(GLANCE) {
                Ok(Some((tag, response))) => {
                    let Some(pending) = path.pending.remove(&tag) else {
                        return Err(format!("host {}: an answer to nothing", self.number));
                    };
                    self.on_answer(side, &pending, &response)?;
                }
                Ok(None) => {
                    let oldest = path.pending.values().map(|pending| pending.begun.elapsed()).max();
                    if oldest > Some(self.patience) {
                        self.lose(side, &io::ErrorKind::TimedOut.into())?;
                    }
                }
                Err(error) => self.lose(side, &error)?,
            }
        }
        if idle {
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        side: usize,
        pending: &Pending,
        response: &crate::initiator::Response,
    ) -> Result<(), String> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.workloads[pending.workload].ended(&mut history, pending.id, response);
        let operation = || pending.id.map_or(String::new(), |id| history.operation(id).to_string());
        let code = response.code();
        let now = Instant::now();
        self.last_answer = now;
        match ended {
            Ended::Good if pending.id.is_some() => {
                self.met.good += 1;
                self.shown[self.number].good.fetch_add(1, Ordering::Relaxed);
                let last = self.last_good.replace(now).unwrap_or(now);
                self.met.pause = self.met.pause.max(now - last).max(now - pending.begun);
            }
            Ended::Good | Ended::Miscompare => {}
            // Nobody fills a disk, reserves or protects.
            Ended::Failed | Ended::Conflict | Ended::Protected => {
                return Err(format!(
                    "host {} at {}: {ended:?}, {code:02x?}, for {}",
                    self.number,
                    super::NAMES[side],
                    operation()
                ));
            }
            Ended::Unexpected(what) => {
                return Err(format!(
                    "host {} at {}: {what} for {}",
                    self.number,
                    super::NAMES[side],
                    operation()
                ));
            }
            Ended::Refused | Ended::Busy | Ended::Unknown | Ended::Aborted => {
                *self.met.codes.entry((side, code)).or_default() += 1;
                self.met.open += u64::from(ended == Ended::Unknown);
                if code == UNAVAILABLE {
                    self.shown[self.number].unavailable.fetch_add(1, Ordering::Relaxed);
                }
                // A unit attention says nothing about the path.
                if code.0 != 0x06 {
                    self.paths[side].rests_until = now + PATH_REST;
                }
            }
        }
        Ok(())
    }
}
