//! Ends at any moment, of one or both, beside writes, cuts and failing disks: nobody reads what is old, never are two
//! main alone, and what was answered is there when both have met again.

use std::collections::BTreeMap;

use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role, Service};
use crate::testing::{TwoControllers, range, write};
use crate::unit::Controller;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

#[derive(Clone, Debug)]
struct Asked {
    side: usize,
    lun: u16,
    block: u64,
    byte: Option<u8>,
    tick: u32,
    /// What a read may give; none: anything.
    may: Option<Vec<u8>>,
}

#[derive(Clone, Default, Debug)]
struct Block {
    acked: u8,
    maybe: Vec<u8>,
    writing: bool,
}

struct Hosts {
    tag: u32,
    asked: BTreeMap<u32, Asked>,
    blocks: BTreeMap<(u16, u64), Block>,
    errors: [Vec<String>; 2],
    longest: [u32; 2],
    off: [bool; 2],
    luns: u16,
}

impl Hosts {
    fn of(luns: u16) -> Self {
        Self {
            tag: 0,
            asked: BTreeMap::new(),
            blocks: BTreeMap::new(),
            errors: [Vec::new(), Vec::new()],
            longest: [0; 2],
            off: [false; 2],
            luns,
        }
    }

    fn ask(&mut self, duo: &TwoControllers, random: &mut Random, tick: u32) {
        let side = random.below(2) as usize;
        if self.off[side] || self.asked.values().filter(|asked| asked.side == side).count() > 6 {
            return;
        }
        let (lun, block) = (random.below(u64::from(self.luns)) as u16, random.below(8));
        self.tag += 1;
        let of = self.blocks.entry((lun, block)).or_default();
        let op = if random.below(2) == 0 {
            let mut may = of.maybe.clone();
            may.push(of.acked);
            let may = (!of.writing).then_some(may);
            let asked = Asked { side, lun, block, byte: None, tick, may };
            self.asked.insert(self.tag, asked);
            Op::Read { range: range(block, 1) }
        } else {
            if of.writing {
                return;
            }
            of.writing = true;
            let byte = (self.tag % 255) as u8 + 1;
            of.maybe.push(byte);
            for asked in self.asked.values_mut().filter(|asked| (asked.lun, asked.block) == (lun, block)) {
                asked.may = None;
            }
            self.asked.insert(self.tag, Asked { side, lun, block, byte: Some(byte), tick, may: None });
            write(block, 1, byte)
        };
        duo.controllers[side].command(Command {
            lun: LunIndex(lun),
            nexus: NexusId(1),
            tag: TaskTag::of(self.tag),
            op,
            received: duo.now(),
        });
    }

    fn hear(&mut self, duo: &TwoControllers, tick: u32, case: &str) {
        for side in 0..2 {
            for (tag, outcome) in duo.answers(side) {
                let Some(asked) = self.asked.remove(&tag) else { continue };
                self.longest[side] = self.longest[side].max(tick - asked.tick);
                let of = self.blocks.get_mut(&(asked.lun, asked.block)).unwrap();
                match (asked.byte, &outcome) {
                    (Some(byte), Outcome::Good(_)) => {
                        (of.acked, of.writing) = (byte, false);
                        of.maybe.clear();
                    }
                    (Some(_), _) => of.writing = false,
                    (None, Outcome::Good(data)) => {
                        let read = data[0][0];
                        if let Some(may) = &asked.may {
                            assert!(may.contains(&read), "{case} tick {tick}: STALE: {asked:?} gave {read}");
                        }
                    }
                    _ => {}
                }
                if !matches!(outcome, Outcome::Good(_)) {
                    self.errors[side].push(format!("tick {tick}: {outcome:?} of {asked:?}"));
                }
            }
            for asked in self.asked.values().filter(|asked| asked.side == side) {
                self.longest[side] = self.longest[side].max(tick - asked.tick);
            }
        }
    }
}

fn both_main(duo: &TwoControllers, luns: u16) -> bool {
    (0..luns).any(|lun| {
        (0..2).all(|side| {
            let place = duo.controllers[side].place(LunIndex(lun));
            place.is_some_and(|(role, _, service, _)| role == Role::Main && service == Service::Alone)
        })
    })
}

/// What happens in one run, and when, in ticks.
#[derive(Debug)]
struct Story {
    seed: u64,
    /// One LUN, two, or two in one group.
    kind: u64,
    stops: [Option<u32>; 2],
    /// So long before the end it is announced, if it is.
    announced: Option<u32>,
    cut: Option<u32>,
    connect: Option<u32>,
    fail: Option<(u32, usize)>,
    stall: Option<(u32, usize, u32)>,
}

impl Story {
    fn draw(seed: u64, disturbed: bool, random: &mut Random) -> Self {
        let kind = random.below(3);
        let mut stops = [None; 2];
        let (first, second) = (random.below(2) as usize, random.below(3) == 0);
        let at = 4 + random.below(30) as u32;
        stops[first] = Some(at);
        let later = random.below(6) as u32;
        stops[1 - first] = second.then_some(at + later);
        let announced = (random.below(2) == 0).then(|| random.below(8) as u32);
        let cut = disturbed.then(|| random.below(60) as u32);
        let connect = cut.map(|cut| cut + 1 + random.below(12) as u32);
        let mut sometimes = || disturbed && random.below(3) == 0;
        let (fails, stalls) = (sometimes(), sometimes());
        let fail = fails.then(|| (random.below(60) as u32, random.below(2) as usize));
        let stall =
            stalls.then(|| (random.below(60) as u32, random.below(2) as usize, random.below(80) as u32));
        Self { seed, kind, stops, announced, cut, connect, fail, stall }
    }

    fn luns(&self) -> u16 {
        if self.kind == 0 { 1 } else { 2 }
    }

    fn start(&self) -> TwoControllers {
        let mut duo = match self.kind {
            0 => TwoControllers::new(self.seed, true),
            1 => TwoControllers::two_luns(self.seed, 64),
            _ => TwoControllers::grouped(self.seed),
        };
        duo.connect();
        duo.settle(4);
        duo
    }

    fn start_again(&self, duo: TwoControllers) -> TwoControllers {
        let seed = self.seed + 1000;
        let mut duo = match self.kind {
            0 => duo.crash(seed, true),
            1 => duo.crash_of_two(seed),
            _ => duo.crash_of_a_group(seed, |_, _| {}),
        };
        duo.connect();
        duo.settle(120);
        duo
    }

    /// What is to happen in this tick.
    fn happen(&self, tick: u32, linked: bool, duo: &mut TwoControllers) {
        for (side, stop) in self.stops.iter().enumerate() {
            let Some(at) = *stop else { continue };
            if self.announced.is_some_and(|before| at.saturating_sub(before) == tick) {
                duo.controllers[side].announce_stop();
            }
            if at == tick {
                duo.controllers[side].stop();
            }
        }
        if linked && self.cut == Some(tick) {
            duo.cut();
        }
        if linked && self.connect == Some(tick) {
            duo.connect();
        }
        if let Some((at, side)) = self.fail
            && at == tick
        {
            duo.break_disk(side, DiskError::Io);
        }
        if let Some((at, side, long)) = self.stall {
            if at == tick {
                duo.stall_disk(side);
            }
            if at + long == tick {
                duo.resume_disk(side);
            }
        }
        if linked && tick.is_multiple_of(4) && (0..2).any(|side| duo.has_closed_control(side)) {
            duo.cut();
            duo.connect();
        }
    }

    /// Whether everything that is to be seen has been.
    fn is_over(&self, tick: u32, off: [bool; 2]) -> bool {
        self.stops.iter().zip(off).all(|(stop, off)| stop.is_none_or(|at| off && tick > at + 60))
            || off == [true; 2]
    }
}

/// The two run, with their hosts, until those that are to end have.
fn play(story: &Story, random: &mut Random, duo: &mut TwoControllers) -> Result<Hosts, String> {
    let mut hosts = Hosts::of(story.luns());
    let mut linked = true;
    let case = format!("{story:?}");
    for tick in 0..600 {
        story.happen(tick, linked, duo);
        for _ in 0..random.below(4) {
            hosts.ask(duo, random, tick);
            for _ in 0..random.below(8) {
                duo.step();
            }
            hosts.hear(duo, tick, &case);
        }
        if tick % 3 != 2 {
            while duo.step() {}
        }
        hosts.hear(duo, tick, &case);
        if both_main(duo, story.luns()) {
            return Err(format!("tick {tick}: two mains alone"));
        }
        for side in 0..2 {
            if duo.controllers[side].stopped() && !hosts.off[side] {
                hosts.off[side] = true;
                // Its process ends: what it was asked is nobody's any more.
                hosts.asked.retain(|_, asked| asked.side != side);
                if core::mem::take(&mut linked) {
                    duo.cut();
                }
            }
        }
        duo.advance_and_tick();
        if story.is_over(tick, hosts.off) {
            break;
        }
    }
    let ended = |side: usize| story.stops[side].is_none() || duo.controllers[side].stopped();
    if (0..2).all(ended) { Ok(hosts) } else { Err("one does not end".to_owned()) }
}

/// Without cuts and failing disks.
fn undisturbed(story: &Story, hosts: &Hosts, duo: &TwoControllers) -> Result<(), String> {
    if let Some(stays) = story.stops.iter().position(Option::is_none) {
        if let Some(error) = hosts.errors[stays].first() {
            return Err(format!("hosts of {stays}: {error}"));
        }
        if hosts.longest[stays] > 20 {
            return Err(format!("hosts of {stays} wait {} ticks", hosts.longest[stays]));
        }
    }
    if story.stops[0] == story.stops[1] && duo.volumes(0) != duo.volumes(1) {
        return Err("both ended and differ".to_owned());
    }
    Ok(())
}

/// Both have been started again.
fn met_again(hosts: &Hosts, duo: &TwoControllers) -> Result<(), String> {
    if duo.statuses() != [PairStatus::Duplex; 2] {
        let why = duo.controllers.each_ref().map(|it: &Controller<_>| it.status().luns.remove(0).reason);
        return Err(format!("not DUPLEX again: {:?} {why:?}", duo.statuses()));
    }
    let (a, b) = (duo.volumes(0), duo.volumes(1));
    for ((lun, block), of) in &hosts.blocks {
        let at = usize::from(*lun);
        let bytes = [a[at][*block as usize * 512], b[at][*block as usize * 512]];
        let fits = |byte: u8| byte == of.acked || of.maybe.contains(&byte);
        if !fits(bytes[0]) || bytes[0] != bytes[1] {
            return Err(format!("lun {lun} block {block}: {bytes:?} for {of:?}"));
        }
    }
    Ok(())
}

fn run(seed: u64, disturbed: bool) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..8).for_each(|_| {
        random.below(2);
    });
    let story = Story::draw(seed, disturbed, &mut random);
    let mut duo = story.start();
    let judged = |result: Result<(), String>| result.map_err(|what| format!("{story:?}: {what}"));
    let hosts = play(&story, &mut random, &mut duo).map_err(|what| format!("{story:?}: {what}"))?;
    if !disturbed {
        judged(undisturbed(&story, &hosts, &duo))?;
    }
    // A copy whose disk has failed stays out of the pair.
    if story.fail.is_some() {
        return Ok(());
    }
    (0..2).for_each(|side| duo.resume_disk(side));
    while duo.step() {}
    judged(met_again(&hosts, &story.start_again(duo)))
}

fn all(seeds: core::ops::Range<u64>, disturbed: bool) {
    let mut bad = Vec::new();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed, disturbed));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(what)) => bad.push(what),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                bad.push(format!("seed {seed}: PANIC {what}"));
            }
        }
    }
    let shown: Vec<_> = bad.iter().take(12).collect();
    assert!(bad.is_empty(), "{} bad: {shown:#?}", bad.len());
}

#[test]
fn ends_at_any_moment_beside_writes_are_noticed_by_nobody_who_stays() {
    all(0..1500, false);
}

#[test]
fn ends_at_any_moment_beside_cuts_and_failing_disks_lose_nothing_that_was_answered() {
    all(0..2500, true);
}
