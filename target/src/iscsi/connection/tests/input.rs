//! What a host sends, well formed or not, and what it does not read.

use super::*;

#[test]
fn digests_hold_from_the_first_pdu_after_the_login() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "HeaderDigest=CRC32C|DataDigest=CRC32C|");
    let tag = host.command(0x2a, 1, true, &[7; 512], true);
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    assert_eq!(host.answers().len(), 2);
    assert_eq!(script.written.borrow()[&tag], [7; 512]);
    host.command(0x2a, 1, true, &[7; 512], true);
    let last = host.input.len() - 1;
    host.input[last] ^= 1;
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::Reject(reject), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(reject.reason, RejectReason::DataDigestError);
    host.command(0x28, 1, false, &[], true);
    host.input[3] ^= 1;
    assert_eq!(host.exchange(&script), Err(Closed));
}

#[test]
fn a_host_that_does_not_read_is_not_read_from() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.socket.state.lock().full = true;
    let mut sent = 0;
    while host.connection.wants_input() {
        for _ in 0..100 {
            host.command(0x28, 255, false, &[], true);
            sent += 1;
        }
        host.exchange(&script).unwrap();
        assert!(sent < 10_000, "output grows without bound");
    }
    assert!(
        host.connection.shared.with(|_, output| output.bytes()).unwrap() <= OUTPUT_BYTES_MAX + 255 * 512 + 48
    );
    host.socket.state.lock().full = false;
    let mut answered = 0;
    for _ in 0..100 {
        host.connection.on_writable(&script).unwrap();
        answered += host
            .answers()
            .iter()
            .filter(|(p, _)| matches!(p, TargetPdu::DataIn(p) if p.status.is_some()))
            .count();
    }
    assert!(host.connection.wants_input());
    assert_eq!(answered, sent);
}

#[test]
fn an_unknown_opcode_is_rejected_and_a_format_error_ends_the_session() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let mut bhs = [0; 48];
    bhs[0] = 0x1c;
    host.queue(&bhs, &[]);
    host.exchange(&script).unwrap();
    assert!(matches!(host.answers()[..], [(TargetPdu::Reject(_), _)]));
    // R, W and F all clear, but a length is expected.
    bhs = [0; 48];
    (bhs[0], bhs[20]) = (0x01, 1);
    host.queue(&bhs, &[]);
    let _ = host.exchange(&script);
    assert!(matches!(host.answers()[..], [(TargetPdu::Reject(_), _)]));
    assert!(host.socket.state.lock().shut);
    assert_eq!(*script.log.borrow(), ["added 1", "lost 1"]);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, full: bool) {
        let script = script(true);
        let mut host = if full { Host::logged_in(&script, "iqn.a", "") } else { Host::connect(&script) };
        host.input.extend_from_slice(&bytes);
        let _ = host.exchange(&script);
        host.connection.closed(&script);
    }

    #[test]
    fn any_headers_are_survived(
        headers in proptest::collection::vec(
            (
                proptest::sample::select(vec![0_u8, 1, 2, 4, 5, 6, 0x10, 0x41, 0x40, 0x42]),
                proptest::prelude::any::<[u8; 24]>(), 0_u32..4, 0_u32..600,
            ),
            0..40,
        ),
    ) {
        let script = script(true);
        let mut host = Host::logged_in(&script, "iqn.a", "InitialR2T=No|");
        for (opcode, rest, small, length) in headers {
            let mut bhs = [0; 48];
            bhs[24..].copy_from_slice(&rest);
            (bhs[0], bhs[1]) = (opcode, rest[0]);
            bhs[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
            bhs[16..20].copy_from_slice(&small.to_be_bytes());
            bhs[20..24].copy_from_slice(&(small * 300).to_be_bytes());
            bhs[24..28].copy_from_slice(&(host.cmd_sn + u32::from(rest[1] % 3)).to_be_bytes());
            host.cmd_sn += u32::from(rest[2] % 2);
            host.queue(&bhs, &vec![0; length as usize]);
        }
        let _ = host.exchange(&script);
        host.connection.closed(&script);
        proptest::prop_assert_eq!(script.sessions.list().len(), 0);
    }
}
