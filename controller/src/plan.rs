//! What the configuration says, in the controller's own terms: the front end reads the file and hands this in.

use crate::volume::stack::VolumeId;

/// The two controllers of an appliance, by their place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub enum Side {
    /// The first `[[controller]]`.
    First,
    /// The second.
    Second,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Relative target port and target port group of the controller's portals: 1 or 2.
    #[must_use]
    pub const fn port(self) -> u16 {
        self as u16 + 1
    }
}

/// The appliance as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Which of the two controllers this is.
    pub side: Side,
    /// The names of both, in the order of the file.
    pub names: [String; 2],
    /// The LUNs, in the order of the file. At most [`LUNS_MAX`].
    pub luns: Vec<LunPlan>,
    /// The part of the configuration both machines must agree on, as (key, value) in a fixed order, for instance
    /// `("lun.data0.size", "1073741824")`, and with [`TOLD`] before the key what may differ but shall be told. The two
    /// controllers compare it when they meet.
    pub shared: Vec<(String, String)>,
    /// Bridges this controller opens to its peer: one per worker. At most [`BRIDGES_MAX`].
    pub bridges: u16,
}

impl Plan {
    /// This controller's name.
    #[must_use]
    pub fn own_name(&self) -> &str {
        &self.names[self.side.index()]
    }

    /// The other controller's name.
    #[must_use]
    pub fn peer_name(&self) -> &str {
        &self.names[self.side.peer().index()]
    }

    /// Whether this controller leads when the two meet: the first one of the configuration does.
    #[must_use]
    pub const fn leads(&self) -> bool {
        matches!(self.side, Side::First)
    }

    /// The base volume of the LUN in this place; `None` if there is no such LUN.
    #[must_use]
    pub fn base(&self, lun: usize) -> Option<VolumeId> {
        self.luns.get(lun).map(|lun| lun.base)
    }

    /// The groups, each with the places of its LUNs, in the order of the file: LUNs that name one group are in it,
    /// every other is a group of its own.
    #[must_use]
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (lun, plan) in self.luns.iter().enumerate() {
            let joins =
                |group: &&mut Vec<usize>| plan.group.is_some() && self.luns[group[0]].group == plan.group;
            match groups.iter_mut().find(joins) {
                Some(group) => group.push(lun),
                None => groups.push(vec![lun]),
            }
        }
        groups
    }
}

/// What keys of [`Plan::shared`] begin with that are compared, and told where they differ, but part nobody. No LUN has
/// such a name, so that a release that does not know them takes no notice.
pub const TOLD: &str = "lun./";

/// LUNs of one appliance at most.
pub const LUNS_MAX: usize = 256;

/// Bridges of one controller at most.
pub const BRIDGES_MAX: u16 = 64;

/// One LUN as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunPlan {
    /// The number hosts use.
    pub number: u16,
    /// The name of the LUN and of its volume files.
    pub name: String,
    /// The volume that is its base on this controller.
    pub base: VolumeId,
    /// Capacity in logical blocks; zero if the devices decide (the smaller one, when the LUN is made).
    pub blocks: u64,
    /// The preferred main.
    pub main: Side,
    /// Whether the other controller keeps a copy.
    pub mirror: bool,
    /// The group that it is in with other LUNs of the same main; none: it is one of its own.
    pub group: Option<String>,
    /// Write cache on: GOOD means both controllers' memory. Off: both disks.
    pub write_cache: bool,
    /// No host may write.
    pub read_only: bool,
    /// Logical blocks of a physical block, as hosts are told: a power of two with this exponent.
    pub physical_block_exponent: u8,
    /// The volume is a block device on either side: not created by us, and copied before it is DUPLEX.
    pub device: bool,
    /// The largest LUN, in logical blocks, that this controller's device has room for; zero if it cannot be used.
    /// `None`: a file, or no copy here.
    pub room: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luns_that_name_one_group_are_in_it_and_every_other_is_one_of_its_own() {
        let lun = |group: Option<&str>| LunPlan {
            number: 0,
            name: String::new(),
            base: VolumeId(0),
            blocks: 1,
            main: Side::First,
            mirror: true,
            group: group.map(str::to_owned),
            write_cache: true,
            read_only: false,
            physical_block_exponent: 0,
            device: false,
            room: None,
        };
        let luns = [None, Some("a"), Some("b"), None, Some("a")].map(lun).to_vec();
        let names = ["alpha".to_owned(), "beta".to_owned()];
        let plan = Plan { side: Side::First, names, luns, shared: Vec::new(), bridges: 1 };
        assert_eq!(plan.groups(), [vec![0], vec![1, 4], vec![2], vec![3]]);
    }
}
