//! The sending side of one interlink connection, and the table of all of one controller.
//!
//! The thread that appends a frame also writes, unless it has a batch open or another is writing already; no
//! lock is held across the system call. What does not fit waits until the link's own task says there is room.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use controller::link::{Frame, LinkId};
use parking_lot::{Mutex, RwLock};
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::tls::records::{Tls, move_front, take_front};
use crate::batch::{self, Due, Flush};
use crate::runtime::workers::{ThreadKind, thread_kind};

/// Bytes that wait to be sent on one link at most: above the credits of all classes, so that a link with more
/// has a peer that does not keep to them, and is closed.
pub(crate) const LINK_QUEUE_BYTES_MAX: usize = 256 << 20;

/// Pieces of one vectored write at most.
const WRITE_PIECES_MAX: usize = 64;

/// One open connection of the interlink.
pub(crate) struct Link {
    /// Its name.
    pub(crate) id: LinkId,
    socket: OwnedWriteHalf,
    /// None: the interlink is plain.
    tls: Option<Arc<Tls>>,
    queue: Mutex<Queue>,
    /// Told when the socket is full.
    full: Notify,
}

#[derive(Default)]
struct Queue {
    /// What a write has left over; goes first. With TLS it is sealed.
    unsent: VecDeque<Bytes>,
    /// What was appended since.
    appended: VecDeque<Bytes>,
    bytes: usize,
    state: State,
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nobody writes.
    #[default]
    Idle,
    /// Somebody writes, and will see what is appended meanwhile.
    Writing,
    /// The socket is full.
    Full,
    /// Nothing is sent any more.
    Dead,
}

impl Queue {
    /// What always holds, looked at in debug builds only.
    fn check(&self) {
        let waits = || self.unsent.iter().chain(&self.appended).map(Bytes::len).sum::<usize>();
        // What is being written is in nobody's list.
        debug_assert!(self.state == State::Writing || self.bytes == waits(), "what waits is counted");
        debug_assert!(self.state != State::Full || !self.unsent.is_empty(), "something waits for room");
        debug_assert!(self.state != State::Dead || self.bytes == 0, "nothing waits where nothing is sent");
    }
}

impl Link {
    pub(crate) fn new(id: LinkId, socket: OwnedWriteHalf, tls: Option<Arc<Tls>>) -> Self {
        Self { id, socket, tls, queue: Mutex::default(), full: Notify::new() }
    }

    /// Appends a frame. True if it must now be flushed.
    fn append(&self, frame: Frame) -> bool {
        let mut queue = self.queue.lock();
        if queue.state == State::Dead || queue.closing {
            return false;
        }
        let pieces = std::iter::once(frame.head).chain(frame.payload);
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            queue.bytes += piece.len();
            queue.appended.push_back(piece);
        }
        if queue.bytes > LINK_QUEUE_BYTES_MAX {
            tracing::error!("the peer does not take what it is sent; the connection is closed");
            self.die(&mut queue);
            return false;
        }
        queue.check();
        queue.state == State::Idle
    }

    /// Closes the link once everything appended was sent.
    fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closing = true;
        if queue.state == State::Idle && queue.bytes == 0 {
            self.die(&mut queue);
        }
    }

    /// Closes the link at once.
    pub(crate) fn end(&self) {
        self.die(&mut self.queue.lock());
    }

    fn die(&self, queue: &mut Queue) {
        *queue = Queue { state: State::Dead, ..Queue::default() };
        // The reader notices, and tells the controller.
        if let Err(error) = SockRef::from(self.socket.as_ref()).shutdown(Shutdown::Both) {
            tracing::trace!(%error, "a link was closed already");
        }
        self.full.notify_one();
    }

    /// Waits until the socket is full, then until there is room, and goes on sending; for the link's own task.
    /// Returns when nothing can be sent any more.
    pub(crate) async fn keep_sending(self: Arc<Self>) {
        loop {
            match self.state() {
                State::Dead => return,
                State::Full => {
                    if self.socket.writable().await.is_err() {
                        return self.end();
                    }
                    let mut queue = self.queue.lock();
                    if queue.state == State::Full {
                        queue.state = State::Idle;
                    }
                    drop(queue);
                    self.flush();
                }
                State::Idle | State::Writing => self.full.notified().await,
            }
        }
    }

    fn state(&self) -> State {
        self.queue.lock().state
    }

    /// Writes until nothing is left or the socket is full.
    fn write(&self, pieces: &mut VecDeque<Bytes>) -> io::Result<usize> {
        let mut sent = 0;
        while !pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces.iter()) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let written = match self.socket.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            sent += written;
            take_front(pieces, written);
        }
        Ok(sent)
    }
}

/// Puts what seals the pieces into their place. How many bytes that is more.
fn sealed(tls: &Tls, pieces: &mut VecDeque<Bytes>) -> io::Result<usize> {
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    let sealed = tls.seal(pieces)?;
    let grown = sealed.len().saturating_sub(bytes);
    pieces.push_back(sealed);
    Ok(grown)
}

impl Flush for Link {
    fn flush(&self) {
        let mut queue = self.queue.lock();
        if queue.state != State::Idle {
            return;
        }
        loop {
            let mut seal = None;
            if queue.unsent.is_empty() {
                let Queue { unsent, appended, .. } = &mut *queue;
                match &self.tls {
                    None => std::mem::swap(unsent, appended),
                    Some(tls) => {
                        move_front(appended, unsent);
                        seal = Some(tls);
                    }
                }
            }
            if queue.unsent.is_empty() {
                queue.state = State::Idle;
                queue.check();
                if queue.closing {
                    self.die(&mut queue);
                }
                return;
            }
            let mut pieces = std::mem::take(&mut queue.unsent);
            queue.state = State::Writing;
            let written = parking_lot::MutexGuard::unlocked(&mut queue, || {
                let grown = seal.map_or(Ok(0), |tls| sealed(tls, &mut pieces))?;
                Ok::<_, io::Error>((grown, self.write(&mut pieces)?))
            });
            if queue.state == State::Dead {
                return;
            }
            let Ok((grown, sent)) = written else { return self.die(&mut queue) };
            queue.bytes = (queue.bytes + grown).saturating_sub(sent);
            // Also keeps the deque's memory when it was emptied.
            queue.unsent = pieces;
            if !queue.unsent.is_empty() {
                queue.state = State::Full;
                queue.check();
                return self.full.notify_one();
            }
        }
    }
}

/// All open links of one controller.
pub(crate) struct LinkTable {
    links: RwLock<BTreeMap<LinkId, Arc<Link>>>,
    /// The bridges this controller has dialed, by worker.
    bridges: Vec<RwLock<Option<Arc<Link>>>>,
    last_id: AtomicU32,
}

impl LinkTable {
    pub(crate) fn new(bridges: usize) -> Self {
        Self {
            links: RwLock::default(),
            bridges: (0..bridges).map(|_| RwLock::default()).collect(),
            last_id: AtomicU32::new(0),
        }
    }

    /// Adds a link, under an id that was never used.
    pub(crate) fn add(&self, socket: OwnedWriteHalf, tls: Option<Arc<Tls>>) -> Arc<Link> {
        let id = LinkId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let link = Arc::new(Link::new(id, socket, tls));
        self.links.write().insert(id, Arc::clone(&link));
        link
    }

    /// How many links are open.
    pub(crate) fn count(&self) -> usize {
        self.links.read().len()
    }

    /// Bytes that wait on the link on which most do.
    pub(crate) fn bytes(&self) -> usize {
        self.links.read().values().map(|link| link.queue.lock().bytes).max().unwrap_or(0)
    }

    /// From now on frames for any bridge may use this one. Only after the controller has greeted on it.
    pub(crate) fn bridge_up(&self, worker: usize, link: &Arc<Link>) {
        if let Some(bridge) = self.bridges.get(worker) {
            *bridge.write() = Some(Arc::clone(link));
        }
    }

    /// Forgets a link.
    pub(crate) fn remove(&self, link: &Arc<Link>) {
        for bridge in &self.bridges {
            let mut bridge = bridge.write();
            if bridge.as_ref().is_some_and(|up| Arc::ptr_eq(up, link)) {
                *bridge = None;
            }
        }
        self.links.write().remove(&link.id);
        link.end();
    }

    /// Sends a frame on a link; it vanishes if the link is gone.
    pub(crate) fn send(&self, id: LinkId, frame: Frame) {
        let link = self.links.read().get(&id).cloned();
        if let Some(link) = link {
            send(link, frame);
        }
    }

    /// Sends a frame on the bridge of the calling worker, or on any other.
    pub(crate) fn send_on_any_bridge(&self, frame: Frame) {
        let own = match thread_kind() {
            ThreadKind::Worker(index) => index,
            ThreadKind::Control | ThreadKind::Other => 0,
        };
        let bridge = |index: &RwLock<Option<Arc<Link>>>| index.read().clone();
        let found = self.bridges.get(own).and_then(bridge).or_else(|| self.bridges.iter().find_map(bridge));
        match found {
            Some(link) => send(link, frame),
            None => tracing::debug!("a frame found no bridge"),
        }
    }

    /// Closes a link after what was sent on it.
    pub(crate) fn close(&self, id: LinkId) {
        let link = self.links.read().get(&id).cloned();
        if let Some(link) = link {
            link.flush();
            link.close();
        }
    }
}

fn send(link: Arc<Link>, frame: Frame) {
    let due = if frame.payload.is_empty() { Due::AtEnd } else { Due::BeforeDisk };
    if !link.append(frame) {
        return;
    }
    let output: Arc<dyn Flush> = link;
    if !batch::flush_at_end(&output, due) {
        output.flush();
    }
}

#[cfg(test)]
mod tests;
