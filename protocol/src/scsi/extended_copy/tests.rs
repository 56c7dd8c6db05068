//! The parameter list of EXTENDED COPY and what RECEIVE COPY RESULTS tells, byte by byte.

use proptest::prelude::*;

use super::*;

const LIMITS: CopyLimits =
    CopyLimits { cscds_max: 4, segments_max: 8, copies_max: 16, named_copies_max: 16, block_bytes: 512 };

/// A list as sg_xcopy and ESX write it: two logical units by NAA, one segment.
const LIST: &[u8] = b"\x07\x00\x00\x40\0\0\0\0\0\0\0\x1c\0\0\0\0\
    \xe4\x00\0\0\x01\x03\0\x08\x31\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\
    \xe4\x00\0\0\x01\x03\0\x08\x3f\xed\xcb\xa9\x87\x65\x43\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\
    \x02\x02\0\x18\0\0\0\x01\0\0\x08\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x20\x01";

fn changed(at: usize, byte: u8) -> Vec<u8> {
    let mut list = LIST.to_vec();
    list[at] = byte;
    list
}

fn of(list: &[u8]) -> Result<ParameterList, Sense> {
    ParameterList::of(list, &LIMITS)
}

/// A list of so many descriptors of each kind.
fn many(cscds: usize, segments: usize) -> Vec<u8> {
    let mut list = LIST[..16].to_vec();
    list[2..4].copy_from_slice(&((cscds * CSCD_BYTES) as u16).to_be_bytes());
    list[8..12].copy_from_slice(&((segments * SEGMENT_BYTES) as u32).to_be_bytes());
    (0..cscds).for_each(|_| list.extend_from_slice(&LIST[16..48]));
    (0..segments).for_each(|_| list.extend_from_slice(&LIST[80..]));
    list
}

#[test]
fn a_list_names_its_logical_units_and_segments() {
    let list = of(LIST).unwrap();
    assert_eq!((list.list, list.usage), (7, ListUsage::Hold));
    let unit = |at, naa| Cscd { at, null: false, device_type: 0, naa: Some(naa), block_bytes: 512 };
    assert_eq!(list.cscds, [unit(16, 0x3123_4567_89ab_cdef), unit(48, 0x3fed_cba9_8765_4321)]);
    let segment =
        BlockToBlock { source: 0, destination: 1, blocks: 2048, source_lba: 0x1000, destination_lba: 0x2001 };
    assert_eq!(list.segments, [segment]);
    assert_eq!(of(&many(0, 0)).unwrap().segments, []);
}

#[test]
fn what_a_length_cuts_off_is_a_length_error() {
    for length in 1..LIST.len() {
        assert_eq!(of(&LIST[..length]), Err(Sense::PARAMETER_LIST_LENGTH_ERROR), "{length}");
    }
    assert_eq!(
        of(&many(4, 9)),
        Err(Sense::PARAMETER_LIST_LENGTH_ERROR),
        "more than all descriptors together"
    );
    // A segment descriptor that ends behind its list.
    let mut list = changed(11, 0x1b);
    list.truncate(LIST.len() - 1);
    assert_eq!(of(&list), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
    // What comes behind the descriptors is not looked at.
    assert_eq!(of(&[LIST, &[1, 2, 3]].concat()), of(LIST));
}

#[test]
fn one_descriptor_too_many_is_told_by_its_kind() {
    assert_eq!(of(&many(4, 8)).map(|list| (list.cscds.len(), list.segments.len())), Ok((4, 8)));
    assert_eq!(of(&many(5, 1)), Err(Sense::TOO_MANY_CSCD_DESCRIPTORS.in_list(2)));
    assert_eq!(of(&many(1, 9)), Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS.in_list(8)));
}

#[test]
fn descriptors_of_other_types_and_lengths_are_pointed_at() {
    assert_eq!(of(&changed(48, 0xe0)), Err(Sense::UNSUPPORTED_CSCD_DESCRIPTOR.in_list(48)));
    for kind in [0x00, 0x03, 0x0a, 0x0d, 0xbe] {
        assert_eq!(of(&changed(80, kind)), Err(Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR.in_list(80)));
    }
    assert_eq!(of(&changed(83, 0x19)), Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(82)));
    assert_eq!(of(&changed(3, 0x3f)), Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(2)));
}

#[test]
fn the_list_identifier_is_held_discarded_or_not_there() {
    assert_eq!(of(&changed(1, 0x10)).unwrap().usage, ListUsage::Discard);
    assert_eq!(of(&changed(1, 0x27)).unwrap().usage, ListUsage::Hold, "STR and PRIORITY");
    assert_eq!(of(&changed(1, 0x08)), Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(1)));
    assert_eq!(of(&changed(1, 0x18)), Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(0)));
    let mut list = changed(1, 0x18);
    list[0] = 0;
    assert_eq!(of(&list).unwrap().usage, ListUsage::None);
}

#[test]
fn there_is_no_inline_data() {
    assert_eq!(of(&changed(15, 1)), Err(Sense::INLINE_DATA_LENGTH_EXCEEDED.in_list(12)));
}

#[test]
fn only_the_naa_designator_of_a_logical_unit_names_one() {
    for (at, byte) in [(20, 2), (21, 0x13), (21, 0x02), (23, 16), (23, 7)] {
        assert_eq!(of(&changed(at, byte)).unwrap().cscds[0].naa, None, "{at} {byte}");
    }
    // LU ID TYPE, the relative initiator port and what comes behind the designator are not looked at.
    for (at, byte) in [(17, 0xc0), (18, 9), (19, 9), (22, 9), (24 + 8, 9)] {
        assert_eq!(of(&changed(at, byte)), of(LIST), "{at} {byte}");
    }
    let cscd = of(&changed(17, 0x25)).unwrap().cscds[0];
    assert_eq!((cscd.null, cscd.device_type), (true, 5));
    let cscd = of(&changed(44, 0xff)).unwrap().cscds[0];
    assert_eq!(cscd.block_bytes, 512, "PAD is not a part of the length");
}

#[test]
fn operating_parameters_stand_where_spc_4_puts_them() {
    let mut wanted = [0; 46];
    wanted[..12].copy_from_slice(&[0, 0, 0, 42, 1, 0, 0, 0, 0, 4, 0, 8]);
    wanted[12..20].copy_from_slice(&[0, 0, 1, 0x60, 0x01, 0xff, 0xfe, 0x00]);
    wanted[34..38].copy_from_slice(&[0, 16, 16, 9]);
    wanted[43..].copy_from_slice(&[2, 0x02, 0xe4]);
    assert_eq!(operating_parameters(&LIMITS), wanted);
}

#[test]
fn a_copys_state_and_failure_stand_where_spc_4_puts_them() {
    assert_eq!(
        copy_status(CopyStatus::Failed, 0x102, 0x1234_5678),
        *b"\0\0\0\x08\x02\x01\x02\0\x12\x34\x56\x78"
    );
    assert_eq!(held_data(), [0; 4]);
    assert_eq!(failure_details(None), [0; 4]);
    let data = failure_details(Some(&Sense::COPY_TARGET_NOT_REACHABLE.at_segment(3)));
    assert_eq!(data[..5], [0, 0, 0, 74, 0]);
    assert_eq!(data[56..64], [2, 0, 0, 18, 0x70, 0, 0x0a, 0]);
    assert_eq!(data.len(), 78);
}

#[test]
fn the_third_party_copy_page_is_made_of_whole_descriptors() {
    let page = third_party_copy_page(&LIMITS);
    assert_eq!(page[..16], [0, 1, 0, 12, 9, 0x83, 1, 0, 0x84, 4, 0, 1, 3, 4, 0, 0]);
    let mut rest = &page[..];
    let mut kinds = Vec::new();
    while let Some((head, others)) = rest.split_at_checked(4) {
        kinds.push(be16_at(head, 0));
        rest = &others[usize::from(be16_at(head, 2))..];
    }
    assert_eq!(kinds, [0x0001, 0x0004, 0x0008, 0x000c, 0x8001]);
    assert_eq!(page.len() % 4, 0);
}

proptest! {
    /// Whatever a list says of itself, no more comes of it than there is of it.
    #[test]
    fn no_list_yields_more_than_it_has(bytes in prop::collection::vec(any::<u8>(), 0..300), near in any::<bool>()) {
        let mut list = if near { LIST.to_vec() } else { Vec::new() };
        for (at, byte) in bytes.iter().enumerate() {
            match list.get_mut(at * 7 % 108) {
                Some(there) if near => *there = *byte,
                _ => list.push(*byte),
            }
        }
        if let Ok(read) = of(&list) {
            let bytes = HEADER_BYTES + read.cscds.len() * CSCD_BYTES + read.segments.len() * SEGMENT_BYTES;
            prop_assert!(bytes <= list.len());
        }
    }
}
