//! Memory over all sessions: the command window, withheld R2Ts and reads, TASK SET FULL and BUSY.

use protocol::iscsi::ScsiResponse;

use super::super::super::commands::COMMAND_WINDOW_TIGHT;
use super::super::super::memory::{PURSE_BYTES_MAX, Purpose, SHARE_BYTES};
use super::*;

/// Takes all but `left` bytes of the purse.
fn hog(memory: &Arc<Memory>, left: u64) -> Holding {
    let mut hog = Holding::new(memory.clone());
    assert!(hog.cover(SHARE_BYTES + PURSE_BYTES_MAX - left, Purpose::Unasked));
    hog
}

fn write_with(number: u32, immediate: usize, expected: u32) -> Received {
    let mut pdu = command(number, true, expected);
    pdu.bhs[5..8].copy_from_slice(&(immediate as u32).to_be_bytes()[1..]);
    Received { data: Some(Bytes::from(vec![1; immediate])), ..pdu }
}

fn responses(output: &mut Output) -> Vec<ScsiResponse> {
    let response = |pdu| if let TargetPdu::ScsiResponse(response) = pdu { Some(response) } else { None };
    pdus(output).into_iter().filter_map(response).collect()
}

#[test]
fn the_window_gets_narrow_before_anything_is_withheld() {
    let memory = Arc::new(Memory::default());
    let _hog = hog(&memory, PURSE_BYTES_MAX / 2);
    let mut session = session_with(memory);
    let mut output = Output::default();
    for number in 1..=COMMAND_WINDOW {
        session.on_pdu(&command(number, false, 512), Time(0), &mut output);
    }
    assert_eq!(executed(&mut session).len(), COMMAND_WINDOW as usize);
    for tag in 1..=COMMAND_WINDOW {
        session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut output);
    }
    let last = *responses(&mut output).last().unwrap();
    assert_eq!(last.max_cmd_sn.next().since(last.exp_cmd_sn), COMMAND_WINDOW_TIGHT);
}

#[test]
fn r2ts_and_reads_beyond_the_own_share_wait_while_the_purse_is_low() {
    let memory = Arc::new(Memory::default());
    let hog = hog(&memory, PURSE_BYTES_MAX / 8);
    let mut session = session_with(memory.clone());
    let mut output = Output::default();
    session.on_pdu(&command(1, true, SHARE_BYTES as u32), Time(0), &mut output);
    assert_eq!(pdus(&mut output).len(), 1, "the own share is always there");
    session.on_pdu(&command(2, true, 512), Time(0), &mut output);
    session.on_pdu(&command(3, false, 4096), Time(0), &mut output);
    assert!(pdus(&mut output).is_empty());
    assert_eq!(executed(&mut session), [0_u32; 0]);
    assert!(session.wants_memory());
    drop(hog);
    session.on_memory(&mut output);
    assert!(matches!(pdus(&mut output)[..], [TargetPdu::ReadyToTransfer(_)]));
    assert_eq!(executed(&mut session), [3]);
    assert!(!session.wants_memory());
    drop(session);
    assert_eq!(memory.taken(), 0);
}

#[test]
fn data_that_comes_unasked_is_answered_busy_or_task_set_full_when_the_purse_is_empty() {
    let memory = Arc::new(Memory::default());
    let _hog = hog(&memory, 0);
    let mut session = session_with(memory);
    let mut output = Output::default();
    let immediate = 64 * 1024;
    let fitting = (SHARE_BYTES / immediate as u64) as u32;
    for number in 1..=fitting + 1 {
        session.on_pdu(&write_with(number, immediate, immediate as u32), Time(0), &mut output);
    }
    let answers = responses(&mut output);
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].initiator_task_tag, answers[0].status), (fitting + 1, 0x28), "TASK SET FULL");
    assert_eq!(executed(&mut session).len(), fitting as usize);
}

#[test]
fn a_host_with_nothing_under_way_is_told_busy() {
    let memory = Arc::new(Memory::default());
    let _hog = hog(&memory, 0);
    let mut session = session_with(memory);
    let mut output = Output::default();
    // Output that the host does not read takes the whole share.
    session.take_room(SHARE_BYTES as usize);
    session.on_pdu(&write_with(1, 512, 512), Time(0), &mut output);
    assert_eq!(responses(&mut output)[0].status, 0x08, "BUSY");
}

#[test]
fn what_is_expected_does_not_count_beyond_what_a_command_can_yield() {
    let memory = Arc::new(Memory::default());
    let mut session = session_with(memory.clone());
    session.on_pdu(&command(1, false, u32::MAX), Time(0), &mut Output::default());
    assert_eq!(executed(&mut session), [1]);
    assert!(memory.taken() <= 8 << 20);
}

#[test]
fn the_data_of_withheld_tasks_does_not_stand_in_the_way_of_those_they_wait_for() {
    // 1 holds memory; 2 waits for it, at the head of the queue; 1 must not wait for 2.
    let mut session = session();
    let mut output = Output::default();
    let large = 20 * 1024 * 1024;
    session.on_pdu(&command(1, true, large), Time(0), &mut output);
    let mut head = command(2, true, large);
    head.bhs[1] = head.bhs[1] & !7 | TaskAttribute::HeadOfQueue as u8;
    session.on_pdu(&head, Time(0), &mut output);
    while let Some(TargetPdu::ReadyToTransfer(r2t)) = pdus(&mut output).pop() {
        assert_eq!(r2t.initiator_task_tag, 1);
        let header = DataOut {
            final_bit: true,
            data_segment_length: r2t.desired_data_transfer_length,
            lun: [0; 8],
            initiator_task_tag: 1,
            target_transfer_tag: r2t.target_transfer_tag,
            exp_stat_sn: StatSn(0),
            data_sn: 0,
            buffer_offset: r2t.buffer_offset,
        };
        let data = Some(Bytes::from(vec![0; r2t.desired_data_transfer_length as usize]));
        session.on_pdu(&Received { bhs: header.encode(), ahs: Bytes::new(), data }, Time(0), &mut output);
    }
    assert_eq!(executed(&mut session), [1]);
}
