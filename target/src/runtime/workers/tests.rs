//! What becomes of a worker whose disk does not answer.

use bytes::Bytes;
use controller::disk::DiskIo;
use controller::disk::buffers::BufferPool;
use controller::disk::pool::DiskPool;
use protocol::block::BlockRange;

use super::*;
use crate::batch::Batch;
use crate::runtime::requests::Answer;

#[test]
fn a_task_runs_on_the_worker_it_was_given_to() {
    let workers = Workers::start(3).unwrap();
    let control = Workers::start_control("alpha").unwrap();
    let (done, kinds) = mpsc::channel();
    for index in [0, 1, 2, 4] {
        let done = done.clone();
        workers.spawn(index, move || async move { done.send((index, thread_kind())).unwrap() });
    }
    control.spawn(0, move || async move { done.send((9, thread_kind())).unwrap() });
    let mut kinds: Vec<_> = kinds.iter().collect();
    kinds.sort_by_key(|(index, _)| *index);
    let expected = [
        (0, ThreadKind::Worker(0)),
        (1, ThreadKind::Worker(1)),
        (2, ThreadKind::Worker(2)),
        (4, ThreadKind::Worker(1)),
        (9, ThreadKind::Control),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(thread_kind(), ThreadKind::Other);
}

fn volume(pool: &DiskPool, disk: u64) -> Arc<VolumeFile> {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    Arc::new(VolumeFile::new(file, "lun.volume".as_ref(), 8, BufferPool::default(), pool.lane(disk)))
}

#[test]
fn a_disk_that_keeps_a_workers_thread_keeps_nothing_else_from_getting_on() {
    let pool = DiskPool::start().unwrap();
    let (hung, neighbour, other) = (volume(&pool, 1), volume(&pool, 1), volume(&pool, 2));
    let read = DiskIo::Read(BlockRange::new(0, 8).unwrap());
    let workers = Workers::start(1).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let ((asked, asks), (done, what)) = (mpsc::channel(), mpsc::channel());
    let (hangs, behind, later) = (done.clone(), done.clone(), done);
    let (first, second) = (Arc::clone(&hung), Arc::clone(&other));
    workers.spawn(0, move || async move {
        let _batch = Batch::begin();
        batch::after_bridges(move || {
            ask_disk(&first, || {
                asked.send(()).unwrap();
                assert!(gate.recv().is_err());
            });
            hangs.send(("hung", thread_kind())).unwrap();
        });
        batch::after_bridges(move || {
            ask_disk(&second, || ());
            behind.send(("behind it in the batch", thread_kind())).unwrap();
        });
    });
    asks.recv().unwrap();
    workers.spawn(0, move || async move { later.send(("later", thread_kind())).unwrap() });
    let worker = workers.each().next().unwrap();
    let call = worker.asks().unwrap();
    assert!(what.try_recv().is_err(), "the only thread of the worker waits for the disk");
    worker.succeed(call);
    assert_eq!(what.recv(), Ok(("behind it in the batch", ThreadKind::Worker(0))));
    assert_eq!(what.recv(), Ok(("later", ThreadKind::Worker(0))));
    let at_once = [&hung, &neighbour, &other].map(|volume| volume.may_be_done_at_once(&read));
    assert_eq!(at_once, [false, false, true], "no other thread is to wait for that disk");
    drop(release);
    assert_eq!(what.recv(), Ok(("hung", ThreadKind::Other)), "it is no worker any more");
    assert!(hung.may_be_done_at_once(&read) && neighbour.may_be_done_at_once(&read));
}

/// Says so when it is dropped in a batch, as a receiver of answers does.
struct Told(mpsc::Sender<()>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        b"read"
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if batch::is_batch_open() {
            self.0.send(()).unwrap();
        }
    }
}

#[test]
fn what_one_volume_has_answered_is_told_before_another_is_asked() {
    let pool = DiskPool::start().unwrap();
    let hung = volume(&pool, 1);
    let workers = Workers::start(1).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let (told, tells) = mpsc::channel();
    workers.spawn(0, move || async move {
        let _batch = Batch::begin();
        batch::answer_after_bridges(1, Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))])));
        batch::after_bridges(move || ask_disk(&hung, || assert!(gate.recv().is_err())));
    });
    // Nobody goes on in the place of the thread that waits.
    tells
        .recv_timeout(Duration::from_secs(20))
        .expect("a host waits for a disk that its command never asked");
    drop(release);
}

#[test]
fn what_a_disk_answers_when_somebody_else_is_the_worker_is_told_too() {
    let pool = DiskPool::start().unwrap();
    let slow = volume(&pool, 1);
    let workers = Workers::start(1).unwrap();
    let ((release, gate), (asked, asks)) = (mpsc::channel::<()>(), mpsc::channel());
    let (told, tells) = mpsc::channel();
    let (kept, keeps) = mpsc::channel();
    workers.spawn(0, move || async move {
        let _batch = Batch::begin();
        let ask = move || {
            ask_disk(&slow, || {
                asked.send(()).unwrap();
                assert!(gate.recv().is_err());
            });
            kept.send(thread_kind()).unwrap();
        };
        let answer = Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))]));
        batch::answer_late_after_bridges(0, ask, answer);
    });
    asks.recv().unwrap();
    let worker = workers.each().next().unwrap();
    worker.succeed(worker.asks().unwrap());
    assert!(tells.try_recv().is_err(), "the disk has not answered");
    drop(release);
    assert_eq!(keeps.recv(), Ok(ThreadKind::Other));
    tells.recv_timeout(Duration::from_secs(20)).expect("a host waits for what its disk has answered");
}

#[test]
fn what_one_disk_has_answered_is_told_though_the_next_hangs() {
    let pool = DiskPool::start().unwrap();
    let hung = volume(&pool, 1);
    let workers = Workers::start(1).unwrap();
    let ((release, gate), (asked, asks)) = (mpsc::channel::<()>(), mpsc::channel());
    let (told, tells) = mpsc::channel();
    workers.spawn(0, move || async move {
        let _batch = Batch::begin();
        batch::answer_after_bridges(0, Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))])));
        batch::after_bridges(move || {
            ask_disk(&hung, || {
                asked.send(()).unwrap();
                assert!(gate.recv().is_err());
            });
        });
    });
    asks.recv().unwrap();
    let worker = workers.each().next().unwrap();
    worker.succeed(worker.asks().unwrap());
    tells
        .recv_timeout(Duration::from_secs(20))
        .expect("a host waits for a disk that its command never asked");
    drop(release);
}

#[test]
fn what_one_disk_has_answered_is_told_before_the_next_worker_asks_another() {
    let pool = DiskPool::start().unwrap();
    let workers = Workers::start(1).unwrap();
    let (asked, asks) = mpsc::channel();
    let (told, tells) = mpsc::channel();
    let ((release, gate), (release_too, gate_too)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let hangs = [(volume(&pool, 1), gate), (volume(&pool, 2), gate_too)];
    workers.spawn(0, move || async move {
        let _batch = Batch::begin();
        batch::answer_after_bridges(0, Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))])));
        for (hung, gate) in hangs {
            let asked = asked.clone();
            batch::after_bridges(move || {
                ask_disk(&hung, || {
                    asked.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
            });
        }
    });
    asks.recv().unwrap();
    let worker = workers.each().next().unwrap();
    worker.succeed(worker.asks().unwrap());
    asks.recv().unwrap();
    let told = tells.recv_timeout(Duration::from_secs(3));
    worker.succeed(worker.asks().unwrap());
    drop((release, release_too));
    told.expect("a second disk that hangs keeps the answer of a third");
}

#[test]
fn a_disk_that_stalls_for_a_moment_is_no_news() {
    let pool = DiskPool::start().unwrap();
    let volume = volume(&pool, 1);
    let workers = Workers::start(1).unwrap();
    let worker = Arc::clone(workers.each().next().unwrap());
    let ((release, gate), (asked, asks)) = (mpsc::channel::<()>(), mpsc::channel());
    let (logged, lines) = mpsc::channel();
    workers.spawn(0, move || async move {
        batch::after_bridges(move || {
            let log = tempfile::NamedTempFile::new().unwrap();
            let lines = std::sync::Mutex::new(log.reopen().unwrap());
            let subscriber = tracing_subscriber::fmt().with_writer(lines).finish();
            tracing::subscriber::with_default(subscriber, || {
                ask_disk(&volume, || {
                    asked.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
            });
            logged.send(std::fs::read_to_string(log.path()).unwrap()).unwrap();
        });
    });
    asks.recv().unwrap();
    worker.succeed(worker.asks().unwrap());
    drop(release);
    assert_eq!(lines.recv(), Ok(String::new()));
}

#[test]
fn the_thread_that_is_the_worker_is_the_one_whose_end_is_waited_for() {
    let pool = DiskPool::start().unwrap();
    let volume = volume(&pool, 1);
    let workers = Workers::start(1).unwrap();
    let worker = Arc::clone(workers.each().next().unwrap());
    let (done, what) = mpsc::channel();
    workers.spawn(0, move || async move {
        batch::after_bridges(move || {
            ask_disk(&volume, || ());
            done.send(()).unwrap();
        });
    });
    what.recv().unwrap();
    // The watch has seen that request twice; it has come back before a thread was there to go on in its place.
    worker.succeed(worker.call.load(Ordering::Acquire) - 1);
    let ended = Arc::new(AtomicBool::new(false));
    let (works, (begun, begins)) = (Arc::clone(&ended), mpsc::channel());
    workers.spawn(0, move || async move {
        begun.send(()).unwrap();
        thread::sleep(Duration::from_millis(300));
        works.store(true, Ordering::Release);
    });
    begins.recv().unwrap();
    drop(workers);
    assert!(ended.load(Ordering::Acquire), "it still works, and what it works with is taken away");
}

#[test]
fn a_disk_that_answers_in_time_keeps_its_thread_the_worker() {
    let pool = DiskPool::start().unwrap();
    let volume = volume(&pool, 1);
    let workers = Workers::start(1).unwrap();
    let worker = workers.each().next().unwrap();
    let (done, what) = mpsc::channel();
    for _ in 0..100 {
        let (volume, done) = (Arc::clone(&volume), done.clone());
        workers.spawn(0, move || async move {
            // No batch is open.
            batch::after_bridges(move || {
                ask_disk(&volume, || ());
                done.send(thread_kind()).unwrap();
            });
        });
        // One that has come back meanwhile.
        let call = worker.call.load(Ordering::Acquire);
        if call > 0 && call.is_multiple_of(2) {
            worker.succeed(call - 1);
        }
        assert_eq!(what.recv(), Ok(ThreadKind::Worker(0)));
    }
    while !volume.may_be_done_at_once(&DiskIo::Read(BlockRange::new(0, 8).unwrap())) {
        thread::yield_now();
    }
    assert_eq!(worker.asks(), None);
}
