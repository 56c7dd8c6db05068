//! The faults of a run, drawn from its seed: what happens, to whom, when, and for how long.

use core::time::Duration;

use controller::lun::DISK_SILENCE_MAX;
use controller::plan::Side;

use crate::judge::reservations::state::{ACTIONS, Action};
use crate::random::Random;

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A controller's process is killed; what it wrote stays in the page cache.
    Kill,
    /// A controller's machine loses power.
    PowerLoss,
    /// Both end at once, each by a kill or a power loss.
    Both,
    /// A controller stands still.
    Pause,
    /// Nothing from one controller reaches the other.
    CutOneWay,
    /// The interlink carries nothing.
    CutBothWays,
    /// One end of one connection is reset and the other does not know.
    HalfOpen,
    /// A disk reads and writes no more.
    DiskError,
    /// A disk is full.
    DiskFull,
    /// A disk's flushes fail.
    FlushFails,
    /// A disk stands still.
    Stall,
    /// The volumes of a disk stand still for longer than a copy may.
    Silence,
}

/// All kinds, in the order of the table.
pub const KINDS: [Kind; 12] = [
    Kind::Kill,
    Kind::PowerLoss,
    Kind::Both,
    Kind::Pause,
    Kind::CutOneWay,
    Kind::CutBothWays,
    Kind::HalfOpen,
    Kind::DiskError,
    Kind::DiskFull,
    Kind::FlushFails,
    Kind::Stall,
    Kind::Silence,
];

/// How the pair stood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    /// DUPLEX.
    Duplex,
    /// COPY.
    Copy,
    /// SUSPENDED: one alone, or apart.
    Alone,
    /// About to go on under another generation.
    Turn,
}

/// All of them, in the order of the table.
pub const MET: [Met; 4] = [Met::Duplex, Met::Copy, Met::Alone, Met::Turn];

/// When a fault happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// When some LUN's pair stands like this.
    Is(Met),
    /// While a record is on its way to a controller's disk, after so many others.
    Record(u64),
    /// When every LUN is DUPLEX.
    Settled,
    /// While a PERSISTENT RESERVE OUT of this service action is under way.
    Event(Action),
}

/// What becomes of a controller's files while it is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meanwhile {
    /// Nothing.
    Nothing,
    /// Its mirrored volumes are removed.
    VolumesRemoved,
    /// Its configuration of the mirrored LUNs is changed. After [`REFUSED`] it is restarted with the right one.
    FileChanged,
    /// Its records are gone. After [`REFUSED`] it is restarted with them.
    RecordsGone,
}

/// For how long a controller runs that its peer has to refuse.
pub const REFUSED: Duration = Duration::from_secs(8);

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The kind of fault.
    pub kind: Kind,
    /// Whom it concerns; for a cut whose frames are lost, for both whose record is met.
    pub side: Side,
    /// The moment at which it comes.
    pub when: When,
    /// After that, how long it takes to happen.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What becomes of the controller's files while it is down.
    pub meanwhile: Meanwhile,
}

/// The longest any fault lasts.
pub const LASTS_MAX: Duration = Duration::from_secs(5);

/// The longest a disk stands still without its copy's leaving the pair.
const STALL_MAX: Duration = Duration::from_millis(2_000);

/// The shortest time of standing still, or of a cut, after which the two have certainly parted.
const PARTED_MIN: Duration = Duration::from_millis(2_500);

/// The shortest a disk is silent: by then its copy has left the pair.
const SILENCE_MIN: Duration = Duration::from_millis(DISK_SILENCE_MAX.as_millis() as u64 + 500);

/// The faults of a seed: one while all is well; in most seeds one more while the pair mends, half of the seeds a
/// crash between a record's write and its flush.
#[must_use]
pub fn of_seed(seed: u64) -> Vec<Fault> {
    let mut random = Random::new(seed ^ 0x6661_756c_7473);
    let side = |random: &mut Random| *random.pick(&[Side::First, Side::Second]);
    let first_side = side(&mut random);
    let mut faults = Vec::new();
    // Every kind meets every status: the kind of the fault under test and the status go through all pairs.
    let kind = KINDS[(seed / 2 % KINDS.len() as u64) as usize];
    let met = MET[(seed / 2 / KINDS.len() as u64 % MET.len() as u64) as usize];
    if seed.is_multiple_of(2) {
        // A crash while a record is written: at the first meeting, or after something that makes records.
        let after_a_fault = random.percent(80);
        // A first meeting has two records of each controller at least; a meeting after a fault some more.
        let at = When::Record(random.below(if after_a_fault { 5 } else { 2 }));
        if after_a_fault {
            let kind =
                *random.pick(&[Kind::Kill, Kind::PowerLoss, Kind::CutBothWays, Kind::DiskError, Kind::Pause]);
            let first = fault(&mut random, kind, first_side, When::Settled);
            // Long enough to be noticed: the two part, and meet again.
            faults.push(Fault { lasts: first.lasts.max(PARTED_MIN), ..first });
        }
        let kind = *random.pick(&[Kind::Kill, Kind::Kill, Kind::PowerLoss, Kind::PowerLoss, Kind::Both]);
        let side = side(&mut random);
        let crash = fault(&mut random, kind, side, at);
        faults.push(Fault { after: Duration::ZERO, ..crash });
        return faults;
    }
    if met == Met::Duplex {
        let mut only = fault(&mut random, kind, first_side, When::Settled);
        if matches!(kind, Kind::Kill | Kind::PowerLoss) && random.percent(40) {
            only.meanwhile = Meanwhile::VolumesRemoved;
        }
        faults.push(only);
    } else {
        // Something that brings the pair into the status, then the fault.
        let opening = match met {
            Met::Turn => *random.pick(&[Kind::Kill, Kind::PowerLoss, Kind::DiskError, Kind::DiskFull]),
            _ => {
                *random.pick(&[Kind::Kill, Kind::PowerLoss, Kind::CutBothWays, Kind::Pause, Kind::CutOneWay])
            }
        };
        faults.push(fault(&mut random, opening, first_side, When::Settled));
        let side = side(&mut random);
        faults.push(fault(&mut random, kind, side, When::Is(met)));
    }
    faults
}

/// The faults of a seed in which hosts reserve: a crash of one controller or both while a certain service action is
/// under way, and in two of three one more.
#[must_use]
pub fn with_reservations(seed: u64) -> Vec<Fault> {
    let mut random = Random::new(seed ^ 0x0072_6573_6572_7665);
    let crashes = [
        (Kind::Kill, Side::First),
        (Kind::Kill, Side::Second),
        (Kind::PowerLoss, Side::First),
        (Kind::PowerLoss, Side::Second),
        (Kind::Both, Side::First),
    ];
    let action = ACTIONS[(seed % ACTIONS.len() as u64) as usize];
    let (kind, side) = crashes[(seed / ACTIONS.len() as u64 % crashes.len() as u64) as usize];
    let mut faults = vec![fault(&mut random, kind, side, When::Event(action))];
    while random.percent(50) && faults.len() < 3 {
        let ((kind, side), action) = (*random.pick(&crashes), *random.pick(&ACTIONS));
        faults.push(fault(&mut random, kind, side, When::Event(action)));
    }
    faults.iter_mut().for_each(|fault| fault.lasts /= 2);
    faults
}

/// The faults of a seed in which a controller comes back with files for which its peer has to refuse it, most often
/// sooner than the lease that it held has run out; meanwhile something else may happen.
#[must_use]
pub fn with_refusals(seed: u64) -> Vec<Fault> {
    let mut random = Random::new(seed ^ 0x7265_6675_7365);
    let side = *random.pick(&[Side::First, Side::Second]);
    let kind = *random.pick(&[Kind::Kill, Kind::Kill, Kind::PowerLoss]);
    let meanwhile = [Meanwhile::FileChanged, Meanwhile::RecordsGone][(seed % 2) as usize];
    let lasts = Duration::from_micros(random.skewed(20_000, 1_500_000));
    let mut faults = vec![Fault { lasts, meanwhile, ..fault(&mut random, kind, side, When::Settled) }];
    if random.percent(60) {
        let kind =
            *random.pick(&[Kind::Kill, Kind::CutBothWays, Kind::CutOneWay, Kind::HalfOpen, Kind::Pause]);
        let side = *random.pick(&[side, side.peer()]);
        faults.push(fault(&mut random, kind, side, When::Is(Met::Alone)));
    }
    faults
}

/// The faults of a seed in which a copy's disk fails, and the two part while that copy leaves the pair.
#[must_use]
pub fn with_partings(seed: u64) -> Vec<Fault> {
    let mut random = Random::new(seed ^ 0x7061_7274_6564);
    let side = *random.pick(&[Side::First, Side::Second]);
    let kind = *random.pick(&[Kind::DiskError, Kind::DiskFull, Kind::Silence]);
    let disk = Fault { lasts: LASTS_MAX, ..fault(&mut random, kind, side, When::Settled) };
    let kind = *random.pick(&[Kind::CutBothWays, Kind::HalfOpen, Kind::Kill]);
    let parting = fault(&mut random, kind, side, When::Is(Met::Turn));
    vec![disk, Fault { lasts: parting.lasts.max(PARTED_MIN), ..parting }]
}

fn fault(random: &mut Random, kind: Kind, side: Side, when: When) -> Fault {
    let longest = match kind {
        Kind::Stall => STALL_MAX,
        _ => LASTS_MAX,
    };
    let after = match when {
        When::Settled => Duration::from_micros(random.between(10_000, 1_200_000)),
        When::Is(Met::Turn) => Duration::from_micros(random.skewed(0, 5_000)),
        When::Is(Met::Copy) => Duration::from_micros(random.skewed(0, 40_000)),
        When::Is(_) => Duration::from_micros(random.skewed(0, 1_500_000)),
        When::Record(_) => Duration::ZERO,
        When::Event(_) => Duration::from_micros(random.skewed(0, 8_000)),
    };
    let shortest = match kind {
        Kind::Silence => SILENCE_MIN,
        _ => Duration::from_millis(20),
    };
    let lasts =
        Duration::from_micros(random.between(shortest.as_micros() as u64, longest.as_micros() as u64));
    Fault { kind, side, when, after, lasts, meanwhile: Meanwhile::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_seeds_crash_while_a_record_is_written() {
        let crashes = |seed| of_seed(seed).iter().any(|fault| matches!(fault.when, When::Record(_)));
        assert_eq!((0..1000).filter(|seed| crashes(*seed)).count(), 500);
    }
}
