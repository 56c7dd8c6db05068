//! Data-In and responses: how outcomes are cut into PDUs.

use std::sync::Arc;

use controller::command::Outcome;
use controller::time::Time;
use controller::unit::SenseFormats;
use proptest::prelude::*;
use protocol::iscsi::{CmdSn, Digests, TargetPdu};

use super::*;
use crate::iscsi::connection::framing::{Framed, take_pdu};
use crate::iscsi::connection::output::Output;
use crate::iscsi::login::parameters::Parameters;
use crate::iscsi::session::command_window::CommandWindow;
use crate::iscsi::session::data_out_buffer::DataOutBuffer;
use crate::iscsi::session::sender::TransferTags;
use crate::iscsi::session::tasks::State;

fn task(reads: bool, writes: bool, expected: u32, takes: u64) -> Task {
    Task {
        tag: 7,
        lun: [0; 8],
        cdb: [0; 16],
        number: CmdSn(1),
        expected,
        reads,
        writes,
        takes,
        counted_out: 0,
        solicited: false,
        received: Time(0),
        owed: Default::default(),
        attribute: protocol::iscsi::TaskAttribute::Simple,
        entered: 0,
        state: State::Outcome,
        ending: Ending::Answered,
        data_out: DataOutBuffer::default(),
    }
}

/// The PDUs an outcome becomes, with their data.
fn answered(task: &Task, outcome: Outcome, parameters: &Parameters) -> Vec<(TargetPdu, Vec<u8>)> {
    answered_by(task, outcome, parameters, (None, &SenseFormats::default()))
}

/// The same to an initiator that sees these LUNs.
fn answered_by(
    task: &Task,
    outcome: Outcome,
    parameters: &Parameters,
    (luns, sense_formats): (Option<&[u16]>, &SenseFormats),
) -> Vec<(TargetPdu, Vec<u8>)> {
    let mut output = Output::default();
    let mut stat_sn = StatSn(100);
    let mut sender = Sender {
        output: &mut output,
        stat_sn: &mut stat_sn,
        window: &mut CommandWindow::new(CmdSn(2)),
        tags: &mut TransferTags::default(),
        parameters,
        luns,
        sense_formats,
    };
    answer(&mut sender, task, outcome);
    assert_eq!(stat_sn, StatSn(101), "exactly one status");
    let mut bytes = output.to_bytes();
    let mut pdus = Vec::new();
    while let Framed::Pdu(pdu) = take_pdu(&mut bytes, Digests::default(), u32::MAX).unwrap() {
        pdus.push((TargetPdu::decode(&pdu.bhs).unwrap(), pdu.data.unwrap().to_vec()));
    }
    assert!(bytes.is_empty());
    pdus
}

fn response(task: &Task, outcome: Outcome) -> (ScsiResponse, Vec<u8>) {
    match answered(task, outcome, &Parameters::default()).pop() {
        Some((TargetPdu::ScsiResponse(response), data)) => (response, data),
        other => panic!("no SCSI Response: {other:?}"),
    }
}

fn good(length: usize) -> Outcome {
    Outcome::Good(vec![Bytes::from((0..length).map(|n| n as u8).collect::<Vec<_>>())])
}

#[test]
fn sense_is_in_the_format_that_its_lun_says_whoever_refused_the_command() {
    use std::sync::atomic::AtomicBool;
    let lun = |number, descriptor| (number, Arc::new(AtomicBool::new(descriptor)));
    let formats = SenseFormats::new(vec![lun(0, false), lun(3, true)]);
    let sense = |lun: [u8; 8], luns: Option<&[u16]>, outcome: Outcome| {
        let task = Task { lun, ..task(true, false, 512, 0) };
        match answered_by(&task, outcome, &Parameters::default(), (luns, &formats)).pop() {
            Some((TargetPdu::ScsiResponse(_), data)) => data,
            other => panic!("no SCSI Response: {other:?}"),
        }
    };
    let (three, well_known) = ([0, 3, 0, 0, 0, 0, 0, 0], [0xc1, 0x01, 0, 0, 0, 0, 0, 0]);
    let check = || Outcome::Check(Sense::invalid_cdb_field(2));
    let fixed = [0, 18, 0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 2];
    let descriptor = [0, 16, 0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xc0, 0, 2, 0];
    assert_eq!(sense([0; 8], None, check()), fixed);
    assert_eq!(sense(three, None, check()), descriptor);
    assert_eq!(sense(three, Some(&[0, 3]), check()), descriptor);
    assert_eq!(sense(three, Some(&[0]), check()), fixed, "a LUN that is not there for this host");
    assert_eq!(sense(well_known, None, check()), fixed);
    assert_eq!(sense(three, None, Outcome::Aborted), [0, 8, 0x72, 0x0b, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sense_goes_behind_its_length() {
    let (response, data) = response(&task(true, false, 512, 0), Outcome::Check(Sense::LBA_OUT_OF_RANGE));
    assert_eq!(response.status, 0x02);
    assert_eq!(response.residual, Residual::Underflow(512));
    assert_eq!(data.len(), 20);
    assert_eq!((&data[..2], data[4], data[14], data[15]), (&[0, 18][..], 0x05, 0x21, 0x00));
}

#[test]
fn residuals_say_what_was_not_transferred() {
    let cases = [
        (task(false, true, 512, 512), Outcome::Good(vec![]), Residual::None),
        (task(false, true, 1024, 512), Outcome::Good(vec![]), Residual::Underflow(512)),
        (task(false, true, 512, 1024), Outcome::Good(vec![]), Residual::Overflow(512)),
        (task(false, false, 0, 0), Outcome::Good(vec![]), Residual::None),
        (task(false, false, 0, 512), Outcome::Good(vec![]), Residual::Overflow(512)),
        (task(true, false, 64, 512), Outcome::Good(vec![]), Residual::Underflow(64)),
        (task(true, false, 0, 0), good(512), Residual::Overflow(512)),
        (task(false, true, 512, 0), good(512), Residual::Overflow(512)),
        (task(true, false, 96, 0), Outcome::Status(Status::Busy), Residual::Underflow(96)),
    ];
    for (task, outcome, residual) in cases {
        let (response, _) = response(&task, outcome.clone());
        assert_eq!(response.residual, residual, "{task:?} {outcome:?}");
    }
}

#[test]
fn a_read_shorter_or_longer_than_expected_says_so_in_its_last_pdu() {
    for (present, expected, residual, sent) in
        [(96, 255, Residual::Underflow(159), 96), (512, 100, Residual::Overflow(412), 100)]
    {
        let pdus = answered(&task(true, false, expected, 0), good(present), &Parameters::default());
        let [(TargetPdu::DataIn(data_in), data)] = &pdus[..] else { panic!("{pdus:?}") };
        assert_eq!((data_in.residual, data.len()), (residual, sent));
        assert_eq!(data_in.status, Some(0));
    }
}

#[test]
fn a_task_nobody_asked_to_abort_may_be_sent_again() {
    let (answer, data) = response(&task(true, false, 0, 0), Outcome::Aborted);
    assert_eq!((answer.status, data[4]), (0x02, 0x0b));
    let mut aborted = task(true, false, 0, 0);
    aborted.ending = Ending::TaskAborted;
    assert_eq!(response(&aborted, Outcome::Aborted).0.status, Status::TaskAborted as u8);
    assert_eq!(response(&aborted, Outcome::Good(vec![])).0.status, 0, "what was done is told as done");
}

proptest! {
    #[test]
    fn data_arrives_whole_within_segments_and_bursts(
        pieces in proptest::collection::vec(0_usize..3000, 0..6),
        send_segment in 512_u32..2000, max_burst in 512_u32..5000, expected in 0_u32..12_000,
    ) {
        let mut parameters = Parameters::default();
        parameters.agreed.max_recv_data_segment_length = send_segment;
        parameters.agreed.max_burst_length = max_burst;
        let data = pieces.iter().enumerate().map(|(n, length)| Bytes::from(vec![n as u8; *length])).collect::<Vec<_>>();
        let whole = data.concat();
        let pdus = answered(&task(true, false, expected, 0), Outcome::Good(data), &parameters);
        let mut got = Vec::new();
        let mut burst = 0;
        for (n, (pdu, data)) in pdus.iter().enumerate() {
            match pdu {
                TargetPdu::DataIn(header) => {
                    prop_assert_eq!(header.buffer_offset as usize, got.len());
                    prop_assert_eq!(header.data_sn as usize, n);
                    prop_assert!(data.len() <= send_segment as usize);
                    burst += data.len();
                    prop_assert!(burst <= max_burst as usize);
                    if header.final_bit { burst = 0; }
                    prop_assert_eq!(header.status.is_some(), n + 1 == pdus.len());
                    got.extend_from_slice(data);
                }
                TargetPdu::ScsiResponse(_) => prop_assert_eq!(pdus.len(), 1),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(&got[..], &whole[..whole.len().min(expected as usize)]);
    }
}

#[test]
fn a_data_in_that_is_not_the_last_of_its_sequence_holds_whole_words() {
    let mut parameters = Parameters::default();
    parameters.agreed.max_recv_data_segment_length = 515;
    parameters.agreed.max_burst_length = 1026;
    let pdus = answered(&task(true, false, 2048, 0), good(2048), &parameters);
    let lengths = pdus.iter().map(|(pdu, data)| match pdu {
        TargetPdu::DataIn(pdu) => (data.len(), pdu.final_bit),
        other => panic!("{other:?}"),
    });
    let expected = [(512, false), (512, false), (2, true), (512, false), (510, true)];
    assert_eq!(lengths.collect::<Vec<_>>(), expected);
}
