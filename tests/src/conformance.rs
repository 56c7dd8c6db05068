//! libiscsi's conformance tests (`iscsi-test-cu`) as judges: each test alone, and its families as a whole.
//!
//! The program counts a test that it skipped as passed. Here what it says is read: a test is passed, passed but for a
//! part that was skipped, failed, hung, or skipped. A skip, whole or in part, is right only if it stands in the list of
//! skips ([`Skips`]) as what it is and with its reason.

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
    /// It ran, asserted and found nothing wrong, but left out a part.
    PassedInPart,
    /// It ran and found something wrong, or did not run at all.
    Failed,
    /// It failed, as the list says it does by itself on any target: the run of its family judges it.
    Faulty,
    /// It did not do what it is for: it asserted nothing beside its skips.
    Skipped,
    /// It did not end.
    Hung,
}

/// How a test ended, and what was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// What was found of it.
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
    let counts = counts(&said, "tests ").filter(|_| !hung).map(|[_, ran, _, failed]| [ran, failed]);
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
    let verdict = match (hung, counts(own, "tests ")) {
        (true, _) => Verdict::Hung,
        (false, Some([_, 1, 1, 0])) if skips.is_empty() => Verdict::Passed,
        (false, Some([_, 1, 1, 0])) if asserted_more(own, skips.len()) => Verdict::PassedInPart,
        (false, Some([_, 1, 1, 0])) => Verdict::Skipped,
        _ => Verdict::Failed,
    };
    Ended { verdict, reason, said }
}

/// Whether CUnit counts more assertions than skips, all of which held, and a command was answered as expected: a skip
/// is itself an assertion that holds.
fn asserted_more(own: &str, skips: usize) -> bool {
    let beside = |passed: u64| usize::try_from(passed).is_ok_and(|passed| passed > skips);
    let held = counts(own, "asserts ").is_some_and(|[total, ran, passed, failed]| {
        total == ran && ran == passed && failed == 0 && beside(passed)
    });
    held && own.lines().any(|line| line.trim_start().starts_with("[OK]"))
}

/// Total, ran, passed and failed of a line of the summary.
fn counts(said: &str, of: &str) -> Option<[u64; 4]> {
    let summary = said.lines().find_map(|line| line.trim_start().strip_prefix(of))?;
    let mut counts = summary.split_whitespace().map_while(|count| count.parse().ok());
    Some([counts.next()?, counts.next()?, counts.next()?, counts.next()?])
}

/// The list of tests that may be skipped, each with its reason; with `~` before its name, one of which a part may be.
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

    /// Why a part of a test may be skipped, if it may.
    #[must_use]
    pub fn reason_for_part(&self, test: &str) -> Option<&str> {
        self.0.get(&format!("~{test}")).map(String::as_str)
    }

    /// A verdict in the light of the list: who fails by itself anywhere is faulty.
    #[must_use]
    pub fn weigh(&self, test: &str, verdict: Verdict) -> Verdict {
        let faulty = verdict == Verdict::Failed && self.0.contains_key(&format!("!{test}"));
        if faulty { Verdict::Faulty } else { verdict }
    }

    /// What is wrong with the outcome of a test, in one line.
    #[must_use]
    pub fn objection(&self, test: &str, ended: &Ended) -> Option<String> {
        let why = ended.reason.as_deref().unwrap_or("it does not say why");
        match ended.verdict {
            Verdict::Passed if self.reason(test).or(self.reason_for_part(test)).is_some() => {
                Some(format!("{test} passes: it needs no place in the list of skips"))
            }
            Verdict::Passed => None,
            Verdict::PassedInPart if self.reason_for_part(test).is_some() => None,
            Verdict::PassedInPart => {
                Some(format!("{test} skipped a part, which is not in the list of skips: {why}"))
            }
            Verdict::Skipped if self.reason(test).is_some() => None,
            Verdict::Skipped => Some(format!("{test} was skipped, which is not in the list of skips: {why}")),
            Verdict::Faulty => None,
            Verdict::Failed => Some(format!("{test} failed")),
            Verdict::Hung => Some(format!("{test} did not end within {TEST_SECONDS_MAX} s")),
        }
    }
}

/// How often each verdict was given.
type Counts = BTreeMap<Verdict, u32>;

fn count(counts: &Counts, verdict: Verdict) -> u32 {
    counts.get(&verdict).copied().unwrap_or(0)
}

fn failed(counts: &Counts) -> u32 {
    [Verdict::Failed, Verdict::Hung, Verdict::Faulty].map(|verdict| count(counts, verdict)).iter().sum()
}

/// What was found, by family.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<String>,
    cells: BTreeMap<(String, usize), Counts>,
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

    /// `passed/in part/failed/skipped` of every family and column, and a sentence with the sums of each column.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{:<30}", "passed/in part/failed/skipped");
        self.columns.iter().for_each(|name| text += &format!("{name:>14}"));
        let cell = |counts: &Counts| {
            let of = |verdict| count(counts, verdict);
            let [passed, part, skipped] = [Verdict::Passed, Verdict::PassedInPart, Verdict::Skipped].map(of);
            format!("{:>14}", format!("{passed}/{part}/{}/{skipped}", failed(counts)))
        };
        let mut sums = vec![Counts::new(); self.columns.len()];
        for family in &self.families {
            text += &format!("\n{family:<30}");
            for (at, sum) in sums.iter_mut().enumerate() {
                let counts = self.cells.get(&(family.clone(), at)).cloned().unwrap_or_default();
                counts.iter().for_each(|(verdict, count)| *sum.entry(*verdict).or_default() += count);
                text += &cell(&counts);
            }
        }
        for (name, sum) in self.columns.iter().zip(&sums) {
            text += &format!("\nthrough {name}: {}", sentence(sum));
        }
        text
    }
}

/// The sums in words: what ran and what did not, apart.
fn sentence(sums: &Counts) -> String {
    let of = |verdict| count(sums, verdict);
    let [passed, part, skipped] = [Verdict::Passed, Verdict::PassedInPart, Verdict::Skipped].map(of);
    format!(
        "{} tests: {} passed ({part} of them but for a part that was skipped), {} failed ({} of them by a fault of \
         the test), {skipped} skipped",
        sums.values().sum::<u32>(),
        passed + part,
        failed(sums),
        of(Verdict::Faulty),
    )
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
        with_asserts(own, [passed, failed], [1, 1, 1, 0])
    }

    fn with_asserts(own: &str, [passed, failed]: [u32; 2], [total, ran, held, not]: [u32; 4]) -> String {
        format!(
            "    [SKIPPED] PERSISTENT RESERVE IN is not implemented.\n     CUnit - A unit testing framework for C\n\
             {own}\n               tests      1      1      {passed}      {failed}        0\n             \
             asserts      {total}      {ran}      {held}      {not}      n/a\n"
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
    fn a_test_passed_in_part_only_if_it_asserted_more_than_its_skips_and_all_of_it_held() {
        const PART: &str =
            "    [OK] SANITIZE returned\n    [SKIPPED] SANITIZE CRYPTO_ERASE is not implemented";
        const NO_ANSWER: &str = "    [SKIPPED] SANITIZE CRYPTO_ERASE is not implemented";
        let verdict = |own: &str, tests, asserts| judge(with_asserts(own, tests, asserts), false, 1).verdict;
        assert_eq!(verdict(PART, [1, 0], [4, 4, 4, 0]), Verdict::PassedInPart);
        assert_eq!(verdict(PART, [1, 0], [1, 1, 1, 0]), Verdict::Skipped);
        assert_eq!(verdict(&format!("{PART}\n{NO_ANSWER}"), [1, 0], [2, 2, 2, 0]), Verdict::Skipped);
        assert_eq!(verdict(NO_ANSWER, [1, 0], [4, 4, 4, 0]), Verdict::Skipped);
        assert_eq!(verdict(PART, [1, 0], [4, 4, 3, 1]), Verdict::Skipped);
        assert_eq!(verdict(PART, [0, 1], [4, 4, 3, 1]), Verdict::Failed);
    }

    #[test]
    fn only_a_skip_with_a_reason_is_right_and_a_reason_without_a_skip_is_not() {
        let skips = Skips::parse(
            "# a comment\n\nNoMedia.NoMediaSBC   the medium stays where it is\n\
             ~Sanitize.Readonly no key\n!Late.Simple it looks too early\n",
        );
        let ended = |verdict| Ended { verdict, reason: None, said: String::new() };
        for (test, verdict, right) in [
            ("NoMedia.NoMediaSBC", Verdict::Skipped, true),
            ("NoMedia.NoMediaSBC", Verdict::Passed, false),
            ("NoMedia.NoMediaSBC", Verdict::Failed, false),
            ("NoMedia.NoMediaSBC", Verdict::PassedInPart, false),
            ("Sanitize.Readonly", Verdict::PassedInPart, true),
            ("Sanitize.Readonly", Verdict::Passed, false),
            ("Sanitize.Readonly", Verdict::Skipped, false),
            ("Read10.Simple", Verdict::Passed, true),
            ("Read10.Simple", Verdict::Skipped, false),
            ("Read10.Simple", Verdict::PassedInPart, false),
            ("Read10.Simple", Verdict::Hung, false),
            ("Read10.Simple", Verdict::Failed, false),
            ("Late.Simple", skips.weigh("Late.Simple", Verdict::Failed), true),
            ("Late.Simple", skips.weigh("Late.Simple", Verdict::Hung), false),
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
        let skips = Skips::parse("!Read10.Late a fault\n");
        table.add("main", "Read10.Late", skips.weigh("Read10.Late", Verdict::Failed));
        table.add("sub", "NoMedia.NoMediaSBC", Verdict::Skipped);
        table.add("sub", "Sanitize.Readonly", Verdict::PassedInPart);
        let rendered = table.render();
        let lines: Vec<&str> = rendered.lines().collect();
        let (rows, sums) = lines.split_at(4);
        let cells = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = rows.iter().skip(1).map(|row| cells(row)).collect();
        assert_eq!(
            rows,
            [
                ["Read10", "1/0/2/0", "0/0/0/0"],
                ["NoMedia", "0/0/0/0", "0/0/0/1"],
                ["Sanitize", "0/0/0/0", "0/1/0/0"],
            ]
        );
        assert_eq!(
            sums,
            [
                "through main: 3 tests: 1 passed (0 of them but for a part that was skipped), 2 failed (1 of them \
                 by a fault of the test), 0 skipped",
                "through sub: 2 tests: 1 passed (1 of them but for a part that was skipped), 0 failed (0 of them \
                 by a fault of the test), 1 skipped",
            ]
        );
    }
}
