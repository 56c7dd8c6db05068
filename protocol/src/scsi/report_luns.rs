//! REPORT LUNS (SPC-4 6.33): which logical units there are.

use super::cdb::{Cdb, be32};
use super::lun::{REPORT_LUNS_WELL_KNOWN, encode};

/// The least ALLOCATION LENGTH in bytes: room for the header and one LUN.
pub const ALLOCATION_MIN: usize = 16;

/// The REPORT LUNS CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportLuns {
    /// SELECT REPORT; `None` for one this target does not know.
    pub select: Option<Select>,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

/// SELECT REPORT (SPC-4 table 286).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Select {
    /// 00h: logical units by peripheral or flat addressing.
    Units,
    /// 01h: well known logical units.
    WellKnown,
    /// 02h: all.
    All,
}

impl ReportLuns {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        let select = match cdb[2] {
            0 => Some(Select::Units),
            1 => Some(Select::WellKnown),
            2 => Some(Select::All),
            _ => None,
        };
        Self { select, allocation: be32(cdb, 6) as usize }
    }
}

/// The parameter data for the given numbers, in their order. Numbers that have no LUN field are left out.
#[must_use]
pub fn parameter_data(select: Select, numbers: &[u16]) -> Vec<u8> {
    let mut data = vec![0; 8];
    if select != Select::WellKnown {
        for field in numbers.iter().copied().filter_map(encode) {
            data.extend_from_slice(&field);
        }
    }
    if select != Select::Units {
        data.extend_from_slice(&REPORT_LUNS_WELL_KNOWN);
    }
    debug_assert!(data.len().is_multiple_of(8), "a header and LUNs, of 8 bytes each");
    let list_bytes = u32::try_from(data.len() - 8).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&list_bytes.to_be_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_listed_with_the_list_length_in_bytes() {
        assert_eq!(
            parameter_data(Select::Units, &[0, 255, 256]),
            [
                [0, 0, 0, 24, 0, 0, 0, 0],
                [0, 0, 0, 0, 0, 0, 0, 0],
                [0, 0xff, 0, 0, 0, 0, 0, 0],
                [0x41, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat()
        );
    }

    #[test]
    fn well_known_units_are_listed_only_where_asked_for() {
        let well_known = [[0, 0, 0, 8, 0, 0, 0, 0], [0xc1, 0x01, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(parameter_data(Select::WellKnown, &[0]), well_known);
        assert_eq!(parameter_data(Select::All, &[0]).len(), 24);
        assert_eq!(parameter_data(Select::Units, &[]), [0; 8]);
    }

    #[test]
    fn an_unknown_select_report_is_not_taken_for_another() {
        let mut cdb = [0; 16];
        cdb[..12].copy_from_slice(&[0xa0, 0, 0x10, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
        assert_eq!(ReportLuns::of(&cdb), ReportLuns { select: None, allocation: 4096 });
    }
}
