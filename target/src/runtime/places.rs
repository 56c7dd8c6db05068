//! Where volumes really are: whether two of them are one, by whatever names.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use controller::plan::Side;

use super::scan::{self, Patience, Question};
use crate::config::Config;

/// What tells a device or a file from every other on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// A block device by its number: major and minor.
    Device(u64),
    /// A file by its file system and number.
    File(u64, u64),
}

impl Place {
    /// `None` if it is not there.
    fn of(path: &Path) -> Option<Self> {
        let found = metadata(path).ok()?;
        let device = found.file_type().is_block_device();
        Some(if device { Self::Device(found.rdev()) } else { Self::File(found.dev(), found.ino()) })
    }
}

/// The volumes of these controllers, which run on one machine, that lie in one place: a sentence each.
#[must_use]
pub fn shared(config: &Config, sides: &[Side]) -> Vec<String> {
    compare(volumes(config, sides).map(|(path, name)| (Place::of(&path), name)))
}

/// The same as far as their disks answer in time, and the paths of those that do not.
pub(super) fn shared_in_time(
    config: &Config,
    sides: &[Side],
    patience: Patience,
) -> io::Result<(Vec<String>, Vec<PathBuf>)> {
    let asked = volumes(config, sides).map(|(path, _)| {
        let question: Question<Option<Place>> = Box::new({
            let path = path.clone();
            move |_| Place::of(&path)
        });
        (path, question)
    });
    let answers = scan::side_by_side(asked.collect(), patience)?;
    let answered = || volumes(config, sides).zip(&answers);
    let silent = answered().filter(|(_, answer)| answer.is_none()).map(|((path, _), _)| path);
    let found = answered().map(|((_, name), answer)| (answer.flatten(), name));
    Ok((compare(found), silent.collect()))
}

/// The path of each volume, and what it is called.
fn volumes<'a>(config: &'a Config, sides: &'a [Side]) -> impl Iterator<Item = (PathBuf, String)> + 'a {
    let of = |side: &'a Side| {
        config.luns.iter().filter_map(|lun| {
            let path = config.volume_path(lun, *side)?;
            let name = format!("{} (LUN {} on {})", path.display(), lun.name, config.controller(*side).name);
            Some((path, name))
        })
    };
    sides.iter().flat_map(of)
}

fn compare(volumes: impl Iterator<Item = (Option<Place>, String)>) -> Vec<String> {
    let mut seen: Vec<(Place, String)> = Vec::new();
    let mut shared = Vec::new();
    for (place, name) in volumes {
        let Some(place) = place else { continue };
        match seen.iter().find(|(known, _)| *known == place) {
            Some((_, first)) => shared.push(format!("{first} and {name} are one and the same")),
            None => seen.push((place, name)),
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, lines: &str) -> Config {
        let text = format!(
            r#"
[appliance]
iqn = "iqn.2026-11.com.example:demo"
[[controller]]
name = "alpha"
portals = ["127.0.0.1:3260"]
interlink = "127.0.0.1:3270"
[[controller]]
name = "beta"
portals = ["127.0.0.1:3261"]
interlink = "127.0.0.1:3271"
{lines}
"#
        );
        Config::parse(&folder.join("appliance.toml"), &text).unwrap()
    }

    fn lun(number: u16, main: &str, alpha: &str, beta: &str) -> String {
        format!(
            "[[lun]]\nnumber = {number}\nname = \"d{number}\"\nmain = \"{main}\"\ndevice = {{ alpha = \"{alpha}\", \
             beta = \"{beta}\" }}\n"
        )
    }

    #[test]
    fn one_device_under_two_names_is_found_and_what_is_not_there_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["one", "two", "three"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(path.join("one"), path.join("link")).unwrap();
        std::fs::hard_link(path.join("two"), path.join("hard")).unwrap();
        let luns = lun(0, "alpha", "one", "none")
            + &lun(1, "alpha", "link", "two")
            + &lun(2, "beta", "three", "hard");
        let config = config(path, &luns);
        let both = shared(&config, &[Side::First, Side::Second]);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(
            both[0].contains("one (LUN d0 on alpha)") && both[0].contains("link (LUN d1 on alpha)"),
            "{both:?}"
        );
        assert!(
            both[1].contains("two (LUN d1 on beta)") && both[1].contains("hard (LUN d2 on beta)"),
            "{both:?}"
        );
        assert_eq!(shared(&config, &[Side::Second]), both[1..]);
    }

    #[test]
    fn one_path_on_both_controllers_is_one_device_only_where_both_run_on_one_machine() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk"), "").unwrap();
        let config = config(folder.path(), &lun(0, "alpha", "disk", "disk"));
        assert_eq!(shared(&config, &[Side::First]), Vec::<String>::new());
        assert_eq!(shared(&config, &[Side::First, Side::Second]).len(), 1);
    }
}
