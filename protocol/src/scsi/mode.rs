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
    debug_assert!(list.len() <= usize::from(u8::MAX), "MODE SENSE(6) can tell its length: {}", list.len());
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
#[path = "mode_tests.rs"]
mod tests;
