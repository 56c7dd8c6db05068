//! VERIFY, WRITE AND VERIFY, ORWRITE, WRITE ATOMIC, PRE-FETCH, START STOP UNIT and LOG SENSE: what each CDB becomes.

use bytes::Bytes;
use controller::command::{Data, Op};
use protocol::block::BlockRange;
use protocol::interlink::Report;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::sense::Sense;

use super::limits::{ATOMIC_BLOCKS_MAX, PREFETCH_BLOCKS_MAX, TRANSFER_BLOCKS_MAX};
use super::medium::{Bounds, DataOut, Decoded};
use super::state::Told;
use super::table::Run;
use super::{checked_row, data_out_bytes};

const CAPACITY: u64 = 1 << 20;

/// The command of each length with an address and a length where they belong.
fn cdb(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    match opcode >> 5 {
        1 => {
            cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
            cdb[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
        }
        5 => {
            cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
            cdb[6..10].copy_from_slice(&blocks.to_be_bytes());
        }
        _ => {
            cdb[2..10].copy_from_slice(&lba.to_be_bytes());
            cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        }
    }
    cdb
}

fn decode_on(read_only: bool, cdb: &Cdb, bytes: usize) -> Decoded {
    let data = DataOut { pieces: data(bytes), announced: bytes as u64 };
    match checked_row(cdb)?.run {
        Run::Medium(decode) => {
            decode(cdb, Bounds { blocks: CAPACITY, read_only, physical_block_exponent: 0 }, data)
        }
        _ => panic!("{:02x} does not touch blocks", cdb[0]),
    }
}

fn decode(cdb: &Cdb, bytes: usize) -> Decoded {
    decode_on(false, cdb, bytes)
}

/// `bytes` bytes of data-out, as one piece.
fn data(bytes: usize) -> Data {
    if bytes == 0 { Data::new() } else { vec![Bytes::from(vec![7; bytes])] }
}

fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

const NONE: u8 = 0x00;
const WHOLE: u8 = 0x02;
const RESERVED: u8 = 0x04;
const ONE_BLOCK: u8 = 0x06;

#[test]
fn verify_compares_with_nothing_with_all_of_its_data_or_with_one_block() {
    for opcode in [0x2f, 0xaf, 0x8f] {
        for (check, bytes) in [(NONE, 0), (WHOLE, 3 * 512), (ONE_BLOCK, 512)] {
            let verify = cdb(opcode, check | 0x10, 9, 3);
            assert_eq!(data_out_bytes(&verify), bytes as u64, "{opcode:02x} {check:02x}");
            let wanted = Op::Verify { range: range(9, 3), expected: data(bytes) };
            assert_eq!(decode(&verify, bytes), Ok(Some(wanted)), "{opcode:02x} {check:02x}");
            assert_eq!(decode(&cdb(opcode, check, CAPACITY, 0), 0), Ok(None));
            assert_eq!(decode(&cdb(opcode, check, CAPACITY, 1), bytes), Err(Sense::LBA_OUT_OF_RANGE));
            if bytes > 0 {
                for wrong in [0, bytes - 1, bytes + 512] {
                    assert_eq!(decode(&verify, wrong), Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT));
                }
            }
        }
        for flags in [RESERVED, 0x20, 0xe0] {
            assert_eq!(decode(&cdb(opcode, flags, 0, 1), 0), Err(Sense::invalid_cdb_field(1)));
        }
    }
}

#[test]
fn verify_may_be_asked_of_a_read_only_lun_and_is_held_to_the_transfer_limit() {
    assert!(matches!(decode_on(true, &cdb(0x8f, NONE, 0, 1), 0), Ok(Some(Op::Verify { .. }))));
    let most = cdb(0x8f, NONE, 0, TRANSFER_BLOCKS_MAX);
    assert!(matches!(decode(&most, 0), Ok(Some(Op::Verify { .. }))));
    for check in [NONE, WHOLE, ONE_BLOCK] {
        let more = cdb(0x8f, check, 0, TRANSFER_BLOCKS_MAX + 1);
        assert_eq!((data_out_bytes(&more), decode(&more, 0)), (0, Err(Sense::INVALID_FIELD_IN_CDB)));
    }
}

/// WRITE ATOMIC (16).
fn write_atomic(flags: u8, lba: u64, boundary: u16, blocks: u16) -> [u8; 16] {
    let mut cdb = cdb(0x9c, flags, lba, 0);
    cdb[10..12].copy_from_slice(&boundary.to_be_bytes());
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn write_atomic_takes_all_of_its_data_or_none() {
    let write = write_atomic(0, 9, 0, 3);
    assert_eq!(data_out_bytes(&write), 1536);
    let made = |fua| Ok(Some(Op::WriteAtomic { range: range(9, 3), data: data(1536), fua }));
    assert_eq!(decode(&write, 1536), made(false));
    assert_eq!(decode(&write_atomic(0x18, 9, 0, 3), 1536), made(true), "DPO and FUA");
    for bytes in [0, 512, 1024, 1535] {
        assert_eq!(decode(&write, bytes), Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT), "{bytes}");
    }
    assert_eq!(decode(&write_atomic(0, CAPACITY, 0, 0), 0), Ok(None));
    assert_eq!(decode(&write_atomic(0, CAPACITY - 1, 0, 2), 1024), Err(Sense::LBA_OUT_OF_RANGE));
    assert_eq!(decode(&write_atomic(0x20, 9, 0, 3), 1536), Err(Sense::invalid_cdb_field(1)));
    assert_eq!(decode(&write_atomic(0, 9, 1, 3), 1536), Err(Sense::invalid_cdb_field(10)), "a boundary");
    assert_eq!(decode_on(true, &write, 1536), Err(Sense::WRITE_PROTECTED));
    let most = ATOMIC_BLOCKS_MAX as u16;
    let whole = usize::from(most) * 512;
    assert!(matches!(decode(&write_atomic(0, 0, 0, most), whole), Ok(Some(Op::WriteAtomic { .. }))));
    let more = write_atomic(0, 0, 0, most + 1);
    assert_eq!((data_out_bytes(&more), decode(&more, 0)), (0, Err(Sense::INVALID_FIELD_IN_CDB)));
}

#[test]
fn write_and_verify_and_orwrite_take_data_as_write_does() {
    let write_and_verify = |range, data| Op::WriteAndVerify { range, data };
    let or_write = |range, data| Op::OrWrite { range, data, fua: false };
    for (opcode, made) in [
        (0x2e, &write_and_verify as &dyn Fn(BlockRange, Data) -> Op),
        (0xae, &write_and_verify),
        (0x8e, &write_and_verify),
        (0x8b, &or_write),
    ] {
        let write = cdb(opcode, 0, 9, 3);
        assert_eq!(data_out_bytes(&write), 3 * 512);
        for blocks in 1..=3 {
            let wanted = made(range(9, blocks), data(blocks as usize * 512));
            assert_eq!(decode(&write, blocks as usize * 512), Ok(Some(wanted)), "{opcode:02x} {blocks}");
        }
        assert_eq!(decode(&write, 0), Ok(None));
        assert_eq!(decode(&write, 100), Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT));
        assert_eq!(decode(&cdb(opcode, 0, 9, 0), 0), Ok(None));
        assert_eq!(decode(&cdb(opcode, 0, CAPACITY - 1, 2), 1024), Err(Sense::LBA_OUT_OF_RANGE));
        assert_eq!(decode(&cdb(opcode, 0x20, 9, 3), 1536), Err(Sense::invalid_cdb_field(1)));
        assert_eq!(decode_on(true, &write, 1536), Err(Sense::WRITE_PROTECTED));
    }
    assert!(matches!(decode(&cdb(0x8b, 0x08, 9, 3), 1536), Ok(Some(Op::OrWrite { fua: true, .. }))));
    let most = cdb(0x8b, 0, 0, ATOMIC_BLOCKS_MAX);
    assert!(matches!(decode(&most, ATOMIC_BLOCKS_MAX as usize * 512), Ok(Some(Op::OrWrite { .. }))));
    let more = cdb(0x8b, 0, 0, ATOMIC_BLOCKS_MAX + 1);
    assert_eq!((data_out_bytes(&more), decode(&more, 0)), (0, Err(Sense::INVALID_FIELD_IN_CDB)));
    for opcode in [0x2e, 0xae, 0x8e] {
        assert!(matches!(decode(&cdb(opcode, WHOLE, 9, 3), 1536), Ok(Some(Op::WriteAndVerify { .. }))));
        for check in [RESERVED, ONE_BLOCK] {
            assert_eq!(decode(&cdb(opcode, check, 9, 3), 1536), Err(Sense::invalid_cdb_field(1)));
        }
    }
}

#[test]
fn prefetch_of_no_length_reaches_the_last_block_and_reads_ahead_so_far_only() {
    for opcode in [0x34, 0x90] {
        let wanted = |start, blocks| Ok(Some(Op::Prefetch { range: range(start, blocks) }));
        assert_eq!(decode(&cdb(opcode, 0, 9, 3), 0), wanted(9, 3));
        assert_eq!(decode(&cdb(opcode, 0x02, CAPACITY - 9, 0), 0), wanted(CAPACITY - 9, 9));
        assert_eq!(decode(&cdb(opcode, 0, 0, 0), 0), wanted(0, u64::from(PREFETCH_BLOCKS_MAX)));
        assert_eq!(decode(&cdb(opcode, 0, CAPACITY, 0), 0), Ok(None));
        assert_eq!(decode(&cdb(opcode, 0, CAPACITY, 1), 0), Err(Sense::LBA_OUT_OF_RANGE));
        assert_eq!(decode(&cdb(opcode, 0, CAPACITY + 1, 0), 0), Err(Sense::LBA_OUT_OF_RANGE));
    }
    let more = decode(&cdb(0x90, 0, 0, PREFETCH_BLOCKS_MAX + 1), 0);
    assert_eq!(more, Err(Sense::INVALID_FIELD_IN_CDB));
}

#[test]
fn the_unit_is_started_and_stopped_but_has_no_power_conditions_and_nothing_to_eject() {
    for (byte, wanted) in [
        (0x00, Ok(Some(Op::StartStop { start: false }))),
        (0x01, Ok(Some(Op::StartStop { start: true }))),
        (0x04, Ok(Some(Op::StartStop { start: false }))),
        (0x02, Err(Sense::invalid_cdb_field(4))),
        (0x03, Err(Sense::invalid_cdb_field(4))),
        (0x10, Err(Sense::invalid_cdb_field(4))),
        (0x71, Err(Sense::invalid_cdb_field(4))),
    ] {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[4]) = (0x1b, 0x01, byte);
        assert_eq!(decode(&cdb, 0), wanted, "{byte:02x}");
    }
}

#[test]
fn log_sense_lists_its_pages_and_asks_main_for_what_changes() {
    let ask = |flags, page, subpage, pointer, allocation| {
        let mut cdb = [0; 16];
        cdb[..10].copy_from_slice(&[0x4d, flags, page, subpage, 0, 0, pointer, 0, allocation, 0]);
        match checked_row(&cdb)?.run {
            Run::Tell(told) => told(&cdb),
            _ => panic!("LOG SENSE is told"),
        }
    };
    assert_eq!(ask(0, 0x40, 0, 0, 255), Ok(Told::Here(vec![0x80, 0, 0, 2, 0x00, 0x0c])));
    assert_eq!(ask(0, 0x40, 0, 0, 4), Ok(Told::Here(vec![0x80, 0, 0, 2])));
    assert!(matches!(ask(0, 0x40, 0xff, 0, 255), Ok(Told::Here(list)) if list.len() == 12));
    let what = Report::Provisioning { pointer: 1 };
    assert_eq!(ask(0, 0x4c, 0, 1, 64), Ok(Told::ByMain(Op::Report { what, allocation: 64 })));
    assert_eq!(ask(0, 0x4c, 0, 1, 0), Ok(Told::Here(vec![])));
    for (flags, page, subpage, pointer, byte) in [
        (1, 0x40, 0, 0, 1),
        (2, 0x40, 0, 0, 1),
        (0, 0x4d, 0, 0, 2),
        (0, 0x40, 1, 0, 3),
        (0, 0x4c, 0, 3, 5),
        (0, 0x40, 0, 1, 5),
    ] {
        assert_eq!(ask(flags, page, subpage, pointer, 255), Err(Sense::invalid_cdb_field(byte)));
    }
}

#[test]
fn write_atomic_is_of_whole_physical_blocks() {
    let bounds = Bounds { blocks: CAPACITY, read_only: false, physical_block_exponent: 3 };
    for (lba, blocks, right) in
        [(0, 8, true), (16, 24, true), (1, 8, false), (8, 7, false), (0, 1, false), (12, 4, false)]
    {
        let mut cdb = [0; 16];
        cdb[0] = 0x9c;
        cdb[9] = lba;
        cdb[13] = blocks;
        let bytes = usize::from(blocks) * 512;
        let data = DataOut { pieces: data(bytes), announced: bytes as u64 };
        let decoded = super::checked::write_atomic(&cdb, bounds, data);
        let refused = decoded == Err(Sense::INVALID_FIELD_IN_CDB);
        assert_eq!(refused, !right, "{lba} {blocks}: {decoded:?}");
    }
}
