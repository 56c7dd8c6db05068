//! What a controller says of itself: the source of `twinlun status`, printed for people and as JSON alike.

use serde::{Deserialize, Serialize};

/// The pair status (lower case in JSON).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairStatus {
    /// One copy, as configured.
    Simplex,
    /// Being copied from main's volume to the other.
    Copy,
    /// Both copies are identical but for writes in flight.
    Duplex,
    /// Split by a person.
    Split,
    /// Split by a failure, or the peer has not been met yet.
    Suspended,
}

/// A controller's role for one LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Admits and orders the writes.
    Main,
    /// Forwards them to main.
    Sub,
}

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
    /// The interlink.
    pub interlink: InterlinkStatus,
    /// Every configured LUN.
    pub luns: Vec<LunStatus>,
}

/// The interlink as one controller sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterlinkStatus {
    /// Both directions up and the handshake done.
    pub up: bool,
    /// Bridges open from here and from the peer.
    pub bridges: u32,
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
    /// While COPY: how much of the LUN is done, in percent.
    pub copied_percent: Option<u8>,
    /// What is wrong and what is safe to do next.
    pub reason: Option<String>,
    /// Commands in flight here.
    pub commands: u32,
    /// Bytes kept in the communication volume.
    pub communication_bytes: u64,
    /// The LUN's NAA identifier in hexadecimal.
    pub naa: Option<String>,
    /// Its unit serial number.
    pub serial: Option<String>,
}
