//! `twinlun status`: what a person at 3 a.m. needs on one screen. What is wrong comes last, where the eye rests,
//! each with what it means for the data and what is safe to do next.

mod problems;
mod screen;

use std::thread;
use std::time::Duration;

use controller::pair::Role;
use controller::plan::Side;
use controller::status::{ControllerStatus, HostStatus, LunStatus, PeerReport};
use serde::Serialize;

use super::control::{self, AskError};
use super::promises;
use crate::config::{Config, Lun};

pub(super) use screen::{interlink, progress, word};

/// What each controller answers.
type Answers = [Result<ControllerStatus, AskError>; 2];

/// How often both are asked again when they seem to contradict each other, and after how long.
const ASKED_AGAIN_MAX: u32 = 3;
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(100);

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
    /// What is well and may not stay so.
    warnings: Vec<String>,
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
    /// What it told the other controller last, where it could not be asked itself.
    said: Option<PeerReport>,
    /// Whether it runs, as it or its peer says.
    running: bool,
}

/// One LUN on one controller, and whether that is how it is or how it was.
#[derive(Clone, Copy)]
struct Seen<'v> {
    lun: &'v LunStatus,
    current: bool,
}

impl View {
    /// It runs on this machine, but says nothing.
    fn hangs(&self) -> bool {
        self.not_asked.as_ref().is_some_and(|why| *why == AskError::Silent.to_string())
    }

    /// A LUN, as this controller says itself or told its peer.
    fn find(&self, lun: &Lun) -> Option<Seen<'_>> {
        self.find_named(lun.number, &lun.name)
    }

    fn find_named(&self, number: u16, name: &str) -> Option<Seen<'_>> {
        let (luns, current) = self.luns();
        let lun = luns.iter().find(|known| known.number == number && known.name == name)?;
        Some(Seen { lun, current })
    }

    /// All its LUNs, and whether that is how they are or how they were.
    fn luns(&self) -> (&[LunStatus], bool) {
        match (&self.status, &self.said) {
            (Some(status), _) => (&status.luns, true),
            (None, Some(said)) => (&said.luns, said.current),
            (None, None) => (&[], false),
        }
    }

    /// The hosts logged in there as far as they are named, and how many there are.
    fn hosts(&self) -> (&[HostStatus], usize) {
        match (&self.status, &self.said) {
            (Some(status), _) => (&status.hosts, status.hosts.len()),
            (None, Some(said)) if said.current => (&said.hosts, said.hosts_count as usize),
            (None, _) => (&[], 0),
        }
    }
}

/// LUNs that controllers have and the file does not name: number and name, ascending.
fn not_in_the_file<'v>(config: &Config, controllers: &'v [View; 2]) -> Vec<(u16, &'v str)> {
    let named = |lun: &LunStatus| {
        config.luns.iter().any(|known| known.number == lun.number && known.name == lun.name)
    };
    let all = controllers.iter().flat_map(|view| view.luns().0).filter(|lun| !named(lun));
    let mut luns: Vec<(u16, &str)> = all.map(|lun| (lun.number, lun.name.as_str())).collect();
    luns.sort_unstable();
    luns.dedup();
    luns
}

/// What both answer to one question: as they are asked one after the other, the roles may change in between. Asked
/// again, after `wait`, what is only that is over.
fn consistent(mut ask: impl FnMut() -> Answers, mut wait: impl FnMut()) -> Answers {
    let mut answers = ask();
    for _ in 0..ASKED_AGAIN_MAX {
        if !have_two_mains(&answers) {
            break;
        }
        wait();
        answers = ask();
    }
    answers
}

/// Whether both call themselves main of some LUN.
fn have_two_mains(answers: &Answers) -> bool {
    let [Ok(first), Ok(second)] = answers else { return false };
    let is_main = |lun: &LunStatus| lun.role == Role::Main;
    let mut mains = first.luns.iter().filter(|lun| is_main(lun));
    mains.any(|lun| second.luns.iter().any(|other| other.number == lun.number && is_main(other)))
}

impl Overview {
    /// Asks both controllers at their control sockets.
    pub(super) fn ask(config: &Config) -> Self {
        let answers = consistent(
            || [Side::First, Side::Second].map(|side| control::ask(&config.control_socket(side))),
            || thread::sleep(ASKED_AGAIN_AFTER),
        );
        Self::from_answers(config, answers)
    }

    fn from_answers(config: &Config, answers: Answers) -> Self {
        let linked = answers.iter().flatten().any(|status| status.interlink.up);
        let said = |by: &Result<ControllerStatus, AskError>| by.as_ref().ok()?.peer_said.clone();
        let told = [said(&answers[1]), said(&answers[0])];
        let names = config.controllers.clone().map(|controller| controller.name);
        let mut views = names.into_iter().zip(answers).zip(told).map(|((name, answer), said)| View {
            name,
            running: answer.is_ok() || linked,
            not_asked: answer.as_ref().err().map(ToString::to_string),
            said: said.filter(|_| answer.is_err()),
            status: answer.ok(),
        });
        let missing =
            || View { name: String::new(), status: None, not_asked: None, said: None, running: false };
        let controllers = [(); 2].map(|()| views.next().unwrap_or_else(missing));
        let appliance =
            controllers.iter().flat_map(|view| &view.status).find_map(|status| status.appliance.clone());
        let problems = problems::problems(config, &controllers);
        let warnings = promises::of_status(controllers.iter().filter_map(|view| view.status.as_ref()));
        let (ok, iqn) = (problems.is_empty(), config.appliance.iqn.clone());
        Self { ok, iqn, appliance, problems, warnings, controllers }
    }

    /// What is known of a LUN: as its main says, or else as anybody says now, or else as it was.
    pub(super) fn lun(&self, number: u16, name: &str) -> Option<&LunStatus> {
        let seen: Vec<Seen<'_>> =
            self.controllers.iter().filter_map(|view| view.find_named(number, name)).collect();
        let best = seen.iter().max_by_key(|seen| (seen.current, seen.lun.role == Role::Main))?;
        Some(best.lun)
    }

    /// The screen.
    pub(super) fn render(&self, config: &Config) -> String {
        screen::render(self, config)
    }
}

#[cfg(test)]
pub(super) mod tests;
