//! LOG SENSE (SPC-4 6.8) and the log pages there are: Supported Log Pages, Supported Log Pages and Subpages, and
//! Logical Block Provisioning (SBC-3 6.3.4).

use super::cdb::{Cdb, be16};

/// Supported Log Pages; with subpage FFh Supported Log Pages and Subpages.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Logical Block Provisioning.
pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0x0c;
/// SUBPAGE CODE FFh: every subpage.
pub const ALL_SUBPAGES: u8 = 0xff;

/// The pages there are, ascending; none has subpages of its own.
const PAGES: [u8; 2] = [SUPPORTED_PAGES, LOGICAL_BLOCK_PROVISIONING];

/// PC: which values of the parameters are wanted (SPC-4 table 191).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// 00b: threshold values, of which there are none.
    Threshold,
    /// 01b
    Cumulative,
    /// 10b, 11b: defaults.
    Default,
}

/// The LOG SENSE CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSense {
    /// SP: the parameters are to be saved.
    pub save: bool,
    /// The obsolete PPC bit: only parameters that changed.
    pub changed_only: bool,
    /// PC.
    pub values: Values,
    /// PAGE CODE.
    pub page: u8,
    /// SUBPAGE CODE.
    pub subpage: u8,
    /// PARAMETER POINTER: the first parameter wanted.
    pub pointer: u16,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: u16,
}

impl LogSense {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        let values = match cdb[2] >> 6 {
            0 => Values::Threshold,
            1 => Values::Cumulative,
            _ => Values::Default,
        };
        Self {
            save: cdb[1] & 0x01 != 0,
            changed_only: cdb[1] & 0x02 != 0,
            values,
            page: cdb[2] & 0x3f,
            subpage: cdb[3],
            pointer: be16(cdb, 5),
            allocation: be16(cdb, 7),
        }
    }
}

/// Supported Log Pages (SPC-4 7.3.16), with `subpages` Supported Log Pages and Subpages (7.3.17).
#[must_use]
pub fn supported_pages(subpages: bool) -> Vec<u8> {
    if !subpages {
        return page(SUPPORTED_PAGES, 0, &PAGES);
    }
    let [supported, provisioning] = PAGES;
    page(
        SUPPORTED_PAGES,
        ALL_SUBPAGES,
        &[supported, 0, supported, ALL_SUBPAGES, provisioning, 0, provisioning, ALL_SUBPAGES],
    )
}

/// PARAMETER CODE of the Available LBA Mapping Resource Count.
const AVAILABLE: u16 = 0x0001;
/// PARAMETER CODE of the Used LBA Mapping Resource Count.
const USED: u16 = 0x0002;

/// The largest PARAMETER CODE of the Logical Block Provisioning page; a PARAMETER POINTER behind it is refused.
pub const PROVISIONING_POINTER_MAX: u16 = USED;

/// Logical Block Provisioning: what is `used` by the volume and `available` on its disk, in blocks, from the
/// parameter `pointer` on. Not shared with other LUNs as far as anybody can tell (SCOPE 01b, dedicated, for what is
/// used; 10b, not dedicated, for what is available). Counts that do not fit 32 bits are the largest that does.
#[must_use]
pub fn logical_block_provisioning(pointer: u16, used: u64, available: u64) -> Vec<u8> {
    const DEDICATED: u8 = 0x01;
    const NOT_DEDICATED: u8 = 0x02;
    let mut body = Vec::new();
    for (code, count, scope) in [(AVAILABLE, available, NOT_DEDICATED), (USED, used, DEDICATED)] {
        if code < pointer {
            continue;
        }
        body.extend_from_slice(&code.to_be_bytes());
        body.extend_from_slice(&[FORMAT_BINARY_LIST, 8]);
        body.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        body.extend_from_slice(&[scope, 0, 0, 0]);
    }
    debug_assert!(body.len().is_multiple_of(12), "each parameter has 12 bytes (SBC-3 6.3.4.2)");
    page(LOGICAL_BLOCK_PROVISIONING, 0, &body)
}

/// DU 0, TSD 0, ETC 0, FORMAT AND LINKING 11b.
const FORMAT_BINARY_LIST: u8 = 0x03;

/// A log page (SPC-4 7.3.2.1): SPF for a subpage, DS because nothing is saved.
fn page(code: u8, subpage: u8, body: &[u8]) -> Vec<u8> {
    const DS: u8 = 0x80;
    const SPF: u8 = 0x40;
    debug_assert!(body.len() <= usize::from(u16::MAX), "a log page can tell its length");
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let spf = if subpage == 0 { 0 } else { SPF };
    let mut page = vec![DS | spf | code, subpage, high, low];
    page.extend_from_slice(body);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_list_themselves_with_and_without_subpages() {
        assert_eq!(supported_pages(false), [0x80, 0, 0, 2, 0x00, 0x0c]);
        assert_eq!(supported_pages(true), [0xc0, 0xff, 0, 8, 0, 0, 0, 0xff, 0x0c, 0, 0x0c, 0xff]);
    }

    #[test]
    fn resources_are_counted_in_blocks_from_the_parameter_asked_for() {
        let whole = [
            0x8c, 0, 0, 24, 0, 1, 3, 8, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 3, 8, 0, 0, 1, 0, 1, 0, 0,
            0,
        ];
        assert_eq!(logical_block_provisioning(0, 256, 1 << 40), whole);
        assert_eq!(logical_block_provisioning(2, 256, 0)[..8], [0x8c, 0, 0, 12, 0, 2, 3, 8]);
        assert_eq!(logical_block_provisioning(3, 256, 0), [0x8c, 0, 0, 0]);
    }

    #[test]
    fn the_cdb_gives_page_subpage_values_and_pointer() {
        let mut cdb = [0; 16];
        cdb[..10].copy_from_slice(&[0x4d, 0x03, 0x4c, 0xff, 0, 1, 2, 3, 4, 0]);
        let wanted = LogSense {
            save: true,
            changed_only: true,
            values: Values::Cumulative,
            page: 0x0c,
            subpage: 0xff,
            pointer: 0x0102,
            allocation: 0x0304,
        };
        assert_eq!(LogSense::of(&cdb), wanted);
    }
}
