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
        image: (status == PairStatus::Split).then_some(true),
        reason: None,
    }
}

fn asked(begun: bool, refused: Option<&str>) -> PairAnswer {
    PairAnswer { number: 0, begun, refused: refused.map(str::to_owned), soon: false }
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
        let within = if command == C::Split { SPLIT_WITHIN } else { SWITCH_WITHIN };
        assert_eq!(judged(command, status, main, within - LOOK_EVERY), None, "{command:?}");
        assert_eq!(judged(command, status, main, within), Some(Answer::Failed), "{command:?}");
    }
    assert_eq!(
        judged(C::Resync, S::Suspended, "alpha", SWITCH_WITHIN - LOOK_EVERY),
        None,
        "a copy is interrupted"
    );
}

#[test]
fn a_pair_is_split_when_there_is_an_image() {
    let before = report(PairStatus::Duplex, "alpha");
    let judged = |image| {
        let pair = PairReport { image, ..report(PairStatus::Split, "alpha") };
        judge(PairCommand::Split, &pair, &before, &asked(true, None), false, Duration::ZERO)
    };
    assert_eq!([Some(true), None, Some(false)].map(judged), [Some(Answer::Done), None, Some(Answer::Failed)]);
    let lost = PairReport { image: Some(false), ..report(PairStatus::Split, "alpha") };
    assert_eq!(lost.status_text(), "split, no image");
}

#[test]
fn a_swap_is_not_done_because_nobody_was_known_as_main_before() {
    let before = PairReport { status: None, main: None, ..report(PairStatus::Duplex, "alpha") };
    let now = report(PairStatus::Duplex, "alpha");
    let answer = |waited| judge(PairCommand::Swap, &now, &before, &asked(true, None), false, waited);
    assert_eq!(answer(Duration::ZERO), None);
    assert_eq!(answer(SWITCH_WITHIN), Some(Answer::Failed));
    assert!(failed(PairCommand::Swap, &now).contains("who was main before is not known"));
}

#[test]
fn a_name_means_one_pair() {
    // LUN data0 is of no group; two others are in a group of that name.
    let group = config(&SECOND.replace("\"db\"", "\"data0\""));
    let found: Vec<Vec<u16>> =
        pairs(&group).iter().map(|pair| pair.luns.iter().map(|(number, _)| *number).collect()).collect();
    assert_eq!(found, [vec![0], vec![1, 2]], "the first LUN of a pair stands for it");
    let named =
        |config: &Config, given: &str| named(config, &[given.to_owned()]).map(|found| found[0].luns[0].0);
    assert!(named(&group, "data0").is_err_and(|error| error.to_string().contains("a LUN and of a group")));
    assert_eq!((named(&group, "0").unwrap(), named(&group, "data2").unwrap()), (0, 1));
    let number = config("[[lun]]\nnumber = 1\nname = \"0\"\nsize = \"1 GiB\"\nmain = \"alpha\"\n");
    assert_eq!(named(&number, "0").unwrap(), 1, "the name, not another's number");
}

#[test]
fn all_pairs_are_those_that_have_two_copies() {
    let single =
        "[[lun]]\nnumber = 1\nname = \"data1\"\nsize = \"1 GiB\"\nmain = \"alpha\"\nmirror = false\n";
    let config = config(single);
    let names = |given: &[String]| named(&config, given).unwrap().into_iter().map(|pair| pair.name);
    assert!(names(&[]).eq(["data0".to_owned()]));
    assert!(names(&["data1".to_owned()]).eq(["data1".to_owned()]), "it is told that it has one copy");
}

#[test]
fn what_was_refused_or_was_so_already_is_told_apart_from_what_was_left_untouched() {
    let pair = report(PairStatus::Duplex, "alpha");
    let judged =
        |asked: PairAnswer, any| judge(PairCommand::Split, &pair, &pair, &asked, any, Duration::ZERO);
    assert_eq!(judged(asked(false, Some("why")), true), Some(Answer::Refused));
    assert_eq!(judged(asked(false, None), true), Some(Answer::Failed), "it is split, and there is no image");
    let pair = report(PairStatus::Split, "alpha");
    let judged =
        |asked: PairAnswer, any| judge(PairCommand::Split, &pair, &pair, &asked, any, Duration::ZERO);
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
