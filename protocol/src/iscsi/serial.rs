//! Sequence numbers that wrap: CmdSN and StatSN, compared by RFC 1982 with 32 bits (RFC 7143 4.2.2) and in no
//! other way.

/// Half of the number space: two numbers that far apart are in no order (RFC 1982 3.2).
const HALF: u32 = 1 << 31;

macro_rules! serial_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The number that follows.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.wrapping_add(1))
            }

            /// The number `count` later.
            #[must_use]
            pub const fn plus(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// The number `count` earlier.
            #[must_use]
            pub const fn minus(self, count: u32) -> Self {
                Self(self.0.wrapping_sub(count))
            }

            /// How many steps lead from `earlier` to this number, modulo 2**32.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }

            /// True if this number comes before the other (RFC 1982 3.2).
            #[must_use]
            pub const fn precedes(self, other: Self) -> bool {
                let steps = other.since(self);
                steps != 0 && steps < HALF
            }

            /// True if this number comes after the other.
            #[must_use]
            pub const fn follows(self, other: Self) -> bool {
                other.precedes(self)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

serial_number! {
    /// Command sequence number: CmdSN, ExpCmdSN, MaxCmdSN and RefCmdSN, session-wide (RFC 7143 4.2.2.1).
    CmdSn
}

serial_number! {
    /// Status sequence number: StatSN and ExpStatSN, of one connection (RFC 7143 4.2.2.2).
    StatSn
}

impl CmdSn {
    /// True if a non-immediate command with this number may be executed: it is one from ExpCmdSN to MaxCmdSN
    /// inclusive. A target "MUST silently ignore any non-immediate command outside of this range" (RFC 7143 4.2.2.1).
    /// The window is closed where MaxCmdSN is ExpCmdSN - 1.
    #[must_use]
    pub const fn is_in_window(self, exp_cmd_sn: Self, max_cmd_sn: Self) -> bool {
        let open = max_cmd_sn.next().since(exp_cmd_sn);
        self.since(exp_cmd_sn) < open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(CmdSn(u32::MAX).precedes(CmdSn(0)));
        assert!(CmdSn(0).follows(CmdSn(u32::MAX)));
        assert!(!CmdSn(0).precedes(CmdSn(u32::MAX)));
        assert_eq!(StatSn(u32::MAX).next(), StatSn(0));
        assert_eq!(StatSn(3).since(StatSn(u32::MAX)), 4);
        assert_eq!(StatSn(3).minus(4), StatSn(u32::MAX));
    }

    #[test]
    fn numbers_half_the_space_apart_are_in_no_order() {
        assert!(!CmdSn(0).precedes(CmdSn(HALF)) && !CmdSn(HALF).precedes(CmdSn(0)));
    }

    #[test]
    fn a_closed_window_takes_no_command() {
        assert!(!CmdSn(7).is_in_window(CmdSn(7), CmdSn(6)));
        assert!(CmdSn(7).is_in_window(CmdSn(7), CmdSn(7)));
        assert!(!CmdSn(8).is_in_window(CmdSn(7), CmdSn(7)));
        assert!(!CmdSn(6).is_in_window(CmdSn(7), CmdSn(10)));
        assert!(CmdSn(1).is_in_window(CmdSn(u32::MAX), CmdSn(2)));
    }

    proptest! {
        #[test]
        fn a_number_never_precedes_itself_and_order_is_one_sided(a: u32, b: u32) {
            prop_assert!(!CmdSn(a).precedes(CmdSn(a)));
            prop_assert!(!(CmdSn(a).precedes(CmdSn(b)) && CmdSn(b).precedes(CmdSn(a))));
        }

        #[test]
        fn the_window_holds_as_many_numbers_as_it_is_wide(exp: u32, wide in 0_u32..300, at in 0_u32..400) {
            let max = CmdSn(exp).plus(wide).minus(1);
            prop_assert_eq!(CmdSn(exp).plus(at).is_in_window(CmdSn(exp), max), at < wide);
        }
    }
}
