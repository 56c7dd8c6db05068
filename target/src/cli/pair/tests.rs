//! What is asked of which pair, and what it comes to.

use super::super::check::tests::config;
use super::*;

const SECOND: &str = "[[lun]]\nnumber = 1\nname = \"data1\"\nsize = \"1 GiB\"\nmain = \"alpha\"\ngroup = \"db\"\n\
                      [[lun]]\nnumber = 2\nname = \"data2\"\nsize = \"1 GiB\"\nmain = \"alpha\"\ngroup = \"db\"\n";

fn report(status: PairStatus, main: &str) -> PairReport {
    PairReport {
        name: "data0".to_owned(),
        luns: vec![0],
        status: Some(status),
        main: Some(main.to_owned()),
        copied_percent: None,
        copy_seconds_left: None,
        reason: None,
    }
}

fn asked(begun: bool, refused: Option<&str>) -> PairAnswer {
    PairAnswer { number: 0, begun, refused: refused.map(str::to_owned) }
}

#[test]
fn pairs_are_named_by_lun_by_number_and_by_group() {
    let config = config(SECOND);
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        named(&config, &names).map(|pairs| pairs.into_iter().map(|pair| pair.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]).unwrap(), ["data0", "db"]);
    assert_eq!(names(&["0"]).unwrap(), ["data0"]);
    assert_eq!(names(&["data2"]).unwrap(), ["db"]);
    assert_eq!(names(&["db", "data1"]).unwrap(), ["db"], "once");
    assert!(names(&["data0", "data"]).is_err_and(|error| error.to_string().contains("\"data\"")));
}

#[test]
fn a_command_is_done_when_the_status_says_so_and_has_failed_when_it_takes_too_long() {
    use {PairCommand as C, PairStatus as S};
    let before = report(S::Duplex, "alpha");
    let judged = |command, status, main, waited| {
        judge(command, &report(status, main), &before, &asked(true, None), false, waited)
    };
    let done = [
        (C::Split, S::Split, "alpha"),
        (C::Delete, S::Simplex, "alpha"),
        (C::Swap, S::Duplex, "beta"),
        (C::Resync, S::Duplex, "alpha"),
        (C::Create, S::Duplex, "alpha"),
    ];
    for (command, status, main) in done {
        assert_eq!(judged(command, status, main, Duration::ZERO), Some(Answer::Done), "{command:?}");
    }
    let open = [
        (C::Split, S::Duplex, "alpha"),
        (C::Swap, S::Duplex, "alpha"),
        (C::Resync, S::Split, "alpha"),
        (C::Delete, S::Suspended, "alpha"),
    ];
    for (command, status, main) in open {
        assert_eq!(judged(command, status, main, Duration::ZERO), None, "{command:?}");
        assert_eq!(judged(command, status, main, SWITCH_WITHIN), Some(Answer::Failed), "{command:?}");
    }
    assert_eq!(judged(C::Resync, S::Copy, "alpha", SWITCH_WITHIN * 100), None, "a copy takes its time");
}

#[test]
fn what_was_refused_or_was_so_already_is_told_apart_from_what_was_left_untouched() {
    let pair = report(PairStatus::Duplex, "alpha");
    let judged =
        |asked: PairAnswer, any| judge(PairCommand::Split, &pair, &pair, &asked, any, Duration::ZERO);
    assert_eq!(judged(asked(false, Some("why")), true), Some(Answer::Refused));
    assert_eq!(judged(asked(false, None), true), Some(Answer::Already));
    assert_eq!(judged(asked(true, None), true), Some(Answer::Untouched));
}

#[test]
fn the_list_shows_each_pair_and_what_is_to_be_known_of_it() {
    let mut copying = report(PairStatus::Copy, "alpha");
    (copying.copied_percent, copying.copy_seconds_left) = (Some(40), Some(90));
    copying.reason = Some("the copy of beta is being refilled.".to_owned());
    let unknown =
        PairReport { name: "db".to_owned(), luns: vec![1, 2], status: None, main: None, ..copying.clone() };
    let list = List { pairs: vec![copying, PairReport { reason: None, ..unknown }] };
    assert_eq!(
        list.render(),
        "\
PAIR   LUNS  MAIN   STATUS
data0  0     alpha  copy 40 %, 1 min left
db     1 2   -      not known
data0: the copy of beta is being refilled.
"
    );
}
