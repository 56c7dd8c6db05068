//! The checked-in lists of what standards demand: every test they name exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LIST: &str = include_str!("../conformance/rfc7143.md");

/// One requirement.
struct Row<'a> {
    section: &'a str,
    shown_by: &'a str,
}

impl<'a> Row<'a> {
    fn tests(&self) -> impl Iterator<Item = &'a str> {
        self.shown_by.split('`').skip(1).step_by(2)
    }

    fn is_excepted(&self) -> bool {
        self.shown_by.contains("excepted: ")
    }
}

fn rows(list: &str) -> Vec<Row<'_>> {
    let lines = list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| section"));
    let row = |line| {
        let columns: Vec<&str> = str::split(line, " | ").collect();
        let [section, _, shown_by] = columns[..] else { panic!("not three columns: {line}") };
        Row { section: section.trim_start_matches("| "), shown_by }
    };
    lines.map(row).collect()
}

/// The names of all tests below a folder: functions in Rust files of the project.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("build") && !path.ends_with(".git") {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_requirement_is_shown_by_tests_that_exist_or_excepted_with_a_reason() {
    let mut known = BTreeSet::new();
    functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut known);
    let rows = rows(LIST);
    let missing = rows.iter().flat_map(Row::tests).filter(|test| !known.contains(*test)).collect::<Vec<_>>();
    assert_eq!(missing, [""; 0], "named, but not in the tree");
    for row in &rows {
        assert!(
            row.is_excepted() || row.tests().next().is_some(),
            "{}: neither shown nor excepted",
            row.section
        );
    }
    let excepted = rows.iter().filter(|row| row.is_excepted()).count();
    let tests = rows.iter().flat_map(Row::tests).collect::<BTreeSet<_>>().len();
    println!(
        "RFC 7143: {} requirements, {} shown by {tests} tests, {excepted} excepted in whole or in part",
        rows.len(),
        rows.iter().filter(|row| row.tests().next().is_some()).count()
    );
    assert!(rows.len() >= 130, "the list was cut short");
}
