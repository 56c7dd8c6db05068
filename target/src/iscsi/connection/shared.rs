//! The part of a connection that several threads share: its session and its output, behind one lock.
//!
//! Output is appended under the lock and written outside it: a thread that finds the writer idle takes the
//! queue, writes it, and looks again before leaving. While the connection's own thread runs a batch no other writes;
//! the end of the batch does. The lock is never held while the controller or the transport is called.

use core::net::SocketAddr;
use std::sync::Arc;

use controller::command::{Outcome, TaskTag};
use controller::time::Time;
use parking_lot::{Mutex, MutexGuard};
use protocol::iscsi::{Bhs, Digests};

use super::framing::Received;
use super::output::{OUTPUT_BYTES_MAX, Output};
use crate::batch::Flush;
use crate::iscsi::memory_pool::{Pool, Quota};
use crate::iscsi::session::full_feature::FullFeature;
use crate::iscsi::session::requests::Work;
use crate::iscsi::session::task_management::Waiter;
use crate::iscsi::session::usage::Usage;
use crate::transport::Transport;

/// Output of a batch that is written before the batch ends, in bytes.
const BATCH_OUTPUT_BYTES: usize = 512 * 1024;

/// Who may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    /// The next that comes.
    Idle,
    /// A thread writes.
    Writing,
    /// The transport takes no more until it says so.
    Blocked,
    /// Everything is said; the other side is to close.
    Finished,
    /// It is over.
    Ended,
}

struct State {
    session: Option<FullFeature>,
    /// Tags of commands that the controller had when the session ended, and has still.
    awaited: Vec<u32>,
    since: Time,
    /// When its host sent the last whole PDU of the session, or logged in.
    heard: Time,
    queue: Output,
    /// What is being written; empty here while somebody writes it.
    sending: Output,
    sending_bytes: usize,
    /// Bytes that the transport has taken, ever.
    sent: u64,
    /// What covers the output of a session that has ended.
    leftover: Option<Quota>,
    writer: Writer,
    batching: bool,
    /// Close once everything is written.
    closing: bool,
    /// The connection's thread stopped for want of room and has to be told when there is some.
    stalled: bool,
}

impl State {
    fn backlog(&self) -> usize {
        self.queue.bytes() + self.sending_bytes
    }

    /// Output is on its way out, or its end: what a session that has ended held for it is given back.
    fn settle_leftover(&mut self) {
        let backlog = self.backlog() as u64;
        if let Some(leftover) = &mut self.leftover {
            leftover.rest(backlog);
        }
        if backlog == 0 {
            self.leftover = None;
        }
    }

    /// True once when what stopped the connection's thread is over.
    fn take_resume(&mut self) -> bool {
        let backlog = self.backlog();
        let room = self.session.as_mut().is_some_and(|session| session.take_room(backlog));
        let resume = room || (self.stalled && backlog <= OUTPUT_BYTES_MAX / 2);
        if resume {
            self.stalled = false;
        }
        resume
    }
}

/// How the output of a connection stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outflow {
    /// Bytes that the transport has taken, ever.
    pub sent: u64,
    /// Bytes that wait.
    pub waiting: u64,
    /// Its host holds memory that others could use, by what it does not take or not send.
    pub holds_memory: bool,
}

/// What to do after an event.
#[derive(Debug, Default)]
pub struct Step {
    /// The next thing to do outside.
    pub work: Option<Work>,
    /// There may be more.
    pub more: bool,
    /// So much output waits that a batch writes it before its end.
    pub plenty: bool,
}

/// The state part of a connection.
pub struct SharedHalf {
    transport: Arc<dyn Transport>,
    memory: Arc<Pool>,
    /// Held while the connection's own thread runs a batch; taken before the lock of `state`.
    running: Mutex<()>,
    state: Mutex<State>,
}

impl SharedHalf {
    /// A connection without a session.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, memory: Arc<Pool>) -> Self {
        let state = State {
            session: None,
            awaited: Vec::new(),
            since: Time(0),
            heard: Time(0),
            queue: Output::default(),
            sending: Output::default(),
            sending_bytes: 0,
            sent: 0,
            leftover: None,
            writer: Writer::Idle,
            batching: false,
            closing: false,
            stalled: false,
        };
        Self { transport, memory, running: Mutex::new(()), state: Mutex::new(state) }
    }

    /// Appends a PDU of the login.
    pub fn put(&self, bhs: &Bhs, data: &[u8]) {
        self.state.lock().queue.pdu(bhs, data, Digests::default());
    }

    /// Full feature phase begins.
    pub fn enter(&self, session: FullFeature, now: Time) {
        let mut state = self.state.lock();
        state.session = Some(session);
        (state.since, state.heard) = (now, now);
    }

    /// The session ends: nothing is answered any more. Gives what other sessions' functions waited for.
    pub fn leave(&self) -> Vec<Waiter> {
        let mut state = self.state.lock();
        let waiters = state.session.take().map(|session| {
            state.awaited = session.commands().executing().collect();
            let (waiters, quota) = session.end();
            state.leftover = Some(quota);
            waiters
        });
        state.settle_leftover();
        drop(state);
        self.memory.wake();
        waiters.unwrap_or_default()
    }

    /// True if there is no session, and every command of the one there was has ended.
    pub fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.session.is_none() && state.awaited.is_empty()
    }

    /// Has [`Connection::on_writable`](crate::iscsi::connection::Connection::on_writable) called.
    pub fn wake(&self) {
        self.transport.want_writable();
    }

    /// The portal the connection came in by.
    pub fn portal(&self) -> Option<SocketAddr> {
        self.transport.portal()
    }

    /// The host's address, for people.
    pub fn host(&self) -> Option<SocketAddr> {
        self.transport.host()
    }

    /// The host's address as text, for people.
    pub fn host_name(&self) -> String {
        self.host().map_or_else(|| "a host".to_owned(), |host| host.ip().to_string())
    }

    /// How its output stands.
    pub fn outflow(&self) -> Outflow {
        let state = self.state.lock();
        let holds = |session: &FullFeature| session.commands().holds_memory();
        let left = state.leftover.as_ref().is_some_and(|left| left.taken() > 0);
        Outflow {
            sent: state.sent,
            waiting: state.backlog() as u64,
            holds_memory: left || state.session.as_ref().is_some_and(holds),
        }
    }

    /// When its session began.
    pub fn since(&self) -> Time {
        self.state.lock().since
    }

    /// When its host sent the last whole PDU of the session, or logged in.
    pub fn heard(&self) -> Time {
        self.state.lock().heard
    }

    /// The host's address and the portal's, for people.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.transport.host().zip(self.transport.portal())
    }

    /// What the connection uses of its bounds.
    pub fn usage(&self) -> Usage {
        let state = self.state.lock();
        let session = state.session.as_ref().map(FullFeature::usage).unwrap_or_default();
        Usage { output_bytes: state.backlog() as u64, ..session }
    }

    /// From here to [`SharedHalf::end_batch`] output is gathered, and [`SharedHalf::quiesce`] waits.
    pub fn begin_batch(&self) -> MutexGuard<'_, ()> {
        let running = self.running.lock();
        self.state.lock().batching = true;
        running
    }

    /// Waits until no batch runs, and keeps the next from beginning: what the session was about to have executed
    /// has been handed to the controller by then. Not to be called during the connection's own batch.
    pub fn quiesce(&self) -> MutexGuard<'_, ()> {
        self.running.lock()
    }

    /// Writes what was gathered.
    pub fn end_batch(&self) {
        let mut state = self.state.lock();
        state.batching = false;
        self.write(state);
    }

    /// Writes during a batch.
    pub fn write_now(&self) {
        self.write(self.state.lock());
    }

    /// The transport takes bytes again.
    pub fn on_writable(&self) {
        let mut state = self.state.lock();
        if state.writer == Writer::Blocked {
            state.writer = Writer::Idle;
        }
        self.write(state);
    }

    /// There may be room in the pool again. During a batch, so that nothing comes between and what was given is used.
    pub fn on_memory(&self) {
        let state = &mut *self.state.lock();
        if let Some(session) = &mut state.session {
            session.on_memory(&mut state.queue);
        }
    }

    /// True if so much output waits that no further input is to be taken; remembers to tell when that is over.
    pub fn is_stalled(&self) -> bool {
        let mut state = self.state.lock();
        state.stalled = state.backlog() > OUTPUT_BYTES_MAX;
        state.stalled
    }

    /// Closes the connection once everything is written.
    pub fn close_when_written(&self) {
        self.state.lock().closing = true;
    }

    /// Closes the connection now.
    pub fn end(&self) {
        let mut state = self.state.lock();
        if state.writer != Writer::Writing {
            state.sending.clear();
            state.sending_bytes = 0;
        }
        state.queue.clear();
        state.leftover = None;
        state.writer = Writer::Ended;
        drop(state);
        self.memory.wake();
        self.transport.shutdown();
    }

    /// True if the connection is over.
    pub fn has_ended(&self) -> bool {
        self.state.lock().writer == Writer::Ended
    }

    /// True if nothing is written any more, be it that the connection is over or that everything was said.
    pub fn has_finished(&self) -> bool {
        matches!(self.state.lock().writer, Writer::Finished | Writer::Ended)
    }

    /// A connection that waits for memory looks again: a wake-up may have come just before it was enlisted.
    pub fn look_again(&self) {
        let waits =
            self.state.lock().session.as_ref().is_some_and(|session| session.commands().wants_memory());
        if waits {
            self.transport.want_writable();
        }
    }

    /// Nothing has happened for a while: memory that is not needed is given back.
    pub fn rest(&self) {
        let mut state = self.state.lock();
        if let Some(session) = &mut state.session {
            session.rest();
        }
        state.queue.rest();
        state.sending.rest();
        drop(state);
        self.memory.wake();
    }

    /// Hands a PDU to the session.
    pub fn on_pdu(&self, pdu: &Received, now: Time) -> Step {
        let state = &mut *self.state.lock();
        state.heard = now;
        if let Some(session) = &mut state.session {
            session.on_pdu(pdu, now, &mut state.queue);
        }
        Self::step(state)
    }

    /// The next thing to do outside.
    pub fn next_work(&self) -> Step {
        Self::step(&mut self.state.lock())
    }

    fn step(state: &mut State) -> Step {
        let backlog = state.backlog();
        let (work, more) = state.session.as_mut().map_or((None, false), |session| session.next_work(backlog));
        Step { work, more, plenty: state.queue.bytes() > BATCH_OUTPUT_BYTES }
    }

    /// Hands an outcome to the session; the answer waits for [`Flush::flush`] or the end of the batch. `None` if the
    /// session is over.
    pub fn on_outcome(&self, tag: TaskTag, outcome: Outcome) -> Option<Vec<Waiter>> {
        let state = &mut *self.state.lock();
        let Some(session) = &mut state.session else {
            state.awaited.retain(|awaited| *awaited != tag.task());
            return None;
        };
        let waiters = session.on_outcome(tag, outcome, &mut state.queue);
        state.closing |= session.closes();
        Some(waiters)
    }

    /// Does something with the session, if there is one.
    pub fn with<R>(&self, act: impl FnOnce(&mut FullFeature, &mut Output) -> R) -> Option<R> {
        let state = &mut *self.state.lock();
        let session = state.session.as_mut()?;
        let acted = act(session, &mut state.queue);
        state.closing |= session.closes();
        Some(acted)
    }

    fn write<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        let mut blocked = false;
        while state.writer == Writer::Idle {
            if state.sending.is_empty() {
                let State { queue, sending, .. } = &mut *state;
                core::mem::swap(queue, sending);
            }
            if state.sending.is_empty() {
                break;
            }
            state.writer = Writer::Writing;
            let mut sending = core::mem::take(&mut state.sending);
            state.sending_bytes = sending.bytes();
            drop(state);
            let written = sending.write_to(&*self.transport);
            state = self.state.lock();
            state.sent += state.sending_bytes.saturating_sub(sending.bytes()) as u64;
            state.sending_bytes = sending.bytes();
            state.sending = sending;
            if state.writer == Writer::Ended {
                break;
            }
            match written {
                Ok(true) => state.writer = Writer::Idle,
                Ok(false) => {
                    state.writer = Writer::Blocked;
                    blocked = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection cannot be written to");
                    state.closing = true;
                    state.queue.clear();
                    state.sending.clear();
                    state.sending_bytes = 0;
                    state.writer = Writer::Idle;
                }
            }
        }
        let close = state.closing && state.writer == Writer::Idle && !state.batching;
        if close {
            state.writer = Writer::Finished;
        }
        state.settle_leftover();
        let resume = !close && !state.batching && state.take_resume();
        let request = state.session.as_mut().and_then(|session| session.commands_mut().memory_request());
        drop(state);
        if close {
            self.transport.finish();
        } else if resume || blocked {
            self.transport.want_writable();
        }
        if let Some(request) = request {
            self.memory.enqueue(request, &self.transport);
        }
        self.memory.wake();
    }
}

impl Flush for SharedHalf {
    /// Writes unless a batch is being gathered.
    fn flush(&self) {
        let state = self.state.lock();
        if !state.batching {
            self.write(state);
        }
    }
}

impl core::fmt::Debug for SharedHalf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SharedHalf").finish_non_exhaustive()
    }
}
