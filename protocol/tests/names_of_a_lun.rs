//! The name that each of the tools of a Linux host picks from VPD page 83h: there is to be one only. Their rules,
//! written down anew: udev's scsi_id (systemd 252), the udev rules of sg3_utils 1.46, multipath-tools 0.9.4, Linux 6.1.

#![allow(clippy::unwrap_used, reason = "tests")]

use protocol::scsi::extended_copy::CopyLimits;
use protocol::scsi::vpd::{BlockLimits, DEVICE_IDENTIFICATION, Identity, page, wwid};

const NAA: u64 = 0x3123_4567_89ab_cdef;

/// A designator of the LUN: its DESIGNATOR TYPE and its bytes.
type Designator = (u8, Vec<u8>);

const T10: u8 = 1;
const EUI_64: u8 = 2;
const NAA_TYPE: u8 = 3;
const SCSI_NAME: u8 = 8;

/// The designators of the page that are of the LUN and not of a port of it.
fn designators(page: &[u8]) -> Vec<Designator> {
    let mut rest = &page[4..];
    let mut found = Vec::new();
    while let [_, kind, _, length, body @ ..] = rest {
        let (value, behind) = body.split_at(usize::from(*length));
        if kind & 0x30 == 0 {
            found.push((kind & 0x0f, value.to_vec()));
        }
        rest = behind;
    }
    found
}

/// The best by `rank`; of equals the first.
fn first_of(found: &[Designator], rank: impl Fn(&Designator) -> u8) -> &Designator {
    found.iter().rev().max_by_key(|designator| rank(designator)).unwrap()
}

/// A name as all of them write it: the type, then text or hexadecimal digits.
fn named((kind, value): &Designator) -> String {
    let text = || String::from_utf8_lossy(value).replace(' ', "_");
    let digits = || value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{kind}{}", if [T10, SCSI_NAME].contains(kind) { text() } else { digits() })
}

/// What kind of NAA it is, and zero for another designator.
fn naa((kind, value): &Designator) -> u8 {
    if *kind == NAA_TYPE { value[0] >> 4 } else { 0 }
}

fn scsi_id(found: &[Designator]) -> String {
    named(first_of(found, |designator| match (designator.0, naa(designator)) {
        (_, 6) => 9,
        (_, 5) => 8,
        (NAA_TYPE, _) => 7,
        (EUI_64, _) => 6,
        (T10, _) => 5,
        _ => 0,
    }))
}

fn rules_of_sg3_utils(found: &[Designator]) -> String {
    named(first_of(found, |designator| match (designator.0, naa(designator)) {
        (_, 6) => 9,
        (_, 5) => 8,
        (_, 2) => 7,
        (EUI_64, _) => 6,
        (SCSI_NAME, _) => 5,
        (T10, _) => 4,
        (_, 3) => 3,
        _ => 0,
    }))
}

fn multipath_tools(found: &[Designator]) -> String {
    named(first_of(found, |designator| match (designator.0, naa(designator)) {
        (_, 6) => 8,
        (_, 5) => 7,
        (_, 2) => 6,
        (EUI_64, _) => 4,
        (SCSI_NAME, _) => 3,
        (T10, _) => 2,
        (_, 3) => 1,
        _ => 0,
    }))
}

/// Its `scsi_vpd_lun_id`: of equals the last.
fn linux(found: &[Designator]) -> String {
    let rank = |designator: &Designator| match (designator.0, naa(designator), designator.1.len()) {
        (SCSI_NAME, ..) => 9,
        (_, 6, _) => 8,
        (EUI_64, _, 16) => 7,
        (EUI_64, _, 12) => 6,
        (_, 5, _) => 5,
        (_, 4, _) => 4,
        (EUI_64, _, 8) => 3,
        (_, 3, _) | (T10, ..) => 1,
        _ => 0,
    };
    named(found.iter().max_by_key(|designator| rank(designator)).unwrap())
}

fn names(found: &[Designator]) -> [String; 4] {
    [scsi_id(found), rules_of_sg3_utils(found), multipath_tools(found), linux(found)]
}

fn page_83h() -> Vec<u8> {
    let limits = BlockLimits {
        compare_and_write_max: 1,
        transfer_granularity: 1,
        transfer_max: 1,
        transfer_optimal: 1,
        prefetch_max: 1,
        unmap_max: 1,
        unmap_descriptors_max: 1,
        unmap_granularity: 1,
        write_same_max: 1,
        atomic_max: 1,
        copy: CopyLimits {
            cscds_max: 1,
            segments_max: 1,
            copies_max: 1,
            named_copies_max: 1,
            block_bytes: 512,
        },
        atomic_granularity: 0,
    };
    page(DEVICE_IDENTIFICATION, &Identity { serial: "serial", naa: NAA, port: 1 }, &limits).unwrap()
}

#[test]
fn every_tool_of_a_linux_host_gives_a_lun_the_same_name() {
    assert_eq!(names(&designators(&page_83h())), [(); 4].map(|()| wwid(NAA)));
    assert_eq!(wwid(NAA), "33123456789abcdef");
}

#[test]
fn with_a_vendor_designator_the_same_lun_would_have_two_names() {
    let mut found = designators(&page_83h());
    found.push((T10, b"TWINLUN VIRTUAL-DISK 1".to_vec()));
    let [scsi_id, others @ ..] = names(&found);
    assert_eq!(scsi_id, wwid(NAA));
    assert_eq!(others, [(); 3].map(|()| "1TWINLUN_VIRTUAL-DISK_1".to_owned()));
}
