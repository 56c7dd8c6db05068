//! The copy manager alone: its pieces are answered by a table of bytes.

use bytes::Bytes;
use proptest::prelude::*;
use protocol::block::BLOCK_BYTES;
use protocol::scsi::sense::{CopyDetails, CopyEnd, Forwarded};

use super::*;
use crate::command::Op;

const BLOCKS: usize = 8192;
const NEXUS: NexusId = NexusId(3);

/// Two LUNs whose blocks are one byte each here, and a copy manager.
struct Bench {
    manager: CopyManager,
    luns: [Vec<u8>; 2],
    now: Time,
    asked: Vec<Command>,
    /// Permits that are there.
    permitted: Vec<(LunIndex, NexusId, u32)>,
    answers: Vec<(TaskTag, Outcome)>,
    aborted: Vec<TaskTag>,
    most: usize,
}

fn order(task: u32, segments: &[Result<Segment, Sense>]) -> CopyOrder {
    CopyOrder {
        lun: LunIndex(0),
        nexus: NEXUS,
        task,
        list: Some(ListName { id: 9, hold: true }),
        segments: segments.to_vec(),
        received: Time(0),
    }
}

fn segment(source: (u16, u64), destination: (u16, u64), blocks: u32) -> Result<Segment, Sense> {
    let end = |(lun, lba)| (LunIndex(lun), lba);
    Ok(Segment { source: end(source), destination: end(destination), blocks })
}

impl Bench {
    fn new() -> Self {
        let content =
            |salt: usize| (0..BLOCKS).map(|at| ((at * 7 + at / 1024 + salt) % 255 + 1) as u8).collect();
        Self {
            manager: CopyManager::default(),
            luns: [content(1), content(100)],
            now: Time(0),
            asked: Vec::new(),
            permitted: Vec::new(),
            answers: Vec::new(),
            aborted: Vec::new(),
            most: 0,
        }
    }

    fn begin(&mut self, order: CopyOrder) {
        self.manager.begin(order, self.now);
        self.take();
    }

    /// Takes what the copy manager asks for.
    fn take(&mut self) {
        while let Some(act) = self.manager.next_act() {
            match act {
                Act::Permit(lun, nexus, task) => self.permitted.push((lun, nexus, task)),
                Act::Revoke(lun, nexus, task) => assert!(self.permitted.contains(&(lun, nexus, task))),
                Act::EndPermit(lun, nexus, task) => {
                    let before = self.permitted.len();
                    self.permitted.retain(|known| *known != (lun, nexus, task));
                    assert_eq!(self.permitted.len() + 1, before);
                }
                Act::Ask(command) => {
                    assert!(command.tag.is_piece() && command.received == self.now);
                    assert!(self.permitted.contains(&(command.lun, command.nexus, command.tag.task())));
                    self.asked.push(command);
                    self.most = self.most.max(self.asked.len());
                }
                Act::Abort(_, _, tag) => self.aborted.push(tag),
                Act::Answer(_, tag, outcome) => {
                    assert!(
                        self.asked.iter().all(|piece| piece.tag.task() != tag.task()),
                        "pieces under way"
                    );
                    self.answers.push((tag, outcome));
                }
            }
        }
    }

    /// Ends one piece.
    fn end(&mut self, at: usize, outcome: Option<Outcome>) {
        let command = self.asked.remove(at);
        let outcome = outcome.unwrap_or_else(|| self.done(&command));
        self.manager.on_piece(command.nexus, command.tag, outcome, self.now);
        self.take();
    }

    fn done(&mut self, command: &Command) -> Outcome {
        let lun = &mut self.luns[usize::from(command.lun.0)];
        match &command.op {
            Op::Read { range } => {
                let blocks = &lun[range.start.0 as usize..range.end().0 as usize];
                let bytes =
                    blocks.iter().flat_map(|byte| vec![*byte; BLOCK_BYTES as usize]).collect::<Vec<_>>();
                Outcome::Good(vec![Bytes::from(bytes)])
            }
            Op::Write { range, data, .. } => {
                let bytes = data.concat();
                for (at, block) in (range.start.0 as usize..).zip(bytes.chunks(BLOCK_BYTES as usize)) {
                    lun[at] = block[0];
                }
                Outcome::Good(Vec::new())
            }
            Op::WriteSame { range, unmap: true, .. } => {
                lun[range.start.0 as usize..range.end().0 as usize].fill(0);
                Outcome::Good(Vec::new())
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self) -> Outcome {
        while !self.asked.is_empty() {
            self.end(0, None);
        }
        assert_eq!(self.answers.len(), 1, "{:?}", self.answers);
        assert!(self.permitted.is_empty(), "permits are left");
        self.answers.remove(0).1
    }

    fn progress(&self) -> Option<Progress> {
        self.manager.progress(NEXUS, LunIndex(0), 9)
    }
}

fn good() -> Outcome {
    Outcome::Good(Vec::new())
}

fn aborted(sense: Sense, segment: u16, residue: Option<u64>, forwarded: Option<Forwarded>) -> Outcome {
    let copy = Some(CopyDetails { segment, in_segment: None, forwarded });
    Outcome::Check(Sense { information: residue, copy, ..sense })
}

#[test]
fn pieces_of_a_segment_go_beside_each_other_within_their_bounds() {
    let mut bench = Bench::new();
    let wanted = bench.luns[0][5..5005].to_vec();
    bench.begin(order(1, &[segment((0, 5), (1, 17), 5000)]));
    assert_eq!(bench.asked.len(), EXTENDED_COPY_CHUNKS_MAX);
    let progress = Progress { status: CopyStatus::InProgress, segments: 1, bytes: 0 };
    assert_eq!(bench.progress(), Some(progress));
    assert_eq!(bench.run(), good());
    assert_eq!(bench.luns[1][17..5017], wanted);
    assert_eq!(bench.most, EXTENDED_COPY_CHUNKS_MAX);
    let progress = Progress { status: CopyStatus::Completed, segments: 1, bytes: 5000 * 512 };
    assert_eq!(bench.progress(), Some(progress));
    assert_eq!(bench.manager.failure(NEXUS, LunIndex(0), 9), Some(None));
}

#[test]
fn zeros_are_written_as_a_hole() {
    let mut bench = Bench::new();
    bench.luns[0][..1024].fill(0);
    bench.begin(order(1, &[segment((0, 0), (1, 0), 1024)]));
    bench.end(0, None);
    assert!(matches!(bench.asked[0].op, Op::WriteSame { unmap: true, .. }), "{:?}", bench.asked);
    assert_eq!(bench.run(), good());
    assert_eq!(bench.luns[1][..1024], [0; 1024]);
}

#[test]
fn an_empty_list_and_empty_segments_are_done_at_once() {
    for segments in [vec![], vec![segment((0, 0), (1, 0), 0)]] {
        let mut bench = Bench::new();
        bench.begin(order(1, &segments));
        assert_eq!(bench.run(), good());
    }
}

#[test]
fn a_segment_that_cannot_be_ends_the_copy_when_its_turn_has_come() {
    let mut bench = Bench::new();
    let wanted = bench.luns[0][..10].to_vec();
    let refused = Sense::UNREACHABLE_COPY_TARGET.at_segment(1);
    bench.begin(order(1, &[segment((0, 0), (1, 0), 10), Err(refused), segment((0, 0), (1, 20), 10)]));
    assert_eq!(bench.run(), Outcome::Check(refused));
    assert_eq!(bench.luns[1][..10], wanted);
    assert_ne!(bench.luns[1][20..30], wanted);
    assert_eq!(bench.manager.failure(NEXUS, LunIndex(0), 9), Some(Some(refused)));
    let progress = Progress { status: CopyStatus::Failed, segments: 2, bytes: 5120 };
    assert_eq!(bench.progress(), Some(progress));
    bench.manager.failure_told(NEXUS, LunIndex(0), 9);
    assert_eq!(bench.manager.failure(NEXUS, LunIndex(0), 9), Some(None));
}

#[test]
fn what_an_end_says_is_forwarded_with_the_segment_and_the_residue() {
    let conflict = Outcome::Status(Status::ReservationConflict);
    let forwarded = |end| Some(Forwarded { end, status: Status::ReservationConflict, sense: None });
    let failure = Sense::THIRD_PARTY_DEVICE_FAILURE;
    // The first read fails: nothing was written.
    let mut bench = Bench::new();
    bench.begin(order(1, &[segment((0, 0), (1, 0), 3000)]));
    bench.end(0, Some(conflict.clone()));
    assert_eq!(bench.run(), aborted(failure, 0, None, forwarded(CopyEnd::Source)));
    // The second piece's write fails, the first and the third are written: what counts is up to the gap.
    let mut bench = Bench::new();
    bench.begin(order(1, &[segment((0, 0), (1, 0), 3000)]));
    (0..3).for_each(|_| bench.end(0, None));
    bench.end(1, Some(conflict));
    assert_eq!(bench.run(), aborted(failure, 0, Some(3000 - 1024), forwarded(CopyEnd::Destination)));
    // A sense is forwarded too.
    let mut bench = Bench::new();
    bench.begin(order(1, &[segment((0, 0), (1, 0), 1)]));
    bench.end(0, None);
    bench.end(0, Some(Outcome::Check(Sense::WRITE_PROTECTED)));
    let sense = Some((Sense::WRITE_PROTECTED.key, Sense::WRITE_PROTECTED.code));
    let said = Forwarded { end: CopyEnd::Destination, status: Status::CheckCondition, sense };
    assert_eq!(bench.run(), aborted(failure, 0, None, Some(said)));
    // Less data than asked for.
    let mut bench = Bench::new();
    bench.begin(order(1, &[segment((0, 0), (1, 0), 1)]));
    bench.end(0, Some(Outcome::Good(vec![Bytes::from_static(&[1; 511])])));
    assert_eq!(bench.run(), aborted(failure, 0, None, None));
}

#[test]
fn a_piece_for_which_there_is_no_room_comes_again_at_the_next_tick() {
    for status in [Status::Busy, Status::TaskSetFull] {
        let mut bench = Bench::new();
        let wanted = bench.luns[0][..100].to_vec();
        bench.begin(order(1, &[segment((0, 0), (1, 0), 100)]));
        for _ in 0..2 {
            let first = bench.asked[0].clone();
            bench.end(0, Some(Outcome::Status(status)));
            assert!(bench.asked.is_empty() && bench.answers.is_empty());
            bench.now = bench.now + Duration::from_millis(50);
            bench.manager.on_tick(bench.now);
            bench.take();
            assert_eq!(bench.asked[0].op, first.op);
            assert_ne!(bench.asked[0].tag, first.tag, "a late answer to the first is nobody's");
            bench.end(0, None);
        }
        assert_eq!(bench.run(), good());
        assert_eq!(bench.luns[1][..100], wanted);
    }
}

#[test]
fn a_copy_that_takes_too_long_begins_nothing_more() {
    let mut bench = Bench::new();
    bench.begin(order(1, &[segment((0, 0), (1, 0), 8000)]));
    bench.end(0, None);
    bench.end(3, None);
    bench.end(0, Some(Outcome::Status(Status::Busy)));
    bench.now = Time(0) + EXTENDED_COPY_TIME_MAX;
    bench.manager.on_tick(bench.now);
    bench.take();
    assert_eq!(bench.asked.len(), 3);
    assert_eq!(bench.run(), aborted(Sense::COPY_ABORTED, 0, Some(8000 - 1024), None));
    let mut bench = Bench::new();
    bench.now = Time(0) + COMMAND_AGE_MAX;
    bench.begin(order(1, &[]));
    assert_eq!(bench.run(), Outcome::Status(Status::Busy), "it was too old before it began");
}

#[test]
fn a_copy_that_is_given_up_ends_with_its_last_piece_and_writes_nothing_more() {
    let mut bench = Bench::new();
    bench.begin(order(1, &[segment((0, 0), (1, 0), 8000)]));
    bench.end(0, None);
    bench.manager.give_up(NEXUS, 1, bench.now);
    bench.take();
    let under_way: Vec<TaskTag> = bench.asked.iter().map(|piece| piece.tag).collect();
    assert_eq!((bench.aborted.clone(), bench.answers.len()), (under_way, 0));
    bench.manager.on_tick(bench.now);
    bench.take();
    assert_eq!(bench.aborted.len(), 8, "it is said again");
    let writes =
        |bench: &Bench| bench.asked.iter().filter(|piece| !matches!(piece.op, Op::Read { .. })).count();
    assert_eq!(writes(&bench), 1);
    bench.end(0, None);
    assert_eq!(writes(&bench), 1);
    assert_eq!(bench.run(), Outcome::Aborted);
    assert_eq!(bench.progress(), None, "nobody hears of it");
    bench.manager.give_up(NEXUS, 1, bench.now);
    bench.take();
    assert!(bench.answers.is_empty());
}

#[test]
fn a_list_identifier_is_in_use_until_its_copy_has_ended() {
    let mut bench = Bench::new();
    let copy = || order(1, &[segment((0, 0), (1, 0), 10)]);
    bench.begin(copy());
    bench.begin(CopyOrder { task: 2, ..copy() });
    assert_eq!(bench.answers, [(TaskTag::of(2), Outcome::Check(Sense::OPERATION_IN_PROGRESS))]);
    bench.answers.clear();
    // Another nexus, another LUN, another identifier, none.
    let other = CopyOrder { task: 3, ..copy() };
    let list = Some(ListName { id: 8, hold: false });
    for (number, order) in [
        CopyOrder { nexus: NexusId(4), ..other.clone() },
        CopyOrder { lun: LunIndex(1), ..other.clone() },
        CopyOrder { list, task: 4, ..other.clone() },
        CopyOrder { list: None, task: 5, ..other },
    ]
    .into_iter()
    .enumerate()
    {
        bench.begin(CopyOrder { task: 10 + number as u32, ..order });
    }
    assert_eq!(bench.asked.len(), 5);
    while !bench.asked.is_empty() {
        bench.end(0, None);
    }
    assert_eq!(bench.answers.len(), 5);
    assert!(bench.answers.iter().all(|(_, outcome)| *outcome == good()));
    assert!(bench.progress().is_some());
    assert_eq!(bench.manager.progress(NEXUS, LunIndex(0), 8), None, "not to be held");
    bench.answers.clear();
    bench.begin(copy());
    assert_eq!(bench.progress().map(|progress| progress.status), Some(CopyStatus::InProgress));
    bench.run();
    bench.manager.was_reset(LunIndex(1));
    assert!(bench.progress().is_some());
    bench.manager.was_reset(LunIndex(0));
    assert_eq!(bench.progress(), None);
    bench.begin(copy());
    bench.run();
    bench.manager.nexus_lost(NEXUS, bench.now);
    assert_eq!(bench.progress(), None);
}

#[test]
fn more_copies_than_there_may_be_are_told_to_come_again() {
    let mut bench = Bench::new();
    for task in 0..EXTENDED_COPIES_MAX as u32 {
        bench.begin(CopyOrder { list: None, ..order(task, &[segment((0, 0), (1, 0), 10)]) });
    }
    assert!(bench.answers.is_empty());
    bench.begin(CopyOrder { list: None, ..order(99, &[]) });
    bench.begin(CopyOrder { list: None, nexus: NexusId(7), ..order(98, &[]) });
    let statuses: Vec<Outcome> = bench.answers.drain(..).map(|(_, outcome)| outcome).collect();
    assert_eq!(statuses, [Status::TaskSetFull, Status::Busy].map(Outcome::Status));
    let limits = bench.manager.limits();
    let used = |name: &str| limits.iter().find(|limit| limit.name == name).and_then(|limit| limit.used);
    assert_eq!((used("EXTENDED_COPIES_MAX"), used("EXTENDED_COPY_CHUNKS_MAX")), (Some(16), Some(1)));
}

#[test]
fn the_oldest_list_identifier_makes_room_for_the_newest() {
    let mut bench = Bench::new();
    let ended = |bench: &mut Bench, nexus: u64, id: u8| {
        let list = Some(ListName { id, hold: true });
        bench.begin(CopyOrder { list, nexus: NexusId(nexus), ..order(1, &[]) });
        assert_eq!(bench.run(), good());
    };
    (0..=NEXUS_COPY_RESULTS_MAX as u8).for_each(|id| ended(&mut bench, 1, id));
    let known = |bench: &Bench, nexus, id| bench.manager.progress(NexusId(nexus), LunIndex(0), id).is_some();
    assert!(!known(&bench, 1, 0) && (1..=NEXUS_COPY_RESULTS_MAX as u8).all(|id| known(&bench, 1, id)));
    for nexus in 2..=COPY_RESULTS_MAX as u64 + 1 {
        ended(&mut bench, nexus, 5);
    }
    assert!(!known(&bench, 1, NEXUS_COPY_RESULTS_MAX as u8) && known(&bench, COPY_RESULTS_MAX as u64 + 1, 5));
    let limits = bench.manager.limits();
    let results = limits.iter().find(|limit| limit.name == "COPY_RESULTS_MAX").unwrap();
    assert_eq!(results.used, Some(results.max));
}

proptest! {
    /// Against moving the bytes at once: overlapping or not, in whatever order pieces end.
    #[test]
    fn a_copy_is_the_same_as_moving_all_of_a_segment_at_once(
        segments in prop::collection::vec((0_u16..2, 0_u64..4000, 0_u16..2, 0_u64..4000, 0_u32..4000), 0..4),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
        busy in 2_usize..9,
    ) {
        let mut bench = Bench::new();
        let mut model = bench.luns.clone();
        let mut asked = Vec::new();
        for (from, source, to, destination, blocks) in segments {
            asked.push(segment((from, source), (to, destination), blocks));
            let moved = model[usize::from(from)][source as usize..][..blocks as usize].to_vec();
            model[usize::from(to)][destination as usize..][..blocks as usize].copy_from_slice(&moved);
        }
        bench.begin(order(1, &asked));
        let mut ended = 0;
        for step in 0..10_000 {
            if bench.asked.is_empty() && !bench.answers.is_empty() {
                break;
            }
            if bench.asked.is_empty() {
                bench.manager.on_tick(bench.now);
                bench.take();
            } else {
                let at = picks[step % picks.len()].index(bench.asked.len());
                ended += 1;
                let busy = ended % busy == 0;
                bench.end(at, busy.then_some(Outcome::Status(Status::Busy)));
            }
        }
        prop_assert_eq!(bench.answers, [(TaskTag::of(1), good())]);
        prop_assert!(bench.luns == model);
    }
}
