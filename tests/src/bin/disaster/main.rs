//! Lets disasters befall a pair of real processes under load, for as long as asked; ends with status 1 at the
//! first violation. As root, the interlink is cut as well, between network namespaces.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use twinlun_tests::disaster::network::{Cut, Network};
use twinlun_tests::disaster::pair::Pair;
use twinlun_tests::disaster::round::{Run, Settings};
use twinlun_tests::disaster::{Disaster, Failure, MAIN, SUB, reservations};

/// Lets disasters befall a pair of real processes under load.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 if nothing was violated; 1 at the first violation; \
                  2 for a mistake on the command line.")]
struct Arguments {
    /// What the hosts do is drawn from this; the same seed draws the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long, in minutes, for each of the two parts: processes, and the interlink
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How long a controller is stopped or the interlink cut, in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Only this part: processes, interlink, reservations; without it all of them, the interlink only as root
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// How many sequences of reservations meet a kill
    #[arg(long, default_value_t = 30)]
    sequences: usize,
    /// Print every screen of `status`
    #[arg(long)]
    screens: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let wanted = |part: &str| arguments.only.as_deref().is_none_or(|only| only == part);
    let processes = [
        Disaster::Kill(MAIN),
        Disaster::Kill(SUB),
        Disaster::Pause(MAIN, time),
        Disaster::Pause(SUB, time),
        Disaster::LoseVolume(MAIN),
        Disaster::End(SUB),
        Disaster::End(MAIN),
        Disaster::LoseVolume(SUB),
        Disaster::KillBoth,
    ];
    if wanted("processes") && !part("processes", None, &processes, &arguments) {
        return ExitCode::FAILURE;
    }
    if wanted("reservations") && !reservations(&arguments) {
        return ExitCode::FAILURE;
    }
    if !wanted("interlink") {
        return ExitCode::SUCCESS;
    }
    let cuts = [Cut::BothWays, Cut::From(MAIN), Cut::From(SUB), Cut::Unplugged];
    match Network::build() {
        Err(why) => println!("the interlink is not cut: {why}"),
        Ok(network) => {
            let mut disasters = cuts.map(|cut| Disaster::Cut(cut, time)).to_vec();
            disasters.push(Disaster::CutAndPause(time));
            if !part("interlink", Some(network), &disasters, &arguments) {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn reservations(arguments: &Arguments) -> bool {
    println!("reservations, seed {}", arguments.seed);
    let run = || -> Result<(), Failure> {
        let mut run = reservations::Run::begin(Pair::start("reservations", None)?, arguments.seed)?;
        for sequence in 0..arguments.sequences {
            println!("{:>4}  {}", sequence + 1, run.sequence(sequence)?);
        }
        run.end()
    };
    match run() {
        Ok(()) => {
            println!(
                "{} sequences: both show the last answered state, or the unanswered event too",
                arguments.sequences
            );
            true
        }
        Err(failure) => {
            println!("reservations, seed {}: {failure}", arguments.seed);
            false
        }
    }
}

fn part(name: &str, network: Option<Network>, disasters: &[Disaster], arguments: &Arguments) -> bool {
    println!("{name}, seed {}", arguments.seed);
    match strike(name, network, disasters, arguments) {
        Ok(()) => true,
        Err(failure) => {
            println!("{name}, seed {}: {failure}", arguments.seed);
            false
        }
    }
}

/// One disaster after the other until the time is over, every one at least once.
fn strike(
    name: &str,
    network: Option<Network>,
    disasters: &[Disaster],
    arguments: &Arguments,
) -> Result<(), Failure> {
    let settings = Settings { seed: arguments.seed, filled_mib: 512, print: arguments.screens };
    let mut run = Run::begin(Pair::start(name, network)?, settings)?;
    let begun = Instant::now();
    let mut pause = Duration::ZERO;
    let mut rounds = 0;
    for (round, disaster) in (0..Run::ROUNDS_MAX).zip(disasters.iter().cycle()) {
        let over = begun.elapsed() > Duration::from_secs(60 * arguments.minutes);
        if over && round as usize >= disasters.len() {
            break;
        }
        let report = run.round(*disaster)?;
        println!("{:>4} s  {report}", begun.elapsed().as_secs());
        pause = pause.max(report.pause.unwrap_or_default());
        rounds += 1;
    }
    run.end()?;
    println!("{rounds} rounds; longest pause of main's hosts while it went on: {} ms", pause.as_millis());
    println!("both volumes are identical and hold everything acknowledged");
    Ok(())
}
