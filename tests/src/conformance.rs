//! libiscsi's conformance tests (`iscsi-test-cu`) as judges: each test alone, and its families as a whole.
//!
//! The program counts a test that it skipped as passed. Here what it says is read: a test is passed, failed, hung,
//! or skipped, and a skip is right only if it stands in the list of skips ([`Skips`]) with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::Command;

/// Seconds after which a test hangs.
const TEST_SECONDS_MAX: &str = "120";

/// Seconds after which a family hangs.
const FAMILY_SECONDS_MAX: &str = "600";

/// Families of families, and those that are another's name.
const COLLECTIONS: [&str; 4] = ["ALL", "SCSI", "iSCSI", "LINUX"];

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It ran and found nothing wrong.
    Passed,
    /// It ran and found something wrong, or did not run at all.
    Failed,
    /// It did not do what it is for.
    Skipped,
    /// It did not end.
    Hung,
}

/// How a test ended, and what was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// How.
    pub verdict: Verdict,
    /// For a skip: its reason in the program's words.
    pub reason: Option<String>,
    /// Everything.
    pub said: String,
}

/// Every test there is, as `Family.Test`, in the program's order.
pub fn tests() -> io::Result<Vec<String>> {
    let output = Command::new("iscsi-test-cu").arg("--list").output()?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = list.lines().filter_map(|line| line.trim().strip_prefix("ALL."));
    Ok(all.filter(|name| name.contains('.')).map(str::to_owned).collect())
}

/// The family of a test.
#[must_use]
pub fn family(test: &str) -> &str {
    test.split('.').next().unwrap_or(test)
}

/// Runs one test on a LUN; with a second URL (another path to the same LUN) also where it needs both.
pub fn run(test: &str, urls: &[String]) -> io::Result<Ended> {
    let (said, hung) = ask(test, urls, TEST_SECONDS_MAX)?;
    Ok(judge(said, hung, urls.len()))
}

/// Runs a family as a whole: how many tests ran and how many failed.
pub fn run_family(family: &str, urls: &[String]) -> io::Result<(Option<[u64; 2]>, String)> {
    let (said, hung) = ask(family, urls, FAMILY_SECONDS_MAX)?;
    let counts = counts(&said).filter(|_| !hung).map(|[_, ran, _, failed]| [ran, failed]);
    Ok((counts, said))
}

fn ask(test: &str, urls: &[String], seconds: &str) -> io::Result<(String, bool)> {
    let output = Command::new("timeout")
        .args([seconds, "iscsi-test-cu", "--dataloss", "--allow-sanitize", "--normal", "--Verbose-scsi"])
        .args(["--test", &format!("ALL.{test}")])
        .args(urls)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    const TIMED_OUT: i32 = 124;
    Ok((said, output.status.code() == Some(TIMED_OUT)))
}

fn judge(said: String, hung: bool, paths: usize) -> Ended {
    // What comes before only finds out what the LUN can do.
    const BANNER: &str = "CUnit - A unit testing framework";
    let own = said.split_once(BANNER).map_or("", |(_, own)| own);
    let mut skips: Vec<&str> =
        own.lines().filter_map(|line| line.split_once("[SKIPPED]")).map(|(_, why)| why.trim()).collect();
    // Afterwards it looks for registrations that are left, on every path and whatever the test was.
    for _ in 0..paths {
        if skips.last().is_some_and(|why| why.starts_with("PERSISTENT RESERVE IN is not implemented")) {
            skips.pop();
        }
    }
    let reason = skips.last().map(|why| (*why).to_owned());
    let verdict = match (hung, counts(own), &reason) {
        (true, ..) => Verdict::Hung,
        (false, Some([_, 1, 1, 0]), None) => Verdict::Passed,
        (false, Some([_, 1, 1, 0]), Some(_)) => Verdict::Skipped,
        _ => Verdict::Failed,
    };
    Ended { verdict, reason, said }
}

/// Total, ran, passed and failed tests of the summary.
fn counts(said: &str) -> Option<[u64; 4]> {
    let summary = said.lines().find_map(|line| line.trim_start().strip_prefix("tests "))?;
    let mut counts = summary.split_whitespace().map_while(|count| count.parse().ok());
    Some([counts.next()?, counts.next()?, counts.next()?, counts.next()?])
}

/// The list of tests that may be skipped, each with its reason.
#[derive(Clone, Debug)]
pub struct Skips(BTreeMap<String, String>);

impl Skips {
    /// The list in the repository.
    #[must_use]
    pub fn checked_in() -> Self {
        Self::parse(include_str!("../conformance/skips"))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| line.split_once(char::is_whitespace).unwrap_or((line, "")))
                .map(|(test, reason)| (test.to_owned(), reason.trim().to_owned()))
                .collect(),
        )
    }

    /// Why a test may be skipped, if it may.
    #[must_use]
    pub fn reason(&self, test: &str) -> Option<&str> {
        self.0.get(test).map(String::as_str)
    }

    /// What is wrong with the outcome of a test, in one line.
    #[must_use]
    pub fn objection(&self, test: &str, ended: &Ended) -> Option<String> {
        match (ended.verdict, self.reason(test)) {
            (Verdict::Passed, None) | (Verdict::Skipped, Some(_)) => None,
            (Verdict::Passed, Some(_)) => {
                Some(format!("{test} passes: it needs no place in the list of skips"))
            }
            (Verdict::Skipped, None) => {
                let why = ended.reason.as_deref().unwrap_or("it does not say why");
                Some(format!("{test} was skipped, which is not in the list of skips: {why}"))
            }
            (Verdict::Failed, _) if self.0.contains_key(&format!("!{test}")) => None,
            (Verdict::Failed, _) => Some(format!("{test} failed")),
            (Verdict::Hung, _) => Some(format!("{test} did not end within {TEST_SECONDS_MAX} s")),
        }
    }
}

/// What was found, by family.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<String>,
    cells: BTreeMap<(String, usize), BTreeMap<Verdict, u32>>,
    families: Vec<String>,
}

impl Table {
    /// Adds a test's outcome to the column of that name.
    pub fn add(&mut self, column: &str, test: &str, verdict: Verdict) {
        let family = family(test).to_owned();
        if !self.families.contains(&family) {
            self.families.push(family.clone());
        }
        let at = self.columns.iter().position(|name| name == column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        });
        *self.cells.entry((family, at)).or_default().entry(verdict).or_default() += 1;
    }

    /// `passed/failed/skipped` of every family and column, and the sums.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{:<24}", "passed/failed/skipped");
        self.columns.iter().for_each(|name| text += &format!("{name:>14}"));
        let cell = |counts: &BTreeMap<Verdict, u32>| {
            let count = |verdict| counts.get(&verdict).copied().unwrap_or(0);
            let failed = count(Verdict::Failed) + count(Verdict::Hung);
            format!("{:>14}", format!("{}/{failed}/{}", count(Verdict::Passed), count(Verdict::Skipped)))
        };
        let mut sums: Vec<BTreeMap<Verdict, u32>> = vec![BTreeMap::new(); self.columns.len()];
        for family in &self.families {
            text += &format!("\n{family:<24}");
            for (at, sum) in sums.iter_mut().enumerate() {
                let counts = self.cells.get(&(family.clone(), at)).cloned().unwrap_or_default();
                counts.iter().for_each(|(verdict, count)| *sum.entry(*verdict).or_default() += count);
                text += &cell(&counts);
            }
        }
        text += &format!("\n{:<24}", "all");
        sums.iter().for_each(|sum| text += &cell(sum));
        text
    }
}

/// The families of these tests, in their order, without the collections.
#[must_use]
pub fn families(tests: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let all = tests.iter().map(|test| family(test).to_owned());
    all.filter(|family| !COLLECTIONS.contains(&family.as_str()) && seen.insert(family.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(own: &str, passed: u32, failed: u32) -> String {
        format!(
            "    [SKIPPED] PERSISTENT RESERVE IN is not implemented.\n     CUnit - A unit testing framework for C\n\
             {own}\n               tests      1      1      {passed}      {failed}        0\n"
        )
    }

    fn verdict(own: &str, passed: u32, failed: u32) -> Verdict {
        judge(said(own, passed, failed), false, 1).verdict
    }

    #[test]
    fn what_is_skipped_is_not_passed_and_what_comes_before_and_after_is_not_looked_at() {
        const AFTER: &str = "    [SKIPPED] PERSISTENT RESERVE IN is not implemented.";
        assert_eq!(verdict("[OK]", 1, 0), Verdict::Passed);
        assert_eq!(verdict(AFTER, 1, 0), Verdict::Passed);
        assert_eq!(verdict(&format!("{AFTER}\n{AFTER}"), 1, 0), Verdict::Skipped);
        assert_eq!(verdict("[SKIPPED] LUN is not removable. Skipping test.", 1, 0), Verdict::Skipped);
        assert_eq!(verdict("[FAILED]", 0, 1), Verdict::Failed);
        assert_eq!(judge(String::from("could not connect"), false, 1).verdict, Verdict::Failed);
        assert_eq!(judge(said("", 1, 0), true, 1).verdict, Verdict::Hung);
    }

    #[test]
    fn only_a_skip_with_a_reason_is_right_and_a_reason_without_a_skip_is_not() {
        let skips = Skips::parse("# a comment\n\nNoMedia.NoMediaSBC   the medium stays where it is\n");
        let ended = |verdict| Ended { verdict, reason: None, said: String::new() };
        for (test, verdict, right) in [
            ("NoMedia.NoMediaSBC", Verdict::Skipped, true),
            ("NoMedia.NoMediaSBC", Verdict::Passed, false),
            ("NoMedia.NoMediaSBC", Verdict::Failed, false),
            ("Read10.Simple", Verdict::Passed, true),
            ("Read10.Simple", Verdict::Skipped, false),
            ("Read10.Simple", Verdict::Hung, false),
        ] {
            assert_eq!(skips.objection(test, &ended(verdict)).is_none(), right, "{test} {verdict:?}");
        }
        assert!(Skips::checked_in().0.values().all(|reason| !reason.is_empty()), "a skip without a reason");
    }

    #[test]
    fn the_table_counts_by_family_and_column() {
        let mut table = Table::default();
        table.add("main", "Read10.Simple", Verdict::Passed);
        table.add("main", "Read10.Async", Verdict::Hung);
        table.add("sub", "NoMedia.NoMediaSBC", Verdict::Skipped);
        let rendered = table.render();
        let rows: Vec<Vec<&str>> = rendered.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                vec!["passed/failed/skipped", "main", "sub"],
                vec!["Read10", "1/1/0", "0/0/0"],
                vec!["NoMedia", "0/0/0", "0/0/1"],
                vec!["all", "1/1/0", "0/0/1"],
            ]
        );
    }
}
