//! A load generator for iSCSI targets: as light as it can be, so that the target is what is measured, and with
//! wire code of its own, so that it can judge.
//!
//! `load iscsi://127.0.0.1:3260/iqn.2026-11.com.example:demo/0 --pid PID` measures one target;
//! `--versus URL --versus-pid PID` measures two alternately and prints the median of the pairs' ratios.
//! `--echo` measures a message of one command and its answer between two threads: what a trip to the peer costs at
//! least.

mod drive;
mod echo;
mod histogram;
mod registrants;
mod report;
mod session;
mod wire;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use drive::{Driver, Load, SILENCE_MAX, Tally};
use report::{Comparison, Row, Run, median};
use session::{Error, Session, Url};

/// Commands sent in the first of a run are not counted.
const WARM_UP: Duration = Duration::from_millis(250);
/// Ticks per second of the times in /proc/PID/stat: fixed in Linux' interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pattern {
    Randread,
    Randwrite,
    Read,
    Write,
}

/// Load on an iSCSI LUN. WRITES DESTROY what is on it.
#[derive(Parser, Debug)]
#[command(
    after_help = "Exit status: 0 if it was measured; 1 if a command failed; 2 for a mistake on the command line."
)]
struct Arguments {
    /// The LUN: iscsi://HOST:PORT/TARGET-NAME/LUN
    #[arg(required_unless_present = "echo")]
    url: Option<Url>,
    /// What to do
    #[arg(long, value_enum, default_value = "randread")]
    pattern: Pattern,
    /// Bytes per command
    #[arg(long, default_value_t = 4096)]
    bytes: u32,
    /// Commands under way per connection
    #[arg(long, default_value_t = 32)]
    depth: u32,
    /// Length of one run in seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections, each a session and a thread of its own
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Touch only so many bytes at the start of the LUN; 0: all of it
    #[arg(long, default_value_t = 0)]
    span: u64,
    /// Write every block of the span once, in order, instead of running for a time
    #[arg(long)]
    fill: bool,
    /// End after this many commands per connection instead of after a time
    #[arg(long)]
    commands: Option<u64>,
    /// Use header and data digests (CRC32C)
    #[arg(long)]
    digests: bool,
    /// Until the run ends, register so many initiator ports, this one among them, at every target port for persistent
    /// reservations of the LUN
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "versus")]
    registrants: Option<u32>,
    /// Also reserve with this type (5: Write Exclusive - Registrants Only)
    #[arg(long, value_name = "TYPE", requires = "registrants")]
    reserve: Option<u8>,
    /// Measure messages of so many bytes and their short answers instead of a target
    #[arg(long)]
    echo: bool,
    /// Also measure the CPU time of this process: the target
    #[arg(long)]
    pid: Option<u32>,
    /// Measure this target alternately with the first
    #[arg(long)]
    versus: Option<Url>,
    /// The process of the second target
    #[arg(long)]
    versus_pid: Option<u32>,
    /// Pairs of runs with --versus
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// With --versus: print one row of a Markdown table with this title
    #[arg(long, value_name = "TITLE")]
    row: Option<String>,
    /// What the row is about
    #[arg(long, value_enum, default_value = "throughput", requires = "row")]
    row_of: Row,
    /// The last column of the row: what is wanted
    #[arg(long, value_name = "TEXT", default_value = "", requires = "row")]
    wanted: String,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.url, &arguments.versus) {
        (Some(first), Some(second)) => versus(&arguments, first, second),
        (Some(url), None) => registered(&arguments, url).map(|run| {
            println!("{}", if arguments.json { run.json().to_string() } else { run.line() });
        }),
        (None, _) => echo(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A run among registrants, if any are asked for. The first connection's port comes again under its old number.
fn registered(arguments: &Arguments, url: &Url) -> Result<Run, Error> {
    let Some(count) = arguments.registrants else {
        return run(arguments, url, arguments.pid);
    };
    let mut session = Session::open(url, 0, arguments.digests)?;
    registrants::register(&mut session, count, arguments.reserve)?;
    // A session with the same initiator port would end this one: it has gone first, its registration stays.
    drop(session);
    let done = run(arguments, url, arguments.pid);
    registrants::clear(&mut Session::open(url, 0, arguments.digests)?)?;
    done
}

fn run(arguments: &Arguments, url: &Url, pid: Option<u32>) -> Result<Run, Error> {
    let sessions: Result<Vec<Session>, Error> = (0..arguments.connections.max(1))
        .map(|number| Session::open(url, number, arguments.digests))
        .collect();
    let begin = Instant::now();
    let counted = arguments.fill || arguments.commands.is_some();
    let warm_up = if counted { Duration::ZERO } else { WARM_UP };
    let count_from = begin + warm_up;
    let load = Load {
        write: arguments.fill || matches!(arguments.pattern, Pattern::Randwrite | Pattern::Write),
        random: !arguments.fill && matches!(arguments.pattern, Pattern::Randread | Pattern::Randwrite),
        bytes: arguments.bytes,
        depth: arguments.depth.max(1),
        span: arguments.span,
        until: (!counted).then(|| count_from + Duration::from_secs_f64(arguments.seconds)),
        commands: arguments.commands,
        count_from,
        seed: 0,
    };
    let mut drivers = Vec::new();
    for (number, session) in sessions?.into_iter().enumerate() {
        session.stream.set_read_timeout(Some(SILENCE_MAX))?;
        drivers.push(Driver::new(session, Load { seed: number as u64 + 1, ..load })?);
    }
    let threads: Vec<_> = drivers.into_iter().map(|driver| thread::spawn(move || driver.run())).collect();
    thread::sleep(count_from.saturating_duration_since(Instant::now()));
    let before = Times::now(pid)?;
    let mut total = Tally::default();
    for thread in threads {
        let tally = thread.join().map_err(|_| Error::Process(std::process::id()))??;
        total.commands += tally.commands;
        total.refused += tally.refused;
        total.latency.merge(&tally.latency);
    }
    let after = Times::now(pid)?;
    let per_command = |seconds: f64| seconds * 1e6 / total.commands.max(1) as f64;
    Ok(Run {
        commands: total.commands,
        refused: total.refused,
        iops: total.commands as f64 / count_from.elapsed().as_secs_f64(),
        p50: total.latency.percentile(50.0),
        p99: total.latency.percentile(99.0),
        own_cpu: per_command(after.own - before.own),
        target_cpu: after.target.zip(before.target).map(|(after, before)| per_command(after - before)),
    })
}

/// The median round trip in microseconds, over as many runs as there would be pairs.
fn echo(arguments: &Arguments) -> Result<(), Error> {
    let length = Duration::from_secs_f64(arguments.seconds);
    let runs = (0..arguments.pairs.max(1)).map(|_| echo::round_trip(arguments.bytes as usize, length));
    let runs = runs.collect::<Result<Vec<f64>, _>>()?;
    println!("{:.1}", median(runs.into_iter()));
    Ok(())
}

/// CPU seconds used so far.
struct Times {
    own: f64,
    target: Option<f64>,
}

impl Times {
    fn now(pid: Option<u32>) -> Result<Self, Error> {
        let target = pid.map(cpu_seconds).transpose()?;
        Ok(Self { own: cpu_seconds(std::process::id())?, target })
    }
}

/// User and system time of a process and all its threads (proc(5), fields 14 and 15 of /proc/PID/stat).
fn cpu_seconds(pid: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|_| Error::Process(pid))?;
    // The name, field 2, may hold anything, but nothing after it holds a parenthesis.
    let (_, fields) = stat.rsplit_once(')').ok_or(Error::Process(pid))?;
    let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) as f64 / TICKS_PER_SECOND),
        _ => Err(Error::Process(pid)),
    }
}

/// A B A B …: both meet the same moods of the machine.
fn versus(arguments: &Arguments, first: &Url, second: &Url) -> Result<(), Error> {
    let mut pairs = Vec::new();
    for _ in 0..arguments.pairs.max(1) {
        let a = run(arguments, first, arguments.pid)?;
        let b = run(arguments, second, arguments.versus_pid)?;
        if !arguments.json && arguments.row.is_none() {
            println!("A {}\nB {}", a.line(), b.line());
        }
        pairs.push((a, b));
    }
    let comparison = Comparison::of(&pairs);
    match &arguments.row {
        Some(title) => println!("{}", comparison.row(arguments.row_of, title, &arguments.wanted)),
        None if arguments.json => println!("{}", comparison.json()),
        None => println!("{}", comparison.line()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_this_process_can_be_read_and_grows() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let begin = Instant::now();
        let mut spun = 0_u64;
        while cpu_seconds(std::process::id()).unwrap() <= before && begin.elapsed() < SILENCE_MAX {
            spun = spun.wrapping_add(1);
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > before);
    }
}
