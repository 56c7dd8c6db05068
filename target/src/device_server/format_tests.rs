//! FORMAT UNIT and SEND DIAGNOSTIC: what each CDB and parameter list becomes.

use controller::command::Op;
use controller::unit::LunView;
use protocol::interlink::event::Event;
use protocol::interlink::sanitize::Order;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::Sense;

use super::data_out_bytes;
use super::decode_tests::{BOUNDS, view, who};
use super::medium::{DataOut, Decoded};
use super::shared::Asked;
use super::table::{Run, find};

fn cdb(bytes: [u8; 6]) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..6].copy_from_slice(&bytes);
    cdb
}

fn format(view: &LunView, bytes: [u8; 6], list: &[u8]) -> Asked {
    match find(&cdb(bytes))?.run {
        Run::Shared(decode) => decode(&cdb(bytes), view, who(), list),
        _ => panic!("FORMAT UNIT is an event"),
    }
}

fn diagnose(bytes: [u8; 6]) -> Decoded {
    match find(&cdb(bytes))?.run {
        Run::Medium(decode) => decode(&cdb(bytes), BOUNDS, DataOut { pieces: Vec::new(), announced: 0 }),
        _ => panic!("SEND DIAGNOSTIC goes to the medium"),
    }
}

#[test]
fn a_format_is_an_order_to_make_holes_of_everything() {
    let begun = |immed| {
        let order = Some(Box::new(Order { method: Method::Format, ause: true }));
        Ok(Some(Event::Sanitize { who: who(), order, immed }))
    };
    assert_eq!(format(&view(), [4, 0, 0, 0, 0, 0], &[]), begun(false));
    assert_eq!(format(&view(), [4, 0x10, 0, 0, 0, 0], &[0, 2, 0, 0]), begun(true));
    assert_eq!(format(&view(), [4, 0x30, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 0]), begun(false));
}

#[test]
fn a_format_that_asks_for_what_there_is_not_formats_nothing() {
    for (bytes, list, sense) in [
        ([4, 0x50, 0, 0, 0, 0], &[0, 0, 0, 0][..], Sense::invalid_cdb_field(1)),
        ([4, 0, 1, 0, 0, 0], &[], Sense::invalid_cdb_field(2)),
        ([4, 0, 0, 0, 1, 0], &[], Sense::invalid_cdb_field(4)),
        ([4, 0x10, 0, 0, 0, 0], &[0, 8, 0, 0], Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(1)),
        ([4, 0x10, 0, 0, 0, 0], &[0, 0, 0, 8], Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(2)),
        ([4, 0x10, 0, 0, 0, 0], &[], Sense::PARAMETER_LIST_LENGTH_ERROR),
    ] {
        assert_eq!(format(&view(), bytes, list), Err(sense), "{bytes:02x?} {list:02x?}");
    }
    let read_only = LunView { read_only: true, ..view() };
    assert_eq!(format(&read_only, [4, 0, 0, 0, 0, 0], &[]), Err(Sense::WRITE_PROTECTED));
}

#[test]
fn of_a_format_only_the_header_is_taken() {
    let bytes = [(0x00, 0), (0x20, 0), (0x10, 4), (0x30, 8)];
    for (flags, taken) in bytes {
        assert_eq!(data_out_bytes(&cdb([4, flags, 0, 0, 0, 0])), taken, "{flags:02x}");
    }
}

#[test]
fn the_default_self_test_goes_to_both_copies_and_there_is_no_other() {
    assert_eq!(diagnose([0x1d, 0x04, 0, 0, 0, 0]), Ok(Some(Op::SynchronizeCache)));
    // PF, DEVOFFL and UNITOFFL change nothing.
    assert_eq!(diagnose([0x1d, 0x17, 0, 0, 0, 0]), Ok(Some(Op::SynchronizeCache)));
    assert_eq!(diagnose([0x1d, 0, 0, 0, 0, 0]), Ok(None));
    for code in 1..8 {
        assert_eq!(diagnose([0x1d, code << 5, 0, 0, 0, 0]), Err(Sense::invalid_cdb_field(1)));
    }
    assert_eq!(diagnose([0x1d, 0x10, 0, 0, 4, 0]), Err(Sense::invalid_cdb_field(3)));
    assert_eq!(diagnose([0x1d, 0x14, 0, 1, 0, 0]), Err(Sense::invalid_cdb_field(3)));
}
