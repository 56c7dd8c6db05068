//! `twinlun pair`: the pairs, and what a person wants of them. A command is carried out by the running controllers, on
//! all pairs that are named or on none; this waits until it shows in their status.

use std::io::{self, IsTerminal, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use controller::pair::PairStatus;
use controller::plan::Side;
use controller::status::LunStatus;
use miette::Diagnostic;
use protocol::interlink::will::PairCommand;
use serde::Serialize;

use super::control::{self, AskError};
use super::status::{Overview, progress};
use super::table::{self, row};
use super::{EXIT_STATUS, OutputOptions};
use crate::admin::control::{PairAnswer, pair_word};
use crate::config::Config;

/// How often it is looked how far a command is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often `--watch` shows the pairs, and how far a copy is is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The same where nobody looks at a terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A command is tried again for so long while something else is under way.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// What is no copy is done by then, or something is wrong. A copy is interrupted no longer.
const SWITCH_WITHIN: Duration = Duration::from_secs(15);

/// The same of a split, before which what the copy lacks on its disk is written there.
const SPLIT_WITHIN: Duration = Duration::from_secs(70);

#[derive(Subcommand, Debug)]
pub(super) enum PairSubcommand {
    /// List the pairs: their status, who is main, how far a copy is
    #[command(after_help = EXIT_STATUS)]
    List {
        /// Names of LUNs or groups; all, if none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Show them again every second until Ctrl-C
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        output: OutputOptions,
    },
    /// Make a second copy again of a LUN whose pair was deleted
    #[command(after_help = EXIT_STATUS)]
    Create(Targets),
    /// Split pairs: the sub's copy stays as it is now, an image of the LUN; hosts go on with main's
    #[command(after_help = EXIT_STATUS)]
    Split(Targets),
    /// Make the copies of split pairs identical again: main's is copied over the sub's
    #[command(after_help = EXIT_STATUS)]
    Resync(Targets),
    /// Let main and sub change their roles; hosts go on. It stays so until the next swap
    #[command(after_help = EXIT_STATUS)]
    Swap(Targets),
    /// Keep main's copy alone: the sub's is not written any more, nor needed
    #[command(after_help = EXIT_STATUS)]
    Delete(Targets),
}

#[derive(Args, Debug)]
pub(super) struct Targets {
    /// Names of LUNs or groups
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// All pairs of the file
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// End as soon as it has begun
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: OutputOptions,
}

impl PairSubcommand {
    pub(super) const fn output(&self) -> &OutputOptions {
        match self {
            Self::List { output, .. } => output,
            Self::Create(targets)
            | Self::Split(targets)
            | Self::Resync(targets)
            | Self::Swap(targets)
            | Self::Delete(targets) => &targets.output,
        }
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum PairError {
    #[error("there is no LUN or group {given:?} in the file")]
    #[diagnostic(help("the pairs of this file are: {known}"))]
    NoSuchPair { given: String, known: String },
    #[error("{given:?} is the name of a LUN and of a group")]
    #[diagnostic(help("give the number of the LUN, or the name of a LUN of the group"))]
    TwoPairs { given: String },
    #[error("no controller on this machine could be asked: {0}")]
    #[diagnostic(help(
        "run it where a controller runs, as the user it runs as; `twinlun status` says how they are"
    ))]
    NotAsked(AskError),
}

/// The LUNs that have one pair status: a group, or one LUN.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pair {
    name: String,
    group: bool,
    /// It has two copies, by the file.
    mirror: bool,
    /// Numbers and names.
    luns: Vec<(u16, String)>,
}

/// The pairs of a file, in its order.
fn pairs(config: &Config) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    for lun in &config.luns {
        let member = (lun.number, lun.name.clone());
        let (name, group) = (lun.group.as_ref().unwrap_or(&lun.name), lun.group.is_some());
        match pairs.iter_mut().find(|pair| group && pair.group && pair.name == *name) {
            Some(pair) => pair.luns.push(member),
            None => pairs.push(Pair { name: name.clone(), group, mirror: lun.mirror, luns: vec![member] }),
        }
    }
    pairs
}

/// The pairs of these names: of LUNs, of groups, or numbers of LUNs. All that have two copies, if there is none.
fn named(config: &Config, names: &[String]) -> Result<Vec<Pair>, PairError> {
    let all = pairs(config);
    if names.is_empty() {
        return Ok(all.into_iter().filter(|pair| pair.mirror).collect());
    }
    let mut wanted = vec![false; all.len()];
    for given in names {
        // A name that is another LUN's number is the name.
        let is_named = |pair: &Pair| pair.name == *given || pair.luns.iter().any(|(_, name)| name == given);
        let is_numbered = |pair: &Pair| pair.luns.iter().any(|(number, _)| number.to_string() == *given);
        let mut found: Vec<usize> = (0..all.len()).filter(|at| is_named(&all[*at])).collect();
        if found.is_empty() {
            found.extend(all.iter().position(is_numbered));
        }
        match found[..] {
            [at] => wanted[at] = true,
            [] => {
                let known: Vec<&str> = all.iter().map(|pair| pair.name.as_str()).collect();
                return Err(PairError::NoSuchPair { given: given.clone(), known: known.join(", ") });
            }
            _ => return Err(PairError::TwoPairs { given: given.clone() }),
        }
    }
    Ok(all.into_iter().zip(wanted).filter_map(|(pair, wanted)| wanted.then_some(pair)).collect())
}

/// How a pair is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct PairReport {
    /// The name of its group, or of its LUN.
    name: String,
    /// The numbers of its LUNs.
    luns: Vec<u16>,
    /// Nobody could be asked: none.
    status: Option<PairStatus>,
    main: Option<String>,
    /// While COPY: how far it is, in percent, and the seconds it still takes.
    copied_percent: Option<u8>,
    copy_seconds_left: Option<u64>,
    /// While SPLIT: whether the sub's copy is an image of the LUN as it was then; none if that is not known.
    image: Option<bool>,
    /// What is wrong, or what a person wanted.
    reason: Option<String>,
}

impl PairReport {
    fn of(pair: &Pair, overview: &Overview) -> Self {
        let seen: Vec<&LunStatus> =
            pair.luns.iter().filter_map(|(number, name)| overview.lun(*number, name)).collect();
        // A group's copy is as far as that of the LUN that is least far.
        let slowest = seen.iter().min_by_key(|lun| lun.copied_percent.unwrap_or(100));
        Self {
            name: pair.name.clone(),
            luns: pair.luns.iter().map(|(number, _)| *number).collect(),
            status: seen.first().map(|lun| lun.status),
            main: seen.first().map(|lun| lun.main.clone()),
            copied_percent: slowest.and_then(|lun| lun.copied_percent),
            copy_seconds_left: seen.iter().filter_map(|lun| lun.copy_seconds_left).max(),
            image: image(&seen),
            reason: seen.iter().find_map(|lun| lun.reason.clone()),
        }
    }

    /// The status, and how far a copy is.
    fn status_text(&self) -> String {
        match self.status {
            Some(PairStatus::Split) if self.image == Some(false) => "split, no image".to_owned(),
            Some(status) => progress(status, self.copied_percent, self.copy_seconds_left),
            None => "not known".to_owned(),
        }
    }
}

/// Whether there is an image of all LUNs of a pair.
fn image(seen: &[&LunStatus]) -> Option<bool> {
    if seen.iter().any(|lun| lun.image == Some(false)) {
        return Some(false);
    }
    (!seen.is_empty() && seen.iter().all(|lun| lun.image == Some(true))).then_some(true)
}

/// All pairs that were asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct List {
    pairs: Vec<PairReport>,
}

impl List {
    fn of(config: &Config, pairs: &[Pair]) -> Self {
        let overview = Overview::ask(config);
        Self { pairs: pairs.iter().map(|pair| PairReport::of(pair, &overview)).collect() }
    }

    fn render(&self) -> String {
        let mut rows = vec![row(["PAIR", "LUNS", "MAIN", "STATUS"])];
        let mut reasons = String::new();
        for pair in &self.pairs {
            let luns: Vec<String> = pair.luns.iter().map(u16::to_string).collect();
            let main = pair.main.as_deref().unwrap_or("-");
            rows.push(row([&pair.name, &luns.join(" "), main, &pair.status_text()]));
            if let Some(reason) = &pair.reason {
                reasons.push_str(&format!("{}: {}.\n", pair.name, reason.trim_end_matches('.')));
            }
        }
        table::render(&rows) + &reasons
    }
}

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Outcome {
    /// It is done, or has begun, for all pairs.
    ok: bool,
    pairs: Vec<PairOutcome>,
}

/// What became of it for one pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct PairOutcome {
    #[serde(flatten)]
    pair: PairReport,
    answer: Answer,
    /// Why not.
    why: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// It is as it was wanted.
    Done,
    /// It was so before.
    Already,
    /// It has begun, and was not waited for.
    Begun,
    /// It was refused; nothing was done to any pair.
    Refused,
    /// It has begun, and did not come to its end.
    Failed,
    /// Another pair refused, so nothing was done to this one.
    Untouched,
}

impl Outcome {
    fn render(&self, command: PairCommand) -> String {
        let line = |pair: &PairOutcome| {
            let (name, status) = (&pair.pair.name, pair.pair.status_text());
            let why = pair.why.as_deref().unwrap_or_default().trim_end_matches('.');
            let main = pair.pair.main.as_deref().unwrap_or("nobody known");
            match pair.answer {
                Answer::Done => format!("{name}: {status}, {main} is main.\n"),
                Answer::Already => format!("{name}: nothing to do, it is {status}.\n"),
                Answer::Begun => format!("{name}: begun; `twinlun pair list {name}` says how far it is.\n"),
                Answer::Refused => format!("{name}: not done, {why}.\n"),
                Answer::Failed => {
                    format!("{name}: `pair {}` is not done: {why}.\n", pair_word(command))
                }
                Answer::Untouched => format!("{name}: nothing was done, because another pair was refused.\n"),
            }
        };
        self.pairs.iter().map(line).collect()
    }
}

/// Runs a subcommand; whether all is as it was asked for.
pub(super) fn run(command: &PairSubcommand) -> Result<bool, super::CliError> {
    let config = Config::read(&command.output().file.path())?;
    let json = command.output().json;
    let (order, targets) = match command {
        PairSubcommand::List { names, watch, .. } => {
            let pairs = named(&config, names)?;
            return Ok(list(&config, &pairs, json, *watch));
        }
        PairSubcommand::Create(targets) => (PairCommand::Create, targets),
        PairSubcommand::Split(targets) => (PairCommand::Split, targets),
        PairSubcommand::Resync(targets) => (PairCommand::Resync, targets),
        PairSubcommand::Swap(targets) => (PairCommand::Swap, targets),
        PairSubcommand::Delete(targets) => (PairCommand::Delete, targets),
    };
    let pairs = named(&config, &targets.names)?;
    let before = List::of(&config, &pairs);
    let begun = Instant::now();
    let mut answers = ask(&config, order, &pairs)?;
    // A switch of before is just ending.
    while answers.iter().any(|answer| answer.soon) && begun.elapsed() < BUSY_MAX {
        thread::sleep(LOOK_EVERY);
        answers = ask(&config, order, &pairs)?;
    }
    let outcome = wait(&config, order, &pairs, &before, &answers, targets.no_wait);
    super::print(json, &outcome, |outcome| outcome.render(order));
    Ok(outcome.ok)
}

fn list(config: &Config, pairs: &[Pair], json: bool, watch: bool) -> bool {
    loop {
        let list = List::of(config, pairs);
        let known = list.pairs.iter().all(|pair| pair.status.is_some());
        if !watch {
            super::print(json, &list, List::render);
            return known;
        }
        let text =
            if json { serde_json::to_string(&list).unwrap_or_default() + "\n" } else { list.render() + "\n" };
        if !super::say(&text) {
            return known;
        }
        thread::sleep(TELL_EVERY);
    }
}

/// Asks a controller of this machine: either does. The first LUN of a pair stands for it.
fn ask(config: &Config, command: PairCommand, pairs: &[Pair]) -> Result<Vec<PairAnswer>, PairError> {
    let numbers: Vec<u16> = pairs.iter().filter_map(|pair| Some(pair.luns.first()?.0)).collect();
    let asked = |side| control::ask_pairs(&config.control_socket(side), command, &numbers);
    match asked(Side::First) {
        Err(AskError::NotRunning) => asked(Side::Second),
        answered => answered,
    }
    .map_err(PairError::NotAsked)
}

/// Waits until what was begun is done, or is not going to be.
fn wait(
    config: &Config,
    command: PairCommand,
    pairs: &[Pair],
    before: &List,
    answers: &[PairAnswer],
    no_wait: bool,
) -> Outcome {
    let mut moved = vec![Instant::now(); pairs.len()];
    let refused = answers.iter().any(|answer| answer.refused.is_some());
    let mut teller = Teller::new();
    loop {
        let now = List::of(config, pairs);
        let rows = now.pairs.iter().zip(&before.pairs).zip(answers).zip(&mut moved);
        let judged: Vec<PairOutcome> = rows
            .map(|(((pair, before), asked), moved)| {
                // A copy takes its time, as long as it goes on.
                if pair.status == Some(PairStatus::Copy) {
                    *moved = Instant::now();
                }
                let answer = judge(command, pair, before, asked, refused, moved.elapsed());
                let why = match answer {
                    Some(Answer::Refused) => asked.refused.clone(),
                    Some(Answer::Failed) => Some(failed(command, pair)),
                    _ => None,
                };
                PairOutcome { pair: pair.clone(), answer: answer.unwrap_or(Answer::Begun), why }
            })
            .collect();
        let over = judged.iter().all(|pair| pair.answer != Answer::Begun);
        if over || no_wait {
            teller.end();
            let ok = judged
                .iter()
                .all(|pair| matches!(pair.answer, Answer::Done | Answer::Already | Answer::Begun));
            return Outcome { ok, pairs: judged };
        }
        teller.tell(&judged);
        thread::sleep(LOOK_EVERY);
    }
}

/// What has become of a command for a pair; `None`: it is under way. `waited`: since it began, or was last seen to be
/// copied.
fn judge(
    command: PairCommand,
    pair: &PairReport,
    before: &PairReport,
    asked: &PairAnswer,
    any_refused: bool,
    waited: Duration,
) -> Option<Answer> {
    if asked.refused.is_some() {
        return Some(Answer::Refused);
    }
    let image = command != PairCommand::Split || pair.image == Some(true);
    if !asked.begun {
        return Some(if image { Answer::Already } else { Answer::Failed });
    }
    if any_refused {
        return Some(Answer::Untouched);
    }
    let done = match (command, pair.status) {
        (PairCommand::Split, status) => status == Some(PairStatus::Split) && pair.image == Some(true),
        (PairCommand::Delete, status) => status == Some(PairStatus::Simplex),
        (PairCommand::Swap, status) => {
            status == Some(PairStatus::Duplex) && before.main.is_some() && pair.main != before.main
        }
        (PairCommand::Create | PairCommand::Resync, status) => status == Some(PairStatus::Duplex),
    };
    if done {
        return Some(Answer::Done);
    }
    let within = if command == PairCommand::Split { SPLIT_WITHIN } else { SWITCH_WITHIN };
    let no_image = pair.status == Some(PairStatus::Split) && pair.image == Some(false) && !image;
    (waited >= within || no_image).then_some(Answer::Failed)
}

fn failed(command: PairCommand, pair: &PairReport) -> String {
    if command == PairCommand::Swap && pair.status == Some(PairStatus::Duplex) {
        return "who was main before is not known, or is main still; `twinlun pair list` says who is"
            .to_owned();
    }
    let reason = pair.reason.as_deref().unwrap_or("`twinlun status` says how the controllers are");
    format!("it is {}; {reason}", pair.status_text())
}

/// Says on standard error how far it is: on a terminal in one line that changes.
struct Teller {
    terminal: bool,
    told: Option<(Instant, String)>,
}

impl Teller {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), told: None }
    }

    fn tell(&mut self, pairs: &[PairOutcome]) {
        let open = pairs.iter().filter(|pair| pair.answer == Answer::Begun);
        let texts: Vec<String> =
            open.map(|pair| format!("{}: {}", pair.pair.name, pair.pair.status_text())).collect();
        let text = texts.join("; ");
        let every = if self.terminal { TELL_EVERY } else { LOG_EVERY };
        if self.told.as_ref().is_some_and(|(at, told)| at.elapsed() < every || *told == text) {
            return;
        }
        let line = if self.terminal { format!("\r\x1b[K{text}") } else { format!("{text}\n") };
        let mut errors = io::stderr().lock();
        // Nothing depends on it.
        let _unheard = errors.write_all(line.as_bytes()).and_then(|()| errors.flush());
        self.told = Some((Instant::now(), text));
    }

    fn end(&self) {
        if self.terminal && self.told.is_some() {
            let _unheard = io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests;
