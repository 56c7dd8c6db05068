//! The two machines' configurations beside each other: what parts the two controllers, or one LUN; and how large a new
//! LUN becomes. Both controllers, given the same, come to the same.

use protocol::block::BLOCK_BYTES;

use crate::group::Refusal;
use crate::plan::{LunPlan, Plan, Side};

/// The first key, below `prefix`, in which the peer's configuration differs.
pub(super) fn differing(plan: &Plan, theirs: &[(String, String)], prefix: &str) -> Option<(String, Refusal)> {
    let absent = || "not there".to_owned();
    let value = |list: &[(String, String)], key: &str| {
        list.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
    };
    let mut keys: Vec<&String> =
        plan.shared.iter().chain(theirs).map(|(key, _)| key).filter(|key| key.starts_with(prefix)).collect();
    // What concerns the whole appliance comes before what concerns one LUN.
    keys.sort_by_key(|key| (key.starts_with("lun."), (*key).clone()));
    keys.into_iter().find_map(|key| {
        let (own, their) = (value(&plan.shared, key), value(theirs, key));
        if own == their {
            return None;
        }
        let values = if plan.side == Side::First { [own, their] } else { [their, own] };
        let [first, second] = values.map(|value| value.unwrap_or_else(absent));
        let [first_name, second_name] = plan.names.clone();
        Some((key.clone(), Refusal::Differs { key: key.clone(), first, second, first_name, second_name }))
    })
}

/// How large each of this controller's devices lets its LUN be.
pub(super) fn rooms(plan: &Plan) -> Vec<(String, u64)> {
    let room = |lun: &LunPlan| lun.room.map(|blocks| (lun.name.clone(), blocks));
    plan.luns.iter().filter_map(room).collect()
}

/// The capacity that a new LUN gets, in logical blocks: what the configuration says, or the largest that fits both
/// devices; `theirs` is what the peer has told of its own.
pub(super) fn first_blocks(plan: &Plan, theirs: &[(String, u64)], lun: usize) -> Result<u64, Refusal> {
    let of = &plan.luns[lun];
    let their = theirs.iter().find(|(name, _)| *name == of.name);
    let [own, peer] = [plan.side, plan.side.peer()].map(|side| &plan.names[side.index()]);
    let rooms = [(own, of.room), (peer, their.map(|(_, room)| *room))];
    let smallest = rooms.into_iter().filter_map(|(name, room)| Some((room?, name))).min();
    match (of.blocks, smallest) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::stack::VolumeId;

    fn lun(name: &str, blocks: u64, room: Option<u64>) -> LunPlan {
        LunPlan {
            number: 0,
            name: name.to_owned(),
            base: VolumeId(0),
            blocks,
            main: Side::First,
            mirror: true,
            group: None,
            write_cache: true,
            read_only: false,
            physical_block_exponent: 0,
            device: room.is_some(),
            room,
        }
    }

    fn plan(side: Side, shared: &[(&str, &str)], luns: Vec<LunPlan>) -> Plan {
        let shared = shared.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Plan { side, names: ["alpha".into(), "beta".into()], luns, shared, bridges: 1 }
    }

    #[test]
    fn both_name_the_same_key_and_what_concerns_all_comes_first() {
        let alpha = plan(Side::First, &[("bridges", "1"), ("lun.a.size", "1")], Vec::new());
        let beta = plan(Side::Second, &[("bridges", "2"), ("lun.a.size", "2")], Vec::new());
        let found = [differing(&alpha, &beta.shared, ""), differing(&beta, &alpha.shared, "")];
        assert_eq!(found[0], found[1]);
        let (key, refusal) = found[0].clone().expect("they differ");
        assert_eq!(key, "bridges");
        assert!(refusal.to_string().contains("`bridges`: 1 on alpha, 2 on beta"), "{refusal}");
        assert_eq!(differing(&alpha, &alpha.shared, ""), None);
        assert!(differing(&alpha, &beta.shared, "lun.a.").is_some_and(|(key, _)| key == "lun.a.size"));
    }

    #[test]
    fn a_new_lun_is_as_large_as_both_devices_allow() {
        let on = |blocks, room| plan(Side::First, &[], vec![lun("a", blocks, room)]);
        let theirs = |room| [("a".to_owned(), room)];
        assert_eq!(first_blocks(&on(0, Some(8)), &theirs(6), 0), Ok(6));
        assert_eq!(first_blocks(&on(4, Some(8)), &theirs(6), 0), Ok(4));
        assert_eq!(first_blocks(&on(4, None), &[], 0), Ok(4));
        let none = Err(Refusal::NoDevice("beta".to_owned()));
        assert_eq!(first_blocks(&on(0, Some(8)), &theirs(0), 0), none);
        assert_eq!(first_blocks(&on(4, Some(8)), &theirs(0), 0), none);
        let small = first_blocks(&on(8, Some(7)), &theirs(9), 0);
        assert!(matches!(small, Err(Refusal::TooSmall { name, .. }) if name == "alpha"));
    }
}
