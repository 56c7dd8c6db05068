//! The identity: appliance id, volume ids, NAA designators and serial numbers, random, made once by both
//! controllers together and kept on both; a LUN that does not fit its devices gets none.
//!
//! ```text
//!  what this controller knows ─┐
//!                              ├─ complete (the leader) ──► sent, kept on both, durable before anything is agreed on
//!  what the peer knows ────────┘
//! ```
//!
//! What always holds: what is known of a LUN is kept for good, also when the files name it no more; no two LUNs have
//! one name.

use protocol::interlink::copy_report::GroupRecord;
use protocol::interlink::hello::{Identity, LUNS_MAX, LunIdentity};

use super::ids::Ids;
use super::record::ControlRecord;
use crate::group::Refusal;
use crate::plan::Plan;
use crate::volume::superblock::{Owner, Superblock};

/// NAA field of a designator that is locally assigned (SPC-4 7.8.6.6.4): we own no company id.
const NAA_LOCALLY_ASSIGNED: u64 = 3 << 60;

/// What this controller knows of the appliance and of every LUN that ever was.
#[derive(Debug)]
pub(super) struct Identities {
    identity: Identity,
    /// Of LUNs that the file does not name now: it may have left one out by a mistake.
    unnamed: Vec<GroupRecord>,
}

/// What came of taking on another identity.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// LUNs of the plan whose identity is new or another, with their blocks.
    pub(super) identified: Vec<(usize, u64)>,
    /// Hosts see other LUNs than before.
    pub(super) added: bool,
}

/// Whether an identity names a LUN.
pub(super) fn has(identity: &Identity, name: &str) -> bool {
    identity.luns.iter().any(|lun| lun.name == name)
}

impl Identities {
    /// What a record says.
    pub(super) fn restored(record: &ControlRecord, plan: &Plan) -> Self {
        let planned = |record: &&GroupRecord| plan.luns.iter().any(|lun| lun.name == record.lun);
        let unnamed = record.groups.iter().filter(|record| !planned(record)).cloned().collect();
        Self { identity: record.identity.clone(), unnamed }
    }

    /// All of it.
    pub(super) const fn whole(&self) -> &Identity {
        &self.identity
    }

    /// The appliance's id, once made.
    pub(super) const fn appliance(&self) -> Option<u128> {
        if self.identity.appliance == 0 { None } else { Some(self.identity.appliance) }
    }

    /// That of a LUN, once made.
    pub(super) fn of(&self, name: &str) -> Option<&LunIdentity> {
        self.identity.luns.iter().find(|known| known.name == name)
    }

    /// What the superblock of a LUN's volume on the controller of this name says, but for its start.
    pub(super) fn superblock(&self, lun: &str, controller: &str) -> Option<Superblock> {
        let identity = self.of(lun)?;
        let owner = Owner::of(controller);
        Some(Superblock::new(self.identity.appliance, identity.volume, identity.blocks, owner))
    }

    /// Both controllers' knowledge together, completed for LUNs that neither ever knew. `blocks`: how large a LUN of
    /// the plan becomes.
    pub(super) fn complete(
        &self,
        theirs: &Identity,
        plan: &Plan,
        blocks: impl Fn(usize) -> Result<u64, Refusal>,
        ids: &mut Ids,
    ) -> Identity {
        let mut whole = self.identity.clone();
        if whole.appliance == 0 {
            whole.appliance = if theirs.appliance == 0 { ids.make() } else { theirs.appliance };
        }
        for lun in &theirs.luns {
            if !has(&whole, &lun.name) {
                whole.luns.push(lun.clone());
            }
        }
        for (index, lun) in plan.luns.iter().enumerate() {
            // What is known of a LUN is kept for good, also when the files name it no more.
            if has(&whole, &lun.name) || whole.luns.len() >= LUNS_MAX {
                continue;
            }
            // What cannot be made has no size yet that would have to be kept.
            let Ok(blocks) = blocks(index) else {
                continue;
            };
            let random = ids.make();
            whole.luns.push(LunIdentity {
                name: lun.name.clone(),
                volume: ids.make(),
                naa: NAA_LOCALLY_ASSIGNED | (random as u64 >> 4),
                serial: (random >> 64) as u64,
                blocks,
            });
        }
        whole
    }

    /// Takes another identity on.
    pub(super) fn take_on(&mut self, identity: Identity, plan: &Plan) -> News {
        let before = core::mem::replace(&mut self.identity, identity);
        let mut news = News::default();
        for (index, lun) in plan.luns.iter().enumerate() {
            let Some(identity) = self.of(&lun.name).filter(|lun| !before.luns.contains(lun)) else {
                continue;
            };
            news.identified.push((index, identity.blocks));
            // Before there was an appliance there was no host.
            news.added |= !has(&before, &identity.name) && before.appliance != 0;
        }
        news
    }

    /// A LUN that was never served gets another size. Whether it is another.
    pub(super) fn resize(&mut self, name: &str, blocks: u64) -> bool {
        let known = self.identity.luns.iter_mut().find(|known| known.name == name);
        known.is_some_and(|known| core::mem::replace(&mut known.blocks, blocks) != blocks)
    }

    /// The record to be kept: of the plan's LUNs what their groups say, each with whether this controller has had a
    /// part in it; of the others what was known.
    pub(super) fn record(&self, groups: Vec<(GroupRecord, bool)>) -> ControlRecord {
        let mut identity = self.identity.clone();
        identity.luns.retain(|known| {
            let mut planned = groups.iter();
            planned.all(|(group, is_known)| group.lun != known.name || *is_known)
        });
        // Of one without an identity there is nothing to be said; so there are no more than can be read again.
        let said = |group: &GroupRecord| group.generation.number > 0 || has(&self.identity, &group.lun);
        let groups = groups
            .into_iter()
            .map(|(group, _)| group)
            .filter(said)
            .chain(self.unnamed.iter().cloned())
            .collect();
        ControlRecord { identity, groups }
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        let luns = &self.identity.luns;
        let twice = |lun: &LunIdentity| luns.iter().filter(|other| other.name == lun.name).count() > 1;
        assert!(!luns.iter().any(twice), "two LUNs of one name");
        assert!(luns.is_empty() || self.identity.appliance != 0, "LUNs without an appliance");
    }
}

#[cfg(test)]
#[path = "identities_tests.rs"]
mod tests;
