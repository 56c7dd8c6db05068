//! Whom a login replaces: sessions, connections, discovery sessions, and half-open logins.

use core::net::SocketAddr;

use super::*;
use crate::iscsi::sessions::{DISCOVERIES_MAX, INITIATOR_SESSIONS_MAX, LOGINS_MAX, SESSIONS_MAX};

impl Host {
    /// Logs in with this qualifier in its ISID.
    fn log_in_by(&mut self, script: &Script, initiator: &str, qualifier: u16) -> LoginStatus {
        let text = format!("InitiatorName={initiator}|TargetName={IQN}|").replace('|', "\0");
        let [high, low] = qualifier.to_be_bytes();
        let request = LoginRequest {
            current_stage: LoginStage::OperationalNegotiation,
            next_stage: Some(LoginStage::FullFeaturePhase),
            data_segment_length: text.len() as u32,
            isid: protocol::iscsi::Isid([0x80, 0, 0, 0, high, low]),
            ..login_complete::unreadable(&Received { bhs: [0; 48], ahs: Bytes::new(), data: None })
        };
        self.queue(&request.encode(), text.as_bytes());
        self.exchange(script).unwrap();
        response(self.answers().remove(0).0).status
    }

    /// Logs in with this handle and CID.
    fn log_in_again(&mut self, script: &Script, tsih: u16, cid: u16, keys: &str) -> TargetPdu {
        let text = format!("InitiatorName=iqn.a|TargetName={IQN}|{keys}").replace('|', "\0");
        let request = LoginRequest {
            current_stage: LoginStage::OperationalNegotiation,
            next_stage: Some(LoginStage::FullFeaturePhase),
            data_segment_length: text.len() as u32,
            cmd_sn: CmdSn(50),
            initiator_task_tag: 1,
            tsih,
            cid,
            ..login_complete::unreadable(&Received { bhs: [0; 48], ahs: Bytes::new(), data: None })
        };
        self.queue(&request.encode(), text.as_bytes());
        self.exchange(script).unwrap();
        self.answers().remove(0).0
    }
}

fn response(pdu: TargetPdu) -> protocol::iscsi::LoginResponse {
    let TargetPdu::LoginResponse(response) = pdu else { panic!("{pdu:?}") };
    response
}

#[test]
fn a_login_with_the_handle_and_cid_of_a_session_replaces_its_connection() {
    let script = script(true);
    let mut first = Host::connect(&script);
    let tsih = response(first.log_in_again(&script, 0, 7, "InitialR2T=No|HeaderDigest=CRC32C|")).tsih;
    first.cmd_sn = 50;
    first.command(0x28, 1, false, &[], true);
    let tag = first.command(0xff, 1, false, &[], true);
    first.exchange(&script).unwrap();
    first.answers();

    let mut second = Host::connect(&script);
    let again = response(second.log_in_again(&script, tsih, 7, ""));
    assert_eq!((again.status, again.tsih), (LoginStatus::Success, tsih));
    assert_eq!(again.exp_cmd_sn, CmdSn(52), "the session's numbers go on");
    assert!(first.socket.state.lock().shut);
    assert_eq!(*script.log.borrow(), ["added 1", "lost 1", "added 2"]);
    first.connection.closed(&script);
    assert_eq!(script.sessions.list().len(), 1);

    // What the session had agreed on holds on; what belongs to the connection is new.
    second.cmd_sn = 52;
    let written = second.command(0x2a, 2, true, &[1; 512], false);
    second.data_out(written, RESERVED_TAG, 0, 512, &[1; 512], true);
    second.exchange(&script).unwrap();
    assert!(matches!(second.answers()[..], [(TargetPdu::ScsiResponse(_), _)]));
    assert_eq!(script.written.borrow()[&written].len(), 1024);

    // The old task is over, whatever becomes of it.
    let nexus = script.sessions.list()[0].nexus;
    script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Good(Vec::new()));
    assert!(second.answers().is_empty());
}

#[test]
fn a_handle_that_fits_nothing_is_refused_and_nobody_is_disturbed() {
    let script = script(true);
    let mut first = Host::connect(&script);
    let tsih = response(first.log_in_again(&script, 0, 7, "")).tsih;
    for (tsih, cid, status) in [
        (tsih + 1, 7, LoginStatus::SessionDoesNotExist),
        (0x8000, 7, LoginStatus::SessionDoesNotExist),
        (tsih, 8, LoginStatus::TooManyConnections),
    ] {
        let mut other = Host::connect(&script);
        assert_eq!(response(other.log_in_again(&script, tsih, cid, "")).status, status);
        assert!(other.socket.state.lock().shut);
    }
    assert!(!first.socket.state.lock().shut);
    assert_eq!(*script.log.borrow(), ["added 1"]);
}

#[test]
fn discovery_sessions_are_reinstated_by_their_own_rule() {
    let script = script(true);
    let unnamed = "SessionType=Discovery|";
    let discover = |name: &str| {
        let mut host = Host::connect(&script);
        let text = format!("InitiatorName={name}|{unnamed}").replace('|', "\0");
        let request = LoginRequest {
            current_stage: LoginStage::OperationalNegotiation,
            next_stage: Some(LoginStage::FullFeaturePhase),
            data_segment_length: text.len() as u32,
            ..login_complete::unreadable(&Received { bhs: [0; 48], ahs: Bytes::new(), data: None })
        };
        host.queue(&request.encode(), text.as_bytes());
        host.exchange(&script).unwrap();
        host
    };
    let over = |host: &Host| host.socket.state.lock().shut;
    let normal = Host::logged_in(&script, "iqn.a", "");
    let first = discover("iqn.a");
    let other = discover("iqn.b");
    assert!(!over(&normal) && !over(&first));
    let again = discover("IQN.a");
    assert!(over(&first) && !over(&other) && !over(&normal), "its own older one, and nobody else");
    let named = Host::logged_in(&script, "iqn.a", unnamed);
    assert!(over(&normal) && !over(&again), "one session per initiator port and target");
    let _normal = Host::logged_in(&script, "iqn.a", "");
    assert!(over(&named) && !over(&again));
}

#[test]
fn discovery_sessions_by_other_portals_stand_beside_each_other() {
    use crate::iscsi::sessions::Discovering;
    let discovering = |portal: &str| Discovering {
        initiator: "iqn.a".to_owned(),
        isid: protocol::iscsi::Isid([1; 6]),
        named: false,
        portal: Some(portal.parse::<SocketAddr>().unwrap()),
    };
    let script = script(true);
    let shared = || Host::connect(&script).connection.shared.clone();
    assert!(script.sessions.begin_discovery(discovering("127.0.0.1:3260"), shared()).1.is_empty());
    assert!(script.sessions.begin_discovery(discovering("127.0.0.1:3261"), shared()).1.is_empty());
    assert_eq!(script.sessions.begin_discovery(discovering("127.0.0.1:3260"), shared()).1.len(), 1);
}

#[test]
fn too_many_discovery_sessions_end_the_oldest() {
    let script = script(true);
    let hosts = (0..=DISCOVERIES_MAX)
        .map(|n| Host::logged_in(&script, &format!("iqn.host{n}"), "SessionType=Discovery|"))
        .collect::<Vec<_>>();
    let over = hosts.iter().map(|host| host.socket.state.lock().shut).collect::<Vec<_>>();
    assert!(over[0] && !over[1..].contains(&true));
}

#[test]
fn a_flood_of_half_open_logins_ends_the_oldest_of_them_and_keeps_nobody_out() {
    let script = script(true);
    let served = Host::logged_in(&script, "iqn.a", "");
    let half_open = (0..=LOGINS_MAX).map(|_| Host::connect(&script)).collect::<Vec<_>>();
    let over = half_open.iter().map(|host| host.socket.state.lock().shut).collect::<Vec<_>>();
    assert!(over[0] && !over[1..].contains(&true));
    let late = Host::logged_in(&script, "iqn.b", "");
    assert!(!late.socket.state.lock().shut && !served.socket.state.lock().shut);
    drop(half_open);
}

#[test]
fn a_full_table_lets_a_host_reinstate_its_session() {
    let script = script(true);
    let hosts =
        (0..SESSIONS_MAX).map(|n| Host::logged_in(&script, &format!("iqn.host{n}"), "")).collect::<Vec<_>>();
    let mut stranger = Host::connect(&script);
    let refused = stranger.log_in(&script, "iqn.stranger", "").remove(0).0;
    assert_eq!(response(refused).status, LoginStatus::OutOfResources);
    let _again = Host::logged_in(&script, "iqn.host5", "");
    assert!(hosts[5].socket.state.lock().shut);
}

#[test]
fn one_initiator_gets_its_share_of_the_sessions_and_no_more() {
    let script = script(true);
    let mut greedy = Vec::new();
    for qualifier in 0..INITIATOR_SESSIONS_MAX as u16 {
        let mut host = Host::connect(&script);
        assert_eq!(host.log_in_by(&script, "iqn.greedy", qualifier), LoginStatus::Success);
        greedy.push(host);
    }
    let mut more = Host::connect(&script);
    assert_eq!(more.log_in_by(&script, "IQN.Greedy", 500), LoginStatus::OutOfResources);
    assert!(more.socket.state.lock().shut);
    assert_eq!(script.sessions.count(), INITIATOR_SESSIONS_MAX, "nobody had to make way");
    // Others get in, it may come again with a session that it has, and with another when one is over.
    assert_eq!(Host::connect(&script).log_in_by(&script, "iqn.other", 500), LoginStatus::Success);
    assert_eq!(Host::connect(&script).log_in_by(&script, "iqn.greedy", 5), LoginStatus::Success);
    greedy[7].connection.closed(&script);
    assert_eq!(Host::connect(&script).log_in_by(&script, "iqn.greedy", 500), LoginStatus::Success);
    assert_eq!(Host::connect(&script).log_in_by(&script, "iqn.greedy", 501), LoginStatus::OutOfResources);
}

#[test]
fn one_host_gets_its_share_of_the_sessions_whatever_it_calls_itself() {
    let script = script(true);
    let most = SESSIONS_MAX / 4 * 3;
    let login = |address: &str, name: String| {
        let mut host = Host::connect_from(&script, Some(address));
        let status = host.log_in_by(&script, &name, 0);
        (host, status)
    };
    let mut greedy: Vec<Host> = (0..most)
        .map(|n| {
            let (host, status) = login("192.0.2.1", format!("iqn.greedy{n}"));
            assert_eq!(status, LoginStatus::Success, "{n}");
            host
        })
        .collect();
    let (more, status) = login("192.0.2.1", "iqn.more".to_owned());
    assert_eq!(status, LoginStatus::OutOfResources);
    assert!(more.socket.state.lock().shut);
    // It is one host, whichever way its address is written.
    assert_eq!(login("::ffff:192.0.2.1", "iqn.more".to_owned()).1, LoginStatus::OutOfResources);
    assert_eq!(script.sessions.count(), most, "nobody had to make way");
    // Others get in, it may come again with a session that it has, and with another when one is over.
    let (_other, status) = login("192.0.2.2", "iqn.other".to_owned());
    assert_eq!(status, LoginStatus::Success);
    let (_again, status) = login("192.0.2.1", "iqn.greedy5".to_owned());
    assert_eq!(status, LoginStatus::Success);
    greedy[7].connection.closed(&script);
    let (_late, status) = login("192.0.2.1", "iqn.more".to_owned());
    assert_eq!(status, LoginStatus::Success);
    assert_eq!(login("192.0.2.1", "iqn.most".to_owned()).1, LoginStatus::OutOfResources);
}

#[test]
fn whoever_is_on_this_machine_may_have_all_sessions() {
    let script = script(true);
    let hosts = (0..SESSIONS_MAX)
        .map(|n| {
            let mut host = Host::connect_from(&script, Some(["127.0.0.1", "::1"][n % 2]));
            assert_eq!(host.log_in_by(&script, &format!("iqn.host{n}"), 0), LoginStatus::Success, "{n}");
            host
        })
        .collect::<Vec<_>>();
    assert_eq!(script.sessions.count(), hosts.len());
}

#[test]
fn a_flood_of_connections_without_a_session_makes_its_own_host_give_way() {
    let script = script(true);
    let honest = Host::connect_from(&script, Some("10.0.0.1"));
    let mut flood = Vec::new();
    for n in 0..2 * LOGINS_MAX {
        let mut host = Host::connect_from(&script, Some("10.0.0.2"));
        // Some say nothing, some are refused and stay.
        if n % 2 == 0 {
            host.log_in(&script, "iqn.a", "SessionType=Odd|");
        }
        flood.push(host);
    }
    assert!(!honest.socket.state.lock().shut);
    assert_eq!(script.sessions.half_open(), LOGINS_MAX);
    let over = flood.iter().filter(|host| host.connection.shared.has_ended()).count();
    assert_eq!(over, LOGINS_MAX + 1);
    flood.iter_mut().for_each(|host| host.connection.closed(&script));
    assert_eq!(script.sessions.half_open(), 1);
}

#[test]
fn hosts_that_log_out_and_stay_are_bounded_too() {
    let script = script(true);
    let mut hosts = Vec::new();
    for _ in 0..LOGINS_MAX + 5 {
        let mut host = Host::logged_in(&script, "iqn.a", "");
        host.ask_to_log_out(&script);
        hosts.push(host);
    }
    assert_eq!(script.sessions.half_open(), LOGINS_MAX);
    assert!(hosts[0].connection.shared.has_ended() && !hosts[LOGINS_MAX].connection.shared.has_ended());
}

#[test]
fn a_flood_of_discovery_sessions_makes_its_own_host_give_way() {
    let script = script(true);
    let discover = |host: &str, n: usize| {
        let mut connection = Host::connect_from(&script, Some(host));
        connection.log_in(&script, &format!("iqn.host{n}"), "SessionType=Discovery|");
        connection
    };
    let honest = discover("10.0.0.1", 0);
    let flood: Vec<Host> = (1..=DISCOVERIES_MAX).map(|n| discover("10.0.0.2", n)).collect();
    assert!(!honest.socket.state.lock().shut && flood[0].socket.state.lock().shut);
}

/// Logs in with a proof by CHAP (SHA-256).
fn prove(
    script: &Script,
    access: &crate::iscsi::login::access::Access,
    keys: &str,
    user: &str,
    secret: &str,
) -> (Host, LoginStatus) {
    use sha2::{Digest, Sha256};

    let mut host = Host::connect(script);
    let mut directory = (*host.connection.directory).clone();
    directory.access = access.clone();
    host.connection.directory = Arc::new(directory);
    let send = |host: &mut Host, next: Option<LoginStage>, keys: &str| {
        let text = keys.replace('|', "\0");
        let request = LoginRequest {
            current_stage: LoginStage::SecurityNegotiation,
            next_stage: next,
            data_segment_length: text.len() as u32,
            ..login_complete::unreadable(&Received { bhs: [0; 48], ahs: Bytes::new(), data: None })
        };
        host.queue(&request.encode(), text.as_bytes());
        host.exchange(script).unwrap();
        let (pdu, data) = host.answers().remove(0);
        (response(pdu).status, String::from_utf8(data.to_vec()).unwrap())
    };
    send(&mut host, None, &format!("{keys}AuthMethod=CHAP|"));
    let (_, asked) = send(&mut host, None, "CHAP_A=7|");
    let value = |name: &str| asked.split('\0').find_map(|pair| pair.strip_prefix(name)).unwrap().to_owned();
    let challenge = protocol::iscsi::binary::decode(&value("CHAP_C="), 1024).unwrap();
    let identifier: u8 = value("CHAP_I=").parse().unwrap();
    let proof = Sha256::digest([&[identifier], secret.as_bytes(), &challenge].concat());
    let proof = protocol::iscsi::binary::encode(&proof);
    let (status, _) =
        send(&mut host, Some(LoginStage::FullFeaturePhase), &format!("CHAP_N={user}|CHAP_R={proof}|"));
    (host, status)
}

#[test]
fn who_knows_what_discovery_sessions_prove_ends_nobodys_normal_session() {
    use crate::iscsi::login::access::{Access, Known};
    use crate::iscsi::login::chap::{Account, Proof, Secret, User};

    let account = |user: &str, secret: &str| Account {
        initiator: Proof {
            user: User::Named(user.to_owned()),
            secret: Secret::new(secret.as_bytes()).unwrap(),
        },
        own: None,
    };
    let known = Known { account: Some(account("a", "what host a proves")), luns: None };
    let access = Access {
        open: false,
        hosts: BTreeMap::from([("iqn.a".to_owned(), known)]),
        discovery: Some(account("discovery", "what every host knows")),
    };
    let script = script(true);
    let names = format!("InitiatorName=iqn.a|TargetName={IQN}|");
    let (victim, status) = prove(&script, &access, &names, "a", "what host a proves");
    assert_eq!(status, LoginStatus::Success);
    assert_eq!(script.sessions.count(), 1);
    // Any host of the network that knows no more than this: not host a.
    let (_, status) = prove(&script, &access, &names, "discovery", "what every host knows");
    assert_eq!(status, LoginStatus::AuthenticationFailure);
    let named = format!("{names}SessionType=Discovery|");
    let (_other, _) = prove(&script, &access, &named, "discovery", "what every host knows");
    assert!(
        !victim.socket.state.lock().shut && script.sessions.count() == 1,
        "the session of host a was ended"
    );
}
