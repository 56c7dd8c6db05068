//! Text exchanges: SendTargets, and what else may be said in full feature phase.

use super::*;
use protocol::iscsi::{CmdSn, StatSn};

fn config() -> FrontendConfig {
    let group = |tag, addresses: &[&str]| PortalGroup {
        tag,
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
    };
    FrontendConfig {
        iqn: "iqn.2026-11.com.example:demo".to_owned(),
        portal_groups: vec![group(1, &["127.0.0.1:3260"]), group(2, &["127.0.0.1:3261", "[::1]:3261"])],
        own_group: 1,
        access: Default::default(),
    }
}

fn directory(config: &FrontendConfig) -> Directory<'_> {
    Directory { config, ends: None }
}

fn request(transfer_tag: u32, text: &[u8]) -> TextRequest {
    TextRequest {
        immediate: true,
        final_bit: true,
        continue_bit: false,
        data_segment_length: text.len() as u32,
        lun: [0; 8],
        initiator_task_tag: 9,
        target_transfer_tag: transfer_tag,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(1),
    }
}

fn ask(discovery: bool, text: &[u8]) -> Result<String, TextError> {
    ask_in(directory(&config()), discovery, text)
}

fn ask_in(directory: Directory<'_>, discovery: bool, text: &[u8]) -> Result<String, TextError> {
    let parameters = Parameters { discovery, ..Parameters::default() };
    let mut exchange = TextExchange::default();
    let part = exchange.on_request(&request(RESERVED_TAG, text), text, directory, &parameters, 5)?;
    assert!(part.last && !part.continues && part.transfer_tag == RESERVED_TAG);
    Ok(String::from_utf8(part.text).unwrap().replace('\0', "|"))
}

const LIST: &str = "TargetName=iqn.2026-11.com.example:demo|TargetAddress=127.0.0.1:3260,1|\
                    TargetAddress=127.0.0.1:3261,2|TargetAddress=[::1]:3261,2|";

#[test]
fn send_targets_lists_the_portals_of_both_controllers() {
    let cases: [(bool, &[u8], &str); 8] = [
        (true, b"SendTargets=All\0", LIST),
        (true, b"SendTargets=iqn.2026-11.com.example:demo\0", LIST),
        (true, b"SendTargets=iqn.other\0", ""),
        (true, b"SendTargets=\0", "SendTargets=Reject|"),
        (false, b"SendTargets=\0", LIST),
        (false, b"SendTargets=All\0", "SendTargets=Reject|"),
        (false, b"SendTargets=iqn.2026-11.com.example:demo\0", LIST),
        (false, b"X-com.example.what=1\0", "X-com.example.what=NotUnderstood|"),
    ];
    for (discovery, text, expected) in cases {
        assert_eq!(ask(discovery, text).unwrap(), expected, "{discovery} {text:?}");
    }
}

/// What SendTargets tells a host that has come from there to there, of these portals of the first controller.
fn told(host: &str, portal: &str, addresses: &[&str]) -> Vec<String> {
    let mut config = config();
    config.portal_groups[0].addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
    config.portal_groups[1].addresses = vec!["203.0.113.2:3260".to_owned(), "nas-b:3261".to_owned()];
    let ends = Some((host.parse().unwrap(), portal.parse().unwrap()));
    let text = ask_in(Directory { config: &config, ends }, true, b"SendTargets=All\0").unwrap();
    let pairs = text.split('|').filter_map(|pair| pair.strip_prefix("TargetAddress="));
    pairs.map(str::to_owned).collect()
}

#[test]
fn no_host_is_told_an_address_that_means_nothing_to_it() {
    const OTHER: [&str; 2] = ["203.0.113.2:3260,2", "nas-b:3261,2"];
    let all = ["127.0.0.1:3260", "[::1]:3260", "[fe80::1%7]:3260", "192.0.2.1:3260", "[2001:db8::1]:3260"];
    let whole = |own: &[&str]| [own, &OTHER].concat().iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
    let far = ["192.0.2.1:3260,1", "[2001:db8::1]:3260,1"];
    for (host, portal, wanted) in [
        ("192.0.2.9:999", "192.0.2.1:3260", whole(&far)),
        ("[2001:db8::9]:999", "[2001:db8::1]:3260", whole(&far)),
        ("[::ffff:192.0.2.9]:999", "192.0.2.1:3260", whole(&far)),
        ("[fe80::9%3]:999", "[fe80::1%7]:3260", whole(&["[fe80::1]:3260,1", far[0], far[1]])),
        ("127.0.0.1:999", "127.0.0.1:3260", whole(&["127.0.0.1:3260,1", "[::1]:3260,1", far[0], far[1]])),
    ] {
        assert_eq!(told(host, portal, &all), wanted, "{host}");
    }
}

#[test]
fn a_host_is_told_at_least_where_it_is() {
    let own = |host, portal| told(host, portal, &["127.0.0.1:3260"]).remove(0);
    assert_eq!(own("192.0.2.9:999", "192.0.2.1:3260"), "192.0.2.1:3260,1");
    assert_eq!(own("[fe80::9%3]:999", "[fe80::1%7]:3260"), "[fe80::1]:3260,1");
}

#[test]
fn login_keys_are_refused_in_full_feature_phase() {
    for text in [&b"MaxBurstLength=512\0"[..], b"AuthMethod=None\0", b"nonsense\0"] {
        assert_eq!(ask(false, text), Err(TextError::Malformed));
    }
}

#[test]
fn a_long_answer_comes_in_parts_that_the_initiator_asks_for() {
    let mut parameters = Parameters { discovery: true, ..Parameters::default() };
    parameters.agreed.max_recv_data_segment_length = 50;
    let mut exchange = TextExchange::default();
    let mut asked = request(RESERVED_TAG, b"SendTargets=All\0");
    let mut text = &b"SendTargets=All\0"[..];
    let mut whole = Vec::new();
    for tag in 1.. {
        let part = exchange.on_request(&asked, text, directory(&config()), &parameters, tag).unwrap();
        assert!(part.text.len() <= 50);
        whole.extend(part.text);
        if part.last {
            break;
        }
        assert!(part.continues);
        asked = request(part.transfer_tag, b"");
        text = b"";
    }
    assert_eq!(String::from_utf8(whole).unwrap().replace('\0', "|"), LIST);
}

#[test]
fn a_tag_of_no_exchange_is_refused() {
    let mut exchange = TextExchange::default();
    let asked = request(77, b"");
    let answer = exchange.on_request(&asked, b"", directory(&config()), &Parameters::default(), 1);
    assert_eq!(answer, Err(TextError::NoExchange));
}

#[test]
fn what_is_declared_holds_from_the_end_of_the_exchange_and_not_at_all_if_it_fails() {
    let mut parameters = Parameters::default();
    let mut exchange = TextExchange::default();
    let text = &b"MaxRecvDataSegmentLength=4096\0"[..];
    let open = TextRequest { final_bit: false, ..request(RESERVED_TAG, text) };
    let part = exchange.on_request(&open, text, directory(&config()), &parameters, 5).unwrap();
    assert!(!part.last && part.transfer_tag == 5);
    assert_eq!(parameters.send_segment(), 8192);
    let again = exchange.on_request(&request(5, text), text, directory(&config()), &parameters, 6);
    assert_eq!(again, Err(TextError::Malformed), "declared twice");
    exchange.settle(&mut parameters);
    assert_eq!(parameters.send_segment(), 8192);
    let part = exchange.on_request(&request(RESERVED_TAG, text), text, directory(&config()), &parameters, 7);
    assert!(part.unwrap().last);
    exchange.settle(&mut parameters);
    assert_eq!(parameters.send_segment(), 4096);
}

#[test]
fn a_text_may_come_in_several_requests_up_to_a_bound() {
    let parameters = Parameters { discovery: true, ..Parameters::default() };
    let mut exchange = TextExchange::default();
    let partial =
        |tag, text: &[u8]| TextRequest { final_bit: false, continue_bit: true, ..request(tag, text) };
    let first = exchange.on_request(
        &partial(RESERVED_TAG, b"SendTar"),
        b"SendTar",
        directory(&config()),
        &parameters,
        1,
    );
    assert_eq!(first, Ok(Part { text: vec![], last: false, continues: false, transfer_tag: 1 }));
    let second =
        exchange.on_request(&request(1, b"gets=All\0"), b"gets=All\0", directory(&config()), &parameters, 2);
    assert_eq!(String::from_utf8(second.unwrap().text).unwrap().replace('\0', "|"), LIST);
    let long = vec![b'a'; 8192];
    for (n, fine) in [(1, true), (2, true), (3, false)] {
        let tag = if n == 1 { RESERVED_TAG } else { n - 1 };
        let part = exchange.on_request(&partial(tag, &long), &long, directory(&config()), &parameters, n);
        assert_eq!(part.is_ok(), fine, "{n}");
    }
    let late = exchange.on_request(&request(2, b""), b"", directory(&config()), &parameters, 9);
    assert_eq!(late, Err(TextError::NoExchange));
}

#[test]
fn every_way_to_break_a_text_exchange_has_its_reason() {
    let cases: [(&[u8], TextError, RejectReason); 5] = [
        (b"SendTargets=\0SendTargets=\0", TextError::Malformed, RejectReason::ProtocolError),
        (b"MaxRecvDataSegmentLength=1\0", TextError::Malformed, RejectReason::ProtocolError),
        (b"SendTargets=Irrelevant", TextError::Malformed, RejectReason::ProtocolError),
        (b"\xff=1\0", TextError::Malformed, RejectReason::ProtocolError),
        (&[b'a'; 20_000], TextError::TooLong, RejectReason::LongOperationReject),
    ];
    for (text, error, reason) in cases {
        assert_eq!(ask(false, text), Err(error), "{text:?}");
        assert_eq!(error.reason(), reason);
    }
    let many = (0..65).map(|n| format!("X-{n}=1\0")).collect::<String>();
    assert_eq!(ask(false, many.as_bytes()), Err(TextError::TooLong));
    let reserved = TextRequest { initiator_task_tag: RESERVED_TAG, ..request(RESERVED_TAG, b"") };
    let refused =
        TextExchange::default().on_request(&reserved, b"", directory(&config()), &Parameters::default(), 1);
    assert_eq!(refused, Err(TextError::NoExchange));
}

#[test]
fn an_open_exchange_can_be_aborted() {
    let mut exchange = TextExchange::default();
    let open = TextRequest { final_bit: false, ..request(RESERVED_TAG, b"") };
    exchange.on_request(&open, b"", directory(&config()), &Parameters::default(), 1).unwrap();
    assert!(!exchange.abort(8));
    assert!(exchange.abort(9) && !exchange.abort(9));
}
