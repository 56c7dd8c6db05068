//! The command line: `twinlun run`, `check`, `status`, `pair` and `interlink init`.
//!
//! Every command reads the same appliance.toml. `run` starts controllers in this process; the others look at
//! the file and ask running controllers at their control sockets ([`control`]).

mod changes;
mod check;
mod control;
mod generate;
mod interlink;
mod left_behind;
mod pair;
mod promises;
mod run;
mod status;
mod supervisor;
mod table;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use controller::plan::Side;
use miette::{Diagnostic, Report};

use self::interlink::InterlinkCommand;
use self::pair::PairSubcommand;
use crate::config::{Config, ConfigError};

/// How a command ends, as its help tells it.
const EXIT_STATUS: &str = "Exit status: 0 if it was done; 1 if not, or if something is wrong; 2 for a mistake on the \
     command line.";
const RUN_STATUS: &str = "SIGTERM, Ctrl-C or the end of its terminal (SIGHUP) ends it: what is under way is finished \
     and flushed.\nUnder nohup it outlives its terminal. What happens is logged on standard error; RUST_LOG=debug in \
     the\nenvironment logs more, RUST_LOG=warn less.\n\n\
     Exit status: 0 if it ended cleanly; 1 if it could not start, or ended before everything was flushed;\n\
     2 for a mistake on the command line or in appliance.toml, which starting again does not mend.";
const CHECK_STATUS: &str =
    "Exit status: 0 if the file is right; 1 if it is not; 2 for a mistake on the command line.";
const STATUS_STATUS: &str = "Exit status: 0 if all is well; 1 if something is wrong, or nobody answers; 2 for a \
     mistake on the command line.";
const INIT_STATUS: &str = "Exit status: 0 if they were made; 1 if not; 2 for a mistake on the command line.";

/// The status of a mistake on the command line, as clap ends with it.
const MISTAKE: u8 = 2;

/// Two machines, one iSCSI appliance: each controller keeps its own copy of every LUN and serves it to its hosts.
#[derive(Parser, Debug)]
#[command(name = "twinlun", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the appliance and serve hosts until SIGTERM or Ctrl-C
    #[command(after_help = RUN_STATUS)]
    Run {
        #[command(flatten)]
        file: FileOption,
        /// Start only the controller of this name; without it both of the file run in this process
        #[arg(long, value_name = "NAME")]
        controller: Option<String>,
        /// How the log is written to standard error
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        log: run::LogFormat,
    },
    /// Check appliance.toml and say what it would serve; nothing is started or changed
    #[command(after_help = CHECK_STATUS)]
    Check {
        #[command(flatten)]
        output: OutputOptions,
    },
    /// Ask the running controllers how the appliance is; a controller on another machine as it said last
    #[command(after_help = STATUS_STATUS)]
    Status {
        #[command(flatten)]
        output: OutputOptions,
    },
    /// List pairs, split and resynchronize them, change their roles, delete and create them
    #[command(after_help = EXIT_STATUS)]
    Pair {
        #[command(subcommand)]
        command: PairSubcommand,
    },
    /// Make the keys and certificates of an encrypted interlink
    #[command(after_help = EXIT_STATUS)]
    Interlink {
        #[command(subcommand)]
        command: InterlinkCommand,
    },
    /// Write man pages and completions for shells into a folder, for a package
    #[command(hide = true)]
    Generate {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
struct FileOption {
    /// What describes the appliance [default: appliance.toml, else /etc/twinlun/appliance.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileOption {
    /// The file that was named, or one of those that are looked for.
    fn path(&self) -> PathBuf {
        let here = PathBuf::from("appliance.toml");
        let installed = PathBuf::from("/etc/twinlun/appliance.toml");
        match &self.config {
            Some(path) => path.clone(),
            None if !here.exists() && installed.exists() => installed,
            None => here,
        }
    }
}

#[derive(Args, Debug)]
struct OutputOptions {
    #[command(flatten)]
    file: FileOption,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum CliError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    #[error("there is no controller {given:?}")]
    #[diagnostic(help("the controllers of this file are `{first}` and `{second}`"))]
    NoSuchController { given: String, first: String, second: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pair(#[from] pair::PairError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Init(#[from] interlink::InitError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Generate(#[from] generate::GenerateError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] run::RunError),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    let json = command.speaks_json();
    execute(command).unwrap_or_else(|error| {
        if json {
            print(true, &Failed::of(&error), |_| String::new());
        }
        complain(&format!("{:?}\n", Report::new(error)));
        ExitCode::FAILURE
    })
}

/// Why a command that was to print JSON could not do its work.
#[derive(serde::Serialize)]
struct Failed {
    /// What happened, a line each; of mistakes in the file with their places.
    problems: Vec<String>,
}

impl Failed {
    fn of(error: &CliError) -> Self {
        let problems = match error {
            CliError::Config(ConfigError::Mistakes(mistakes)) => mistakes.lines().collect(),
            other => {
                let next = other.help().map_or_else(String::new, |help| format!("; {help}"));
                vec![format!("{other}{next}")]
            }
        };
        Self { problems }
    }
}

impl Command {
    /// Whether its output is to be JSON.
    const fn speaks_json(&self) -> bool {
        match self {
            Self::Check { output }
            | Self::Status { output }
            | Self::Interlink { command: InterlinkCommand::Init { output, .. } } => output.json,
            Self::Pair { command } => command.output().json,
            Self::Run { .. } | Self::Generate { .. } => false,
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Run { file, controller, log } => match to_run(&file, controller) {
            Ok((config, sides)) => Ok(code(run::run(&config, &sides, log)?)),
            Err(mistake) => {
                match log {
                    run::LogFormat::Json => run::log_mistake(&mistake)?,
                    run::LogFormat::Text => complain(&format!("{:?}\n", Report::new(mistake))),
                }
                Ok(ExitCode::from(MISTAKE))
            }
        },
        Command::Check { output } => {
            let config = Config::read(&output.file.path())?;
            let report = check::Report::of(&config);
            print(output.json, &report, |report| report.render(&config));
            Ok(code(report.problems.is_empty()))
        }
        Command::Status { output } => {
            let config = Config::read(&output.file.path())?;
            let overview = status::Overview::ask(&config);
            print(output.json, &overview, |overview| overview.render(&config));
            Ok(code(overview.ok))
        }
        Command::Pair { command } => Ok(code(pair::run(&command)?)),
        Command::Generate { folder } => {
            let written = generate::generate(&CommandLine::command(), &folder)?;
            say(&written.iter().map(|path| format!("{}\n", path.display())).collect::<String>());
            Ok(ExitCode::SUCCESS)
        }
        Command::Interlink { command: InterlinkCommand::Init { output, renew } } => {
            let config = Config::read(&output.file.path())?;
            let report = interlink::init(&config, renew)?;
            print(output.json, &report, |report| report.render(&config));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn code(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print<T: serde::Serialize>(json: bool, what: &T, render: impl Fn(&T) -> String) {
    if json {
        // Plain data: it always has a JSON form.
        say(&(serde_json::to_string_pretty(what).unwrap_or_default() + "\n"));
    } else {
        say(&render(what));
    }
}

/// Says something on standard output. It changes nothing of what was done if nobody hears it: a reader that has
/// stopped, as in `twinlun status | head`, has read what it wanted; what else is wrong is told on standard error.
/// Whether it was written.
fn say(text: &str) -> bool {
    let mut output = io::stdout().lock();
    let said = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    match &said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("this cannot be written to standard output: {error}\n"));
        }
        _ => {}
    }
    said.is_ok()
}

/// The same on standard error, the last place there is.
fn complain(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// What `run` is to start. What is wrong here is wrong again at the next start.
fn to_run(file: &FileOption, controller: Option<String>) -> Result<(Config, Vec<Side>), CliError> {
    let config = Config::read(&file.path())?;
    let sides = sides(&config, controller)?;
    Ok((config, sides))
}

/// The controllers to start: the one that was named, or both.
fn sides(config: &Config, controller: Option<String>) -> Result<Vec<Side>, CliError> {
    let Some(given) = controller else { return Ok(vec![Side::First, Side::Second]) };
    let [first, second] = config.controllers.clone().map(|controller| controller.name);
    match config.side(&given) {
        Some(side) => Ok(vec![side]),
        None => Err(CliError::NoSuchController { given, first, second }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn mistakes_are_told_as_json_too_each_with_its_place() {
        let told = |text: &str| {
            let error = Config::parse(std::path::Path::new("appliance.toml"), text).unwrap_err();
            serde_json::to_value(Failed::of(&CliError::Config(ConfigError::Mistakes(Box::new(error)))))
                .unwrap()
        };
        let problems = told("[[controller]]\n[[controller]]\n[appliance]\niqn = 7\n")["problems"]
            .as_array()
            .unwrap()
            .clone();
        let iqn = problems.iter().map(|it| it.as_str().unwrap()).find(|it| it.contains("iqn")).unwrap();
        assert!(
            iqn.starts_with("appliance.toml:4:7: appliance.iqn: ") && iqn.contains("write, for instance"),
            "{iqn}"
        );
        assert!(problems.len() > 1, "{problems:?}");
        let unreadable = Config::read(std::path::Path::new("/nowhere/appliance.toml")).unwrap_err();
        let failed = Failed::of(&unreadable.into());
        assert!(failed.problems[0].contains("cannot read /nowhere/appliance.toml"), "{:?}", failed.problems);
        assert!(failed.problems[0].contains("--config FILE"), "{:?}", failed.problems);
    }

    #[test]
    fn an_unknown_controller_is_refused_with_the_names_there_are() {
        let config = check::tests::config("");
        assert_eq!(sides(&config, Some("beta".to_owned())).unwrap(), [Side::Second]);
        assert_eq!(sides(&config, None).unwrap(), [Side::First, Side::Second]);
        let error = sides(&config, Some("gamma".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "there is no controller \"gamma\"");
        assert_eq!(error.help().unwrap().to_string(), "the controllers of this file are `alpha` and `beta`");
    }
}
