//! When the age of a command begins: what its host or this target takes to bring it here does not count.

use super::*;

/// The Data-Out that answers an R2T.
pub(super) fn answer(r2t: &protocol::iscsi::ReadyToTransfer) -> Received {
    let length = r2t.desired_data_transfer_length;
    let header = DataOut {
        final_bit: true,
        data_segment_length: length,
        lun: [0; 8],
        initiator_task_tag: r2t.initiator_task_tag,
        target_transfer_tag: r2t.target_transfer_tag,
        exp_stat_sn: StatSn(0),
        data_sn: 0,
        buffer_offset: r2t.buffer_offset,
    };
    Received { bhs: header.encode(), ahs: Bytes::new(), data: Some(Bytes::from(vec![0; length as usize])) }
}

fn r2ts(output: &mut Output) -> Vec<protocol::iscsi::ReadyToTransfer> {
    let r2t = |pdu| if let TargetPdu::ReadyToTransfer(r2t) = pdu { Some(r2t) } else { None };
    pdus(output).into_iter().filter_map(r2t).collect()
}

fn age_begins(session: &mut FullFeature) -> Vec<(u32, Time)> {
    let mut ages = Vec::new();
    while let (Some(Work::Execute(request)), _) = session.next_work(0) {
        ages.push((request.tag.task(), request.received));
    }
    ages
}

#[test]
fn the_age_of_a_command_begins_when_its_last_byte_is_here() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&command(1, true, 2 * BURST), Time(1), &mut output);
    session.on_pdu(&command(2, true, 0), Time(2), &mut output);
    for now in [10, 20] {
        let [r2t] = r2ts(&mut output)[..] else { panic!("one R2T at a time") };
        session.on_pdu(&answer(&r2t), Time(now), &mut output);
    }
    assert_eq!(age_begins(&mut session), [(2, Time(2)), (1, Time(20))]);
}

#[test]
fn what_is_here_grows_old_whatever_it_waits_for_in_the_session() {
    let mut session = session();
    let mut output = Output::default();
    // Number 2 is here before its turn, and 3 waits for it.
    let mut ordered = command(3, true, 0);
    ordered.bhs[1] = ordered.bhs[1] & !7 | TaskAttribute::Ordered as u8;
    session.on_pdu(&command(2, true, 0), Time(1), &mut output);
    session.on_pdu(&ordered, Time(2), &mut output);
    assert_eq!(age_begins(&mut session), []);
    session.on_pdu(&command(1, true, 0), Time(50), &mut output);
    assert_eq!(age_begins(&mut session), [(1, Time(50)), (2, Time(1))]);
    for tag in [1, 2] {
        session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut output);
    }
    assert_eq!(age_begins(&mut session), [(3, Time(2))]);
}
