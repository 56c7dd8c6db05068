//! Volumes are sparse: those of `status` and `check` that promise more than their file systems can hold are told of
//! before hosts find out.

use std::collections::BTreeMap;

use controller::plan::Side;
use controller::status::ControllerStatus;
use controller::volume::room::VolumeRoom;

use crate::config::{Config, rounded};

/// What the volumes on one file system may still ask for, and what is free there, in bytes.
#[derive(Clone, Copy, Default)]
struct Promise {
    promised: u64,
    free: u64,
}

impl Promise {
    /// The warning, if it cannot be kept.
    fn broken(self, path: &str) -> Option<String> {
        let missing = self.promised.checked_sub(self.free).filter(|missing| *missing > 0)?;
        Some(format!(
            "the volumes on {path} may still grow by {}, and {} are free there: {} are missing. When hosts have filled \
             it, copies there leave their pairs, and writes to the last copy fail. Add room in time, or make the LUNs \
             smaller.",
            rounded(self.promised),
            rounded(self.free),
            rounded(missing)
        ))
    }
}

fn warnings(promises: BTreeMap<String, Promise>) -> Vec<String> {
    promises.into_iter().filter_map(|(path, promise)| promise.broken(&path)).collect()
}

/// Of running controllers that were asked on this machine: two may share a file system.
pub(super) fn of_status<'a>(controllers: impl Iterator<Item = &'a ControllerStatus>) -> Vec<String> {
    let mut promises: BTreeMap<String, Promise> = BTreeMap::new();
    for system in controllers.flat_map(|status| &status.file_systems) {
        let promise = promises.entry(system.path.clone()).or_default();
        promise.promised = promise.promised.saturating_add(system.promised_bytes);
        promise.free = system.free_bytes;
    }
    warnings(promises)
}

/// Of the volumes that are, or are going to be, in files of this machine.
pub(super) fn of_file(config: &Config) -> Vec<String> {
    let mut promises: BTreeMap<String, Promise> = BTreeMap::new();
    for side in here(config) {
        for lun in config.luns.iter().filter(|lun| lun.device.is_none()) {
            let (Some(path), Some(bytes)) = (config.volume_path(lun, side), lun.bytes) else { continue };
            // What cannot be looked at is told of elsewhere.
            let Ok(Some(VolumeRoom { file_system, promised })) = VolumeRoom::of(&path, bytes) else {
                continue;
            };
            let promise = promises.entry(file_system.path.display().to_string()).or_default();
            promise.promised = promise.promised.saturating_add(promised);
            promise.free = file_system.free;
        }
    }
    warnings(promises)
}

/// The controllers of this machine: those that have run here, or, before the first start, both where the interlink
/// does not leave the machine, and else one.
fn here(config: &Config) -> Vec<Side> {
    let both = [Side::First, Side::Second];
    let have_run: Vec<Side> = both.into_iter().filter(|side| config.state_folder(*side).exists()).collect();
    let local = || {
        let mut addresses = config.controllers.iter().flat_map(|controller| &controller.interlink);
        addresses.all(|address| address.ip().is_loopback())
    };
    match have_run.as_slice() {
        [] if local() => both.to_vec(),
        [] => vec![Side::First],
        _ => have_run,
    }
}

#[cfg(test)]
mod tests {
    use controller::status::FileSystemStatus;

    use super::super::check::tests::config_in;
    use super::super::status::tests::healthy;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn system(promised_bytes: u64) -> FileSystemStatus {
        FileSystemStatus {
            path: "/srv".to_owned(),
            bytes: 100 * GIB,
            free_bytes: 79 * GIB,
            promised_bytes,
            missing_bytes: promised_bytes.saturating_sub(79 * GIB),
            luns: vec!["data0".to_owned()],
            full_for: Vec::new(),
        }
    }

    #[test]
    fn volumes_of_both_controllers_that_promise_more_than_their_file_system_has_are_told_of() {
        let [mut alpha, mut beta] = healthy();
        alpha.file_systems = vec![system(40 * GIB)];
        assert_eq!(of_status([&alpha].into_iter()), Vec::<String>::new());
        beta.file_systems = vec![system(40 * GIB)];
        let warnings = of_status([&alpha, &beta].into_iter());
        let expected =
            "the volumes on /srv may still grow by 80 GiB, and 79 GiB are free there: 1 GiB are missing";
        assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
    }

    #[test]
    fn a_file_whose_luns_are_larger_than_the_file_system_is_told_of_before_the_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let small = config_in(folder.path(), "");
        assert_eq!(of_file(&small), Vec::<String>::new());
        let more = "[[lun]]\nnumber = 1\nname = \"large\"\nsize = \"1000 TiB\"\nmain = \"alpha\"\n";
        let warnings = of_file(&config_in(folder.path(), more));
        assert!(warnings.len() == 1 && warnings[0].contains("grow by 2000 TiB"), "{warnings:?}");
    }
}
