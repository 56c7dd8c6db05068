//! The limits of the front end and of the product's world, with their present use: what `twinlun status --json`
//! shows beside the controller's own ([`controller::limits`]). Nothing is counted for it that is not counted anyway,
//! but the most there ever was.
//!
//! Every constant of the three crates that ends in `_MAX` is either shown or named in the tests below with the
//! reason why not: a new one cannot be forgotten.

use std::sync::atomic::Ordering;
use std::time::Duration;

use controller::disk::pool::{DISK_THREADS_MAX, LANE_QUEUE_JOBS_MAX, LANE_THREADS_MAX, THREADS_PER_DISK_MAX};
use controller::log_limit::LOG_SUBJECTS_MAX;
use controller::status::{LimitStatus, compared, counted};

use crate::device_server::limits as commands;
use crate::iscsi::connection::output::OUTPUT_BYTES_MAX;
use crate::iscsi::connection::watch::{
    DISCOVERY_SILENCE_MAX, FAREWELL_MAX, LOGIN_TIME_MAX, LOGOUT_TIME_MAX, PING_ANSWER_MAX,
};
use crate::iscsi::login::parameters::{
    BURST_BYTES_MAX, FIRST_BURST_BYTES_MAX, OUTSTANDING_R2T_MAX, RECEIVE_SEGMENT_BYTES_MAX,
};
use crate::iscsi::login::{LOGIN_KEYS_MAX, LOGIN_REQUESTS_MAX, LOGIN_TEXT_BYTES_MAX};
use crate::iscsi::memory_pool::POOL_BYTES_MAX;
use crate::iscsi::session::budget::DATA_IN_BYTES_MAX;
use crate::iscsi::session::command_window::{COMMAND_WINDOW, IMMEDIATE_COMMANDS_MAX};
use crate::iscsi::session::data_out::{DATA_OUT_SILENCE_MAX, SILENCED_MAX, SOLICITED_BYTES_MAX};
use crate::iscsi::session::task_management::FUNCTIONS_MAX;
use crate::iscsi::session::text::{TEXT_KEYS_MAX, TEXT_REQUEST_BYTES_MAX};
use crate::iscsi::session::usage::Usage;
use crate::iscsi::sessions::{
    DEPARTED_TIME_MAX, DISCOVERIES_MAX, HOST_SESSIONS_MAX, INITIATOR_SESSIONS_MAX, LOGINS_MAX, SESSIONS_MAX,
    SessionView, Sessions,
};
use crate::iscsi::visits::CONTESTS_MAX;
use crate::runtime::limits as run;

/// What of the product's world is in use.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Sessions and connections.
    pub sessions: &'a Sessions,
    /// Jobs that wait in the fullest lane of the disk pool, and jobs its threads work on.
    pub jobs: (usize, usize),
    /// Connections of the interlink.
    pub links: usize,
    /// Bytes that wait on the fullest of them.
    pub link_bytes: usize,
    /// Times at which the controller wants to be called.
    pub times: usize,
}

/// The limits, with their use.
#[must_use]
pub fn of(used: &Use<'_>) -> Vec<LimitStatus> {
    let sessions = used.sessions.list();
    let mut limits = connections(used.sessions, &sessions);
    limits.extend(each_session(&sessions));
    limits.extend(negotiated());
    limits.extend(interlink_and_disks(used));
    limits
}

fn connections(table: &Sessions, sessions: &[SessionView]) -> Vec<LimitStatus> {
    let (open, peak) =
        (table.connections.load(Ordering::Relaxed), table.connections_peak.load(Ordering::Relaxed));
    let (logins, discoveries) = (table.half_open(), table.discoveries());
    vec![
        counted(
            "CONNECTIONS_MAX",
            "connections",
            table.connections_most() as u64,
            open as u64,
            Some(peak as u64),
        ),
        counted(
            "LOG_SUBJECTS_MAX",
            "things said of hosts, remembered",
            LOG_SUBJECTS_MAX as u64,
            table.things_said().max(table.visits.counts().0) as u64,
            None,
        ),
        counted(
            "CONTESTS_MAX",
            "initiator ports whose session a login of their own ended lately",
            CONTESTS_MAX as u64,
            table.visits.counts().1 as u64,
            None,
        ),
        counted("LOGINS_MAX", "connections in login or farewell", LOGINS_MAX as u64, logins as u64, None),
        counted("DISCOVERIES_MAX", "discovery sessions", DISCOVERIES_MAX as u64, discoveries as u64, None),
        counted(
            "POOL_BYTES_MAX",
            "bytes of data of all sessions beyond their shares",
            POOL_BYTES_MAX,
            table.memory.taken(),
            None,
        ),
        counted(
            "SESSIONS_MAX",
            "sessions",
            SESSIONS_MAX as u64,
            sessions.len() as u64,
            Some(table.peak() as u64),
        ),
        counted(
            "INITIATOR_SESSIONS_MAX",
            "sessions of one initiator",
            INITIATOR_SESSIONS_MAX as u64,
            table.most_of_one_initiator() as u64,
            None,
        ),
        counted(
            "HOST_SESSIONS_MAX",
            "sessions of one host's address",
            HOST_SESSIONS_MAX as u64,
            table.most_of_one_host() as u64,
            None,
        ),
        compared("LOGIN_TIME_MAX", "ms", milliseconds(LOGIN_TIME_MAX)),
        compared("LOGIN_REQUESTS_MAX", "requests per login", u64::from(LOGIN_REQUESTS_MAX)),
        compared("LOGIN_TEXT_BYTES_MAX", "bytes of text per login request", LOGIN_TEXT_BYTES_MAX as u64),
        compared("LOGIN_KEYS_MAX", "keys per login", LOGIN_KEYS_MAX as u64),
        compared("DISCOVERY_SILENCE_MAX", "ms", milliseconds(DISCOVERY_SILENCE_MAX)),
        compared("DATA_OUT_SILENCE_MAX", "ms", milliseconds(DATA_OUT_SILENCE_MAX)),
        compared("PING_ANSWER_MAX", "ms", milliseconds(PING_ANSWER_MAX)),
        compared("LOGOUT_TIME_MAX", "ms", milliseconds(LOGOUT_TIME_MAX)),
        compared("DEPARTED_TIME_MAX", "ms", milliseconds(DEPARTED_TIME_MAX)),
        compared("FAREWELL_MAX", "ms", milliseconds(FAREWELL_MAX)),
    ]
}

/// What every session has of its own: shown for the one that uses most.
fn each_session(sessions: &[SessionView]) -> Vec<LimitStatus> {
    let most = |name: &str, unit: &str, max: u64, of: fn(&Usage) -> u64| {
        counted(name, unit, max, sessions.iter().map(|session| of(&session.usage)).max().unwrap_or(0), None)
    };
    let window = u64::from(COMMAND_WINDOW);
    let beyond = u64::from(IMMEDIATE_COMMANDS_MAX);
    let tasks = most("COMMAND_WINDOW", "commands per session", window, |used| used.tasks);
    let immediate = tasks.used.map_or(0, |tasks| tasks.saturating_sub(window));
    vec![
        tasks,
        counted(
            "IMMEDIATE_COMMANDS_MAX",
            "immediate commands beyond the window, per session",
            beyond,
            immediate,
            None,
        ),
        most("FUNCTIONS_MAX", "task management functions per session", FUNCTIONS_MAX as u64, |used| {
            used.functions
        }),
        most("SOLICITED_BYTES_MAX", "bytes per session", SOLICITED_BYTES_MAX, |used| used.solicited_bytes),
        most("DATA_IN_BYTES_MAX", "bytes per session", DATA_IN_BYTES_MAX, |used| used.data_in_bytes),
        most("OUTPUT_BYTES_MAX", "bytes per session", OUTPUT_BYTES_MAX as u64, |used| used.output_bytes),
        most("SILENCED_MAX", "aborted tasks per session", SILENCED_MAX as u64, |used| used.aborted_writes),
        compared("TEXT_KEYS_MAX", "keys of one text exchange", TEXT_KEYS_MAX as u64),
        compared("TEXT_REQUEST_BYTES_MAX", "bytes of one text exchange", TEXT_REQUEST_BYTES_MAX as u64),
    ]
}

/// What one command or PDU may be.
fn negotiated() -> Vec<LimitStatus> {
    let receive = u64::from(RECEIVE_SEGMENT_BYTES_MAX);
    vec![
        compared("RECEIVE_SEGMENT_BYTES_MAX", "bytes of one PDU's data", receive),
        compared("BURST_BYTES_MAX", "bytes", u64::from(BURST_BYTES_MAX)),
        compared("FIRST_BURST_BYTES_MAX", "bytes", u64::from(FIRST_BURST_BYTES_MAX)),
        compared("OUTSTANDING_R2T_MAX", "R2Ts per command", u64::from(OUTSTANDING_R2T_MAX)),
        compared(
            "TRANSFER_BLOCKS_MAX",
            "blocks of one READ or WRITE",
            u64::from(commands::TRANSFER_BLOCKS_MAX),
        ),
        compared(
            "PREFETCH_BLOCKS_MAX",
            "blocks one PRE-FETCH reads ahead",
            u64::from(commands::PREFETCH_BLOCKS_MAX),
        ),
        compared("COMPARE_AND_WRITE_BLOCKS_MAX", "blocks", u64::from(commands::COMPARE_AND_WRITE_BLOCKS_MAX)),
        compared(
            "ATOMIC_BLOCKS_MAX",
            "blocks of one WRITE ATOMIC or ORWRITE",
            u64::from(commands::ATOMIC_BLOCKS_MAX),
        ),
        compared("UNMAP_BLOCKS_MAX", "blocks of one UNMAP", u64::from(commands::UNMAP_BLOCKS_MAX)),
        compared(
            "UNMAP_DESCRIPTORS_MAX",
            "descriptors of one UNMAP",
            u64::from(commands::UNMAP_DESCRIPTORS_MAX),
        ),
        compared(
            "WRITE_SAME_BLOCKS_MAX",
            "blocks of one WRITE SAME",
            u64::from(commands::WRITE_SAME_BLOCKS_MAX),
        ),
        compared("CSCD_DESCRIPTORS_MAX", "descriptors", u64::from(commands::CSCD_DESCRIPTORS_MAX)),
        compared(
            "SEGMENT_DESCRIPTORS_MAX",
            "segments of one EXTENDED COPY",
            u64::from(commands::SEGMENT_DESCRIPTORS_MAX),
        ),
        compared(
            "EXTENDED_COPY_LIST_BYTES_MAX",
            "bytes of one EXTENDED COPY parameter list",
            u64::from(commands::EXTENDED_COPY_LIST_BYTES_MAX),
        ),
        compared("TRANSFER_BYTES_MAX", "bytes of one READ or WRITE", commands::TRANSFER_BYTES_MAX),
        compared("DATA_OUT_BYTES_MAX", "bytes of one command", commands::DATA_OUT_BYTES_MAX),
    ]
}

fn interlink_and_disks(used: &Use<'_>) -> Vec<LimitStatus> {
    let (waiting, running) = used.jobs;
    vec![
        counted("LINKS_MAX", "connections of the interlink", run::LINKS_MAX as u64, used.links as u64, None),
        counted(
            "LINK_QUEUE_BYTES_MAX",
            "bytes per connection of the interlink",
            run::LINK_QUEUE_BYTES_MAX as u64,
            used.link_bytes as u64,
            None,
        ),
        compared(
            "SEALED_AT_ONCE_BYTES_MAX",
            "bytes encrypted at once per connection of the interlink",
            run::SEALED_AT_ONCE_BYTES_MAX as u64,
        ),
        compared("HANDSHAKE_BYTES_MAX", "bytes of one handshake", run::HANDSHAKE_BYTES_MAX as u64),
        compared(
            "UNPROVEN_MAX",
            "connections of the interlink that have not shown who they are",
            run::UNPROVEN_MAX as u64,
        ),
        counted("LANE_QUEUE_JOBS_MAX", "jobs per volume", LANE_QUEUE_JOBS_MAX as u64, waiting as u64, None),
        counted("LANE_THREADS_MAX", "disk threads per volume", LANE_THREADS_MAX as u64, running as u64, None),
        compared("THREADS_PER_DISK_MAX", "disk threads per disk", THREADS_PER_DISK_MAX as u64),
        compared("DISK_THREADS_MAX", "disk threads", DISK_THREADS_MAX as u64),
        counted(
            "HUNG_THREADS_MAX",
            "threads of workers that wait for disks which do not answer",
            run::HUNG_THREADS_MAX as u64,
            run::hung_threads() as u64,
            None,
        ),
        counted(
            "TIMES_MAX",
            "times the controller wants to be called",
            run::TIMES_MAX as u64,
            used.times as u64,
            None,
        ),
        compared("CLIENTS_MAX", "clients of the control socket", run::CLIENTS_MAX as u64),
        compared("REQUEST_BYTES_MAX", "bytes of one request on the control socket", run::REQUEST_BYTES_MAX),
    ]
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
