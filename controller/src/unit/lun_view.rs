//! A LUN as the device server describes it to hosts.

use protocol::interlink::shared::Modes;

use crate::appliance::Appliance;
use crate::lun::Lun;
use crate::pair::{PairStatus, Role};
use crate::plan::Plan;

/// What names a LUN to hosts, the same on both controllers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunName {
    /// NAA identifier, type 3 (locally assigned).
    pub naa: u64,
    /// Unit serial number.
    pub serial: String,
}

/// What the device server must know of a LUN to describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunView {
    /// The number hosts use.
    pub number: u16,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// What names it; none before it is made.
    pub identity: Option<LunName>,
    /// This controller's role.
    pub role: Role,
    /// The pair.
    pub status: PairStatus,
    /// Whether this controller can serve the LUN now.
    pub serving: bool,
    /// WCE as it is configured.
    pub write_cache: bool,
    /// No host may write.
    pub read_only: bool,
    /// The changeable mode parameters as they are, and as they are saved.
    pub modes: [Modes; 2],
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT.
    pub physical_block_exponent: u8,
    /// Which controller this is: relative target port and target port group are this index + 1.
    pub controller_index: usize,
    /// Whether the peer can serve the LUN, as far as known.
    pub peer_serving: bool,
}

/// What the appliance knows of a LUN, looked up before the LUN is locked.
pub(super) struct Known {
    index: usize,
    identity: Option<LunName>,
    role: Role,
    peer_serving: bool,
}

impl Known {
    /// What the appliance knows of the LUN at this place of the plan; `None` if there is none.
    pub(super) fn new(appliance: &Appliance, plan: &Plan, index: usize) -> Option<Self> {
        plan.luns.get(index)?;
        let identity = appliance
            .view()
            .lun_identity(index)
            .map(|identity| LunName { naa: identity.naa, serial: format!("{:016x}", identity.serial) });
        let (role, peer_serving) =
            (appliance.view().lun_report(index).role, appliance.view().peer_serves(index));
        Some(Self { index, identity, role, peer_serving })
    }

    /// The view, with what the LUN itself says.
    pub(super) fn view(self, plan: &Plan, lun: &Lun) -> LunView {
        let planned = &plan.luns[self.index];
        LunView {
            number: planned.number,
            blocks: lun.blocks(),
            identity: self.identity,
            role: self.role,
            status: lun.view().status,
            serving: lun.serving(),
            write_cache: planned.write_cache,
            read_only: planned.read_only,
            modes: [lun.unit().state().current, lun.unit().state().saved],
            physical_block_exponent: planned.physical_block_exponent,
            controller_index: plan.side.index(),
            peer_serving: self.peer_serving,
        }
    }
}
