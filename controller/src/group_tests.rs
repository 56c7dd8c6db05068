//! What two reports come to: main, source, or why not.

use protocol::interlink::will::{Wanted, Will};

use super::*;

fn names() -> [String; 2] {
    ["alpha".into(), "beta".into()]
}

fn at(number: u64, id: u128, parent: u128, main: u8, members: u8) -> CopyReport {
    let generation = Generation { number, id, parent, main, members, will: Will::default() };
    CopyReport {
        generation,
        clean: false,
        kept: false,
        copy: CopyFound::Whole,
        known: true,
        device: false,
        starts: None,
        may_go_on: false,
        remembers: false,
    }
}

fn fresh() -> CopyReport {
    CopyReport { copy: CopyFound::Missing, known: false, ..at(0, 0, 0, 0, 0) }
}

fn ask(first: &CopyReport, second: &CopyReport) -> Result<(u8, u8, bool, u8), Refusal> {
    let names = names();
    let question = Question { names: &names, main: Side::First, mirror: true, id: 77 };
    agree(question, [first, second]).map(|agreed| {
        (agreed.generation.main, agreed.generation.members, agreed.pairing == Pairing::Whole, agreed.create)
    })
}

#[test]
fn two_fresh_files_are_made_and_are_whole_at_once() {
    assert_eq!(ask(&fresh(), &fresh()), Ok((0, 0b11, true, 0b11)));
}

#[test]
fn a_fresh_device_is_copied_first() {
    let device = CopyReport { device: true, copy: CopyFound::Blank, ..fresh() };
    assert_eq!(ask(&device, &device), Ok((0, 0b01, false, 0b11)));
}

#[test]
fn after_a_clean_end_of_both_nothing_is_copied_and_the_preferred_main_is_main() {
    let clean = CopyReport { clean: true, ..at(5, 50, 40, 1, 0b11) };
    assert_eq!(ask(&clean, &clean), Ok((0, 0b11, true, 0)));
}

#[test]
fn of_two_clean_copies_the_one_whose_controller_ran_on_is_main_first() {
    let clean = CopyReport { clean: true, ..at(5, 50, 40, 0, 0b11) };
    let ran_on = CopyReport { remembers: true, ..clean };
    assert_eq!(ask(&clean, &ran_on), Ok((1, 0b11, true, 0)), "it may know reservations that no disk has");
    assert_eq!(ask(&ran_on, &ran_on), Ok((0, 0b11, true, 0)));
    let goes_on = CopyReport { may_go_on: true, ..clean };
    assert_eq!(ask(&goes_on, &ran_on), Ok((0, 0b11, true, 0)), "nobody else may be main before it agreed");
}

#[test]
fn after_both_lost_power_main_is_the_source() {
    let dirty = at(5, 50, 40, 1, 0b11);
    assert_eq!(ask(&dirty, &dirty), Ok((1, 0b10, false, 0)));
}

#[test]
fn the_copy_whose_controller_kept_its_memory_is_the_source_whatever_its_role() {
    let lost = at(5, 50, 40, 0, 0b11);
    let kept = CopyReport { kept: true, ..lost };
    assert_eq!(ask(&lost, &kept), Ok((1, 0b10, false, 0)));
    assert_eq!(ask(&kept, &lost), Ok((0, 0b01, false, 0)));
}

#[test]
fn one_clean_end_alone_does_not_make_the_copies_identical_but_its_copy_the_source() {
    let clean = CopyReport { clean: true, ..at(5, 50, 40, 0, 0b11) };
    let kept = CopyReport { kept: true, ..at(5, 50, 40, 0, 0b11) };
    let lost = at(5, 50, 40, 0, 0b11);
    assert_eq!(ask(&clean, &kept), Ok((0, 0b01, false, 0)), "both have everything: main's is taken");
    assert_eq!(ask(&lost, &clean), Ok((1, 0b10, false, 0)));
    assert_eq!(ask(&clean, &lost), Ok((0, 0b01, false, 0)));
}

#[test]
fn a_half_made_copy_is_never_the_source() {
    let newest = at(6, 60, 50, 1, 0b10);
    assert_eq!(ask(&CopyReport { kept: true, ..newest }, &newest), Ok((1, 0b10, false, 0)));
    let lost_source = CopyReport { copy: CopyFound::Missing, ..newest };
    assert_eq!(ask(&newest, &lost_source), Err(Refusal::NoSource));
}

#[test]
fn a_generation_durable_on_one_side_only_does_not_make_its_target_a_source() {
    let ahead = at(6, 60, 50, 1, 0b10);
    let behind = CopyReport { kept: true, ..at(5, 50, 40, 0, 0b11) };
    assert_eq!(ask(&ahead, &behind), Ok((1, 0b10, false, 0)));
}

#[test]
fn two_that_went_on_alone_are_a_split_brain_however_far_each_counted() {
    let [alone, further] = [at(6, 60, 50, 0, 0b01), at(8, 81, 71, 1, 0b10)];
    assert_eq!(ask(&alone, &further), Err(Refusal::SplitBrain("alpha".into(), "beta".into())));
    let met_since = at(7, 70, 60, 0, 0b01);
    assert_eq!(ask(&alone, &met_since), Ok((0, 0b01, false, 0)));
}

#[test]
fn a_copy_two_generations_behind_is_never_the_source() {
    let ahead = at(7, 70, 60, 1, 0b10);
    let behind = CopyReport { kept: true, ..at(5, 50, 40, 0, 0b11) };
    assert_eq!(ask(&ahead, &behind), Err(Refusal::NoSource));
    let whole = at(7, 70, 60, 0, 0b11);
    assert_eq!(ask(&whole, &behind), Ok((0, 0b01, false, 0)));
}

#[test]
fn the_newest_generation_decides_whichever_controller_has_it() {
    let behind = CopyReport { kept: true, ..at(5, 50, 40, 1, 0b11) };
    let ahead = at(7, 70, 60, 0, 0b11);
    assert_eq!(ask(&ahead, &behind), Ok((0, 0b01, false, 0)));
    assert_eq!(
        ask(&behind, &CopyReport { generation: Generation { main: 1, ..ahead.generation }, ..ahead }),
        Ok((1, 0b10, false, 0))
    );
}

#[test]
fn a_missing_volume_is_refilled_and_never_the_source() {
    let missing = CopyReport { copy: CopyFound::Missing, ..at(5, 50, 40, 0, 0b11) };
    let whole = at(5, 50, 40, 0, 0b11);
    assert_eq!(ask(&missing, &whole), Ok((1, 0b10, false, 0b01)));
    assert_eq!(ask(&missing, &missing), Err(Refusal::NoSource));
}

#[test]
fn foreign_content_split_brains_and_lost_state_are_refused() {
    let whole = at(5, 50, 40, 0, 0b11);
    let foreign = CopyReport { copy: CopyFound::Foreign, ..whole };
    assert_eq!(ask(&whole, &foreign), Err(Refusal::Foreign("beta".into())));
    let other = at(5, 51, 40, 0, 0b01);
    assert_eq!(ask(&whole, &other), Err(Refusal::SplitBrain("alpha".into(), "beta".into())));
    assert_eq!(ask(&whole, &fresh()), Err(Refusal::StateLost("beta".into())));
}

#[test]
fn a_lun_without_mirror_asks_for_its_one_volume_only() {
    let names = names();
    let question = Question { names: &names, main: Side::Second, mirror: false, id: 77 };
    let agreed = agree(question, [&fresh(), &fresh()]).unwrap();
    assert_eq!((agreed.generation.main, agreed.create, agreed.pairing), (1, 0b10, Pairing::Whole));
    let old = at(5, 50, 40, 0, 0b01);
    let agreed = agree(question, [&old, &fresh()]).unwrap();
    assert_eq!((agreed.generation.main, agreed.create), (0, 0), "the persisted role wins");
    let gone = CopyReport { copy: CopyFound::Missing, ..old };
    assert_eq!(agree(question, [&gone, &fresh()]), Err(Refusal::Gone("alpha".into())));
}

fn together(luns: &[[CopyReport; 2]]) -> Result<Vec<Agreed>, Refusal> {
    let names = names();
    let question = Question { names: &names, main: Side::First, mirror: true, id: 77 };
    let luns: Vec<[&CopyReport; 2]> = luns.iter().map(|[first, second]| [first, second]).collect();
    agree_together(question, &luns, |at, reason| Refusal::InGroup {
        group: "db".into(),
        lun: at.to_string(),
        reason: Box::new(reason),
    })
}

/// Main, members, number and pairing: the same of all.
fn one(agreed: &[Agreed]) -> (u8, u8, u64, Pairing) {
    let of = |agreed: &Agreed| {
        let Generation { main, members, number, .. } = agreed.generation;
        (main, members, number, agreed.pairing)
    };
    assert!(
        agreed.iter().all(|other| of(other) == of(&agreed[0]) && other.generation.id == 77),
        "{agreed:?}"
    );
    of(&agreed[0])
}

#[test]
fn luns_of_a_group_come_to_one_generation_whatever_each_was_at_before() {
    let clean = |number, id| CopyReport { clean: true, ..at(number, id, id - 1, 0, 0b11) };
    let agreed = together(&[[clean(5, 50); 2], [clean(8, 80); 2], [fresh(); 2]]).unwrap();
    assert_eq!(one(&agreed), (0, 0b11, 9, Pairing::Whole));
    assert_eq!(agreed.iter().map(|agreed| agreed.generation.parent).collect::<Vec<_>>(), [50, 80, 0]);
    assert_eq!(agreed.iter().map(|agreed| agreed.create).collect::<Vec<_>>(), [0, 0, 0b11]);
}

#[test]
fn one_copy_that_is_missing_has_the_whole_group_copied_from_the_other_side() {
    let clean = CopyReport { clean: true, ..at(5, 50, 40, 0, 0b11) };
    let missing = CopyReport { copy: CopyFound::Missing, ..clean };
    let agreed = together(&[[clean; 2], [missing, clean]]).unwrap();
    assert_eq!(one(&agreed), (1, 0b10, 6, Pairing::Copy));
    let failed = CopyReport { copy: CopyFound::Failed, ..clean };
    let agreed = together(&[[clean, missing], [clean, failed]]).unwrap();
    assert_eq!(
        one(&agreed),
        (0, 0b01, 6, Pairing::Out),
        "nothing is copied to a controller whose disk failed"
    );
}

#[test]
fn a_group_whose_whole_copies_are_on_both_sides_is_torn() {
    let clean = CopyReport { clean: true, ..at(5, 50, 40, 0, 0b11) };
    let missing = CopyReport { copy: CopyFound::Missing, ..clean };
    assert_eq!(together(&[[missing, clean], [clean, missing]]), Err(Refusal::Torn));
    // Each controller went on alone with one of them before they were joined.
    let alone = |side: u8| {
        let alone = at(6, 60, 50, side, 1 << side);
        let left = at(5, 50, 40, 0, 0b11);
        if side == 0 { [alone, left] } else { [left, alone] }
    };
    assert_eq!(together(&[alone(0), alone(1)]), Err(Refusal::Torn));
    assert_eq!(one(&together(&[alone(1), [clean; 2]]).unwrap()), (1, 0b10, 7, Pairing::Copy));
}

#[test]
fn a_group_whose_disks_have_yet_to_flush_waits_for_them_and_is_not_torn() {
    let kept = CopyReport { kept: true, ..at(5, 50, 40, 0, 0b11) };
    let unsettled = CopyReport { copy: CopyFound::Unsettled, ..kept };
    for luns in [[[unsettled, kept], [kept, unsettled]], [[kept, unsettled], [unsettled, kept]]] {
        let refusal = together(&luns).unwrap_err();
        // Both say the same, in whatever order their files name the LUNs: whose disk it is meets again when it is done.
        assert_eq!(*refusal.reason(), Refusal::Unsettled("alpha".into()), "{refusal}");
        assert!(matches!(refusal, Refusal::InGroup { .. }));
    }
    assert_eq!(one(&together(&[[kept; 2], [kept, unsettled]]).unwrap()), (0, 0b01, 6, Pairing::Copy));
    assert_eq!(one(&together(&[[unsettled, kept], [kept; 2]]).unwrap()), (1, 0b10, 6, Pairing::Copy));
    let missing = CopyReport { copy: CopyFound::Missing, kept: false, ..kept };
    assert_eq!(together(&[[missing, kept], [kept, missing]]), Err(Refusal::Torn));
}

#[test]
fn what_one_lun_is_refused_for_names_it() {
    let foreign = CopyReport { copy: CopyFound::Foreign, ..fresh() };
    let refused = together(&[[fresh(); 2], [foreign, fresh()]]);
    let refusal = refused.unwrap_err();
    assert!(matches!(&refusal, Refusal::InGroup { lun, .. } if lun == "1"), "{refusal}");
    assert_eq!(*refusal.reason(), Refusal::Foreign("alpha".into()));
}

#[test]
fn after_a_power_cut_any_whole_copy_may_be_the_source_of_a_group() {
    // Neither kept its memory: main's is the source by convention, and alpha's second volume is gone.
    let lost = at(5, 50, 40, 0, 0b11);
    let missing = CopyReport { copy: CopyFound::Missing, ..lost };
    assert_eq!(one(&together(&[[lost; 2], [missing, lost]]).unwrap()), (1, 0b10, 6, Pairing::Copy));
    // But not where one is known to have everything and the other is not.
    let kept = CopyReport { kept: true, ..lost };
    assert_eq!(together(&[[kept, lost], [missing, lost]]), Err(Refusal::Torn));
    // What is remembered of reservations decides only where blocks do not.
    let clean = CopyReport { clean: true, ..lost };
    let remembers = CopyReport { remembers: true, ..clean };
    assert_eq!(one(&together(&[[remembers, clean], [clean; 2]]).unwrap()), (0, 0b11, 6, Pairing::Whole));
    assert_eq!(one(&together(&[[remembers, clean], [missing, clean]]).unwrap()), (1, 0b10, 6, Pairing::Copy));
}

/// A report whose generation carries what a person wants.
fn wanting(wanted: Wanted, report: CopyReport) -> CopyReport {
    let generation = Generation { will: Will { wanted, main: None }, ..report.generation };
    CopyReport { generation, ..report }
}

#[test]
fn what_a_person_has_left_in_one_lun_is_left_in_the_whole_group() {
    use Wanted::{Pair, Simplex, Split};
    let clean = |number, id| CopyReport { clean: true, ..at(number, id, id - 1, 0, 0b11) };
    let left = |wanted, number, id| wanting(wanted, at(number, id, id - 1, 0, 0b01));
    let will = |luns: &[[CopyReport; 2]]| {
        let agreed = together(luns).unwrap();
        (agreed[0].generation.will.wanted, one(&agreed))
    };
    for (wanted, other) in [(Split, Pair), (Simplex, Pair)] {
        for [number, newer] in [[5, 8], [8, 5]] {
            let whole = wanting(other, clean(newer, 80));
            let expected = (wanted, (0, 0b01, 9, Pairing::Out));
            assert_eq!(will(&[[left(wanted, number, 50); 2], [whole; 2]]), expected);
            assert_eq!(will(&[[whole; 2], [left(wanted, number, 50); 2]]), expected);
        }
    }
    let (wanted, _) = will(&[[left(Simplex, 5, 50); 2], [left(Split, 4, 40); 2]]);
    assert_eq!(wanted, Split, "no image is given up");
    // Nothing is made where nobody wants a copy.
    let absent = CopyReport { copy: CopyFound::Missing, ..clean(8, 80) };
    let agreed = together(&[[left(Split, 5, 50); 2], [clean(8, 80), absent]]).unwrap();
    assert_eq!(agreed.iter().map(|agreed| agreed.create).collect::<Vec<_>>(), [0, 0]);
}
