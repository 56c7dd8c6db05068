//! Random commands about pairs, on both controllers, beside writes, cuts, crashes, ends and failing disks: what was
//! answered is there, never do two serve alone, an image that was split off is one point of the order of writes and
//! stays as it is, and only a person's command changes what a person wanted.

use protocol::interlink::will::{PairCommand, Wanted, Will};

use super::pair_hosts::{BLOCKS, Hosts, Random};
use crate::command::LunIndex;
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role, Service};
use crate::testing::TwoControllers;

/// What has been seen of an image.
#[derive(Clone, Debug)]
struct Image {
    side: usize,
    copy: Vec<u8>,
}

struct Run {
    case: String,
    seed: u64,
    kind: u64,
    linked: bool,
    /// The tick at which the two are connected again.
    back: Option<u32>,
    /// Who is to end.
    ends: [bool; 2],
    image: Option<Image>,
    /// All that persons have asked for since the will was known.
    asked: Vec<PairCommand>,
    wanted: Wanted,
    /// A disk is yet to fail.
    breaks: bool,
    log: Vec<String>,
}

fn will(duo: &TwoControllers) -> Option<(u64, Will, u8)> {
    let both = [0, 1].map(|side| duo.durable(side).map(|record| record.generation));
    let newest = both.into_iter().flatten().max_by_key(|generation| generation.number)?;
    Some((newest.number, newest.will, newest.main))
}

fn two_alone(duo: &TwoControllers) -> bool {
    (0..2).all(|side| {
        let place = duo.controllers[side].place(LunIndex(0));
        place.is_some_and(|(role, _, service, _)| role == Role::Main && service == Service::Alone)
    })
}

impl Run {
    fn new(seed: u64, kind: u64, breaks: bool) -> Self {
        Self {
            case: format!("seed {seed} kind {kind}"),
            seed,
            kind,
            linked: true,
            back: None,
            ends: [false; 2],
            image: None,
            asked: Vec::new(),
            wanted: Wanted::Pair,
            breaks,
            log: Vec::new(),
        }
    }

    fn note(&mut self, what: String) {
        if self.log.len() < 60 {
            self.log.push(what);
        }
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("{}: {what}; {:?}", self.case, self.log))
    }

    /// What always holds.
    fn look(&mut self, duo: &TwoControllers, hosts: &Hosts) -> Result<(), String> {
        if two_alone(duo) {
            return self.fail("two serve alone");
        }
        // What a person wanted changes by commands alone.
        if let Some((number, Will { wanted, .. }, _)) = will(duo)
            && wanted != self.wanted
        {
            let by = match wanted {
                Wanted::Split => &[PairCommand::Split][..],
                Wanted::Simplex => &[PairCommand::Delete],
                Wanted::Pair => &[PairCommand::Create, PairCommand::Resync],
            };
            if !self.asked.iter().any(|asked| by.contains(asked)) {
                let was = self.wanted;
                return self.fail(&format!("generation {number} wants {wanted:?} after {was:?}"));
            }
            self.wanted = wanted;
            self.asked.retain(|asked| !by.contains(asked));
        }
        // An image is one, and stays.
        let statuses = duo.statuses();
        let split = statuses == [PairStatus::Split; 2];
        if split && self.image.is_none() {
            let side = (0..2).find(|side| {
                duo.controllers[*side].place(LunIndex(0)).is_some_and(|place| place.0 == Role::Sub)
            });
            if let Some(side) = side {
                let copy = duo.volume(side);
                if let Err(what) = hosts.is_image(&copy) {
                    return self.fail(&format!("no image: {what}"));
                }
                self.image = Some(Image { side, copy });
            }
        }
        let ends = will(duo).is_some_and(|(_, will, _)| will.wanted != Wanted::Split);
        if ends {
            self.image = None;
        }
        if let Some(Image { side, copy }) = &self.image
            && duo.volume(*side) != *copy
        {
            return self.fail("the image was written");
        }
        Ok(())
    }

    fn command(&mut self, duo: &TwoControllers, random: &mut Random, tick: u32) {
        let command = PairCommand::ALL[random.below(5) as usize];
        let side = random.below(2) as usize;
        let answer = duo.controllers[side].pair_command(&[0], command).remove(0);
        self.note(format!("{tick}: {command:?} at {side}: {answer:?}"));
        if answer == Ok(true) {
            self.asked.push(command);
        }
    }

    /// Something goes wrong, or a controller is to end.
    fn disturb(
        &mut self,
        mut duo: TwoControllers,
        hosts: &mut Hosts,
        random: &mut Random,
        tick: u32,
    ) -> TwoControllers {
        let away = |random: &mut Random| Some(tick + 1 + random.below(20) as u32);
        match random.below(30) {
            0 if self.linked => {
                self.note(format!("{tick}: cut"));
                duo.cut();
                (self.linked, self.back) = (false, away(random));
            }
            1 => {
                self.note(format!("{tick}: both crash"));
                duo = self.again(duo, self.seed * 1000 + u64::from(tick));
                hosts.forget(&[0, 1]);
                self.ends = [false; 2];
                (self.linked, self.back) = (false, away(random));
            }
            2 => {
                let side = random.below(2) as usize;
                self.note(format!("{tick}: {side} crashes"));
                duo = self.one_again(duo, self.seed * 1000 + u64::from(tick), side);
                hosts.forget(&[side]);
                self.ends[side] = false;
                (self.linked, self.back) = (false, away(random));
            }
            3 if random.below(3) == 0 => {
                let side = random.below(2) as usize;
                self.note(format!("{tick}: {side} is to end"));
                duo.controllers[side].stop();
                self.ends[side] = true;
            }
            4 if self.breaks => {
                let side = random.below(2) as usize;
                self.note(format!("{tick}: the disk of {side} fails"));
                duo.break_disk(side, DiskError::Io);
                self.breaks = false;
            }
            _ => {}
        }
        duo
    }

    fn stall(&mut self, duo: &mut TwoControllers, stall: Option<(u64, usize)>, tick: u32) {
        let Some((at, side)) = stall else { return };
        if at == u64::from(tick) {
            self.note(format!("{tick}: the disk of {side} is silent"));
            duo.stall_disk(side);
        }
        if at + 10 == u64::from(tick) {
            duo.resume_disk(side);
        }
    }

    /// Who was to end has, and is started again; the two meet when it is time.
    fn end_and_meet(
        &mut self,
        mut duo: TwoControllers,
        hosts: &mut Hosts,
        random: &mut Random,
        tick: u32,
    ) -> TwoControllers {
        for side in 0..2 {
            if self.ends[side] && duo.controllers[side].stopped() {
                self.note(format!("{tick}: {side} has ended"));
                self.ends[side] = false;
                duo.cut();
                duo = self.one_again(duo, self.seed * 1000 + 500 + u64::from(tick), side);
                hosts.forget(&[side]);
                (self.linked, self.back) = (false, Some(tick + 1 + random.below(10) as u32));
            }
        }
        if self.back.is_some_and(|at| at <= tick) && !self.linked {
            self.note(format!("{tick}: connected"));
            duo.connect();
            (self.linked, self.back) = (true, None);
        }
        if self.linked && tick.is_multiple_of(4) && (0..2).any(|side| duo.has_closed_control(side)) {
            duo.cut();
            duo.connect();
        }
        duo
    }

    fn again(&self, duo: TwoControllers, seed: u64) -> TwoControllers {
        match self.kind {
            0 => duo.crash(seed, true),
            _ => duo.crash_of_a_group(seed, |_, _| {}),
        }
    }

    fn one_again(&self, duo: TwoControllers, seed: u64, side: usize) -> TwoControllers {
        match self.kind {
            0 => duo.crash_one(seed, side),
            _ => duo.crash_one_of_a_group(seed, side),
        }
    }
}

fn story(seed: u64, disturbed: bool, breaks: bool) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        random.below(2);
    }
    let kind = random.below(3) / 2;
    let mut duo = match kind {
        0 => TwoControllers::new(seed, true),
        _ => TwoControllers::grouped(seed),
    };
    duo.connect();
    duo.settle(4);
    let (mut hosts, mut run) = (Hosts::new(), Run::new(seed, kind, breaks));
    let ticks = 60 + random.below(60) as u32;
    let stall = (random.below(4) == 0 && disturbed).then(|| (random.below(60), random.below(2) as usize));
    for tick in 0..ticks {
        if random.below(6) == 0 {
            run.command(&duo, &mut random, tick);
        }
        if random.below(40) == 0 {
            // Both at once.
            run.command(&duo, &mut random, tick);
            run.command(&duo, &mut random, tick);
        }
        if disturbed {
            duo = run.disturb(duo, &mut hosts, &mut random, tick);
            run.stall(&mut duo, stall, tick);
        }
        duo = run.end_and_meet(duo, &mut hosts, &mut random, tick);
        for _ in 0..random.below(4) {
            hosts.ask(&duo, &mut random);
            for _ in 0..random.below(8) {
                duo.step();
                run.look(&duo, &hosts)?;
            }
            hosts.hear(&duo, &run.case)?;
        }
        if tick % 3 != 2 {
            while duo.step() {
                run.look(&duo, &hosts)?;
            }
        }
        hosts.hear(&duo, &run.case)?;
        run.look(&duo, &hosts)?;
        duo.advance_and_tick();
    }
    if !disturbed && !hosts.errors.is_empty() {
        let errors = hosts.errors[..hosts.errors.len().min(3)].to_vec();
        return run.fail(&format!("hosts heard {errors:?}"));
    }
    over(duo, hosts, run)
}

/// Everything is well again: both are of one mind, and in a pair that was made whole both have what was answered.
fn over(mut duo: TwoControllers, mut hosts: Hosts, mut run: Run) -> Result<(), String> {
    (0..2).for_each(|side| {
        duo.resume_disk(side);
        duo.mend_disk(side);
    });
    duo.cut();
    while duo.step() {}
    hosts.hear(&duo, &run.case)?;
    run.look(&duo, &hosts)?;
    let mut duo = run.again(duo, 77);
    hosts.forget(&[0, 1]);
    run.note("all crash".to_owned());
    duo.connect();
    for _ in 0..120 {
        duo.settle_and_redial(1);
        run.look(&duo, &hosts)?;
    }
    let statuses = duo.statuses();
    let why = |duo: &TwoControllers| {
        duo.controllers.each_ref().map(|it| it.status().luns.remove(0).reason.unwrap_or_default())
    };
    let wanted = match run.wanted {
        Wanted::Pair => PairStatus::Duplex,
        Wanted::Split => PairStatus::Split,
        Wanted::Simplex => PairStatus::Simplex,
    };
    if statuses != [wanted; 2] {
        return run.fail(&format!("{statuses:?} instead of {wanted:?}: {:?}", why(&duo)));
    }
    let back = match wanted {
        PairStatus::Split => Some(PairCommand::Resync),
        PairStatus::Simplex => Some(PairCommand::Create),
        _ => None,
    };
    if let Some(command) = back {
        let answer = duo.controllers[0].pair_command(&[0], command).remove(0);
        run.asked.push(command);
        duo.settle_and_redial(40);
        if answer != Ok(true) || duo.statuses() != [PairStatus::Duplex; 2] {
            return run.fail(&format!("{command:?}: {answer:?} {:?} {:?}", duo.statuses(), why(&duo)));
        }
    }
    let preferred = will(&duo).map(|(_, will, main)| (will.main.unwrap_or(0), main));
    if preferred.is_some_and(|(preferred, main)| preferred != main) {
        return run.fail(&format!("another main than wanted: {preferred:?}"));
    }
    if duo.volumes(0) != duo.volumes(1) {
        return run.fail("the copies differ");
    }
    let copy = duo.volume(0);
    for block in 0..BLOCKS {
        let (found, may) = (copy[block as usize * 512], hosts.may(block, hosts.now + 1));
        if !may.contains(&found) {
            return run.fail(&format!("LOST: block {block} is {found}, may {may:?}"));
        }
    }
    Ok(())
}

fn all(seeds: core::ops::Range<u64>, disturbed: bool, breaks: bool) {
    let mut bad = Vec::new();
    let many = seeds.end - seeds.start;
    for seed in seeds {
        match std::panic::catch_unwind(|| story(seed, disturbed, breaks)) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => bad.push(what),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                bad.push(format!("seed {seed}: PANIC {what}"));
            }
        }
    }
    let shown: Vec<_> = bad.iter().take(8).collect();
    assert!(bad.is_empty(), "{} of {many} bad: {shown:#?}", bad.len());
}

#[test]
fn commands_beside_writes_are_noticed_by_no_host() {
    all(0..400, false, false);
}

#[test]
fn commands_beside_cuts_crashes_and_ends_lose_nothing_that_was_answered() {
    all(0..800, true, false);
}

#[test]
fn commands_beside_failing_disks_lose_nothing_that_was_answered() {
    all(0..800, true, true);
}
