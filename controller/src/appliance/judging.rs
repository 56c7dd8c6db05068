//! What the two controllers have of a group beside each other: whether they agree, and on what. Both, given the same,
//! come to the same; `crate::group` decides, this brings it what it has to know.

use std::collections::BTreeSet;

use protocol::interlink::copy_report::{CopyFound, CopyReport, Told};
use protocol::interlink::message::Agreement;

use super::comparison;
use super::group::Group;
use super::identities::Identities;
use super::ids::Ids;
use super::peer::Peer;
use crate::group::{self, Question, Refusal, agree_together, stale};
use crate::plan::{Plan, Side};

/// What is known of the peer, and of the configuration.
pub(super) struct Judge<'a> {
    pub(super) plan: &'a Plan,
    pub(super) peer: &'a Peer,
    /// What the peer has of each LUN.
    pub(super) theirs: &'a [(String, CopyReport)],
}

/// Whether what the peer has of a group may be newer than all this controller knows of.
pub(super) fn is_newer(theirs: &[(String, CopyReport)], group: &Group) -> bool {
    let newest = group.newest().number;
    let of_group = |name: &str| group.copies().iter().any(|copy| copy.name() == name);
    theirs.iter().any(|(name, their)| of_group(name) && their.generation.number > newest)
}

impl Judge<'_> {
    /// What the peer has of a LUN.
    fn their(&self, name: &str) -> Option<CopyReport> {
        self.theirs.iter().find(|(other, _)| other == name).map(|(_, report)| *report)
    }

    /// The LUNs of a group that the two never agreed on, and that lack a volume on either side.
    pub(super) fn to_be_made(&self, group: &Group) -> Vec<usize> {
        let absent = |report: &CopyReport| matches!(report.copy, CopyFound::Missing | CopyFound::Blank);
        let is_new = |both: &[CopyReport; 2]| {
            both.iter().all(|report| report.generation.number == 0) && both.iter().any(absent)
        };
        let both = |lun: usize, name: &str, told: Option<CopyReport>| {
            let both = [told?, self.their(name)?];
            is_new(&both).then_some(lun)
        };
        let copies = group.copies().iter();
        copies.filter_map(|copy| both(copy.lun(), copy.name(), copy.told())).collect()
    }

    /// Whether the two agree on a group, and on what, for each of its LUNs. LUNs that get another size thereby are
    /// named in `resized`, with their blocks.
    pub(super) fn judge(
        &self,
        group: &mut Group,
        identities: &mut Identities,
        ids: &mut Ids,
        resized: &mut Vec<(usize, u64)>,
    ) -> Result<Vec<Agreement>, Refusal> {
        let luns: Vec<usize> = group.copies().iter().map(super::copy::LunCopy::lun).collect();
        self.compare_members(luns[0])?;
        let mut theirs = Vec::new();
        for lun in &luns {
            let their = self.find(*lun, identities).map_err(|refusal| self.of_group(*lun, refusal))?;
            resized.extend(self.resize(*lun, group, identities, &their));
            theirs.push(their);
        }
        let id = ids.make();
        let (agreed, old) = self.agree(group, &luns, &theirs, id)?;
        group.state_mut().hear_copies(&theirs, old);
        let each = luns.iter().zip(theirs).zip(agreed);
        let heard = each.map(|((lun, their), agreed)| {
            group.copies_mut().of_mut(*lun).hear(their.starts.unwrap_or_default());
            Agreement {
                lun: self.plan.luns[*lun].name.clone(),
                generation: agreed.generation,
                pairing: agreed.pairing,
                create: agreed.create,
            }
        });
        Ok(heard.collect())
    }

    /// Whether both files have the same LUNs in the group of this one, with the same keys. Each side looks at all that
    /// either has in it: a LUN that only the peer has in it would else have this side agree on what the peer refuses.
    fn compare_members(&self, lun: usize) -> Result<(), Refusal> {
        let Some(group) = &self.plan.luns[lun].group else {
            return Ok(());
        };
        let is_in = |(key, value): &(String, String)| {
            let name = key.strip_prefix("lun.")?.strip_suffix(".group")?;
            (value == group).then(|| name.to_owned())
        };
        let own = self.plan.luns.iter().filter(|lun| lun.group.as_ref() == Some(group));
        let own = own.map(|lun| lun.name.clone());
        let names: BTreeSet<String> = own.chain(self.peer.shared.iter().filter_map(is_in)).collect();
        for name in names {
            let in_group = |reason| Refusal::InGroup {
                group: group.clone(),
                lun: name.clone(),
                reason: Box::new(reason),
            };
            if self.plan.luns.iter().any(|lun| lun.name == name) && self.their(&name).is_none() {
                return Err(in_group(self.unknown_to_peer()));
            }
            let differs = comparison::differing(self.plan, &self.peer.shared, &format!("lun.{name}."));
            if let Some((_, refusal)) = differs {
                return Err(in_group(refusal));
            }
        }
        Ok(())
    }

    fn unknown_to_peer(&self) -> Refusal {
        Refusal::UnknownToPeer(self.plan.peer_name().to_owned())
    }

    /// What the peer has of a LUN of which both have the same configuration and an identity.
    fn find(&self, lun: usize, identities: &Identities) -> Result<CopyReport, Refusal> {
        let name = &self.plan.luns[lun].name;
        let Some(their) = self.their(name) else {
            return Err(self.unknown_to_peer());
        };
        let differs = comparison::differing(self.plan, &self.peer.shared, &format!("lun.{name}."));
        if let Some((_, refusal)) = differs {
            return Err(refusal);
        }
        if identities.of(name).is_none() {
            let blocks = comparison::first_blocks(self.plan, &self.peer.rooms, lun);
            return Err(blocks.err().unwrap_or(Refusal::TooMany));
        }
        if !self.peer.knows_starts() {
            return Ok(CopyReport { starts: None, may_go_on: false, remembers: false, ..their });
        }
        let told = self.peer.told.iter().find(|(other, _)| other == name).map(|(_, told)| *told);
        let starts = told.map(|told| told.starts);
        let Told { may_go_on, remembers, .. } = told.unwrap_or_default();
        Ok(CopyReport { starts, may_go_on, remembers, ..their })
    }

    /// A LUN that the two never agreed on gets the size that the files say now, and the devices allow; both come to the
    /// same. It is durable with the generation, at the leader before either writes that down (its identity is the one
    /// that both take); until then it may change again, and a volume of another size that was already made was never
    /// served.
    fn resize(
        &self,
        lun: usize,
        group: &mut Group,
        identities: &mut Identities,
        their: &CopyReport,
    ) -> Option<(usize, u64)> {
        let copy = group.copies_mut().of_mut(lun);
        let told = copy.told()?;
        let unmade = |report: &CopyReport| {
            report.generation.number == 0
                && matches!(report.copy, CopyFound::Missing | CopyFound::Blank | CopyFound::Failed)
        };
        if !(self.peer.knows_starts() && unmade(&told) && unmade(their)) {
            return None;
        }
        let blocks = comparison::first_blocks(self.plan, &self.peer.rooms, lun).ok()?;
        if !identities.resize(&self.plan.luns[lun].name, blocks) {
            return None;
        }
        copy.resize(blocks);
        Some((lun, blocks))
    }

    /// What the two agree on, and which of them has something that was put back.
    fn agree(
        &self,
        group: &Group,
        luns: &[usize],
        theirs: &[CopyReport],
        id: u128,
    ) -> Result<(Vec<group::Agreed>, [bool; 2]), Refusal> {
        let starts = self.peer.knows_starts();
        let owns: Vec<CopyReport> = luns
            .iter()
            .map(|lun| group.copies().of(*lun).judged(group.state().common(*lun), starts))
            .collect();
        let both = owns.iter().zip(theirs).map(|(own, their)| match self.plan.side {
            Side::First => [own, their],
            Side::Second => [their, own],
        });
        let both: Vec<[&CopyReport; 2]> = both.collect();
        let plan = &self.plan.luns[luns[0]];
        let all = both.iter().flatten().map(|report| report.generation);
        let will = all.max_by_key(|generation| generation.number).and_then(|newest| newest.will.main);
        let main = will.map_or(plan.main, |main| [Side::First, Side::Second][usize::from(main & 1)]);
        let question = Question { names: &self.plan.names, main, mirror: plan.mirror, id };
        let agreed = agree_together(question, &both, |at, refusal| self.of_group(luns[at], refusal))?;
        let old = |side: usize| {
            both.iter().any(|reports| stale(&self.plan.names, *reports).is_ok_and(|old| old[side]))
        };
        Ok((agreed, [old(0), old(1)]))
    }

    /// Why a group is not served, if one of its LUNs cannot be.
    fn of_group(&self, lun: usize, refusal: Refusal) -> Refusal {
        let plan = &self.plan.luns[lun];
        match &plan.group {
            Some(group) => {
                Refusal::InGroup { group: group.clone(), lun: plan.name.clone(), reason: Box::new(refusal) }
            }
            None => refusal,
        }
    }
}
