//! LUNs that name one group.

use controller::plan::Side;

use super::{GOOD, lines, parse};
use crate::config::to_plan;

/// [`GOOD`] with a second LUN, both in one group.
fn grouped(second: &str) -> String {
    let lun = "[[lun]]\nnumber = 1\nname = \"data1\"\nsize = \"1 GiB\"\ngroup = \"db\"\n";
    format!("{GOOD}group = \"db\"\n{lun}{second}\n")
}

#[test]
fn luns_of_one_group_are_told_to_both_controllers_with_it() {
    let config = parse(&grouped("main = \"alpha\"\nwrite_cache = \"off\""));
    let plan = to_plan(&config, Side::Second);
    assert_eq!(plan.groups(), [vec![0, 1]]);
    assert!(plan.shared.contains(&("lun.data1.group".to_owned(), "db".to_owned())));
    let alone = to_plan(&parse(GOOD), Side::First);
    assert!(
        !alone.shared.iter().any(|(key, _)| key.ends_with(".group")),
        "an earlier release has no such key"
    );
}

#[test]
fn luns_that_cannot_be_served_together_are_in_no_group() {
    assert_eq!(
        lines(&grouped("main = \"beta\"")),
        [
            "22:9: lun[1].group: LUNs of one group have the same `main`: here it is \"beta\", and \"alpha\" for the \
             first of \"db\", lun[0] (line 17, column 9); write the same `main` for all LUNs of the group, or name \
             another group here",
        ]
    );
    assert_eq!(
        lines(&grouped("main = \"alpha\"\nmirror = false")),
        [
            "22:9: lun[1].group: LUNs of one group have the same `mirror`: here it is false, and true for the first of \
             \"db\", lun[0] (line 17, column 9); write the same `mirror` for all LUNs of the group, or name another \
             group here",
        ]
    );
}
