//! `twinlun interlink init`: makes what the two controllers know each other by, and says where it belongs.

use std::path::Path;

use clap::Subcommand;
use controller::plan::Side;
use miette::Diagnostic;
use serde::Serialize;

use super::control::{AskError, ask};
use super::table::{self, row};
use super::{INIT_STATUS, OutputOptions};
use crate::config::Config;
use crate::interlink::tls::certificates::{MakeError, make};

/// Digits of a fingerprint that people are shown.
pub(super) const FINGERPRINT_DIGITS: usize = 16;

#[derive(Subcommand, Debug)]
pub(super) enum InterlinkCommand {
    /// Make the keys and certificates by which the controllers know each other; on one machine only
    ///
    /// Each controller gets one file, interlink.pem in its state folder: its key, its certificate, the certificate of
    /// the other, the only one it will ever take, and a secret of both, by which they know each other where the
    /// interlink is not encrypted. Run this once, on one of the two machines, and move the file of
    /// the other controller to the other machine, into that controller's state folder. Then start both. The
    /// certificates do not expire; to replace them, `--renew`, move, then stop both and start both.
    #[command(after_help = INIT_STATUS)]
    Init {
        #[command(flatten)]
        output: OutputOptions,
        /// Replace certificates that are there. What runs goes on with the old ones: when both machines have their new
        /// file, stop both controllers and start both
        #[arg(long)]
        renew: bool,
    },
}

/// Why there are no new certificates.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum InitError {
    #[error("no certificates were made: {0}")]
    #[diagnostic(help(
        "it may be the file in use. To replace those of both controllers: first `twinlun interlink init --renew` here, \
         while both run on with the old ones; then bring the other machine its file; then stop both controllers and \
         start both. Hosts wait from the stop until the two have met: started one after the other, with old and new \
         files, they refuse each other and LUNs whose main has stopped are served by neither"
    ))]
    Exists(MakeError),
    #[error("{0}")]
    #[diagnostic(help("what runs is not touched; once this is mended, run it again with `--renew`"))]
    Other(MakeError),
}

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Report {
    /// Whether the configuration makes use of it.
    encrypted: bool,
    /// Older ones were replaced: what runs still has them.
    renewed: bool,
    /// The controllers that run on this machine, without what was made.
    running: Vec<String>,
    certificates: Vec<Certificate>,
}

/// The file of one controller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Certificate {
    controller: String,
    path: String,
    /// SHA-256 of its certificate.
    fingerprint: String,
}

/// Makes new certificates.
pub(super) fn init(config: &Config, renew: bool) -> Result<Report, InitError> {
    let made = make(config, renew).map_err(|error| match error {
        MakeError::Exists { .. } => InitError::Exists(error),
        error => InitError::Other(error),
    })?;
    let certificates = made.into_iter().zip([Side::First, Side::Second]).map(|(made, side)| Certificate {
        controller: config.controller(side).name.clone(),
        path: made.path.display().to_string(),
        fingerprint: made.fingerprint,
    });
    Ok(Report {
        encrypted: config.encrypts_interlink(),
        renewed: renew,
        running: running(config),
        certificates: certificates.collect(),
    })
}

/// The controllers that run on this machine, as far as this user may know.
fn running(config: &Config) -> Vec<String> {
    let runs = |side: &Side| !matches!(ask(&config.control_socket(*side)), Err(AskError::NotRunning));
    let sides = [Side::First, Side::Second].into_iter().filter(runs);
    sides.map(|side| config.controller(side).name.clone()).collect()
}

impl Report {
    /// The report for people.
    pub(super) fn render(&self, config: &Config) -> String {
        let mut rows = vec![row(["CONTROLLER", "CERTIFICATE", "KEPT IN"])];
        for made in &self.certificates {
            rows.push(row([&made.controller, short(&made.fingerprint), &made.path]));
        }
        let [first, second] = config.controllers.each_ref().map(|controller| &controller.name);
        // Where the commands are run is not known: their paths say it all.
        let whole =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let path = self.certificates.last().map_or_else(String::new, |made| whole(Path::new(&made.path)));
        let folder = whole(&config.state_folder(Side::Second));
        let mut text = table::render(&rows);
        text.push_str(&format!(
            "\nEach file is for its controller's machine only: whoever has it can pass for that controller.\n\
             Where {second} runs on another machine, move its file there, into its state folder. From the machine of \
             {first}:\n  ssh OTHER mkdir -p -m 700 {folder}\n  scp -p {path} OTHER:{folder}/ && rm {path}\n\
             {}; `twinlun check` says on each machine whether it has what it needs.\n",
            match (self.renewed, self.running.as_slice()) {
                (true, _) =>
                    "Both controllers run on with the old ones meanwhile. When both files are in place, stop both and \
                     start both: \nstarted one after the other they refuse each other until both have the new ones"
                        .to_owned(),
                (false, []) => "Then start both controllers".to_owned(),
                (false, running) => format!(
                    "{} {} now, without these files, and go on so. When both files are in place, stop both controllers \
                     and start both: \nstarted one after the other they refuse each other until both have them",
                    running.join(" and "),
                    if running.len() > 1 { "run" } else { "runs" }
                ),
            }
        ));
        if !self.encrypted {
            text.push_str(
                "\nNot encrypted so far: this file says `plain_interlink = true`, or all its interlink addresses are \
                 on loopback.\nOf the files only the secret is used then, by which the two know each other.\n\
                 `plain_interlink = false` in [access] encrypts the interlink.\n",
            );
        }
        text
    }
}

/// The part of a fingerprint that people compare.
pub(super) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..FINGERPRINT_DIGITS).unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::check::tests::config_in;
    use super::*;
    use crate::interlink::tls::certificates::{CertificateError, Certificates, path};

    #[test]
    fn each_controller_gets_a_file_of_its_own_that_fits_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        let report = init(&config, false).unwrap();
        let loaded = [Side::First, Side::Second].map(|side| Certificates::load(&config, side).unwrap());
        assert!(
            loaded[0].own == loaded[1].peer
                && loaded[1].own == loaded[0].peer
                && loaded[0].own != loaded[0].peer
        );
        for side in [Side::First, Side::Second] {
            let mode = std::fs::metadata(path(&config, side)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let folder = std::fs::metadata(config.state_folder(side)).unwrap().permissions().mode();
            assert_eq!(folder & 0o777, 0o700);
        }
        let text = report.render(&config);
        let at = path(&config, Side::Second).display().to_string();
        assert!(text.contains(&format!("scp -p {at} OTHER:")), "{text}");
        assert!(text.contains("plain_interlink = false"), "{text}");
        assert!(loaded.into_iter().all(|certificates| certificates.keys().is_ok()));
    }

    #[test]
    fn what_runs_without_the_new_files_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        let socket = config.control_socket(Side::Second);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let answering = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let report = init(&config, false).unwrap();
        answering.join().unwrap();
        let text = report.render(&config);
        assert!(
            text.contains("beta runs now, without these files") && text.contains("stop both controllers"),
            "{text}"
        );
        assert_eq!(report.running, ["beta"]);
    }

    #[test]
    fn certificates_that_are_there_are_replaced_only_if_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        let first = init(&config, false).unwrap();
        // Those of the other controller were moved to its machine.
        std::fs::remove_file(path(&config, Side::Second)).unwrap();
        assert!(matches!(init(&config, false), Err(InitError::Exists(_))));
        assert!(!path(&config, Side::Second).exists());
        let second = init(&config, true).unwrap();
        assert!(first.certificates[0].fingerprint != second.certificates[0].fingerprint);
        assert!(Certificates::load(&config, Side::Second).is_ok());
    }

    #[test]
    fn a_file_that_is_not_whole_or_not_its_owners_alone_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        let said = |config| {
            let loaded = Certificates::load(config, Side::First).and_then(Certificates::keys);
            loaded.err().map(|error: CertificateError| error.to_string()).unwrap_or_default()
        };
        assert!(said(&config).contains("run it on one of the two"), "{}", said(&config));
        init(&config, false).unwrap();
        let at = path(&config, Side::First);
        let whole = std::fs::read_to_string(&at).unwrap();
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(said(&config).contains("chmod 600"), "{}", said(&config));
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o600)).unwrap();
        let key = whole.find("-----BEGIN CERTIFICATE").unwrap();
        let others = std::fs::read_to_string(path(&config, Side::Second)).unwrap();
        let mixed = format!("{}{}", &others[..others.find("-----BEGIN CERTIFICATE").unwrap()], &whole[key..]);
        for text in [
            "",
            "nonsense",
            &whole[..key],
            &whole[..whole.len() / 2],
            &whole[key..],
            &whole.repeat(2),
            &mixed,
        ] {
            std::fs::write(&at, text).unwrap();
            assert!(said(&config).contains("is not as `twinlun interlink init` made it"), "{text}");
        }
    }
}
