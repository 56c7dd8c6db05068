//! Tests of a volume's I/O on real files.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::cache_predictor::COLD_MISSES;
use super::super::open_file::WRITE_PIECES_MAX;
use super::super::pool::DiskPool;
use super::super::small::Small;
use super::*;
use crate::volume::files::VolumePlace;
use crate::volume::redo::ATOMIC_BLOCKS_MAX;
use crate::volume::superblock::{Owner, Superblock, TAIL_BYTES};

const BLOCKS: u64 = 512;

/// How long a test waits for the system to forget what it has cached.
const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    volume: Arc<VolumeFile>,
    file: File,
    _pool: DiskPool,
}

impl Bench {
    fn new() -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BLOCKS * 512 + TAIL_BYTES).unwrap();
        Self::on(file, BLOCKS)
    }

    fn on(file: File, blocks: u64) -> Self {
        let pool = DiskPool::start().unwrap();
        let own = file.try_clone().unwrap();
        let volume = VolumeFile::new(file, "lun.img".as_ref(), blocks, BufferPool::default(), pool.lane(0));
        Self { volume: Arc::new(volume), file: own, _pool: pool }
    }

    /// Submits and waits; tells whether it was done at once.
    fn run(&self, io: DiskIo) -> (DiskResult, bool) {
        let cold = match self.volume.try_at_once(&io) {
            AtOnce::Done(result) => return (result, true),
            AtOnce::NotDone { cold } => cold,
        };
        let (done, result) = mpsc::channel();
        match self.volume.submit(io, cold, move |result| done.send(result).unwrap()) {
            Some(result) => (result, true),
            None => (result.recv().unwrap(), false),
        }
    }

    fn read(&self, start: u64, blocks: u64) -> Vec<u8> {
        self.run(DiskIo::Read(range(start, blocks))).0.unwrap().concat()
    }

    fn forget_page_cache(&self) {
        self.file.sync_all().unwrap();
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

fn write(start: u64, pieces: &[&[u8]]) -> DiskIo {
    let data: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let bytes: usize = data.iter().map(Bytes::len).sum();
    DiskIo::Write { range: range(start, bytes as u64 / 512), data }
}

#[test]
fn a_cached_read_and_a_prompt_write_are_done_at_once() {
    let bench = Bench::new();
    let (result, at_once) = bench.run(write(8, &[&[7; 4096]]));
    assert_eq!((result, at_once), (Ok(Vec::new()), true));
    let (result, at_once) = bench.run(DiskIo::Read(range(8, 8)));
    assert_eq!((result.unwrap().concat(), at_once), (vec![7; 4096], true));
}

#[test]
fn a_read_that_would_block_comes_by_the_callback() {
    let bench = Bench::new();
    bench.run(write(0, &[&[9; 65536]])).0.unwrap();
    // What somebody else looks at just now the system does not forget.
    let begun = Instant::now();
    let mut at_once = true;
    while at_once && begun.elapsed() < PATIENCE {
        bench.forget_page_cache();
        let (result, prompt) = bench.run(DiskIo::Read(range(0, 128)));
        assert_eq!(result.unwrap().concat(), vec![9; 65536]);
        at_once = prompt && !bench.volume.open.memory;
    }
    let at_once = at_once || bench.volume.open.memory;
    assert_eq!(at_once, bench.volume.open.memory, "only a file system in memory reads this without blocking");
}

#[test]
fn a_write_after_one_that_was_not_prompt_goes_to_the_pool() {
    let bench = Bench::new();
    bench.volume.stalls.stalled();
    let (result, at_once) = bench.run(write(0, &[&[1; 512]]));
    assert_eq!((result, at_once), (Ok(Vec::new()), false));
    assert_eq!(bench.read(0, 1), vec![1; 512]);
}

#[test]
fn a_write_of_more_pieces_than_one_call_takes_is_written_whole() {
    let bench = Bench::new();
    let bytes: Vec<u8> = (0..4096 * 32).map(|n| (n % 251) as u8).collect();
    let pieces: Vec<&[u8]> = bytes.chunks(64).collect();
    assert!(pieces.len() > WRITE_PIECES_MAX);
    bench.run(write(3, &pieces)).0.unwrap();
    assert_eq!(bench.read(3, 256), bytes);
}

#[test]
fn the_rest_of_a_short_write_lands_where_it_belongs() {
    let bench = Bench::new();
    let pieces = [Bytes::from(vec![1; 300]), Bytes::from(vec![2; 300]), Bytes::from(vec![3; 424])];
    bench.volume.open.write_rest(512, &pieces, 400).unwrap();
    let expected = [vec![0; 400], vec![2; 200], vec![3; 424]].concat();
    assert_eq!(bench.read(1, 2), expected);
}

#[test]
fn a_write_of_several_pieces_that_a_full_disk_takes_in_part_is_an_error() {
    let Some(small) = Small::mount(32 << 10) else { return };
    let file = small.file("lun.img");
    file.set_len(BLOCKS * 512 + TAIL_BYTES).unwrap();
    let bench = Bench::on(file, BLOCKS);
    let half = [7; 32 << 10];
    assert_eq!(bench.run(write(0, &[&half, &half])).0, Err(DiskError::Full));
    // What there is room for can still be written.
    bench.run(write(0, &[&[8; 512], &[9; 512]])).0.unwrap();
    assert_eq!(bench.read(0, 2), [[8; 512], [9; 512]].concat());
}

#[test]
fn a_write_that_is_all_or_nothing_needs_no_room_where_its_blocks_have_their_place() {
    let Some(small) = Small::mount(1 << 20) else { return };
    let place = VolumePlace::file(small.path(), "data0");
    let file = place.create(&Superblock::new(1, 2, BLOCKS, Owner::NOBODY)).unwrap();
    let bench = Bench::on(file, BLOCKS);
    bench.run(write(0, &[&[1; 64 * 512]])).0.unwrap();
    small.fill();
    let record =
        |start| DiskIo::Record { range: range(start, 64), data: vec![Bytes::from(vec![2; 64 * 512])] };
    assert_eq!(bench.run(record(256)).0, Err(DiskError::Full));
    assert_eq!(bench.volume.no_room(), Some(DiskError::Full));
    bench.run(record(0)).0.unwrap();
    bench.run(DiskIo::Unrecord).0.unwrap();
    bench.run(write(0, &[&[2; 64 * 512]])).0.unwrap();
    assert_eq!(bench.read(0, 64), [2; 64 * 512]);
}

#[test]
fn an_unmapped_range_reads_as_zeros_and_is_a_hole_again() {
    let bench = Bench::new();
    bench.run(write(0, &[&[5; 256 * 512]])).0.unwrap();
    bench.run(DiskIo::Flush).0.unwrap();
    bench.run(DiskIo::Unmap(vec![range(0, 64), range(128, 64)])).0.unwrap();
    assert_eq!(bench.read(0, 65), [vec![0; 64 * 512], vec![5; 512]].concat());
    assert_eq!(bench.read(128, 65), [vec![0; 64 * 512], vec![5; 512]].concat());
    let data = rustix::fs::seek(&bench.file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert_eq!(data, 64 * 512);
}

#[test]
fn write_same_writes_every_block_and_no_other() {
    let bench = Bench::new();
    for (blocks, byte) in [(3, 4), (300, 6), (300, 0)] {
        bench.run(write(0, &[&[1; 400 * 512]])).0.unwrap();
        let block = Bytes::from(vec![byte; 512]);
        bench.run(DiskIo::WriteSame { range: range(7, blocks), block }).0.unwrap();
        let length = blocks as usize * 512;
        let expected = [vec![1; 7 * 512], vec![byte; length], vec![1; (393 * 512) - length]].concat();
        assert_eq!(bench.read(0, 400), expected);
    }
}

#[test]
fn the_reserved_tail_is_out_of_reach() {
    let bench = Bench::new();
    bench.file.write_all_at(b"superblock", BLOCKS * 512).unwrap();
    let block = Bytes::from(vec![1; 512]);
    let attempts = [
        DiskIo::Read(range(BLOCKS, 1)),
        write(BLOCKS - 1, &[&[1; 1024]]),
        DiskIo::WriteSame { range: range(BLOCKS, 1), block },
        DiskIo::Unmap(vec![range(0, 1), range(BLOCKS - 8, 16)]),
        DiskIo::Write { range: range(0, 1), data: vec![Bytes::from(vec![1; 1024])] },
    ];
    for io in attempts {
        assert_eq!(bench.run(io.clone()), (Err(DiskError::Io), true), "{io:?}");
    }
    let mut tail = [0; 10];
    bench.file.read_exact_at(&mut tail, BLOCKS * 512).unwrap();
    assert_eq!(&tail, b"superblock");
}

#[test]
fn a_full_disk_is_told_apart_and_a_failed_flush_stays_failed() {
    let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let bench = Bench::on(full, BLOCKS);
    assert_eq!(bench.run(write(0, &[&[1; 512]])).0, Err(DiskError::Full));
    // The kernel refuses to flush this device: as good as a disk that fails.
    assert_eq!(bench.run(DiskIo::Flush).0, Err(DiskError::Io));
    assert!(bench.volume.flush_failed());
    assert_eq!(bench.run(DiskIo::Flush), (Err(DiskError::FlushFailed), true));
}

#[test]
fn every_flush_of_many_at_once_is_answered() {
    let bench = Bench::new();
    let (done, results) = mpsc::channel();
    let mut waiting = 0;
    for number in 0..200_u64 {
        bench.run(write(number, &[&[1; 512]])).0.unwrap();
        let done = done.clone();
        let at_once = bench.volume.submit(DiskIo::Flush, false, move |result| done.send(result).unwrap());
        waiting += usize::from(at_once.is_none());
    }
    assert!((0..waiting).all(|_| results.recv().unwrap() == Ok(Vec::new())));
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    WriteSame(u64, u64, u8),
    Unmap(u64, u64),
    Read(u64, u64),
    Flush,
    Slow,
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..BLOCKS).prop_flat_map(|start| (Just(start), 1..=BLOCKS - start));
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|((at, blocks), byte)| Step::Write(at, blocks, byte)),
        2 => (place.clone(), 0..3_u8).prop_map(|((at, blocks), byte)| Step::WriteSame(at, blocks, byte)),
        2 => place.clone().prop_map(|(at, blocks)| Step::Unmap(at, blocks)),
        4 => place.prop_map(|(at, blocks)| Step::Read(at, blocks)),
        1 => Just(Step::Flush),
        1 => Just(Step::Slow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_volume_is_what_was_written(steps in proptest::collection::vec(step(), 1..40)) {
        let bench = Bench::new();
        let mut model = vec![0_u8; (BLOCKS * 512) as usize];
        let span = |at: u64, blocks: u64| (at * 512) as usize..((at + blocks) * 512) as usize;
        for step in steps {
            match step {
                Step::Write(at, blocks, seed) => {
                    let place = &mut model[span(at, blocks)];
                    for (n, byte) in place.iter_mut().enumerate() {
                        *byte = (n / 64) as u8 ^ seed;
                    }
                    let pieces: Vec<&[u8]> = place.chunks(3000).collect();
                    bench.run(write(at, &pieces)).0.unwrap();
                }
                Step::WriteSame(at, blocks, byte) => {
                    model[span(at, blocks)].fill(byte);
                    let block = Bytes::from(vec![byte; 512]);
                    bench.run(DiskIo::WriteSame { range: range(at, blocks), block }).0.unwrap();
                }
                Step::Unmap(at, blocks) => {
                    model[span(at, blocks)].fill(0);
                    bench.run(DiskIo::Unmap(vec![range(at, blocks)])).0.unwrap();
                }
                Step::Read(at, blocks) => prop_assert!(bench.read(at, blocks) == model[span(at, blocks)]),
                Step::Flush => drop(bench.run(DiskIo::Flush).0.unwrap()),
                Step::Slow => bench.volume.stalls.stalled(),
            }
        }
        prop_assert!(bench.read(0, BLOCKS) == model);
        let mut tail = vec![1; TAIL_BYTES as usize];
        bench.file.read_exact_at(&mut tail, BLOCKS * 512).unwrap();
        prop_assert!(tail.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_redo_record_lies_in_the_tail_is_replayed_when_the_volume_is_found_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::volume::files::VolumePlace::file(folder.path(), "data0");
    let superblock =
        crate::volume::superblock::Superblock::new(1, 2, BLOCKS, crate::volume::superblock::Owner::NOBODY);
    let bench = Bench::on(place.create(&superblock).unwrap(), BLOCKS);
    bench.run(write(0, &[&[1; 4096]])).0.unwrap();
    let data = vec![Bytes::from(vec![7; 700]), Bytes::from(vec![8; 836])];
    bench.run(DiskIo::Record { range: range(2, 3), data: data.clone() }).0.unwrap();
    assert_eq!(bench.read(0, 8), [1; 4096], "the blocks are not touched by the record");
    place.recover(&bench.file, &superblock).unwrap();
    assert_eq!(bench.read(2, 3), data.concat());
    assert_eq!((bench.read(0, 2), bench.read(5, 3)), (vec![1; 1024], vec![1; 1536]));
    bench.run(write(2, &[&[9; 512]])).0.unwrap();
    place.recover(&bench.file, &superblock).unwrap();
    assert_eq!(bench.read(2, 1), [9; 512], "a record is replayed once");
    bench.run(DiskIo::Record { range: range(2, 3), data }).0.unwrap();
    for _ in 0..2 {
        bench.run(DiskIo::Unrecord).0.unwrap();
    }
    bench.run(write(3, &[&[9; 512]])).0.unwrap();
    place.recover(&bench.file, &superblock).unwrap();
    assert_eq!(bench.read(2, 2), [9; 1024], "a record that is gone is not replayed");
    assert_eq!(place.scan().unwrap().0, crate::volume::superblock::VolumeFound::Open(superblock));
}

#[test]
fn a_record_that_has_no_place_or_no_sense_is_refused() {
    let bench = Bench::new();
    let blocks = u64::from(ATOMIC_BLOCKS_MAX);
    for (range, bytes) in [(range(0, 2), 512), (range(BLOCKS - 1, 2), 1024)] {
        let data = vec![Bytes::from(vec![0; bytes])];
        assert_eq!(bench.run(DiskIo::Record { range, data }).0, Err(DiskError::Io));
    }
    let most =
        DiskIo::Record { range: range(0, blocks), data: vec![Bytes::from(vec![3; blocks as usize * 512])] };
    assert_eq!(bench.run(most).0, Ok(Vec::new()));
    let file = tempfile::tempfile().unwrap();
    file.set_len(BLOCKS * 512).unwrap();
    let without_tail = Bench::on(file, BLOCKS);
    let record = DiskIo::Record { range: range(0, 2), data: vec![Bytes::from(vec![0; 1024])] };
    assert_eq!(without_tail.run(record).0, Err(DiskError::Io));
    assert_eq!(without_tail.run(DiskIo::Unrecord).0, Err(DiskError::Io));
}

/// Counts what is logged on this thread.
struct Lines(Arc<AtomicU64>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_disk_that_fails_again_and_again_is_logged_once_for_what_it_could_not_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    File::create(&path).unwrap().set_len(BLOCKS * 512 + TAIL_BYTES).unwrap();
    // Whatever is written fails; then whatever is read.
    for io in [write(0, &[&[1; 512]]), DiskIo::Read(range(0, 1))] {
        let reads = matches!(io, DiskIo::Read(_));
        let file = OpenOptions::new().read(!reads).write(reads).open(&path).unwrap();
        let bench = Bench::on(file, BLOCKS);
        let lines = Arc::new(AtomicU64::new(0));
        tracing::subscriber::with_default(Lines(lines.clone()), || {
            for _ in 0..1000 {
                assert_eq!(bench.volume.open.perform(io.clone()), Err(DiskError::Io));
            }
        });
        assert_eq!(lines.load(Ordering::Relaxed), 1, "reads: {reads}");
    }
}

#[test]
fn where_reads_find_nothing_the_next_begin_on_the_pool_until_one_finds_its_data_in_memory() {
    let bench = Bench::new();
    assert!(bench.run(write(0, &[&[7; 4096]])).0.is_ok());
    assert!(bench.run(DiskIo::Read(range(0, 8))).1);
    (0..COLD_MISSES).for_each(|_| bench.volume.cache.tried(false));
    for at_once in [false, true] {
        let (result, done) = bench.run(DiskIo::Read(range(0, 8)));
        assert_eq!((result.unwrap().concat(), done), (vec![7; 4096], at_once));
    }
}
