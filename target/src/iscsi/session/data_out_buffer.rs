//! The buffer for the Data-Out of one command (RFC 7143 4.2.5.2, 11.7): immediate, unsolicited and solicited.
//!
//! DataPDUInOrder and DataSequenceInOrder are always Yes, so bytes arrive in one order only: `received` is where
//! the next one belongs. A *sequence* is a run of Data-Out ended by the F bit: the unsolicited one, or the
//! answer to one R2T. A broken rule fails the transfer; the command then ends with CHECK CONDITION once every
//! sequence that was begun has ended (11.4.2, 11.17.1), and is never executed. The same way ends what is refused
//! before its data is here.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::iscsi::RESERVED_TAG;
use protocol::scsi::sense::{Sense, SenseKey, Status};

/// Unexpected unsolicited data (RFC 7143 11.4.7.2).
pub const UNEXPECTED_UNSOLICITED_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0c);

/// Incorrect amount of data (11.4.7.2).
pub const INCORRECT_AMOUNT_OF_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0d);

/// Protocol service CRC error (11.4.7.2): a data digest did not match.
pub const PROTOCOL_SERVICE_CRC_ERROR: Sense = Sense::new(SenseKey::AbortedCommand, 0x47, 0x05);

/// Chunks shorter than this, in bytes, are coalesced: a transfer in tiny PDUs takes little more memory than its data.
const COALESCED_BYTES: usize = 4096;

/// Why a command is not executed although it may be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// With CHECK CONDITION.
    Check(Sense),
    /// With this status.
    Status(Status),
}

/// One Data-Out PDU, without its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Target Transfer Tag; [`RESERVED_TAG`] for unsolicited data.
    pub transfer_tag: u32,
    /// DataSN.
    pub data_sn: u32,
    /// Buffer Offset, in bytes.
    pub offset: u32,
    /// The F bit.
    pub last: bool,
}

/// A Data-Out PDU that belongs to no sequence of the task: it is answered with Reject (reason 09h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no sequence with this target transfer tag is open")]
pub struct NoSequence;

/// Where a transfer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Data-Out is on its way or has to be asked for.
    Waiting,
    /// Everything is here.
    Complete,
    /// A rule was broken, or the command was refused, and no more data is to come.
    Failed(Refusal),
}

/// What an R2T asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicitation {
    /// R2TSN.
    pub number: u32,
    /// Buffer Offset, in bytes.
    pub offset: u32,
    /// Desired Data Transfer Length, in bytes.
    pub length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sequence {
    transfer_tag: u32,
    data_sn: u32,
    end: u32,
}

/// The data-out of one command.
#[derive(Debug, Default)]
pub struct DataOutBuffer {
    chunks: Vec<Bytes>,
    /// Bytes the command takes: the rest of what the initiator wants to send is not asked for.
    wanted: u32,
    /// Bytes the initiator wants to send.
    expected: u32,
    /// Where the next byte belongs.
    received: u32,
    /// How far received data and open sequences reach.
    asked: u32,
    sequences: VecDeque<Sequence>,
    r2ts: u32,
    failed: Option<Refusal>,
    /// Short chunks, not among the chunks yet.
    coalesced: Vec<u8>,
}

/// What a command and its session say about its data-out.
#[derive(Clone, Copy, Debug)]
pub struct DataOutTerms {
    /// Bytes the command takes, at most `expected`.
    pub wanted: u32,
    /// Expected Data Transfer Length of a write, in bytes; zero for what does not write.
    pub expected: u32,
    /// More unsolicited data follows: F=0 in the command.
    pub more: bool,
    /// ImmediateData.
    pub immediate_allowed: bool,
    /// InitialR2T=No.
    pub unsolicited_allowed: bool,
    /// FirstBurstLength.
    pub first_burst: u32,
}

impl DataOutBuffer {
    /// A transfer that begins with the immediate data of the command PDU, perhaps empty.
    #[must_use]
    pub fn begin(terms: &DataOutTerms, immediate: Bytes) -> Self {
        let mut buffer = Self { wanted: terms.wanted, expected: terms.expected, ..Self::default() };
        if terms.expected == 0 && immediate.is_empty() && !terms.more {
            return buffer;
        }
        let burst = terms.first_burst.min(terms.expected);
        if !immediate.is_empty() && (!terms.immediate_allowed || immediate.len() > burst as usize) {
            buffer.fail(UNEXPECTED_UNSOLICITED_DATA);
        }
        if terms.more && !terms.unsolicited_allowed {
            buffer.fail(UNEXPECTED_UNSOLICITED_DATA);
        }
        if terms.more {
            buffer.sequences.push_back(Sequence { transfer_tag: RESERVED_TAG, data_sn: 0, end: burst });
        }
        buffer.append(immediate);
        buffer.asked = if terms.more { burst.max(buffer.received) } else { buffer.received };
        debug_assert!(terms.wanted <= terms.expected, "no more is wanted than is to come");
        buffer
    }

    fn fail(&mut self, sense: Sense) {
        self.refuse(Refusal::Check(sense));
    }

    /// The command is not to be executed: its data is dropped and no more is asked for.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.failed.get_or_insert(refusal);
        self.chunks = Vec::new();
        self.coalesced = Vec::new();
    }

    fn append(&mut self, data: Bytes) {
        let offset = self.received;
        self.received = self.received.saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        if data.is_empty() || self.failed.is_some() || offset >= self.wanted {
            return;
        }
        let useful = data.len().min((self.wanted - offset) as usize);
        let data = if useful == data.len() { data } else { data.slice(..useful) };
        let complete = self.received >= self.wanted && self.coalesced.is_empty();
        if data.len() < COALESCED_BYTES && !complete {
            return self.coalesced.extend_from_slice(&data);
        }
        self.close_joined();
        if complete && self.chunks.is_empty() {
            // All in one: no room for more.
            self.chunks = vec![data];
        } else {
            self.chunks.push(data);
        }
    }

    fn close_joined(&mut self) {
        if !self.coalesced.is_empty() {
            self.chunks.push(core::mem::take(&mut self.coalesced).into());
        }
    }

    /// Takes a Data-Out PDU. `None` stands for data whose digest did not match.
    pub fn on_data(&mut self, header: Header, length: u32, data: Option<Bytes>) -> Result<(), NoSequence> {
        let at =
            self.sequences.iter().position(|s| s.transfer_tag == header.transfer_tag).ok_or(NoSequence)?;
        let sequence = self.sequences[at];
        let end = header.offset.checked_add(length);
        if data.is_none() || header.data_sn != sequence.data_sn {
            // An out-of-order DataSN "means that the target must have hit" a digest error before (7.9).
            self.fail(PROTOCOL_SERVICE_CRC_ERROR);
        } else if at != 0 || header.offset != self.received || end.is_none_or(|end| end > sequence.end) {
            self.fail(INCORRECT_AMOUNT_OF_DATA);
        }
        self.append(data.unwrap_or_default());
        if !header.last {
            self.sequences[at].data_sn = sequence.data_sn.wrapping_add(1);
            return Ok(());
        }
        self.sequences.remove(at);
        if header.transfer_tag != RESERVED_TAG {
            if self.received != sequence.end {
                self.fail(INCORRECT_AMOUNT_OF_DATA);
            }
        } else if self.received != sequence.end && self.expected > sequence.end {
            // "the total amount of unsolicited data is different than FirstBurstLength" (11.4.7.2)
            self.fail(INCORRECT_AMOUNT_OF_DATA);
        } else {
            // What the initiator did not send unasked has to be asked for.
            self.asked = self.received;
        }
        Ok(())
    }

    /// True while Data-Out that was promised or asked for has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sequences.is_empty()
    }

    /// Where the transfer stands.
    #[must_use]
    pub fn progress(&self) -> Progress {
        if !self.sequences.is_empty() {
            return Progress::Waiting;
        }
        match self.failed {
            Some(refusal) => Progress::Failed(refusal),
            None if self.received >= self.wanted => Progress::Complete,
            None => Progress::Waiting,
        }
    }

    /// What the next R2T would ask for, if one is due: not during unsolicited data, not beyond
    /// `outstanding_max` open ones.
    #[must_use]
    pub fn next_solicitation(&self, max_burst: u32, outstanding_max: u32) -> Option<Solicitation> {
        let unsolicited = self.sequences.front().is_some_and(|s| s.transfer_tag == RESERVED_TAG);
        if unsolicited || self.failed.is_some() || self.asked >= self.wanted {
            return None;
        }
        if self.sequences.len() >= outstanding_max as usize {
            return None;
        }
        let length = (self.wanted - self.asked).min(max_burst);
        Some(Solicitation { number: self.r2ts, offset: self.asked, length })
    }

    /// The R2T of `next_solicitation` is on its way under this target transfer tag.
    pub fn on_solicited(&mut self, solicitation: Solicitation, transfer_tag: u32) {
        debug_assert_eq!(solicitation.offset, self.asked, "what is asked for follows what was");
        debug_assert!(!self.has_sequence(transfer_tag), "a transfer has a tag of its own");
        self.asked = solicitation.offset.saturating_add(solicitation.length);
        self.r2ts = self.r2ts.wrapping_add(1);
        self.sequences.push_back(Sequence { transfer_tag, data_sn: 0, end: self.asked });
    }

    fn has_sequence(&self, transfer_tag: u32) -> bool {
        self.sequences.iter().any(|sequence| sequence.transfer_tag == transfer_tag)
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self) {
        let chunks: usize = self.chunks.iter().map(Bytes::len).sum::<usize>() + self.coalesced.len();
        debug_assert!(chunks <= self.wanted as usize, "no more is kept than the command takes");
        debug_assert!(self.failed.is_none() || chunks == 0, "what is refused keeps no data");
        let complete = self.failed.is_none() && self.progress() == Progress::Complete;
        debug_assert!(
            !complete || chunks == self.wanted as usize || chunks == 0,
            "what is complete is there"
        );
        debug_assert!(
            self.sequences.iter().skip(1).all(|sequence| sequence.transfer_tag != RESERVED_TAG),
            "what comes unasked comes first"
        );
    }

    /// Bytes the command takes.
    #[must_use]
    pub const fn wanted(&self) -> u32 {
        self.wanted
    }

    /// The data, once complete.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.close_joined();
        core::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMS: DataOutTerms = DataOutTerms {
        wanted: 100,
        expected: 100,
        more: false,
        immediate_allowed: true,
        unsolicited_allowed: true,
        first_burst: 40,
    };

    fn bytes(range: core::ops::Range<u8>) -> Bytes {
        range.collect::<Vec<_>>().into()
    }

    fn data(transfer_tag: u32, data_sn: u32, offset: u32, last: bool) -> Header {
        Header { transfer_tag, data_sn, offset, last }
    }

    fn failed(sense: Sense) -> Progress {
        Progress::Failed(Refusal::Check(sense))
    }

    fn put(buffer: &mut DataOutBuffer, header: Header, range: core::ops::Range<u8>) {
        buffer.on_data(header, range.len() as u32, Some(bytes(range))).unwrap();
    }

    #[test]
    fn a_command_without_data_out_is_complete_at_once() {
        let buffer = DataOutBuffer::begin(&DataOutTerms { wanted: 0, expected: 0, ..TERMS }, Bytes::new());
        assert_eq!(buffer.progress(), Progress::Complete);
    }

    #[test]
    fn immediate_unsolicited_and_solicited_data_follow_each_other() {
        let mut buffer = DataOutBuffer::begin(&DataOutTerms { more: true, ..TERMS }, bytes(0..10));
        assert_eq!(buffer.next_solicitation(30, 2), None, "unsolicited data is still on its way");
        put(&mut buffer, data(RESERVED_TAG, 0, 10, false), 10..25);
        put(&mut buffer, data(RESERVED_TAG, 1, 25, true), 25..40);
        for (number, offset, length, tag) in [(0, 40, 30, 7), (1, 70, 30, 8)] {
            let solicitation = buffer.next_solicitation(30, 2).unwrap();
            assert_eq!(solicitation, Solicitation { number, offset, length });
            buffer.on_solicited(solicitation, tag);
        }
        assert_eq!(buffer.next_solicitation(30, 2), None);
        put(&mut buffer, data(7, 0, 40, false), 40..60);
        put(&mut buffer, data(7, 1, 60, true), 60..70);
        put(&mut buffer, data(8, 0, 70, true), 70..100);
        assert_eq!(buffer.progress(), Progress::Complete);
        assert_eq!(buffer.take().concat(), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn data_beyond_what_the_command_takes_is_dropped_and_not_asked_for() {
        let mut buffer =
            DataOutBuffer::begin(&DataOutTerms { wanted: 20, more: true, ..TERMS }, bytes(0..10));
        put(&mut buffer, data(RESERVED_TAG, 0, 10, true), 10..40);
        assert_eq!((buffer.progress(), buffer.next_solicitation(30, 2)), (Progress::Complete, None));
        assert_eq!(buffer.take().concat(), (0..20).collect::<Vec<u8>>());
    }

    #[test]
    fn unsolicited_data_that_was_not_agreed_to_fails_the_command() {
        let immediate =
            DataOutBuffer::begin(&DataOutTerms { immediate_allowed: false, ..TERMS }, bytes(0..10));
        assert_eq!(immediate.progress(), failed(UNEXPECTED_UNSOLICITED_DATA));
        let long = DataOutBuffer::begin(&TERMS, bytes(0..41));
        assert_eq!(long.progress(), failed(UNEXPECTED_UNSOLICITED_DATA));
        let mut more = DataOutBuffer::begin(
            &DataOutTerms { unsolicited_allowed: false, more: true, ..TERMS },
            Bytes::new(),
        );
        assert_eq!(more.progress(), Progress::Waiting);
        put(&mut more, data(RESERVED_TAG, 0, 0, true), 0..40);
        assert_eq!(more.progress(), failed(UNEXPECTED_UNSOLICITED_DATA));
    }

    #[test]
    fn an_unsolicited_burst_is_as_long_as_was_agreed_or_as_the_data() {
        for (expected, sent, fine) in [(100, 40, true), (100, 39, false), (30, 30, true), (30, 20, true)] {
            let terms = DataOutTerms { wanted: expected, expected, more: true, ..TERMS };
            let mut buffer = DataOutBuffer::begin(&terms, Bytes::new());
            put(&mut buffer, data(RESERVED_TAG, 0, 0, true), 0..sent);
            assert_eq!(buffer.progress() != failed(INCORRECT_AMOUNT_OF_DATA), fine, "{sent} of {expected}");
        }
    }

    #[test]
    fn a_refused_command_is_answered_when_its_data_has_ended_and_keeps_none_of_it() {
        let mut buffer = DataOutBuffer::begin(&DataOutTerms { more: true, ..TERMS }, bytes(0..10));
        buffer.refuse(Refusal::Status(Status::TaskSetFull));
        put(&mut buffer, data(RESERVED_TAG, 0, 10, false), 10..25);
        assert_eq!(buffer.progress(), Progress::Waiting);
        put(&mut buffer, data(RESERVED_TAG, 1, 25, true), 25..40);
        assert_eq!(buffer.progress(), Progress::Failed(Refusal::Status(Status::TaskSetFull)));
        assert_eq!(buffer.next_solicitation(100, 1), None);
        assert!(buffer.take().is_empty());
    }

    #[test]
    fn tiny_pieces_are_joined() {
        let mut buffer = DataOutBuffer::begin(&TERMS, Bytes::new());
        buffer.on_solicited(buffer.next_solicitation(100, 1).unwrap(), 5);
        for n in 0..100_u8 {
            put(&mut buffer, data(5, n.into(), n.into(), n == 99), n..n + 1);
        }
        let chunks = buffer.take();
        assert_eq!((chunks.len(), chunks.concat()), (1, (0..100).collect::<Vec<u8>>()));
    }

    #[test]
    fn a_broken_sequence_fails_the_command_once_it_has_ended() {
        let cases = [
            ("offset behind", data(5, 0, 1, true), 0..50),
            ("offset overflows", data(5, 0, u32::MAX, true), 0..50),
            ("too much", data(5, 0, 0, true), 0..51),
            ("too little", data(5, 0, 0, true), 0..49),
        ];
        for (name, header, range) in cases {
            let mut buffer = DataOutBuffer::begin(&TERMS, Bytes::new());
            buffer.on_solicited(buffer.next_solicitation(50, 1).unwrap(), 5);
            put(&mut buffer, header, range);
            assert_eq!(buffer.progress(), failed(INCORRECT_AMOUNT_OF_DATA), "{name}");
            assert_eq!(buffer.next_solicitation(50, 1), None, "{name}");
        }
    }

    #[test]
    fn a_digest_error_fails_the_command() {
        let mut buffer = DataOutBuffer::begin(&TERMS, Bytes::new());
        buffer.on_solicited(buffer.next_solicitation(100, 1).unwrap(), 5);
        buffer.on_data(data(5, 0, 0, false), 50, None).unwrap();
        assert_eq!(buffer.progress(), Progress::Waiting);
        put(&mut buffer, data(5, 1, 50, true), 50..100);
        assert_eq!(buffer.progress(), failed(PROTOCOL_SERVICE_CRC_ERROR));
    }

    #[test]
    fn a_missing_data_pdu_counts_as_a_digest_error() {
        let mut buffer = DataOutBuffer::begin(&TERMS, Bytes::new());
        buffer.on_solicited(buffer.next_solicitation(100, 1).unwrap(), 5);
        put(&mut buffer, data(5, 1, 50, true), 50..100);
        assert_eq!(buffer.progress(), failed(PROTOCOL_SERVICE_CRC_ERROR));
    }

    #[test]
    fn data_nobody_asked_for_belongs_to_no_sequence() {
        let mut buffer = DataOutBuffer::begin(&TERMS, Bytes::new());
        assert_eq!(buffer.on_data(data(5, 0, 0, true), 10, Some(bytes(0..10))), Err(NoSequence));
        assert_eq!(buffer.on_data(data(RESERVED_TAG, 0, 0, true), 10, Some(bytes(0..10))), Err(NoSequence));
    }

    proptest! {
        #[test]
        fn no_data_out_makes_more_bytes_than_wanted(
            headers in proptest::collection::vec(
                (0_u32..4, 0_u32..3, 0_u32..120, any::<bool>(), 0_u32..60, any::<bool>()), 0..20,
            ),
            wanted in 0_u32..=100, immediate in 0_u8..60, more: bool,
        ) {
            let mut buffer = DataOutBuffer::begin(&DataOutTerms { wanted, more, ..TERMS }, bytes(0..immediate));
            let mut tag = 0;
            for (transfer_tag, data_sn, offset, last, length, good) in headers {
                if let Some(next) = buffer.next_solicitation(33, 2) {
                    buffer.on_solicited(next, tag % 4);
                    tag += 1;
                }
                let header = Header { transfer_tag, data_sn, offset, last };
                let chunk = good.then(|| Bytes::from(vec![1; length as usize]));
                let _ = buffer.on_data(header, length, chunk);
            }
            if buffer.progress() == Progress::Complete {
                prop_assert_eq!(buffer.take().concat().len() as u32, wanted);
            }
        }
    }
}
