//! REPORT TARGET PORT GROUPS (SPC-4 6.36): through which controller a LUN is best reached.

use super::cdb::{Cdb, be32};

/// ASYMMETRIC ACCESS STATE (SPC-4 table 301), those this target has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum AccessState {
    /// Active/optimized.
    Optimized = 0x0,
    /// Active/non-optimized.
    NonOptimized = 0x1,
    /// Unavailable.
    Unavailable = 0x3,
}

/// U_SUP, AN_SUP, AO_SUP: the states a group may take.
const SUPPORTED_STATES: u8 = 0x08 | 0x02 | 0x01;

/// IMPLICIT TRANSITION TIME in seconds: transitions do not last.
const IMPLICIT_TRANSITION_SECONDS: u8 = 0;

/// One target port group with its one port. Group and relative target port have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// TARGET PORT GROUP and RELATIVE TARGET PORT IDENTIFIER.
    pub id: u16,
    /// Its state for the LUN asked.
    pub state: AccessState,
}

/// PARAMETER DATA FORMAT, bits 7 to 5 of byte 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// 000b: only a length before the groups.
    LengthOnly,
    /// 001b: an extended header.
    Extended,
}

/// The CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportTargetPortGroups {
    /// `None` for a format this target does not know.
    pub format: Option<Format>,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

impl ReportTargetPortGroups {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        let format = match cdb[1] >> 5 {
            0 => Some(Format::LengthOnly),
            1 => Some(Format::Extended),
            _ => None,
        };
        Self { format, allocation: be32(cdb, 6) as usize }
    }
}

/// The parameter data. RETURN DATA LENGTH counts what follows it, whatever the allocation length cuts.
#[must_use]
pub fn parameter_data(format: Format, groups: &[Group]) -> Vec<u8> {
    let mut data = vec![0; 4];
    if format == Format::Extended {
        data.extend_from_slice(&[0x10, IMPLICIT_TRANSITION_SECONDS, 0, 0]);
    }
    for group in groups {
        let [high, low] = group.id.to_be_bytes();
        data.extend_from_slice(&[group.state as u8, SUPPORTED_STATES, high, low, 0, 0, 0, 1]);
        data.extend_from_slice(&[0, 0, high, low]);
    }
    debug_assert!(data.len().is_multiple_of(4), "descriptors end at a multiple of 4 bytes");
    let length = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [Group; 2] =
        [Group { id: 1, state: AccessState::Unavailable }, Group { id: 2, state: AccessState::NonOptimized }];

    #[test]
    fn each_group_is_followed_by_its_port() {
        assert_eq!(
            parameter_data(Format::LengthOnly, &GROUPS),
            [
                0, 0, 0, 24, // RETURN DATA LENGTH
                0x03, 0x0b, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, // group 1, port 1
                0x01, 0x0b, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, // group 2, port 2
            ]
        );
    }

    #[test]
    fn the_extended_header_counts_in_the_length() {
        let data = parameter_data(Format::Extended, &GROUPS);
        assert_eq!(data[..8], [0, 0, 0, 28, 0x10, 0, 0, 0]);
        assert_eq!(data[8..], parameter_data(Format::LengthOnly, &GROUPS)[4..]);
    }

    #[test]
    fn the_format_is_in_the_upper_bits_of_the_service_action_byte() {
        let mut cdb = [0; 16];
        cdb[..12].copy_from_slice(&[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0]);
        let wanted = ReportTargetPortGroups { format: Some(Format::Extended), allocation: 128 };
        assert_eq!(ReportTargetPortGroups::of(&cdb), wanted);
        cdb[1] = 0x4a;
        assert_eq!(ReportTargetPortGroups::of(&cdb).format, None);
    }
}
