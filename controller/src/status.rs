//! What a controller says of itself: the source of `twinlun status`, printed for people and as JSON alike.

use core::fmt;

use crate::pair::{PairStatus, Role};
use serde::{Deserialize, Serialize};

/// One controller's view of everything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// This controller's name.
    pub controller: String,
    /// Its peer's name.
    pub peer: String,
    /// The appliance's id, once made.
    pub appliance: Option<String>,
    /// This run of this controller.
    pub incarnation: String,
    /// What of the controller does not get on, if something does not: it does not claim to live then.
    #[serde(default)]
    pub stuck: Option<StuckStatus>,
    /// It is ending.
    #[serde(default)]
    pub stopping: bool,
    /// The interlink.
    pub interlink: InterlinkStatus,
    /// Every configured LUN.
    pub luns: Vec<LunStatus>,
    /// The hosts that are logged in here, oldest first.
    pub hosts: Vec<HostStatus>,
    /// Initiator names that two machines have, which throw each other out.
    #[serde(default)]
    pub contests: Vec<ContestStatus>,
    /// What else is wrong, beyond the interlink and the LUNs, and what to do.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What the peer said of itself last, and when.
    pub peer_said: Option<PeerReport>,
    /// The file systems that hold its volumes and its state.
    #[serde(default)]
    pub file_systems: Vec<FileSystemStatus>,
    /// What is wrong with what surrounds it, in sentences: descriptors used up, records that cannot be written.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// Every limit with its present use.
    pub limits: Vec<LimitStatus>,
}

/// A file system that holds volumes or the state of a controller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileSystemStatus {
    /// Where it is mounted, or a folder on it.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is available there, in bytes.
    pub free_bytes: u64,
    /// What the volumes on it may grow by until every block of their LUNs has its place, in bytes.
    pub promised_bytes: u64,
    /// What is missing for that, in bytes.
    pub missing_bytes: u64,
    /// The LUNs whose volumes lie on it.
    pub luns: Vec<String>,
    /// Those of them whose volume found no room when it wanted some, and there is none since.
    pub full_for: Vec<String>,
}

/// A part of a controller that does not get on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StuckStatus {
    /// What it is called.
    pub what: String,
    /// For how long, in seconds.
    pub seconds: u64,
    /// If nothing changes, the process ends in so many seconds.
    pub ends_in_seconds: u64,
}

/// A session of a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostStatus {
    /// InitiatorName.
    pub initiator: String,
    /// InitiatorAlias, empty if none was given.
    pub alias: String,
    /// The host's address and port.
    pub address: String,
    /// The portal it came to: address and port.
    pub portal: String,
    /// Logged in for so many seconds.
    pub seconds: u64,
    /// Commands not answered yet.
    pub commands: u32,
}

/// Logins of one initiator port that end each other's sessions again and again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContestStatus {
    /// InitiatorName.
    pub initiator: String,
    /// Where the last two came from: with their ports if from one address.
    pub addresses: [String; 2],
    /// How often one has ended the session of the other.
    pub times: u32,
    /// In how many seconds.
    pub seconds: u64,
}

impl fmt::Display for ContestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { initiator, addresses: [one, other], times, seconds } = self;
        write!(
            f,
            "{initiator} logs in from {one} and from {other}, and each login ends the session of the other ({times} \
             times in {seconds} s): two machines have one InitiatorName, and what they do fails or waits. Give one \
             of them a name of its own (/etc/iscsi/initiatorname.iscsi) and log in there again"
        )
    }
}

/// What the peer said of itself. It decides nothing, and may be old.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerReport {
    /// How old it is, in seconds.
    pub age_seconds: u64,
    /// The peer still says it: the two are in touch.
    pub current: bool,
    /// Its LUNs, as far as both know them.
    pub luns: Vec<LunStatus>,
    /// How many hosts are logged in there.
    pub hosts_count: u32,
    /// The first of them.
    pub hosts: Vec<HostStatus>,
    /// What else it said to be wrong.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Who has reserved a LUN: the same on both controllers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReservationStatus {
    /// What is reserved, in SPC's words: `"reserve(6)"`, `"write exclusive, registrants only"`.
    pub kind: String,
    /// The initiators that hold it.
    pub holders: Vec<String>,
}

/// A sanitize operation (SBC-4 4.11): the same on both controllers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SanitizeStatus {
    /// It has failed; hosts reach nothing until another one ends well or EXIT FAILURE MODE.
    pub failed: bool,
    /// While it is under way: `"overwrite"`, `"block erase"` or `"format"`; the last also if it has failed.
    pub method: Option<String>,
    /// While it is under way: how much is done, in percent. Main knows it best.
    pub percent: Option<u8>,
    /// Which pass it is in, from 1; zero if it has failed.
    pub pass: u8,
    /// How many passes there are; zero if it has failed.
    pub passes: u8,
}

/// A limit and how much of it is in use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LimitStatus {
    /// The constant's name.
    pub name: String,
    /// The unit of `max`, `used` and `peak`; where the limit holds for each of several, also for each of what.
    pub unit: String,
    /// The limit.
    pub max: u64,
    /// In use now; where there are several, by the one that uses most. None: a size or time that is only compared.
    pub used: Option<u64>,
    /// The most that was in use since the start, where that is counted.
    pub peak: Option<u64>,
}

/// The interlink as one controller sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterlinkStatus {
    /// Both directions up and the handshake done.
    pub up: bool,
    /// Connections of it are encrypted, and the peer is known by its certificate.
    pub encrypted: bool,
    /// Bridges open from here and from the peer.
    pub bridges: u32,
    /// The two reach each other, but one refuses the other; `reason` says why.
    pub refused: bool,
    /// The peer's machine takes connections, but the peer says nothing on them.
    #[serde(default)]
    pub mute: bool,
    /// Why it is not up, or what the peer was refused for.
    pub reason: Option<String>,
}

/// One LUN as one controller sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LunStatus {
    /// The number hosts use.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// The group that it is in with other LUNs: they have one role and one status, and change roles together.
    #[serde(default)]
    pub group: Option<String>,
    /// Capacity in bytes.
    pub bytes: u64,
    /// This controller's role.
    pub role: Role,
    /// The name of the controller that is main.
    pub main: String,
    /// The pair.
    pub status: PairStatus,
    /// Whether hosts are served here.
    pub serving: bool,
    /// While COPY: how much of the LUN is done, in percent. Main knows; the sub says what main said last.
    pub copied_percent: Option<u8>,
    /// While COPY: what the rest takes at the pace so far, in seconds; none before there is a pace.
    pub copy_seconds_left: Option<u64>,
    /// While SPLIT: whether the sub's copy is an image of the LUN as it was when it was split; none if that is not
    /// known.
    #[serde(default)]
    pub image: Option<bool>,
    /// The sanitize operation that is under way or has failed.
    pub sanitize: Option<SanitizeStatus>,
    /// Who has reserved it.
    pub reservation: Option<ReservationStatus>,
    /// What is wrong and what is safe to do next.
    pub reason: Option<String>,
    /// Commands in flight here.
    pub commands: u32,
    /// Bytes kept in the communication volume.
    pub communication_bytes: u64,
    /// The LUN's NAA identifier in hexadecimal.
    pub naa: Option<String>,
    /// The name hosts give it: `/dev/disk/by-id/scsi-` before it on Linux, the WWID of multipath-tools.
    pub wwid: Option<String>,
    /// Its unit serial number.
    pub serial: Option<String>,
}

/// A limit that is counted.
#[must_use]
pub fn counted(name: &str, unit: &str, max: u64, used: u64, peak: Option<u64>) -> LimitStatus {
    LimitStatus { name: name.to_owned(), unit: unit.to_owned(), max, used: Some(used), peak }
}

/// A limit that something is only compared with: a size, a time.
#[must_use]
pub fn compared(name: &str, unit: &str, max: u64) -> LimitStatus {
    LimitStatus { name: name.to_owned(), unit: unit.to_owned(), max, used: None, peak: None }
}
