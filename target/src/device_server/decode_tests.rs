//! The device server without a controller: what each CDB becomes for a given view of a LUN.

use bytes::Bytes;
use controller::command::{Data, Op, Outcome};
use controller::pair::{PairStatus, Role};
use controller::unit::{LunName, LunView};
use protocol::block::{BlockRange, Lba};
use protocol::interlink::Report;
use protocol::interlink::shared::{NexusHandle, NexusName, Requester};
use protocol::scsi::cdb::Cdb;
use protocol::scsi::sense::Sense;

use super::limits::{TRANSFER_BLOCKS_MAX, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX};
use super::medium::{Bounds, DataOut, Decoded};
use super::table::{Run, TABLE, find};
use super::{absent, checked_row, data_out_bytes, well_known};

/// Capacity of the LUN of these tests in blocks.
pub(super) const CAPACITY: u64 = 1 << 20;

/// The same LUN for commands that touch blocks.
pub(super) const BOUNDS: Bounds = Bounds { blocks: CAPACITY, read_only: false, physical_block_exponent: 0 };

/// The LUN of these tests, asked through its main, which is the first controller.
pub(super) fn view() -> LunView {
    LunView {
        number: 0,
        blocks: CAPACITY,
        identity: Some(LunName { naa: 0x3000_0000_0000_0001, serial: "serial".into() }),
        role: Role::Main,
        status: PairStatus::Duplex,
        serving: true,
        write_cache: true,
        read_only: false,
        modes: Default::default(),
        physical_block_exponent: 3,
        controller_index: 0,
        peer_serving: true,
    }
}

pub(super) fn who() -> Requester {
    let name = NexusName { initiator: "iqn.1994-05.org:host".into(), isid: [0; 6], port: 1 };
    Requester { handle: NexusHandle { side: 0, incarnation: 1, nexus: 1 }, name }
}

fn cdb(bytes: &[u8]) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

/// A 16-byte CDB with address and length where READ, WRITE, WRITE SAME and SYNCHRONIZE CACHE have them.
fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = cdb(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn compare_and_write(lba: u64, blocks: u8) -> Cdb {
    let mut cdb = sixteen(0x89, 0, lba, 0);
    cdb[13] = blocks;
    cdb
}

/// What a command that touches blocks becomes, with exactly the data its initiator announced.
fn decode_for(lun: Bounds, cdb: &Cdb, data: Data) -> Decoded {
    let announced = data.iter().map(|piece| piece.len() as u64).sum();
    decode_announced(lun, cdb, DataOut { pieces: data, announced })
}

/// The same with data of which the initiator announced another length.
fn decode_announced(lun: Bounds, cdb: &Cdb, data: DataOut) -> Decoded {
    match checked_row(cdb)?.run {
        Run::Medium(decode) => decode(cdb, lun, data),
        _ => panic!("{:02x} does not touch blocks", cdb[0]),
    }
}

fn decode(cdb: &Cdb, data: Data) -> Decoded {
    decode_for(BOUNDS, cdb, data)
}

/// What a command that describes the LUN answers.
fn describe(view: &LunView, cdb: &Cdb) -> Result<Vec<u8>, Sense> {
    match checked_row(cdb)?.run {
        Run::Describe(_, answer) => answer(cdb, view),
        Run::PreventAllow => super::state::prevent_allow(cdb),
        _ => panic!("{:02x} does not describe the LUN", cdb[0]),
    }
}

fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

/// `bytes` bytes of data-out in pieces of at most 700.
pub(super) fn pieces(bytes: usize) -> Data {
    let all: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    all.chunks(700).map(Bytes::copy_from_slice).collect()
}

fn unmap(descriptors: &[(u64, u32)]) -> (Cdb, Data) {
    let bytes = u16::try_from(descriptors.len() * 16).unwrap();
    let mut list = [(bytes + 6).to_be_bytes(), bytes.to_be_bytes(), [0; 2], [0; 2]].concat();
    for (lba, blocks) in descriptors {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    let [high, low] = (bytes + 8).to_be_bytes();
    (cdb(&[0x42, 0, 0, 0, 0, 0, 0, high, low, 0]), vec![Bytes::from(list)])
}

#[test]
fn rows_stand_in_order_with_a_cdb_as_long_as_their_operation_code_says() {
    for pair in TABLE.windows(2) {
        let key = |at: usize| (pair[at].opcode, pair[at].service_action);
        assert!(key(0) < key(1), "{} before {}", pair[0].name, pair[1].name);
    }
    for row in TABLE {
        let length = match row.opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            group => panic!("group {group}"),
        };
        assert_eq!(row.usage.len(), length, "{}", row.name);
        assert_eq!(row.usage[0], row.opcode, "{}", row.name);
        assert!(row.service_action.is_none_or(|action| row.usage[1] & 0x1f == action), "{}", row.name);
    }
}

#[test]
fn every_row_is_found_by_its_own_cdb_and_nothing_else_is() {
    for opcode in 0..=255 {
        for action in 0..32 {
            let rows: Vec<_> = TABLE.iter().filter(|row| row.opcode == opcode).collect();
            let wanted = rows.iter().find(|row| row.service_action.is_none_or(|own| own == action));
            match find(&cdb(&[opcode, action])) {
                Ok(row) => assert_eq!(Some(row.name), wanted.map(|row| row.name)),
                Err(sense) if rows.is_empty() => assert_eq!(sense, Sense::INVALID_OPERATION_CODE),
                Err(sense) => assert_eq!((sense, wanted.is_none()), (Sense::invalid_cdb_field(1), true)),
            }
        }
    }
}

#[test]
fn naca_is_refused_in_every_command() {
    for row in TABLE {
        let mut cdb = cdb(&[row.opcode, row.service_action.unwrap_or(0)]);
        assert!(checked_row(&cdb).is_ok(), "{}", row.name);
        let control = row.usage.len() - 1;
        cdb[control] = 0x04;
        let refused = Err(Sense::invalid_cdb_field(control as u16));
        assert_eq!(checked_row(&cdb).map(|row| row.name), refused, "{}", row.name);
    }
}

#[test]
fn transfers_past_the_last_block_are_refused_and_empty_ones_do_nothing() {
    for opcode in [0x88, 0x8a] {
        let at = |lba, blocks| decode(&sixteen(opcode, 0, lba, blocks), pieces(1024));
        assert!(matches!(at(CAPACITY - 2, 2), Ok(Some(_))));
        assert_eq!(at(CAPACITY, 0), Ok(None));
        for (lba, blocks) in
            [(CAPACITY - 1, 2), (CAPACITY, 1), (CAPACITY + 1, 0), (u64::MAX, 0), (1 << 63, 1), (u64::MAX, 1)]
        {
            assert_eq!(at(lba, blocks), Err(Sense::LBA_OUT_OF_RANGE), "{opcode:02x} {lba}+{blocks}");
        }
    }
}

#[test]
fn transfers_with_protection_information_or_above_the_limit_are_refused() {
    for opcode in [0x88, 0x8a] {
        assert_eq!(decode(&sixteen(opcode, 0x20, 0, 1), pieces(512)), Err(Sense::invalid_cdb_field(1)));
        let large = sixteen(opcode, 0, 0, TRANSFER_BLOCKS_MAX + 1);
        assert_eq!(decode(&large, vec![]), Err(Sense::INVALID_FIELD_IN_CDB));
    }
    let wanted = Op::Read { range: range(0, u64::from(TRANSFER_BLOCKS_MAX)) };
    assert_eq!(decode(&sixteen(0x88, 0, 0, TRANSFER_BLOCKS_MAX), vec![]), Ok(Some(wanted)));
}

#[test]
fn a_write_carries_its_pieces_unjoined_and_its_fua_bit() {
    let (data, write) = (pieces(1024), sixteen(0x8a, 0x08, 7, 2));
    let wanted = Op::Write { range: range(7, 2), data: data.clone(), fua: true };
    assert_eq!(decode(&write, data), Ok(Some(wanted)));
}

#[test]
fn a_write_with_less_data_than_its_cdb_names_writes_the_blocks_that_came() {
    let write = sixteen(0x8a, 0, 7, 3);
    let wanted = Op::Write { range: range(7, 2), data: pieces(1024), fua: false };
    assert_eq!(decode(&write, pieces(1024)), Ok(Some(wanted)));
    assert_eq!(decode(&write, vec![]), Ok(None));
    assert_eq!(decode(&write, pieces(1025)), Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT));
}

#[test]
fn compare_and_write_takes_as_many_blocks_as_its_cdb_can_name_and_splits_its_data() {
    let Ok(Some(Op::CompareAndWrite { range: held, compare, write, fua })) =
        decode(&compare_and_write(5, 1), pieces(1024))
    else {
        panic!("one block is allowed");
    };
    assert_eq!((held, fua), (range(5, 1), false));
    let all = pieces(1024).concat();
    assert_eq!((compare.concat().as_slice(), write.concat().as_slice()), all.split_at(512));
    assert_eq!(decode(&compare_and_write(5, 0), vec![]), Ok(None));
    let many = compare_and_write(CAPACITY - 255, 255);
    assert_eq!(data_out_bytes(&many), 255 * 1024);
    let Ok(Some(Op::CompareAndWrite { range: held, compare, write, .. })) = decode(&many, pieces(255 * 1024))
    else {
        panic!("255 blocks are allowed");
    };
    assert_eq!(
        (held, compare.concat().len(), write.concat().len()),
        (range(CAPACITY - 255, 255), 130_560, 130_560)
    );
    assert_eq!(decode(&compare_and_write(5, 2), pieces(1024)), Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT));
    assert_eq!(decode(&compare_and_write(CAPACITY, 1), pieces(1024)), Err(Sense::LBA_OUT_OF_RANGE));
}

#[test]
fn write_same_needs_a_length_a_block_and_no_anchor() {
    let block = pieces(512)[0].clone();
    let wanted = Op::WriteSame { range: range(8, 16), block: block.clone(), unmap: true };
    assert_eq!(decode(&sixteen(0x93, 0x08, 8, 16), vec![block]), Ok(Some(wanted)));
    for (flags, blocks) in [(0, 0), (0x10, 1), (0x18, 1), (0x02, 1), (0x04, 1), (0x20, 1)] {
        let refused = decode(&sixteen(0x93, flags, 0, blocks), pieces(512));
        assert_eq!(refused, Err(Sense::INVALID_FIELD_IN_CDB), "{flags:02x} {blocks}");
    }
    let large = decode(&sixteen(0x93, 0, 0, WRITE_SAME_BLOCKS_MAX + 1), pieces(512));
    assert_eq!(large, Err(Sense::INVALID_FIELD_IN_CDB));
    assert_eq!(decode(&sixteen(0x93, 0, CAPACITY, 1), pieces(512)), Err(Sense::LBA_OUT_OF_RANGE));
}

#[test]
fn data_out_of_another_length_than_the_cdb_means_is_refused_where_a_part_makes_no_sense() {
    for (cdb, bytes) in [(compare_and_write(5, 1), 1024), (sixteen(0x93, 0, 0, 1), 512)] {
        for (came, announced) in [(bytes, 2 * bytes), (bytes - 1, bytes - 1), (bytes - 1, bytes), (0, 0)] {
            let data = DataOut { pieces: pieces(came), announced: announced as u64 };
            let refused = decode_announced(BOUNDS, &cdb, data);
            assert_eq!(refused, Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT), "{came} of {announced}");
        }
    }
    let wrapped = DataOut { pieces: vec![], announced: 2 * 256 * 512 };
    let refused = decode_announced(BOUNDS, &compare_and_write(5, 0), wrapped);
    assert_eq!(refused, Err(Sense::INVALID_FIELD_IN_CDB));
}

#[test]
fn write_same_without_a_data_out_buffer_writes_zeros() {
    let no_data = sixteen(0x93, 0x01, 8, 16);
    assert_eq!(data_out_bytes(&no_data), 0);
    let wanted = Op::WriteSame { range: range(8, 16), block: Bytes::from(vec![0; 512]), unmap: false };
    assert_eq!(decode(&no_data, vec![]), Ok(Some(wanted)));
}

#[test]
fn unmapped_ranges_are_ascending_and_what_touches_is_merged() {
    let (cdb, data) = unmap(&[(100, 8), (0, 4), (4, 4), (104, 20), (50, 0), (101, 1)]);
    assert_eq!(data_out_bytes(&cdb), data[0].len() as u64);
    let wanted = Op::Unmap { ranges: vec![range(0, 8), range(100, 24)] };
    assert_eq!(decode(&cdb, data), Ok(Some(wanted)));
    let (cdb, data) = unmap(&[(CAPACITY, 0)]);
    assert_eq!(decode(&cdb, data), Ok(None));
}

#[test]
fn unmap_is_held_to_its_limits() {
    let all_descriptors = vec![(0, 1); usize::from(UNMAP_DESCRIPTORS_MAX)];
    let one_more = vec![(0, 1); usize::from(UNMAP_DESCRIPTORS_MAX) + 1];
    for (descriptors, wanted) in [
        (&all_descriptors[..], Ok(Some(Op::Unmap { ranges: vec![range(0, 1)] }))),
        (&one_more[..], Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST)),
        (&[(0, UNMAP_BLOCKS_MAX), (0, 1)], Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST)),
        (&[(0, 1), (CAPACITY, 1)], Err(Sense::LBA_OUT_OF_RANGE)),
        (&[(u64::MAX, u32::MAX)], Err(Sense::LBA_OUT_OF_RANGE)),
    ] {
        let (cdb, data) = unmap(descriptors);
        assert_eq!(decode(&cdb, data), wanted);
    }
}

#[test]
fn an_unmap_list_shorter_than_its_cdb_says_is_refused_and_an_empty_one_is_not() {
    let (cdb, mut data) = unmap(&[(0, 8)]);
    data[0].truncate(23);
    assert_eq!(decode(&cdb, data), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
    assert_eq!(decode(&sixteen(0x42, 0, 0, 0), vec![]), Ok(None));
    assert_eq!(decode(&sixteen(0x42, 1, 0, 0), vec![]), Err(Sense::INVALID_FIELD_IN_CDB));
}

#[test]
fn a_read_only_lun_refuses_what_would_change_it_before_looking_at_the_data() {
    let read_only = Bounds { read_only: true, ..BOUNDS };
    let (unmap, list) = unmap(&[(0, 8)]);
    for (cdb, data) in [
        (sixteen(0x8a, 0, 0, 1), pieces(512)),
        (sixteen(0x93, 0, 0, 1), pieces(512)),
        (sixteen(0x93, 0x08, 0, 1), vec![]),
        (compare_and_write(0, 1), pieces(1024)),
        (unmap, list),
    ] {
        assert_eq!(decode_for(read_only, &cdb, data), Err(Sense::WRITE_PROTECTED), "{cdb:02x?}");
    }
    assert!(matches!(decode_for(read_only, &sixteen(0x88, 0, 0, 1), vec![]), Ok(Some(_))));
    let flush = decode_for(read_only, &sixteen(0x91, 0, 0, 0), vec![]);
    assert_eq!(flush, Ok(Some(Op::SynchronizeCache)));
}

#[test]
fn synchronize_cache_checks_its_range() {
    assert_eq!(decode(&sixteen(0x91, 0x02, 0, 0), vec![]), Ok(Some(Op::SynchronizeCache)));
    assert_eq!(decode(&sixteen(0x91, 0, CAPACITY, 1), vec![]), Err(Sense::LBA_OUT_OF_RANGE));
}

#[test]
fn target_port_groups_follow_role_and_service() {
    let ask = cdb(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0]);
    for (role, serving, peer_serving, index, states) in [
        (Role::Main, true, true, 0, [0, 1]),
        (Role::Sub, true, true, 0, [1, 0]),
        (Role::Main, true, true, 1, [1, 0]),
        (Role::Sub, true, true, 1, [0, 1]),
        (Role::Main, true, false, 0, [0, 3]),
        (Role::Sub, false, true, 0, [3, 0]),
        (Role::Sub, false, false, 1, [3, 3]),
    ] {
        let view = LunView { role, serving, peer_serving, controller_index: index, ..view() };
        let data = describe(&view, &ask).unwrap();
        assert_eq!([data[4], data[16]], states, "{role:?} {serving} {peer_serving} {index}");
        assert_eq!([data[7], data[19]], [1, 2]);
    }
}

#[test]
fn parameter_data_is_cut_to_the_allocation_length() {
    for (ask, whole) in [(&[0x12, 0, 0][..], 96), (&[0x12, 1, 0x83][..], 0x83), (&[0x12, 1, 0xb0][..], 64)] {
        for allocation in [0, 1, 4, 36, 255] {
            let mut cdb = cdb(ask);
            cdb[4] = allocation;
            let length = describe(&view(), &cdb).unwrap().len();
            assert!(length == usize::from(allocation) || length < usize::from(allocation) && length <= whole);
        }
    }
    let mut capacity = sixteen(0x9e, 0x10, 0, 32);
    assert_eq!(describe(&view(), &capacity).unwrap().len(), 32);
    capacity[13] = 12;
    assert_eq!(describe(&view(), &capacity).unwrap().len(), 12);
}

#[test]
fn lba_status_is_asked_of_main_for_blocks_that_exist() {
    let at = |lba, allocation| decode(&sixteen(0x9e, 0x12, lba, allocation), vec![]);
    let what = Report::LbaStatus { start: Lba(CAPACITY - 1) };
    assert_eq!(at(CAPACITY - 1, 24), Ok(Some(Op::Report { what, allocation: 24 })));
    assert_eq!(at(0, 0), Ok(None));
    assert_eq!(at(CAPACITY, 24), Err(Sense::LBA_OUT_OF_RANGE));
    assert_eq!(at(u64::MAX, 0), Err(Sense::LBA_OUT_OF_RANGE));
}

#[test]
fn inquiry_refuses_pages_that_do_not_exist() {
    for (ask, byte) in
        [([0x12, 0, 0x80, 0, 255, 0], 2), ([0x12, 2, 0, 0, 255, 0], 1), ([0x12, 1, 0xb5, 0, 255, 0], 2)]
    {
        assert_eq!(describe(&view(), &cdb(&ask)), Err(Sense::invalid_cdb_field(byte)), "{ask:02x?}");
    }
}

#[test]
fn one_command_reports_follow_the_reporting_options() {
    let ask = |options, opcode, action| {
        describe(&view(), &cdb(&[0xa3, 0x0c, options, opcode, 0, action, 0, 0, 1, 0])).map(|data| data[1] & 7)
    };
    let refused = Err(Sense::invalid_cdb_field(2));
    for (options, opcode, action, wanted) in [
        (1, 0x28, 0, Ok(3)),
        (1, 0x28, 9, Ok(3)),
        (1, 0x9e, 0x10, refused),
        (2, 0x9e, 0x10, Ok(3)),
        (2, 0x9e, 0x11, Ok(1)),
        (2, 0x9e, 0x12, Ok(3)),
        (2, 0xa3, 0x0d, Ok(3)),
        (2, 0x28, 0, refused),
        (3, 0x28, 0, Ok(3)),
        (3, 0x28, 1, Ok(1)),
        (3, 0x9e, 0x10, Ok(3)),
        (1, 0xff, 0, Ok(1)),
        (2, 0xff, 0, Ok(1)),
        (4, 0x28, 0, refused),
    ] {
        assert_eq!(ask(options, opcode, action), wanted, "{options} {opcode:02x} {action:02x}");
    }
}

#[test]
fn a_unit_that_is_absent_answers_inquiry_report_luns_and_request_sense_only() {
    let first_bytes = |outcome, count| match outcome {
        Outcome::Good(data) => data.concat()[..count].to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(first_bytes(absent(&[0], &cdb(&[0x12, 0, 0, 0, 36])), 1), [0x7f]);
    let luns = cdb(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(first_bytes(absent(&[3], &luns), 16)[8..], [0, 3, 0, 0, 0, 0, 0, 0]);
    let sense = first_bytes(absent(&[], &cdb(&[0x03, 0, 0, 0, 18])), 18);
    assert_eq!((sense[2], sense[12], sense[13]), (0x05, 0x25, 0x00));
    assert_eq!(absent(&[], &cdb(&[0x28])), Outcome::Check(Sense::LUN_NOT_SUPPORTED));
    assert_eq!(first_bytes(well_known(&[3], &luns), 16)[8..], [0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(well_known(&[], &cdb(&[0x28])), Outcome::Check(Sense::INVALID_OPERATION_CODE));
}
