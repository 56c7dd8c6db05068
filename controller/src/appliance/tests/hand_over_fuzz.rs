//! Ends at any moment, of one or both, beside writes, cuts and failing disks: nobody reads what is old, never are two
//! main alone, and what was answered is there when both have met again.

use std::collections::BTreeMap;

use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role};
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
            use crate::pair::Service;
            let place = duo.controllers[side].place(LunIndex(lun));
            place.is_some_and(|(role, _, service, _)| role == Role::Main && service == Service::Alone)
        })
    })
}

fn run(seed: u64, disturbed: bool) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..8).for_each(|_| {
        random.below(2);
    });
    let kind = random.below(3);
    let mut duo = match kind {
        0 => TwoControllers::new(seed, true),
        1 => TwoControllers::two_luns(seed, 64),
        _ => TwoControllers::grouped(seed),
    };
    let luns = if kind == 0 { 1 } else { 2 };
    duo.connect();
    duo.settle(4);
    let mut hosts = Hosts {
        tag: 0,
        asked: BTreeMap::new(),
        blocks: BTreeMap::new(),
        errors: [Vec::new(), Vec::new()],
        longest: [0; 2],
        off: [false; 2],
        luns,
    };
    let first = random.below(2) as usize;
    let second = random.below(3) == 0;
    let announced = random.below(2) == 0;
    let at = 4 + random.below(30) as u32;
    let before = random.below(8) as u32;
    let second_at = at + random.below(6) as u32;
    let mut stops = [None; 2];
    stops[first] = Some(at);
    if second {
        stops[1 - first] = Some(second_at);
    }
    let cut_at = disturbed.then(|| random.below(60) as u32);
    let connect_at = cut_at.map(|cut| cut + 1 + random.below(12) as u32);
    let fail =
        (disturbed && random.below(3) == 0).then(|| (random.below(60) as u32, random.below(2) as usize));
    let stall = (disturbed && random.below(3) == 0)
        .then(|| (random.below(60) as u32, random.below(2) as usize, random.below(80) as u32));
    let case = format!(
        "seed {seed} kind {kind} stops {stops:?} announced {announced} cut {cut_at:?} connect {connect_at:?} \
         fail {fail:?} stall {stall:?}"
    );
    let mut gone = false;
    let ticks = 600;
    for tick in 0..ticks {
        for (side, stop) in stops.iter().enumerate() {
            if announced && stop.is_some_and(|at| at.saturating_sub(before) == tick) {
                duo.controllers[side].announce_stop();
            }
            if *stop == Some(tick) {
                duo.controllers[side].stop();
            }
        }
        if cut_at == Some(tick) && !gone {
            duo.cut();
        }
        if connect_at == Some(tick) && !gone {
            duo.connect();
        }
        if let Some((at, side)) = fail
            && at == tick
        {
            duo.break_disk(side, DiskError::Io);
        }
        if let Some((at, side, long)) = stall {
            if at == tick {
                duo.stall_disk(side);
            }
            if at + long == tick {
                duo.resume_disk(side);
            }
        }
        if !gone && (0..2).any(|side| duo.has_closed_control(side)) && tick % 4 == 0 {
            duo.cut();
            duo.connect();
        }
        for _ in 0..random.below(4) {
            hosts.ask(&duo, &mut random, tick);
            for _ in 0..random.below(8) {
                duo.step();
            }
            hosts.hear(&duo, tick, &case);
        }
        if tick % 3 != 2 {
            while duo.step() {}
        }
        hosts.hear(&duo, tick, &case);
        if both_main(&duo, luns) {
            return Err(format!("{case} tick {tick}: two mains alone"));
        }
        for side in 0..2 {
            if duo.controllers[side].stopped() && !hosts.off[side] {
                hosts.off[side] = true;
                // Its process ends: what it was asked is nobody's any more.
                hosts.asked.retain(|_, asked| asked.side != side);
                if !gone {
                    duo.cut();
                    gone = true;
                }
            }
        }
        duo.advance_and_tick();
        if hosts.off == [true; 2] {
            break;
        }
        if stops[0].is_none_or(|at| tick > at + 60)
            && stops[1].is_none_or(|at| tick > at + 60)
            && hosts.off[first]
            && !second
        {
            break;
        }
    }
    for (side, stop) in stops.iter().enumerate() {
        if stop.is_some() && !duo.controllers[side].stopped() {
            return Err(format!("{case}: {side} does not end"));
        }
    }
    if !disturbed && !second {
        let stays = 1 - first;
        if !hosts.errors[stays].is_empty() {
            return Err(format!("{case}: hosts of {stays}: {:?}", &hosts.errors[stays][..1]));
        }
        if hosts.longest[stays] > 20 {
            return Err(format!("{case}: hosts of {stays} wait {} ticks", hosts.longest[stays]));
        }
    }
    if !disturbed {
        let same = duo.volumes(0) == duo.volumes(1);
        if second && stops[0] == stops[1] && !same {
            return Err(format!("{case}: both ended and differ"));
        }
    }
    if fail.is_some() {
        return Ok(());
    }
    (0..2).for_each(|side| duo.resume_disk(side));
    while duo.step() {}
    let mut duo = match kind {
        0 => duo.crash(seed + 1000, true),
        1 => duo.crash_of_two(seed + 1000),
        _ => duo.crash_of_a_group(seed + 1000, |_, _| {}),
    };
    duo.connect();
    duo.settle(120);
    let (a, b) = (duo.volumes(0), duo.volumes(1));
    for ((lun, block), of) in &hosts.blocks {
        let at = usize::from(*lun);
        let bytes = [a[at][*block as usize * 512], b[at][*block as usize * 512]];
        let fits = |byte: u8| byte == of.acked || of.maybe.contains(&byte);
        if duo.statuses()[0] == PairStatus::Duplex && !(fits(bytes[0]) && bytes[0] == bytes[1]) {
            return Err(format!("{case}: lun {lun} block {block}: {bytes:?} for {of:?}"));
        }
    }
    if duo.statuses() != [PairStatus::Duplex; 2] {
        return Err(format!(
            "{case}: not DUPLEX again: {:?} {:?}",
            duo.statuses(),
            duo.controllers.each_ref().map(|c: &Controller<_>| c.status().luns.remove(0).reason)
        ));
    }
    Ok(())
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
