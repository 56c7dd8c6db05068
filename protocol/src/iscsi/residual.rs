//! Residuals: how much of the expected transfer did not happen (RFC 7143 11.4.5).

/// The O and U bits with the Residual Count. The two bits are mutually exclusive, hence one enum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    /// Exactly the expected length was transferred; the Residual Count is ignored and sent as 0.
    #[default]
    None,
    /// O: bytes that were not transferred because the expected length was not sufficient.
    Overflow(u32),
    /// U: bytes that were not transferred out of those expected.
    Underflow(u32),
}

impl Residual {
    /// What a target signals that had `presented` bytes to transfer where the initiator expected `expected`
    /// (11.4.5.2: SPDTL and EDTL). An overflow that does not fit the field is its largest value.
    #[must_use]
    pub const fn of(presented: u64, expected: u32) -> Self {
        let expected_bytes = expected as u64;
        if presented > expected_bytes {
            let over = presented - expected_bytes;
            Self::Overflow(if over > u32::MAX as u64 { u32::MAX } else { over as u32 })
        } else if presented < expected_bytes {
            Self::Underflow((expected_bytes - presented) as u32)
        } else {
            Self::None
        }
    }

    /// The Residual Count field, in bytes.
    #[must_use]
    pub const fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Overflow(count) | Self::Underflow(count) => count,
        }
    }

    /// The two flag bits, given where the overflow and the underflow bit stand.
    pub(super) const fn bits(self, overflow: u8, underflow: u8) -> u8 {
        match self {
            Self::None => 0,
            Self::Overflow(_) => overflow,
            Self::Underflow(_) => underflow,
        }
    }

    /// The residual of a header; `None` if both bits are set, which is a protocol error (11.4.1).
    pub(super) const fn from_bits(over: bool, under: bool, count: u32) -> Option<Self> {
        match (over, under) {
            (false, false) => Some(Self::None),
            (true, false) => Some(Self::Overflow(count)),
            (false, true) => Some(Self::Underflow(count)),
            (true, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_are_the_difference_between_presented_and_expected() {
        assert_eq!(Residual::of(512, 512), Residual::None);
        assert_eq!(Residual::of(512, 4096), Residual::Underflow(3584));
        assert_eq!(Residual::of(4096, 512), Residual::Overflow(3584));
        assert_eq!(Residual::of(0, u32::MAX), Residual::Underflow(u32::MAX));
        assert_eq!(Residual::of(u64::MAX, 0), Residual::Overflow(u32::MAX));
    }
}
