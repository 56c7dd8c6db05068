//! What a session begins with: what its login has found out and agreed to.

use core::net::SocketAddr;
use std::sync::Arc;

use controller::command::NexusId;
use controller::unit::SenseFormats;
use protocol::iscsi::{CmdSn, StatSn};

use crate::iscsi::directory::FrontendConfig;
use crate::iscsi::login::parameters::Parameters;
use crate::iscsi::memory_pool::Pool;

/// What a session begins with.
#[derive(Debug)]
pub struct Opening {
    /// The session's nexus; none for discovery.
    pub nexus: Option<NexusId>,
    /// What was negotiated.
    pub parameters: Parameters,
    /// Connection ID.
    pub cid: u16,
    /// The next CmdSN.
    pub cmd_sn: CmdSn,
    /// The next StatSN.
    pub stat_sn: StatSn,
    /// What SendTargets lists.
    pub directory: Arc<FrontendConfig>,
    /// The host's address and that of the portal it came to.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// How many bytes of data-out a CDB takes.
    pub data_out_bytes: fn(&[u8; 16]) -> u64,
    /// What all sessions of the controller share.
    pub memory: Arc<Pool>,
    /// The numbers of the LUNs the initiator may see, ascending; all if none.
    pub luns: Option<Arc<[u16]>>,
    /// In which format sense data of the LUNs is sent.
    pub sense_formats: SenseFormats,
}
