//! What `twinlun check` finds out about folders, devices and file systems of this machine, without leaving a trace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use controller::appliance::Restored;
use controller::plan::Side;
use controller::volume::files::VolumePlace;
use controller::volume::store::{Store, StoreError};
use controller::volume::superblock::{TAIL_BYTES, VolumeFound};
use rustix::fs::OFlags;
use rustix::process::{Resource, geteuid, getrlimit};

use crate::config::{Config, in_units};
use crate::runtime::places;

/// Bytes of the path of a local socket at most (unix(7): 108 with the zero at its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

const SIDES: [Side; 2] = [Side::First, Side::Second];

/// The nearest of a folder and those above it that is there.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("."))
}

/// Something else lies where a state folder is to be.
pub(super) fn state_problems(config: &Config) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    for side in SIDES {
        let folder = config.state_folder(side);
        let there = nearest(&folder);
        let empty = there.as_os_str().is_empty();
        if empty || fs::metadata(there).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let problem = format!(
            "{} is no folder, and {} is to be in it: no controller starts with that. Move it away, or name another \
             `state` in [appliance].",
            there.display(),
            if there == folder { "the state of a controller" } else { "the state" }
        );
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

/// State folders in which there is no room for the name of the socket that `status` asks at.
pub(super) fn deep_state(config: &Config) -> Vec<String> {
    let deep = SIDES.into_iter().filter_map(|side| {
        let socket = config.control_socket(side);
        let over = socket.as_os_str().len().checked_sub(SOCKET_PATH_BYTES_MAX).filter(|over| *over > 0)?;
        Some(format!(
            "{} is {over} bytes too long for the name of a socket, so that {} does not start: name a shorter `state` \
             in [appliance].",
            socket.display(),
            config.controller(side).name
        ))
    });
    deep.collect()
}

/// State folders of other users: `run` refuses them, but it need not be this user that runs it.
pub(super) fn foreign_state(config: &Config) -> Vec<String> {
    let user = geteuid().as_raw();
    let foreign = SIDES.into_iter().filter_map(|side| {
        let folder = config.state_folder(side);
        let owner = fs::metadata(&folder).ok()?.uid();
        (owner != user).then(|| {
            format!(
                "{} belongs to the user with the number {owner}: only that one can run {}, and this is {user}.",
                folder.display(),
                config.controller(side).name
            )
        })
    });
    foreign.collect()
}

/// Volumes that are one, by whatever names.
pub(super) fn shared_places(config: &Config) -> Vec<String> {
    let mut interlinks = config.controllers.iter().flat_map(|controller| &controller.interlink);
    let one_machine = interlinks.all(|address| address.ip().to_canonical().is_loopback());
    let found = if one_machine {
        places::shared(config, &SIDES)
    } else {
        SIDES.into_iter().flat_map(|side| places::shared(config, &[side])).collect()
    };
    found.into_iter().map(|what| format!("{what}: give each copy of each LUN a device of its own.")).collect()
}

/// What the records in the state folders of this machine say and is not so.
#[derive(Default)]
pub(super) struct Lost {
    /// In words.
    pub(super) problems: Vec<String>,
    /// Where a copy was kept and is none.
    pub(super) places: Vec<PathBuf>,
}

/// Volumes that were made and are gone, and records that cannot be used.
pub(super) fn lost(config: &Config) -> Lost {
    let mut lost = Lost::default();
    SIDES.into_iter().for_each(|side| lost_by(config, side, &mut lost));
    lost
}

fn lost_by(config: &Config, side: Side, lost: &mut Lost) {
    let (own, peer) = (&config.controller(side).name, &config.controller(side.peer()).name);
    let records = match Store::look(&config.state_folder(side)) {
        Ok(Some(records)) => records,
        // What cannot be opened is told of where the volumes are looked at.
        Ok(None) | Err(StoreError::Io { .. }) => return,
        Err(error) => return lost.problems.push(format!("{error}.")),
    };
    let record = match (Restored { records, ..Restored::default() }).control(own) {
        Ok(record) => record,
        Err(why) => return lost.problems.push(format!("no LUN is served by {own}: {why}.")),
    };
    for group in record.groups.into_iter().filter(|group| group.generation.number > 0) {
        let Some(lun) = config.luns.iter().find(|lun| lun.name == group.lun) else { continue };
        let Some(path) = config.volume_path(lun, side) else { continue };
        let place = if lun.device.is_some() { VolumePlace::Device(path) } else { VolumePlace::File(path) };
        if !matches!(place.scan(), Ok((VolumeFound::Missing | VolumeFound::Blank, _))) {
            continue;
        }
        let next = if group.generation.has_member(side.peer() as u8) {
            format!(
                "{peer} has a copy: if this one is lost, start both, and it is made anew and refilled from there"
            )
        } else {
            format!(
                "It was the only current copy, nothing is made in its place: bring it back before {own} is started"
            )
        };
        let (path, name) = (place.path(), &lun.name);
        lost.problems.push(format!(
            "{} is gone or empty, where {own} kept its copy of LUN {name}. Look whether its disk is mounted. {next}.",
            path.display()
        ));
        lost.places.push(path.to_owned());
    }
}

/// LUNs in files that the file system of a state folder cannot hold, however empty it is.
pub(super) fn too_large(config: &Config) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    for lun in config.luns.iter().filter(|lun| lun.device.is_none()) {
        let Some(bytes) = lun.bytes else { continue };
        let file = bytes.saturating_add(TAIL_BYTES);
        for side in SIDES {
            let Some(path) = config.volume_path(lun, side) else { continue };
            let folder = config.state_folder(side);
            let folder = nearest(&folder);
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if path.exists() || holds(folder, file) {
                continue;
            }
            let problem = format!(
                "LUN {} has a `size` of {}, and no file of that size can be on the file system of {}. Write a smaller \
                 one, or use another file system or a device.",
                lun.name,
                in_units(bytes),
                folder.display()
            );
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// Whether a file of so many bytes can be there, full of holes: tried with one that has no name. True where it cannot
/// be tried.
fn holds(folder: &Path, bytes: u64) -> bool {
    // Beyond the limit the kernel would end this process.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < bytes) {
        return false;
    }
    let Ok(flags) = i32::try_from(OFlags::TMPFILE.bits()) else { return true };
    match File::options().read(true).write(true).custom_flags(flags).open(folder) {
        Ok(file) => !file.set_len(bytes).is_err_and(|error| error.kind() == io::ErrorKind::FileTooLarge),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config_in;
    use super::*;

    #[test]
    fn a_state_path_that_is_a_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        assert_eq!(state_problems(&config), Vec::<String>::new());
        fs::create_dir(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state/beta"), "").unwrap();
        let one = state_problems(&config);
        assert!(one.len() == 1 && one[0].contains("state/beta is no folder"), "{one:?}");
        fs::remove_dir_all(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state"), "").unwrap();
        let all = state_problems(&config);
        assert!(all.len() == 1 && all[0].contains("/state is no folder"), "{all:?}");
        let report = super::super::Report::of(&config);
        assert_eq!(report.problems, all, "it is told once");
    }

    #[test]
    fn a_state_folder_of_another_user_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        let alpha = folder.path().join("state/alpha");
        fs::create_dir_all(&alpha).unwrap();
        assert_eq!(foreign_state(&config), Vec::<String>::new());
        if std::os::unix::fs::chown(&alpha, Some(12_345), None).is_err() {
            println!("skipped: only root can give a folder away");
            return;
        }
        assert!(foreign_state(&config)[0].contains("12345"));
    }

    #[test]
    fn what_no_file_system_holds_is_found_and_nothing_is_left_behind() {
        // Not below /tmp, which may be memory, where 1 EiB fits.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert!(holds(folder.path(), 1 << 30));
        let largest = (40..63).map(|power| 1_u64 << power).find(|bytes| {
            let file = File::create(folder.path().join("probe")).unwrap();
            file.set_len(*bytes).is_err()
        });
        fs::remove_file(folder.path().join("probe")).unwrap();
        let Some(beyond) = largest.filter(|bytes| *bytes <= 1 << 60) else {
            println!("skipped: this file system holds whatever the configuration takes");
            return;
        };
        assert!(!holds(folder.path(), beyond));
        let mut config = config_in(folder.path(), "");
        config.luns[0].bytes = Some(beyond);
        let problems = too_large(&config);
        assert!(problems.len() == 1 && problems[0].contains("no file of that size"), "{problems:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
