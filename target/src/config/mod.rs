//! appliance.toml: reading it, and telling what is wrong with it.
//!
//! One file describes the appliance, the same on both machines. Text goes in, either a [`Config`] in which
//! everything was checked comes out or every mistake that was found, each with its place and its remedy
//! ([`mistake`]). The stages: [`reader`] walks the TOML tables with their positions, [`sections`] turns each
//! section into values, [`check`] compares sections with each other, [`plan`] hands the result to the controller.

mod check;
mod hosts;
pub mod mistake;
pub mod plan;
mod reader;
mod sections;
mod size;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use controller::plan::Side;

pub use mistake::{ConfigError, Mistake, Mistakes, Problem};
pub use plan::to_plan;
pub use size::{LUN_BYTES_MAX, SizeProblem, in_units, parse_size, rounded};

/// The appliance as its file describes it: complete, checked, paths resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `[appliance]`.
    pub appliance: Appliance,
    /// The two `[[controller]]`, in the order of the file.
    pub controllers: [Controller; 2],
    /// Every `[[lun]]`, in the order of the file. At least one.
    pub luns: Vec<Lun>,
    /// `[access]`.
    pub access: Access,
}

/// `[appliance]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appliance {
    /// The iSCSI target name both controllers serve (RFC 7143 section 4.2.7), in lower case.
    pub iqn: String,
    /// The same as the file writes it: what the target proves itself as in CHAP, byte by byte.
    pub iqn_as_written: String,
    /// The state folder; each controller has a folder of its name in it.
    pub state: PathBuf,
}

/// One `[[controller]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Controller {
    /// Its name: also the name of its folder below the state folder.
    pub name: String,
    /// Where it listens for hosts. At least one.
    pub portals: Vec<SocketAddr>,
    /// What SendTargets tells hosts instead of `portals`, as `address:port`. Empty: `portals` themselves.
    pub advertise: Vec<String>,
    /// Where it listens for its peer, and where the peer finds it. At least one.
    pub interlink: Vec<SocketAddr>,
}

impl Controller {
    /// The portals as hosts are told of them (TargetAddress, RFC 7143 section 13.8).
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        if self.advertise.is_empty() {
            self.portals.iter().map(ToString::to_string).collect()
        } else {
            self.advertise.clone()
        }
    }
}

/// One `[[lun]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lun {
    /// The number hosts use.
    pub number: u16,
    /// Its name, and that of its volume files.
    pub name: String,
    /// Capacity in bytes, a multiple of the logical block. `None` only with devices: what is on them tells, or
    /// the largest that fits both.
    pub bytes: Option<u64>,
    /// The preferred main.
    pub main: Side,
    /// Whether the other controller keeps a copy.
    pub mirror: bool,
    /// The group that it is in with other LUNs of the same main; none: it is one of its own.
    pub group: Option<String>,
    /// GOOD means both controllers' memory (on), or both disks (off).
    pub write_cache: bool,
    /// No host may write.
    pub read_only: bool,
    /// Bytes of a physical block, as hosts are told: 4096 or 512. Hosts align what they do to it.
    pub physical_block_bytes: u32,
    /// The block devices of the first and the second controller; `None`: volume files in the state folder.
    pub device: Option<[Option<PathBuf>; 2]>,
}

/// `[access]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Hosts that are not named are let in, off loopback too, without CHAP.
    pub open: bool,
    /// True: the interlink is not encrypted. False: it is. Not said: it is if one of its addresses is off loopback.
    pub plain_interlink: Option<bool>,
    /// The hosts that are named.
    pub hosts: Vec<Host>,
    /// What discovery sessions have to prove.
    pub discovery: Option<Chap>,
}

/// One `[[access.host]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// InitiatorName, in lower case.
    pub name: String,
    /// The same as the file writes it.
    pub name_as_written: String,
    /// What it has to prove.
    pub chap: Option<Chap>,
    /// The numbers of the LUNs it may see; all if none.
    pub luns: Option<Vec<u16>>,
}

/// CHAP credentials: names, and where the secrets are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chap {
    /// The name the initiator proves; its InitiatorName, in whatever case, if none is given.
    pub user: Option<String>,
    /// Where its secret is.
    pub secret: SecretPlace,
    /// The name the target proves; the iqn as the file writes it if none is given.
    pub own_user: Option<String>,
    /// Where the target's secret is, if the target can be asked to prove itself.
    pub own_secret: Option<SecretPlace>,
}

/// Where a secret is: never in the configuration itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretPlace {
    /// The content of a file, without the line's end.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl Config {
    /// Reads and checks the file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::Unreadable { file: file.to_path_buf(), error })?;
        Self::parse(file, &text).map_err(|mistakes| ConfigError::Mistakes(Box::new(mistakes)))
    }

    /// Checks `text` as the content of `file`, which need not exist: paths are relative to its folder.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        let mut reader = reader::Reader::new(text);
        let draft = reader.document().map(|root| sections::read(&mut reader, &root));
        if let Some(draft) = &draft {
            check::across(&mut reader, draft);
        }
        let mut mistakes = reader.into_mistakes();
        let folder = file.parent().unwrap_or(Path::new(""));
        if mistakes.is_empty()
            && let Some(config) = draft.and_then(|draft| draft.finish(folder))
        {
            return Ok(config);
        }
        mistakes.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        Err(Mistakes::new(file, text, mistakes))
    }

    /// The controller of that name.
    #[must_use]
    pub fn side(&self, name: &str) -> Option<Side> {
        [Side::First, Side::Second].into_iter().find(|side| self.controllers[side.index()].name == name)
    }

    /// One of the two.
    #[must_use]
    pub fn controller(&self, side: Side) -> &Controller {
        &self.controllers[side.index()]
    }

    /// Whether the interlink runs under TLS.
    #[must_use]
    pub fn encrypts_interlink(&self) -> bool {
        !self.access.plain_interlink.unwrap_or_else(|| self.interlink_is_on_loopback())
    }

    /// Whether all addresses of the interlink are on loopback: both controllers run on one machine.
    #[must_use]
    pub fn interlink_is_on_loopback(&self) -> bool {
        let mut addresses = self.controllers.iter().flat_map(|controller| &controller.interlink);
        addresses.all(|address| check::is_loopback(address.ip()))
    }

    /// The folder of one controller's state: volumes, records, the control socket.
    #[must_use]
    pub fn state_folder(&self, side: Side) -> PathBuf {
        self.appliance.state.join(&self.controller(side).name)
    }

    /// Where one controller answers the command line.
    #[must_use]
    pub fn control_socket(&self, side: Side) -> PathBuf {
        self.state_folder(side).join("control.sock")
    }

    /// Where one controller's copy of a LUN lies: its device, or a file in the state folder. `None` if it keeps
    /// no copy.
    #[must_use]
    pub fn volume_path(&self, lun: &Lun, side: Side) -> Option<PathBuf> {
        if !lun.mirror && lun.main != side {
            return None;
        }
        match &lun.device {
            Some(devices) => devices[side.index()].clone(),
            None => Some(self.state_folder(side).join(format!("{}.volume", lun.name))),
        }
    }
}

#[cfg(test)]
mod tests;
