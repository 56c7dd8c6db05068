//! What a controller says of itself: to people ([`status`]), and in short to its peer ([`for_peer`]), which shows it
//! to people on the other machine.

use core::time::Duration;

use parking_lot::Mutex;
use protocol::block::BLOCK_BYTES;
use protocol::interlink::peer_status::{
    Copied, HostReport, LunReport, PEER_STATUS_HOSTS_MAX, PEER_STATUS_REASONS_MAX, PeerStatus,
};
use protocol::scsi::vpd::wwid;

use super::luns::Luns;
use crate::appliance::Appliance;
use crate::lun::Lun;
use crate::pair::{PairStatus, Role};
use crate::plan::Plan;
use crate::status::{ControllerStatus, HostStatus, InterlinkStatus, LunStatus, PeerReport};
use crate::time::Time;
use crate::world::World;

/// The pair status as a word names it.
const STATUSES: [PairStatus; 5] =
    [PairStatus::Simplex, PairStatus::Copy, PairStatus::Duplex, PairStatus::Split, PairStatus::Suspended];

/// What this controller says of itself, and what its peer said last. Hosts and limits are not in it.
pub(super) fn status<W: World>(
    world: &W,
    plan: &Plan,
    appliance: &Appliance,
    luns: &Luns,
) -> ControllerStatus {
    let now = world.now();
    let mut luns = luns_status(world, plan, appliance, luns);
    let about = appliance.view().about();
    let peer_said = about.peer_said.map(|said| peer_report(plan, said, &luns, now));
    for (lun, peer) in luns.iter_mut().filter_map(|lun| Some((lun, peer_said.as_ref()?))) {
        // Main tells how far a copy is; while the two are in touch the sub knows by it.
        let said = peer.luns.iter().find(|said| peer.current && said.number == lun.number);
        if let (PairStatus::Copy, Role::Sub, Some(said)) = (lun.status, lun.role, said) {
            (lun.copied_percent, lun.copy_seconds_left) = (said.copied_percent, said.copy_seconds_left);
        }
    }
    ControllerStatus {
        controller: plan.own_name().to_owned(),
        peer: plan.peer_name().to_owned(),
        appliance: about.appliance.map(|id| format!("{id:032x}")),
        incarnation: format!("{:032x}", about.incarnation),
        stuck: world.stuck(),
        stopping: about.stopping,
        interlink: InterlinkStatus { encrypted: world.encrypts(), ..about.interlink },
        luns,
        hosts: Vec::new(),
        contests: world.contests(),
        notes: about.notes,
        peer_said,
        file_systems: world.file_systems(),
        troubles: world.troubles(),
        limits: Vec::new(),
    }
}

/// What the peer is told, for people.
pub(super) fn for_peer<W: World>(
    world: &W,
    plan: &Plan,
    appliance: &Mutex<Appliance>,
    luns: &Luns,
) -> PeerStatus {
    let (luns, mut notes) = {
        let appliance = appliance.lock();
        (luns_status(world, plan, &appliance, luns), appliance.view().about().notes)
    };
    notes.extend(world.contests().iter().map(ToString::to_string));
    in_short(&luns, &world.hosts(), notes)
}

fn luns_status<W: World>(world: &W, plan: &Plan, appliance: &Appliance, luns: &Luns) -> Vec<LunStatus> {
    let now = world.now();
    let luns = luns.iter().enumerate();
    luns.map(|(index, lun)| {
        let mut status = lun_status(plan, appliance, index, &lun, now);
        let want = plan.base(index).and_then(|volume| world.want_of_room(volume));
        status.reason = with_want_of_room(status.reason, want);
        status
    })
    .collect()
}

fn lun_status(plan: &Plan, appliance: &Appliance, index: usize, core: &Lun, now: Time) -> LunStatus {
    let (peer_name, names) = (plan.peer_name(), &plan.names);
    let plan = &plan.luns[index];
    let report = appliance.view().lun_report(index);
    let identity = appliance.view().lun_identity(index);
    let work = core.work(now);
    LunStatus {
        number: plan.number,
        name: plan.name.clone(),
        group: plan.group.clone(),
        bytes: core.blocks() * u64::from(BLOCK_BYTES),
        role: report.role,
        main: names[report.main.index()].clone(),
        status: report.status,
        serving: core.serving(),
        copied_percent: work.copied.map(|(percent, _)| percent),
        copy_seconds_left: work.copied.and_then(|(_, left)| left),
        image: report.image,
        sanitize: work.sanitize,
        reservation: core.unit().reservation(peer_name),
        reason: report.reason,
        commands: work.commands,
        communication_bytes: work.communication_bytes,
        naa: identity.map(|identity| format!("{:016x}", identity.naa)),
        wwid: identity.map(|identity| wwid(identity.naa)),
        serial: identity.map(|identity| format!("{:016x}", identity.serial)),
    }
}

/// The peer's last word beside what this controller knows of the same LUNs.
fn peer_report(
    plan: &Plan,
    (at, word, current): (Time, &PeerStatus, bool),
    own: &[LunStatus],
    now: Time,
) -> PeerReport {
    let age = now.since(at);
    let names = [plan.side, plan.side.peer()].map(|side| &plan.names[side.index()]);
    let lun = |said: &LunReport| {
        let own = own.iter().find(|own| own.number == said.lun)?;
        let reason = said.reason.and_then(|at| word.reasons.get(usize::from(at)));
        Some(LunStatus {
            role: if said.main { Role::Main } else { Role::Sub },
            main: names[usize::from(said.main)].clone(),
            status: STATUSES.get(usize::from(said.status)).copied().unwrap_or(PairStatus::Suspended),
            serving: said.serving,
            copied_percent: said.copied.map(|copied| copied.percent),
            copy_seconds_left: said.copied.and_then(|copied| copied.seconds_left).map(u64::from),
            reason: reason.cloned(),
            commands: said.commands,
            communication_bytes: said.communication_bytes,
            ..own.clone()
        })
    };
    let host = |said: &HostReport| HostStatus {
        initiator: said.initiator.clone(),
        alias: said.alias.clone(),
        address: said.address.clone(),
        portal: said.portal.clone(),
        seconds: u64::from(said.seconds).saturating_add(age.as_secs()),
        commands: said.commands,
    };
    PeerReport {
        age_seconds: age.as_secs(),
        current: current && age <= STALE_AFTER,
        luns: word.luns.iter().filter_map(lun).collect(),
        hosts_count: word.hosts,
        hosts: word.named.iter().map(host).collect(),
        notes: word.unreferenced().map(str::to_owned).collect(),
    }
}

/// A full disk is told of beside the reason, if there is one.
fn with_want_of_room(reason: Option<String>, want: Option<String>) -> Option<String> {
    match (reason, want) {
        (Some(reason), Some(want)) => Some(format!("{}. {want}", reason.trim_end_matches('.'))),
        (reason, want) => reason.or(want),
    }
}

/// A word of a peer in touch that is older than this is shown as old: it should have come several times since.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// Places among the reasons that are kept for what is wrong with the controller as a whole.
const NOTES_TOLD: usize = 4;

/// The same in short.
fn in_short(luns: &[LunStatus], hosts: &[HostStatus], notes: Vec<String>) -> PeerStatus {
    let mut reasons: Vec<String> = Vec::new();
    let places = PEER_STATUS_REASONS_MAX - notes.len().min(NOTES_TOLD);
    let mut place = |reason: &String| {
        let at = reasons.iter().position(|known| known == reason).or_else(|| {
            (reasons.len() < places).then(|| reasons.push(reason.clone()))?;
            Some(reasons.len() - 1)
        });
        at.and_then(|at| u8::try_from(at).ok())
    };
    let seconds = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX);
    let lun = |lun: &LunStatus| LunReport {
        lun: lun.number,
        main: lun.role == Role::Main,
        serving: lun.serving,
        status: STATUSES
            .iter()
            .zip(0..)
            .find(|(status, _)| **status == lun.status)
            .map_or(4, |(_, code)| code),
        copied: lun
            .copied_percent
            .map(|percent| Copied { percent, seconds_left: lun.copy_seconds_left.map(seconds) }),
        commands: lun.commands,
        communication_bytes: lun.communication_bytes,
        reason: lun.reason.as_ref().and_then(&mut place),
    };
    let luns = luns.iter().map(lun).collect();
    let named = hosts.iter().take(PEER_STATUS_HOSTS_MAX).map(|host| HostReport {
        initiator: host.initiator.clone(),
        alias: host.alias.clone(),
        address: host.address.clone(),
        portal: host.portal.clone(),
        seconds: seconds(host.seconds),
        commands: host.commands,
    });
    let named = named.collect();
    // What no LUN refers to is about the controller as a whole.
    let room = PEER_STATUS_REASONS_MAX.saturating_sub(reasons.len());
    reasons.extend(notes.into_iter().take(room));
    PeerStatus { luns, reasons, hosts: u32::try_from(hosts.len()).unwrap_or(u32::MAX), named }
}
