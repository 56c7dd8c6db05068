//! A load generator for iSCSI targets: as light as it can be, so that the target is what is measured, and with
//! wire code of its own, so that it can judge.
//!
//! `load iscsi://127.0.0.1:3260/iqn.2026-11.com.example:demo/0 --pid PID` measures one target;
//! `--versus URL --versus-pid PID` measures two alternately and prints the median of the pairs' ratios.

mod drive;
mod histogram;
mod session;
mod wire;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use drive::{Driver, Load, SILENCE_MAX, Tally};
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
struct Arguments {
    /// iscsi://HOST:PORT/TARGET-NAME/LUN
    url: Url,
    /// What to do
    #[arg(long, value_enum, default_value = "randread")]
    pattern: Pattern,
    /// Bytes per command
    #[arg(long, default_value_t = 4096)]
    bytes: u32,
    /// Commands under way per connection
    #[arg(long, default_value_t = 32)]
    depth: u32,
    /// Length of one run
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections, each a session and a thread of its own
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Touch only the first bytes of the LUN; 0: all of it
    #[arg(long, default_value_t = 0)]
    span: u64,
    /// Write every block of the span once, in order, instead of running for a time
    #[arg(long)]
    fill: bool,
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One run's result.
#[derive(Clone, Copy)]
struct Run {
    commands: u64,
    refused: u64,
    iops: f64,
    p50: f64,
    p99: f64,
    /// CPU microseconds per command, of this process and of the target's.
    own_cpu: f64,
    target_cpu: Option<f64>,
}

impl Run {
    fn json(&self) -> Value {
        json!({
            "commands": self.commands, "refused": self.refused, "iops": self.iops.round(),
            "p50_us": self.p50, "p99_us": self.p99,
            "own_cpu_us": self.own_cpu, "target_cpu_us": self.target_cpu,
        })
    }

    fn line(&self) -> String {
        let target = self.target_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
        let refused = if self.refused > 0 { format!(", {} refused", self.refused) } else { String::new() };
        format!(
            "{:>9.0} IOPS, p50 {:>7.1} us, p99 {:>7.1} us, CPU per command: load {:.2} us, target {target} us{refused}",
            self.iops, self.p50, self.p99, self.own_cpu
        )
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.versus {
        Some(second) => versus(&arguments, second),
        None => run(&arguments, &arguments.url, arguments.pid).map(|run| {
            println!("{}", if arguments.json { run.json().to_string() } else { run.line() });
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, url: &Url, pid: Option<u32>) -> Result<Run, Error> {
    let sessions: Result<Vec<Session>, Error> =
        (0..arguments.connections.max(1)).map(|number| Session::open(url, number)).collect();
    let begin = Instant::now();
    let warm_up = if arguments.fill { Duration::ZERO } else { WARM_UP };
    let count_from = begin + warm_up;
    let load = Load {
        write: arguments.fill || matches!(arguments.pattern, Pattern::Randwrite | Pattern::Write),
        random: !arguments.fill && matches!(arguments.pattern, Pattern::Randread | Pattern::Randwrite),
        bytes: arguments.bytes,
        depth: arguments.depth.max(1),
        span: arguments.span,
        until: (!arguments.fill).then(|| count_from + Duration::from_secs_f64(arguments.seconds)),
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
fn versus(arguments: &Arguments, second: &Url) -> Result<(), Error> {
    let mut pairs = Vec::new();
    for _ in 0..arguments.pairs.max(1) {
        let a = run(arguments, &arguments.url, arguments.pid)?;
        let b = run(arguments, second, arguments.versus_pid)?;
        if !arguments.json && arguments.row.is_none() {
            println!("A {}\nB {}", a.line(), b.line());
        }
        pairs.push((a, b));
    }
    let comparison = Comparison::of(&pairs);
    match &arguments.row {
        Some(title) => println!("{}", comparison.row(title)),
        None if arguments.json => println!("{}", comparison.json()),
        None => println!("{}", comparison.line()),
    }
    Ok(())
}

/// The medians over all pairs: of each target alone, and of the ratios within a pair.
struct Comparison {
    pairs: usize,
    a: Run,
    b: Run,
    iops: f64,
    p50: f64,
    p99: f64,
    target_cpu: f64,
}

impl Comparison {
    fn of(pairs: &[(Run, Run)]) -> Self {
        let cpu = |run: &Run| run.target_cpu.unwrap_or(f64::NAN);
        let ratio = |of: &dyn Fn(&Run) -> f64| median(pairs.iter().map(|(a, b)| of(a) / of(b)));
        let alone = |runs: Vec<&Run>| {
            let of = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(|run| of(run)));
            Run {
                commands: runs.iter().map(|run| run.commands).sum(),
                refused: runs.iter().map(|run| run.refused).sum(),
                iops: of(&|run| run.iops),
                p50: of(&|run| run.p50),
                p99: of(&|run| run.p99),
                own_cpu: of(&|run| run.own_cpu),
                target_cpu: Some(of(&cpu)),
            }
        };
        Self {
            pairs: pairs.len(),
            a: alone(pairs.iter().map(|(a, _)| a).collect()),
            b: alone(pairs.iter().map(|(_, b)| b).collect()),
            iops: ratio(&|run| run.iops),
            p50: ratio(&|run| run.p50),
            p99: ratio(&|run| run.p99),
            target_cpu: ratio(&cpu),
        }
    }

    fn json(&self) -> Value {
        let ratios =
            json!({ "iops": self.iops, "p50": self.p50, "p99": self.p99, "target_cpu": self.target_cpu });
        json!({ "pairs": self.pairs, "a": self.a.json(), "b": self.b.json(), "ratio": ratios })
    }

    fn line(&self) -> String {
        let Self { pairs, iops, p50, p99, target_cpu, .. } = self;
        format!(
            "median of {pairs} pairs, A / B: IOPS {iops:.2}, p50 {p50:.2}, p99 {p99:.2}, target CPU {target_cpu:.2}"
        )
    }

    fn row(&self, title: &str) -> String {
        let (a, b) = (&self.a, &self.b);
        let cpu = |run: &Run| run.target_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
        format!(
            "| {title} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} |",
            a.iops,
            b.iops,
            self.iops,
            a.p50,
            b.p50,
            a.p99,
            b.p99,
            cpu(a),
            cpu(b)
        )
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
        assert!(median(core::iter::empty()).is_nan());
    }

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
