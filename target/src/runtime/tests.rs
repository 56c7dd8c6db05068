//! Tests of starting and ending controllers in this process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use controller::command::{Command, LunIndex, NexusId, Op, TaskTag};
use controller::pair::PairStatus;
use controller::volume::redo::{self, RECORD_OFFSET};
use controller::volume::superblock::TAIL_BYTES;
use controller::world::World;
use protocol::block::BlockRange;

use super::*;

/// A state that should come at once has come by then, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until what is looked for is there.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn all_duplex(appliances: &[&Appliance]) -> bool {
    let statuses: Vec<_> = appliances.iter().flat_map(|appliance| appliance.status()).collect();
    // A controller that has its place but not yet the word to begin says DUPLEX before its interlink is up.
    statuses.iter().all(|status| {
        let duplex = status.luns.iter().all(|lun| lun.serving && lun.status == PairStatus::Duplex);
        status.interlink.up && duplex
    })
}

fn wait_until_joined(appliances: &[&Appliance]) {
    let begun = Instant::now();
    while !all_duplex(appliances) {
        let statuses = || appliances.iter().map(|appliance| appliance.status()).collect::<Vec<_>>();
        assert!(begun.elapsed() < PATIENCE, "the controllers did not join: {:#?}", statuses());
        std::thread::yield_now();
    }
}

/// Addresses nobody listens on.
fn free_addresses() -> [String; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

fn config(folder: &Path) -> Config {
    config_with(folder, "")
}

fn config_with(folder: &Path, more: &str) -> Config {
    let [alpha, alpha_link, beta, beta_link] = free_addresses();
    let text = format!(
        r#"
        [appliance]
        iqn = "iqn.2026-11.com.example:demo"
        state = "state"
        [[controller]]
        name = "alpha"
        portals = ["{alpha}"]
        interlink = "{alpha_link}"
        [[controller]]
        name = "beta"
        portals = ["{beta}"]
        interlink = "{beta_link}"
        [[lun]]
        number = 0
        name = "data0"
        size = "8 MiB"
        main = "alpha"
        {more}
        "#
    );
    Config::parse(&folder.join("appliance.toml"), &text).unwrap()
}

fn ask(config: &Config, side: Side, request: &str) -> serde_json::Value {
    let mut socket = UnixStream::connect(config.control_socket(side)).unwrap();
    writeln!(socket, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_controller_answers_on_its_control_socket_and_leaves_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let appliance = Appliance::start_with_workers(&config, &[Side::First, Side::Second], 2).unwrap();
    for side in [Side::First, Side::Second] {
        let permissions = std::fs::metadata(config.control_socket(side)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        assert!(ask(&config, side, "status").get("interlink").is_some());
        assert!(ask(&config, side, "dance").get("error").is_some());
    }
    assert_eq!(appliance.stop(), Stopped::Clean);
    assert!(!config.control_socket(Side::First).exists());
}

#[test]
fn a_controller_that_runs_already_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = Appliance::start_with_workers(&config, &[Side::First], 1).unwrap();
    let again = Appliance::start_with_workers(&config, &[Side::First], 1);
    assert!(matches!(again, Err(StartError::Lock(LockError::Held { .. }))));
    let other = Appliance::start_with_workers(&config, &[Side::Second], 1).unwrap();
    assert_eq!((first.stop(), other.stop()), (Stopped::Clean, Stopped::Clean));
    let again = Appliance::start_with_workers(&config, &[Side::First], 1).unwrap();
    assert_eq!(again.stop(), Stopped::Clean);
}

#[test]
fn what_ends_without_having_flushed_is_cut_off_before_anything_that_may_wait_for_a_disk() {
    use rustix::process::{Signal, getpid, kill_process};

    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let appliance = Appliance::start_with_workers(&config, &[Side::First], 1).unwrap();
    let controller = std::sync::Arc::downgrade(&appliance.controllers[0].controller);
    // The first ends it, the second will not wait for that.
    let insist = || kill_process(getpid(), Signal::TERM).unwrap();
    let first = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        insist();
    });
    let mut was_there = None;
    let stopped =
        appliance.run_until_signal(insist, || was_there = Some(controller.strong_count() > 0)).unwrap();
    first.join().unwrap();
    assert_eq!((stopped, was_there), (Stopped::Unclean, Some(true)));
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let portal = config.controllers[0].portals[0];
    let _other = TcpListener::bind(portal).unwrap();
    let error = Appliance::start_with_workers(&config, &[Side::First], 1).err().unwrap();
    assert!(error.to_string().contains(&portal.to_string()), "{error}");
}

/// 100 writes of 8 KiB in one batch; the other controller's lie between them.
fn write_all(controller: &Controller<ProductWorld>, number: usize) {
    let _batch = crate::batch::Batch::begin();
    for tag in 0..100_u32 {
        let start = 16 * (2 * u64::from(tag) + number as u64);
        let data = vec![bytes::Bytes::from(vec![tag as u8 + 100 * number as u8; 8192])];
        let op = Op::Write { range: BlockRange::new(start, 16).unwrap(), data, fua: false };
        let received = controller.world().now();
        controller.command(Command {
            lun: LunIndex(0),
            nexus: NexusId(7),
            tag: TaskTag::of(tag),
            op,
            received,
        });
    }
}

#[test]
fn two_controllers_in_two_processes_worth_of_threads_join_and_mirror_what_either_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let alpha = Appliance::start_with_workers(&config, &[Side::First], 2).unwrap();
    let beta = Appliance::start_with_workers(&config, &[Side::Second], 3).unwrap();
    wait_until_joined(&[&alpha, &beta]);
    let copies = || {
        [Side::First, Side::Second].map(|side| {
            let mut volume = std::fs::read(config.volume_path(&config.luns[0], side).unwrap()).unwrap();
            volume.truncate(volume.len() - TAIL_BYTES as usize);
            volume
        })
    };
    let expected = |block: usize| (block / 16 / 2 + 100 * (block / 16 % 2)) as u8;
    wait_for("the writes are not on both copies", || {
        for (number, appliance) in [&alpha, &beta].into_iter().enumerate() {
            write_all(&appliance.controllers[0].controller, number);
        }
        wait_for("the writes did not end", || {
            let statuses = [alpha.status(), beta.status()].concat();
            statuses.iter().all(|status| status.luns[0].commands == 0).then_some(())
        });
        // On a machine that has no time for them the two may lose each other; hosts ask again then.
        let whole = |copy: Vec<u8>| (0..200 * 16).all(|block| copy[block * 512] == expected(block));
        copies().into_iter().all(whole).then_some(())
    });
    assert_eq!((alpha.stop(), beta.stop()), (Stopped::Clean, Stopped::Clean));
    let [alpha, beta] = copies();
    assert!(alpha == beta, "the copies differ");
}

#[test]
fn an_encrypted_interlink_needs_certificates_and_then_joins_in_one_process_as_in_two() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_with(folder.path(), "[access]\nplain_interlink = false");
    let both = [Side::First, Side::Second];
    let missing = Appliance::start_with_workers(&config, &both, 1).err().unwrap();
    assert!(matches!(missing, StartError::Certificates(_)), "{missing}");
    crate::interlink::tls::certificates::make(&config, false).unwrap();
    let appliance = Appliance::start_with_workers(&config, &both, 2).unwrap();
    wait_until_joined(&[&appliance]);
    assert_eq!(appliance.stop(), Stopped::Clean);
    let alpha = Appliance::start_with_workers(&config, &[Side::First], 2).unwrap();
    let beta = Appliance::start_with_workers(&config, &[Side::Second], 3).unwrap();
    wait_until_joined(&[&alpha, &beta]);
    assert_eq!((alpha.stop(), beta.stop()), (Stopped::Clean, Stopped::Clean));
}

#[test]
fn a_write_of_several_blocks_that_a_crash_interrupted_is_complete_before_its_volume_is_compared() {
    use std::os::unix::fs::FileExt;

    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let appliance = Appliance::start_with_workers(&config, &[Side::First, Side::Second], 1).unwrap();
    wait_until_joined(&[&appliance]);
    assert_eq!(appliance.stop(), Stopped::Clean);
    let path = config.volume_path(&config.luns[0], Side::Second).unwrap();
    let volume = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    // What a crash leaves: the record, and one of its blocks.
    let (range, data) = (BlockRange::new(40, 3).unwrap(), [7; 3 * 512]);
    let record = [&redo::header(range, [&data[..]])[..], &data].concat();
    let tail = volume.metadata().unwrap().len() - TAIL_BYTES;
    volume.write_all_at(&record, tail + RECORD_OFFSET).unwrap();
    volume.write_all_at(&data[..512], 41 * 512).unwrap();
    let beta = Appliance::start_with_workers(&config, &[Side::Second], 1).unwrap();
    let mut there = [0; 5 * 512];
    volume.read_exact_at(&mut there, 39 * 512).unwrap();
    assert!(there[512..4 * 512] == data && (there[0], there[4 * 512]) == (0, 0), "the write is torn");
    assert_eq!(beta.stop(), Stopped::Clean);
    volume.read_exact_at(&mut there[..512], tail + RECORD_OFFSET).unwrap();
    assert_eq!(there[..512], [0; 512], "the record is still there");
}

/// The disk of data1 at alpha answers nothing, whatever the controller asks of it.
fn with_a_silent_disk(path: &Path, patience: scan::Patience) -> (scan::Looking, std::sync::mpsc::Sender<()>) {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (path, gate) = (path.to_owned(), parking_lot::Mutex::new(gate));
    let look: scan::Look = std::sync::Arc::new(move |place| {
        if place.path() == path {
            let _released = gate.lock().recv_timeout(PATIENCE);
        }
        place.scan()
    });
    (scan::Looking { look, patience, ..scan::Looking::default() }, release)
}

#[test]
fn a_disk_that_does_not_answer_at_the_start_keeps_no_other_lun_from_being_served() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[[lun]]\nnumber = 1\nname = \"data1\"\nsize = \"8 MiB\"\nmain = \"alpha\"";
    let config = config_with(folder.path(), more);
    let both = [Side::First, Side::Second];
    let whole = Appliance::start_with_workers(&config, &both, 1).unwrap();
    wait_until_joined(&[&whole]);
    assert_eq!(whole.stop(), Stopped::Clean);
    let path = config.volume_path(&config.luns[1], Side::First).unwrap();
    let before = std::fs::read(&path).unwrap();
    let short = std::time::Duration::from_secs(2);
    let (looking, release) =
        with_a_silent_disk(&path, scan::Patience { say_after: short / 2, within: short });
    let appliance = Appliance::start_looking(&config, &both, 1, looking).unwrap();
    wait_for("what answers is not served", || {
        let status = appliance.status();
        let served = |lun: usize| status.iter().all(|status| status.luns[lun].serving);
        let duplex = |lun: usize| status.iter().all(|status| status.luns[lun].status == PairStatus::Duplex);
        assert!(!duplex(1), "nobody knows what is there");
        (served(0) && duplex(0) && served(1)).then_some(())
    });
    let troubles = serde_json::to_string(&appliance.status()[0]).unwrap();
    assert!(troubles.contains("alpha runs without") && troubles.contains("data1.volume"), "{troubles}");
    drop(release);
    assert_eq!(appliance.stop(), Stopped::Clean);
    assert_eq!(std::fs::read(&path).unwrap(), before, "something was written there");
    // It answers again: what it has is a copy once more, and refilled.
    let again = Appliance::start_with_workers(&config, &both, 1).unwrap();
    wait_until_joined(&[&again]);
    assert_eq!(again.stop(), Stopped::Clean);
}

#[test]
fn controllers_that_ended_cleanly_join_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut identity = None;
    for _ in 0..3 {
        let appliance = Appliance::start_with_workers(&config, &[Side::First, Side::Second], 2).unwrap();
        wait_until_joined(&[&appliance]);
        let status = appliance.status();
        let now = (status[0].appliance.clone(), status[0].luns[0].naa.clone());
        assert_eq!(*identity.get_or_insert_with(|| now.clone()), now);
        assert_eq!(appliance.stop(), Stopped::Clean);
    }
}

#[test]
fn a_controller_whose_peer_ends_meets_it_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let alpha = Appliance::start_with_workers(&config, &[Side::First], 1).unwrap();
    for _ in 0..2 {
        let beta = Appliance::start_with_workers(&config, &[Side::Second], 1).unwrap();
        wait_until_joined(&[&alpha, &beta]);
        assert_eq!(beta.stop(), Stopped::Clean);
        wait_for("alpha did not miss beta", || (!alpha.status()[0].interlink.up).then_some(()));
    }
}

#[test]
fn a_stranger_on_the_interlink_is_shown_the_door_and_disturbs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    shown_the_door(&config(folder.path()));
    let encrypted = config_with(folder.path(), "[access]\nplain_interlink = false");
    crate::interlink::tls::certificates::make(&encrypted, false).unwrap();
    shown_the_door(&encrypted);
}

/// The first bytes of a handshake (RFC 8446 4.1.2), whose rest never comes.
const BEGUN: [u8; 9] = [22, 3, 1, 1, 0, 1, 0, 0, 0xfc];

fn shown_the_door(config: &Config) {
    let appliance = Appliance::start_with_workers(config, &[Side::First, Side::Second], 1).unwrap();
    wait_until_joined(&[&appliance]);
    let incarnations = |appliance: &Appliance| {
        appliance
            .status()
            .into_iter()
            .map(|status| (status.incarnation, status.interlink))
            .collect::<Vec<_>>()
    };
    let before = incarnations(&appliance);
    let mut announcement = [0; 48];
    announcement[..4].copy_from_slice(b"TWLI");
    announcement[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    let ping = protocol::interlink::Message::Ping(1).encode(0, Default::default(), &[]);
    let silence = [0; 0];
    let says: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        &announcement,
        &ping,
        &[0; 48],
        &silence,
        &BEGUN,
        &[BEGUN; 100].concat(),
    ];
    for said in says {
        let mut stranger = TcpStream::connect(config.controllers[1].interlink[0]).unwrap();
        stranger.write_all(said).unwrap();
        // Whether by its end or by a reset: the connection is closed.
        let mut heard = Vec::new();
        let _closed = stranger.read_to_end(&mut heard);
        // Nothing but that this is the wrong place.
        assert!(
            heard.is_empty() || crate::interlink::tls::handshake::is_tls(&heard) || heard == b"TWLI",
            "{heard:?}"
        );
    }
    wait_until_joined(&[&appliance]);
    assert_eq!(incarnations(&appliance), before);
    assert_eq!(appliance.stop(), Stopped::Clean);
}
