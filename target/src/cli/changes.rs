//! What `twinlun run` logs of its controllers: every change once. What goes back and forth is told a few times, then
//! once a minute, each line with how often it came; the last line about a thing is always how it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller::pair::{PairStatus, Role};
use controller::status::{ControllerStatus, LunStatus};
use controller::time::Time;
use tracing::Level;

use super::status::{interlink, word};

/// Different lines whose repetitions are counted at most; with more of them counting begins anew.
const COUNTED_LINES_MAX: usize = 1024;

/// How often one line is told at once within [`INTERVAL`].
const LINES_SOON: u32 = 2;

/// After that, how often.
const INTERVAL: Duration = Duration::from_secs(60);

/// Controllers that are started together do not meet at once. What is not served yet for want of the other is told of
/// as bad only after this.
const MEETS_WITHIN: Duration = Duration::from_secs(5);

/// A line for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
}

impl Line {
    pub(super) fn log(&self) {
        let text = &self.text;
        match self.level {
            Level::ERROR => tracing::error!("{text}"),
            Level::WARN => tracing::warn!("{text}"),
            _ => tracing::info!("{text}"),
        }
    }
}

/// Tells what changed between two looks.
#[derive(Default)]
pub(super) struct Changes {
    by_subject: BTreeMap<String, Subject>,
    counted: BTreeMap<String, Counted>,
    /// Notes that hold.
    notes: BTreeSet<String>,
    /// When it looked for the first time.
    begun: Option<Time>,
    /// Some controller was seen with its interlink up.
    met: bool,
}

/// What a line is about: an interlink, a LUN.
#[derive(Default)]
struct Subject {
    /// How it was seen last.
    seen: String,
    /// What was told of it last.
    told: String,
}

/// How often a line came.
#[derive(Clone, Copy, Default)]
struct Counted {
    count: u32,
    /// When it was first told in this interval, and how often since.
    at: Time,
    soon: u32,
    unsaid: bool,
}

impl Counted {
    /// Whether it is to be told now.
    fn may_be_told(&mut self, now: Time) -> bool {
        if self.soon > 0 && now.since(self.at) < INTERVAL {
            let may = self.soon < LINES_SOON;
            self.soon += u32::from(may);
            self.unsaid |= !may;
            return may;
        }
        // What came too often comes once in an interval as long as it goes on so.
        self.soon = if self.unsaid { LINES_SOON } else { 1 };
        (self.at, self.unsaid) = (now, false);
        true
    }
}

impl Changes {
    /// What changed since the last look.
    pub(super) fn of(&mut self, statuses: &[ControllerStatus], now: Time) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut notes = BTreeSet::new();
        self.met |= statuses.iter().any(|status| status.interlink.up || status.interlink.refused);
        let meeting = !self.met && now.since(*self.begun.get_or_insert(now)) < MEETS_WITHIN;
        for status in statuses {
            let name = &status.controller;
            let text = format!("{name}: interlink {}", interlink(status));
            let level = if status.interlink.up || status.stopping { Level::INFO } else { Level::WARN };
            self.line(name.clone(), Line { level, text }, now, &mut lines);
            for lun in &status.luns {
                let waits = meeting && !lun.serving && !status.stopping;
                let text = match waits {
                    true => format!(
                        "{name}: LUN {} {}: not served before {} is met",
                        lun.number, lun.name, status.peer
                    ),
                    false => format!("{name}: {}", describe(lun)),
                };
                let level = if status.stopping || waits { Level::INFO } else { level_of(lun) };
                self.line(format!("{name} {}", lun.number), Line { level, text }, now, &mut lines);
            }
            notes.extend(status.notes.iter().map(|note| format!("{name}: {note}")));
        }
        let new = |level, text: String| Line { level, text };
        lines.extend(notes.difference(&self.notes).map(|note| new(Level::WARN, note.clone())));
        lines.extend(
            self.notes.difference(&notes).map(|note| new(Level::INFO, format!("no longer so: {note}"))),
        );
        self.notes = notes;
        lines
    }

    fn line(&mut self, about: String, line: Line, now: Time, lines: &mut Vec<Line>) {
        let subject = self.by_subject.entry(about).or_default();
        if self.counted.len() >= COUNTED_LINES_MAX && !self.counted.contains_key(&line.text) {
            self.counted.clear();
        }
        let changed = subject.seen != line.text;
        if !changed && subject.told == line.text {
            return;
        }
        let counted = self.counted.entry(line.text.clone()).or_default();
        if changed {
            counted.count += 1;
            subject.seen.clone_from(&line.text);
        }
        if subject.told == line.text || !counted.may_be_told(now) {
            return;
        }
        subject.told.clone_from(&line.text);
        let Line { level, text } = line;
        let text = if counted.count == 1 { text } else { format!("{text} (time {})", counted.count) };
        lines.push(Line { level, text });
    }
}

/// How much a LUN's state is worth looking at: an error where hosts are not served, a warning where one copy alone is
/// whole or something else is wrong.
fn level_of(lun: &LunStatus) -> Level {
    let whole = matches!(lun.status, PairStatus::Duplex | PairStatus::Simplex);
    match (lun.serving, whole && lun.reason.is_none()) {
        (false, _) => Level::ERROR,
        (true, false) => Level::WARN,
        (true, true) => Level::INFO,
    }
}

/// One LUN in one line.
fn describe(lun: &LunStatus) -> String {
    let role = match lun.role {
        Role::Main => "main",
        Role::Sub => "sub",
    };
    let serving = if lun.serving { "serving" } else { "refusing" };
    let reason = lun.reason.as_deref().map(|reason| format!("; {reason}")).unwrap_or_default();
    format!("LUN {} {}: {}, {role}, {serving}{reason}", lun.number, lun.name, word(lun.status))
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::healthy;
    use super::*;

    const GOOD: &str = "alpha: LUN 0 data0: duplex, main, serving";
    const BAD: &str = "alpha: LUN 0 data0: suspended, main, serving; beta is away";

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    fn good_and_bad() -> [ControllerStatus; 2] {
        let [alpha, _] = healthy();
        let mut broken = alpha.clone();
        broken.luns[0].status = PairStatus::Suspended;
        broken.luns[0].reason = Some("beta is away".to_owned());
        [alpha, broken]
    }

    fn texts(changes: &mut Changes, status: &ControllerStatus, second: u64) -> Vec<String> {
        let lines = changes.of(core::slice::from_ref(status), at(second));
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn every_change_is_told_once_and_what_comes_again_is_counted() {
        let [alpha, broken] = good_and_bad();
        let mut changes = Changes::default();
        let up = "alpha: interlink up, 4 bridges";
        assert_eq!(texts(&mut changes, &alpha, 1), [up, GOOD]);
        assert_eq!(texts(&mut changes, &alpha, 1), Vec::<String>::new());
        assert_eq!(texts(&mut changes, &broken, 2), [BAD]);
        assert_eq!(texts(&mut changes, &alpha, 3), [format!("{GOOD} (time 2)")]);
        assert_eq!(texts(&mut changes, &broken, 4), [format!("{BAD} (time 2)")]);
    }

    #[test]
    fn what_goes_back_and_forth_is_told_once_a_minute_and_how_it_stays_in_the_end() {
        let [alpha, broken] = good_and_bad();
        let mut changes = Changes::default();
        let mut lines = Vec::new();
        for second in 1..300 {
            let now = if (second / 3) % 2 == 0 { &alpha } else { &broken };
            lines.extend(texts(&mut changes, now, second));
        }
        assert!(lines.len() <= 15, "{lines:#?}");
        let mut last = Vec::new();
        (300..370).for_each(|second| last.extend(texts(&mut changes, &broken, second)));
        assert!(last.len() <= 1, "{last:?}");
        lines.extend(last);
        assert!(lines.last().is_some_and(|line| line.starts_with(BAD)), "{lines:#?}");
    }

    #[test]
    fn an_outage_is_an_error_less_than_whole_a_warning_and_a_clean_end_neither() {
        let [alpha, broken] = good_and_bad();
        let level = |change: &dyn Fn(&mut ControllerStatus)| {
            let mut status = broken.clone();
            change(&mut status);
            let lines = Changes::default().of(&[status], at(1));
            lines.iter().map(|line| line.level).collect::<Vec<_>>()
        };
        assert_eq!(Changes::default().of(&[alpha], at(1))[1].level, Level::INFO);
        assert_eq!(level(&|_| ()), [Level::INFO, Level::WARN]);
        assert_eq!(level(&|it| it.luns[0].serving = false), [Level::INFO, Level::ERROR]);
        assert_eq!(level(&|it| it.luns[0].status = PairStatus::Copy)[1], Level::WARN);
        assert_eq!(level(&|it| it.interlink.up = false)[0], Level::WARN);
        let ending = |it: &mut ControllerStatus| {
            (it.stopping, it.interlink.up, it.luns[0].serving) = (true, false, false);
        };
        assert_eq!(level(&ending), [Level::INFO, Level::INFO]);
    }

    #[test]
    fn controllers_that_are_started_together_are_given_time_to_meet() {
        let [well, _] = healthy();
        let mut alone = well.clone();
        (alone.interlink.up, alone.luns[0].serving) = (false, false);
        alone.luns[0].reason = Some("beta is away".to_owned());
        let about_the_lun = |changes: &mut Changes, status: &ControllerStatus, now| {
            let lines = changes.of(core::slice::from_ref(status), now);
            lines.into_iter().filter(|line| line.text.contains("LUN")).collect::<Vec<_>>()
        };
        let text = "alpha: LUN 0 data0: not served before beta is met".to_owned();
        let waits = [Line { level: Level::INFO, text }];
        let mut changes = Changes::default();
        assert_eq!(about_the_lun(&mut changes, &alone, at(0)), waits);
        assert_eq!(about_the_lun(&mut changes, &alone, at(4)), []);
        let late = about_the_lun(&mut changes, &alone, at(5));
        assert!(late[0].level == Level::ERROR && late[0].text.contains("beta is away"), "{late:?}");
        // A controller that has met its peer once waits no more.
        let mut changes = Changes::default();
        changes.of(core::slice::from_ref(&well), at(0));
        assert_eq!(about_the_lun(&mut changes, &alone, at(1))[0].level, Level::ERROR);
    }

    #[test]
    fn a_note_is_a_warning_when_it_comes_and_told_when_it_is_over() {
        let [alpha, _] = healthy();
        let mut noted = alpha.clone();
        noted.notes = vec!["the files differ".to_owned()];
        let mut changes = Changes::default();
        changes.of(core::slice::from_ref(&alpha), at(1));
        let warned = Line { level: Level::WARN, text: "alpha: the files differ".to_owned() };
        assert_eq!(changes.of(core::slice::from_ref(&noted), at(2)), [warned]);
        assert_eq!(texts(&mut changes, &noted, 3), Vec::<String>::new());
        assert_eq!(texts(&mut changes, &alpha, 4), ["no longer so: alpha: the files differ"]);
    }
}
