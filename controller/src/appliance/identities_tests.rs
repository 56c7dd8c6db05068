//! The identities of the appliance and of its LUNs.

use protocol::interlink::copy_report::{Generation, Start, Starts};

use super::*;
use crate::plan::{LunPlan, Side};
use crate::volume::stack::VolumeId;

fn plan(names: &[&str]) -> Plan {
    let lun = |name: &&str| LunPlan {
        number: 0,
        name: (*name).to_owned(),
        base: VolumeId(0),
        blocks: 8,
        main: Side::First,
        mirror: true,
        group: None,
        write_cache: true,
        read_only: false,
        physical_block_exponent: 0,
        device: false,
        room: None,
    };
    let luns = names.iter().map(lun).collect();
    Plan { side: Side::First, names: ["alpha".into(), "beta".into()], luns, shared: Vec::new(), bridges: 1 }
}

fn fresh(names: &[&str]) -> Identities {
    Identities::restored(&ControlRecord::default(), &plan(names))
}

fn group(lun: &str, number: u64) -> GroupRecord {
    GroupRecord {
        lun: lun.to_owned(),
        generation: Generation { number, ..Generation::default() },
        clean: false,
        flushed: false,
        volume: Start::default(),
        volume_coming: Start::default(),
        starts: Starts::default(),
    }
}

#[test]
fn what_is_known_stays_and_what_neither_knew_is_made_if_it_has_a_size() {
    let mut ids = Ids::new(1);
    let mut identities = fresh(&["a"]);
    let first = identities.complete(&Identity::default(), &plan(&["a"]), |_| Ok(8), &mut ids);
    identities.take_on(first.clone(), &plan(&["a"]));
    let both = plan(&["b", "c"]);
    let refused = |lun| if lun == 0 { Ok(9) } else { Err(Refusal::TooMany) };
    let second = identities.complete(&first, &both, refused, &mut ids);
    assert_eq!(second.appliance, first.appliance);
    let names: Vec<&str> = second.luns.iter().map(|lun| lun.name.as_str()).collect();
    assert_eq!(names, ["a", "b"], "the files name it no more, and c has no size");
    assert_eq!((second.luns[0].clone(), second.luns[1].blocks), (first.luns[0].clone(), 9));
    assert!(second.luns.iter().all(|lun| lun.naa >> 60 == 3));
    identities.take_on(second, &both);
    identities.check();
}

#[test]
fn hosts_hear_of_luns_that_are_added_but_not_of_the_first_ones() {
    let mut ids = Ids::new(1);
    let [one, two] = [plan(&["a"]), plan(&["a", "b"])];
    let mut identities = fresh(&["a"]);
    let first = identities.complete(&Identity::default(), &one, |_| Ok(8), &mut ids);
    assert_eq!(identities.take_on(first.clone(), &one), News { identified: vec![(0, 8)], added: false });
    let second = identities.complete(&first, &two, |_| Ok(8), &mut ids);
    assert_eq!(identities.take_on(second.clone(), &two), News { identified: vec![(1, 8)], added: true });
    assert_eq!(identities.take_on(second, &two), News::default(), "nothing is new");
    assert!(identities.resize("a", 9) && !identities.resize("a", 9) && !identities.resize("c", 9));
}

#[test]
fn a_record_keeps_what_the_files_do_not_name_and_leaves_out_what_was_only_learnt() {
    let mut ids = Ids::new(1);
    let mut identities = fresh(&["a", "b"]);
    let whole = identities.complete(&Identity::default(), &plan(&["a", "b"]), |_| Ok(8), &mut ids);
    let known = ControlRecord { identity: whole.clone(), groups: vec![group("a", 3), group("b", 4)] };
    // The file names b and c.
    identities = Identities::restored(&known, &plan(&["b", "c"]));
    let record = identities.record(vec![(group("b", 4), false), (group("c", 0), false)]);
    let names = |record: &ControlRecord| -> Vec<String> {
        record.groups.iter().map(|group| group.lun.clone()).collect()
    };
    assert_eq!(names(&record), ["b", "a"], "c has no identity, and a is kept");
    assert!(has(&record.identity, "a") && !has(&record.identity, "b"), "b was only learnt of");
}
