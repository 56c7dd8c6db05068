//! Pool over all sessions: the command window, withheld R2Ts and reads, TASK SET FULL and BUSY.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, IoSlice};

use protocol::iscsi::ScsiResponse;

use crate::transport::Transport;

use super::*;
use crate::iscsi::memory_pool::{GUARANTEED_BYTES, POOL_BYTES_MAX, hog};
use crate::iscsi::session::command_window::COMMAND_WINDOW_TIGHT;

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
    let memory = Arc::new(Pool::default());
    let _hog = hog(&memory, POOL_BYTES_MAX / 2);
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
fn r2ts_and_reads_beyond_the_own_share_wait_while_the_pool_is_low() {
    let memory = Arc::new(Pool::default());
    let hog = hog(&memory, POOL_BYTES_MAX / 8);
    let mut session = session_with(memory.clone());
    let mut output = Output::default();
    session.on_pdu(&command(1, true, GUARANTEED_BYTES as u32), Time(0), &mut output);
    assert_eq!(pdus(&mut output).len(), 1, "its guaranteed share is always there");
    session.on_pdu(&command(2, true, 512), Time(0), &mut output);
    session.on_pdu(&command(3, false, 4096), Time(0), &mut output);
    assert!(pdus(&mut output).is_empty());
    assert_eq!(executed(&mut session), [0_u32; 0]);
    assert!(session.commands().wants_memory());
    drop(hog);
    session.on_memory(&mut output);
    assert!(matches!(pdus(&mut output)[..], [TargetPdu::ReadyToTransfer(_)]));
    assert_eq!(executed(&mut session), [3]);
    assert!(!session.commands().wants_memory());
    drop(session);
    assert_eq!(memory.taken(), 0);
}

#[test]
fn data_that_comes_unasked_is_answered_busy_or_task_set_full_when_the_pool_is_empty() {
    let memory = Arc::new(Pool::default());
    let _hog = hog(&memory, 0);
    let mut session = session_with(memory);
    let mut output = Output::default();
    let immediate = 64 * 1024;
    let fitting = (GUARANTEED_BYTES / immediate as u64) as u32;
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
    let memory = Arc::new(Pool::default());
    let _hog = hog(&memory, 0);
    let mut session = session_with(memory);
    let mut output = Output::default();
    // Output that the host does not read takes the whole share.
    session.take_room(GUARANTEED_BYTES as usize);
    session.on_pdu(&write_with(1, 512, 512), Time(0), &mut output);
    assert_eq!(responses(&mut output)[0].status, 0x08, "BUSY");
}

#[test]
fn what_is_expected_does_not_count_beyond_what_a_command_can_yield() {
    let memory = Arc::new(Pool::default());
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

/// Whether a connection was told to look again.
#[derive(Default)]
struct Told(AtomicBool);

impl Transport for Told {
    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn want_writable(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn shutdown(&self) {}
}

/// A session whose host takes what it is sent only when the test says so.
struct Reader {
    session: FullFeature,
    told: Arc<Told>,
    output: Output,
    backlog: usize,
    asked: u32,
    /// Bytes that the host has taken.
    taken: usize,
}

const READ_BYTES: usize = 4 << 20;

impl Reader {
    fn new(memory: &Arc<Pool>, reads: u32) -> Self {
        let session = session_with(memory.clone());
        let mut reader =
            Self { session, told: Arc::default(), output: Output::default(), backlog: 0, asked: 0, taken: 0 };
        for _ in 0..reads {
            reader.asked += 1;
            let read = command(reader.asked, false, READ_BYTES as u32);
            reader.session.on_pdu(&read, Time(0), &mut reader.output);
        }
        reader
    }

    fn is_done(&self) -> bool {
        self.taken == self.asked as usize * READ_BYTES
    }

    /// What may run runs, and its data waits for the host. How many that were.
    fn run(&mut self) -> usize {
        self.session.on_memory(&mut self.output);
        let mut ran = 0;
        while let (Some(Work::Execute(request)), _) = self.session.next_work(self.backlog) {
            self.session.on_outcome(request.tag, Outcome::Good(Vec::new()), &mut self.output);
            self.output.clear();
            self.backlog += READ_BYTES;
            ran += 1;
        }
        let memory = self.session.commands().budget().memory();
        memory.wake();
        if let Some(request) = self.session.commands_mut().memory_request() {
            let transport: Arc<dyn Transport> = self.told.clone();
            self.session.commands().budget().memory().enqueue(request, &transport);
        }
        ran
    }

    /// The host takes as much; true if the connection is told to look again.
    fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.backlog);
        self.backlog -= bytes;
        self.taken += bytes;
        let room = self.session.take_room(self.backlog);
        self.session.commands().budget().memory().wake();
        self.told.0.swap(false, Ordering::Relaxed) || room
    }
}

#[test]
fn hosts_that_do_not_take_their_reads_leave_the_others_room() {
    let memory = Arc::new(Pool::default());
    let mut stuck: Vec<Reader> = (0..20).map(|_| Reader::new(&memory, 20)).collect();
    for host in &mut stuck {
        assert!(host.run() > 0);
        assert!(!host.take(0), "it is not told to look again for having looked");
    }
    let mut honest = Reader::new(&memory, 100);
    while !honest.is_done() {
        assert!(honest.run() > 0, "it waits although all it asked for is taken");
        let told = (0..20).any(|_| honest.take(READ_BYTES));
        assert!(told || honest.is_done(), "nobody tells it that there is room");
    }
    for host in &mut stuck {
        assert_eq!(host.run(), 0, "before its host takes something");
    }
}

#[test]
fn honest_reads_beyond_the_pool_are_all_served_and_nobody_is_told_to_look_for_ever() {
    for (hosts, depth) in [(24, 20), (150, 8)] {
        let memory = Arc::new(Pool::default());
        let mut readers: Vec<Reader> = (0..hosts).map(|_| Reader::new(&memory, depth)).collect();
        for reader in &mut readers {
            reader.run();
        }
        let (mut rounds, mut looks) = (0, 0);
        while readers.iter().any(|reader| !reader.is_done()) {
            rounds += 1;
            assert!(rounds <= 4 * depth, "{:?}", readers.iter().map(|reader| reader.taken).min());
            for reader in &mut readers {
                if reader.take(READ_BYTES) {
                    looks += 1;
                    reader.run();
                }
            }
        }
        assert!(looks <= 2 * hosts * depth, "{looks} looks of {hosts} hosts");
        assert_eq!(memory.waiting(), 0);
    }
}

#[test]
fn a_write_goes_past_the_reads_that_wait_for_room() {
    let memory = Arc::new(Pool::default());
    let _hog = hog(&memory, POOL_BYTES_MAX / 8);
    let mut session = session_with(memory);
    let mut output = Output::default();
    session.on_pdu(&command(1, false, 1 << 20), Time(0), &mut output);
    session.on_pdu(&write_with(2, 512, 512), Time(0), &mut output);
    session.on_pdu(&command(3, false, 1 << 20), Time(0), &mut output);
    assert_eq!(executed(&mut session), [2]);
}

#[test]
fn a_read_is_no_older_than_the_room_for_its_data() {
    let memory = Arc::new(Pool::default());
    let hog = hog(&memory, POOL_BYTES_MAX / 8);
    let mut session = session_with(memory);
    let mut output = Output::default();
    let mut read = command(1, false, 1 << 20);
    read.bhs[32] = 0x28;
    session.on_pdu(&read, Time(1), &mut output);
    assert_eq!(executed(&mut session), [0_u32; 0]);
    drop(hog);
    session.commands_mut().on_tick(0, Time(30));
    session.on_memory(&mut output);
    let (Some(Work::Execute(request)), _) = session.next_work(0) else { panic!() };
    assert_eq!(request.received, Time(30));
}

#[test]
fn writes_and_reads_that_wait_for_memory_both_get_it_in_the_end() {
    let memory = Arc::new(Pool::default());
    let mut hog = Some(hog(&memory, POOL_BYTES_MAX / 8));
    let mut session = session_with(memory.clone());
    let mut output = Output::default();
    for number in 1..=4 {
        session.on_pdu(&command(number, number % 2 == 1, BURST), Time(0), &mut output);
    }
    assert!(pdus(&mut output).is_empty());
    assert_eq!(executed(&mut session), [0_u32; 0]);
    hog.take();
    let mut ended = Vec::new();
    for _ in 0..20 {
        session.on_memory(&mut output);
        let mut ran = executed(&mut session);
        for pdu in pdus(&mut output) {
            let TargetPdu::ReadyToTransfer(r2t) = pdu else { continue };
            session.on_pdu(
                &crate::iscsi::session::full_feature::tests::ages::answer(&r2t),
                Time(0),
                &mut output,
            );
            ran.extend(executed(&mut session));
        }
        for tag in ran {
            session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut output);
            ended.push(tag);
        }
        session.take_room(0);
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 2, 3, 4]);
}
