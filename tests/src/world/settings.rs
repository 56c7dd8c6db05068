//! What a simulated run is made of, drawn from its seed or set by a scenario.

use core::time::Duration;

use controller::plan::{LunPlan, Plan, Side};
use controller::volume::stack::VolumeId;

use super::faults::{self, Fault};
use super::script::Step;
use super::trace::LastEvents;
use crate::judge::reservations::Judge;
use crate::random::Random;
use crate::workload::events::Events;
use crate::workload::{Mix, Shape};

/// The names of the two controllers.
pub(super) const NAMES: [&str; 2] = ["alpha", "beta"];

/// Both controllers serve this target.
pub const IQN: &str = "iqn.2026-11.com.example:simulated";

/// How long something takes: most often about `usual`, now and then up to `longest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delay {
    /// Nine of ten take at most this.
    pub usual: Duration,
    /// None takes longer.
    pub longest: Duration,
}

impl Delay {
    /// At most `usual` microseconds, now and then up to `longest`.
    #[must_use]
    pub const fn micros(usual: u64, longest: u64) -> Self {
        Self { usual: Duration::from_micros(usual), longest: Duration::from_micros(longest) }
    }

    pub(super) fn draw(&self, random: &mut Random) -> Duration {
        let bound = if random.percent(90) { self.usual } else { self.longest };
        Duration::from_nanos(random.below(bound.as_nanos() as u64 + 1))
    }
}

/// One simulated host: one session with one controller.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The controller it is logged in to.
    pub side: Side,
    /// Its commands; each is drawn from one of these.
    pub shapes: Vec<Shape>,
    /// Commands in flight at most.
    pub depth: u64,
    /// Commands begun in each round.
    pub per_round: u64,
    /// What it offers at login.
    pub initial_r2t: bool,
    /// What it offers at login.
    pub immediate_data: bool,
    /// What it offers at login.
    pub digests: bool,
    /// FirstBurstLength and MaxBurstLength, in bytes.
    pub bursts_bytes: (u32, u32),
    /// How often it gives up something that is in flight, in percent of the times it hears something.
    pub gives_up_percent: u64,
    /// It does not ask whether its LUNs are ready before it begins.
    pub insists: bool,
    /// What it does to a LUN other than to its blocks.
    pub events: Option<Events>,
}

/// A simulated run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where all its chance comes from.
    pub seed: u64,
    /// The scenario it is, if it is not the run of the seed.
    pub scenario: Option<&'static str>,
    /// The LUNs.
    pub luns: Vec<LunPlan>,
    /// Bridges each controller opens.
    pub bridges: u16,
    /// The hosts.
    pub hosts: Vec<HostSettings>,
    /// From an event to the performance of its actions, and from one of them to the next.
    pub action: Delay,
    /// Hosts begin their commands in rounds, this far apart: within a round as fast as their depth allows.
    pub round: Duration,
    /// One way through the interlink.
    pub latency: Delay,
    /// What a bridge carries, in bytes a second.
    pub bridge_bytes_per_second: u64,
    /// One way between a host and its controller.
    pub host_latency: Delay,
    /// One piece of disk I/O.
    pub disk: Delay,
    /// Disk I/O done at once, in percent.
    pub inline_percent: u64,
    /// What a LUN may have of the peer's buffers in each class, in bytes; the product's own choice if `None`.
    pub credit_bytes: Option<u64>,
    /// The hosts begin commands for at least this long.
    pub at_least: Duration,
    /// And at least so many together.
    pub commands_min: u64,
    /// Hosts keep to their controller, whatever becomes of it.
    pub hosts_stay: bool,
    /// What goes wrong, one after another.
    pub faults: Vec<Fault>,
    /// The LUN, by its place, whose volumes alone are in trouble when a disk is, or are gone when volumes are removed;
    /// none: all.
    pub troubled: Option<usize>,
    /// What happens step by step, in a scenario that is written out.
    pub script: Vec<Step>,
    /// Print every event.
    pub print: bool,
    /// Keep the words of the last events.
    pub last: Option<LastEvents>,
}

/// Blocks of every simulated LUN: 4 MiB.
pub const LUN_BLOCKS: u64 = 8192;

pub(super) fn lun(number: u16, main: Side, mirror: bool, write_cache: bool) -> LunPlan {
    LunPlan {
        number,
        name: format!("lun{number}"),
        base: VolumeId(number),
        blocks: LUN_BLOCKS,
        main,
        mirror,
        group: None,
        write_cache,
        read_only: false,
        physical_block_exponent: 0,
        device: false,
        room: None,
    }
}

impl Settings {
    /// The run of a seed: three LUNs, one of them main on each side, one without a mirror; hosts on both sides.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let cached = random.percent(75);
        let luns = vec![
            lun(0, Side::First, true, true),
            lun(1, Side::Second, true, cached),
            lun(2, *random.pick(&[Side::First, Side::Second]), false, true),
        ];
        let shapes = luns.iter().map(|lun| shape(&mut random, lun.number)).collect::<Vec<_>>();
        let extra = random.between(0, 3);
        let mut hosts: Vec<HostSettings> =
            (0..4 + extra).map(|number| host(&mut random, number, &shapes)).collect();
        if seed % 5 == 3 {
            let events = Events { percent: random.between(5, 25), legacy: true, modes: true };
            hosts.iter_mut().for_each(|host| host.events = Some(events));
        }
        let slow_network = random.percent(30);
        let slow_disk = random.percent(30);
        Self {
            seed,
            scenario: None,
            luns,
            bridges: random.between(1, 4) as u16,
            hosts,
            action: if random.percent(50) { Delay::micros(20, 300) } else { Delay::micros(200, 8_000) },
            round: Duration::from_millis(500),
            latency: if slow_network { Delay::micros(2_000, 15_000) } else { Delay::micros(100, 2_000) },
            bridge_bytes_per_second: *random.pick(&[100_000_000, 1_000_000_000]),
            host_latency: Delay::micros(100, 2_000),
            disk: if slow_disk { Delay::micros(3_000, 30_000) } else { Delay::micros(150, 3_000) },
            inline_percent: *random.pick(&[0, 20, 80]),
            credit_bytes: if random.percent(20) { Some(65_536) } else { None },
            at_least: Duration::from_secs(5),
            commands_min: 200,
            hosts_stay: false,
            faults: Vec::new(),
            troubled: None,
            script: Vec::new(),
            print: false,
            last: None,
        }
    }

    /// The run of a seed with the faults of that seed.
    #[must_use]
    pub fn with_faults(seed: u64) -> Self {
        let mut settings = Self::of_seed(seed);
        settings.scenario = Some("faults");
        settings.faults = faults::of_seed(seed);
        // A reservation by RESERVE ends when its session does: that is judged where sessions end for no other reason.
        let events = settings.hosts.iter_mut().filter_map(|host| host.events.as_mut());
        events.for_each(|events| events.legacy = false);
        settings.at_least = Duration::from_secs(2);
        settings.commands_min = 60;
        settings
    }

    /// The run of a seed with the faults of that seed, where two LUNs, in three of ten runs all three, are in one
    /// group. In half of the runs a disk's trouble is that of one of their volumes alone.
    #[must_use]
    pub fn with_faults_in_a_group(seed: u64) -> Self {
        let mut settings = Self::with_faults(seed);
        settings.scenario = Some("faults-group");
        let mut random = Random::new(seed ^ 0x0067_726f_7570);
        let main = *random.pick(&[Side::First, Side::Second]);
        let together = if random.percent(30) { 3 } else { 2 };
        for lun in &mut settings.luns[..together] {
            (lun.main, lun.mirror, lun.group) = (main, true, Some("group".to_owned()));
        }
        settings.troubled = random.percent(50).then(|| random.below(together as u64) as usize);
        settings
    }

    /// The run of a seed on mirrored LUN 0 (main is the first controller) and LUN 1 (main is the second) with
    /// hosts of a scenario's own.
    #[must_use]
    pub fn scenario(name: &'static str, seed: u64, hosts: Vec<HostSettings>) -> Self {
        let mut settings = Self::of_seed(seed);
        settings.scenario = Some(name);
        settings.luns.truncate(2);
        settings.hosts = hosts;
        settings.at_least = Duration::from_secs(1);
        settings
    }

    /// A judge of events for each LUN, if any host begins one.
    pub(super) fn judges(&self) -> Vec<Judge> {
        let any = self.hosts.iter().any(|host| host.events.is_some());
        let luns = self.luns.iter().filter(|_| any);
        luns.map(|lun| Judge::new(lun.mirror && !self.has_trouble())).collect()
    }

    /// Whether anything goes wrong in this run.
    #[must_use]
    pub fn has_trouble(&self) -> bool {
        !self.faults.is_empty() || !self.script.is_empty()
    }

    /// The configuration of one controller.
    #[must_use]
    pub fn plan(&self, side: Side) -> Plan {
        let size = |lun: &LunPlan| (format!("lun.{}.size", lun.name), (lun.blocks * 512).to_string());
        let group = |lun: &LunPlan| Some((format!("lun.{}.group", lun.name), lun.group.clone()?));
        let luns = self.luns.iter();
        let shared = luns.flat_map(|lun| core::iter::once(size(lun)).chain(group(lun))).collect();
        Plan { side, names: NAMES.map(str::to_owned), luns: self.luns.clone(), shared, bridges: self.bridges }
    }
}

impl HostSettings {
    /// A host with Linux's offers at login.
    #[must_use]
    pub fn new(side: Side, shapes: Vec<Shape>, depth: u64, per_round: u64) -> Self {
        Self {
            side,
            shapes,
            depth,
            per_round,
            initial_r2t: false,
            immediate_data: true,
            digests: false,
            bursts_bytes: (262_144, 16_776_192),
            gives_up_percent: 0,
            insists: false,
            events: None,
        }
    }
}

/// Few blocks that everybody wants, or many.
fn shape(random: &mut Random, lun: u16) -> Shape {
    let (blocks, blocks_max) = *random.pick(&[(4, 4), (24, 16), (300, 128), (LUN_BLOCKS, 2048)]);
    Shape {
        lun,
        start: random.below(LUN_BLOCKS - blocks + 1),
        blocks,
        blocks_min: 1,
        blocks_max,
        mix: Mix::ALL,
    }
}

/// The first four hosts: two on each side, one of each with both mirrored LUNs.
fn host(random: &mut Random, number: u64, shapes: &[Shape]) -> HostSettings {
    let side = if number.is_multiple_of(2) { Side::First } else { Side::Second };
    let shapes = match number {
        0 | 1 => shapes[..2].to_vec(),
        2 | 3 => shapes.to_vec(),
        _ => vec![*random.pick(shapes)],
    };
    HostSettings {
        initial_r2t: random.percent(30),
        immediate_data: random.percent(80),
        digests: random.percent(30),
        bursts_bytes: *random.pick(&[(262_144, 16_776_192), (65_536, 262_144), (4096, 16_384)]),
        gives_up_percent: 3,
        ..HostSettings::new(side, shapes, random.between(1, 12), random.between(2, 10))
    }
}
