//! What is answered with Reject, with which reason, and with how much of the header (RFC 7143 11.17).

use protocol::iscsi::{Snack, SnackType};

use super::*;

/// Queues a PDU as it stands, whatever its header says.
fn queue(host: &mut Host, bhs: [u8; 48], rest: &[u8]) {
    host.input.extend_from_slice(&bhs);
    host.input.extend_from_slice(rest);
}

fn rejected(answers: &[(TargetPdu, Bytes)]) -> Option<(RejectReason, Bytes)> {
    answers.iter().find_map(|(pdu, data)| match pdu {
        TargetPdu::Reject(reject) => Some((reject.reason, data.clone())),
        _ => None,
    })
}

fn text(transfer_tag: u32, text: &[u8]) -> [u8; 48] {
    let request = TextRequest {
        immediate: false,
        final_bit: true,
        continue_bit: false,
        data_segment_length: text.len() as u32,
        lun: [0; 8],
        initiator_task_tag: 77,
        target_transfer_tag: transfer_tag,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(0),
    };
    request.encode()
}

#[test]
fn every_reject_has_its_reason_and_the_header_it_is_about() {
    use RejectReason as R;
    let snack = |snack_type| Snack {
        snack_type,
        lun: [0; 8],
        initiator_task_tag: RESERVED_TAG,
        transfer_or_snack_tag: RESERVED_TAG,
        exp_stat_sn: StatSn(0),
        beg_run: 0,
        run_length: 0,
    };
    let mut vendor = [0; 48];
    vendor[0] = 0x1c;
    let mut response = [0; 48];
    response[0] = 0x21;
    let mut login = [0; 48];
    (login[0], login[1]) = (0x43, 0x87);
    let twice = b"InitiatorAlias=a\0InitiatorAlias=b\0\0\0";
    let cases: [([u8; 48], &[u8], R); 9] = [
        (vendor, b"", R::CommandNotSupported),
        (response, b"", R::CommandNotSupported),
        (login, b"", R::ProtocolError),
        (snack(SnackType::Status).encode(), b"", R::SnackReject),
        (snack(SnackType::DataAck).encode(), b"", R::SnackReject),
        (text(RESERVED_TAG, twice), twice, R::ProtocolError),
        (text(5, b""), b"", R::InvalidPduField),
        (text(RESERVED_TAG, b"SessionType=Normal\0\0"), b"SessionType=Normal\0\0", R::ProtocolError),
        (text(RESERVED_TAG, b"=1\0\0"), b"=1\0\0", R::ProtocolError),
    ];
    for (bhs, data, reason) in cases {
        let script = script(true);
        let mut host = Host::logged_in(&script, "iqn.a", "");
        queue(&mut host, bhs, data);
        host.command(0x28, 1, false, &[], true);
        host.exchange(&script).unwrap();
        let answers = host.answers();
        assert_eq!(rejected(&answers), Some((reason, Bytes::copy_from_slice(&bhs))));
        let read = answers.iter().any(|(pdu, _)| matches!(pdu, TargetPdu::DataIn(_)));
        assert!(read, "the session goes on, and CmdSN 1 was not used up: {answers:?}");
    }
}

#[test]
fn a_reject_returns_additional_header_segments_too() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let ahs = [0, 5, 0x3f, 0, 1, 2, 3, 4];
    host.command(0x28, 1, false, &[], true);
    host.input[4] = 2;
    let bhs: [u8; 48] = host.input[..48].try_into().unwrap();
    host.input.extend_from_slice(&ahs);
    let ended = host.exchange(&script);
    let answers = host.answers();
    assert_eq!(rejected(&answers), Some((RejectReason::ProtocolError, [&bhs[..], &ahs].concat().into())));
    assert_eq!((ended, host.socket.state.lock().shut), (Ok(()), true), "a format error ends the connection");
}

#[test]
fn a_valid_additional_header_segment_disturbs_nobody() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0x28, 1, false, &[], true);
    host.input[4] = 2;
    host.input.extend_from_slice(&[0, 5, 1, 0, 1, 2, 3, 4]);
    host.exchange(&script).unwrap();
    assert!(matches!(host.answers()[..], [(TargetPdu::DataIn(_), _)]));
}

#[test]
fn data_out_for_another_logical_unit_is_an_invalid_field() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let tag = host.command(0x2a, 1, true, &[], true);
    host.exchange(&script).unwrap();
    let [(TargetPdu::ReadyToTransfer(r2t), _)] = host.answers()[..] else { panic!() };
    let at = host.input.len();
    host.data_out(tag, r2t.target_transfer_tag, 0, 0, &[1; 512], true);
    host.input[at + 9] = 1;
    host.exchange(&script).unwrap();
    assert_eq!(rejected(&host.answers()).unwrap().0, RejectReason::InvalidPduField);
    host.data_out(tag, r2t.target_transfer_tag, 0, 0, &[2; 512], true);
    host.exchange(&script).unwrap();
    assert_eq!(script.written.borrow()[&tag], [2; 512]);
}

#[test]
fn a_payload_digest_error_is_rejected_and_costs_the_command_only_what_it_carried() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "DataDigest=CRC32C|InitialR2T=Yes|");
    // A command with immediate data: discarded, its CmdSN is not used up.
    host.command(0x2a, 1, true, &[1; 512], true);
    host.input[60] ^= 1;
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::Reject(reject), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((reject.reason, reject.exp_cmd_sn), (RejectReason::DataDigestError, CmdSn(1)));
    host.cmd_sn = 1;
    let tag = host.command(0x2a, 1, true, &[1; 512], true);
    host.exchange(&script).unwrap();
    assert!(matches!(host.answers()[..], [(TargetPdu::ScsiResponse(_), _)]));
    assert_eq!(script.written.borrow()[&tag], [1; 512]);
    // Data-Out of nobody: one Reject, not two.
    let at = host.input.len();
    host.data_out(4, 4, 0, 0, &[1; 512], true);
    host.input[at + 60] ^= 1;
    host.exchange(&script).unwrap();
    assert_eq!(host.answers().len(), 1);
}

#[test]
fn a_reject_is_no_longer_than_the_initiator_takes() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "MaxRecvDataSegmentLength=512|");
    host.command(0x28, 1, false, &[], true);
    host.input[4] = 255;
    host.input.extend_from_slice(&[0xff; 1020]);
    let _ = host.exchange(&script);
    let (_, header) = rejected(&host.answers()).unwrap();
    assert_eq!(header.len(), 512);
}
