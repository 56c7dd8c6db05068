//! What is read of the appliance core by those around it: identities, what hosts and people are told. Nothing is
//! changed by it.

use protocol::interlink::hello::LunIdentity;
use protocol::interlink::peer_status::PeerStatus;

use super::effect::Apart;
use super::lifecycle::Stage;
use super::local::Local;
use super::notes;
use super::peer::Peer;
use super::report::{LunReport, Report};
use super::session::PeerSession;
use super::shutdown::Shutdown;
use super::wish::Setting;
use crate::status::InterlinkStatus;
use crate::time::Time;

/// What the core says of itself and of the peer, for people.
#[derive(Debug)]
pub struct About<'a> {
    /// The appliance's id, once made.
    pub appliance: Option<u128>,
    /// This run of this controller.
    pub incarnation: u128,
    /// It is ending.
    pub stopping: bool,
    /// The interlink; whether it is encrypted is not this core's to know.
    pub interlink: InterlinkStatus,
    /// What is wrong with the appliance as a whole, and what to do. Known while the peer is.
    pub notes: Vec<String>,
    /// What the peer said of itself last, and whether it still says so.
    pub peer_said: Option<(Time, &'a PeerStatus, bool)>,
}

/// The appliance core as it is now, to be read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) local: &'a Local,
    pub(super) session: &'a PeerSession,
    pub(super) shutdown: &'a Shutdown,
}

impl<'a> View<'a> {
    /// Whether identities exist: before that, no portal serves anything.
    #[must_use]
    pub const fn has_identity(self) -> bool {
        self.local.identities().appliance().is_some()
    }

    /// True when nothing more needs to be done before the process ends.
    #[must_use]
    pub const fn stopped(self) -> bool {
        self.shutdown.stopped()
    }

    /// How this controller stands when something happens to a group.
    pub(super) fn setting(self) -> Setting {
        let (joined, version) = (self.session.is_joined(), self.session.version());
        self.shutdown.setting(joined, version, self.local.tickets().ticked())
    }

    /// The identity of a LUN of the plan, once made.
    #[must_use]
    pub fn lun_identity(self, lun: usize) -> Option<&'a LunIdentity> {
        self.local.identities().of(&self.local.plan().luns.get(lun)?.name)
    }

    /// What it says of itself and of the peer.
    #[must_use]
    pub fn about(self) -> About<'a> {
        let notes = |peer: &Peer| notes::notes(self.local.plan(), &peer.shared);
        About {
            appliance: self.local.identities().appliance(),
            incarnation: self.session.incarnation(),
            stopping: *self.session.apart() == Apart::Stopping || self.shutdown.is_announced(),
            interlink: self.session.interlink(),
            notes: self.session.peer().map_or_else(Vec::new, notes),
            peer_said: self.session.word(),
        }
    }

    /// What is said of one LUN.
    #[must_use]
    pub fn lun_report(self, lun: usize) -> LunReport {
        let report = Report {
            plan: self.local.plan(),
            lun,
            group: self.local.groups().of(lun),
            apart: self.session.apart(),
            joined: self.session.is_joined(),
            ends: self.shutdown.begun() || self.local.is_unusable(),
        };
        report.make()
    }

    /// Whether the peer can serve a LUN, as far as this controller knows.
    #[must_use]
    pub fn peer_serves(self, lun: usize) -> bool {
        let group = self.local.groups().of(lun);
        let paired = group.stage() != Stage::Alone;
        self.session.is_joined() && paired && group.service().serves()
    }

    /// Whether a LUN's pair is about to go on under another generation.
    #[must_use]
    pub fn is_switching(self, lun: usize) -> bool {
        lun < self.local.plan().luns.len() && self.local.groups().of(lun).stage().switch().is_some()
    }
}
