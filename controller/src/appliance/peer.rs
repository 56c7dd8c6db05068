//! What the peer has told of itself since its control connection was greeted.

use protocol::interlink::copy_report::{CopyReport, Told};
use protocol::interlink::hello::{Hello, Identity};

use crate::link::LinkId;

/// The version of the interlink since which the joint start is told.
const TOLD_SINCE: u16 = protocol::interlink::Version::V2 as u16;

/// The peer, as it has told of itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) control: LinkId,
    pub(super) incarnation: u128,
    pub(super) bridges: u16,
    /// The newest version that both speak.
    pub(super) version: u16,
    /// Its configuration.
    pub(super) shared: Vec<(String, String)>,
    /// How large its devices let LUNs be.
    pub(super) rooms: Vec<(String, u64)>,
    /// Its identity before this meeting.
    pub(super) identity: Identity,
    /// What it has of each LUN, until that was judged.
    reports: Option<Vec<(String, CopyReport)>>,
    /// What it tells beside.
    pub(super) told: Vec<(String, Told)>,
}

impl Peer {
    /// The peer that greets so on its control connection; `speaks`: the newest version that this controller offers.
    pub(super) fn greeted(control: LinkId, hello: &Hello, speaks: u16) -> Self {
        Self {
            control,
            incarnation: hello.incarnation,
            bridges: hello.bridges,
            version: hello.versions.1.min(speaks),
            shared: hello.shared.clone(),
            rooms: hello.rooms.clone(),
            identity: hello.identity.clone(),
            reports: None,
            told: Vec::new(),
        }
    }

    /// Whether it tells of starts, and is told.
    pub(super) const fn knows_starts(&self) -> bool {
        self.version >= TOLD_SINCE
    }

    /// It tells what it has of each LUN.
    pub(super) fn hear_reports(&mut self, reports: Vec<(String, CopyReport)>) {
        self.reports = Some(reports);
    }

    /// And beside that of times in which both served.
    pub(super) fn hear_told(&mut self, told: Vec<(String, Told)>) {
        self.told = told;
    }

    /// What it has, to be judged once.
    pub(super) const fn take_reports(&mut self) -> Option<Vec<(String, CopyReport)>> {
        self.reports.take()
    }
}
