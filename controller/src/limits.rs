//! The controller's limits with their present use.

use crate::exclusive::WAITERS_MAX;
use crate::lun::{
    CLASS_BYTES_MAX, COMMUNICATION_VOLUME_BYTES_MAX, COMMUNICATION_VOLUME_REQUESTS_MAX, COPY_CHUNKS_MAX,
    HELD_COMMANDS_MAX, LUN_CLASS_BYTES_MAX, LUN_COMMANDS_MAX, LunUsage, NEXUSES_MAX, SANITIZE_CHUNKS_MAX,
    Used,
};
use crate::plan::{BRIDGES_MAX, LUNS_MAX, Plan};
use crate::status::{LimitStatus, counted};

/// The limits of a controller and its LUNs. Where each LUN has its own, the one that uses most is shown.
#[must_use]
pub fn of(plan: &Plan, luns: &[LunUsage]) -> Vec<LimitStatus> {
    let most = |name: &str, unit: &str, max: u64, of: fn(&LunUsage) -> Used| {
        let now = luns.iter().map(|lun| of(lun).now).max().unwrap_or(0);
        let peak = luns.iter().map(|lun| of(lun).peak).max().unwrap_or(0);
        counted(name, unit, max, now, Some(peak))
    };
    let each_class = luns.first().map_or(LUN_CLASS_BYTES_MAX, |lun| lun.class_bytes);
    let lent: u64 = luns.iter().map(|lun| lun.apply_bytes.now.max(lun.forward_bytes.now)).sum();
    let requests = luns.iter().map(|lun| lun.requests).max().unwrap_or(0);
    let nexuses = luns.iter().map(|lun| lun.nexuses).max().unwrap_or(0);
    let pieces = luns.iter().map(|lun| lun.copy_chunks).max().unwrap_or(0);
    vec![
        counted("LUNS_MAX", "LUNs", LUNS_MAX as u64, plan.luns.len() as u64, None),
        counted(
            "BRIDGES_MAX",
            "bridges that this controller opens",
            u64::from(BRIDGES_MAX),
            u64::from(plan.bridges),
            None,
        ),
        most("LUN_COMMANDS_MAX", "commands per LUN", LUN_COMMANDS_MAX as u64, |lun| lun.commands),
        most("HELD_COMMANDS_MAX", "commands per LUN", HELD_COMMANDS_MAX as u64, |lun| lun.held),
        most("WAITERS_MAX", "commands per LUN", WAITERS_MAX as u64, |lun| lun.waiters),
        most("COMMUNICATION_VOLUME_BYTES_MAX", "bytes per LUN", COMMUNICATION_VOLUME_BYTES_MAX, |lun| {
            lun.communication_bytes
        }),
        counted(
            "COMMUNICATION_VOLUME_REQUESTS_MAX",
            "requests per LUN",
            COMMUNICATION_VOLUME_REQUESTS_MAX as u64,
            requests,
            None,
        ),
        most("LUN_CLASS_BYTES_MAX", "bytes of changes under way to the peer, per LUN", each_class, |lun| {
            lun.apply_bytes
        }),
        most("LUN_CLASS_BYTES_MAX", "bytes forwarded to main, per LUN", each_class, |lun| lun.forward_bytes),
        counted("NEXUSES_MAX", "nexuses per LUN", NEXUSES_MAX as u64, nexuses, None),
        counted("CLASS_BYTES_MAX", "bytes of one class under way to the peer", CLASS_BYTES_MAX, lent, None),
        counted(
            "COPY_CHUNKS_MAX",
            "pieces of a copy per LUN",
            u64::from(COPY_CHUNKS_MAX),
            u64::from(pieces as u32),
            None,
        ),
        counted(
            "SANITIZE_CHUNKS_MAX",
            "pieces of a sanitize operation per LUN",
            u64::from(SANITIZE_CHUNKS_MAX),
            luns.iter().map(|lun| lun.sanitize_chunks).max().unwrap_or(0),
            None,
        ),
    ]
}
