//! What the appliance asks for, its effects: LUNs are told before the appliance's lock is given up, so that decisions
//! reach them in their order; what needs nothing but the world is performed afterwards.

use std::collections::VecDeque;

use super::luns::{Luns, Told};
use crate::appliance::{Appliance, Effect, LunOrder};
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::link::{Frame, NO_LUN, Via};
use crate::lun::Action;
use crate::pair::PairFault;
use crate::plan::Plan;
use crate::world::{Ticket, World};

/// What is left to do when the appliance's lock has been given up, in this order.
#[derive(Default)]
pub(super) struct Left {
    /// Effects that are not about a LUN.
    pub(super) effects: Vec<Effect>,
    /// What LUNs that were told something ask for, each with its index.
    pub(super) actions: Vec<(usize, Vec<Action>)>,
}

/// Takes the effects that the appliance asks for, and tells the LUNs those that are about them. Records are handed over
/// too: one that comes later must not be the older one.
pub(super) fn take<W: World>(appliance: &mut Appliance, luns: &Luns, world: &W) -> Left {
    let mut left = Left::default();
    let mut queue = VecDeque::from(appliance.take_effects());
    while let Some(effect) = queue.pop_front() {
        let loses = match effect {
            Effect::Order { lun, order: LunOrder::LosePeer, .. } => Some(lun),
            _ => None,
        };
        match luns.tell(effect, world.now()) {
            Told::Lun(index, actions) => left.actions.push((index, actions)),
            Told::All | Told::Missing => {}
            Told::Other(Effect::Persist(key, record, ticket)) => world.persist(key, record, ticket),
            Told::Other(effect) => left.effects.push(effect),
        }
        // Whether it gave its disk up before is known in the same step, or it might become the last copy.
        if let Some((lun, generation)) = loses.and_then(|lun| Some((lun, luns.gave_disk_up(lun)?))) {
            let silent = PairFault::OwnDisk(DiskError::Silent);
            appliance.on_broken(lun, silent, generation);
            queue.extend(appliance.take_effects());
        }
    }
    left
}

/// Performs an effect. Disk I/O may complete at once; its result is given back, to be handled like any completion.
pub(super) fn perform<W: World>(effect: Effect, world: &W, plan: &Plan) -> Option<(Ticket, DiskResult)> {
    match effect {
        Effect::Send(link, message) => {
            world.send(Via::Link(link), Frame::new(&message, NO_LUN, Default::default(), Vec::new()));
        }
        Effect::SendAbout(link, index, generation, message) => {
            let number = plan.luns.get(index).map_or(NO_LUN, |lun| lun.number);
            world.send(Via::Link(link), Frame::new(&message, number, generation.tag(), Vec::new()));
        }
        Effect::Close(link) => world.close(link),
        Effect::Wake(at) => world.wake_at(at),
        Effect::Create(index, superblock, ticket) => {
            world.create_volume(plan.base(index)?, superblock, ticket);
        }
        Effect::BeginService(index, superblock, ticket) => {
            world.begin_service(plan.base(index)?, superblock, ticket);
        }
        Effect::Flush(index, ticket) => {
            let result = world.submit(plan.base(index)?, DiskIo::Flush, ticket)?;
            return Some((ticket, result));
        }
        // Done when they were taken, or by the loop itself, which has all that a report to the peer is made of.
        Effect::Begin { .. }
        | Effect::Persist(..)
        | Effect::Order { .. }
        | Effect::Identified(..)
        | Effect::LunsChanged
        | Effect::Tell(_) => {}
    }
    None
}
