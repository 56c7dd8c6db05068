//! The 8-byte LUN field (SAM-5 4.7): which logical unit a command is for.

/// The REPORT LUNS well known logical unit (SPC-4 8.2): extended addressing, well known, 01h.
pub const REPORT_LUNS_WELL_KNOWN: [u8; 8] = [0xc1, 0x01, 0, 0, 0, 0, 0, 0];

/// The largest number flat space addressing can name (14 bits).
pub const LUN_NUMBER_MAX: u16 = 0x3fff;

/// What a LUN field names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// A logical unit by its number.
    Unit(u16),
    /// The REPORT LUNS well known logical unit.
    ReportLuns,
    /// Something this target never has: a second level, another bus, an addressing method we do not use.
    Other,
}

impl Address {
    /// Understands single-level peripheral device addressing (bus 0) and flat space addressing.
    #[must_use]
    pub const fn decode(field: &[u8; 8]) -> Self {
        if let [0xc1, 0x01, 0, 0, 0, 0, 0, 0] = *field {
            return Self::ReportLuns;
        }
        let [high, low, 0, 0, 0, 0, 0, 0] = *field else {
            return Self::Other;
        };
        match high >> 6 {
            0 if high == 0 => Self::Unit(low as u16),
            1 => Self::Unit(u16::from_be_bytes([high & 0x3f, low])),
            _ => Self::Other,
        }
    }
}

/// The LUN field of a number: peripheral device addressing below 256, flat space addressing above (the form
/// Linux and libiscsi use themselves). Numbers above [`LUN_NUMBER_MAX`] have none.
#[must_use]
pub const fn encode(number: u16) -> Option<[u8; 8]> {
    let [high, low] = number.to_be_bytes();
    match number {
        0..=255 => Some([0, low, 0, 0, 0, 0, 0, 0]),
        256..=LUN_NUMBER_MAX => Some([0x40 | high, low, 0, 0, 0, 0, 0, 0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_encoding_and_decoding() {
        for number in 0..=LUN_NUMBER_MAX {
            assert_eq!(Address::decode(&encode(number).unwrap()), Address::Unit(number));
        }
        assert_eq!(encode(LUN_NUMBER_MAX + 1), None);
    }

    #[test]
    fn addressing_methods_are_told_apart() {
        for (field, wanted) in [
            ([0, 5, 0, 0, 0, 0, 0, 0], Address::Unit(5)),
            ([0x40, 5, 0, 0, 0, 0, 0, 0], Address::Unit(5)),
            ([0x41, 5, 0, 0, 0, 0, 0, 0], Address::Unit(261)),
            ([0x01, 5, 0, 0, 0, 0, 0, 0], Address::Other),
            ([0x80, 5, 0, 0, 0, 0, 0, 0], Address::Other),
            ([0, 5, 0, 1, 0, 0, 0, 0], Address::Other),
            (REPORT_LUNS_WELL_KNOWN, Address::ReportLuns),
            ([0xc1, 0x02, 0, 0, 0, 0, 0, 0], Address::Other),
            ([0xff; 8], Address::Other),
        ] {
            assert_eq!(Address::decode(&field), wanted, "{field:02x?}");
        }
    }
}
