//! What a person is told of a LUN: why it is not served, and what to do. A function of what is known of its group, of
//! why the two are apart, and of the configuration; nothing is changed by it.

use protocol::block::BLOCK_BYTES;
use protocol::interlink::copy_report::CopyFound;
use protocol::interlink::will::Wanted;

use super::effect::Apart;
use super::group::Group;
use super::lifecycle::Stage;
use super::pair_command::Target;
use crate::disk::DiskError;
use crate::group::Refusal;
use crate::pair::{PairFault, PairStatus, Role, Service};
use crate::plan::{Plan, Side};

/// One LUN as this core knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunReport {
    /// This controller's role.
    pub role: Role,
    /// Which controller is main.
    pub main: Side,
    /// The pair.
    pub status: PairStatus,
    /// While the pair is wanted split: whether the sub's copy is an image of the LUN as it was then; none if that is
    /// not known here.
    pub image: Option<bool>,
    /// What is wrong and what to do.
    pub reason: Option<String>,
}

/// What a report of one LUN is made of.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    /// The LUN's place in the plan.
    pub(super) lun: usize,
    pub(super) group: &'a Group,
    /// Why the two are apart, if they are.
    pub(super) apart: &'a Apart,
    pub(super) joined: bool,
    /// A clean end has begun, or this controller can serve nothing.
    pub(super) ends: bool,
}

impl Report<'_> {
    /// The report.
    pub(super) fn make(&self) -> LunReport {
        let role = self.group.state().role();
        let main = match role {
            Role::Main => self.plan.side,
            Role::Sub => self.plan.side.peer(),
        };
        let (status, service) = (self.group.state().status(), self.group.service());
        let reason = match (self.group.refusal(), self.group.copies().breakage(), status) {
            (Some(refusal), ..) => Some(refusal.to_string()),
            // What its failure means is true of a copy that serves, and of the one that failed.
            (None, Some(breakage), PairStatus::Suspended)
                if service.serves() || matches!(breakage, PairFault::OwnDisk(_)) =>
            {
                Some(self.breakage_text(breakage))
            }
            (None, _, PairStatus::Suspended) => Some(self.suspended_text(role)),
            (None, breakage, PairStatus::Copy) => Some(self.copy_text(main, breakage)),
            (None, breakage, PairStatus::Split | PairStatus::Simplex) if self.is_wanted() => {
                let wanted = self.wanted_text(main, status);
                let failed = breakage.filter(|breakage| matches!(breakage, PairFault::OwnDisk(_)));
                Some(match failed.filter(|_| role == Role::Main) {
                    Some(breakage) => format!("{}; {wanted}", self.breakage_text(breakage)),
                    None => wanted,
                })
            }
            _ => self.other_size(),
        };
        LunReport { role, main, status, image: self.group.state().image(), reason }
    }

    fn names(&self) -> (&str, &str) {
        let [own, peer] = [self.plan.side, self.plan.side.peer()].map(|side| &self.plan.names[side.index()]);
        (own, peer)
    }

    fn found(&self) -> CopyFound {
        self.group.copies().found(self.lun)
    }

    /// Whether the peer has no volume that could be copied to.
    fn has_peer_none(&self) -> bool {
        self.group.state().theirs().is_some_and(|theirs| theirs.target() == Target::Absent)
    }

    fn copy_text(&self, main: Side, breakage: Option<PairFault>) -> String {
        let [target, source] = [main.peer(), main].map(|side| &self.plan.names[side.index()]);
        let refilled = format!(
            "the copy of {target} is being refilled from {source}; both serve hosts meanwhile. Only the copy of \
             {source} is whole until then: keep {source} running"
        );
        match breakage {
            Some(PairFault::OwnDisk(error)) if main == self.plan.side => format!(
                "{refilled}. On {source}: {error}. What could not be read or written there is tried again; if this \
                 stays, its disk is failing: copy from it what its hosts can still read"
            ),
            _ => format!("{refilled}, nothing else to do"),
        }
    }

    /// Whether a person wants that only one copy is served.
    fn is_wanted(&self) -> bool {
        self.plan.luns[self.lun].mirror && self.group.copies().generation().will.wanted != Wanted::Pair
    }

    fn wanted_text(&self, main: Side, status: PairStatus) -> String {
        let [sub, main] = [main.peer(), main].map(|side| &self.plan.names[side.index()]);
        let name = &self.plan.luns[self.lun].name;
        if status == PairStatus::Split {
            let image = match self.group.state().image() {
                Some(true) => format!("that of {sub} stays as it was then"),
                Some(false) => format!(
                    "and that of {sub} is no image of the LUN: its disk failed, or it was cut off before all of it was \
                     on its disk"
                ),
                None => format!(
                    "that of {sub} stays as it was then, if it was complete: {main} asks {sub} for that when they meet"
                ),
            };
            format!(
                "split by `twinlun pair split`: what hosts write since is on the copy of {main} alone, {image}. \
                 `twinlun pair resync {name}` makes the two identical again, from {main}"
            )
        } else {
            format!(
                "its pair was deleted by `twinlun pair delete`: only the copy of {main} is served. `twinlun pair \
                 create {name}` makes a second one on {sub} again"
            )
        }
    }

    /// The configuration names another size than the LUN has.
    fn other_size(&self) -> Option<String> {
        // Until then it has none that it would keep.
        if self.group.copies().generation().number == 0 {
            return None;
        }
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(BLOCK_BYTES));
        let wanted = bytes(self.plan.luns[self.lun].blocks);
        let has = bytes(self.group.copies().of(self.lun).blocks());
        (wanted != 0 && wanted != has).then(|| {
            format!(
                "appliance.toml says {wanted} bytes, and it has {has}: a LUN keeps the size it was made with, and is \
                 served with that. Write `size = {has}` into both machines' files"
            )
        })
    }

    /// Why a pair is apart: who serves, why the other does not, what to do.
    fn suspended_text(&self, role: Role) -> String {
        let (own, peer) = self.names();
        let (group, apart, service) = (self.group, self.apart, self.group.service());
        if self.ends || matches!(apart, Apart::Stuck(_)) {
            return apart.to_string();
        }
        if self.joined && service == Service::Alone && self.has_peer_none() {
            return format!(
                "{own} serves the hosts of both from the only copy, and a second one is wanted on {peer}, whose volume \
                 is not there yet: it is made and filled when the two meet next. Start {peer} again at a quiet time: \
                 every other pair is copied as well then"
            );
        }
        if self.joined && service == Service::Alone {
            return format!(
                "the copy of {peer} is out of the pair, its disk failed or is full: {own} serves the hosts of both \
                 from the only current copy. Keep {own} running and its volume where it is"
            );
        }
        if self.joined && service == Service::Forwarded && group.state().own_target() == Target::Absent {
            return format!(
                "a second copy is wanted on {own}, whose volume is not there yet: it is made and filled when the two \
                 meet next. Start {own} again at a quiet time: every other pair is copied as well then"
            );
        }
        if self.joined && service == Service::Forwarded {
            return format!(
                "the copy of {own} is out of the pair, its disk failed or is full: {peer} serves the hosts of both \
                 from the only current copy. Repair the disk of {own} or make room on it, then start {own} again: it \
                 is refilled"
            );
        }
        if service == Service::Alone {
            return format!(
                "{own} serves its hosts alone, and only its copy is sure to be whole: what they write since is on no \
                 other. Keep {own} running and its volume where it is, and bring {peer} back: it is then refilled by \
                 itself"
            );
        }
        let goes_alone = matches!(group.stage(), Stage::WaitingOut { .. } | Stage::GoingAlone { .. });
        if self.joined && !goes_alone {
            return "the two controllers are about to agree on it; hosts wait a moment".to_owned();
        }
        if let Some(refused) = self.unfit_text() {
            return format!("{apart}; {refused}");
        }
        if goes_alone {
            return format!("{apart}; in a moment {own} serves its hosts alone. They wait, nothing is lost");
        }
        if group.copies().generation().number == 0 {
            return format!("{apart}; the LUN is made when the two meet for the first time. Start {peer}");
        }
        let made = group.copies().of(self.lun).generation().number > 0;
        let missing = self.lost_volume_text().filter(|_| made);
        if let Some(text) = missing.or_else(|| self.joins_text()) {
            return text;
        }
        if !self.plan.luns[self.lun].mirror {
            return format!(
                "{apart}, and {peer} has the only copy of this LUN. {own} refuses its hosts; wait for {peer}"
            );
        }
        self.away_text(role)
    }

    /// The peer is away, and this controller may not serve without it.
    fn away_text(&self, role: Role) -> String {
        let ((own, peer), apart, group) = (self.names(), self.apart, self.group);
        match role {
            Role::Sub if matches!(apart, Apart::Stopped(_)) => format!(
                "{apart}. {peer} is main, and {own} refuses its hosts without it. Nothing acknowledged is lost.{} \
                 Start {peer} again when it shall go on; until then hosts wait for {peer}",
                self.no_image_text()
            ),
            Role::Sub => format!(
                "{apart}. {peer} is main and may be serving its hosts alone, so what {own} has may be old: {own} \
                 refuses its hosts, they use the path to {peer}.{}{} {own} does not take over by itself: leave both \
                 volumes where they are, bring {peer} back, and wait for {peer}",
                self.what_both_have(),
                self.no_image_text()
            ),
            Role::Main if group.state().has_kept() => format!(
                "{apart} while {own} was becoming main: {peer} may be serving its hosts alone. {own} refuses its \
                 hosts. Leave both volumes where they are, bring {peer} back, and wait until the two have met"
            ),
            Role::Main => format!(
                "{apart}. {own} has been started again and cannot tell alone whether its copy is whole: it refuses \
                 its hosts. Leave both volumes where they are, start {peer}, and wait until the two have met"
            ),
        }
    }

    /// What is wrong with what was found here, where the other controller has not been asked yet.
    fn unfit_text(&self) -> Option<String> {
        let own = self.names().0.to_owned();
        match self.found() {
            CopyFound::Stale => Some(Refusal::Stale(own).to_string()),
            CopyFound::Unreadable => Some(Refusal::Unreadable(own).to_string()),
            CopyFound::Others => Some(Refusal::Others(own).to_string()),
            _ => None,
        }
    }

    /// The local volume of a LUN that was made is not there.
    fn lost_volume_text(&self) -> Option<String> {
        let ((own, peer), apart) = (self.names(), self.apart);
        let group = self.group;
        let gone = matches!(self.found(), CopyFound::Missing | CopyFound::Blank);
        if !gone || !(self.plan.luns[self.lun].mirror || self.group.state().role() == Role::Main) {
            return None;
        }
        let other = 1 << self.plan.side.peer().index();
        Some(if group.copies().generation().members & other != 0 {
            format!(
                "the volume on {own} is gone; look whether its disk is mounted. {peer} has a copy, and {apart}. If the \
                 volume is lost, bring {peer} back: once the two meet, it is made anew and refilled from there"
            )
        } else {
            format!(
                "the volume on {own} is gone, and it was the only current copy; look whether its disk is mounted. \
                 Nothing is created in its place. Bring the volume back, then start {own} again"
            )
        })
    }

    /// LUNs that were not in one group before are served when the two have agreed on them together.
    fn joins_text(&self) -> Option<String> {
        let ((own, peer), apart) = (self.names(), self.apart);
        let group = self.plan.luns[self.lun].group.as_ref()?;
        (!self.group.copies().are_one()).then(|| {
            format!(
                "{apart}; the LUNs of group {group} were not all in one group before, and are served when {own} and \
                 {peer} have met. Start {peer}; or write the `group` keys as they were, then start {own} again"
            )
        })
    }

    /// That the local copy is not whole, for it was being refilled or is out of the pair.
    fn no_image_text(&self) -> String {
        let generation = self.group.copies().generation();
        if generation.has_member(self.plan.side as u8) {
            return String::new();
        }
        let (own, peer) = self.names();
        if self.group.state().image() == Some(true) {
            return format!(" The copy of {own} was split off: it is the LUN as it was then, and stays so.");
        }
        format!(
            " The copy of {own} is not whole, it was out of the pair or being refilled: it is no image of the LUN, \
             only that of {peer} is."
        )
    }

    /// What is certain of a whole copy whose main is away, and what is not.
    fn what_both_have(&self) -> String {
        let group = self.group;
        // A controller that was started again does not know what the other has acknowledged meanwhile.
        if !group.copies().generation().has_member(self.plan.side as u8) || !group.state().has_kept() {
            return String::new();
        }
        format!(
            " What was acknowledged before is on both copies, what {peer} acknowledges since on that of {peer} alone.",
            peer = self.names().1
        )
    }

    /// Where what was acknowledged is when the local disk has failed, certain only while the other is heard of; and
    /// what to do, for which `mend` is how that disk gets well, and `by_itself` whether that is noticed.
    fn what_is_left(&self, mend: &str, by_itself: bool) -> String {
        let (own, peer) = self.names();
        let refill = if by_itself {
            format!("{mend}, and the copy of {own} is refilled by itself")
        } else {
            format!("{mend}, then start {own} again: it is refilled")
        };
        match self.group.service() {
            Service::Forwarded if self.joined => format!(
                "Nothing acknowledged is lost: {peer} has the only current copy, keep it running. {refill}"
            ),
            Service::Alone => format!(
                "{own} has the only current copy: of what its disk does not take or give, hosts hear. {mend}; if the \
                 disk fails, copy what can be read elsewhere first"
            ),
            _ => format!(
                "Whether {peer} has all that was acknowledged shows when the two meet: leave both volumes where they \
                 are. {refill}"
            ),
        }
    }

    fn breakage_text(&self, breakage: PairFault) -> String {
        let (own, peer) = self.names();
        match breakage {
            PairFault::OwnDisk(DiskError::Full) => {
                format!(
                    "the file system of {own} is full. {}",
                    self.what_is_left(&format!("Make room on {own}: that is noticed"), true)
                )
            }
            PairFault::OwnDisk(DiskError::SizeLimit) => format!(
                "on {own} a file size limit keeps the volume from growing (`ulimit -f`, LimitFSIZE= of its service, or \
                 the largest file its file system can hold). {}",
                self.what_is_left("Raise the limit", false)
            ),
            PairFault::OwnDisk(error) => {
                format!("on {own}: {error}. {}", self.what_is_left("Repair or replace the disk", false))
            }
            PairFault::PeerDisk => format!(
                "the disk of {peer} failed or is full: {own} serves the hosts of both from the only current copy. \
                 Keep {own} running and its volume where it is"
            ),
            // Neither is kept: both end the meeting.
            PairFault::ProtocolViolation | PairFault::Overdue => {
                format!(
                    "{peer} sent something impossible. Run the same release on both, and start both again"
                )
            }
        }
    }
}
