//! MODE SENSE and MODE SELECT: pages as they are told, and lists as they are taken.

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
    for (page, subpage) in [(0x00, 0), (0x05, 0), (0x0a, 0x05), (0x08, 0x01), (0x3f, 0x01), (0x19, 0xff)] {
        let answer = parameter_list(&ten(0, page, subpage), &PARAMETERS);
        assert_eq!(answer, Err(Sense::INVALID_FIELD_IN_CDB), "{page:02x}/{subpage:02x}");
    }
}
