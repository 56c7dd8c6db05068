//! How long hosts wait at most while a pair changes in a planned way: roles are swapped, a pair is split and made
//! identical again, a controller ends cleanly and comes back. Hosts write and read through the controller that stays,
//! one command at a time, and no command may fail. Fails when one takes more than 250 ms while roles change or a
//! controller ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

/// What hosts may wait for while a controller hands its LUNs to the other.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The controller that stays is main of one of them.
const LUNS: [Lun; 2] =
    [Lun { number: 0, mib: 64, main: 0, mirror: true }, Lun { number: 1, mib: 64, main: 1, mirror: true }];

const BLOCK_BYTES: usize = 512;

/// Blocks of one command.
const BLOCKS: u32 = 8;

const PATIENCE: Duration = Duration::from_secs(60);

/// The controller that ends, and the one that stays.
const ENDS: usize = 0;
const STAYS: usize = 1;

/// What happens, and whether it is to be hardly noticed. A copy shares the disk with hosts.
const EVENTS: [(&str, bool); 5] = [
    ("roles are swapped", true),
    ("the pairs are split", true),
    ("they are made identical", false),
    ("a controller ends", true),
    ("it comes back", false),
];

/// Measures how long hosts wait while pairs change.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if no command waited for more than 250 ms while roles changed, pairs were split \
                  or a controller ended; 1 if one did, or failed; 2 for a mistake on the command line."
)]
struct Arguments {
    /// How often everything happens
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// A command of a host: when it was sent, and how long it took.
type Taken = (Instant, Duration);

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut appliance = Appliance::start("pause", &LUNS, Processes::Two)?;
    let over = Arc::new(AtomicBool::new(false));
    let hosts: Vec<JoinHandle<io::Result<Vec<Taken>>>> = LUNS
        .iter()
        .map(|lun| {
            let session = log_in(&appliance, lun.number)?;
            let (over, number) = (over.clone(), lun.number);
            Ok(thread::spawn(move || run(session, number, &over)))
        })
        .collect::<io::Result<_>>()?;
    let mut windows = Vec::new();
    let happened = (0..arguments.rounds).try_for_each(|_| round(&mut appliance, &mut windows));
    over.store(true, Ordering::Relaxed);
    let mut taken = Vec::new();
    for host in hosts {
        taken.extend(host.join().map_err(|_| io::Error::other("a host's thread died"))??);
    }
    happened?;
    let longest: Vec<Vec<Duration>> =
        (0..EVENTS.len()).map(|event| longest_in(&windows, event, &taken)).collect();
    if arguments.json {
        println!("{}", to_json(&longest, taken.len()));
    } else {
        print(&longest, taken.len());
    }
    let noticed = EVENTS.iter().zip(&longest).filter(|((_, hardly), _)| *hardly).flat_map(|(_, times)| times);
    match noticed.max() {
        Some(longest) if *longest > PAUSE_MAX => {
            Err(io::Error::other(format!("a host waited for {longest:?}, more than {PAUSE_MAX:?}")))
        }
        _ => Ok(()),
    }
}

fn log_in(appliance: &Appliance, lun: u16) -> io::Result<Session> {
    let name = format!("iqn.1993-08.org.debian:pause{lun}");
    let mut session = Session::connect(appliance.portals[STAYS], Settings::linux(&name, IQN, 1))?;
    let ready = Request { lun, cdb: Cdb::test_unit_ready(), out: Vec::new(), in_bytes: 0 };
    // Takes the unit attention of a new session.
    session.execute(&ready)?;
    Ok(session)
}

/// A host that writes and reads until it is over.
fn run(mut session: Session, lun: u16, over: &AtomicBool) -> io::Result<Vec<Taken>> {
    let mut taken = Vec::new();
    let mut at = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let lba = at % 1024 * u64::from(BLOCKS);
        let bytes = BLOCKS as usize * BLOCK_BYTES;
        let (cdb, out, in_bytes) = if at.is_multiple_of(2) {
            (Cdb::write_16(lba, BLOCKS, false), vec![at as u8; bytes], 0)
        } else {
            (Cdb::read_16(lba, BLOCKS), Vec::new(), bytes as u32)
        };
        let sent = Instant::now();
        let response = session.execute(&Request { lun, cdb, out, in_bytes })?;
        if !response.is_good() {
            return Err(io::Error::other(format!("a command to LUN {lun} ended with {response:?}")));
        }
        taken.push((sent, sent.elapsed()));
        at += 1;
    }
    Ok(taken)
}

/// Everything happens once; the windows of time in which it did.
fn round(appliance: &mut Appliance, windows: &mut Vec<(usize, Instant, Instant)>) -> io::Result<()> {
    for event in 0..EVENTS.len() {
        let begun = Instant::now();
        match event {
            0 => {
                // There and back.
                pair(appliance, "swap")?;
                pair(appliance, "swap")?;
            }
            1 => pair(appliance, "split")?,
            2 => pair(appliance, "resync")?,
            3 => {
                appliance.end(ENDS)?;
                let status = appliance.wait_for_end(ENDS, PATIENCE)?;
                if !status.success() {
                    return Err(io::Error::other(format!("the controller ended with {status}")));
                }
            }
            _ => {
                appliance.come_back(ENDS)?;
                wait_until_whole(appliance)?;
            }
        }
        windows.push((event, begun, Instant::now()));
    }
    Ok(())
}

fn pair(appliance: &Appliance, command: &str) -> io::Result<()> {
    let output = appliance.twinlun(&["pair", command, "--all"])?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`twinlun pair {command}`: {said}")))
}

/// Until both copies of all LUNs are whole, each under its main.
fn wait_until_whole(appliance: &Appliance) -> io::Result<()> {
    let begun = Instant::now();
    let is_whole = |status: &Value| {
        (0..LUNS.len()).all(|at| {
            let lun = &status["controllers"][STAYS]["status"]["luns"][at];
            let role = if LUNS[at].main == STAYS { "main" } else { "sub" };
            lun["status"] == "duplex" && lun["role"] == role
        })
    };
    while !is_whole(&appliance.status()?) {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("the pairs do not become whole"));
        }
    }
    Ok(())
}

/// The longest command of each time that something happened.
fn longest_in(windows: &[(usize, Instant, Instant)], event: usize, taken: &[Taken]) -> Vec<Duration> {
    let of = |(from, until): (Instant, Instant)| {
        let beside = taken.iter().filter(|(sent, took)| *sent <= until && *sent + *took >= from);
        beside.map(|(_, took)| *took).max().unwrap_or_default()
    };
    let mut longest: Vec<Duration> = windows
        .iter()
        .filter(|(what, ..)| *what == event)
        .map(|(_, from, until)| of((*from, *until)))
        .collect();
    longest.sort_unstable();
    longest
}

fn milliseconds(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Median and longest.
fn both(times: &[Duration]) -> [f64; 2] {
    [milliseconds(times.get(times.len() / 2)), milliseconds(times.last())]
}

fn to_json(longest: &[Vec<Duration>], commands: usize) -> Value {
    let row = |((what, _), times): (&(&str, bool), &Vec<Duration>)| {
        let [median, longest] = both(times);
        json!({ "event": what, "median_ms": median, "longest_ms": longest })
    };
    let events: Vec<Value> = EVENTS.iter().zip(longest).map(row).collect();
    json!({ "pause_max_ms": PAUSE_MAX.as_millis() as u64, "commands": commands, "events": events })
}

fn print(longest: &[Vec<Duration>], commands: usize) {
    println!("| while hosts write and read | longest command, median ms | longest ms |");
    println!("|---|---|---|");
    for ((what, _), times) in EVENTS.iter().zip(longest) {
        let [median, longest] = both(times);
        println!("| {what} | {median:.1} | {longest:.1} |");
    }
    println!("\n{commands} commands, none failed.");
}
