//! EXTENDED COPY and RECEIVE COPY RESULTS as far as no LUN is needed for it; the rest is shown by real controllers in
//! `tests/tests/extended_copy.rs`.

use protocol::scsi::extended_copy::{operating_parameters, third_party_copy_page};

use super::limits::{COPY_LIMITS, EXTENDED_COPY_LIST_BYTES_MAX};
use super::{data_out_bytes, table};

fn extended_copy(action: u8, bytes: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x83, action);
    cdb[10..14].copy_from_slice(&bytes.to_be_bytes());
    cdb
}

#[test]
fn a_parameter_list_is_taken_up_to_its_bound() {
    for (bytes, taken) in [
        (0, 0),
        (108, 108),
        (EXTENDED_COPY_LIST_BYTES_MAX, EXTENDED_COPY_LIST_BYTES_MAX),
        (EXTENDED_COPY_LIST_BYTES_MAX + 1, 0),
        (u32::MAX, 0),
    ] {
        assert_eq!(data_out_bytes(&extended_copy(0, bytes)), u64::from(taken), "{bytes}");
    }
    assert_eq!(data_out_bytes(&extended_copy(1, 108)), 0, "EXTENDED COPY (LID4) is not known");
}

#[test]
fn one_descriptor_more_than_there_may_be_of_each_kind_still_fits_a_list() {
    let list = 16 + COPY_LIMITS.descriptors_bytes();
    let data = operating_parameters(&COPY_LIMITS);
    assert_eq!(data[12..16], COPY_LIMITS.descriptors_bytes().to_be_bytes());
    assert!(list + 32 + 28 <= EXTENDED_COPY_LIST_BYTES_MAX);
    assert!(
        17 * 32 + 28 <= COPY_LIMITS.descriptors_bytes(),
        "too many CSCD descriptors are told as such and not as a length"
    );
}

#[test]
fn the_third_party_copy_page_lists_exactly_the_rows_of_the_table() {
    let page = third_party_copy_page(&COPY_LIMITS);
    let rows = |opcode| -> Vec<u8> {
        table::supported().filter(|row| row.opcode == opcode).filter_map(|row| row.service_action).collect()
    };
    let mut wanted = vec![0x83, 1];
    wanted.extend(rows(0x83));
    wanted.extend([0x84, 4]);
    wanted.extend(rows(0x84));
    assert_eq!(page[5..5 + usize::from(page[4])], wanted);
}
