//! What one of the two has outside, its disk, its state store, its connections: seen, or changed behind its back.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use protocol::interlink::copy_report::GroupRecord;

use super::fake_world::{Job, Records, Volumes, is_change};
use super::two_controllers::TwoControllers;
use crate::appliance::{CONTROL_KEY, ControlRecord, Restored};
use crate::disk::{DiskError, DiskIo};
use crate::link::LinkId;

impl TwoControllers {
    /// A LUN of one side is all `byte`.
    pub(crate) fn spoil_lun(&self, side: usize, lun: u16, byte: u8) {
        if let Some((_, bytes)) = self.outside(side).volumes.get_mut(&lun) {
            bytes.fill(byte);
        }
    }

    /// The workers of a side do not get on, or do again: what comes to it on bridges is not looked at here.
    pub(crate) fn stick(&self, side: usize, stuck: bool) {
        self.controllers[side].world().stuck.store(stuck, Ordering::Relaxed);
    }

    /// How many volumes of the LUN a side makes at once.
    pub(crate) fn volumes_being_made(&self, side: usize) -> usize {
        let outside = self.outside(side);
        outside.jobs.iter().filter(|job| matches!(job, Job::Volume(..))).count()
    }

    /// Whether a redo record is on a side's disk, and how many ever were.
    pub(crate) fn record(&self, side: usize) -> (bool, u64) {
        let outside = self.outside(side);
        (outside.record, outside.recorded)
    }

    /// How often a side's disk has been asked to blot the redo record out, and has not done so yet.
    pub(crate) fn blots(&self, side: usize) -> usize {
        let outside = self.outside(side);
        outside.jobs.iter().filter(|job| matches!(job, Job::Disk(_, DiskIo::Unrecord, _))).count()
    }

    /// What a side's disk says of the LUN's generation.
    pub(crate) fn durable(&self, side: usize) -> Option<GroupRecord> {
        let outside = self.outside(side);
        let name = ["alpha", "beta"][side];
        ControlRecord::read(name, outside.records.get(CONTROL_KEY)?).ok()?.groups.into_iter().next()
    }

    /// Whether a side's disk is being changed, and whether it has changes that are not flushed.
    pub(crate) fn changing(&self, side: usize) -> (bool, bool) {
        let outside = self.outside(side);
        let changing = outside.jobs.iter().any(|job| matches!(job, Job::Disk(_, io, _) if is_change(io)));
        (changing, outside.unflushed)
    }

    /// The most bytes that were ever written to a side's disk and not flushed.
    pub(crate) fn most_unflushed(&self, side: usize) -> u64 {
        self.outside(side).unflushed_bytes.1
    }

    pub(crate) fn volume(&self, side: usize) -> Vec<u8> {
        self.outside(side).volumes[&0].1.clone()
    }

    /// The copy of each LUN that a side has.
    pub(crate) fn volumes(&self, side: usize) -> Vec<Vec<u8>> {
        self.outside(side).volumes.values().map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Overwrites a LUN's blocks on both copies behind the controllers' backs, from the first.
    pub(crate) fn fill(&self, lun: u16, content: &[u8]) {
        for controller in &self.controllers {
            if let Some((_, bytes)) = controller.world().outside.lock().volumes.get_mut(&lun) {
                bytes[..content.len()].copy_from_slice(content);
            }
        }
    }

    /// The shared state in a side's state store.
    pub(crate) fn shared(&self, side: usize) -> Option<protocol::interlink::shared::SharedState> {
        let restored = Restored { records: self.records(side), ..Restored::default() };
        restored
            .records
            .contains_key("shared.data0")
            .then(|| restored.shared(["alpha", "beta"][side], "data0").unwrap())
    }

    /// What a side keeps: its records, and its volumes.
    pub(crate) fn kept(&self, side: usize) -> (Records, Volumes) {
        let outside = self.outside(side);
        (outside.records.clone(), outside.volumes.clone())
    }

    /// What a controller's state store holds.
    pub(crate) fn records(&self, side: usize) -> BTreeMap<String, Vec<u8>> {
        self.outside(side).records.clone()
    }

    /// Overwrites a copy behind its controller's back.
    pub(crate) fn spoil(&self, side: usize, byte: u8) {
        if let Some((_, bytes)) = self.outside(side).volumes.get_mut(&0) {
            bytes.fill(byte);
        }
    }

    /// Whether a flush is on its way to a side's disk.
    pub(crate) fn flushing(&self, side: usize) -> bool {
        let outside = self.outside(side);
        outside.jobs.iter().any(|job| matches!(job, Job::Disk(_, DiskIo::Flush, _)))
    }

    /// A disk that failed works again.
    pub(crate) fn mend_disk(&self, side: usize) {
        self.outside(side).broken_disk = None;
    }

    pub(crate) fn break_disk(&self, side: usize, error: DiskError) {
        self.outside(side).broken_disk = Some(error);
    }

    /// From now on a disk reads and flushes, and every change fails.
    pub(crate) fn break_writes(&self, side: usize) {
        let mut outside = self.outside(side);
        (outside.broken_disk, outside.only_changes_fail) = (Some(DiskError::Io), true);
    }

    /// From now on a disk takes writes and keeps none.
    pub(crate) fn forgetful_disk(&self, side: usize) {
        self.outside(side).forgetful = true;
    }

    pub(crate) fn has_redo_record(&self, side: usize) -> bool {
        self.outside(side).record
    }

    pub(crate) fn remove_volume(&self, side: usize) {
        self.outside(side).volumes.clear();
    }

    /// A side's volume of this LUN goes missing.
    pub(crate) fn remove_volume_of(&self, side: usize, lun: u16) {
        self.outside(side).volumes.remove(&lun);
    }

    /// Whether a side has closed the control connection since the last cut.
    pub(crate) fn has_closed_control(&self, side: usize) -> bool {
        self.outside(side).closed.contains(&LinkId(2))
    }
}
