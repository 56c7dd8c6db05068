//! What is known of the room for this controller's volumes. It is looked at on the disks' own threads, once a second: a
//! file system that hangs keeps nobody waiting who asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use controller::disk::DiskError;
use controller::status::FileSystemStatus;
use controller::volume::room::VolumeRoom;
use controller::volume::stack::VolumeId;
use parking_lot::Mutex;

use super::world::VolumeSlot;
use crate::config::rounded;

/// How often the file systems are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A volume that found its file system full has room again when this much is free, or all that it may still ask for,
/// in bytes.
const ROOM_AGAIN_BYTES: u64 = 1 << 20;

/// What was seen last of the room for one volume.
pub(crate) struct Seen {
    room: Mutex<Option<VolumeRoom>>,
    looking: AtomicBool,
}

impl Seen {
    /// This was seen.
    pub(super) fn of(room: Option<VolumeRoom>) -> Self {
        Self { room: Mutex::new(room), looking: AtomicBool::new(false) }
    }
}

/// When the file systems were last looked at.
#[derive(Default)]
pub(crate) struct Looked(Mutex<Option<Instant>>);

impl Looked {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= LOOK_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Looks at the room for a volume of `bytes` in the file of a slot. May wait for its disk.
fn look(slot: &VolumeSlot) {
    let Some(place) = &slot.place else { return };
    let room = VolumeRoom::of(place.path(), slot.bytes.load(Ordering::Relaxed)).ok().flatten();
    if let (Some(file), Some(room)) = (slot.open.get(), &room)
        && room.file_system.usable >= ROOM_AGAIN_BYTES.min(room.promised.max(1))
    {
        file.found_room();
    }
    *slot.seen.room.lock() = room;
}

/// Looks at the file systems if it is time to; comes back at once.
pub(super) fn look_for_room(volumes: &[Arc<VolumeSlot>], looked: &Looked) {
    if !looked.is_due() {
        return;
    }
    for slot in volumes {
        if slot.place.is_none() || slot.seen.looking.swap(true, Ordering::AcqRel) {
            continue;
        }
        let looks = Arc::clone(slot);
        let job = move || {
            look(&looks);
            looks.seen.looking.store(false, Ordering::Release);
        };
        if slot.lane.submit(Box::new(job)).is_err() {
            slot.seen.looking.store(false, Ordering::Release);
        }
    }
}

/// Whether a volume could grow.
pub(super) fn sees_room(volumes: &[Arc<VolumeSlot>], volume: VolumeId) -> bool {
    volumes.get(usize::from(volume.0)).is_some_and(|slot| {
        let wants = slot.open.get().is_some_and(|file| file.no_room().is_some());
        !wants && slot.seen.room.lock().is_some()
    })
}

/// What people should know, if a volume of the controller of that name found no room.
pub(super) fn tell_want_of_room(volumes: &[Arc<VolumeSlot>], volume: VolumeId, name: &str) -> Option<String> {
    let slot = volumes.get(usize::from(volume.0))?;
    let error = slot.open.get()?.no_room()?;
    let path = slot.place.as_ref()?.path().display();
    if error == DiskError::SizeLimit {
        return Some(format!(
            "On {name} a file size limit keeps {path} from growing: writes there that need room fail. Raise the limit \
             (`ulimit -f`, LimitFSIZE= of its service) and start {name} again"
        ));
    }
    let systems = all_file_systems(volumes);
    let system = systems.iter().find(|system| system.full_for.contains(&slot.lun))?;
    let (free, bytes) = (rounded(system.free_bytes), rounded(system.bytes));
    Some(format!(
        "On {name} the file system at {} is full ({free} of {bytes} free): new blocks find no place there, what \
         has its place can be read and written. {} more are missing for everything that the volumes on it promise. \
         Make room there; that is noticed by itself",
        system.path,
        rounded(system.missing_bytes)
    ))
}

/// The file systems of these volumes.
pub(super) fn all_file_systems(volumes: &[Arc<VolumeSlot>]) -> Vec<FileSystemStatus> {
    let mut systems: BTreeMap<u64, FileSystemStatus> = BTreeMap::new();
    for slot in volumes {
        let Some(VolumeRoom { file_system, promised }) = slot.seen.room.lock().clone() else { continue };
        let system = systems.entry(file_system.device).or_insert_with(|| FileSystemStatus {
            path: file_system.path.display().to_string(),
            bytes: file_system.bytes,
            free_bytes: file_system.free,
            promised_bytes: 0,
            missing_bytes: 0,
            luns: Vec::new(),
            full_for: Vec::new(),
        });
        system.promised_bytes = system.promised_bytes.saturating_add(promised);
        system.luns.push(slot.lun.clone());
        if slot.open.get().is_some_and(|file| file.no_room() == Some(DiskError::Full)) {
            system.full_for.push(slot.lun.clone());
        }
    }
    let missing = |mut system: FileSystemStatus| {
        system.missing_bytes = system.promised_bytes.saturating_sub(system.free_bytes);
        system
    };
    systems.into_values().map(missing).collect()
}
