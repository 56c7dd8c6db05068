//! One run: from its settings to what it met, or to the mistake it showed.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::trace::LastEvents;
use super::{Report, Settings, Simulation};

/// A run that ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// What it met.
    pub report: Report,
    /// A hash over everything that happened.
    pub hash: u64,
}

/// A run that showed a mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its scenario, if it had one.
    pub scenario: Option<&'static str>,
    /// What was wrong.
    pub what: String,
    /// The last events before it was found.
    pub last: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed;
        writeln!(f, "seed {seed}: {}", self.what)?;
        writeln!(f, "the last events:")?;
        self.last.iter().try_for_each(|event| writeln!(f, "  {event}"))?;
        write!(f, "replay: cargo run -p twinlun-tests --bin simulate -- --seed {seed} --trace")?;
        self.scenario.map_or(Ok(()), |name| write!(f, " --scenario {name}"))
    }
}

/// Runs a simulation to its end and judges it.
pub fn run(settings: &Settings) -> Result<Run, Failure> {
    let what = match judged(settings) {
        Ok(run) => return Ok(run),
        Err(what) => what,
    };
    // The same again, to see its end: keeping the words of every event costs too much in runs that are well.
    let last = LastEvents::default();
    let again = judged(&Settings { last: Some(last.clone()), ..settings.clone() });
    debug_assert_eq!(again, Err(what.clone()), "the same seed gives the same run");
    Err(Failure { seed: settings.seed, scenario: settings.scenario, what, last: last.take() })
}

fn judged(settings: &Settings) -> Result<Run, String> {
    let result = catch_unwind(AssertUnwindSafe(|| Simulation::new(settings.clone()).run()));
    Err(match result {
        Ok(Ok(run)) => return Ok(run),
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panic: {}", text.unwrap_or_default())
        }
    })
}
