//! `twinlun check`: what the file would serve, and what lies where its volumes are. Changes nothing.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use controller::plan::Side;
use controller::volume::files::{VolumePlace, blocks_that_fit};
use controller::volume::superblock::VolumeFound;
use protocol::block::BLOCK_BYTES;
use serde::Serialize;

mod disk;
mod hosts;

use self::hosts::{MayLogIn, may_log_in};
use super::interlink::short;
use super::table::{self, row};
use crate::config::{Config, Lun, in_units};
use crate::interlink::secret::{Secret, SecretFileError};
use crate::interlink::tls::certificates::{CertificateError, Certificates, fingerprint, only_here, path};

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Report {
    /// What stands in the way of serving.
    pub(super) problems: Vec<String>,
    /// What is allowed but should be meant.
    warnings: Vec<String>,
    iqn: String,
    /// The state folder; each controller has a folder of its name in it.
    state: String,
    /// The portals of both controllers.
    portals: Vec<String>,
    controllers: Vec<Addresses>,
    /// The interlink is encrypted.
    encrypted: bool,
    luns: Vec<Served>,
    volumes: Vec<Volume>,
    /// Who may log in.
    hosts: Vec<MayLogIn>,
    /// What the controllers know each other by; none for a plain interlink.
    certificates: Vec<Certificate>,
}

/// Where one controller is found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Addresses {
    name: String,
    /// What hosts are told.
    portals: Vec<String>,
    interlink: Vec<String>,
}

/// One LUN as the file describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Served {
    number: u16,
    name: String,
    /// Its size; none: the device's.
    bytes: Option<u64>,
    /// The controller that is main for it, if it can be.
    main: String,
    /// The group that it is in with other LUNs; none: it is in none.
    group: Option<String>,
    /// The controllers that keep a copy.
    copies: Vec<String>,
    write_cache: bool,
    /// No host may write.
    read_only: bool,
    /// Bytes of a physical block, as hosts are told.
    physical_block_bytes: u32,
}

/// The certificates of one controller of an encrypted interlink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Certificate {
    controller: String,
    path: String,
    /// SHA-256 of its own; none if it cannot be read here.
    fingerprint: Option<String>,
    /// SHA-256 of the only one it takes.
    takes: Option<String>,
}

/// One copy of one LUN.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Volume {
    lun: String,
    number: u16,
    controller: String,
    path: String,
    /// The largest `size` that fits the device, in bytes.
    largest_size: Option<u64>,
    /// What lies there.
    found: String,
}

impl Report {
    /// Looks at every volume of the file that can be seen from this machine.
    pub(super) fn of(config: &Config) -> Self {
        let mut problems = disk::state_problems(config);
        let mut volumes = Vec::new();
        for lun in &config.luns {
            for side in [Side::First, Side::Second] {
                if let Some(path) = config.volume_path(lun, side) {
                    volumes.push(volume(config, lun, side, &path, &mut problems));
                }
            }
        }
        problems.extend(disk::deep_state(config));
        problems.extend(disk::shared_places(config));
        problems.extend(disk::too_large(config));
        let lost = disk::lost(config);
        problems.extend(lost.problems);
        for volume in
            volumes.iter_mut().filter(|volume| lost.places.iter().any(|at| *at == Path::new(&volume.path)))
        {
            "gone; a copy was kept here".clone_into(&mut volume.found);
        }
        let portals = config.controllers.iter().flat_map(crate::config::Controller::addresses).collect();
        let iqn = config.appliance.iqn.clone();
        let state = config.appliance.state.display().to_string();
        let usable = problems.is_empty() || disk::state_problems(config).is_empty();
        // Where no folder can be there is nothing more to be told of what it is to hold.
        let certificates = if usable { certificates(config, &mut problems) } else { Vec::new() };
        let secrets = crate::runtime::access::load(config).err().map_or_else(Vec::new, |wrong| wrong.0);
        problems.extend(secrets.iter().map(|wrong| format!("{wrong}. No controller starts with that.")));
        let mut warnings = warnings(config);
        warnings.extend(disk::foreign_state(config));
        let hosts = may_log_in(config);
        let (controllers, luns) = (addresses(config), served(config));
        let encrypted = config.encrypts_interlink();
        Self {
            problems,
            warnings,
            iqn,
            state,
            portals,
            controllers,
            encrypted,
            luns,
            volumes,
            hosts,
            certificates,
        }
    }

    /// The report for people.
    pub(super) fn render(&self, config: &Config) -> String {
        let mut volumes = vec![row(["VOLUME OF", "ON", "AT", "WHAT IS THERE"])];
        volumes.extend(self.volumes.iter().map(|v| row([&v.lun, &v.controller, &v.path, &v.found])));
        let mut text = format!("{}\n{}", describe(config), table::render(&volumes));
        let mut hosts = vec![row(["WHO MAY LOG IN", "PROVES ITSELF AS", "THE TARGET AS", "SEES"])];
        hosts.extend(self.hosts.iter().map(MayLogIn::row));
        text.push_str(&format!("\n{}", table::render(&hosts)));
        if !self.certificates.is_empty() {
            let mut rows = vec![row(["INTERLINK OF", "CERTIFICATE", "TAKES ONLY", "KEPT IN"])];
            let shown = |print: &Option<String>| print.as_deref().map_or("-", short).to_owned();
            rows.extend(self.certificates.iter().map(|it| {
                let place = if it.fingerprint.is_some() { &it.path } else { "not on this machine" };
                row([&it.controller, &shown(&it.fingerprint), &shown(&it.takes), place])
            }));
            text.push_str(&format!("\n{}", table::render(&rows)));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\nwarning: {warning}\n"));
        }
        for problem in &self.problems {
            text.push_str(&format!("\n! {problem}\n"));
        }
        text.push_str(if self.problems.is_empty() { "\nThe file is right.\n" } else { "" });
        text
    }
}

/// What is told of a place whose disk tells nothing.
const SILENT: &str = "unknown: its disk does not answer";

fn addresses(config: &Config) -> Vec<Addresses> {
    let of = |controller: &crate::config::Controller| Addresses {
        name: controller.name.clone(),
        portals: controller.addresses(),
        interlink: controller.interlink.iter().map(ToString::to_string).collect(),
    };
    config.controllers.iter().map(of).collect()
}

fn served(config: &Config) -> Vec<Served> {
    let of = |lun: &Lun| {
        let keeps = |side: &Side| lun.mirror || lun.main == *side;
        let copies = [Side::First, Side::Second].into_iter().filter(keeps);
        Served {
            number: lun.number,
            name: lun.name.clone(),
            bytes: lun.bytes,
            main: config.controller(lun.main).name.clone(),
            group: lun.group.clone(),
            copies: copies.map(|side| config.controller(side).name.clone()).collect(),
            write_cache: lun.write_cache,
            read_only: lun.read_only,
            physical_block_bytes: lun.physical_block_bytes,
        }
    };
    config.luns.iter().map(of).collect()
}

/// What the file makes Twinlun serve: also the first lines of `twinlun run`.
pub(super) fn describe(config: &Config) -> String {
    let mut controllers = vec![row(["CONTROLLER", "PORTALS", "INTERLINK"])];
    for Addresses { name, portals, interlink } in addresses(config) {
        controllers.push(row([&name, &portals.join(" "), &interlink.join(" ")]));
    }
    let luns = luns_described(&served(config));
    let state = config.appliance.state.display();
    format!(
        "{}   state in {state}\n\n{}\nThe interlink is {}.\n\n{}",
        config.appliance.iqn,
        table::render(&controllers),
        if config.encrypts_interlink() { "encrypted" } else { "not encrypted" },
        table::render(&luns)
    )
}

/// A row for each LUN, with its group where there are groups.
fn luns_described(luns: &[Served]) -> Vec<Vec<String>> {
    let mut rows =
        vec![row(["LUN", "NAME", "SIZE", "MAIN", "COPIES", "WRITE CACHE", "HOSTS MAY", "PHYSICAL BLOCK"])];
    for lun in luns {
        rows.push(row([
            &lun.number.to_string(),
            &lun.name,
            &lun.bytes.map_or_else(|| "the device's".to_owned(), in_units),
            &lun.main,
            if lun.copies.len() > 1 { "both controllers" } else { "main alone" },
            if lun.write_cache { "on" } else { "off" },
            if lun.read_only { "read" } else { "read and write" },
            &in_units(u64::from(lun.physical_block_bytes)),
        ]));
    }
    if luns.iter().any(|lun| lun.group.is_some()) {
        rows[0].push("GROUP".to_owned());
        for (row, lun) in rows[1..].iter_mut().zip(luns) {
            row.push(lun.group.clone().unwrap_or_else(|| "-".to_owned()));
        }
    }
    rows
}

/// What is allowed in the file but dangerous where it was not meant. May wait for disks.
fn warnings(config: &Config) -> Vec<String> {
    [of_file_alone(config), super::promises::of_file(config)].concat()
}

/// The same as far as the file alone tells it; asks no disk.
pub(super) fn of_file_alone(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.access.open {
        warnings.push(
            "open = true: every machine that reaches the portals can read and overwrite the LUNs.".to_owned(),
        );
    }
    for controller in &config.controllers {
        let named = |address: &&String| address.parse::<core::net::SocketAddr>().is_err();
        if let Some(address) = controller.advertise.iter().find(named) {
            warnings.push(format!(
                "advertise of {}: {address} is a name. A host that cannot resolve it may find no portal at all, \
                 open-iscsi 2.1.8 if it stands first: write IP addresses, or put them before names.",
                controller.name
            ));
        }
    }
    if config.access.plain_interlink == Some(true) {
        warnings.push(
            "plain_interlink = true: the LUNs' data crosses the interlink unencrypted. Whoever can listen on that \
             network reads it, and who can change what crosses it changes the data; the secret of the two controllers \
             only keeps others from connecting."
                .to_owned(),
        );
    }
    warnings
}

/// The certificates that are on this machine. One controller's are enough: the other may run elsewhere.
fn certificates(config: &Config, problems: &mut Vec<String>) -> Vec<Certificate> {
    if !config.encrypts_interlink() {
        secrets(config, problems);
        return Vec::new();
    }
    let sides = [Side::First, Side::Second];
    let loaded = sides.map(|side| Certificates::load(config, side));
    match &loaded {
        [Err(CertificateError::Missing { path, .. }), Err(CertificateError::Missing { path: other, .. })] => {
            problems.push(format!(
                "the interlink is encrypted and neither {} nor {} is there, so that no controller starts here. If \
                 `twinlun interlink init` ran on the other machine, bring this machine's file from there; if it ran on \
                 neither, run it on one of the two.",
                path.display(),
                other.display()
            ));
        }
        [Ok(first), Ok(second)] if first.own != second.peer || second.own != first.peer => {
            let [first, second] = sides.map(|side| path(config, side).display().to_string());
            problems.push(format!(
                "{first} and {second} come of two runs of `twinlun interlink init`: controllers that start with them \
                 refuse each other. If only one of them runs on this machine, remove the other's file here; if both \
                 do, make new ones with `--renew`."
            ));
        }
        _ => {}
    }
    let mut found = Vec::new();
    for (side, loaded) in sides.into_iter().zip(loaded) {
        let prints = loaded.and_then(|it| {
            let prints = (fingerprint(&it.own), fingerprint(&it.peer));
            it.keys().map(|_| prints)
        });
        let (own, takes) = match prints {
            Ok((own, takes)) => (Some(own), Some(takes)),
            Err(error) => {
                if !matches!(error, CertificateError::Missing { .. }) {
                    problems.push(format!("{error}."));
                }
                (None, None)
            }
        };
        found.push(Certificate {
            controller: config.controller(side).name.clone(),
            path: path(config, side).display().to_string(),
            fingerprint: own,
            takes,
        });
    }
    found
}

/// The secrets on this machine of an interlink that is not encrypted. As with certificates, one controller's is enough;
/// on one machine it is made when it is needed.
fn secrets(config: &Config, problems: &mut Vec<String>) {
    let found = [Side::First, Side::Second].map(|side| Secret::look(config, side));
    let missing = |found: &Result<(), SecretFileError>| matches!(found, Err(SecretFileError::Missing { .. }));
    let nowhere = found.iter().all(missing);
    for error in found.into_iter().filter_map(Result::err) {
        let matters = match &error {
            SecretFileError::Missing { .. } => nowhere && !config.interlink_is_on_loopback(),
            SecretFileError::Older { .. } => !config.interlink_is_on_loopback(),
            _ => true,
        };
        let problem = format!("{error}.");
        // On one machine both look at the same file.
        if matters && !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

fn volume(config: &Config, lun: &Lun, side: Side, path: &Path, problems: &mut Vec<String>) -> Volume {
    let (found, largest_size) = match lun.device {
        Some(_) => device(lun, path, problems),
        None => (file(config, lun, side, path, problems), None),
    };
    Volume {
        lun: lun.name.clone(),
        number: lun.number,
        controller: config.controller(side).name.clone(),
        path: path.display().to_string(),
        largest_size,
        found,
    }
}

fn file(config: &Config, lun: &Lun, side: Side, path: &Path, problems: &mut Vec<String>) -> String {
    match VolumePlace::File(path.to_path_buf()).scan() {
        Ok((VolumeFound::Missing | VolumeFound::Blank, _)) if only_here(config) == Some(side.peer()) => {
            "not on this machine".to_owned()
        }
        Ok((VolumeFound::Missing | VolumeFound::Blank, _)) => {
            "nothing yet; made when the controllers first meet".to_owned()
        }
        Ok((VolumeFound::Open(superblock), _)) => {
            let bytes = superblock.blocks.saturating_mul(u64::from(BLOCK_BYTES));
            if lun.bytes.is_some_and(|wanted| wanted != bytes) {
                problems.push(other_size(lun, path, bytes));
            }
            format!("a volume of {}", in_units(bytes))
        }
        Ok((VolumeFound::Foreign, _)) => foreign(&VolumePlace::File(path.to_path_buf()), problems),
        Ok((VolumeFound::Silent, _)) => SILENT.to_owned(),
        Err(error) => {
            // Where a folder is a file instead, that was said.
            if error.kind() != std::io::ErrorKind::NotADirectory {
                problems.push(format!(
                    "{} cannot be opened: {error}. No controller that keeps it starts.",
                    path.display()
                ));
            }
            format!("cannot be looked at: {error}")
        }
    }
}

fn device(lun: &Lun, path: &Path, problems: &mut Vec<String>) -> (String, Option<u64>) {
    let size = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0)));
    let bytes = match size {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return ("no such device on this machine".to_owned(), None);
        }
        Err(error) => return (format!("cannot be looked at: {error}"), None),
    };
    let largest = blocks_that_fit(bytes) * u64::from(BLOCK_BYTES);
    if largest == 0 || lun.bytes.is_some_and(|wanted| wanted > largest) {
        problems.push(format!(
            "{} has {}, too small for LUN {} with Twinlun's 1 MiB at its end: the largest `size` is {}.",
            path.display(),
            in_units(bytes),
            lun.name,
            in_units(largest)
        ));
    }
    let content = match VolumePlace::Device(path.to_path_buf()).scan() {
        Ok((VolumeFound::Open(superblock), _)) => {
            let bytes = superblock.blocks.saturating_mul(u64::from(BLOCK_BYTES));
            if lun.bytes.is_some_and(|wanted| wanted != bytes) {
                problems.push(other_size(lun, path, bytes));
            }
            format!("a volume of {}", in_units(bytes))
        }
        Ok((VolumeFound::Foreign, _)) => foreign(&VolumePlace::Device(path.to_path_buf()), problems),
        Ok((VolumeFound::Silent, _)) => SILENT.to_owned(),
        Ok((VolumeFound::Missing | VolumeFound::Blank, _)) => "blank".to_owned(),
        Err(error) => format!("in use or not to be opened: {error}"),
    };
    (format!("a device, {content}; the largest size that fits is {}", in_units(largest)), Some(largest))
}

/// Names foreign content, and says what to do about it.
fn foreign(place: &VolumePlace, problems: &mut Vec<String>) -> String {
    if let Some(why) = place.problem() {
        let path = place.path().display();
        problems.push(format!(
            "{path} holds a volume of Twinlun that cannot be used: {why}. It is left alone and the LUN is not served \
             from it. Keep it: it may be the only whole copy."
        ));
        return format!("a volume of Twinlun that cannot be used: {why}");
    }
    let what = place.foreign_name().unwrap_or("something else").to_owned();
    let path = place.path().display();
    let empty = match place {
        VolumePlace::File(_) => "move the file away".to_owned(),
        VolumePlace::Device(_) => {
            format!("if nobody needs its content, empty it with `blkdiscard --zeroout {path}`")
        }
    };
    problems.push(format!(
        "{path} holds {what}, not a volume of Twinlun. It is left alone and the LUN is not served from it: name \
         another place, or {empty}."
    ));
    what
}

fn other_size(lun: &Lun, path: &Path, bytes: u64) -> String {
    format!(
        "{} holds a volume of {}, the file says otherwise for LUN {}. A LUN keeps the size it was made with: write \
         `size = \"{}\"`.",
        path.display(),
        in_units(bytes),
        lun.name,
        in_units(bytes)
    )
}

#[cfg(test)]
#[path = "check_tests.rs"]
pub(super) mod tests;
