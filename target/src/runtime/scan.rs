//! What lies where the volumes are, when a controller starts. Nobody can say of a disk beforehand whether it will
//! answer, so each place is looked at on a thread of its own, all side by side. One that does not answer is not waited
//! for longer than [`PATIENCE`] says: the controller starts without it, and touches nothing there until it is started
//! again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use controller::plan::Side;
use controller::volume::files::VolumePlace;
use controller::volume::room::VolumeRoom;
use controller::volume::superblock::VolumeFound;
use protocol::block::BLOCK_BYTES;

use super::StartError;
use crate::config::{Config, Lun};

/// How long the start waits for disks.
pub(super) const PATIENCE: Patience =
    Patience { say_after: Duration::from_secs(3), within: Duration::from_secs(60) };

/// How long disks are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patience {
    /// After this time it is said which.
    pub(super) say_after: Duration,
    /// After this time it goes on without them.
    pub(super) within: Duration,
}

/// How volumes are looked at: [`VolumePlace::scan`], or what a test has in its place.
pub(super) type Look = Arc<dyn Fn(&VolumePlace) -> io::Result<(VolumeFound, Option<File>)> + Send + Sync>;

/// How the start looks at volumes.
pub(super) struct Looking {
    pub(super) look: Look,
    pub(super) patience: Patience,
    /// What has not answered before: it is not asked again.
    pub(super) silent: BTreeSet<PathBuf>,
}

impl Default for Looking {
    fn default() -> Self {
        Self { look: Arc::new(VolumePlace::scan), patience: PATIENCE, silent: BTreeSet::new() }
    }
}

/// One volume as it was found.
pub(super) struct Scanned {
    pub(super) place: Option<VolumePlace>,
    pub(super) found: VolumeFound,
    pub(super) file: Option<File>,
    /// Its disk, as [`VolumePlace::disk`] numbers it.
    pub(super) disk: u64,
    /// The room for it, where it is a file.
    pub(super) room: Option<VolumeRoom>,
    /// The largest LUN that fits, in logical blocks, where it is a device.
    pub(super) room_blocks: u64,
}

impl Scanned {
    fn unseen(place: Option<VolumePlace>, found: VolumeFound) -> Self {
        Self { place, found, file: None, disk: 0, room: None, room_blocks: 0 }
    }
}

/// Tells a question that nobody waits for its answer any more: it is to change nothing from then on.
#[derive(Clone, Debug, Default)]
pub(super) struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A question to the disk of a path.
pub(super) type Question<T> = Box<dyn FnOnce(&GivenUp) -> T + Send>;

/// Asks all of these, each on a thread of its own. `None` for those that have not answered in time.
pub(super) fn side_by_side<T: Send + 'static>(
    questions: Vec<(PathBuf, Question<T>)>,
    patience: Patience,
) -> io::Result<Vec<Option<T>>> {
    let given_up = GivenUp::default();
    let (mut paths, mut answers) = (Vec::new(), Vec::new());
    let asked = ask_all(questions, &given_up, &mut paths);
    answers.resize_with(paths.len(), || None);
    let (begun, mut said) = (Instant::now(), false);
    let result = asked.map(|told| {
        loop {
            let until = if said { patience.within } else { patience.say_after };
            match told.recv_timeout(until.saturating_sub(begun.elapsed())) {
                Ok((index, answer)) => {
                    if let Some(place) = answers.get_mut(index) {
                        *place = Some(answer);
                    }
                }
                // Every thread has ended.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let waits = paths.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
                    waits.for_each(|(path, _)| say_waits(path, patience, said));
                    if said {
                        break;
                    }
                    said = true;
                }
            }
        }
        answers
    });
    given_up.0.store(true, Ordering::Release);
    result
}

/// Starts the threads. Each answers with its number; a late answer is not received any more.
fn ask_all<T: Send + 'static>(
    questions: Vec<(PathBuf, Question<T>)>,
    given_up: &GivenUp,
    paths: &mut Vec<PathBuf>,
) -> io::Result<mpsc::Receiver<(usize, T)>> {
    let (tell, told) = mpsc::channel();
    for (index, (path, question)) in questions.into_iter().enumerate() {
        let (tell, given_up) = (tell.clone(), given_up.clone());
        let ask = move || {
            let answer = question(&given_up);
            let _nobody_listens = tell.send((index, answer));
        };
        let _lives_as_long_as_its_disk_wants = thread::Builder::new().name("scan".to_owned()).spawn(ask)?;
        paths.push(path);
    }
    Ok(told)
}

fn say_waits(path: &Path, patience: Patience, too_long: bool) {
    let path = path.display();
    if too_long {
        tracing::error!(
            "{path}: its disk has not answered for {} s: this controller starts without that volume. Nothing is \
             created or overwritten there, and its LUN has no copy here, until the disk answers and this controller is \
             started again",
            patience.within.as_secs()
        );
    } else {
        tracing::warn!(
            "{path}: its disk does not answer. No LUN is served here until it does, or for {} s more",
            patience.within.saturating_sub(patience.say_after).as_secs()
        );
    }
}

/// Looks at every volume of this controller.
pub(super) fn scan(config: &Config, side: Side, looking: &Looking) -> Result<Vec<Scanned>, StartError> {
    let place = |lun: &Lun| {
        let path = config.volume_path(lun, side)?;
        Some(if lun.device.is_some() { VolumePlace::Device(path) } else { VolumePlace::File(path) })
    };
    let places: Vec<Option<VolumePlace>> = config.luns.iter().map(place).collect();
    let is_asked = |place: &VolumePlace| !looking.silent.contains(place.path());
    let asked = config.luns.iter().zip(&places).filter_map(|(lun, place)| {
        let place = place.clone().filter(is_asked)?;
        let (path, look, bytes) =
            (place.path().to_owned(), Arc::clone(&looking.look), lun.bytes.unwrap_or_default());
        let question: Question<_> = Box::new(move |given_up| look_at(place, bytes, &look, given_up));
        Some((path, question))
    });
    let mut answers =
        side_by_side(asked.collect(), looking.patience).map_err(StartError::Threads)?.into_iter();
    let scanned = places.into_iter().map(|place| match place {
        None => Ok(Scanned::unseen(None, VolumeFound::Missing)),
        Some(place) if !is_asked(&place) => Ok(Scanned::unseen(Some(place), VolumeFound::Silent)),
        Some(place) => {
            let silent = || Ok(Scanned::unseen(Some(place), VolumeFound::Silent));
            answers.next().flatten().unwrap_or_else(silent)
        }
    });
    scanned.collect()
}

/// Looks at one volume, of so many bytes if nothing is there yet. May wait for its disk.
fn look_at(place: VolumePlace, bytes: u64, look: &Look, given_up: &GivenUp) -> Result<Scanned, StartError> {
    let scanned = look(&place).and_then(|scanned| {
        if let (VolumeFound::Open(superblock), Some(file)) = &scanned
            && !given_up.is_so()
        {
            place.recover(file, superblock)?;
        }
        Ok(scanned)
    });
    let (found, file) = match scanned {
        Ok(scanned) => scanned,
        // One device that is gone, broken or taken does not keep the other LUNs from being served.
        Err(source) if matches!(place, VolumePlace::Device(_)) => {
            tracing::error!("{} cannot be used, its LUN has no copy here: {source}", place.path().display());
            (VolumeFound::Missing, None)
        }
        Err(source) if source.kind() == io::ErrorKind::InvalidData => {
            tracing::error!("{} is left alone, its LUN has no copy here: {source}", place.path().display());
            (VolumeFound::Foreign, None)
        }
        Err(source) => return Err(StartError::Volume { path: place.path().to_owned(), source }),
    };
    let bytes = match &found {
        VolumeFound::Open(superblock) => superblock.blocks.saturating_mul(u64::from(BLOCK_BYTES)),
        _ => bytes,
    };
    let room_blocks = match (&place, found) {
        (VolumePlace::File(_), _) | (_, VolumeFound::Missing) => 0,
        (VolumePlace::Device(_), _) => place.room_blocks().unwrap_or_default(),
    };
    let (disk, room) = (place.disk(), VolumeRoom::of(place.path(), bytes).ok().flatten());
    Ok(Scanned { place: Some(place), found, file, disk, room, room_blocks })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than a thread needs to answer, and less than anybody here waits for one that does not.
    const SHORT: Patience = Patience { say_after: Duration::from_millis(50), within: Duration::from_secs(2) };

    #[test]
    fn who_does_not_answer_keeps_nobody_else_and_is_not_waited_for_for_ever() {
        let (release, gate) = mpsc::channel::<()>();
        let (ends, ended) = mpsc::channel();
        let first: Question<u8> = Box::new(move |given_up| {
            let _released = gate.recv_timeout(Duration::from_secs(10));
            ends.send(given_up.is_so()).unwrap();
            1
        });
        let begun = Instant::now();
        let second: Question<u8> = Box::new(move |_| u8::from(begun.elapsed() < SHORT.within));
        let questions = vec![(PathBuf::from("/hangs"), first), (PathBuf::from("/answers"), second)];
        assert_eq!(side_by_side(questions, SHORT).unwrap(), [None, Some(1)]);
        drop(release);
        assert_eq!(ended.recv(), Ok(true), "it is to change nothing any more");
    }

    #[test]
    fn nobody_waits_where_all_have_answered() {
        let begun = Instant::now();
        let question: Question<u8> = Box::new(|given_up| u8::from(!given_up.is_so()));
        assert_eq!(side_by_side(vec![(PathBuf::from("/answers"), question)], PATIENCE).unwrap(), [Some(1)]);
        assert!(begun.elapsed() < PATIENCE.say_after);
        assert_eq!(side_by_side(Vec::<(PathBuf, Question<u8>)>::new(), PATIENCE).unwrap(), []);
    }
}
