//! The identity: appliance id, volume ids, NAA designators and serial numbers, random, made once by both
//! controllers together and kept on both; a LUN that does not fit its devices gets none. And the comparison of the two
//! configurations.

use protocol::block::BLOCK_BYTES;
use protocol::interlink::Message;
use protocol::interlink::hello::{Identity, LUNS_MAX, LunIdentity};
use protocol::interlink::standing::{CopyFound, Standing};

use super::{Apart, Appliance, Effect, Pending, Phase};
use crate::group::Refusal;
use crate::plan::LunPlan;
use crate::volume::superblock::VolumeFound;

/// NAA field of a designator that is locally assigned (SPC-4 7.8.6.6.4): we own no company id.
const NAA_LOCALLY_ASSIGNED: u64 = 3 << 60;

impl Appliance {
    /// The first key, below `prefix`, in which the peer's configuration differs.
    pub(super) fn differing(&self, theirs: &[(String, String)], prefix: &str) -> Option<(String, Refusal)> {
        let absent = || "not there".to_owned();
        let value = |list: &[(String, String)], key: &str| {
            list.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
        };
        let mut keys: Vec<&String> = self
            .plan
            .shared
            .iter()
            .chain(theirs)
            .map(|(key, _)| key)
            .filter(|key| key.starts_with(prefix))
            .collect();
        // What concerns the whole appliance comes before what concerns one LUN.
        keys.sort_by_key(|key| (key.starts_with("lun."), (*key).clone()));
        keys.into_iter().find_map(|key| {
            let (own, their) = (value(&self.plan.shared, key), value(theirs, key));
            if own == their {
                return None;
            }
            let values = if self.leads() { [own, their] } else { [their, own] };
            let [first, second] = values.map(|value| value.unwrap_or_else(absent));
            let [first_name, second_name] = self.plan.names.clone();
            Some((key.clone(), Refusal::Differs { key: key.clone(), first, second, first_name, second_name }))
        })
    }

    /// Both controllers' knowledge together, completed for LUNs that neither ever knew.
    pub(super) fn complete_identity(&mut self, theirs: &Identity) -> Identity {
        let mut whole = self.identity.clone();
        if whole.appliance == 0 {
            whole.appliance = if theirs.appliance == 0 { self.make_id() } else { theirs.appliance };
        }
        for lun in &theirs.luns {
            if !whole.luns.iter().any(|own| own.name == lun.name) {
                whole.luns.push(lun.clone());
            }
        }
        for index in 0..self.plan.luns.len() {
            let name = self.plan.luns[index].name.clone();
            // What is known of a LUN is kept for good, also when the files name it no more.
            if whole.luns.iter().any(|known| known.name == name) || whole.luns.len() >= LUNS_MAX {
                continue;
            }
            // What cannot be made has no size yet that would have to be kept.
            let Ok(blocks) = self.first_blocks(index) else {
                continue;
            };
            let ids = self.make_id();
            whole.luns.push(LunIdentity {
                name,
                volume: self.make_id(),
                naa: NAA_LOCALLY_ASSIGNED | (ids as u64 >> 4),
                serial: (ids >> 64) as u64,
                blocks,
            });
        }
        whole
    }

    /// A LUN that the two never agreed on gets the size that the files say now, and the devices allow; both come to the
    /// same. It is durable with the generation, at the leader before either writes that down (its identity is the one that
    /// both take); until then it may change again, and a volume of another size that was already made was never served.
    pub(super) fn resize_unmade(&mut self, lun: usize, their: &Standing, effects: &mut Vec<Effect>) {
        let Some(told) = self.groups[lun].told else {
            return;
        };
        let unmade = |standing: &Standing| {
            standing.generation.number == 0
                && matches!(standing.copy, CopyFound::Missing | CopyFound::Blank | CopyFound::Failed)
        };
        if !(self.peer_knows_starts() && unmade(&told) && unmade(their)) {
            return;
        }
        let (name, blocks) = (&self.plan.luns[lun].name, self.first_blocks(lun));
        let (Some(known), Ok(blocks)) =
            (self.identity.luns.iter_mut().find(|known| known.name == *name), blocks)
        else {
            return;
        };
        if known.blocks == blocks {
            return;
        }
        known.blocks = blocks;
        effects.push(Effect::Identified(lun, blocks));
        // One of another size that this run has made, or is making, is in use: it is made anew at the next start.
        let group = &mut self.groups[lun];
        let asked = group.creation.map(|(_, superblock)| superblock);
        let made = if let VolumeFound::Open(found) = group.volume { Some(found) } else { None };
        group.unmade |= asked.into_iter().chain(made).any(|volume| volume.blocks != blocks);
    }

    /// How large each of this controller's devices lets its LUN be.
    pub(super) fn rooms(&self) -> Vec<(String, u64)> {
        let room = |lun: &LunPlan| lun.room.map(|blocks| (lun.name.clone(), blocks));
        self.plan.luns.iter().filter_map(room).collect()
    }

    /// The capacity that a new LUN gets, in logical blocks: what the configuration says, or the largest that fits both
    /// devices. Both controllers, in touch, come to the same.
    pub(super) fn first_blocks(&self, lun: usize) -> Result<u64, Refusal> {
        let plan = &self.plan.luns[lun];
        let their = self.peer.iter().flat_map(|peer| &peer.rooms).find(|(name, _)| *name == plan.name);
        let [own, peer] = [self.plan.side, self.plan.side.peer()].map(|side| &self.plan.names[side.index()]);
        let rooms = [(own, plan.room), (peer, their.map(|(_, room)| *room))];
        let smallest = rooms.into_iter().filter_map(|(name, room)| Some((room?, name))).min();
        match (plan.blocks, smallest) {
            (0, Some((0, name))) => Err(Refusal::NoDevice(name.clone())),
            (0, Some((room, _))) => Ok(room),
            (wanted, Some((room, name))) if room < wanted => match room {
                0 => Err(Refusal::NoDevice(name.clone())),
                _ => Err(Refusal::TooSmall {
                    name: name.clone(),
                    bytes: wanted.saturating_mul(u64::from(BLOCK_BYTES)),
                    room: room.saturating_mul(u64::from(BLOCK_BYTES)),
                }),
            },
            (wanted, _) => Ok(wanted),
        }
    }

    /// The leader sends the identity and keeps it; the other keeps what it gets.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        let Some(peer) = &self.peer else {
            return;
        };
        let (control, theirs) = (peer.control, peer.identity.clone());
        let identity = self.complete_identity(&theirs);
        effects.push(Effect::Send(control, Message::Identity(identity.clone())));
        self.phase = Phase::Settling { own: false, peer: false };
        self.keep_identity(identity, effects);
    }

    pub(super) fn on_identity(&mut self, identity: Identity, effects: &mut Vec<Effect>) {
        if self.leads() || self.phase != Phase::Apart || self.ending.begun() {
            return;
        }
        if self.is_writing_first() {
            // What is being written comes first.
            self.early_identity = Some(identity);
            return;
        }
        if !self.has_what_the_leader_counts() {
            let name = self.peer_name();
            return self.lose(Apart::Lost(name), effects);
        }
        self.phase = Phase::Settling { own: false, peer: true };
        self.keep_identity(identity, effects);
    }

    fn keep_identity(&mut self, identity: Identity, effects: &mut Vec<Effect>) {
        // A LUN that neither knew is known to both from here on, even if this meeting is cut before it is served. One
        // that only the peer knew is not before the two have agreed on it: this controller may have lost its state.
        let has = |identity: &Identity, name: &str| identity.luns.iter().any(|lun| lun.name == name);
        for (plan, group) in self.plan.luns.iter().zip(&mut self.groups) {
            let peer_had = self.peer.as_ref().is_some_and(|peer| has(&peer.identity, &plan.name));
            group.known |= has(&identity, &plan.name) && !has(&self.identity, &plan.name) && !peer_had;
        }
        let before = core::mem::replace(&mut self.identity, identity);
        let mut added = false;
        for lun in 0..self.plan.luns.len() {
            let Some(identity) = self.lun_identity(lun).filter(|lun| !before.luns.contains(lun)) else {
                continue;
            };
            effects.push(Effect::Identified(lun, identity.blocks));
            added |= !has(&before, &identity.name);
        }
        // Before there was an appliance there was no host.
        if added && before.appliance != 0 {
            effects.push(Effect::LunsChanged);
        }
        self.persist(Pending::Identity, effects);
    }

    pub(super) fn on_own_identity_durable(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Settling { own, .. } = &mut self.phase {
            *own = true;
        }
        if !self.leads()
            && let Some(peer) = &self.peer
        {
            effects.push(Effect::Send(peer.control, Message::IdentityDurable));
        }
        self.compare_if_settled(effects);
    }

    pub(super) fn on_identity_durable(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Settling { peer, .. } = &mut self.phase {
            *peer = true;
        }
        self.compare_if_settled(effects);
    }
}
