//! What an idle session costs: memory of a target with many sessions that do nothing.
//!
//! Starts an appliance with one small LUN, logs hosts in one after the other, lets each read and write once, waits
//! until the target has given back what they do not need, and compares the memory of the process with what it was.

use std::io;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

/// Longer than a target waits before it asks a silent host for a sign of life, and rests.
const REST: Duration = Duration::from_secs(14);

/// What an idle session may cost at most, in bytes.
const COST_MAX: u64 = 64 * 1024;

/// Measures what an idle session costs.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 if a session costs at most 64 KiB; 1 if it costs more; \
                  2 for a mistake on the command line.")]
struct Arguments {
    /// Sessions that log in and stay
    #[arg(long, default_value_t = 1000)]
    sessions: u16,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let lun = Lun { number: 0, mib: 16, main: 0, mirror: false };
    let appliance = Appliance::start("idle", &[lun], Processes::One)?;
    // The first host makes the target touch what all share.
    let mut sessions = vec![log_in(&appliance, 0)?];
    let before = appliance.memory()?;
    for number in 1..=arguments.sessions {
        sessions.push(log_in(&appliance, number)?);
    }
    let busy = appliance.memory()?;
    rest(&mut sessions)?;
    let idle = appliance.memory()?;
    let each = |memory: u64| memory.saturating_sub(before) / u64::from(arguments.sessions.max(1));
    if arguments.json {
        let report = json!({
            "sessions": arguments.sessions, "bytes_each": each(idle), "bytes_each_just_active": each(busy),
            "bytes_each_max": COST_MAX,
        });
        println!("{report}");
    } else {
        println!("{} idle sessions: {:.1} KiB each", arguments.sessions, each(idle) as f64 / 1024.0);
        println!("the same just after a read and a write: {:.1} KiB each", each(busy) as f64 / 1024.0);
    }
    drop(sessions);
    appliance.stop()?;
    if each(idle) > COST_MAX { Err(io::Error::other("more than 64 KiB each")) } else { Ok(()) }
}

fn log_in(appliance: &Appliance, number: u16) -> io::Result<Session> {
    let name = format!("iqn.1993-08.org.debian:idle{number}");
    let mut session = Session::connect(appliance.portals[0], Settings::linux(&name, IQN, number))?;
    let block = |cdb, out, in_bytes| Request { lun: 0, cdb, out, in_bytes };
    let answers = [
        session.execute(&block(Cdb::write_16(0, 8, false), vec![1; 4096], 0))?,
        session.execute(&block(Cdb::read_16(0, 8), Vec::new(), 4096))?,
    ];
    if answers.iter().all(|answer| answer.is_good()) {
        Ok(session)
    } else {
        Err(io::Error::other("not served"))
    }
}

/// Answers the target's pings until all have rested.
fn rest(sessions: &mut [Session]) -> io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < REST {
        for session in sessions.iter_mut() {
            session.completion_within(Duration::from_millis(1))?;
        }
    }
    Ok(())
}
