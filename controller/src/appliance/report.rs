//! What a person is told: why a LUN is not served, and what to do.

use super::{Appliance, Phase};
use crate::disk::DiskError;
use crate::lun::Breakage;
use crate::plan::Side;
use crate::route::Service;
use crate::status::{InterlinkStatus, PairStatus, Role};
use protocol::interlink::hello::Purpose;

/// One LUN as this core knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunReport {
    /// This controller's role.
    pub role: Role,
    /// Which controller is main.
    pub main: Side,
    /// The pair.
    pub status: PairStatus,
    /// What is wrong and what to do.
    pub reason: Option<String>,
}

impl Appliance {
    /// The appliance's id, once made.
    #[must_use]
    pub const fn id(&self) -> Option<u128> {
        if self.identity.appliance == 0 { None } else { Some(self.identity.appliance) }
    }

    /// This run of this controller.
    #[must_use]
    pub const fn incarnation(&self) -> u128 {
        self.incarnation
    }

    /// The interlink.
    #[must_use]
    pub fn interlink(&self) -> InterlinkStatus {
        let up = self.phase == Phase::Joined;
        let bridges = self
            .links
            .values()
            .filter(|link| link.greeted && matches!(link.purpose, Some(Purpose::Bridge(_))))
            .count();
        InterlinkStatus {
            up,
            bridges: bridges as u32,
            reason: if up { None } else { Some(self.apart.to_string()) },
        }
    }

    /// Whether the peer can serve a LUN, as far as this controller knows.
    #[must_use]
    pub fn peer_serves(&self, lun: usize) -> bool {
        self.phase == Phase::Joined && self.groups[lun].service != Service::Refused
    }

    /// One LUN.
    #[must_use]
    pub fn lun_report(&self, lun: usize) -> LunReport {
        let group = &self.groups[lun];
        let role = self.role(lun);
        let main = match role {
            Role::Main => self.plan.side,
            Role::Sub => self.plan.side.peer(),
        };
        let reason = match (&group.refusal, group.breakage, group.status) {
            (Some(refusal), ..) => Some(refusal.to_string()),
            (None, Some(breakage), PairStatus::Suspended) => Some(self.breakage_text(breakage)),
            (None, _, PairStatus::Suspended) => Some(self.suspended_text(lun, role)),
            (None, _, PairStatus::Copy) => Some(format!(
                "the copy of {target} is being refilled from {source}; both serve hosts meanwhile. Only the \
                 copy of {source} is whole until then: keep {source} running, nothing else to do",
                target = self.plan.names[main.peer().index()],
                source = self.plan.names[main.index()],
            )),
            _ => None,
        };
        LunReport { role, main, status: group.status, reason }
    }

    /// Why a pair is apart: who serves, why the other does not, what to do.
    fn suspended_text(&self, lun: usize, role: Role) -> String {
        let (own, peer) = (&self.plan.names[self.plan.side.index()], self.peer_name());
        let (group, apart) = (&self.groups[lun], &self.apart);
        if self.ending.begun() {
            return apart.to_string();
        }
        if group.service == Service::Alone {
            return format!(
                "{own} serves its hosts alone; what they write since is on the copy of {own} only. Keep {own} \
                 running and its volume where it is, and bring {peer} back: it is then refilled by itself"
            );
        }
        if self.phase == Phase::Joined {
            return "the two controllers are about to agree on it; hosts wait a moment".to_owned();
        }
        if group.alone_at.is_some() || self.going_alone.contains(&lun) {
            return format!("{apart}; in a moment {own} serves its hosts alone. They wait, nothing is lost");
        }
        if group.generation.number == 0 {
            return format!("{apart}; the LUN is made when the two meet for the first time. Start {peer}");
        }
        if !self.plan.luns[lun].mirror {
            return format!(
                "{apart}, and {peer} has the only copy of this LUN. {own} refuses its hosts; wait for {peer}"
            );
        }
        match role {
            Role::Sub => format!(
                "{apart}. {peer} is main and may be serving its hosts alone, so what {own} has may be old: {own} \
                 refuses its hosts, they use the path to {peer}. Nothing acknowledged is lost; wait for {peer}"
            ),
            Role::Main => format!(
                "{apart}. {own} has been started again and cannot tell alone whether its copy is whole: it refuses \
                 its hosts. Nothing acknowledged is lost; start {peer}, and wait until the two have met"
            ),
        }
    }

    fn breakage_text(&self, breakage: Breakage) -> String {
        let own = &self.plan.names[self.plan.side.index()];
        let peer = self.peer_name();
        match breakage {
            Breakage::OwnDisk(DiskError::Full) => {
                format!(
                    "the disk of {own} is full. Nothing acknowledged is lost. Make room, then restart {own}"
                )
            }
            Breakage::OwnDisk(error) => format!(
                "on {own}: {error}. {peer} has the only current copy. Replace the disk, then restart {own}"
            ),
            Breakage::PeerDisk => format!(
                "the disk of {peer} failed or is full: {own} has the only current copy. See the status of {peer}"
            ),
            Breakage::Nonsense => {
                format!("{peer} sent something impossible. Restart both with the same release")
            }
        }
    }
}
