//! No limit is forgotten: every constant named `…_MAX` is shown, or is here with the reason why it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use controller::lun::LunUsage;
use controller::plan::{Plan, Side};

use super::*;

/// Constants that no status shows, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    // Sizes and numbers of the standards.
    ("AHS_BYTES_MAX", "RFC 7143 11.2.1.5: TotalAHSLength is one byte"),
    ("BINARY_TEXT_BYTES_MAX", "RFC 7143 6.1: the text form of BINARY_VALUE_BYTES_MAX"),
    ("BINARY_VALUE_BYTES_MAX", "RFC 7143 6.1: a binary value"),
    ("DATA_SEGMENT_LENGTH_MAX", "RFC 7143 11.2.1.6: DataSegmentLength is three bytes"),
    ("KEY_BYTES_MAX", "RFC 7143 6.1: a key name"),
    ("LENGTH_MAX", "RFC 7143 13: the largest numerical value of a length key"),
    ("NAME_BYTES_MAX", "RFC 7143 4.2.7.1: an iSCSI name"),
    ("SOCKET_PATH_BYTES_MAX", "unix(7): the path of a local socket"),
    ("SENSE_DATA_BYTES_MAX", "SPC-4 4.5.1: sense data"),
    ("VALUE_BYTES_MAX", "RFC 7143 6.1: a value"),
    ("LUN_NUMBER_MAX", "SAM-5 4.6.4: the flat space; and what the configuration takes of it"),
    // What the messages between the controllers may hold: their formats.
    ("BODY_BYTES_MAX", "format of the interlink"),
    ("KEYS_MAX", "format of the interlink"),
    ("PAYLOAD_BYTES_MAX", "format of the interlink"),
    ("RANGES_MAX", "format of the interlink"),
    ("VERSION_MAX", "the version of the interlink"),
    ("PEER_STATUS_HOSTS_MAX", "format of the interlink"),
    ("WORD_LUNS_MAX", "format of the interlink"),
    ("PEER_STATUS_REASONS_MAX", "format of the interlink"),
    ("WORD_TEXT_BYTES_MAX", "format of the interlink"),
    ("ATTENTIONS_MAX", "format of the interlink"),
    ("REGISTRANTS_MAX", "format of the interlink; registrants of one LUN"),
    ("PAIRS_MAX", "keys of one text, bounded again by LOGIN_KEYS_MAX and TEXT_REQUEST_BYTES_MAX"),
    ("TEXT_BYTES_MAX", "one text, bounded again by LOGIN_TEXT_BYTES_MAX and TEXT_REQUEST_BYTES_MAX"),
    // How the work is done; nothing that anyone sends is kept or refused by them.
    ("ARENA_KEPT_BYTES_MAX", "memory kept between answers"),
    ("BUFFER_BYTES_MAX", "the largest pooled buffer"),
    ("DATABASE_BYTES_MAX", "the state store of the first release, read once"),
    ("CLASS_IDLE_BYTES_MAX", "idle buffers kept"),
    ("COPIED_BYTES_MAX", "data copied behind its header"),
    ("INLINE_BYTES_MAX", "I/O done without the pool"),
    ("LUN_BYTES_MAX", "the largest size the configuration takes"),
    ("OWNER_BYTES_MAX", "format of the superblock: a controller's name"),
    ("PENDING_MAX", "unit attentions of one nexus, of which no two are alike"),
    ("CHALLENGE_BYTES_MAX", "RFC 7143 12.1.3: a CHAP challenge"),
    ("BACKOFF_MAX", "when a worker yields"),
    ("CONTENTION_MAX", "when a worker yields"),
    ("SPIN_MAX", "when a worker yields"),
    ("PARAMETER_LIST_BYTES_MAX", "one PERSISTENT RESERVE OUT, refused beyond"),
    ("PIECES_MAX", "pieces of one system call"),
    ("PROVISIONING_POINTER_MAX", "SBC-3 6.4.5: parameter codes of a log page"),
    ("REPORT_BYTES_MAX", "one answer to GET LBA STATUS, cut there"),
    ("SECRET_BYTES_MAX", "a CHAP secret in the configuration"),
    ("TRANSPORT_IDS_MAX", "one PERSISTENT RESERVE OUT, refused beyond"),
    ("SOLE_YIELD_MAX", "when a worker yields"),
    ("SHORT_YIELD_MAX", "when a worker yields"),
    ("FILE_BYTES_MAX", "a secret, or the certificates of one controller"),
    ("PARTING_BYTES_MAX", "what is read of an end that is refused, and thrown away"),
    ("SEALED_PIECES_MAX", "pieces of one encryption"),
    ("SEALED_READ_BYTES_MAX", "one read of a socket of the interlink"),
    ("READ_BYTES_MAX", "one read of a socket of the interlink"),
    ("RECEIVED_BYTES_MAX", "one frame's head and one read, made of the format's bounds"),
    ("WRITE_PIECES_MAX", "pieces of one system call"),
    ("WASTE_MAX", "when input is copied to let go of a larger buffer"),
    ("WRITE_PROMPT_MAX", "when writes go through the pool"),
    ("WRITE_SAME_INLINE_BYTES_MAX", "I/O done without the pool"),
    // Times that decide what happens between the controllers; ARCHITECTURE.md explains them.
    ("BEAT_SILENCE_MAX", "a time"),
    ("COMMAND_AGE_MAX", "a time"),
    ("DISK_SILENCE_MAX", "a time"),
    ("REST_TICKS_MAX", "a time"),
    ("AGAIN_MAX", "pieces that a copy remembers to read again; with more it starts over"),
    ("CHANGE_SILENCE_MAX", "a time"),
    ("FLUSH_SILENCE_MAX", "a time"),
    ("ENDING_MAX", "a time"),
    ("ASKED_AGAIN_MAX", "how often the command line asks"),
    ("HAND_OVER_MAX", "a time"),
    ("EARLY_FLUSH_MAX", "a time"),
    ("END_SILENCE_MAX", "a time"),
    ("GREETING_MAX", "a time"),
    ("IDLE_MAX", "a time"),
    ("LEG_AGE_MAX", "a time"),
    ("MARK_MAX", "a time"),
    ("MEETING_MAX", "a time"),
    ("PARTING_MAX", "a time"),
    ("PEER_SILENCE_MAX", "a time"),
    ("REDIAL_AFTER_MAX", "a time"),
    ("RUNNING_MAX", "a time"),
    ("STUCK_MAX", "a time"),
    ("SWITCH_MAX", "a time"),
    ("SPLIT_MAX", "a time"),
    ("ASKED_MAX", "a time"),
    ("FLUSH_AHEAD_MAX", "a time"),
    ("EARLY_WORDS_MAX", "what a peer can say of a LUN before it has its place"),
    ("BUSY_MAX", "how long the command line asks"),
    ("UNACKNOWLEDGED_MAX", "a time"),
    // The command line's own.
    ("ANSWER_BYTES_MAX", "what the command line reads of an answer"),
    ("COLUMNS_MAX", "the screen"),
    ("LOG_BYTES_MAX", "lines of the log that nobody takes"),
    ("COUNTED_LINES_MAX", "the log's memory of what it said"),
    ("HOLDERS_SHOWN_MAX", "the screen"),
    ("HOSTS_SHOWN_MAX", "the screen"),
    ("LUNS_SHOWN_MAX", "the screen"),
    ("NAME_CHARACTERS_MAX", "the screen"),
    ("PROBLEMS_SHOWN_MAX", "the screen"),
    ("TITLES_MAX", "the screen"),
];

fn shown() -> Vec<LimitStatus> {
    let plan = Plan {
        side: Side::First,
        names: ["alpha".into(), "beta".into()],
        luns: Vec::new(),
        shared: Vec::new(),
        bridges: 2,
    };
    let sessions = Sessions::default();
    let used = Use { sessions: &sessions, jobs: (3, 2), links: 4, link_bytes: 5, times: 6 };
    let mut shown = controller::limits::of(&plan, &[LunUsage::default()]);
    shown.extend(controller::copy_manager::CopyManager::default().limits());
    shown.push(controller::background::Background::default().limit());
    shown.extend(of(&used));
    shown
}

/// The constants of the crates' sources, with the file of each.
fn constants() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::new();
    for name in ["protocol", "controller", "target"] {
        look_in(&root.join(name).join("src"), &mut found);
    }
    found
}

fn look_in(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.split_once("const ")?.1.split_once(':'));
            let names = names.map(|(name, _)| name.trim()).filter(|name| name.ends_with("_MAX"));
            found.extend(names.map(|name| (name.to_owned(), path.clone())));
        }
    }
}

#[test]
fn every_limit_of_the_sources_is_shown_or_has_a_reason_not_to_be() {
    let constants = constants();
    assert!(constants.len() > 60, "the sources were found");
    let shown: BTreeSet<String> = shown().into_iter().map(|limit| limit.name).collect();
    let excepted: BTreeSet<&str> = NOT_SHOWN.iter().map(|(name, _)| *name).collect();
    for (name, path) in &constants {
        let here = shown.contains(name) || excepted.contains(name.as_str());
        assert!(here, "{name} of {} is neither shown by status nor excepted here", path.display());
    }
    for name in excepted {
        assert!(constants.contains_key(name), "{name} is excepted and does not exist");
        assert!(!shown.contains(name), "{name} is excepted and shown");
    }
}

#[test]
fn what_is_shown_exists_and_is_used_within_its_limit() {
    let constants = constants();
    for limit in shown() {
        assert!(limit.name == "COMMAND_WINDOW" || constants.contains_key(&limit.name), "{limit:?}");
        assert!(limit.used.is_none_or(|used| used <= limit.max), "{limit:?}");
    }
}

#[test]
fn of_several_the_one_that_uses_most_is_shown() {
    let used = |now, peak| controller::lun::Used { now, peak };
    let luns = [
        LunUsage { commands: used(3, 90), ..LunUsage::default() },
        LunUsage { commands: used(7, 8), ..LunUsage::default() },
    ];
    let plan = Plan {
        side: Side::First,
        names: ["alpha".into(), "beta".into()],
        luns: Vec::new(),
        shared: Vec::new(),
        bridges: 2,
    };
    let limits = controller::limits::of(&plan, &luns);
    let commands = limits.iter().find(|limit| limit.name == "LUN_COMMANDS_MAX").unwrap();
    assert_eq!((commands.max, commands.used, commands.peak), (4096, Some(7), Some(90)));
}
