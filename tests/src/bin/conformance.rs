//! Runs libiscsi's conformance tests against an appliance of its own, each alone and by family, through main, through
//! the sub and over both. Ends with status 1 if one fails or is skipped without a reason.

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use twinlun_tests::appliance::{Appliance, Lun, Processes};
use twinlun_tests::conformance::{Skips, Table, families, family, run, run_family, tests};

/// The LUN most tests run on.
const LUN: Lun = Lun { number: 0, mib: 1000, main: 0, mirror: true };

/// The LUN that no host may write.
const READ_ONLY: Lun = Lun { number: 1, mib: 16, main: 0, mirror: true };

/// A LUN whose physical blocks are logical ones.
const SMALL_BLOCKS: Lun = Lun { number: 2, mib: 64, main: 0, mirror: true };

/// LUNs that no test has written: for MultipathIO through main and through the sub, alone and as a family. Its test of
/// COMPARE AND WRITE makes blocks 0 to 255 zeros, but takes block 256 for zeros too.
const FRESH: [[Lun; 2]; 2] = [[fresh(3), fresh(4)], [fresh(5), fresh(6)]];

const fn fresh(number: u16) -> Lun {
    Lun { number, mib: 16, main: 0, mirror: true }
}

/// Runs libiscsi's conformance tests against an appliance of its own.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if every test passed or has a reason; 1 if one failed or was skipped without a \
                  reason; 2 for a mistake on the command line."
)]
struct Arguments {
    /// Only tests with one of these words in their name, for instance Verify or Read10.Simple
    words: Vec<String>,
    /// Only through this controller: main, sub; without it both, and over both paths
    #[arg(long, value_name = "WHICH")]
    through: Option<String>,
    /// Print everything that a test said which is not as it should be
    #[arg(long)]
    verbose: bool,
    /// Each test alone, not by family as well
    #[arg(long)]
    alone: bool,
}

fn main() -> ExitCode {
    match conformance(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the conformance tests could not be run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn conformance(arguments: &Arguments) -> io::Result<bool> {
    let begun = Instant::now();
    let chosen = |test: &String| {
        arguments.words.is_empty() || arguments.words.iter().any(|word| test.contains(word.as_str()))
    };
    let tests: Vec<String> = tests()?.into_iter().filter(chosen).collect();
    let keys = |number| match number {
        1 => "read_only = true\n",
        2 => "",
        _ => "physical_block = \"4 KiB\"\n",
    };
    let mut luns = vec![LUN, READ_ONLY, SMALL_BLOCKS];
    luns.extend(FRESH.as_flattened());
    let appliance = Appliance::start_with_keys("conformance", &luns, Processes::Two, keys)?;
    let skips = Skips::checked_in();
    let mut table = Table::default();
    let mut objections = Vec::new();
    for (controller, column) in [(0, "main"), (1, "sub")] {
        if arguments.through.as_deref().is_some_and(|through| through != column) {
            continue;
        }
        for test in &tests {
            let mut ended = run(test, &urls(&appliance, controller, test, Asked::Alone))?;
            ended.verdict = skips.weigh(test, ended.verdict);
            table.add(column, test, ended.verdict);
            if let Some(objection) = skips.objection(test, &ended) {
                println!("{column}: {objection}");
                if arguments.verbose {
                    println!("{}", ended.said);
                }
                objections.push(objection);
            }
        }
        for family in families(&tests).iter().filter(|_| !arguments.alone) {
            let (counts, said) = run_family(family, &urls(&appliance, controller, family, Asked::AsFamily))?;
            if !counts.is_some_and(|[ran, failed]| ran > 0 && failed == 0) {
                println!("{column}: {family} as a whole: {counts:?} tests ran and failed\n{said}");
                objections.push(family.clone());
            }
        }
    }
    println!("{}", table.render());
    println!("{} s", begun.elapsed().as_secs());
    appliance.stop()?;
    Ok(objections.is_empty())
}

/// What is run.
#[derive(Clone, Copy)]
enum Asked {
    /// One test.
    Alone,
    /// A family as a whole.
    AsFamily,
}

/// Where a test runs: on the read-only LUN what needs one, over both controllers what needs two paths. UnmapSingle
/// makes holes of whole physical blocks and then asks for the status of block i + 1, but expects an answer that begins
/// with the next physical block, where SBC-3 5.4.2 begins with the block asked for: they agree only if a physical block
/// is a logical one.
fn urls(appliance: &Appliance, controller: usize, test: &str, asked: Asked) -> Vec<String> {
    match family(test) {
        "ReadOnly" => vec![appliance.url(controller, READ_ONLY.number)],
        "MultipathIO" => {
            let lun = FRESH[controller][asked as usize].number;
            [controller, 1 - controller].map(|at| appliance.url(at, lun)).to_vec()
        }
        "GetLBAStatus" if matches!(test, "GetLBAStatus" | "GetLBAStatus.UnmapSingle") => {
            vec![appliance.url(controller, SMALL_BLOCKS.number)]
        }
        _ => vec![appliance.url(controller, LUN.number)],
    }
}
