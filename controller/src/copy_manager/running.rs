//! One EXTENDED COPY under way.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::block::{BLOCK_BYTES, BlockRange, Lba};
use protocol::scsi::extended_copy::CopyStatus;
use protocol::scsi::sense::{CopyDetails, CopyEnd, Forwarded, Sense, Status};

use super::{
    Act, CopyOrder, EXTENDED_COPY_CHUNK_BLOCKS_MAX, EXTENDED_COPY_CHUNKS_MAX, EXTENDED_COPY_TIME_MAX,
    Progress, Segment,
};
use crate::command::{Command, Data, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::time::Time;

/// How a copy ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    /// All of it was done.
    Done,
    /// COPY ABORTED.
    Failed(Sense),
    /// Its task was aborted, its session is gone, or a LUN has revoked its permit.
    GivenUp,
}

/// What a piece waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// Its data.
    Reading,
    /// Being written, which is this.
    Writing(Data),
    /// The next tick: there was no room for it; it is read again, or written if it was read.
    Again(Option<Data>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Piece {
    number: u32,
    /// Its first block, counted from the segment's.
    offset: u32,
    blocks: u32,
    stage: Stage,
}

/// One EXTENDED COPY under way.
#[derive(Debug)]
pub(super) struct Running {
    order: CopyOrder,
    /// Every LUN it has to do with, the one it was sent to among them; ascending.
    luns: Vec<LunIndex>,
    begun: Time,
    /// The segment that is being processed.
    at: usize,
    /// Blocks of it for which pieces were begun.
    taken: u32,
    /// Blocks of it that are written without a gap, from its first.
    written: u32,
    /// Pieces of it that are written beyond those, by offset, with their blocks.
    beyond: Vec<(u32, u32)>,
    pieces: Vec<Piece>,
    numbers: u32,
    /// Blocks written of all segments.
    total: u64,
    /// Nothing more is begun.
    over: Option<Over>,
}

impl Running {
    pub(super) fn new(order: CopyOrder, now: Time) -> Self {
        let ends = |segment: &Segment| [segment.source.0, segment.destination.0];
        let mut luns: Vec<LunIndex> = order.segments.iter().flatten().flat_map(ends).collect();
        luns.push(order.lun);
        luns.sort_unstable();
        luns.dedup();
        Self {
            order,
            luns,
            begun: now,
            at: 0,
            taken: 0,
            written: 0,
            beyond: Vec::new(),
            pieces: Vec::new(),
            numbers: 0,
            total: 0,
            over: None,
        }
    }

    pub(super) fn luns(&self) -> &[LunIndex] {
        &self.luns
    }

    pub(super) const fn lun(&self) -> LunIndex {
        self.order.lun
    }

    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn is_named(&self, nexus: NexusId, lun: LunIndex, list: u8) -> bool {
        (self.order.nexus, self.order.lun) == (nexus, lun)
            && self.order.list.is_some_and(|name| name.id == list)
    }

    /// What it is known by to RECEIVE COPY RESULTS, if it has a list identifier.
    pub(super) fn name(&self) -> Option<(NexusId, LunIndex, u8)> {
        self.order.list.map(|list| (self.order.nexus, self.order.lun, list.id))
    }

    /// What always holds of one copy.
    pub(super) fn check(&self) {
        assert!(self.luns.is_sorted() && self.luns.contains(&self.order.lun), "{:?}", self.luns);
        assert!(self.pieces.len() <= EXTENDED_COPY_CHUNKS_MAX, "{} pieces", self.pieces.len());
        let blocks = match self.order.segments.get(self.at) {
            Some(Ok(segment)) => segment.blocks,
            _ => 0,
        };
        let under_way: u32 = self.pieces.iter().map(|piece| piece.blocks).sum();
        let beyond: u32 = self.beyond.iter().map(|(_, blocks)| blocks).sum();
        assert!(
            self.written + beyond + under_way <= self.taken && self.taken <= blocks,
            "{} written, {beyond} behind gaps, {under_way} under way of {} taken of {blocks}",
            self.written,
            self.taken
        );
        let known = |piece: &Piece| 0 < piece.number && piece.number <= self.numbers;
        assert!(self.pieces.iter().all(known), "a piece without a number: {:?}", self.pieces);
    }

    /// The list identifier under which the end is to be remembered.
    pub(super) fn held_list(&self) -> Option<u8> {
        self.order.list.filter(|name| name.hold).map(|name| name.id)
    }

    pub(super) fn progress(&self) -> Progress {
        let begun = self.order.segments.len().min(self.at + 1);
        Progress {
            status: CopyStatus::InProgress,
            segments: u16::try_from(begun).unwrap_or(u16::MAX),
            bytes: u32::try_from(self.total * u64::from(BLOCK_BYTES)).unwrap_or(u32::MAX),
        }
    }

    /// Begins what may begin. `Some` if the copy is over and nothing of it is under way.
    pub(super) fn go_on(&mut self, acts: &mut VecDeque<Act>, now: Time) -> Option<Over> {
        while self.over.is_none() {
            match self.order.segments.get(self.at).copied() {
                None => self.over = Some(Over::Done),
                Some(Err(sense)) => self.over = Some(Over::Failed(sense.at_least_segment(self.segment()))),
                Some(Ok(segment)) => {
                    if now.since(self.begun) >= EXTENDED_COPY_TIME_MAX {
                        self.fail(Sense::COPY_ABORTED, None);
                        break;
                    }
                    self.begin_pieces(&segment, acts, now);
                    if !self.pieces.is_empty() {
                        return None;
                    }
                    self.at += 1;
                    (self.taken, self.written) = (0, 0);
                    self.beyond.clear();
                }
            }
        }
        // What waits to be asked again never is.
        self.pieces.retain(|piece| !matches!(piece.stage, Stage::Again(_)));
        self.over.filter(|_| self.pieces.is_empty()).map(|over| self.with_residue(over))
    }

    fn segment(&self) -> u16 {
        u16::try_from(self.at).unwrap_or(u16::MAX)
    }

    fn begin_pieces(&mut self, segment: &Segment, acts: &mut VecDeque<Act>, now: Time) {
        let (overlap, backwards) = overlap(segment);
        let at_once = if overlap { 1 } else { EXTENDED_COPY_CHUNKS_MAX };
        while self.pieces.len() < at_once && self.taken < segment.blocks {
            let blocks = (segment.blocks - self.taken).min(EXTENDED_COPY_CHUNK_BLOCKS_MAX);
            let offset = if backwards { segment.blocks - self.taken - blocks } else { self.taken };
            self.taken += blocks;
            self.ask(Piece { number: 0, offset, blocks, stage: Stage::Reading }, acts, now);
        }
    }

    /// A piece comes to the door, under a number of its own.
    fn ask(&mut self, mut piece: Piece, acts: &mut VecDeque<Act>, now: Time) {
        let Some(Ok(segment)) = self.order.segments.get(self.at) else {
            return;
        };
        self.numbers += 1;
        piece.number = self.numbers;
        let blocks = u64::from(piece.blocks);
        let range = |start: u64| BlockRange { start: Lba(start + u64::from(piece.offset)), blocks };
        let (lun, op) = match &piece.stage {
            Stage::Writing(data) => (segment.destination.0, written(range(segment.destination.1), data)),
            Stage::Reading | Stage::Again(_) => {
                (segment.source.0, Op::Read { range: range(segment.source.1) })
            }
        };
        let tag = TaskTag::piece(self.order.task, piece.number);
        acts.push_back(Act::Ask(Command { lun, nexus: self.order.nexus, tag, op, received: now }));
        self.pieces.push(piece);
    }

    /// A piece has ended.
    pub(super) fn on_piece(&mut self, number: u32, outcome: Outcome, acts: &mut VecDeque<Act>, now: Time) {
        let Some(at) = self.pieces.iter().position(|piece| piece.number == number) else {
            return;
        };
        let mut piece = self.pieces.remove(at);
        let reading = piece.stage == Stage::Reading;
        let bytes = |data: &Data| data.iter().map(|part| part.len() as u64).sum::<u64>();
        let end = if reading { CopyEnd::Source } else { CopyEnd::Destination };
        match outcome {
            Outcome::Good(_) if !reading => self.on_written(piece.offset, piece.blocks),
            Outcome::Good(data) if bytes(&data) == u64::from(piece.blocks) * u64::from(BLOCK_BYTES) => {
                if self.over.is_none() {
                    piece.stage = Stage::Writing(data);
                    self.ask(piece, acts, now);
                }
            }
            Outcome::Good(_) => self.fail(Sense::THIRD_PARTY_DEVICE_FAILURE, None),
            Outcome::Status(Status::Busy | Status::TaskSetFull) => {
                let data = if let Stage::Writing(data) = piece.stage { Some(data) } else { None };
                self.pieces.push(Piece { stage: Stage::Again(data), ..piece });
            }
            Outcome::Status(status) => self.fail_by(Forwarded { end, status, sense: None }),
            Outcome::Check(sense) => {
                let (status, sense) = (Status::CheckCondition, Some((sense.key, sense.code)));
                self.fail_by(Forwarded { end, status, sense });
            }
            Outcome::Aborted => self.fail_by(Forwarded { end, status: Status::TaskAborted, sense: None }),
        }
    }

    fn on_written(&mut self, offset: u32, blocks: u32) {
        self.total += u64::from(blocks);
        self.beyond.push((offset, blocks));
        while let Some(next) = self.beyond.iter().position(|(offset, _)| *offset == self.written) {
            self.written += self.beyond.swap_remove(next).1;
        }
    }

    fn fail_by(&mut self, forwarded: Forwarded) {
        self.fail(Sense::THIRD_PARTY_DEVICE_FAILURE, Some(forwarded));
    }

    /// The first failure is the one that is told.
    fn fail(&mut self, sense: Sense, forwarded: Option<Forwarded>) {
        if self.over.is_none() {
            let copy = Some(CopyDetails { segment: self.segment(), in_segment: None, forwarded });
            self.over = Some(Over::Failed(Sense { copy, ..sense }));
        }
    }

    /// If anything of the segment was written, the residue: what is not, in blocks, counted from the first gap (SPC-4
    /// 6.4).
    fn with_residue(&self, over: Over) -> Over {
        match (over, self.order.segments.get(self.at)) {
            (Over::Failed(sense), Some(Ok(segment))) if self.written > 0 || !self.beyond.is_empty() => {
                Over::Failed(Sense { information: Some(u64::from(segment.blocks - self.written)), ..sense })
            }
            (over, _) => over,
        }
    }

    /// Nothing more is begun, and what was not admitted never is.
    pub(super) fn give_up(&mut self, acts: &mut VecDeque<Act>) {
        if self.over != Some(Over::GivenUp) {
            self.over = Some(Over::GivenUp);
            let (nexus, task) = (self.order.nexus, self.order.task);
            acts.extend(self.luns.iter().map(|lun| Act::Revoke(*lun, nexus, task)));
        }
        self.abort_pieces(acts);
    }

    fn abort_pieces(&self, acts: &mut VecDeque<Act>) {
        let Some(Ok(segment)) = self.order.segments.get(self.at) else {
            return;
        };
        for piece in &self.pieces {
            let lun = match piece.stage {
                Stage::Reading => segment.source.0,
                Stage::Writing(_) => segment.destination.0,
                Stage::Again(_) => continue,
            };
            let tag = TaskTag::piece(self.order.task, piece.number);
            acts.push_back(Act::Abort(lun, self.order.nexus, tag));
        }
    }

    /// Time has passed: those for which there was no room come again; what is given up is said to be so again, for the
    /// first time it may have overtaken its piece.
    pub(super) fn on_tick(&mut self, acts: &mut VecDeque<Act>, now: Time) {
        if self.over == Some(Over::GivenUp) {
            return self.abort_pieces(acts);
        }
        if self.over.is_some() || now.since(self.begun) >= EXTENDED_COPY_TIME_MAX {
            return;
        }
        let again: Vec<Piece> =
            self.pieces.extract_if(.., |piece| matches!(piece.stage, Stage::Again(_))).collect();
        for mut piece in again {
            piece.stage = match piece.stage {
                Stage::Again(Some(data)) => Stage::Writing(data),
                _ => Stage::Reading,
            };
            self.ask(piece, acts, now);
        }
    }
}

/// Whether source and destination overlap, and then whether the last blocks have to be copied first.
fn overlap(segment: &Segment) -> (bool, bool) {
    let ((from, source), (to, destination)) = (segment.source, segment.destination);
    let overlap = from == to && source.abs_diff(destination) < u64::from(segment.blocks);
    (overlap, overlap && destination > source)
}

/// Zeros are written as a hole, where the destination can have one.
fn written(range: BlockRange, data: &Data) -> Op {
    if data.iter().all(|part| part.iter().all(|byte| *byte == 0)) {
        let block = Bytes::from_static(&[0; BLOCK_BYTES as usize]);
        Op::WriteSame { range, block, unmap: true }
    } else {
        Op::Write { range, data: data.clone(), fua: false }
    }
}
