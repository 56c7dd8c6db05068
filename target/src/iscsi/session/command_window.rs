//! The command window of a session (RFC 7143 4.2.2.1): which commands may come, and in which order they run.

use protocol::iscsi::CmdSn;

/// Commands of one session between their arrival and their answer: what MaxCmdSN leaves open.
pub const COMMAND_WINDOW: u32 = 128;

/// The same while memory is short: enough that no host stands still.
pub const COMMAND_WINDOW_TIGHT: u32 = 4;

/// Immediate commands beyond the window; further ones are rejected (RFC 7143 11.17.1, reason 06h).
pub const IMMEDIATE_COMMANDS_MAX: u32 = 32;

/// What to do with a command by its CmdSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Its turn.
    InOrder,
    /// In the window, but commands before it have not come yet.
    Early,
    /// A duplicate or out of the window: the target "MUST silently ignore" it.
    Ignored,
}

/// ExpCmdSN and MaxCmdSN. Always: MaxCmdSN never falls, and never lies more than [`COMMAND_WINDOW`] ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandWindow {
    expected: CmdSn,
    maximum: CmdSn,
}

impl CommandWindow {
    /// The window after a login whose requests carried `first` (which, being immediate, did not use it up).
    #[must_use]
    pub const fn new(first: CmdSn) -> Self {
        Self { expected: first, maximum: first.plus(COMMAND_WINDOW).minus(1) }
    }

    /// ExpCmdSN.
    #[must_use]
    pub const fn expected(&self) -> CmdSn {
        self.expected
    }

    /// MaxCmdSN, last announced.
    #[must_use]
    pub const fn maximum(&self) -> CmdSn {
        self.maximum
    }

    /// Judges a command that was received with this number.
    #[must_use]
    pub const fn arrival(&self, number: CmdSn, immediate: bool) -> Arrival {
        if immediate {
            // It does not take a place, but its number tells where the initiator stands.
            Arrival::InOrder
        } else if !number.is_in_window(self.expected, self.maximum) {
            Arrival::Ignored
        } else if number.0 == self.expected.0 {
            Arrival::InOrder
        } else {
            Arrival::Early
        }
    }

    /// The expected command has come.
    pub const fn advance(&mut self) {
        debug_assert!(!self.expected.follows(self.maximum), "nothing comes beyond the window");
        self.expected = self.expected.next();
    }

    /// Opens the window as far as `tasks` unanswered tasks leave room, less while memory is `tight`.
    pub const fn open(&mut self, tasks: u32, tight: bool) {
        let most = if tight { COMMAND_WINDOW_TIGHT } else { COMMAND_WINDOW };
        let wanted = self.expected.plus(most.saturating_sub(tasks)).minus(1);
        if wanted.follows(self.maximum) {
            self.maximum = wanted;
        }
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self) {
        debug_assert!(
            self.maximum.next().since(self.expected) <= COMMAND_WINDOW,
            "the window is never wider than its bound"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_run_in_order_and_duplicates_are_ignored() {
        let mut window = CommandWindow::new(CmdSn(u32::MAX));
        let cases = [
            (u32::MAX, false, Arrival::InOrder),
            (0, false, Arrival::Early),
            (u32::MAX - 1, false, Arrival::Ignored),
            (u32::MAX - 1, true, Arrival::InOrder),
            (COMMAND_WINDOW - 2, false, Arrival::Early),
            (COMMAND_WINDOW - 1, false, Arrival::Ignored),
        ];
        for (number, immediate, expected) in cases {
            assert_eq!(window.arrival(CmdSn(number), immediate), expected, "{number} {immediate}");
        }
        window.advance();
        assert_eq!(window.arrival(CmdSn(u32::MAX), false), Arrival::Ignored);
        assert_eq!(window.arrival(CmdSn(0), false), Arrival::InOrder);
    }

    #[test]
    fn a_full_task_set_closes_the_window() {
        let mut window = CommandWindow::new(CmdSn(1));
        for tasks in 1..=COMMAND_WINDOW {
            window.advance();
            window.open(tasks, false);
        }
        assert_eq!(window.maximum().next(), window.expected());
        assert_eq!(window.arrival(window.expected(), false), Arrival::Ignored);
        window.open(COMMAND_WINDOW - 1, true);
        assert_eq!(window.arrival(window.expected(), false), Arrival::Ignored);
        window.open(COMMAND_WINDOW - 1, false);
        assert_eq!(window.arrival(window.expected(), false), Arrival::InOrder);
    }

    #[test]
    fn a_narrow_window_is_never_shut_for_a_host_without_tasks() {
        let mut window = CommandWindow::new(CmdSn(1));
        for _ in 0..COMMAND_WINDOW {
            window.advance();
        }
        window.open(0, true);
        assert_eq!(window.maximum().next().since(window.expected()), COMMAND_WINDOW_TIGHT);
    }

    proptest! {
        #[test]
        fn the_maximum_never_falls(
            first: u32,
            steps in proptest::collection::vec((any::<bool>(), 0_u32..300, any::<bool>()), 0..200),
        ) {
            let mut window = CommandWindow::new(CmdSn(first));
            for (advance, tasks, tight) in steps {
                let before = window.maximum();
                if advance && window.arrival(window.expected(), false) == Arrival::InOrder { window.advance(); }
                window.open(tasks, tight);
                prop_assert!(!window.maximum().precedes(before));
                prop_assert!(window.maximum().next().since(window.expected()) <= COMMAND_WINDOW);
            }
        }
    }
}
