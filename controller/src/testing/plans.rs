//! What the two controllers under test are configured as.

use super::BLOCKS;
use crate::plan::{LunPlan, Plan, Side};

pub(super) fn plans(mirror: bool, blocks: u64) -> [Plan; 2] {
    [Side::First, Side::Second].map(|side| {
        let mut plan = plan(side, mirror);
        plan.luns[0].blocks = blocks;
        plan
    })
}

pub(super) fn plans_of_two(blocks: u64) -> [Plan; 2] {
    plans(true, blocks).map(|mut plan| {
        let second = LunPlan { number: 1, name: "data1".into(), main: Side::Second, ..plan.luns[0].clone() };
        plan.luns.push(second);
        plan
    })
}

/// So many LUNs, all of alpha.
pub(super) fn plans_of_many(blocks: u64, luns: u16) -> [Plan; 2] {
    plans(true, blocks).map(|mut plan| {
        let first = plan.luns[0].clone();
        let more = (1..luns).map(|number| LunPlan { number, name: format!("data{number}"), ..first.clone() });
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

pub(super) fn plan(side: Side, mirror: bool) -> Plan {
    plan_with(side, mirror, &[])
}

pub(super) fn plan_with(side: Side, mirror: bool, shared: &[(&str, &str)]) -> Plan {
    let lun = LunPlan {
        number: 0,
        name: "data0".into(),
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
