//! What is wrong, in sentences: what it means for the data, and what is safe to do next.

use controller::pair::{PairStatus, Role};
use controller::status::LunStatus;

use super::screen::for_how_long;
use super::{AskError, Seen, View};
use crate::config::{Config, Lun};
use crate::interlink::tls::certificates::only_here;

/// LUNs named in one line at most.
const TITLES_MAX: usize = 4;

pub(super) fn problems(config: &Config, controllers: &[View; 2]) -> Vec<String> {
    if controllers.iter().all(|view| view.status.is_none()) {
        return unreachable(config, controllers);
    }
    let mut findings = Findings::default();
    for lun in &config.luns {
        lun_findings(lun, controllers, &mut findings);
    }
    let mut problems = interlink_problems(config, controllers);
    problems.extend(not_heard(controllers));
    problems.extend(notes(controllers));
    problems.extend(no_longer_named(config, controllers));
    problems.extend(findings.lines());
    let troubles = controllers.iter().flat_map(|view| &view.status).flat_map(|status| &status.troubles);
    problems.extend(troubles.map(|trouble| format!("{}.", trouble.trim_end_matches('.'))));
    problems
}

/// The two have met, and what one of them says of its LUNs has not come yet.
fn not_heard(controllers: &[View; 2]) -> Option<String> {
    let silent =
        controllers.iter().find(|view| view.running && view.status.is_none() && view.said.is_none())?;
    let asked = controllers.iter().find(|view| view.status.is_some())?;
    (!silent.hangs()).then(|| {
        format!(
            "{} runs, but {} has not heard from it yet how its LUNs are. That takes a moment after the two have met: \
             look again.",
            silent.name, asked.name
        )
    })
}

/// LUNs that controllers have and the file does not name.
fn no_longer_named(config: &Config, controllers: &[View; 2]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (number, name) in super::not_in_the_file(config, controllers) {
        let has = |view: &&View| view.find_named(number, name).is_some_and(|seen| seen.current);
        let names: Vec<&str> = controllers.iter().filter(has).map(|view| view.name.as_str()).collect();
        if !names.is_empty() {
            let names = names.join(" and ");
            lines.push(format!(
                "LUN {number} {name}: not in the file, but {names} was started with it and goes on with it. Its data \
                 stays where it is. If it is to go, start {names} again; if not, put it back into the file."
            ));
        }
    }
    lines
}

/// What the controllers note beyond their LUNs, each once; of one that could not be asked, what it told the other.
fn notes(controllers: &[View; 2]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for view in controllers {
        let said = view.said.iter().filter(|said| said.current).flat_map(|said| said.notes.iter().cloned());
        let own = view.status.iter().flat_map(|status| {
            let contests = status.contests.iter().map(ToString::to_string);
            status.notes.iter().cloned().chain(contests)
        });
        for note in own.chain(said) {
            let note = note.trim_end_matches('.');
            // What one tells the other may be cut.
            if !notes.iter().any(|known| known.starts_with(note)) {
                notes.push(format!("{note}."));
            }
        }
    }
    notes
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
fn unreachable(config: &Config, controllers: &[View; 2]) -> Vec<String> {
    let reasons: Vec<&str> = controllers.iter().filter_map(|view| view.not_asked.as_deref()).collect();
    let not_running = AskError::NotRunning.to_string();
    if reasons.iter().all(|reason| *reason == not_running) {
        let start = match only_here(config) {
            Some(side) => format!(
                "`twinlun run --controller {0}`, or `systemctl start twinlun@{0}` where the package is installed",
                config.controller(side).name
            ),
            None => "`twinlun run`, or `twinlun run --controller NAME` for one of the two".to_owned(),
        };
        return vec![format!(
            "No controller runs on this machine, so it serves no hosts; the data stays as it is. Start it: {start}."
        )];
    }
    controllers
        .iter()
        .filter_map(|view| Some(format!("{} cannot be asked: {}.", view.name, view.not_asked.as_ref()?)))
        .collect()
}

/// A controller that does not get on parts from the other by itself: no network is to be looked at.
fn stuck(controllers: &[View; 2]) -> Vec<String> {
    let stuck = |view: &View| {
        let stuck = view.status.as_ref()?.stuck.as_ref()?;
        Some(format!(
            "{name} does not get on ({what} for {seconds} s): its hosts hear nothing, and it has parted from the other \
             controller, which goes on where it is main. If nothing changes, {name} ends by itself in {ends} s: see \
             that it is started again, they then meet by themselves. Keep both volumes where they are, and the log.",
            name = view.name,
            what = stuck.what,
            seconds = stuck.seconds,
            ends = stuck.ends_in_seconds,
        ))
    };
    controllers.iter().filter_map(stuck).collect()
}

fn interlink_problems(config: &Config, controllers: &[View; 2]) -> Vec<String> {
    let stuck = stuck(controllers);
    if !stuck.is_empty() {
        return stuck;
    }
    if controllers.iter().flat_map(|view| &view.status).all(|status| status.interlink.up) {
        return Vec::new();
    }
    if let Some(refused) = refused(controllers) {
        return vec![refused];
    }
    let [first, second] = controllers;
    let addresses =
        || config.controllers.iter().flat_map(|controller| &controller.interlink).collect::<Vec<_>>();
    let named = || addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (here, away) = match (&first.status, &second.status) {
        (Some(_), Some(_)) => {
            return vec![format!(
                "{} and {} both run but do not reach each other, so writes are not mirrored. Check the network \
                 between their interlink addresses ({}) and what the log says; they meet again by themselves.",
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
    let start = format!("`twinlun run --controller {away_name}`");
    let safe = "that is safe, it serves nothing that is not certain to be current";
    if away.hangs() {
        let text = "runs on this machine but does not answer: it is stopped (SIGSTOP, a debugger), or the machine \
                    is overloaded. When it goes on, the two meet again by themselves; if it never does, end it and \
                    start it again";
        return vec![format!("{away_name} {text}.")];
    }
    if why != AskError::NotRunning.to_string() {
        return vec![format!("{away_name} cannot be asked: {why}.")];
    }
    if controllers.iter().flat_map(|view| &view.status).any(|status| status.interlink.mute) {
        return vec![format!(
            "The machine of {away_name} takes connections of the interlink, but {away_name} says nothing: it is \
             stopped (SIGSTOP, a debugger), it hangs, or its machine is overloaded. Look at the process there: `kill \
             -CONT` lets a stopped one go on, and the two meet again by themselves; if it never does, end it with \
             `kill -9` and start it again. No network is to be looked at."
        )];
    }
    if addresses().iter().all(|address| address.ip().is_loopback()) {
        return vec![format!("{away_name} does not run. Start it: {start}; {safe}.")];
    }
    let since = away.said.as_ref().map(|said| format!(" since {}", for_how_long(said.age_seconds)));
    vec![format!(
        "{here} does not reach {away_name}{}. If {away_name} does not run on its machine, start it there: {start}, or \
         `systemctl start twinlun@{away_name}` where the package is installed; {safe}. \
         If it does, check the network between their interlink addresses ({}).",
        since.unwrap_or_default(),
        named()
    )]
}

/// The two reach each other, but one refuses the other: the one that knows why says it.
fn refused(controllers: &[View; 2]) -> Option<String> {
    let status = controllers.iter().flat_map(|view| &view.status).find(|status| status.interlink.refused)?;
    let (name, peer) = (&status.controller, &status.peer);
    let reason = status.interlink.reason.as_deref().unwrap_or_default().trim_end_matches('.');
    Some(format!("{name} reaches {peer}, but the two do not work together: {reason}."))
}

fn lun_findings(lun: &Lun, controllers: &[View; 2], findings: &mut Findings) {
    let asked: Vec<(&View, &LunStatus)> = controllers
        .iter()
        .filter(|view| view.status.is_some())
        .filter_map(|view| Some((view, view.find(lun)?.lun)))
        .collect();
    for view in controllers.iter().filter(|view| view.status.is_some() && view.find(lun).is_none()) {
        let name = &view.name;
        findings.note(
            lun,
            format!(": in the file, but {name} was started without it; start {name} again to serve it."),
        );
    }
    if asked.len() == 2 && asked.iter().all(|(_, status)| status.role == Role::Main) {
        let text = ": both controllers call themselves main. Stop the hosts' writing, then one of the controllers, \
                    and keep both volumes.";
        findings.note(lun, text.to_owned());
    }
    let reasons = reasons(&known(lun, controllers, &asked));
    for (reason, names) in &reasons {
        let who = match names.as_slice() {
            [name] => format!(", says {name}"),
            _ => String::new(),
        };
        findings.note(lun, format!("{who}: {}.", reason.trim_end_matches('.')));
    }
    if !reasons.is_empty() {
        return;
    }
    // Whatever is wrong without a reason still has to be said.
    let refusing: Vec<_> = asked.iter().filter(|(_, status)| !status.serving).collect();
    for (view, _) in &refusing {
        findings
            .note(lun, format!(": not served by {}; its hosts should use the other controller.", view.name));
    }
    if refusing.is_empty()
        && let Some(text) = asked.first().and_then(|(_, status)| pair_finding(status))
    {
        findings.note(lun, text);
    }
}

/// Those who were asked, and what the peer of one of them told it, where that is about the same state: its word
/// may be a little older than what the other says now.
fn known<'v>(
    lun: &Lun,
    controllers: &'v [View; 2],
    asked: &[(&'v View, &'v LunStatus)],
) -> Vec<(&'v View, &'v LunStatus)> {
    let told = controllers.iter().filter(|view| view.status.is_none()).filter_map(|view| {
        let Seen { lun, current } = view.find(lun)?;
        let same = asked.iter().all(|(_, own)| (own.status, &own.main) == (lun.status, &lun.main));
        (current && same).then_some((view, lun))
    });
    asked.iter().copied().chain(told).collect()
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
