//! Sequences of reservations through both controllers, one of which or both are killed with one of them under way.
//! Afterwards both must show what was last answered, or that and the one that was not.
//!
//! What is right is decided by [`crate::judge::reservations`], as in the simulated world.

use std::fmt;
use std::time::Duration;

use controller::time::Time;

use super::pair::{IQN, Pair};
use super::{Failure, MAIN, NAMES, SUB};
use crate::initiator::reservation::{self, Heard};
use crate::initiator::tcp::Session;
use crate::initiator::{Request, Settings};
use crate::judge::reservations::state::{Command, Nexus, Session as Requester};
use crate::judge::reservations::{EventId, Judge};
use crate::random::Random;
use crate::workload::events::{self, Events};

/// Hosts: the even ones are logged in to main, the odd ones to the sub.
const HOSTS: u32 = 4;

/// Events that are answered before one is caught by a kill.
const ANSWERED: u64 = 6;

/// A kill comes up to so long after the event has left its host, in microseconds.
const LATE_MAX_US: u64 = 3_000;

const EVENTS: Events = Events { percent: 100, legacy: false, modes: true };

/// What is told through both controllers in the end.
const TOLD: [Command; 3] = [Command::ReadKeys, Command::ReadReservation, Command::ReadFullStatus];

/// The controllers that are killed, in turn.
const KILLED: [&[usize]; 3] = [&[MAIN], &[SUB], &[MAIN, SUB]];

/// What one sequence met.
#[derive(Clone, Debug)]
pub struct Report {
    killed: &'static [usize],
    caught: Command,
    answered: bool,
    registrants: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.killed.iter().map(|side| NAMES[*side]).collect();
        let caught = match &self.caught {
            Command::Out(out) => format!("{:?}, APTPL {}", out.action, u8::from(out.aptpl)),
            other => format!("{other:?}"),
        };
        let fate = if self.answered { "answered" } else { "not answered" };
        write!(
            f,
            "kill -9 {} at {caught}, {fate}: {} registrants left",
            names.join(" and "),
            self.registrants
        )
    }
}

/// A run of sequences on one pair.
#[derive(Debug)]
pub struct Run {
    pair: Pair,
    judge: Judge,
    random: Random,
    sessions: Vec<Session>,
    logins: u32,
}

impl Run {
    /// Begins with a pair that is DUPLEX and has no reservations.
    pub fn begin(pair: Pair, seed: u64) -> Result<Self, Failure> {
        let (judge, random) = (Judge::new(false), Random::new(seed));
        let mut run = Self { pair, judge, random, sessions: Vec::new(), logins: 0 };
        run.log_in()?;
        Ok(run)
    }

    /// The sequence of a number: its kill is the next in turn.
    pub fn sequence(&mut self, number: usize) -> Result<Report, Failure> {
        for _ in 0..ANSWERED {
            let host = self.random.below(u64::from(HOSTS)) as u32;
            let command = self.draw(host);
            self.execute(host, command)?;
        }
        let killed = KILLED[number % KILLED.len()];
        let host = self.random.below(u64::from(HOSTS)) as u32;
        let caught = loop {
            let command = self.draw(host);
            if matches!(command, Command::Out(_)) {
                break command;
            }
        };
        let answered = self.kill_at(host, &caught, killed)?;
        for side in killed {
            self.pair.spawn(*side)?;
        }
        self.pair.wait_until_duplex()?;
        // All is well: what was not answered has happened by now or never will.
        self.judge.settle(Time(u64::MAX));
        self.log_in()?;
        for command in TOLD {
            for host in 0..HOSTS {
                self.execute(host, command.clone())?;
            }
        }
        let registrants = self.judge.a_state().keys.iter().count();
        Ok(Report { killed, caught, answered, registrants })
    }

    /// Ends the controllers cleanly.
    pub fn end(mut self) -> Result<(), Failure> {
        self.sessions.clear();
        self.pair.stop()
    }

    fn who(&self, host: u32) -> Requester {
        Requester { nexus: Nexus { host, port: side(host) as u16 + 1 }, number: self.logins }
    }

    fn draw(&mut self, host: u32) -> Command {
        let who = self.who(host);
        events::draw(&mut self.random, EVENTS, self.judge.a_state(), who, HOSTS)
    }

    fn log_in(&mut self) -> Result<(), Failure> {
        self.sessions.clear();
        self.logins += 1;
        for host in 0..HOSTS {
            let settings = Settings::linux(&reservation::host_name(host), IQN, host as u16);
            self.sessions.push(Session::connect(self.pair.portals[side(host)], settings)?);
        }
        Ok(())
    }

    fn begin_event(&mut self, host: u32, command: &Command) -> Result<EventId, Failure> {
        let (cdb, out, in_bytes) = reservation::request(command)
            .ok_or_else(|| Failure::Host(format!("{command:?} is no command")))?;
        let id = self.judge.begin(self.who(host), command.clone());
        self.sessions[host as usize].submit(Request { lun: 0, cdb, out, in_bytes })?;
        Ok(id)
    }

    /// One that is answered; again after a unit attention.
    fn execute(&mut self, host: u32, command: Command) -> Result<(), Failure> {
        loop {
            let id = self.begin_event(host, &command)?;
            let (_, response) = self.sessions[host as usize].completion()?;
            match reservation::heard(&command, &response, HOSTS).map_err(Failure::Host)? {
                Heard::Answer(answer) => {
                    return self.judge.answered(id, &answer, &response.data).map_err(Failure::Host);
                }
                Heard::NotDone => self.judge.refused(id).map_err(Failure::Host)?,
                Heard::Unknown => {
                    let what = format!("{:02x?} to {command:?} though nothing failed", response.code());
                    return Err(Failure::Host(what));
                }
            }
        }
    }

    /// One that is under way when controllers are killed; whether it was answered.
    fn kill_at(&mut self, host: u32, command: &Command, killed: &[usize]) -> Result<bool, Failure> {
        // A unit attention would end it before it has begun.
        self.execute(host, Command::ReadKeys)?;
        let late = self.random.skewed(0, LATE_MAX_US);
        let id = self.begin_event(host, command)?;
        std::thread::sleep(Duration::from_micros(late));
        for side in killed {
            self.pair.kill(*side)?;
        }
        let response = self.sessions[host as usize].completion().ok();
        let heard = response.as_ref().map(|(_, response)| reservation::heard(command, response, HOSTS));
        let answered = match heard.transpose().map_err(Failure::Host)? {
            Some(Heard::Answer(answer)) => {
                self.judge.answered(id, &answer, &[]).map_err(Failure::Host)?;
                true
            }
            Some(Heard::NotDone) => {
                self.judge.refused(id).map_err(Failure::Host)?;
                true
            }
            Some(Heard::Unknown) | None => {
                self.judge.lost(id, Time(0));
                false
            }
        };
        if killed.len() == KILLED[2].len() {
            self.judge.lose_power(true);
        }
        Ok(answered)
    }
}

const fn side(host: u32) -> usize {
    (host % 2) as usize
}
