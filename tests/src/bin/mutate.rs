//! Feeds mutated bytes to everything that reads what somebody else wrote, for as long as wanted; or one input again.
//! Ends with status 1 at the first failure, and says how it is seen again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use peak_alloc::PeakAlloc;
use twinlun_tests::mutation::{self, Memory, TARGETS, Target};

/// Counts every byte that is allocated.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

struct Counted;

impl Memory for Counted {
    fn begin(&self) -> usize {
        ALLOCATED.reset_peak_usage();
        ALLOCATED.current_usage()
    }

    fn peak(&self) -> usize {
        ALLOCATED.peak_usage()
    }
}

/// Feeds mutated bytes to every parser and to the session.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if nothing failed; 1 at the first failure; 2 for a mistake on the command line."
)]
struct Arguments {
    /// For so many seconds, shared out among the targets
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the inputs are drawn from; the same seed draws the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One target alone, by its name; without it all of them
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// This input alone, in hexadecimal
    #[arg(long, requires = "target", value_parser = bytes)]
    input: Option<Input>,
}

#[derive(Clone)]
struct Input(Vec<u8>);

fn bytes(hex: &str) -> Result<Input, String> {
    let pairs = hex.as_bytes().chunks(2);
    let byte =
        |pair: &[u8]| core::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    pairs
        .map(byte)
        .collect::<Option<_>>()
        .map(Input)
        .ok_or_else(|| "hexadecimal digits are needed".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| arguments.target.as_ref().is_none_or(|name| name == target.name))
        .collect();
    let Some(first) = chosen.first() else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("there is no such target; there are {}", names.join(", "));
        return ExitCode::from(2);
    };
    if let Some(Input(input)) = &arguments.input {
        return match mutation::read_one(first, input, &Counted) {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                println!("{}: {what}", first.name);
                ExitCode::FAILURE
            }
        };
    }
    let share = Duration::from_secs(arguments.seconds) / chosen.len() as u32;
    let mut well = true;
    for target in chosen {
        match mutation::run(target, arguments.seed, u64::MAX, Instant::now() + share, &Counted) {
            Ok(inputs) => println!("{}: {inputs} inputs", target.name),
            Err(failure) => {
                println!("{failure}");
                well = false;
            }
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
