//! The simulated interlink: connections between the two controllers, each with two pipes. Bytes of a pipe stay in
//! their order, cut anew wherever chance wants; pipes know nothing of each other.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use controller::link::{Frame, LinkId, LinkKind, Via};
use controller::plan::Side;
use controller::time::Time;
use core::time::Duration;
use protocol::interlink::frame::PREFIX_BYTES;
use protocol::interlink::frame_lengths;

use super::hub::{Event, Hub};
use super::settings::Delay;

/// Until a lost connection is dialed again.
const REDIAL: Delay = Delay::micros(100_000, 300_000);

/// A connection that is meant to exist.
#[derive(Clone, Copy, Debug)]
struct Slot {
    dialer: Side,
    kind: LinkKind,
}

/// All connections there ever were.
#[derive(Debug)]
pub(super) struct Interlink {
    slots: Vec<Slot>,
    connections: Vec<Connection>,
    links: [u32; 2],
    /// Frames on their way from each side, by the order they were sent in.
    travelling: [BTreeSet<u64>; 2],
    sent: u64,
}

#[derive(Debug)]
struct Connection {
    slot: usize,
    ends: [End; 2],
}

/// One end of a connection: the pipe that leaves here, and what has arrived.
#[derive(Debug)]
struct End {
    link: LinkId,
    /// The run of the controller that has this end.
    life: u32,
    up: bool,
    closing: bool,
    unsent: BytesMut,
    transmitting: bool,
    last_arrival: Time,
    /// Frames that left here and have not arrived, with their number and time.
    frames: VecDeque<(u64, Time)>,
    received: BytesMut,
    /// When the last frame arrived here.
    heard: Option<Time>,
}

/// A frame that arrived.
pub(super) struct Arrived {
    pub(super) link: LinkId,
    pub(super) head: Bytes,
    pub(super) payload: Bytes,
}

impl Interlink {
    pub(super) fn new(bridges: u16) -> Self {
        let mut slots = vec![Slot { dialer: Side::First, kind: LinkKind::Control }];
        for dialer in [Side::First, Side::Second] {
            slots.extend((0..bridges).map(|number| Slot { dialer, kind: LinkKind::Bridge(number) }));
        }
        Self { slots, connections: Vec::new(), links: [0; 2], travelling: Default::default(), sent: 0 }
    }

    /// Connections there ever were.
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether an end is open.
    pub(super) fn is_up(&self, connection: usize, side: Side) -> bool {
        self.connections[connection].ends[side.index()].up
    }

    /// The process that has an end is gone: the end closes after what was sent, or vanishes. True if it was open.
    pub(super) fn abandon(&mut self, connection: usize, side: Side, vanishes: bool) -> bool {
        let end = &mut self.connections[connection].ends[side.index()];
        let up = end.up;
        if vanishes {
            end.up = false;
            end.unsent.clear();
        } else {
            end.closing = true;
        }
        up
    }

    /// Whether a connection carries data.
    pub(super) fn is_bridge(&self, connection: usize) -> bool {
        self.slots[self.connections[connection].slot].kind != LinkKind::Control
    }

    /// Whether a connection carries data and was dialed by a side.
    pub(super) fn is_bridge_of(&self, connection: usize, side: Side) -> bool {
        self.is_bridge(connection) && self.dialer(self.connections[connection].slot) == side
    }

    /// Whether frames that a side sent by its bridges have not arrived.
    pub(super) fn has_frames_under_way(&self, side: Side) -> bool {
        (0..self.connections.len()).any(|at| {
            self.is_bridge_of(at, side) && !self.connections[at].ends[side.index()].frames.is_empty()
        })
    }

    /// Who dials a connection.
    pub(super) fn dialer(&self, slot: usize) -> Side {
        self.slots[slot].dialer
    }

    /// How many connections are to be dialed at the start.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    fn find(&self, side: Side, link: LinkId) -> Option<usize> {
        // The newest are the most likely.
        self.connections.iter().rposition(|connection| {
            let end = &connection.ends[side.index()];
            end.link == link && end.up
        })
    }

    /// The open bridges that this side dialed.
    fn bridges(&self, side: Side) -> Vec<usize> {
        let own = |connection: &Connection| {
            let slot = self.slots[connection.slot];
            slot.dialer == side && slot.kind != LinkKind::Control && connection.ends[side.index()].up
        };
        (0..self.connections.len()).filter(|at| own(&self.connections[*at])).collect()
    }
}

impl Hub {
    /// A connection is dialed: both ends learn of it, each in its time.
    pub(super) fn dial(&mut self, slot: usize) {
        let [first, second] = self.processes;
        let dialer = self.interlink.slots[slot].dialer;
        if first.down || second.down || self.cut != [false; 2] {
            let delay = REDIAL.draw(&mut self.random);
            if !self.processes[dialer.index()].down {
                self.after(delay, Event::Dial(slot));
            }
            return;
        }
        let mut end = |side: Side| {
            let links = &mut self.interlink.links[side.index()];
            *links += 1;
            End {
                link: LinkId(*links),
                life: self.processes[side.index()].life,
                up: false,
                closing: false,
                unsent: BytesMut::new(),
                transmitting: false,
                last_arrival: Time(0),
                frames: VecDeque::new(),
                received: BytesMut::new(),
                heard: None,
            }
        };
        let ends = [end(Side::First), end(Side::Second)];
        let at = self.interlink.connections.len();
        self.interlink.connections.push(Connection { slot, ends });
        for side in [Side::First, Side::Second] {
            let up = self.now() + self.settings.latency.draw(&mut self.random);
            // Nothing arrives at an end before it is open.
            self.interlink.connections[at].ends[side.peer().index()].last_arrival = up;
            self.at(up, Event::LinkUp(at, side));
        }
    }

    /// An end is open: its link, and its kind if this side dialed.
    pub(super) fn link_up(&mut self, connection: usize, side: Side) -> (LinkId, Option<LinkKind>) {
        let slot = self.interlink.slots[self.interlink.connections[connection].slot];
        let end = &mut self.interlink.connections[connection].ends[side.index()];
        end.up = true;
        (end.link, (slot.dialer == side).then_some(slot.kind))
    }

    /// An end is gone: its link, if it was open. The side that dialed dials again.
    pub(super) fn link_down(&mut self, connection: usize, side: Side) -> Option<LinkId> {
        let slot = self.interlink.connections[connection].slot;
        let end = &mut self.interlink.connections[connection].ends[side.index()];
        if !end.up {
            return None;
        }
        end.up = false;
        end.closing = false;
        let link = end.link;
        let of_now = end.life == self.processes[side.index()].life && !self.processes[side.index()].down;
        let lost: Vec<u64> = end.frames.drain(..).map(|(number, _)| number).collect();
        lost.iter().for_each(|number| {
            self.interlink.travelling[side.index()].remove(number);
        });
        if of_now && self.interlink.slots[slot].dialer == side {
            let delay = REDIAL.draw(&mut self.random);
            self.after(delay, Event::Dial(slot));
        }
        of_now.then_some(link)
    }

    /// A frame enters its pipe.
    pub(super) fn put(&mut self, side: Side, via: Via, frame: Frame) {
        let connection = match via {
            Via::Link(link) => self.interlink.find(side, link),
            Via::AnyBridge => {
                let bridges = self.interlink.bridges(side);
                (!bridges.is_empty()).then(|| *self.random.pick(&bridges))
            }
        };
        let Some(connection) = connection else { return };
        let now = self.now();
        self.interlink.sent += 1;
        let number = self.interlink.sent;
        let end = &mut self.interlink.connections[connection].ends[side.index()];
        if end.closing {
            return;
        }
        end.unsent.extend_from_slice(&frame.head);
        frame.payload.iter().for_each(|piece| end.unsent.extend_from_slice(piece));
        end.frames.push_back((number, now));
        self.interlink.travelling[side.index()].insert(number);
        self.keep_transmitting(connection, side);
    }

    pub(super) fn keep_transmitting(&mut self, connection: usize, side: Side) {
        let end = &mut self.interlink.connections[connection].ends[side.index()];
        if !end.transmitting && (!end.unsent.is_empty() || end.closing) {
            end.transmitting = true;
            let delay = self.settings.action.draw(&mut self.random);
            self.after(delay, Event::Transmit(connection, side));
        }
    }

    /// Some of what waits leaves: all of it, or a piece of any size.
    pub(super) fn transmit(&mut self, connection: usize, side: Side) {
        let now = self.now();
        let control = {
            let slot = self.interlink.connections[connection].slot;
            self.interlink.slots[slot].kind == LinkKind::Control
        };
        let latency = self.settings.latency.draw(&mut self.random);
        let whole = self.random.percent(60);
        let life = self.processes[side.index()].life;
        let end = &mut self.interlink.connections[connection].ends[side.index()];
        let end_is_dead = end.life != life;
        end.transmitting = false;
        if !end.up {
            return;
        }
        if self.cut[side.index()] {
            // What was sent waits to be sent again; who closes here is not heard there.
            if end.closing {
                self.at(now, Event::LinkDown(connection, side));
            }
            return;
        }
        let waiting = end.unsent.len() as u64;
        if waiting == 0 {
            if end.closing {
                let arrival = end.last_arrival.max(now + latency);
                self.at(arrival, Event::LinkDown(connection, side.peer()));
                if end_is_dead {
                    self.interlink.connections[connection].ends[side.index()].up = false;
                } else {
                    self.at(now, Event::LinkDown(connection, side));
                }
            }
            return;
        }
        let length = if whole { waiting } else { self.random.skewed(1, waiting) };
        let bytes = end.unsent.split_to(length as usize).freeze();
        let nanos = length * 1_000_000_000 / self.settings.bridge_bytes_per_second;
        let busy = if control { Duration::ZERO } else { Duration::from_nanos(nanos) };
        end.last_arrival = (end.last_arrival + busy).max(now + latency);
        let arrival = end.last_arrival;
        self.at(arrival, Event::Arrive(connection, side.peer(), bytes));
        self.keep_transmitting(connection, side);
    }

    /// Closes a link after what was sent on it.
    pub(super) fn close_link(&mut self, side: Side, link: LinkId) {
        if let Some(connection) = self.interlink.find(side, link) {
            self.interlink.connections[connection].ends[side.index()].closing = true;
            self.keep_transmitting(connection, side);
        }
    }

    /// Bytes arrive: the whole frames among what has arrived so far.
    pub(super) fn arrive(&mut self, connection: usize, side: Side, bytes: &Bytes) -> Vec<Arrived> {
        let now = self.now();
        let slot = self.interlink.connections[connection].slot;
        let control = self.interlink.slots[slot].kind == LinkKind::Control;
        let [first, second] = &mut self.interlink.connections[connection].ends;
        let (end, sender) = if side == Side::First { (first, second) } else { (second, first) };
        if !end.up || end.life != self.processes[side.index()].life {
            return Vec::new();
        }
        end.received.extend_from_slice(bytes);
        let mut arrived = Vec::new();
        while let Some(prefix) = end.received.first_chunk::<PREFIX_BYTES>() {
            let lengths = frame_lengths(prefix).expect("what a controller sends is a frame");
            if end.received.len() < lengths.head + lengths.payload {
                break;
            }
            let head = end.received.split_to(lengths.head).freeze();
            let payload = end.received.split_to(lengths.payload).freeze();
            arrived.push(Arrived { link: end.link, head, payload });
            let travelling = &mut self.interlink.travelling[side.peer().index()];
            let Some((number, sent)) = sender.frames.pop_front() else { continue };
            travelling.remove(&number);
            self.report.frames += 1;
            self.report.frames_reordered +=
                u64::from(travelling.first().is_some_and(|first| *first < number));
            let way = now.since(sent).as_millis() as u64;
            let gap = end.heard.replace(now).map_or(0, |heard| now.since(heard).as_millis() as u64);
            if control {
                self.report.control_gap_ms = self.report.control_gap_ms.max(gap);
            } else {
                self.report.bridge_delay_ms = self.report.bridge_delay_ms.max(way);
            }
        }
        arrived
    }
}
