//! Volumes as they are found and made in real files.

use protocol::interlink::copy_report::Start;

use super::super::superblock::Owner;
use super::*;
use crate::volume::redo::RECORD_BYTES;

const SUPERBLOCK: Superblock = Superblock::new(1, 2, 4096, Owner::NOBODY);

fn found(place: &VolumePlace) -> VolumeFound {
    place.scan().unwrap().0
}

#[test]
fn a_created_volume_is_sparse_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    assert_eq!(found(&place), VolumeFound::Missing);
    let file = place.create(&SUPERBLOCK).unwrap();
    assert_eq!(found(&place), VolumeFound::Open(SUPERBLOCK));
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 4096 * 512 + TAIL_BYTES);
    assert!(
        metadata.blocks() * 512 <= 2 * SUPERBLOCK_BYTES as u64 + RECORD_BYTES + 4096,
        "the file is not sparse"
    );
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data0.volume"]);
}

#[test]
fn a_volume_that_was_never_served_gets_another_size_unless_something_was_written_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    let resized = |blocks| Superblock { blocks, ..SUPERBLOCK };
    drop(place.create(&SUPERBLOCK).unwrap());
    for blocks in [8192, 65, 129, 4096] {
        drop(place.create(&resized(blocks)).unwrap());
        assert_eq!(found(&place), VolumeFound::Open(resized(blocks)));
    }
    let start = Start { number: 1, id: 7 };
    let served = Superblock { start, ..SUPERBLOCK };
    let file = place.scan().unwrap().1.unwrap();
    place.begin_service(&file, &served).unwrap();
    assert_eq!(place.create(&resized(8192)).unwrap_err(), DiskError::Absent);
    assert_eq!(found(&place), VolumeFound::Open(served));
    for (blocks, at) in [(4096, 0), (4097, 4096 * 512), (65, 63 * 512)] {
        let place = VolumePlace::file(folder.path(), &format!("written{blocks}"));
        place.create(&resized(blocks)).unwrap().write_all_at(b"kept", at).unwrap();
        assert_eq!(place.create(&resized(8192)).unwrap_err(), DiskError::Absent, "{blocks} {at}");
        assert_eq!(found(&place), VolumeFound::Open(resized(blocks)));
    }
}

#[test]
fn creating_what_is_there_already_opens_it_and_another_volume_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    drop(place.create(&SUPERBLOCK).unwrap());
    let file = place.create(&SUPERBLOCK).unwrap();
    // Of one that was never served nobody knows whose content it has.
    file.write_all_at(b"kept", 0).unwrap();
    assert_eq!(place.create(&SUPERBLOCK).unwrap_err(), DiskError::Absent);
    place.begin_service(&file, &Superblock { start: Start { number: 1, id: 7 }, ..SUPERBLOCK }).unwrap();
    let mut start = [0; 4];
    place.create(&SUPERBLOCK).unwrap().read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"kept");
    let other = Superblock { volume: 3, ..SUPERBLOCK };
    assert_eq!(place.create(&other).unwrap_err(), DiskError::Absent);
}

#[test]
fn a_time_of_service_begins_in_both_copies_of_the_superblock_and_only_of_the_own_volume() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    let file = place.create(&SUPERBLOCK).unwrap();
    file.write_all_at(b"kept", 0).unwrap();
    let begun =
        |number| Superblock { start: Start { number, id: 7 }, owner: Owner::of("alpha"), ..SUPERBLOCK };
    for number in 1..4 {
        place.begin_service(&file, &begun(number)).unwrap();
        assert_eq!(found(&place), VolumeFound::Open(begun(number)));
    }
    for offset in COPY_OFFSETS {
        let mut copy = [0; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut copy, SUPERBLOCK.blocks * 512 + offset).unwrap();
        assert_eq!(Superblock::decode(&copy).unwrap().0, begun(3));
    }
    for other in [Superblock { volume: 3, ..begun(9) }, Superblock { owner: Owner::of("beta"), ..begun(9) }] {
        assert_eq!(place.begin_service(&file, &other).unwrap_err(), DiskError::Io);
    }
    assert_eq!(found(&place), VolumeFound::Open(begun(3)));
    let mut start = [0; 4];
    place.create(&SUPERBLOCK).unwrap().read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"kept");
}

#[test]
fn the_mark_of_a_start_goes_to_the_volume_that_is_open_and_not_to_what_was_put_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    drop(place.create(&SUPERBLOCK).unwrap());
    // The controller has it open and waits for its peer; meanwhile a copy is put in its place.
    let open = place.scan().unwrap().1.unwrap();
    let copy = folder.path().join("backup");
    fs::copy(place.path(), &copy).unwrap();
    fs::rename(&copy, place.path()).unwrap();
    let marked = Superblock { start: Start { number: 3, id: 5 }, ..SUPERBLOCK };
    place.begin_service(&open, &marked).unwrap();
    let size = (&open).seek(SeekFrom::End(0)).unwrap();
    assert_eq!(place.read_superblock(&open, size).unwrap().unwrap(), marked);
    assert_eq!(found(&place), VolumeFound::Open(SUPERBLOCK), "the copy passes for what hosts have written");
}

#[test]
fn content_that_is_not_ours_is_foreign_and_stays_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    fs::write(place.path(), b"somebody's letters").unwrap();
    assert_eq!(found(&place), VolumeFound::Foreign);
    assert_eq!(place.create(&SUPERBLOCK).unwrap_err(), DiskError::Absent);
    assert_eq!(fs::read(place.path()).unwrap(), b"somebody's letters");
}

#[test]
fn a_file_without_content_is_blank_and_becomes_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    File::create(place.path()).unwrap().set_len(3 << 20).unwrap();
    assert_eq!(found(&place), VolumeFound::Blank);
    place.create(&SUPERBLOCK).unwrap();
    assert_eq!(found(&place), VolumeFound::Open(SUPERBLOCK));
}

#[test]
fn one_damaged_copy_of_the_superblock_does_no_harm_and_two_make_the_volume_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    let file = place.create(&SUPERBLOCK).unwrap();
    let tail = SUPERBLOCK.blocks * 512;
    file.write_all_at(b"x", tail + COPY_OFFSETS[0] + 40).unwrap();
    assert_eq!(found(&place), VolumeFound::Open(SUPERBLOCK));
    file.write_all_at(b"x", tail + COPY_OFFSETS[1] + 40).unwrap();
    assert_eq!(found(&place), VolumeFound::Foreign);
}

#[test]
fn a_volume_that_is_found_is_read_from_its_disk_and_not_from_what_the_cache_kept() {
    // Not below /tmp, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let place = VolumePlace::file(folder.path(), "data0");
    let file = place.create(&SUPERBLOCK).unwrap();
    file.write_all_at(&[7; 1 << 20], 0).unwrap();
    // Of util-linux.
    let cached = || {
        let mut fincore = std::process::Command::new("fincore");
        let output = fincore.args(["-nb", "-o", "RES"]).arg(place.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap()
    };
    assert!(cached() >= 1 << 20);
    place.recover(&file, &SUPERBLOCK).unwrap();
    // Looking for a record reads some of the tail again.
    let tail = 128 << 10;
    assert!(cached() <= tail, "what a failed flush took would be shown on, and called durable by the next");
    let mut start = [0; 8];
    file.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, [7; 8]);
}

#[test]
fn a_volume_whose_size_changed_is_foreign() {
    let folder = tempfile::tempdir().unwrap();
    for size in [4096 * 512 + TAIL_BYTES + 512, 4096 * 512, 100] {
        let place = VolumePlace::file(folder.path(), &format!("data{size}"));
        place.create(&SUPERBLOCK).unwrap().set_len(size).unwrap();
        place.open().unwrap().write_all_at(b"content", 0).unwrap();
        assert_eq!(found(&place), VolumeFound::Foreign, "{size}");
    }
    let place = VolumePlace::file(folder.path(), "shifted");
    let file = place.create(&SUPERBLOCK).unwrap();
    file.set_len(4096 * 512 + TAIL_BYTES * 2).unwrap();
    write_superblock(&file, 4096 * 512 + TAIL_BYTES, &SUPERBLOCK).unwrap();
    assert_eq!(found(&place), VolumeFound::Foreign);
}

#[test]
fn a_device_is_blank_if_its_head_and_tail_are_and_keeps_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let device = VolumePlace::Device(folder.path().join("device"));
    let file = File::create(device.path()).unwrap();
    file.set_len(5 << 20).unwrap();
    assert_eq!(found(&device), VolumeFound::Blank);
    file.write_all_at(b"x", (1 << 20) - 1).unwrap();
    assert_eq!(found(&device), VolumeFound::Foreign);
    file.write_all_at(b"\0", (1 << 20) - 1).unwrap();
    let too_large = Superblock { blocks: blocks_that_fit(5 << 20) + 1, ..SUPERBLOCK };
    assert_eq!(device.create(&too_large).unwrap_err(), DiskError::Full);
    assert_eq!(device.room_blocks().unwrap(), blocks_that_fit(5 << 20));
    device.create(&SUPERBLOCK).unwrap();
    assert_eq!(found(&device), VolumeFound::Open(SUPERBLOCK));
    assert_eq!(file.metadata().unwrap().len(), 5 << 20);
}

#[test]
fn a_state_folder_of_another_user_is_refused_even_as_root() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("alpha");
    make_state_folder(&state).unwrap();
    if std::os::unix::fs::chown(&state, Some(12_345), None).is_err() {
        println!("skipped: only root can give a folder away");
        return;
    }
    let refused = make_state_folder(&state).unwrap_err().to_string();
    assert!(refused.contains("12345") && refused.contains("chown -R 0"), "{refused}");
}

#[test]
fn a_state_folder_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("alpha");
    fs::write(&state, "").unwrap();
    assert!(make_state_folder(&state).is_err());
    assert!(make_state_folder(&state.join("beta")).is_err());
}

#[test]
fn the_state_folder_belongs_to_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state/alpha");
    make_state_folder(&state).unwrap();
    make_state_folder(&state).unwrap();
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(folder.path().join("state")).unwrap().permissions().mode() & 0o777, 0o700);
}
