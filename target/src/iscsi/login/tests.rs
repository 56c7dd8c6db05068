//! The login phase, request by request.

use std::collections::BTreeMap;

use protocol::iscsi::{CmdSn, StatSn};

use crate::iscsi::login::access::Known;
use crate::iscsi::login::chap::{Account, Credentials, Proof, Secret, User};

use super::*;
use LoginStage::{FullFeaturePhase, OperationalNegotiation, SecurityNegotiation};

static OPEN: Access = Access { open: true, hosts: BTreeMap::new(), discovery: None };

const AROUND: Circumstances<'static> = Circumstances {
    target: "iqn.2026-11.com.example:demo",
    portal_group: 2,
    serving: true,
    existing: None,
    access: &OPEN,
    random: |bytes| {
        bytes.fill(0x5a);
        true
    },
};

const NAMES: &str = "InitiatorName=iqn.host|TargetName=iqn.2026-11.com.example:demo|";

fn request(current_stage: LoginStage, next_stage: Option<LoginStage>) -> LoginRequest {
    LoginRequest {
        continue_bit: false,
        current_stage,
        next_stage,
        version_max: 0,
        version_min: 0,
        data_segment_length: 0,
        isid: Isid([0, 2, 0x3d, 0, 0, 1]),
        tsih: 0,
        initiator_task_tag: 1,
        cid: 0,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(1),
    }
}

fn send(login: &mut Login, request: &LoginRequest, text: &str) -> Verdict {
    login.on_request(request, text.replace('|', "\0").as_bytes(), &AROUND)
}

fn first(request: &LoginRequest, text: &str) -> Verdict {
    send(&mut Login::new(), request, text)
}

fn text_of(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Go(reply) | Verdict::Enter(reply) => String::from_utf8(reply.text.clone()).unwrap(),
        Verdict::Refuse(status) => panic!("refused: {status:?}"),
    }
    .replace('\0', "|")
}

#[test]
fn the_login_linux_sends_is_answered_key_by_key() {
    let mut login = Login::new();
    let offer = format!(
        "{NAMES}InitiatorAlias=host|SessionType=Normal|HeaderDigest=None|DataDigest=None|DefaultTime2Wait=2|\
         DefaultTime2Retain=0|IFMarker=No|OFMarker=No|ErrorRecoveryLevel=0|InitialR2T=No|ImmediateData=Yes|\
         MaxBurstLength=16776192|FirstBurstLength=262144|MaxOutstandingR2T=1|MaxConnections=1|\
         DataPDUInOrder=Yes|DataSequenceInOrder=Yes|MaxRecvDataSegmentLength=262144|"
    );
    let verdict = send(&mut login, &request(OperationalNegotiation, Some(FullFeaturePhase)), &offer);
    assert!(matches!(verdict, Verdict::Enter(_)));
    assert_eq!(
        text_of(&verdict),
        "TargetPortalGroupTag=2|TargetAlias=Twinlun|MaxRecvDataSegmentLength=262144|HeaderDigest=None|\
         DataDigest=None|DefaultTime2Wait=2|DefaultTime2Retain=0|IFMarker=No|OFMarker=No|\
         ErrorRecoveryLevel=0|InitialR2T=No|ImmediateData=Yes|MaxBurstLength=1048576|\
         FirstBurstLength=262144|MaxOutstandingR2T=1|MaxConnections=1|DataPDUInOrder=Yes|\
         DataSequenceInOrder=Yes|"
    );
    let parameters = login.parameters();
    assert_eq!((parameters.send_segment(), parameters.receive_segment), (262_144, 262_144));
    assert!(!parameters.agreed.initial_r2t && parameters.agreed.immediate_data);
    assert_eq!((login.initiator(), login.initiator_alias()), ("iqn.host", "host"));
}

#[test]
fn stages_follow_each_other_only_as_the_standard_lists_them() {
    let cases = [
        (SecurityNegotiation, None, true),
        (SecurityNegotiation, Some(OperationalNegotiation), true),
        (SecurityNegotiation, Some(FullFeaturePhase), true),
        (SecurityNegotiation, Some(SecurityNegotiation), false),
        (OperationalNegotiation, None, true),
        (OperationalNegotiation, Some(FullFeaturePhase), true),
        (OperationalNegotiation, Some(OperationalNegotiation), false),
        (OperationalNegotiation, Some(SecurityNegotiation), false),
        (FullFeaturePhase, None, false),
        (FullFeaturePhase, Some(FullFeaturePhase), false),
    ];
    for (current, next, allowed) in cases {
        let verdict = first(&request(current, next), NAMES);
        match &verdict {
            Verdict::Enter(reply) => assert!(allowed && next == Some(FullFeaturePhase) && reply.next == next),
            Verdict::Go(reply) => assert!(allowed && next != Some(FullFeaturePhase) && reply.next == next),
            Verdict::Refuse(status) => {
                assert!(!allowed && *status == LoginStatus::InitiatorError, "{current:?} {next:?}");
            }
        }
    }
}

#[test]
fn a_stage_left_behind_is_not_entered_again() {
    let mut login = Login::new();
    send(&mut login, &request(SecurityNegotiation, Some(OperationalNegotiation)), NAMES);
    let again = send(&mut login, &request(SecurityNegotiation, None), "");
    assert_eq!(again, Verdict::Refuse(LoginStatus::InitiatorError));
}

#[test]
fn both_stages_one_after_the_other_negotiate_each_its_own_keys() {
    let mut login = Login::new();
    let security = send(
        &mut login,
        &request(SecurityNegotiation, Some(OperationalNegotiation)),
        &format!("{NAMES}AuthMethod=CHAP,None|"),
    );
    assert_eq!(text_of(&security), "TargetPortalGroupTag=2|TargetAlias=Twinlun|AuthMethod=None|");
    let operational =
        send(&mut login, &request(OperationalNegotiation, Some(FullFeaturePhase)), "HeaderDigest=CRC32C|");
    assert_eq!(text_of(&operational), "MaxRecvDataSegmentLength=262144|HeaderDigest=CRC32C|");
    assert!(matches!(operational, Verdict::Enter(_)));
    assert!(login.parameters().digests().header);
}

#[test]
fn text_is_joined_over_requests_with_the_c_bit() {
    let mut login = Login::new();
    let part = LoginRequest { continue_bit: true, ..request(OperationalNegotiation, None) };
    let (a, b) = NAMES.split_at(20);
    assert_eq!(text_of(&send(&mut login, &part, a)), "");
    let whole = send(&mut login, &request(OperationalNegotiation, Some(FullFeaturePhase)), b);
    assert!(text_of(&whole).starts_with("TargetPortalGroupTag=2|"));
}

#[test]
fn a_login_that_cannot_be_gets_the_status_of_the_standard() {
    use LoginStatus as S;
    let enter = request(OperationalNegotiation, Some(FullFeaturePhase));
    let security = request(SecurityNegotiation, Some(OperationalNegotiation));
    let cases = [
        (enter, "TargetName=iqn.2026-11.com.example:demo|", S::MissingParameter),
        (enter, "InitiatorName=iqn.host|", S::MissingParameter),
        (enter, "InitiatorName=iqn.host|TargetName=iqn.other|", S::NotFound),
        (enter, "InitiatorName=|TargetName=iqn.2026-11.com.example:demo|", S::InitiatorError),
        (enter, "InitiatorName=iqn.host|SessionType=Odd|", S::SessionTypeNotSupported),
        (LoginRequest { tsih: 7, ..enter }, NAMES, S::SessionDoesNotExist),
        (LoginRequest { version_min: 1, version_max: 1, ..enter }, NAMES, S::UnsupportedVersion),
        (enter, "InitiatorName=iqn.host", S::MissingParameter),
        (enter, "no pair at all|", S::InitiatorError),
        (security, "InitiatorName=iqn.host|SessionType=Discovery|AuthMethod=CHAP|", S::AuthenticationFailure),
        (security, "InitiatorName=iqn.host|SessionType=Discovery|MaxConnections=1|", S::InitiatorError),
        (enter, "InitiatorName=iqn.host|SessionType=Discovery|AuthMethod=None|", S::InitiatorError),
        (enter, "InitiatorName=iqn.host|SessionType=Discovery|TargetAlias=x|", S::InitiatorError),
        (enter, "InitiatorName=iqn.host|SessionType=Discovery|TargetAlias=NotUnderstood|", S::InitiatorError),
        (
            enter,
            "InitiatorName=iqn.host|SessionType=Discovery|MaxRecvDataSegmentLength=511|",
            S::InitiatorError,
        ),
        (enter, "InitiatorName=iqn.host|SessionType=Discovery|InitialR2T=Irrelevant|", S::InitiatorError),
        (enter, "InitiatorName=iqn.host|SessionType=Discovery|InitiatorName=iqn.host|", S::InitiatorError),
        (enter, "InitiatorName=iqn.host|SessionType=Discovery|SendTargets=All|", S::InitiatorError),
        (
            enter,
            "InitiatorName=iqn.host|SessionType=Discovery|HeaderDigest=None|HeaderDigest=None|",
            S::InitiatorError,
        ),
    ];
    for (request, text, status) in cases {
        assert_eq!(first(&request, text), Verdict::Refuse(status), "{text}");
    }
}

#[test]
fn circumstances_refuse_a_login_that_would_be_right() {
    let enter = request(OperationalNegotiation, Some(FullFeaturePhase));
    let text = NAMES.replace('|', "\0");
    let cases = [
        (enter, Circumstances { serving: false, ..AROUND }, LoginStatus::ServiceUnavailable),
        (LoginRequest { tsih: 3, ..enter }, AROUND, LoginStatus::SessionDoesNotExist),
    ];
    for (request, around, status) in cases {
        let verdict = Login::new().on_request(&request, text.as_bytes(), &around);
        assert_eq!(verdict, Verdict::Refuse(status));
    }
}

#[test]
fn a_discovery_session_needs_no_target_name() {
    let mut login = Login::new();
    let enter = request(OperationalNegotiation, Some(FullFeaturePhase));
    let verdict = send(&mut login, &enter, "InitiatorName=iqn.host|SessionType=Discovery|");
    assert_eq!(text_of(&verdict), "TargetPortalGroupTag=2|MaxRecvDataSegmentLength=262144|");
    assert!(login.parameters().discovery);
}

#[test]
fn a_request_that_does_not_repeat_the_first_is_refused() {
    let go = request(OperationalNegotiation, None);
    for other in [
        LoginRequest { cid: 1, ..go },
        LoginRequest { initiator_task_tag: 2, ..go },
        LoginRequest { isid: Isid([1; 6]), ..go },
        LoginRequest { tsih: 1, ..go },
        LoginRequest { version_max: 1, ..go },
        LoginRequest { version_min: 1, ..go },
    ] {
        let mut login = Login::new();
        assert!(matches!(send(&mut login, &go, NAMES), Verdict::Go(_)));
        assert_eq!(send(&mut login, &other, ""), Verdict::Refuse(LoginStatus::InitiatorError));
    }
}

#[test]
fn requests_keys_and_text_are_bounded() {
    let mut login = Login::new();
    let go = request(OperationalNegotiation, None);
    send(&mut login, &go, NAMES);
    for _ in 1..LOGIN_REQUESTS_MAX {
        assert!(matches!(send(&mut login, &go, ""), Verdict::Go(_)));
    }
    assert_eq!(send(&mut login, &go, ""), Verdict::Refuse(LoginStatus::InitiatorError));

    let many = (0..LOGIN_KEYS_MAX).map(|n| format!("X-{n}=1|")).collect::<String>();
    assert_eq!(first(&go, &format!("{NAMES}{many}")), Verdict::Refuse(LoginStatus::InitiatorError));

    let mut login = Login::new();
    let part = LoginRequest { continue_bit: true, ..go };
    let long = "a".repeat(LOGIN_TEXT_BYTES_MAX);
    assert!(matches!(send(&mut login, &part, &long), Verdict::Go(_)));
    assert_eq!(send(&mut login, &part, "a"), Verdict::Refuse(LoginStatus::InitiatorError));
}

#[test]
fn the_longest_answer_fits_one_pdu() {
    let long = "k".repeat(text::KEY_BYTES_MAX - 4);
    let many = (2..LOGIN_KEYS_MAX).map(|n| format!("{long}{n:04}=1|")).collect::<String>();
    let verdict = first(&request(OperationalNegotiation, None), &format!("{NAMES}{many}"));
    assert!(text_of(&verdict).len() <= crate::iscsi::login::parameters::SEGMENT_BYTES_DEFAULT as usize);
}

#[test]
fn a_handle_that_is_not_zero_replaces_the_connection_it_belongs_to_and_no_other() {
    use LoginStatus as S;
    let enter = LoginRequest { tsih: 3, cid: 7, ..request(OperationalNegotiation, Some(FullFeaturePhase)) };
    let existing = |initiator: &str, isid, cid| Existing { initiator: initiator.to_owned(), isid, cid };
    let isid = enter.isid;
    let cases = [
        ("", existing("iqn.host", isid, 7), None),
        ("SessionType=Normal|", existing("iqn.host", isid, 7), None),
        ("", existing("iqn.host", isid, 8), Some(S::TooManyConnections)),
        ("", existing("iqn.other", isid, 7), Some(S::SessionDoesNotExist)),
        ("", existing("iqn.host", Isid([9; 6]), 7), Some(S::SessionDoesNotExist)),
        ("SessionType=Discovery|", existing("iqn.host", isid, 7), Some(S::SessionDoesNotExist)),
        ("MaxBurstLength=512|", existing("iqn.host", isid, 7), Some(S::InitiatorError)),
    ];
    for (keys, existing, refused) in cases {
        let around = Circumstances { existing: Some(&existing), ..AROUND };
        let text = format!("{NAMES}{keys}").replace('|', "\0");
        let mut login = Login::new();
        match (login.on_request(&enter, text.as_bytes(), &around), refused) {
            (Verdict::Enter(_), None) => assert_eq!(login.reinstates(), Some(3)),
            (Verdict::Refuse(status), Some(expected)) => assert_eq!(status, expected, "{existing:?}"),
            (verdict, _) => panic!("{existing:?} {keys}: {verdict:?}"),
        }
    }
}

#[test]
fn first_burst_length_never_exceeds_max_burst_length() {
    for (keys, first_burst) in [
        ("FirstBurstLength=262144|MaxBurstLength=4096|", 4096),
        ("MaxBurstLength=4096|FirstBurstLength=262144|", 4096),
        ("MaxBurstLength=4096|", 4096),
        ("FirstBurstLength=262144|", 262_144),
        ("FirstBurstLength=16777215|MaxBurstLength=16777215|", 262_144),
        ("FirstBurstLength=512|MaxBurstLength=0|", 512),
    ] {
        let mut login = Login::new();
        let enter = request(OperationalNegotiation, Some(FullFeaturePhase));
        let verdict = send(&mut login, &enter, &format!("{NAMES}{keys}"));
        let agreed = login.parameters().agreed;
        assert_eq!((agreed.first_burst_length, agreed.check()), (first_burst, Ok(())), "{keys}");
        let answered = format!("FirstBurstLength={first_burst}|");
        assert!(!keys.contains("First") || text_of(&verdict).contains(&answered), "{verdict:?}");
    }
}

#[test]
fn every_operational_key_is_answered_by_its_own_rule() {
    // 13.1 to 13.26: what is offered, and what comes back.
    for (offer, answer) in [
        ("HeaderDigest=CRC32C,None|", "HeaderDigest=CRC32C|"),
        ("DataDigest=None,CRC32C|", "DataDigest=None|"),
        ("DataDigest=X-other|", "DataDigest=Reject|"),
        ("MaxConnections=8|", "MaxConnections=1|"),
        ("InitialR2T=No|", "InitialR2T=No|"),
        ("InitialR2T=Yes|", "InitialR2T=Yes|"),
        ("ImmediateData=No|", "ImmediateData=No|"),
        ("MaxBurstLength=0x400|", "MaxBurstLength=1024|"),
        ("DefaultTime2Wait=7|", "DefaultTime2Wait=7|"),
        ("DefaultTime2Retain=20|", "DefaultTime2Retain=0|"),
        ("MaxOutstandingR2T=16|", "MaxOutstandingR2T=8|"),
        ("DataPDUInOrder=No|", "DataPDUInOrder=Yes|"),
        ("DataSequenceInOrder=No|", "DataSequenceInOrder=Yes|"),
        ("ErrorRecoveryLevel=2|", "ErrorRecoveryLevel=0|"),
        ("TaskReporting=FastAbort,ResponseFence,RFC3720|", "TaskReporting=ResponseFence|"),
        ("TaskReporting=RFC3720|", "TaskReporting=RFC3720|"),
        ("iSCSIProtocolLevel=2|", "iSCSIProtocolLevel=1|"),
        ("IFMarker=Yes|", "IFMarker=No|"),
        ("OFMarker=No|", "OFMarker=No|"),
        ("IFMarkInt=2048|", "IFMarkInt=Reject|"),
        ("OFMarkInt=2048~8192|", "OFMarkInt=Reject|"),
        ("X#NodeArchitecture=a,b|", ""),
        ("X-com.example.key=1|", "X-com.example.key=NotUnderstood|"),
        ("InitiatorAlias=somebody|", ""),
    ] {
        let enter = request(OperationalNegotiation, Some(FullFeaturePhase));
        let all = text_of(&first(&enter, &format!("{NAMES}{offer}")));
        let own = "TargetPortalGroupTag=2|TargetAlias=Twinlun|MaxRecvDataSegmentLength=262144|";
        assert_eq!(all, format!("{own}{answer}"), "{offer}");
    }
}

fn guarded() -> Access {
    let credentials = |user: &str, secret: &str| Credentials {
        user: user.to_owned(),
        secret: Secret::new(secret.as_bytes()).unwrap(),
    };
    let Credentials { user, secret } = credentials("host", "secret of the host");
    let account = Account {
        initiator: Proof { user: User::Named(user), secret },
        own: Some(credentials("target", "secret of the target")),
    };
    let hosts = BTreeMap::from([("iqn.host".to_owned(), Known { account: Some(account), luns: None })]);
    Access { open: false, hosts, discovery: None }
}

/// MD5 over 5Ah, the secret of the host and sixteen times 5Ah.
const PROOF: &str = "0x9d305561f2ffdea73948d73ec37b1db0";

/// MD5 over 01h, the secret of the target and 00h FFh.
const COUNTER_PROOF: &str = "0xfd2a257e3003ebef3c32ac71bafc34b4";

#[test]
fn a_host_that_has_to_prove_itself_does_so_before_the_next_stage() {
    let access = guarded();
    let around = Circumstances { access: &access, ..AROUND };
    let mut login = Login::new();
    let mut step = |next, text: &str| {
        let request = request(SecurityNegotiation, next);
        login.on_request(&request, text.replace('|', "\0").as_bytes(), &around)
    };
    let on = Some(OperationalNegotiation);
    let first = step(on, &format!("{NAMES}AuthMethod=CHAP,None|"));
    assert!(matches!(&first, Verdict::Go(reply) if reply.next.is_none()), "not yet");
    assert!(text_of(&first).ends_with("AuthMethod=CHAP|"));
    let asked = step(None, "CHAP_A=7,5|");
    assert_eq!(text_of(&asked), format!("CHAP_A=7|CHAP_I=90|CHAP_C=0x{}|", "5a".repeat(32)));
    let wrong = step(on, "CHAP_N=host|CHAP_R=0x00|");
    assert_eq!(wrong, Verdict::Refuse(LoginStatus::AuthenticationFailure));

    let mut login = Login::new();
    let mut step = |stage, next, text: &str| {
        let request = request(stage, next);
        login.on_request(&request, text.replace('|', "\0").as_bytes(), &around)
    };
    step(SecurityNegotiation, None, &format!("{NAMES}AuthMethod=CHAP|"));
    step(SecurityNegotiation, None, "CHAP_A=5|");
    let proof = format!("CHAP_N=host|CHAP_R={PROOF}|CHAP_I=1|CHAP_C=0x00ff|");
    let proved = step(SecurityNegotiation, on, &proof);
    assert!(matches!(&proved, Verdict::Go(reply) if reply.next == on), "{proved:?}");
    assert_eq!(text_of(&proved), format!("CHAP_N=target|CHAP_R={COUNTER_PROOF}|"));
    assert!(matches!(step(OperationalNegotiation, Some(FullFeaturePhase), ""), Verdict::Enter(_)));
}

#[test]
fn a_host_that_proves_nothing_or_is_not_known_does_not_get_in() {
    use LoginStatus as S;
    let access = guarded();
    let around = Circumstances { access: &access, ..AROUND };
    let security = request(SecurityNegotiation, Some(OperationalNegotiation));
    let skip = request(OperationalNegotiation, Some(FullFeaturePhase));
    let stranger = NAMES.replace("iqn.host", "iqn.stranger");
    for (request, text, status) in [
        (skip, NAMES.to_owned(), S::AuthenticationFailure),
        (security, NAMES.to_owned(), S::AuthenticationFailure),
        (security, format!("{NAMES}AuthMethod=None|"), S::AuthenticationFailure),
        (security, format!("{NAMES}AuthMethod=CHAP|CHAP_A=5|CHAP_N=host|"), S::InitiatorError),
        (security, format!("{NAMES}CHAP_A=5|"), S::AuthenticationFailure),
        (skip, stranger.clone(), S::AuthorizationFailure),
        (security, format!("{stranger}AuthMethod=CHAP|"), S::AuthorizationFailure),
        (skip, "InitiatorName=iqn.host|SessionType=Discovery|".to_owned(), S::AuthenticationFailure),
        (skip, "InitiatorName=iqn.c|SessionType=Discovery|".to_owned(), S::AuthorizationFailure),
    ] {
        let verdict = Login::new().on_request(&request, text.replace('|', "\0").as_bytes(), &around);
        assert_eq!(verdict, Verdict::Refuse(status), "{text}");
    }
    // CHAP keys where nothing has to be proved.
    let refused = first(&security, &format!("{NAMES}AuthMethod=None|CHAP_A=5|"));
    assert_eq!(refused, Verdict::Refuse(S::InitiatorError));
}
