//! SANITIZE and EXTENDED COPY through crashes of whoever carries them out, each written out as a script: what was begun
//! is done on both copies, or, of a copy, was answered with an error. Main is alpha, sub is beta; hosts A and C are
//! alpha's, host B is beta's, and it asks.
//!
//! Every one ends with all blocks of both copies compared and judged.

use controller::plan::Side;

use super::scenario::Scenario;
use super::scenarios::{A, ALPHA, B, BETA, GOOD, HERE, act, must, scripted, when};
use super::script::Act::{Ask as Asks, Hold as Holds, Kill, PowerLoss, Release, Start};
use super::script::Ask::{CopyZeros, Read, Sanitize, Synchronize, Write};
use super::script::Moment::{self, Ended, Heard, Idle, InFlight, Not, Sanitizing, Settled, Waits, Zeros};
use super::script::{Act, Hold, Io, Step};
use super::settings::{LUN_BLOCKS, Settings, lun};
use crate::judge::Extent;

/// All of them by name.
pub const ALL: [(&str, Scenario); 6] = [
    ("sanitize-before-a-block", sanitize_before_a_block),
    ("sanitize-main-lost", sanitize_main_lost),
    ("sanitize-both-lost", sanitize_both_lost),
    ("copy", copy),
    ("copy-main-lost", copy_main_lost),
    ("copy-manager-lost", copy_manager_lost),
];

const WHOLE: Extent = Extent { start: 0, blocks: LUN_BLOCKS };

/// 1 MiB: what one piece of SANITIZE overwrites, and two of EXTENDED COPY write.
const FIRST: Extent = Extent { start: 0, blocks: 2048 };

/// The next one.
const SECOND: Extent = Extent { start: 2048, blocks: 2048 };

/// NOT READY, SANITIZE IN PROGRESS.
const IN_PROGRESS: (u8, u8, u8) = (0x02, 0x04, 0x1b);

fn not(moment: Moment) -> Moment {
    Not(Box::new(moment))
}

/// A writes at the beginning, in the second mebibyte and at the end, and makes it durable.
fn durably_written() -> Vec<Step> {
    let middle = Extent { start: 3000, blocks: 1000 };
    let last = Extent { start: LUN_BLOCKS - 8, blocks: 8 };
    let write = |extent| [act(Asks(A, Write(extent))), when(Ended(A, GOOD))];
    let mut steps: Vec<Step> = [HERE, middle, last].into_iter().flat_map(write).collect();
    steps.extend([act(Asks(A, Synchronize)), when(Ended(A, GOOD))]);
    steps
}

fn begins() -> Vec<Step> {
    vec![act(Asks(B, Sanitize)), when(Ended(B, GOOD))]
}

/// Neither controller answers a read.
fn refuses() -> Vec<Step> {
    let refused = |host| [act(Asks(host, Read(HERE))), when(Heard(host, IN_PROGRESS))];
    [A, B].into_iter().flat_map(refused).collect()
}

fn starts(sides: &[Side]) -> Vec<Step> {
    sides.iter().map(|side| act(Start(*side))).collect()
}

/// It goes on by itself to its end, on both copies.
fn sanitized() -> Vec<Step> {
    let mut steps = vec![when(Settled)];
    for side in [ALPHA, BETA] {
        steps.extend([when(not(Sanitizing(side))), must(Zeros(side, WHOLE))]);
    }
    steps
}

/// alpha loses power when it has written no block yet.
#[must_use]
pub fn sanitize_before_a_block(seed: u64) -> Settings {
    let slow = Hold::Disk(ALPHA, Io::Change);
    let holds = vec![act(Holds(slow))];
    let lost = vec![
        when(InFlight(ALPHA, Io::Change)),
        act(PowerLoss(ALPHA)),
        act(Release(slow)),
        must(Moment::Holds(ALPHA, A)),
    ];
    let steps = [durably_written(), holds, begins(), refuses(), lost, starts(&[ALPHA]), sanitized()];
    scripted("sanitize-before-a-block", seed, steps)
}

/// These controllers lose power when beta's copy has a piece, and alpha's flush of what it has is not over.
fn sanitize_lost(name: &'static str, seed: u64, lost: &[Side]) -> Settings {
    let slow = Hold::Disk(ALPHA, Io::Flush);
    let middle = vec![when(Zeros(BETA, SECOND)), act(Holds(slow))];
    let mut ends = vec![must(Sanitizing(ALPHA)), must(Sanitizing(BETA))];
    ends.extend(lost.iter().map(|side| act(PowerLoss(*side))));
    ends.push(act(Release(slow)));
    scripted(name, seed, [durably_written(), begins(), middle, refuses(), ends, starts(lost), sanitized()])
}

/// alpha, which orders the pieces, loses power in the middle.
#[must_use]
pub fn sanitize_main_lost(seed: u64) -> Settings {
    sanitize_lost("sanitize-main-lost", seed, &[ALPHA])
}

/// Both do.
#[must_use]
pub fn sanitize_both_lost(seed: u64) -> Settings {
    sanitize_lost("sanitize-both-lost", seed, &[ALPHA, BETA])
}

/// A writes everything, and B copies zeros over it from a LUN whose main is beta.
fn copied(name: &'static str, seed: u64, before: Vec<Step>, after: Vec<Step>) -> Settings {
    let pieces = (0..LUN_BLOCKS / 1024).map(|at| Extent { start: at * 1024, blocks: 1024 });
    let write = |extent| [act(Asks(A, Write(extent))), when(Ended(A, GOOD))];
    let written = pieces.flat_map(write).collect();
    let mut settings = scripted(name, seed, [written, before, vec![act(Asks(B, CopyZeros(WHOLE)))], after]);
    settings.luns.push(lun(1, BETA, true, true));
    settings
}

/// Nothing happens to it.
#[must_use]
pub fn copy(seed: u64) -> Settings {
    let all = vec![when(Ended(B, GOOD)), must(Zeros(ALPHA, WHOLE)), must(Zeros(BETA, WHOLE))];
    copied("copy", seed, Vec::new(), all)
}

/// One copy has pieces that the other does not say to have. That one's controller ends: whatever B hears is no success.
fn copy_lost(name: &'static str, seed: u64, has: Side, lost: Side, ends: Act) -> Settings {
    let slow = Hold::Disk(lost, Io::Change);
    let after = vec![
        when(Zeros(has, FIRST)),
        must(Waits(B)),
        act(ends),
        act(Release(slow)),
        when(Idle(B)),
        must(not(Ended(B, GOOD))),
        act(Start(lost)),
    ];
    copied(name, seed, vec![act(Holds(slow))], after)
}

/// alpha, which orders what is written, loses power.
#[must_use]
pub fn copy_main_lost(seed: u64) -> Settings {
    copy_lost("copy-main-lost", seed, BETA, ALPHA, PowerLoss(ALPHA))
}

/// beta, which was asked, ends.
#[must_use]
pub fn copy_manager_lost(seed: u64) -> Settings {
    copy_lost("copy-manager-lost", seed, ALPHA, BETA, Kill(BETA))
}
