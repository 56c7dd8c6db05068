//! Controllers that end as a crash would and start again from what they left: their volumes and records, or what a test
//! puts in their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fake_world::{FakeWorld, Outside};
use super::plans::{InGroup, device_plans, plans, plans_of_a_group, plans_of_groups, plans_of_two};
use super::two_controllers::TwoControllers;
use crate::appliance::Restored;
use crate::plan::Plan;
use crate::unit::Controller;
use crate::volume::superblock::{Superblock, VolumeFound};

impl TwoControllers {
    /// Ends both at once as a crash would: what they keep is their volumes and records.
    pub(crate) fn crash(self, seed: u64, mirror: bool) -> Self {
        self.crash_and(seed, mirror, |_, _| {})
    }

    /// As [`TwoControllers::crash`], and started again with a second LUN in their files.
    pub(crate) fn crash_and_add_a_lun(self, seed: u64) -> Self {
        let plans = plans_of_two(self.blocks);
        self.crash_planned(seed, plans, |_, restored| restored.volumes.push(VolumeFound::Missing))
    }

    /// The same, and a side's state folder is empty when it starts again: neither records nor volumes.
    pub(crate) fn crash_losing_state(self, seed: u64, lost: usize) -> Self {
        let lose = |outside: &mut Outside| {
            outside.records.clear();
            outside.volumes.clear();
        };
        lose(&mut self.outside(lost));
        self.crash(seed, true)
    }

    /// The same, and something happens to what a side keeps before it starts again.
    pub(crate) fn crash_and(self, seed: u64, mirror: bool, change: impl Fn(usize, &mut Restored)) -> Self {
        let plans = plans(mirror, self.blocks);
        self.crash_planned(seed, plans, change)
    }

    /// As [`TwoControllers::crash_and`], for volumes on devices that have these rooms now.
    pub(crate) fn crash_on_devices(
        self,
        seed: u64,
        rooms: [u64; 2],
        change: impl Fn(usize, &mut Restored),
    ) -> Self {
        self.crash_planned(seed, device_plans(0, rooms), change)
    }

    /// As [`TwoControllers::crash`], and the configuration now says so many blocks.
    pub(crate) fn crash_resized(self, seed: u64, blocks: u64) -> Self {
        self.crash_planned(seed, plans(true, blocks), |_, _| ())
    }

    /// As [`TwoControllers::crash`], of two with two LUNs.
    pub(crate) fn crash_of_two(self, seed: u64) -> Self {
        let blocks = self.blocks;
        self.crash_of_two_resized(seed, blocks)
    }

    /// As [`TwoControllers::crash_of_two`], of LUNs in one group, and what was restored changes.
    pub(crate) fn crash_of_a_group(self, seed: u64, change: impl Fn(usize, &mut Restored)) -> Self {
        let plans = plans_of_a_group(self.blocks);
        let second = [0, 1].map(|side| {
            let outside = self.outside(side);
            outside.volumes.get(&1).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found))
        });
        self.crash_planned(seed, plans, |side, restored| {
            restored.volumes.push(second[side]);
            change(side, restored);
        })
    }

    /// As [`TwoControllers::crash_of_a_group`], and each machine's file has these LUNs in it now.
    pub(crate) fn crash_regrouped(self, seed: u64, files: [[InGroup; 2]; 2]) -> Self {
        let plans = plans_of_groups(self.blocks, files);
        let found = |side: usize, lun: u16| {
            let outside = self.outside(side);
            outside.volumes.get(&lun).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found))
        };
        let second = [found(0, 1), found(1, 1)];
        self.crash_planned(seed, plans, |side, restored| {
            if files[side][1] != InGroup::NotThere {
                restored.volumes.push(second[side]);
            }
        })
    }

    /// One ends as a crash would, and starts again with a file that has these LUNs in the group; the other notices.
    pub(crate) fn crash_one_regrouped(self, seed: u64, side: usize, file: [InGroup; 2]) -> Self {
        let plan = plans_of_groups(self.blocks, [file; 2])[side].clone();
        self.crash_one_planned(seed, side, plan, None)
    }

    /// As [`TwoControllers::crash_of_two`], and the files now say so many blocks of the second LUN.
    pub(crate) fn crash_of_two_resized(self, seed: u64, blocks: u64) -> Self {
        let mut plans = plans_of_two(self.blocks);
        plans.iter_mut().for_each(|plan| plan.luns[1].blocks = blocks);
        let second = [0, 1].map(|side| {
            let outside = self.outside(side);
            outside.volumes.get(&1).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found))
        });
        self.crash_planned(seed, plans, |side, restored| restored.volumes.push(second[side]))
    }

    fn crash_planned(self, seed: u64, plans: [Plan; 2], change: impl Fn(usize, &mut Restored)) -> Self {
        let kept = self.controllers.map(|controller| {
            let mut outside = core::mem::take(&mut *controller.world().outside.lock());
            let volumes = core::mem::take(&mut outside.volumes);
            (outside.records, volumes)
        });
        let mut restored = kept.each_ref().map(|(records, volumes)| Restored {
            records: records.clone(),
            volumes: vec![
                volumes.get(&0).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found)),
            ],
            unusable: None,
        });
        restored.iter_mut().enumerate().for_each(|(side, restored)| change(side, restored));
        let duo = Self::planned(seed, plans, restored);
        for (controller, (records, volumes)) in duo.controllers.iter().zip(kept) {
            let mut outside = controller.world().outside.lock();
            outside.records = records;
            outside.volumes = volumes;
        }
        duo
    }

    /// One ends as a crash would, and finds an empty state folder when it starts again; the other notices.
    pub(crate) fn crash_one_losing_state(self, seed: u64, side: usize) -> Self {
        {
            let mut outside = self.outside(side);
            outside.records.clear();
            outside.volumes.clear();
        }
        self.crash_one(seed, side)
    }

    /// One ends as a crash would, and starts again from its volume and records; the other notices.
    pub(crate) fn crash_one(self, seed: u64, side: usize) -> Self {
        let plan = plans(self.mirror, self.blocks)[side].clone();
        self.crash_one_planned(seed, side, plan, None)
    }

    /// As [`TwoControllers::crash_one`], of two with two LUNs.
    pub(crate) fn crash_one_of_two(self, seed: u64, side: usize) -> Self {
        let plan = plans_of_two(self.blocks)[side].clone();
        self.crash_one_planned(seed, side, plan, None)
    }

    /// One ends as a crash would and starts again by this plan; `volumes`: what it finds then.
    pub(crate) fn crash_one_of_a_group(self, seed: u64, side: usize) -> Self {
        let plan = plans_of_a_group(self.blocks)[side].clone();
        self.crash_one_planned(seed, side, plan, None)
    }

    pub(crate) fn crash_one_planned(
        mut self,
        seed: u64,
        side: usize,
        plan: Plan,
        volumes: Option<Vec<VolumeFound>>,
    ) -> Self {
        self.cut();
        let kept = core::mem::take(&mut *self.outside(side));
        let found =
            |lun| kept.volumes.get(&lun).map_or(VolumeFound::Missing, |(found, _)| VolumeFound::Open(*found));
        let volumes = volumes.unwrap_or_else(|| (0..plan.luns.len()).map(|lun| found(lun as u16)).collect());
        let restored = Restored { records: kept.records.clone(), volumes, unusable: None };
        let random = u128::from(seed) << 8 | 0x80 | side as u128;
        let outside = Outside { records: kept.records, volumes: kept.volumes, ..Outside::default() };
        let world = FakeWorld::new(random, side, Arc::clone(&self.now), outside);
        self.controllers[side] = Controller::new(world, plan, restored);
        self.controllers[side].start();
        self
    }

    /// Somebody puts records or volumes of a side back, to be found at its next start.
    pub(crate) fn put_back(
        &self,
        side: usize,
        records: Option<BTreeMap<String, Vec<u8>>>,
        volumes: Option<BTreeMap<u16, (Superblock, Vec<u8>)>>,
    ) {
        let mut outside = self.outside(side);
        outside.jobs.clear();
        outside.records = records.unwrap_or_else(|| core::mem::take(&mut outside.records));
        outside.volumes = volumes.unwrap_or_else(|| core::mem::take(&mut outside.volumes));
    }

    pub(crate) fn set_record(&self, side: usize, key: &str, record: Vec<u8>) {
        self.outside(side).records.insert(key.to_owned(), record);
    }

    pub(crate) fn change_record(&self, side: usize, key: &str, change: impl Fn(&mut Vec<u8>)) {
        self.outside(side).records.entry(key.to_owned()).and_modify(change);
    }
}
