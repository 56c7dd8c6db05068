//! Lengths and parameter lists that are not what they say.

use crate::{Beside, Expected, cdb, command, judge, log_in, write_10};

type Lying = (&'static str, [u8; 16], Vec<u8>, Expected);

/// MODE SELECT (SPC-4 6.11) with lists that are not what they or their CDBs say.
fn lying_mode_lists() -> [Lying; 6] {
    let six = |bytes: u8| cdb(&[0x15, 0x10, 0, 0, bytes]);
    let ten = |bytes: u16| cdb(&[0x55, 0x10, 0, 0, 0, 0, 0, (bytes >> 8) as u8, bytes as u8]);
    let length = Expected::Status(2, 5, 0x1a00);
    let field = Expected::Status(2, 5, 0x2600);
    [
        ("a MODE SELECT list that is not all there", six(0xff), vec![0; 24], length),
        ("a MODE SELECT (10) list of 64 KiB that is not there", ten(0xffff), vec![0; 8], length),
        ("a block descriptor longer than its list", six(4), vec![0, 0, 0, 0xf8], length),
        ("half a page", six(7), vec![0, 0, 0, 0, 0x08, 0x12, 0x04], length),
        ("a page that there is not", six(6), vec![0, 0, 0, 0, 0x3c, 0], field),
        (
            "bits that cannot be changed",
            six(24),
            [&[0, 0, 0, 0, 0x08, 0x12][..], &[0xff; 18]].concat(),
            field,
        ),
    ]
}

/// PERSISTENT RESERVE OUT (SPC-4 6.16), likewise.
fn lying_keys() -> [Lying; 5] {
    let out = |action: u8, bytes: u32| {
        let mut cdb = cdb(&[0x5f, action, 0x05]);
        cdb[5..9].copy_from_slice(&bytes.to_be_bytes());
        cdb
    };
    // Keys, then what the action takes, then a TransportID whose length lies.
    let list = |flags: u8, moved: [u8; 4], ids: &[u8]| {
        let mut list = vec![7; 16];
        list.extend_from_slice(&[0, 0, 0, 0]);
        list.extend_from_slice(&if flags == 0 { moved } else { [flags, 0, 0, 0] });
        list.extend_from_slice(ids);
        list
    };
    let id = [&[0x45, 0, 0xff, 0xff][..], b"iqn.a,i,0x0123456789\0"].concat();
    let registered = [&[0, 0, 0, id.len() as u8][..], &id].concat();
    let length = Expected::Status(2, 5, 0x1a00);
    let field = Expected::Status(2, 5, 0x2600);
    [
        ("keys of 23 bytes", out(0, 23), vec![0; 23], length),
        ("keys that are not all there", out(0, 24), vec![0; 8], length),
        ("keys of 4 GiB", out(0, u32::MAX), vec![0; 24], length),
        ("a TransportID longer than its list", out(0, 24 + 4 + 25), list(0x08, [0; 4], &registered), field),
        ("a move to a TransportID longer than its list", out(7, 24 + 25), list(0, [0, 0, 0, 25], &id), field),
    ]
}

#[test]
fn lying_lengths_and_parameter_lists_are_answered() {
    let mut beside = Beside::start("abuse-lengths");
    let unmap = |bytes: u16| cdb(&[0x42, 0, 0, 0, 0, 0, 0, (bytes >> 8) as u8, bytes as u8]);
    let lying = [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 16]].concat();
    let nothing = Expected::Good(0);
    // Without data: allocation length 0 is no error (SPC-4 4.3.5.6).
    for (name, bytes, expected) in [
        ("MODE SENSE (6)", &[0x1a, 0, 0x3f, 0, 0][..], nothing),
        ("MODE SENSE (10)", &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 0], nothing),
        ("INQUIRY", &[0x12, 0, 0, 0, 0], nothing),
        ("INQUIRY of a page", &[0x12, 1, 0x83, 0, 0], nothing),
        ("REQUEST SENSE", &[0x03, 0, 0, 0, 0], nothing),
        // Below 16 it is one (SPC-4 6.33).
        ("REPORT LUNS", &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Expected::Status(2, 5, 0x2400)),
        ("READ CAPACITY (16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], nothing),
        ("READ (10) of no blocks", &[0x28, 0, 0, 0, 0, 0, 0, 0, 0], nothing),
    ] {
        for (flags, expected_length) in [(0, 0), (0x40, 0), (0x40, 4096)] {
            let mut raw = log_in(beside.portal(), "");
            raw.send(command(flags, 1, 2, &cdb(bytes), expected_length), &[]).unwrap();
            judge(&mut raw, expected, name);
        }
    }
    let unmap_lists = [
        ("an UNMAP list longer than it is", unmap(24), lying, Expected::Status(2, 5, 0x1a00)),
        ("an UNMAP list of 7 bytes", unmap(7), vec![0; 7], Expected::Status(2, 5, 0x1a00)),
        ("an UNMAP list that is not all there", unmap(0xffff), vec![0; 24], Expected::Status(2, 5, 0x1a00)),
    ];
    for (name, cdb, data, expected) in unmap_lists.into_iter().chain(lying_mode_lists()).chain(lying_keys()) {
        let mut raw = log_in(beside.portal(), "");
        raw.send(command(0x20, 1, 2, &cdb, data.len() as u32), &data).unwrap();
        judge(&mut raw, expected, name);
        beside.is_undisturbed(name);
    }
    // More expected than any command yields, less than it yields, and more data than it takes.
    let read_10 = cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 8]);
    for (expected_length, bytes) in [(u32::MAX, 4096), (512, 512), (1, 1)] {
        let mut raw = log_in(beside.portal(), "");
        raw.send(command(0x40, 1, 2, &read_10, expected_length), &[]).unwrap();
        judge(&mut raw, Expected::Good(bytes), "a length that lies");
    }
    let mut raw = log_in(beside.portal(), "");
    raw.send(command(0x20, 1, 2, &write_10(1), 4096), &[3; 4096]).unwrap();
    judge(&mut raw, Expected::Good(0), "more data than blocks");
    beside.is_undisturbed("lying lengths");
    beside.end();
}
