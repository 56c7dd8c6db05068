//! `twinlun status`: what a person at 3 a.m. needs on one screen. What is wrong comes last, where the eye rests,
//! each with what it means for the data and what is safe to do next.

use controller::plan::Side;
use controller::status::{ControllerStatus, LunStatus, PairStatus, Role};
use serde::Serialize;

use super::control::{self, AskError};
use super::table::{self, row};
use crate::config::{Config, Lun, in_units};

/// LUNs named in one line at most.
const TITLES_MAX: usize = 4;

/// Columns of a line that explains, at most (a longer word excepted).
const COLUMNS_MAX: usize = 100;

/// Both controllers as far as they could be asked, and what is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Overview {
    /// Nothing is wrong.
    pub(super) ok: bool,
    iqn: String,
    /// The appliance's id, once made.
    appliance: Option<String>,
    /// What is wrong, in plain words.
    problems: Vec<String>,
    controllers: [View; 2],
}

/// One controller as seen from here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct View {
    name: String,
    /// What it says of itself.
    status: Option<ControllerStatus>,
    /// Why it could not be asked.
    not_asked: Option<String>,
    /// Whether it runs, as it or its peer says.
    running: bool,
}

impl View {
    /// It runs on this machine, but says nothing.
    fn hangs(&self) -> bool {
        self.not_asked.as_ref().is_some_and(|why| *why == AskError::Silent.to_string())
    }
}

impl Overview {
    /// Asks both controllers at their control sockets.
    pub(super) fn ask(config: &Config) -> Self {
        Self::from_answers(
            config,
            [Side::First, Side::Second].map(|side| control::ask(&config.control_socket(side))),
        )
    }

    fn from_answers(config: &Config, answers: [Result<ControllerStatus, AskError>; 2]) -> Self {
        let linked = answers.iter().flatten().any(|status| status.interlink.up);
        let names = config.controllers.clone().map(|controller| controller.name);
        let mut views = names.into_iter().zip(answers).map(|(name, answer)| View {
            name,
            running: answer.is_ok() || linked,
            not_asked: answer.as_ref().err().map(ToString::to_string),
            status: answer.ok(),
        });
        let missing = || View { name: String::new(), status: None, not_asked: None, running: false };
        let controllers = [(); 2].map(|()| views.next().unwrap_or_else(missing));
        let appliance =
            controllers.iter().flat_map(|view| &view.status).find_map(|status| status.appliance.clone());
        let problems = problems(config, &controllers);
        Self { ok: problems.is_empty(), iqn: config.appliance.iqn.clone(), appliance, problems, controllers }
    }

    /// The screen.
    pub(super) fn render(&self, config: &Config) -> String {
        let id = self.appliance.as_deref().map(|id| format!("   appliance {id}")).unwrap_or_default();
        let mut controllers = vec![row(["CONTROLLER", "STATE", "INTERLINK"])];
        controllers.extend(self.controllers.iter().map(|view| self.controller_row(view)));
        let [first, second] = &self.controllers;
        let on = |view: &View| format!("ON {}", view.name.to_uppercase());
        let mut luns = vec![row(["LUN", "NAME", "SIZE", "MAIN", "PAIR", &on(first), &on(second)])];
        luns.extend(config.luns.iter().map(|lun| self.lun_row(lun)));
        let mut screen =
            format!("{}{id}\n\n{}\n{}\n", self.iqn, table::render(&controllers), table::render(&luns));
        if self.problems.is_empty() {
            screen.push_str("All is well.\n");
        }
        for problem in &self.problems {
            screen.push_str(&wrapped(problem));
        }
        screen
    }

    fn controller_row(&self, view: &View) -> Vec<String> {
        let peer =
            self.controllers.iter().find(|other| other.name != view.name).map_or("", |peer| &peer.name);
        let state = match (&view.status, view.running) {
            (Some(_), _) => "running".to_owned(),
            (None, _) if view.hangs() => "does not answer".to_owned(),
            (None, true) => format!("running, as {peer} says"),
            (None, false) => "not in reach".to_owned(),
        };
        let interlink = view.status.as_ref().map_or_else(|| "-".to_owned(), interlink);
        row([&view.name, &state, &interlink])
    }

    fn lun_row(&self, lun: &Lun) -> Vec<String> {
        let seen: Vec<&LunStatus> = self.controllers.iter().filter_map(|view| find(view, lun)).collect();
        let any = seen.first();
        let bytes = any.map(|status| status.bytes).filter(|bytes| *bytes > 0).or(lun.bytes);
        let size = bytes.map_or_else(|| "-".to_owned(), in_units);
        let main = any.map_or("-", |status| &status.main);
        let pair = any.map_or("-", |status| word(status.status));
        let mut cells = row([&lun.number.to_string(), &lun.name, &size, main, pair]);
        for view in &self.controllers {
            cells.push(find(view, lun).map_or_else(|| "-".to_owned(), on_controller));
        }
        cells
    }
}

/// A problem after its exclamation mark, in lines of [`COLUMNS_MAX`] columns.
fn wrapped(problem: &str) -> String {
    let (mut text, mut columns) = ("!".to_owned(), 1);
    for word in problem.split(' ') {
        let length = word.chars().count();
        if columns + 1 + length > COLUMNS_MAX && columns > 1 {
            text.push_str("\n ");
            columns = 1;
        }
        text.push(' ');
        text.push_str(word);
        columns += 1 + length;
    }
    text + "\n"
}

fn find<'v>(view: &'v View, lun: &Lun) -> Option<&'v LunStatus> {
    view.status.as_ref()?.luns.iter().find(|status| status.number == lun.number && status.name == lun.name)
}

pub(super) fn interlink(status: &ControllerStatus) -> String {
    match (status.interlink.up, &status.interlink.reason) {
        (true, _) if status.interlink.bridges == 1 => "up, 1 bridge".to_owned(),
        (true, _) => format!("up, {} bridges", status.interlink.bridges),
        (false, Some(reason)) => format!("down: {reason}"),
        (false, None) => "down".to_owned(),
    }
}

/// The pair status in the words of the documentation.
pub(super) const fn word(status: PairStatus) -> &'static str {
    match status {
        PairStatus::Simplex => "simplex",
        PairStatus::Copy => "copy",
        PairStatus::Duplex => "duplex",
        PairStatus::Split => "split",
        PairStatus::Suspended => "suspended",
    }
}

fn on_controller(status: &LunStatus) -> String {
    let mut text = if status.serving { "serving" } else { "refusing" }.to_owned();
    if let (PairStatus::Copy, Some(percent)) = (status.status, status.copied_percent) {
        text.push_str(&format!(", copied {percent} %"));
    }
    if status.commands > 0 {
        text.push_str(&format!(", {} in flight", status.commands));
    }
    text
}

fn problems(config: &Config, controllers: &[View; 2]) -> Vec<String> {
    if controllers.iter().all(|view| view.status.is_none()) {
        return unreachable(controllers);
    }
    let mut findings = Findings::default();
    for lun in &config.luns {
        lun_findings(lun, controllers, &mut findings);
    }
    let mut problems = interlink_problems(config, controllers);
    problems.extend(findings.lines());
    problems
}

/// What is wrong with LUNs: each text once, with every LUN it is true of, so that a hundred LUNs still fit a screen.
#[derive(Default)]
struct Findings(Vec<(String, Vec<String>)>);

impl Findings {
    /// Notes that `text`, the end of a sentence, is true of a LUN.
    fn note(&mut self, lun: &Lun, text: String) {
        let title = format!("LUN {} {}", lun.number, lun.name);
        match self.0.iter_mut().find(|(known, _)| *known == text) {
            Some((_, titles)) => titles.push(title),
            None => self.0.push((text, vec![title])),
        }
    }

    fn lines(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(text, titles)| {
            let named = titles.get(..TITLES_MAX).unwrap_or(&titles).join(", ");
            match titles.len().saturating_sub(TITLES_MAX) {
                0 => format!("{named}{text}"),
                more => format!("{named} and {more} more{text}"),
            }
        })
    }
}

/// Neither controller could be asked.
fn unreachable(controllers: &[View; 2]) -> Vec<String> {
    let reasons: Vec<&str> = controllers.iter().filter_map(|view| view.not_asked.as_deref()).collect();
    let not_running = AskError::NotRunning.to_string();
    if reasons.iter().all(|reason| *reason == not_running) {
        return vec![
            "No controller runs on this machine, so it serves no hosts; the data stays as it is. Start it: \
             `twinlun run`, or `twinlun run --controller NAME` for one of the two."
                .to_owned(),
        ];
    }
    controllers
        .iter()
        .filter_map(|view| Some(format!("{} cannot be asked: {}.", view.name, view.not_asked.as_ref()?)))
        .collect()
}

fn interlink_problems(config: &Config, controllers: &[View; 2]) -> Vec<String> {
    if controllers.iter().flat_map(|view| &view.status).all(|status| status.interlink.up) {
        return Vec::new();
    }
    let [first, second] = controllers;
    let addresses =
        || config.controllers.iter().flat_map(|controller| &controller.interlink).collect::<Vec<_>>();
    let named = || addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (here, away) = match (&first.status, &second.status) {
        (Some(_), Some(_)) => {
            return vec![format!(
                "{} and {} both run but do not reach each other, so writes are not mirrored. Check the network \
                 between their interlink addresses ({}) and what the log says.",
                first.name,
                second.name,
                named()
            )];
        }
        (Some(_), None) => (&first.name, second),
        (None, _) => (&second.name, first),
    };
    let why = away.not_asked.as_deref().unwrap_or_default();
    let away_name = &away.name;
    let start = format!(
        "`twinlun run --controller {away_name}`; that is safe, it serves nothing that is not certain to be current"
    );
    if away.hangs() {
        let text = "runs on this machine but does not answer: it is stopped (SIGSTOP, a debugger), or the machine \
                    is overloaded. When it goes on, the two meet again by themselves; if it never does, end it and \
                    start it again";
        return vec![format!("{away_name} {text}.")];
    }
    if why != AskError::NotRunning.to_string() {
        return vec![format!("{away_name} cannot be asked: {why}.")];
    }
    if addresses().iter().all(|address| address.ip().is_loopback()) {
        return vec![format!("{away_name} does not run. Start it: {start}.")];
    }
    vec![format!(
        "{here} does not reach {away_name}. If {away_name} does not run on its machine, start it there: {start}. If \
         it does, check the network between their interlink addresses ({}).",
        named()
    )]
}

fn lun_findings(lun: &Lun, controllers: &[View; 2], findings: &mut Findings) {
    let known: Vec<(&View, &LunStatus)> =
        controllers.iter().filter_map(|view| Some((view, find(view, lun)?))).collect();
    for view in controllers.iter().filter(|view| view.status.is_some() && find(view, lun).is_none()) {
        let name = &view.name;
        findings.note(
            lun,
            format!(": in the file, but {name} was started without it; start {name} again to serve it."),
        );
    }
    if known.len() == 2 && known.iter().all(|(_, status)| status.role == Role::Main) {
        let text = ": both controllers call themselves main. Stop the hosts' writing, then one of the controllers, \
                    and keep both volumes.";
        findings.note(lun, text.to_owned());
    }
    let reasons = reasons(&known);
    for (reason, names) in &reasons {
        findings.note(lun, format!(" on {}: {}.", names.join(" and "), reason.trim_end_matches('.')));
    }
    if !reasons.is_empty() {
        return;
    }
    // Whatever is wrong without a reason still has to be said.
    let refusing: Vec<_> = known.iter().filter(|(_, status)| !status.serving).collect();
    for (view, _) in &refusing {
        findings
            .note(lun, format!(": not served by {}; its hosts should use the other controller.", view.name));
    }
    if refusing.is_empty()
        && let Some(text) = known.first().and_then(|(_, status)| pair_finding(status))
    {
        findings.note(lun, text);
    }
}

/// The reasons the controllers give, each with who gives it.
fn reasons<'v>(known: &[(&'v View, &'v LunStatus)]) -> Vec<(&'v str, Vec<&'v str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (view, status) in known {
        let Some(reason) = status.reason.as_deref() else { continue };
        match reasons.iter_mut().find(|(text, _)| *text == reason) {
            Some((_, names)) => names.push(&view.name),
            None => reasons.push((reason, vec![&view.name])),
        }
    }
    reasons
}

fn pair_finding(status: &LunStatus) -> Option<String> {
    let main = &status.main;
    match status.status {
        PairStatus::Simplex | PairStatus::Duplex => None,
        PairStatus::Copy => Some(format!(
            ": being copied; until that is done only the copy of {main} is complete. Leave {main} running; nothing \
             else to do."
        )),
        PairStatus::Split => Some(": split by a person; the two copies differ by intent.".to_owned()),
        PairStatus::Suspended => Some(format!(
            ": suspended; new writes are on one copy only, {main}'s. Do not delete or move that volume; start the \
             other controller or repair the interlink."
        )),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
pub(super) mod tests;
