//! The judge of events against histories that are right, and against the same with one thing wrong.

use controller::time::Time;

use super::Judge;
use super::state::{Access, Action, Answer, Command, Leave, Nexus, Out, Session};

const A: Session = Session { nexus: Nexus { host: 0, port: 1 }, number: 1 };
const B: Session = Session { nexus: Nexus { host: 1, port: 2 }, number: 1 };

fn out(action: Action, kind: u8, key: u64, action_key: u64, aptpl: bool) -> Command {
    let to = Nexus { host: 0, port: 1 };
    let all_target_ports = false;
    let (others, unregister) = (Vec::new(), false);
    Command::Out(Out { action, kind, key, action_key, aptpl, all_target_ports, others, to, unregister })
}

fn done(judge: &mut Judge, who: Session, command: Command) {
    let id = judge.begin(who, command);
    judge.answered(id, &Answer::Good, &[]).unwrap();
}

/// A has reserved, exclusively for registrants; B is none.
fn reserved(aptpl: bool) -> Judge {
    let mut judge = Judge::new(true);
    done(&mut judge, A, out(Action::Register, 0, 0, 0xa, aptpl));
    done(&mut judge, A, out(Action::Reserve, 6, 0xa, 0, false));
    judge
}

#[test]
fn a_command_that_was_forbidden_all_the_time_must_conflict_and_one_that_was_allowed_must_not() {
    let rows = [
        (A, Access::Change, Leave::Granted),
        (A, Access::Read, Leave::Granted),
        (B, Access::Change, Leave::Conflict),
        (B, Access::Read, Leave::Conflict),
        (B, Access::Describe, Leave::Granted),
        (B, Access::Always, Leave::Granted),
    ];
    for (who, access, right) in rows {
        for leave in [Leave::Granted, Leave::Conflict, Leave::Protected] {
            let mut judge = reserved(false);
            let asked = judge.ask(who, access, None);
            assert_eq!(
                judge.ended(asked, None, Some(leave)).is_ok(),
                leave == right,
                "{who:?} {access:?} {leave:?}"
            );
        }
    }
}

#[test]
fn beside_an_event_that_changes_it_either_answer_is_right_until_the_event_is_answered() {
    let mut judge = reserved(false);
    let beside = judge.ask(B, Access::Change, None);
    let release = judge.begin(A, out(Action::Release, 6, 0xa, 0, false));
    let mut other = judge.clone();
    assert!(other.ended(beside, None, Some(Leave::Granted)).is_ok());
    assert!(judge.ended(beside, None, Some(Leave::Conflict)).is_ok());
    judge.answered(release, &Answer::Good, &[]).unwrap();
    let after = judge.ask(B, Access::Change, None);
    assert!(judge.ended(after, None, Some(Leave::Conflict)).is_err());
}

#[test]
fn a_write_may_land_until_the_event_that_forbids_it_is_answered_and_until_it_is_answered_itself() {
    let mut judge = Judge::new(true);
    done(&mut judge, A, out(Action::Register, 0, 0, 0xa, false));
    let asked = judge.ask(B, Access::Change, Some(7));
    let reserve = judge.begin(A, out(Action::Reserve, 1, 0xa, 0, false));
    judge.lands(7, 100, 0).unwrap();
    let mut ended = judge.clone();
    judge.answered(reserve, &Answer::Good, &[]).unwrap();
    judge.lands(7, 100, 0).unwrap();
    assert!(judge.lands(7, 100, 1).is_err() && judge.lands(7, 101, 0).is_err());
    ended.ended(asked, Some(7), Some(Leave::Granted)).unwrap();
    assert!(ended.lands(7, 100, 1).is_err());
}

#[test]
fn a_loss_of_power_leaves_what_aptpl_keeps_and_of_an_unanswered_event_all_or_nothing() {
    let told = |judge: &mut Judge, answer: &Answer| {
        let id = judge.begin(B, Command::ReadReservation);
        judge.answered(id, answer, &[])
    };
    let held = Answer::Held(0, Some((0xa, 6)));
    let none = Answer::Held(0, None);
    let rows = [(true, true, &held), (true, false, &none), (false, false, &held), (false, true, &none)];
    for (aptpl, right, answer) in rows {
        let mut judge = reserved(aptpl);
        judge.lose_power(true);
        assert_eq!(told(&mut judge, answer).is_ok(), right, "{aptpl} {answer:?}");
    }
    for answer in [&held, &none] {
        let mut judge = reserved(true);
        let clear = judge.begin(A, out(Action::Clear, 0, 0xa, 0, false));
        judge.lost(clear, Time(0));
        judge.lose_power(true);
        told(&mut judge, answer).unwrap();
    }
    let mut judge = reserved(false);
    judge.lose_power(false);
    assert!(told(&mut judge.clone(), &none).is_ok());
    assert!(told(&mut judge, &Answer::Held(1, Some((0xa, 6)))).is_ok());
}

#[test]
fn while_nothing_changes_both_controllers_tell_the_same_bytes() {
    let mut judge = reserved(false);
    let keys = Answer::Keys(1, vec![0xa]);
    for (bytes, right) in [([1, 2], true), ([1, 2], true), ([2, 1], false)] {
        let id = judge.begin(A, Command::ReadKeys);
        assert_eq!(judge.answered(id, &keys, &bytes).is_ok(), right);
    }
    done(&mut judge, A, out(Action::Reserve, 6, 0xa, 0, false));
    let id = judge.begin(A, Command::ReadKeys);
    judge.answered(id, &keys, &[3]).unwrap();
}
