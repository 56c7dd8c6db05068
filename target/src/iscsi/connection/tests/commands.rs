//! Commands and their data-out.

use super::*;

#[test]
fn a_write_gathers_immediate_unsolicited_and_solicited_data() {
    let script = script(true);
    let keys =
        "InitialR2T=No|ImmediateData=Yes|FirstBurstLength=1024|MaxBurstLength=1024|MaxOutstandingR2T=2|";
    let mut host = Host::logged_in(&script, "iqn.a", keys);
    let tag = host.command(0x2a, 8, true, &[1; 512], false);
    host.data_out(tag, RESERVED_TAG, 0, 512, &[2; 512], true);
    host.exchange(&script).unwrap();
    let mut offset = 1024;
    while offset < 4096 {
        let requests = host.answers();
        assert!(!requests.is_empty() && requests.len() <= 2);
        for (pdu, _) in requests {
            let TargetPdu::ReadyToTransfer(r2t) = pdu else { panic!("{pdu:?}") };
            assert_eq!((r2t.buffer_offset, r2t.desired_data_transfer_length), (offset, 1024));
            let fill = [(offset / 1024) as u8 + 2; 512];
            host.data_out(tag, r2t.target_transfer_tag, 0, offset, &fill, false);
            host.data_out(tag, r2t.target_transfer_tag, 1, offset + 512, &fill, true);
            offset += 1024;
        }
        host.exchange(&script).unwrap();
    }
    let answers = host.answers();
    let [(TargetPdu::ScsiResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((response.status, response.exp_data_sn), (0, 0), "R2Ts do not count (11.4.8)");
    let expected =
        [[1_u8; 512], [2; 512], [3; 512], [3; 512], [4; 512], [4; 512], [5; 512], [5; 512]].concat();
    assert_eq!(script.written.borrow()[&tag], expected);
}

#[test]
fn data_at_the_wrong_offset_ends_the_command_and_not_the_session() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let tag = host.command(0x2a, 2, true, &[], true);
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::ReadyToTransfer(r2t), _)] = &answers[..] else { panic!("{answers:?}") };
    host.data_out(tag, r2t.target_transfer_tag, 0, 4, &[0; 1024], true);
    host.data_out(tag + 1, 77, 0, 0, &[0; 8], true);
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [
        (TargetPdu::ScsiResponse(failed), _),
        (TargetPdu::Reject(reject), header),
        (TargetPdu::DataIn(_), _),
    ] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((failed.status, reject.reason), (0x02, RejectReason::InvalidPduField));
    assert_eq!(header.len(), 48);
    assert!(script.written.borrow().is_empty());
}

#[test]
fn commands_run_in_the_order_of_their_numbers() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.cmd_sn = 3;
    host.command(0x28, 1, false, &[], true);
    host.cmd_sn = 2;
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    assert!(host.answers().is_empty());
    host.cmd_sn = 1;
    host.command(0x28, 1, false, &[], true);
    host.cmd_sn = 1;
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    let tags = host
        .answers()
        .iter()
        .map(|(pdu, _)| match pdu {
            TargetPdu::DataIn(pdu) => pdu.initiator_task_tag,
            other => panic!("{other:?}"),
        })
        .collect::<Vec<_>>();
    assert_eq!(tags, [1001, 1002, 1003], "each once");
}
