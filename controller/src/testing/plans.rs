//! What the two controllers under test are configured as.

use super::BLOCKS;
use super::fake_world::FIRST_VOLUME;
use crate::plan::{LunPlan, Plan, Side};
use crate::volume::stack::VolumeId;

/// Whether a file has a LUN in the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum InGroup {
    #[default]
    Yes,
    No,
    NotThere,
}

pub(super) fn plans(mirror: bool, blocks: u64) -> [Plan; 2] {
    [Side::First, Side::Second].map(|side| {
        let mut plan = plan(side, mirror);
        plan.luns[0].blocks = blocks;
        plan
    })
}

pub(super) fn plans_of_two(blocks: u64) -> [Plan; 2] {
    plans(true, blocks).map(|mut plan| {
        let (name, base) = ("data1".into(), VolumeId(FIRST_VOLUME + 1));
        let second = LunPlan { number: 1, name, base, main: Side::Second, ..plan.luns[0].clone() };
        plan.luns.push(second);
        plan
    })
}

/// So many LUNs, all of alpha.
pub(super) fn plans_of_many(blocks: u64, luns: u16) -> [Plan; 2] {
    plans(true, blocks).map(|mut plan| {
        let first = plan.luns[0].clone();
        let more = (1..luns).map(|number| {
            let (name, base) = (format!("data{number}"), VolumeId(FIRST_VOLUME + number));
            LunPlan { number, name, base, ..first.clone() }
        });
        plan.luns.extend(more);
        plan
    })
}

/// The same two LUNs in one group, both of alpha.
pub(super) fn plans_of_a_group(blocks: u64) -> [Plan; 2] {
    plans_of_two(blocks).map(|mut plan| {
        for lun in &mut plan.luns {
            (lun.main, lun.group) = (Side::First, Some("db".to_owned()));
        }
        plan
    })
}

/// The same, but each machine's file has only these LUNs in the group, and names the others after it or not at all.
pub(super) fn plans_of_groups(blocks: u64, files: [[InGroup; 2]; 2]) -> [Plan; 2] {
    let mut files = files.into_iter();
    plans_of_a_group(blocks).map(|mut plan| {
        let file = files.next().unwrap_or_default();
        let mut named = file.into_iter();
        plan.luns
            .iter_mut()
            .zip(file)
            .filter(|(_, is)| *is != InGroup::Yes)
            .for_each(|(lun, _)| lun.group = None);
        plan.luns.retain(|_| named.next() != Some(InGroup::NotThere));
        let key = |lun: &LunPlan, key: &str, value: String| (format!("lun.{}.{key}", lun.name), value);
        let size = |lun: &LunPlan| Some(key(lun, "size", lun.blocks.to_string()));
        let group = |lun: &LunPlan| Some(key(lun, "group", lun.group.clone()?));
        plan.shared = plan.luns.iter().flat_map(|lun| [size(lun), group(lun)]).flatten().collect();
        plan
    })
}

pub(super) fn plan(side: Side, mirror: bool) -> Plan {
    plan_with(side, mirror, &[])
}

pub(super) fn plan_with(side: Side, mirror: bool, shared: &[(&str, &str)]) -> Plan {
    let lun = LunPlan {
        number: 0,
        name: "data0".into(),
        base: VolumeId(FIRST_VOLUME),
        blocks: BLOCKS,
        main: Side::First,
        mirror,
        group: None,
        write_cache: true,
        read_only: false,
        physical_block_exponent: 3,
        device: false,
        room: None,
    };
    Plan {
        side,
        names: ["alpha".into(), "beta".into()],
        luns: vec![lun],
        shared: shared.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        bridges: 1,
    }
}

pub(super) fn device_plans(blocks: u64, rooms: [u64; 2]) -> [Plan; 2] {
    [Side::First, Side::Second].map(|side| {
        let mut plan = plan(side, true);
        plan.luns.iter_mut().for_each(|lun| {
            (lun.blocks, lun.device, lun.room) = (blocks, true, Some(rooms[side.index()]));
        });
        plan
    })
}
