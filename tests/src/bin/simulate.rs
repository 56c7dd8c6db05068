//! Runs the simulated world: one seed, or many; prints what they met. Ends with status 1 at the first failure.

use std::process::ExitCode;

use clap::Parser;
use twinlun_tests::world::{self, Report, Settings, long_work, resets, scenario, scenarios};

/// Runs the simulated world under seeds.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if every run was well; 1 at the first failure; 2 for a mistake on the command line."
)]
struct Arguments {
    /// Run this seed alone
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds: FIRST..END, without END
    #[arg(long, value_parser = range, default_value = "0..100")]
    seeds: (u64, u64),
    /// Print every event
    #[arg(long)]
    trace: bool,
    /// Go on after a failure
    #[arg(long)]
    all: bool,
    /// Instead of the run of the seed: a scenario by its name, for instance faults
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let parse = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = text.split_once("..").ok_or("a range like 0..500 is needed")?;
    Ok((parse(from)?, parse(to)?))
}

fn all() -> impl Iterator<Item = &'static (&'static str, scenario::Scenario)> {
    scenario::ALL.iter().chain(&scenarios::ALL).chain(&resets::ALL).chain(&long_work::ALL)
}

fn settings(seed: u64, arguments: &Arguments) -> Option<Settings> {
    let settings = match arguments.scenario.as_deref() {
        None => Settings::of_seed(seed),
        Some(name) => all().find(|(known, _)| *known == name)?.1(seed),
    };
    Some(Settings { print: arguments.trace, ..settings })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, to) = arguments.seed.map_or(arguments.seeds, |seed| (seed, seed + 1));
    let mut sum = Report::default();
    let mut failures = 0;
    for seed in from..to {
        let Some(settings) = settings(seed, &arguments) else {
            eprintln!(
                "there is no such scenario; there are {}",
                all().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            );
            return ExitCode::from(2);
        };
        match world::run(&settings) {
            Ok(run) if to - from == 1 => println!("seed {seed}: trace {:016x}\n{}", run.hash, run.report),
            Ok(run) => sum += run.report,
            Err(failure) => {
                println!("{failure}");
                failures += 1;
                if !arguments.all {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    if to - from > 1 {
        println!("seeds {from}..{to}:\n{sum}");
    }
    if failures > 0 {
        println!("{failures} seeds failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
