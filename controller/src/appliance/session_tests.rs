//! The connections to the peer, and greetings.

use super::*;
use crate::appliance::phase::Progress;
use crate::plan::Side;

fn plan(side: Side) -> Plan {
    let names = ["alpha".to_owned(), "beta".to_owned()];
    Plan { side, names, luns: Vec::new(), shared: vec![("bridges".into(), "1".into())], bridges: 1 }
}

fn identity(appliance: u128) -> Identity {
    Identity { appliance, luns: Vec::new() }
}

fn session() -> PeerSession {
    PeerSession::new(1, Apart::NeverMet("beta".into()))
}

/// The peer's greeting on a connection for a purpose, as beta's run `incarnation` of this appliance sends it.
fn hello(purpose: Purpose, incarnation: u128, appliance: u128) -> Hello {
    let (plan, identity) = (plan(Side::Second), identity(appliance));
    let own = Own { plan: &plan, identity: &identity, unreadable: false };
    match PeerSession::new(incarnation, Apart::Stopping).hello(purpose, own) {
        Message::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

fn greet(session: &mut PeerSession, link: u32, hello: &Hello) -> Greeted {
    let (plan, identity) = (plan(Side::First), identity(7));
    let greeted =
        session.take_hello(LinkId(link), hello, Own { plan: &plan, identity: &identity, unreadable: false });
    session.check();
    greeted
}

const BRIDGE: Purpose = Purpose::Bridge(0);

/// The control connection (1) and both bridges (2 dialed, 3 not) are greeted.
fn complete() -> PeerSession {
    let mut session = session();
    assert_eq!(session.open(LinkId(1), Some(LinkKind::Control)), Some(Purpose::Control));
    session.open(LinkId(2), Some(LinkKind::Bridge(0)));
    assert_eq!(session.open(LinkId(3), None), None);
    let taken = Greeted::Taken { answer: false, control: true };
    assert_eq!(greet(&mut session, 1, &hello(Purpose::Control, 5, 7)), taken);
    assert_eq!(
        greet(&mut session, 2, &hello(BRIDGE, 5, 7)),
        Greeted::Taken { answer: false, control: false }
    );
    assert!(!session.is_complete(1) && !session.has_what_the_leader_counts(1), "the peer's own is missing");
    assert_eq!(greet(&mut session, 3, &hello(BRIDGE, 5, 7)), Greeted::Taken { answer: true, control: false });
    session
}

#[test]
fn a_session_is_complete_when_every_connection_is_greeted() {
    let session = complete();
    assert!(session.is_complete(1) && !session.is_complete(2));
    assert_eq!(session.control(), Some(LinkId(1)));
    assert!(session.bridges().is_empty(), "the two have not met yet");
    assert_eq!(session.joined_control(), None);
}

#[test]
fn who_must_not_be_the_peer_is_refused_with_why() {
    let refused = |hello: Hello| {
        let mut session = session();
        session.open(LinkId(1), None);
        match greet(&mut session, 1, &hello) {
            Greeted::Refused(apart) => apart,
            other => panic!("{other:?}"),
        }
    };
    let good = hello(Purpose::Control, 5, 7);
    let name = || "beta".to_owned();
    let newer = (VERSION_MAX + 1, VERSION_MAX + 1);
    assert_eq!(refused(Hello { versions: newer, ..good.clone() }), Apart::Version(name()));
    assert_eq!(refused(Hello { side: 0, ..good.clone() }), Apart::NotThePeer(name()));
    assert_eq!(refused(hello(Purpose::Control, 5, 8)), Apart::OtherAppliance(name()));
    let shared = vec![("bridges".to_owned(), "2".to_owned())];
    assert!(matches!(refused(Hello { shared, ..good }), Apart::Differs(_)));
}

#[test]
fn a_connection_made_anew_and_one_of_another_run_are_told_apart() {
    let mut session = complete();
    session.open(LinkId(4), None);
    assert_eq!(greet(&mut session, 4, &hello(BRIDGE, 5, 7)), Greeted::Anew);
    assert_eq!(greet(&mut session, 4, &hello(BRIDGE, 6, 7)), Greeted::Refused(Apart::Lost("beta".into())));
    assert_eq!(greet(&mut session, 1, &hello(Purpose::Control, 5, 7)), Greeted::Nothing, "greeted already");
    assert_eq!(greet(&mut session, 9, &hello(BRIDGE, 5, 7)), Greeted::Nothing, "not known");
}

#[test]
fn what_is_not_greeted_in_time_is_closed_and_the_peers_machine_is_mute() {
    let at = |ms| Time(0) + Duration::from_millis(ms);
    let mut session = session();
    session.open(LinkId(1), Some(LinkKind::Control));
    assert_eq!(session.close_mute(at(100)), []);
    assert_eq!(session.close_mute(at(100) + GREETING_MAX), [LinkId(1)]);
    assert!(session.interlink().mute);
    assert_eq!(session.close_mute(at(20_000)), []);
    assert!(!session.interlink().mute);
}

#[test]
fn a_loss_closes_everything_and_the_next_meeting_has_another_number() {
    let mut session = complete();
    let number = session.handshake().number();
    let (plan, identity) = (plan(Side::First), identity(7));
    let own = Own { plan: &plan, identity: &identity, unreadable: false };
    assert_eq!(session.on_link_down(LinkId(3), own).lost, Some(Apart::Lost("beta".into())));
    assert_eq!(session.on_link_down(LinkId(9), own).lost, None, "nobody's yet");
    let closed = session.lose(Apart::Lost("beta".into()), false);
    assert_eq!(closed, [LinkId(1), LinkId(2)]);
    assert_eq!(session.handshake().number(), number + 1);
    assert_eq!((session.phase(), session.control()), (Phase::Apart, None));
    session.check();
}

#[test]
fn a_peer_that_said_farewell_was_stopped_and_not_lost() {
    let mut session = complete();
    session.say(Apart::Stopped("beta".into()));
    session.lose(Apart::Lost("beta".into()), true);
    assert_eq!(*session.apart(), Apart::Stopped("beta".into()));
    session.say(Apart::Silent("beta".into()));
    session.stop();
    session.say(Apart::Silent("beta".into()));
    assert_eq!(*session.apart(), Apart::Stopping, "what it is itself stays said");
}

#[test]
fn a_refused_caller_hears_whom_it_has_reached_and_the_others_do_not_care() {
    let mut session = complete();
    session.open(LinkId(4), None);
    assert_eq!(session.turn_away(LinkId(4), Apart::NotThePeer("beta".into())), Some(true));
    session.open(LinkId(5), Some(LinkKind::Bridge(1)));
    assert_eq!(session.turn_away(LinkId(5), Apart::NotThePeer("beta".into())), Some(false));
    assert_eq!(session.turn_away(LinkId(5), Apart::NotThePeer("beta".into())), None);
    assert_eq!(session.control(), Some(LinkId(1)));
    session.check();
}

#[test]
fn the_peer_is_told_a_word_at_once_and_then_every_second_while_joined() {
    let mut session = complete();
    assert_eq!(session.word_due(Time(1)), None);
    for progress in [
        Progress::Identity { peer: true },
        Progress::OwnIdentity,
        Progress::Tells,
        Progress::CarriesOut(crate::appliance::phase::Step::Following, 0),
        Progress::StartsDurable,
        Progress::Begin,
    ] {
        session.handshake_mut().advance(progress);
    }
    assert!(session.is_joined());
    assert_eq!(session.bridges(), [LinkId(2), LinkId(3)]);
    assert_eq!(session.word_due(Time(1)), Some(LinkId(1)));
    assert_eq!(session.word_due(Time(2)), None);
    assert_eq!(session.word_due(Time(2) + WORD_INTERVAL), Some(LinkId(1)));
}
