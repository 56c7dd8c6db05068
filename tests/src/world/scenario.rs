//! Runs made for one question each.

use core::time::Duration;

use controller::plan::Side;

use super::faults::{self, Fault, Kind, Meanwhile, When};
use super::settings::{Delay, HostSettings, LUN_BLOCKS, Settings};
use crate::random::Random;
use crate::workload::events::Events;
use crate::workload::{Mix, Shape};

/// 64 KiB in blocks.
const KIB_64: u64 = 128;

/// 1 MiB in blocks.
const MIB: u64 = 2048;

/// A LUN of which nobody writes anything, in blocks.
const RESERVED_BLOCKS: u64 = 64;

const READS_AND_WRITES: Mix = Mix { read: 50, write: 50, ..Mix::NONE };

/// A scenario: the run of a seed.
pub type Scenario = fn(u64) -> Settings;

/// All of them by name.
pub const ALL: [(&str, Scenario); 10] = [
    ("faults", Settings::with_faults),
    ("faults-group", Settings::with_faults_in_a_group),
    ("reservations", reservations_through_crashes),
    ("refused", peers_that_come_back_refused),
    ("parted", pairs_that_part_in_a_turn),
    ("torn-read", reads_beside_writes_of_one_range),
    ("compare-and-write", writes_across_compare_and_writes),
    ("credit", large_writes_forwarded_both_ways_with_tiny_credit),
    ("saturated", saturated_bridges),
    ("all-or-nothing", atomic_writes_through_crashes),
];

fn shape(lun: u16, blocks: u64, exactly: u64, mix: Mix) -> Shape {
    Shape { lun, start: 0, blocks, blocks_min: exactly, blocks_max: exactly, mix }
}

/// Hosts on both sides read and write the same 64 KiB of both LUNs, always all of it: no read may see parts of
/// two writes.
#[must_use]
pub fn reads_beside_writes_of_one_range(seed: u64) -> Settings {
    let shapes = vec![shape(0, KIB_64, KIB_64, READS_AND_WRITES), shape(1, KIB_64, KIB_64, READS_AND_WRITES)];
    let host = |side| HostSettings::new(side, shapes.clone(), 4, 20);
    let sides = [Side::First, Side::Second, Side::First, Side::Second];
    Settings { commands_min: 200, ..Settings::scenario("torn-read", seed, sides.map(host).to_vec()) }
}

/// Hosts on both sides compare and write, and write, the same few blocks: no write may get lost between the
/// comparison and the write of another.
#[must_use]
pub fn writes_across_compare_and_writes(seed: u64) -> Settings {
    let mix = Mix { read: 20, write: 30, compare_and_write: 50, ..Mix::NONE };
    let shapes = vec![shape(0, 2, 1, mix), shape(1, 3, 1, mix)];
    let host = |side| HostSettings::new(side, shapes.clone(), 4, 20);
    let sides = [Side::First, Side::Second, Side::First, Side::Second];
    Settings { commands_min: 300, ..Settings::scenario("compare-and-write", seed, sides.map(host).to_vec()) }
}

/// Both controllers forward many writes of 1 MiB to each other at once, with hardly any credit.
#[must_use]
pub fn large_writes_forwarded_both_ways_with_tiny_credit(seed: u64) -> Settings {
    let mix = Mix { write: 1, ..Mix::NONE };
    // The first controller's hosts write the LUN whose main is the second, and the other way round.
    let host = |side, lun| HostSettings::new(side, vec![shape(lun, LUN_BLOCKS, MIB, mix)], 16, 16);
    let hosts =
        vec![host(Side::First, 1), host(Side::Second, 0), host(Side::First, 1), host(Side::Second, 0)];
    Settings {
        credit_bytes: Some(4096),
        commands_min: 60,
        at_least: Duration::from_millis(100),
        round: Duration::from_secs(5),
        disk: Delay::micros(300, 5_000),
        latency: Delay::micros(100, 2_000),
        bridge_bytes_per_second: 1_000_000_000,
        ..Settings::scenario("credit", seed, hosts)
    }
}

/// Hosts on both sides reserve a LUN by PERSISTENT RESERVE OUT and do nothing else; controllers crash while they do.
/// Which service action is under way at the first crash, and what the crash is, goes through all pairs.
#[must_use]
pub fn reservations_through_crashes(seed: u64) -> Settings {
    let events = Events { percent: 100, legacy: false, modes: true };
    let shapes = vec![shape(0, 8, 8, Mix { read: 1, ..Mix::NONE })];
    let host = |side| HostSettings { events: Some(events), ..HostSettings::new(side, shapes.clone(), 1, 3) };
    let sides = [Side::First, Side::Second, Side::First, Side::Second];
    let mut settings = Settings::scenario("reservations", seed, sides.map(host).to_vec());
    settings.luns.truncate(1);
    settings.luns[0].blocks = RESERVED_BLOCKS;
    settings.hosts_stay = true;
    settings.commands_min = 60;
    settings.at_least = Duration::from_millis(300);
    settings.round = Duration::from_millis(50);
    settings.faults = faults::with_reservations(seed);
    settings
}

/// A controller ends and comes back, most often sooner than its lease has run out, with a changed configuration or
/// without its records: its peer has to refuse it, and to go on serving.
#[must_use]
pub fn peers_that_come_back_refused(seed: u64) -> Settings {
    of_few_hosts("refused", seed, faults::with_refusals(seed))
}

/// A disk fails, and while its copy leaves the pair the two lose each other: the main whose disk is well goes on.
#[must_use]
pub fn pairs_that_part_in_a_turn(seed: u64) -> Settings {
    of_few_hosts("parted", seed, faults::with_partings(seed))
}

fn of_few_hosts(name: &'static str, seed: u64, faults: Vec<Fault>) -> Settings {
    let mut settings = Settings { scenario: Some(name), faults, ..Settings::with_faults(seed) };
    settings.hosts.truncate(2);
    settings.hosts.iter_mut().for_each(|host| host.events = None);
    settings
}

/// Hosts on both sides write the same few blocks all or nothing, and overwrite parts of them, while controllers are
/// killed and machines lose power, together too: on no copy is one of them ever there in part. One LUN has no mirror,
/// so that nothing else makes good what a replay does.
#[must_use]
pub fn atomic_writes_through_crashes(seed: u64) -> Settings {
    let mix = Mix {
        read: 20,
        write: 30,
        write_atomic: 40,
        compare_and_write: 20,
        or_write: 10,
        unmap: 5,
        synchronize_cache: 5,
        ..Mix::NONE
    };
    let shape = |lun| Shape { lun, start: 0, blocks: 24, blocks_min: 1, blocks_max: 12, mix };
    let host = |side| HostSettings::new(side, vec![shape(0), shape(1), shape(2)], 4, 8);
    let sides = [Side::First, Side::Second, Side::First, Side::Second];
    let mut random = Random::new(seed ^ 0x7769_7468_6f75_7421);
    let mut fault = |kind| Fault {
        kind,
        side: *random.pick(&[Side::First, Side::Second]),
        when: When::Settled,
        after: Duration::from_micros(random.between(100_000, 700_000)),
        lasts: Duration::from_millis(random.between(20, 1_500)),
        meanwhile: Meanwhile::Nothing,
    };
    let faults = [Kind::Both, Kind::PowerLoss, Kind::Both, Kind::Kill, Kind::Both].map(&mut fault).to_vec();
    Settings {
        faults,
        luns: Settings::of_seed(seed).luns,
        commands_min: 100,
        round: Duration::from_millis(60),
        ..Settings::scenario("all-or-nothing", seed, sides.map(host).to_vec())
    }
}

/// Hosts saturate the bridges with writes of 1 MiB, so that a frame takes long to get through them.
#[must_use]
pub fn saturated_bridges(seed: u64) -> Settings {
    let mix = Mix { read: 10, write: 90, ..Mix::NONE };
    let host = |side| {
        let shapes = vec![shape(0, LUN_BLOCKS, MIB, mix), shape(1, LUN_BLOCKS, MIB, mix)];
        HostSettings::new(side, shapes, 4, 8)
    };
    Settings {
        bridges: 1,
        bridge_bytes_per_second: 6_000_000,
        commands_min: 60,
        at_least: Duration::from_secs(6),
        round: Duration::from_secs(2),
        latency: Delay::micros(100, 2_000),
        disk: Delay::micros(150, 3_000),
        action: Delay::micros(20, 300),
        ..Settings::scenario("saturated", seed, [Side::First, Side::Second].map(host).to_vec())
    }
}
