//! The judges against histories that are right, and against mistakes that they must find.

use super::*;
use crate::random::Random;

/// Builds histories by hand: (host, kind, start, blocks) invoked in order; `ends` end them in any order.
struct Story(History);

const WRITE: Kind = Kind::Write;
const READ: Kind = Kind::Read;

impl Story {
    fn new() -> Self {
        Self(History::new())
    }

    fn begin(&mut self, kind: Kind, start: u64, blocks: u64) -> OpId {
        self.0.invoke(0, 0, kind, vec![Extent { start, blocks }])
    }

    fn done(&mut self, id: OpId) {
        self.0.end(id, Outcome::Done);
    }

    fn write(&mut self, start: u64, blocks: u64) -> OpId {
        let id = self.begin(WRITE, start, blocks);
        self.done(id);
        id
    }

    fn saw(&mut self, id: OpId, pieces: &[(u64, OpId)]) {
        let seen = |id| if id == 0 { Seen::Zeros } else { Seen::Written(id) };
        let pieces = pieces.iter().map(|(blocks, id)| Piece { blocks: *blocks, seen: seen(*id) }).collect();
        self.0.end(id, Outcome::Read(pieces));
    }

    fn read(&mut self, start: u64, pieces: &[(u64, OpId)]) {
        let id = self.begin(READ, start, pieces.iter().map(|piece| piece.0).sum());
        self.saw(id, pieces);
    }

    fn caw(&mut self, expected: OpId) -> OpId {
        let expected = if expected == 0 { Seen::Zeros } else { Seen::Written(expected) };
        self.begin(Kind::CompareAndWrite { expected }, 0, 1)
    }

    fn verdict(&self) -> Result<(), String> {
        check(&self.0).map_err(|violation| violation.to_string())
    }

    fn passes(&self) {
        self.verdict().unwrap();
    }

    fn fails(&self, because: &str) {
        let violation = self.verdict().expect_err("the judge finds nothing");
        assert!(violation.contains(because), "{violation}");
    }
}

#[test]
fn a_read_sees_the_last_write_and_nothing_older() {
    let mut story = Story::new();
    let first = story.write(0, 1);
    let second = story.write(0, 1);
    story.read(0, &[(1, second)]);
    story.passes();
    story.read(0, &[(1, first)]);
    story.fails("not linearizable");
}

#[test]
fn a_read_beside_a_write_sees_either() {
    for new in [true, false] {
        let mut story = Story::new();
        let old = story.write(0, 1);
        let write = story.begin(WRITE, 0, 1);
        story.read(0, &[(1, if new { write } else { old })]);
        story.done(write);
        story.passes();
    }
}

#[test]
fn time_that_runs_backwards_is_found() {
    let mut story = Story::new();
    let old = story.write(0, 1);
    let write = story.begin(WRITE, 0, 1);
    story.read(0, &[(1, write)]);
    story.read(0, &[(1, old)]);
    story.done(write);
    story.fails("not linearizable");
}

#[test]
fn a_write_answered_and_then_lost_is_found() {
    let mut story = Story::new();
    story.write(0, 1);
    story.read(0, &[(1, 0)]);
    story.fails("not linearizable");
}

#[test]
fn a_write_without_an_answer_may_take_effect_late_or_never_but_not_go_away() {
    let mut story = Story::new();
    let unknown = story.begin(WRITE, 0, 1);
    story.read(0, &[(1, 0)]);
    story.passes();
    story.read(0, &[(1, unknown)]);
    story.passes();
    story.read(0, &[(1, 0)]);
    story.fails("not linearizable");
}

#[test]
fn a_write_that_was_given_up_may_take_effect_before_the_answer_or_never() {
    for seen in [true, false] {
        let mut story = Story::new();
        let before = story.write(0, 1);
        let given_up = story.begin(WRITE, 0, 1);
        let beside = story.begin(WRITE, 0, 1);
        story.0.end(given_up, Outcome::Aborted);
        story.done(beside);
        let held = if seen { given_up } else { beside };
        story.read(0, &[(1, held)]);
        story.passes();
        story.caw(before);
        story.read(0, &[(1, held)]);
        story.passes();
    }
}

#[test]
fn a_write_that_took_effect_after_it_was_given_up_is_found() {
    for known in [true, false] {
        let mut story = Story::new();
        let old = story.write(0, 1);
        let given_up = story.begin(WRITE, 0, 1);
        story.0.end(given_up, Outcome::Aborted);
        if known {
            story.read(0, &[(1, old)]);
        } else {
            story.write(0, 1);
        }
        story.read(0, &[(1, given_up)]);
        story.fails("not linearizable");
    }
}

#[test]
fn a_refused_write_must_never_be_seen() {
    let mut story = Story::new();
    let refused = story.begin(WRITE, 0, 1);
    story.0.end(refused, Outcome::Refused);
    story.read(0, &[(1, 0)]);
    story.passes();
    story.read(0, &[(1, refused)]);
    story.fails("did not write it");
}

#[test]
fn content_that_nobody_wrote_is_found() {
    let mut story = Story::new();
    let read = story.begin(READ, 5, 1);
    story.0.end(read, Outcome::Read(vec![Piece { blocks: 1, seen: Seen::Nobody }]));
    story.fails("nobody wrote");
    let mut story = Story::new();
    let write = story.write(5, 1);
    story.read(7, &[(1, write)]);
    story.fails("did not write it");
}

#[test]
fn a_write_between_compare_and_write_is_found() {
    let mut story = Story::new();
    let first = story.write(0, 1);
    let caw = story.caw(first);
    let write = story.write(0, 1);
    story.read(0, &[(1, write)]);
    story.done(caw);
    story.read(0, &[(1, caw)]);
    story.fails("not linearizable");
}

#[test]
fn only_one_of_two_compare_and_writes_of_the_same_value_succeeds() {
    for both in [false, true] {
        let mut story = Story::new();
        let (a, b) = (story.caw(0), story.caw(0));
        story.done(a);
        story.0.end(b, if both { Outcome::Done } else { Outcome::Miscompare });
        if both { story.fails("not linearizable") } else { story.passes() }
    }
}

#[test]
fn a_miscompare_without_a_difference_is_found() {
    let mut story = Story::new();
    let first = story.write(0, 1);
    let caw = story.caw(first);
    story.0.end(caw, Outcome::Miscompare);
    story.fails("not linearizable");
}

/// Each of the two miscompares needs a write of its own, for zeros were written in between.
#[test]
fn an_unanswered_write_explains_one_miscompare() {
    for (unknown, enough) in [(1, false), (2, true), (24, true)] {
        let mut story = Story::new();
        (0..unknown).for_each(|_| {
            story.begin(WRITE, 0, 1);
        });
        for _ in 0..2 {
            let zero = story.begin(Kind::Zero, 0, 1);
            story.done(zero);
            let caw = story.caw(0);
            story.0.end(caw, Outcome::Miscompare);
        }
        if enough { story.passes() } else { story.fails("not linearizable") }
    }
}

#[test]
fn many_unanswered_writes_hide_no_contradiction() {
    let mut story = Story::new();
    (0..24).for_each(|_| {
        story.begin(WRITE, 0, 1);
    });
    let caw = story.caw(0);
    story.0.end(caw, Outcome::Miscompare);
    story.write(0, 1);
    story.read(0, &[(1, 0)]);
    story.fails("not linearizable");
}

#[test]
fn a_miscompare_may_be_the_only_trace_of_an_unanswered_write() {
    let mut story = Story::new();
    let first = story.write(0, 1);
    story.begin(WRITE, 0, 1);
    let caw = story.caw(first);
    story.0.end(caw, Outcome::Miscompare);
    story.passes();
}

#[test]
fn zeros_may_be_anyones() {
    let mut story = Story::new();
    let write = story.write(0, 4);
    let unmap = story.0.invoke(
        0,
        0,
        Kind::Zero,
        vec![Extent { start: 0, blocks: 1 }, Extent { start: 2, blocks: 1 }],
    );
    story.done(unmap);
    story.read(0, &[(1, 0), (1, write), (1, 0), (1, write)]);
    story.passes();
    story.read(0, &[(2, write)]);
    story.fails("not linearizable");
}

#[test]
fn a_torn_read_is_found_though_every_block_alone_is_right() {
    let mut story = Story::new();
    let old = story.write(0, 128);
    let write = story.begin(WRITE, 0, 128);
    story.read(0, &[(64, write), (64, old)]);
    story.done(write);
    story.fails("took effect in parts");
}

#[test]
fn a_torn_read_over_zeros_is_found() {
    let mut story = Story::new();
    let write = story.begin(WRITE, 0, 128);
    story.read(0, &[(64, 0), (64, write)]);
    story.done(write);
    story.fails("took effect in parts");
}

#[test]
fn two_mixed_writes_are_found_and_a_third_explains_them() {
    for third in [false, true] {
        let mut story = Story::new();
        let a = story.begin(WRITE, 0, 8);
        let b = story.begin(WRITE, 0, if third { 4 } else { 8 });
        story.done(a);
        story.done(b);
        story.read(0, &[(4, b), (4, a)]);
        if third { story.passes() } else { story.fails("took effect in parts") }
    }
}

#[test]
fn two_reads_that_disagree_about_the_order_of_two_writes_are_found() {
    let mut story = Story::new();
    let (a, b) = (story.begin(WRITE, 0, 1), story.begin(WRITE, 1, 1));
    let (x, y) = (story.begin(READ, 0, 2), story.begin(READ, 0, 2));
    story.saw(x, &[(1, a), (1, 0)]);
    story.saw(y, &[(1, 0), (1, b)]);
    story.done(a);
    story.done(b);
    story.fails("took effect in parts");
}

#[test]
fn luns_are_judged_apart() {
    let mut story = Story::new();
    let write = story.write(0, 1);
    let other = story.0.invoke(0, 1, READ, vec![Extent { start: 0, blocks: 1 }]);
    story.saw(other, &[(1, 0)]);
    story.read(0, &[(1, write)]);
    story.passes();
}

/// What a seeded run of a right target does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    /// Writes reach only the first of their blocks.
    HalfWrite,
    /// Writes are answered and lost.
    LostWrite,
    /// Reads are answered with what was there a few operations ago.
    StaleRead,
    /// Compare-and-writes do not compare.
    BlindExchange,
}

/// Runs `count` operations of several hosts, overlapping in time, on `blocks` blocks that change at one instant.
fn run(seed: u64, blocks: u64, count: usize, mistake: Mistake) -> (History, bool) {
    let mut random = Random::new(seed);
    let mut history = History::new();
    let mut disk = vec![0; blocks as usize];
    let mut earlier = disk.clone();
    let mut open: Vec<(OpId, Option<Outcome>)> = Vec::new();
    let mut made = false;
    for at in 0..count * 3 {
        match random.below(3) {
            0 if open.len() < 12 => {
                let start = random.below(blocks);
                let extent = Extent { start, blocks: random.between(1, (blocks - start).min(64)) };
                let (kind, extent) = match random.below(13) {
                    0..4 => (Kind::Read, extent),
                    4..7 => (Kind::Write, extent),
                    7 => (Kind::Zero, extent),
                    _ => {
                        let seen = disk[start as usize];
                        let expected = if seen == 0 { Seen::Zeros } else { Seen::Written(seen) };
                        let verify = random.percent(33);
                        let kind = if verify {
                            Kind::Verify { expected }
                        } else {
                            Kind::CompareAndWrite { expected }
                        };
                        (kind, Extent { start, blocks: 1 })
                    }
                };
                open.push((history.invoke(at as u32 % 4, 0, kind, vec![extent]), None));
            }
            1 if !open.is_empty() => {
                let turn = random.below(open.len() as u64) as usize;
                let (id, outcome) = &mut open[turn];
                if outcome.is_none() {
                    let late = at > count;
                    let operation = history.operation(*id).clone();
                    *outcome = Some(execute(&operation, &mut disk, &earlier, mistake, late, &mut made));
                    if random.percent(10) {
                        earlier = disk.clone();
                    }
                }
            }
            2 if !open.is_empty() => {
                let turn = random.below(open.len() as u64) as usize;
                if let (id, Some(outcome)) = open[turn].clone() {
                    history.end(id, outcome);
                    open.remove(turn);
                }
            }
            _ => {}
        }
    }
    let id = history.invoke(9, 0, Kind::Read, vec![Extent { start: 0, blocks }]);
    history.end(id, Outcome::Read(pieces(&disk)));
    (history, made)
}

fn pieces(blocks: &[OpId]) -> Vec<Piece> {
    let seen = |id: &OpId| if *id == 0 { Seen::Zeros } else { Seen::Written(*id) };
    blocks.iter().map(|id| Piece { blocks: 1, seen: seen(id) }).collect()
}

fn execute(
    operation: &Operation,
    disk: &mut [OpId],
    earlier: &[OpId],
    mistake: Mistake,
    late: bool,
    made: &mut bool,
) -> Outcome {
    let extent = operation.extents[0];
    let range = extent.start as usize..extent.end() as usize;
    match operation.kind {
        Kind::Read => {
            let stale =
                late && mistake == Mistake::StaleRead && earlier[range.clone()] != disk[range.clone()];
            *made |= stale;
            Outcome::Read(pieces(if stale { &earlier[range] } else { &disk[range] }))
        }
        Kind::Write | Kind::Zero => {
            let value = if operation.kind == Kind::Zero { 0 } else { operation.id };
            let wrong = late && operation.kind == Kind::Write && extent.blocks > 1;
            let half = wrong && mistake == Mistake::HalfWrite;
            let lost = wrong && mistake == Mistake::LostWrite;
            *made |= half || lost;
            let reached = if lost {
                0
            } else if half {
                1
            } else {
                extent.blocks as usize
            };
            disk[range][..reached].fill(value);
            Outcome::Done
        }
        Kind::CompareAndWrite { expected } => {
            let block = &mut disk[range.start];
            let found = if *block == 0 { Seen::Zeros } else { Seen::Written(*block) };
            let blind = late && mistake == Mistake::BlindExchange && found != expected;
            *made |= blind;
            if found != expected && !blind {
                return Outcome::Miscompare;
            }
            *block = operation.id;
            Outcome::Done
        }
        Kind::Verify { expected } => {
            let block = disk[range.start];
            let found = if block == 0 { Seen::Zeros } else { Seen::Written(block) };
            if found == expected { Outcome::Done } else { Outcome::Miscompare }
        }
    }
}

#[test]
fn a_verify_that_finds_what_was_overwritten_or_misses_what_is_there_is_no_truth() {
    let block = Extent { start: 3, blocks: 1 };
    for (outcome, finds_first, right) in [
        (Outcome::Done, true, false),
        (Outcome::Done, false, true),
        (Outcome::Miscompare, true, true),
        (Outcome::Miscompare, false, false),
        (Outcome::Unknown, true, true),
    ] {
        let mut history = History::new();
        let written = [0, 1].map(|host| {
            let id = history.invoke(host, 0, Kind::Write, vec![block]);
            history.end(id, Outcome::Done);
            id
        });
        let expected = Seen::Written(written[usize::from(!finds_first)]);
        let id = history.invoke(2, 0, Kind::Verify { expected }, vec![block]);
        history.end(id, outcome.clone());
        assert_eq!(
            check(&history).is_ok(),
            right,
            "{outcome:?} of the {}",
            if finds_first { "first" } else { "second" }
        );
    }
}

#[test]
fn seeded_histories_of_a_right_target_pass() {
    for seed in 0..60 {
        let blocks = [4, 40, 400][seed as usize % 3];
        let (history, _) = run(seed, blocks, 400, Mistake::None);
        assert!(history.overlaps() > 100, "seed {seed} overlaps too little");
        check(&history).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn seeded_mistakes_are_found() {
    for mistake in [Mistake::HalfWrite, Mistake::LostWrite, Mistake::StaleRead, Mistake::BlindExchange] {
        let mut made = 0;
        let mut found = 0;
        for seed in 0..40 {
            let (history, wrong) = run(seed, [4, 40][seed as usize % 2], 400, mistake);
            made += u32::from(wrong);
            let failed = check(&history).is_err();
            found += u32::from(failed);
            assert!(wrong || !failed, "{mistake:?} seed {seed}: found, but not made");
        }
        // A wrong write that is overwritten before anyone looks leaves no trace; of several some are seen.
        assert!(made >= 36 && found + 2 >= made, "{mistake:?}: found {found} of {made}");
    }
}
