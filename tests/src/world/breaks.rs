//! What can happen to the simulated interlink: cuts, half-open connections, and a peer that is gone.

use core::time::Duration;

use controller::plan::Side;

use super::hub::{Event, Hub};

impl Hub {
    /// A controller's process is gone. After `kill -9` its kernel still sends what was handed to it and closes;
    /// after a power loss nobody hears anything, until the machine is back and refuses what it does not know.
    pub(super) fn process_gone(&mut self, side: Side, power: bool) {
        for connection in 0..self.interlink.connections() {
            let up = self.interlink.abandon(connection, side, power);
            if up && !power {
                self.keep_transmitting(connection, side);
            }
        }
    }

    /// A machine is back: connections of its earlier run are reset at their other ends.
    pub(super) fn machine_back(&mut self, side: Side) {
        for connection in 0..self.interlink.connections() {
            if !self.interlink.is_up(connection, side) && self.interlink.is_up(connection, side.peer()) {
                let delay = self.settings.latency.draw(&mut self.random);
                self.after(delay, Event::LinkDown(connection, side.peer()));
            }
        }
        for slot in 0..self.interlink.slots() {
            if self.interlink.dialer(slot) == side {
                let delay = self.settings.latency.draw(&mut self.random);
                self.after(delay, Event::Dial(slot));
            }
        }
    }

    /// Nothing from these controllers arrives any more.
    pub(super) fn cut_off(&mut self, sides: &[Side]) {
        for side in sides {
            self.cut[side.index()] = true;
        }
    }

    /// The interlink carries again. A connection that was not closed delivers late what was held up, or is reset;
    /// one that was closed at one end is reset at the other.
    pub(super) fn heal_interlink(&mut self) {
        self.cut = [false; 2];
        let resets = self.random.percent(50);
        for connection in 0..self.interlink.connections() {
            let ends = [Side::First, Side::Second].map(|side| self.interlink.is_up(connection, side));
            let late = Duration::from_millis(self.random.below(300));
            match ends {
                [true, true] if !resets => {
                    self.keep_transmitting(connection, Side::First);
                    self.keep_transmitting(connection, Side::Second);
                }
                [true, true] => {
                    self.after(late, Event::LinkDown(connection, Side::First));
                    self.after(late, Event::LinkDown(connection, Side::Second));
                }
                [true, false] => self.after(late, Event::LinkDown(connection, Side::First)),
                [false, true] => self.after(late, Event::LinkDown(connection, Side::Second)),
                [false, false] => {}
            }
        }
    }

    /// A controller sees its connections reset, bridges too or only the control connection; the other one does
    /// not know.
    pub(super) fn reset(&mut self, side: Side, bridges: bool) {
        for connection in 0..self.interlink.connections() {
            if self.interlink.is_up(connection, side) && (bridges || !self.interlink.is_bridge(connection)) {
                self.after(Duration::ZERO, Event::LinkDown(connection, side));
            }
        }
    }

    /// One end of one connection is reset; the other end does not know. What was on its way to it is lost with it.
    /// False if none is open.
    pub(super) fn half_open(&mut self, side: Side) -> bool {
        let open: Vec<usize> = (0..self.interlink.connections())
            .filter(|at| [Side::First, Side::Second].iter().all(|side| self.interlink.is_up(*at, *side)))
            .collect();
        if open.is_empty() {
            return false;
        }
        let connection = *self.random.pick(&open);
        self.after(Duration::ZERO, Event::LinkDown(connection, side));
        true
    }
}
