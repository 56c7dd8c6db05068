//! MODE SENSE and MODE SELECT (6) and (10) (SPC-4 6.11 to 6.14) and the mode pages (SPC-4 7.5, SBC-3 6.4). Changeable,
//! and savable, are SWP (software write protection), D_SENSE (the format of sense data) and WCE (the write cache).

use super::cdb::{Cdb, be16};
use super::sense::Sense;
use crate::block::BLOCK_BYTES;
use crate::interlink::event::ModeSelection;
use crate::interlink::shared::Modes;

/// PAGE CODE 3Fh: every page.
const ALL_PAGES: u8 = 0x3f;
/// SUBPAGE CODE FFh: every subpage.
const ALL_SUBPAGES: u8 = 0xff;

/// Caching.
pub const CACHING: u8 = 0x08;
/// Control, and with subpage 01h Control Extension.
pub const CONTROL: u8 = 0x0a;
/// Informational Exceptions Control.
pub const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;

/// PC: which values of the pages are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageControl {
    /// 00b
    Current,
    /// 01b: a mask of what MODE SELECT could change.
    Changeable,
    /// 10b
    Default,
    /// 11b
    Saved,
}

/// The MODE SENSE CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeSense {
    /// MODE SENSE (10), which has the longer header.
    pub ten: bool,
    /// DBD: no block descriptors.
    pub disable_block_descriptors: bool,
    /// LLBAA: block descriptors may be of the long kind. Only MODE SENSE (10) has it.
    pub long_lba_accepted: bool,
    /// PC.
    pub page_control: PageControl,
    /// PAGE CODE.
    pub page: u8,
    /// SUBPAGE CODE.
    pub subpage: u8,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

impl ModeSense {
    /// MODE SENSE (6).
    #[must_use]
    pub const fn of_6(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, false, cdb[4] as usize)
    }

    /// MODE SENSE (10).
    #[must_use]
    pub const fn of_10(cdb: &Cdb) -> Self {
        Self::with_flags(cdb, true, be16(cdb, 7) as usize)
    }

    const fn with_flags(cdb: &Cdb, ten: bool, allocation: usize) -> Self {
        let page_control = match cdb[2] >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        };
        Self {
            ten,
            disable_block_descriptors: cdb[1] & 0x08 != 0,
            long_lba_accepted: ten && cdb[1] & 0x10 != 0,
            page_control,
            page: cdb[2] & 0x3f,
            subpage: cdb[3],
            allocation,
        }
    }
}

/// What the pages tell of a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// WCE as it is configured: the default value.
    pub write_cache: bool,
    /// WP.
    pub read_only: bool,
    /// What is changeable, as it is.
    pub current: Modes,
    /// The same as it is saved.
    pub saved: Modes,
}

/// The MODE SELECT CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeSelect {
    /// MODE SELECT (10), whose list has the longer header.
    pub ten: bool,
    /// SP: save the pages.
    pub save: bool,
    /// PARAMETER LIST LENGTH in bytes.
    pub length: usize,
}

impl ModeSelect {
    /// MODE SELECT (6).
    #[must_use]
    pub const fn of_6(cdb: &Cdb) -> Self {
        Self { ten: false, save: cdb[1] & 0x01 != 0, length: cdb[4] as usize }
    }

    /// MODE SELECT (10).
    #[must_use]
    pub const fn of_10(cdb: &Cdb) -> Self {
        Self { ten: true, save: cdb[1] & 0x01 != 0, length: be16(cdb, 7) as usize }
    }

    /// What a parameter list selects; `None` if it has no page. Whatever is not changeable must be as it is.
    pub fn selection(&self, list: &[u8], parameters: &Parameters) -> Result<Option<ModeSelection>, Sense> {
        if list.len() != self.length {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        if list.is_empty() {
            return Ok(None);
        }
        let (header, descriptor) = if self.ten { (8, 7) } else { (4, 3) };
        let rest = list.get(header..).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let long = self.ten && list[4] & 0x01 != 0;
        let descriptor = usize::from(list[descriptor]) + if self.ten { usize::from(list[6]) << 8 } else { 0 };
        let (descriptor, mut rest) =
            rest.split_at_checked(descriptor).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        check_descriptor(descriptor, long, parameters)?;
        let mut selection = ModeSelection { save: self.save, ..ModeSelection::default() };
        let any = !rest.is_empty();
        while !rest.is_empty() {
            rest = select_page(rest, parameters, &mut selection)?;
        }
        Ok(any.then_some(selection))
    }
}

/// A block descriptor may say what is so.
fn check_descriptor(descriptor: &[u8], long: bool, parameters: &Parameters) -> Result<(), Sense> {
    let same = match descriptor {
        [] => true,
        [a, b, c, d, 0, length @ ..] if !long && length.len() == 3 => {
            let blocks = u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
            let is = parameters.blocks.min(u64::from(u32::MAX));
            length == &BLOCK_BYTES.to_be_bytes()[1..] && (blocks == 0 || blocks == is)
        }
        _ => long && descriptor == block_descriptor(parameters.blocks, true),
    };
    if same { Ok(()) } else { Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST) }
}

/// Takes a page off the front of a list.
fn select_page<'a>(
    list: &'a [u8],
    parameters: &Parameters,
    selection: &mut ModeSelection,
) -> Result<&'a [u8], Sense> {
    const PS: u8 = 0x80;
    const SPF: u8 = 0x40;
    let code = list[0] & !PS;
    let subpage = if code & SPF == 0 { 0 } else { list.get(1).copied().unwrap_or(0) };
    let current = all_pages(parameters, PageControl::Current);
    let changeable = all_pages(parameters, PageControl::Changeable);
    let at = current
        .iter()
        .position(|page| {
            page.code == code & 0x3f && page.subpage == subpage && page.bytes[0] & SPF == code & SPF
        })
        .ok_or(Sense::INVALID_FIELD_IN_PARAMETER_LIST)?;
    let (is, mask) = (&current[at].bytes, &changeable[at].bytes);
    let header = if subpage == 0 { 2 } else { 4 };
    let sent = list.get(..is.len()).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let same_header = sent[1..header] == is[1..header];
    let allowed = (header..is.len()).all(|at| (sent[at] ^ is[at]) & !mask[at] == 0);
    if !same_header || !allowed {
        return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
    match code {
        CONTROL => {
            selection.write_protect = Some(sent[4] & SWP != 0);
            selection.descriptor_sense = Some(sent[2] & D_SENSE != 0);
        }
        CACHING => selection.write_cache = Some(sent[2] & WCE != 0),
        _ => {}
    }
    Ok(&list[is.len()..])
}

/// The mode parameter list: header, block descriptor, pages.
pub fn parameter_list(sense: &ModeSense, parameters: &Parameters) -> Result<Vec<u8>, Sense> {
    let pages = pages(sense, parameters)?;
    let descriptor = if sense.disable_block_descriptors {
        Vec::new()
    } else {
        block_descriptor(parameters.blocks, sense.long_lba_accepted)
    };
    let mut list = header(sense, parameters, descriptor.len(), descriptor.len() + pages.len());
    list.extend_from_slice(&descriptor);
    list.extend_from_slice(&pages);
    Ok(list)
}

/// Mode parameter header (SPC-4 7.5.5). MODE DATA LENGTH does not count itself.
fn header(sense: &ModeSense, parameters: &Parameters, descriptor: usize, rest: usize) -> Vec<u8> {
    const WP: u8 = 0x80;
    const DPOFUA: u8 = 0x10;
    let specific = DPOFUA | if parameters.read_only || parameters.current.write_protect { WP } else { 0 };
    // The list is some hundred bytes at most: one block descriptor and the few pages below.
    let descriptor = u8::try_from(descriptor).unwrap_or(u8::MAX);
    if sense.ten {
        let length = u16::try_from(rest + 6).unwrap_or(u16::MAX).to_be_bytes();
        let long = u8::from(sense.long_lba_accepted && descriptor > 0);
        vec![length[0], length[1], 0, specific, long, 0, 0, descriptor]
    } else {
        let length = u8::try_from(rest + 3).unwrap_or(u8::MAX);
        vec![length, 0, specific, descriptor]
    }
}

/// Short (SBC-3 6.4.2.2) or long (6.4.2.3) LBA mode parameter block descriptor.
fn block_descriptor(blocks: u64, long: bool) -> Vec<u8> {
    let mut descriptor = Vec::with_capacity(16);
    if long {
        descriptor.extend_from_slice(&blocks.to_be_bytes());
        descriptor.extend_from_slice(&[0; 4]);
    } else {
        descriptor.extend_from_slice(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
    }
    // In the short descriptor the byte before the 24-bit length is reserved; a block of 512 bytes leaves it 0.
    descriptor.extend_from_slice(&BLOCK_BYTES.to_be_bytes());
    descriptor
}

/// The pages asked for, in ascending order.
fn pages(sense: &ModeSense, parameters: &Parameters) -> Result<Vec<u8>, Sense> {
    let every = sense.page == ALL_PAGES;
    if every && !matches!(sense.subpage, 0x00 | ALL_SUBPAGES) {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let mut out = Vec::new();
    for page in all_pages(parameters, sense.page_control) {
        let wanted = every || sense.page == page.code;
        if wanted && (sense.subpage == page.subpage || sense.subpage == ALL_SUBPAGES) {
            out.extend_from_slice(&page.bytes);
        }
    }
    if out.is_empty() { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(out) }
}

struct Page {
    code: u8,
    subpage: u8,
    bytes: Vec<u8>,
}

/// Every page, in ascending order, with the values asked for.
fn all_pages(parameters: &Parameters, control: PageControl) -> [Page; 4] {
    const PS: u8 = 0x80;
    let modes = match control {
        PageControl::Current => parameters.current,
        PageControl::Saved => parameters.saved,
        PageControl::Default => Modes::default(),
        PageControl::Changeable => {
            Modes { write_protect: true, descriptor_sense: true, write_cache: Some(true) }
        }
    };
    let page = |code, subpage, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        if control == PageControl::Changeable {
            bytes[if subpage == 0 { 2 } else { 4 }..].fill(0);
        }
        Page { code, subpage, bytes }
    };
    let mut pages = [
        page(CACHING, 0x00, &CACHING_PAGE),
        page(CONTROL, 0x00, &CONTROL_PAGE),
        page(CONTROL, 0x01, &CONTROL_EXTENSION_PAGE),
        page(INFORMATIONAL_EXCEPTIONS, 0x00, &INFORMATIONAL_EXCEPTIONS_PAGE),
    ];
    let bit = |set, bit| if set { bit } else { 0 };
    pages[0].bytes[0] |= PS;
    pages[0].bytes[2] |= bit(modes.caches(parameters.write_cache), WCE);
    pages[1].bytes[0] |= PS;
    pages[1].bytes[2] |= bit(modes.descriptor_sense, D_SENSE);
    pages[1].bytes[4] |= bit(modes.write_protect, SWP);
    pages
}

/// WCE, in byte 2 of the Caching page.
const WCE: u8 = 0x04;

/// Caching (SBC-3 6.4.5), with WCE 0.
const CACHING_PAGE: [u8; 20] = {
    let mut page = [0; 20];
    page[0] = CACHING;
    page[1] = 18;
    page
};

/// D_SENSE, in byte 2 of the Control page.
const D_SENSE: u8 = 0x04;

/// SWP, in byte 4 of the Control page.
const SWP: u8 = 0x08;

/// Control (SPC-4 7.5.8): TST 001b (a task set per I_T nexus), GLTSD; D_SENSE 0 (fixed format sense) and SWP 0;
/// QUEUE ALGORITHM MODIFIER 1 (commands may be reordered); BUSY TIMEOUT PERIOD unlimited.
const CONTROL_PAGE: [u8; 12] = [CONTROL, 10, 0x22, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];

/// Control Extension (SPC-4 7.5.9): IALUAE, implicit asymmetric logical unit access is enabled.
const CONTROL_EXTENSION_PAGE: [u8; 32] = {
    let mut page = [0; 32];
    page[0] = 0x40 | CONTROL;
    page[1] = 0x01;
    page[3] = 28;
    page[4] = 0x01;
    page
};

/// Informational Exceptions Control (SBC-3 6.4.8): DEXCPT, none are reported.
const INFORMATIONAL_EXCEPTIONS_PAGE: [u8; 12] =
    [INFORMATIONAL_EXCEPTIONS, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: Parameters =
        Parameters { blocks: 0x20_0000, write_cache: true, read_only: false, current: UNSET, saved: UNSET };

    const UNSET: Modes = Modes { write_protect: false, descriptor_sense: false, write_cache: None };

    fn six(bytes: [u8; 4]) -> ModeSense {
        let mut cdb = [0; 16];
        cdb[0] = 0x1a;
        cdb[1..5].copy_from_slice(&bytes);
        ModeSense::of_6(&cdb)
    }

    fn ten(flags: u8, page: u8, subpage: u8) -> ModeSense {
        let mut cdb = [0; 16];
        cdb[..9].copy_from_slice(&[0x5a, flags, page, subpage, 0, 0, 0, 0x10, 0]);
        ModeSense::of_10(&cdb)
    }

    #[test]
    fn the_caching_page_shows_the_write_cache_of_the_lun() {
        let wanted = [
            31, 0, 0x10, 8, // header: DPOFUA, one short block descriptor
            0, 0x20, 0, 0, 0, 0, 2, 0, // 2 Mi blocks of 512 bytes
            0x88, 18, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(parameter_list(&six([0, 0x08, 0, 255]), &PARAMETERS).unwrap(), wanted);
        let off = Parameters { write_cache: false, read_only: true, ..PARAMETERS };
        let list = parameter_list(&six([0x08, 0x08, 0, 255]), &off).unwrap();
        assert_eq!(list[..7], [23, 0, 0x90, 0, 0x88, 18, 0x00]);
    }

    #[test]
    fn mode_sense_10_offers_a_long_block_descriptor_when_it_may() {
        let large = Parameters { blocks: 1 << 40, ..PARAMETERS };
        let long = parameter_list(&ten(0x10, 0x0a, 0), &large).unwrap();
        assert_eq!(long[..8], [0, 34, 0, 0x10, 1, 0, 0, 16]);
        assert_eq!(long[8..24], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(long[24..26], [0x8a, 10]);
        assert_eq!(long[26..], CONTROL_PAGE[2..]);
        let short = parameter_list(&ten(0, 0x0a, 0), &large).unwrap();
        assert_eq!(short[..8], [0, 26, 0, 0x10, 0, 0, 0, 8]);
        assert_eq!(short[8..16], [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
    }

    #[test]
    fn all_pages_come_in_ascending_order_and_subpages_only_when_asked_for() {
        let codes = |subpage| {
            let list = parameter_list(&ten(0x08, 0x3f, subpage), &PARAMETERS).unwrap();
            let (mut at, mut codes) = (8, Vec::new());
            while at < list.len() {
                let sub = list[at] & 0x40 != 0;
                codes.push((list[at] & 0x3f, if sub { list[at + 1] } else { 0 }));
                at += if sub { 4 + usize::from(list[at + 3]) } else { 2 + usize::from(list[at + 1]) };
            }
            assert_eq!(at, list.len(), "page lengths must add up");
            codes
        };
        assert_eq!(codes(0x00), [(0x08, 0), (0x0a, 0), (0x1c, 0)]);
        assert_eq!(codes(0xff), [(0x08, 0), (0x0a, 0), (0x0a, 1), (0x1c, 0)]);
    }

    /// The bytes of a page with its header, whatever values are asked for.
    fn page_of(control: u8, code: u8, parameters: &Parameters) -> Vec<u8> {
        parameter_list(&six([0x08, control << 6 | code, 0, 255]), parameters).unwrap()[4..].to_vec()
    }

    #[test]
    fn write_cache_sense_format_and_write_protection_are_all_that_is_changeable() {
        let mask = parameter_list(&six([0x08, 0x7f, 0xff, 255]), &PARAMETERS).unwrap();
        let mut wanted = vec![0x88, 18, 0x04];
        wanted.resize(20, 0);
        wanted.extend_from_slice(&[0x8a, 10, 0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend_from_slice(&[0x4a, 1, 0, 28]);
        wanted.resize(20 + 12 + 32, 0);
        wanted.extend_from_slice(&[0x1c, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask[4..], wanted);
    }

    #[test]
    fn what_a_host_set_and_saved_is_told_and_the_default_is_as_configured() {
        let set = Modes { write_protect: true, descriptor_sense: true, write_cache: Some(false) };
        let seen = |control: u8, parameters: &Parameters| {
            let caching = page_of(control, CACHING, parameters);
            let control = page_of(control, CONTROL, parameters);
            (control[4] & SWP != 0, control[2] & D_SENSE != 0, caching[2] & WCE != 0)
        };
        for write_cache in [true, false] {
            let unset = Parameters { write_cache, ..PARAMETERS };
            for control in [0, 2, 3] {
                assert_eq!(seen(control, &unset), (false, false, write_cache), "PC {control}");
            }
            let current = Parameters { current: set, ..unset };
            assert_eq!(seen(0, &current), (true, true, false));
            assert_eq!(seen(2, &current), (false, false, write_cache));
            assert_eq!(seen(3, &current), (false, false, write_cache));
            let saved = Parameters { saved: Modes { write_cache: Some(true), ..set }, ..unset };
            assert_eq!(seen(0, &saved), (false, false, write_cache));
            assert_eq!(seen(3, &saved), (true, true, true));
        }
        let protected = Parameters { current: set, ..PARAMETERS };
        let header = parameter_list(&six([0x08, CONTROL, 0, 255]), &protected).unwrap();
        assert_eq!(header[2] & 0x80, 0x80, "WP");
    }

    #[test]
    fn what_mode_sense_gives_mode_select_takes() {
        let six_list = parameter_list(&six([0, 0x3f, 0xff, 255]), &PARAMETERS).unwrap();
        let select = ModeSelect { ten: false, save: false, length: six_list.len() };
        let nothing_new = ModeSelection {
            save: false,
            write_protect: Some(false),
            descriptor_sense: Some(false),
            write_cache: Some(true),
        };
        assert_eq!(select.selection(&six_list, &PARAMETERS), Ok(Some(nothing_new)));
        let mut ten_list = parameter_list(&ten(0x10, CONTROL, 0), &PARAMETERS).unwrap();
        let at = ten_list.len() - 12;
        ten_list[at + 2] |= D_SENSE;
        ten_list[at + 4] |= SWP;
        let select = ModeSelect { ten: true, save: true, length: ten_list.len() };
        let both = ModeSelection {
            save: true,
            write_protect: Some(true),
            descriptor_sense: Some(true),
            write_cache: None,
        };
        assert_eq!(select.selection(&ten_list, &PARAMETERS), Ok(Some(both)));
        assert_eq!(ModeSelect { length: 0, ..select }.selection(&[], &PARAMETERS), Ok(None));
        let mut caching = parameter_list(&six([0x08, CACHING, 0, 255]), &PARAMETERS).unwrap();
        caching[6] ^= WCE;
        let select = ModeSelect { ten: false, save: true, length: caching.len() };
        let off = ModeSelection { save: true, write_cache: Some(false), ..ModeSelection::default() };
        assert_eq!(select.selection(&caching, &PARAMETERS), Ok(Some(off)));
    }

    #[test]
    fn what_is_not_changeable_or_not_whole_is_refused() {
        let changeable: [(u8, &[(usize, u32)]); 2] = [(CONTROL, &[(8, 3), (6, 2)]), (CACHING, &[(6, 2)])];
        for (page, fields) in changeable {
            let list = parameter_list(&six([0x08, page, 0, 255]), &PARAMETERS).unwrap();
            let select = |list: &[u8]| {
                ModeSelect { ten: false, save: false, length: list.len() }.selection(list, &PARAMETERS)
            };
            for at in 4..list.len() {
                for bit in 0..8 {
                    let mut changed = list.clone();
                    changed[at] ^= 1 << bit;
                    let allowed = fields.contains(&(at, bit)) || (at, bit) == (4, 7);
                    assert_eq!(select(&changed).is_ok(), allowed, "page {page:#x} byte {at} bit {bit}");
                }
            }
            for cut in 1..list.len() {
                assert!(cut == 4 || select(&list[..cut]).is_err(), "{cut} bytes");
            }
            let short = ModeSelect { ten: false, save: false, length: list.len() + 1 };
            assert_eq!(short.selection(&list, &PARAMETERS), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
        }
    }

    #[test]
    fn pages_that_do_not_exist_are_refused() {
        for (page, subpage) in [(0x00, 0), (0x05, 0), (0x0a, 0x05), (0x08, 0x01), (0x3f, 0x01), (0x19, 0xff)]
        {
            let answer = parameter_list(&ten(0, page, subpage), &PARAMETERS);
            assert_eq!(answer, Err(Sense::INVALID_FIELD_IN_CDB), "{page:02x}/{subpage:02x}");
        }
    }
}
