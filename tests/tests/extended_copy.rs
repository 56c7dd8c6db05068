//! EXTENDED COPY between LUNs of real controllers, for hosts of either.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Response, Settings, cdb};
use twinlun_tests::judge;
use twinlun_tests::random::Random;

const MIB: u64 = 64;
const MIB_BLOCKS: u64 = 2048;

/// Each has another main; the third has one copy.
const LUNS: [Lun; 3] = [
    Lun { number: 0, mib: MIB, main: 0, mirror: true },
    Lun { number: 1, mib: MIB, main: 1, mirror: true },
    Lun { number: 2, mib: MIB, main: 1, mirror: false },
];

const WIDE: &str = "iqn.1993-08.org.debian:wide";
const NARROW: &str = "iqn.1993-08.org.debian:narrow";

/// One host may see everything, another not the second LUN.
const ACCESS: &str = "[[access.host]]\nname = \"iqn.1993-08.org.debian:wide\"\n\
     [[access.host]]\nname = \"iqn.1993-08.org.debian:narrow\"\nluns = [0, 2]\n";

struct Host {
    session: Session,
}

impl Host {
    fn log_in(appliance: &Appliance, controller: usize, name: &str) -> Self {
        Self::log_in_as(appliance, controller, name, controller as u16)
    }

    /// In a session of this number.
    fn log_in_as(appliance: &Appliance, controller: usize, name: &str, session: u16) -> Self {
        let settings = Settings::linux(name, IQN, session);
        Self { session: Session::connect(appliance.portals[controller], settings).unwrap() }
    }

    fn execute(&mut self, lun: u16, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Response {
        self.session.execute(&Request { lun, cdb, out, in_bytes }).unwrap()
    }

    fn good(&mut self, lun: u16, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Vec<u8> {
        let response = self.execute(lun, cdb, out, in_bytes);
        assert!(response.is_good(), "{response:?}");
        response.data
    }

    fn naa(&mut self, lun: u16) -> u64 {
        let page = self.good(lun, Cdb::inquiry(Some(0x83), 255), Vec::new(), 255);
        u64::from_be_bytes(*page[8..].first_chunk().unwrap())
    }

    fn write(&mut self, lun: u16, lba: u64, data: &[u8]) {
        for (part, at) in data.chunks(512 * MIB_BLOCKS as usize).zip(0..) {
            let cdb = Cdb::write_16(lba + at * MIB_BLOCKS, (part.len() / 512) as u32, false);
            self.good(lun, cdb, part.to_vec(), 0);
        }
    }

    fn read(&mut self, lun: u16, lba: u64, mib: u64) -> Vec<u8> {
        let mut all = Vec::new();
        for at in 0..mib {
            let cdb = Cdb::read_16(lba + at * MIB_BLOCKS, MIB_BLOCKS as u32);
            all.extend(self.good(lun, cdb, Vec::new(), 1 << 20));
        }
        all
    }

    fn copy(&mut self, lun: u16, list: Vec<u8>) -> Response {
        self.execute(lun, Cdb::extended_copy(list.len() as u32), list, 0)
    }
}

fn content(seed: u64, mib: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    // Some of it zeros.
    let words = (0..mib << 17).map(|at| if at >> 14 & 7 == 3 { 0 } else { random.next() });
    words.flat_map(u64::to_be_bytes).collect()
}

#[test]
fn hosts_of_either_controller_copy_between_luns_of_different_mains() {
    let appliance = Appliance::start_with("extended-copy", &LUNS, Processes::Two, ACCESS, &[])
        .unwrap_or_else(|error| panic!("{error}"));
    let mut hosts = [0, 1].map(|controller| Host::log_in(&appliance, controller, WIDE));
    let ends = [0, 1, 2].map(|lun| cdb::copy_end(hosts[0].naa(lun)));
    let wanted = content(1, 48);
    hosts[0].write(0, 8, &wanted);
    for (controller, from, to) in [(0, 0, 1), (1, 0, 1), (0, 1, 2), (1, 2, 0)] {
        // Two segments, which together are all of it; the command goes to the source or to the destination.
        let half = 24 * MIB_BLOCKS;
        let lba = |lun: u16| 8 + u64::from(lun) * 1000;
        let segments =
            [0, half].map(|at| cdb::copy_segment((from, to), half as u16, (lba(from) + at, lba(to) + at)));
        let asked = if controller == 0 { from } else { to };
        let host = &mut hosts[controller];
        let response = host.copy(asked, cdb::copy_list(controller as u8, &ends, &segments));
        assert!(response.is_good(), "{response:?}");
        let status = host.good(asked, Cdb::receive_copy_results(0, controller as u8, 12), Vec::new(), 12);
        let bytes = (48_u32 << 20).to_be_bytes();
        assert_eq!(status, [&[0, 0, 0, 8, 1, 0, 2, 0][..], &bytes].concat());
        for host in &mut hosts {
            assert!(host.read(to, lba(to), 48) == wanted, "{from} to {to} through {controller}");
        }
        // The next copy shows something new.
        let zeros = vec![0; 1 << 20];
        (0..if to == 1 && controller == 0 { 48 } else { 0 })
            .for_each(|at| hosts[1].write(1, lba(1) + at * MIB_BLOCKS, &zeros));
    }
    // Moved within one LUN, onto itself.
    for (from, to) in [(8, 100), (100, 8)] {
        let before = hosts[0].read(1, from, 24);
        let segment = cdb::copy_segment((0, 0xffff), (24 * MIB_BLOCKS) as u16, (from, to));
        assert!(hosts[0].copy(1, cdb::copy_list(0, &[ends[1]], &[segment])).is_good());
        assert!(hosts[1].read(1, to, 24) == before, "{from} to {to}");
    }
    drop(hosts);
    let stopped = appliance.stop().unwrap();
    for lun in &LUNS[..2] {
        let [a, b] = [0, 1].map(|controller| stopped.volume(controller, lun.number).unwrap());
        assert_eq!(judge::copies::first_difference(a, b, lun.mib << 20).unwrap(), None, "LUN {}", lun.number);
    }
}

#[test]
fn a_descriptor_that_does_not_fit_its_lun_ends_the_copy_before_anything_is_written() {
    let keys = |number| if number == 1 { "read_only = true\n" } else { "" };
    let appliance = Appliance::start_with_keys("extended-copy-descriptors", &LUNS, Processes::One, keys)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut host = Host::log_in(&appliance, 1, WIDE);
    let ends = [0, 2, 1].map(|lun| cdb::copy_end(host.naa(lun)));
    host.write(0, 0, &content(5, 1));
    let list = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut list = cdb::copy_list(1, &ends, &[cdb::copy_segment((0, 1), 2048, (0, 0))]);
        change(&mut list);
        list
    };
    const TO: usize = 16 + 32;
    const SEGMENT: usize = 16 + 3 * 32;
    for (what, at, byte, code) in [
        ("NUL", TO + 1, 0x20, (0x0a, 0x0d, 0x02)),
        ("a CD", TO + 1, 0x05, (0x0a, 0x0d, 0x03)),
        ("a tape", TO + 1, 0x01, (0x0a, 0x26, 0x0c)),
        ("other blocks", TO + 30, 0x10, (0x0a, 0x26, 0x00)),
        ("another designator", TO + 15, 0xff, (0x0a, 0x0d, 0x02)),
        ("its port", TO + 5, 0x13, (0x0a, 0x0d, 0x02)),
        ("a read-only LUN", SEGMENT + 7, 2, (0x0a, 0x0d, 0x01)),
        ("another type of segment", SEGMENT, 0x0a, (0x05, 0x26, 0x09)),
        ("another type of descriptor", TO, 0xe0, (0x05, 0x26, 0x07)),
        ("inline data", 15, 1, (0x05, 0x26, 0x0b)),
        ("a reserved use of the list identifier", 1, 0x08, (0x05, 0x26, 0x00)),
    ] {
        let response = host.copy(0, list(&|list| list[at] = if byte == 0xff { !list[at] } else { byte }));
        assert_eq!(response.code(), code, "{what}");
    }
    assert!(host.read(2, 0, 1) == vec![0; 1 << 20], "nothing was written");
    // What is told of the block length may be left out, and the relative initiator port says nothing here.
    assert!(host.copy(0, list(&|list| (list[TO + 30], list[TO + 3]) = (0, 7))).is_good());
    assert!(host.read(2, 0, 1) == content(5, 1));
    // An empty list is no error; a list that is shorter than the CDB says is one.
    assert!(host.execute(0, Cdb::extended_copy(0), Vec::new(), 0).is_good());
    assert_eq!(
        host.execute(0, Cdb::extended_copy(140), list(&|_| ())[..100].to_vec(), 0).code(),
        (5, 0x0e, 3)
    );
    assert_eq!(
        host.execute(0, Cdb::extended_copy(100), list(&|_| ())[..100].to_vec(), 0).code(),
        (5, 0x1a, 0)
    );
    assert_eq!(host.execute(0, Cdb::extended_copy(1 << 20), vec![0; 1 << 20], 0).code(), (5, 0x1a, 0));
    appliance.stop().unwrap();
}

#[test]
fn a_host_copies_neither_from_nor_to_what_it_may_not_see_nor_past_the_end_nor_against_a_reservation() {
    const COPY_ABORTED: u8 = 0x0a;
    let appliance = Appliance::start_with("extended-copy-refused", &LUNS, Processes::One, ACCESS, &[])
        .unwrap_or_else(|error| panic!("{error}"));
    let mut wide = Host::log_in(&appliance, 0, WIDE);
    let mut narrow = Host::log_in(&appliance, 1, NARROW);
    let ends = [0, 1, 2].map(|lun| cdb::copy_end(wide.naa(lun)));
    wide.write(1, 0, &content(2, 1));
    wide.write(0, 0, &content(3, 1));
    let one = |from, to, lbas| cdb::copy_list(3, &ends, &[cdb::copy_segment((from, to), 2048, lbas)]);
    for (list, code) in [
        (one(1, 0, (0, 0)), (COPY_ABORTED, 0x0d, 0x02)),
        (one(0, 1, (0, 0)), (COPY_ABORTED, 0x0d, 0x02)),
        (one(0, 3, (0, 0)), (COPY_ABORTED, 0x08, 0x04)),
        (one(0, 2, (MIB * MIB_BLOCKS - 2047, 0)), (COPY_ABORTED, 0, 0)),
        (one(0, 2, (0, u64::MAX)), (COPY_ABORTED, 0, 0)),
    ] {
        assert_eq!(narrow.copy(0, list).code(), code);
        let details = narrow.good(0, Cdb::receive_copy_results(4, 3, 255), Vec::new(), 255);
        assert_eq!((details[56], details[62] & 0x0f), (2, COPY_ABORTED));
        assert_eq!(narrow.good(0, Cdb::receive_copy_results(4, 3, 255), Vec::new(), 255), [0; 4]);
    }
    assert!(wide.read(1, 0, 1) == content(2, 1) && wide.read(0, 0, 1) == content(3, 1));
    // RESERVE (6): the destination is another's.
    wide.good(2, Cdb([0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Vec::new(), 0);
    assert_eq!(narrow.copy(0, one(0, 2, (0, 0))).code(), (COPY_ABORTED, 0x0d, 0x01));
    assert!(wide.copy(0, one(0, 2, (0, 0))).is_good());
    // Sent to the LUN that is reserved it is not even looked at.
    assert_eq!(narrow.copy(2, one(0, 0, (0, 0))).status, 0x18);
    // No list identifier of another session, and none that is not known.
    let status = Cdb::receive_copy_results(0, 3, 12);
    assert!(wide.execute(0, status.clone(), Vec::new(), 12).is_good());
    assert_eq!(wide.execute(1, status, Vec::new(), 12).code(), (0x05, 0x24, 0x00));
    appliance.stop().unwrap();
}

/// Its last segment goes where nothing else goes: if nothing is there in the end, the copy was given up before. The
/// others change the same blocks again and again.
#[test]
fn no_block_changes_after_the_abort_of_a_copy_is_answered() {
    const PIECE: u64 = 20 * MIB_BLOCKS;
    let appliance = Appliance::start_with("extended-copy-aborted", &LUNS, Processes::Two, ACCESS, &[])
        .unwrap_or_else(|error| panic!("{error}"));
    let mut writer = Host::log_in(&appliance, 0, WIDE);
    let ends = [0, 1].map(|lun| cdb::copy_end(writer.naa(lun)));
    writer.write(0, 0, &content(11, 20));
    writer.write(0, PIECE, &content(12, 20));
    for controller in 0..2 {
        let mut host = Host::log_in_as(&appliance, controller, WIDE, 10);
        let zeros = vec![0; 40 << 20];
        writer.write(1, 0, &zeros);
        let segment = |at: u64| {
            let (from, to) = (at % 2 * PIECE, if at == 7 { PIECE } else { 0 });
            cdb::copy_segment((0, 1), PIECE as u16, (from, to))
        };
        let segments: Vec<_> = (0..8).map(segment).collect();
        let list = cdb::copy_list(controller as u8, &ends, &segments);
        let cdb = Cdb::extended_copy(list.len() as u32);
        // No unit attention is in its way.
        host.good(0, Cdb::test_unit_ready(), Vec::new(), 0);
        let tag = host.session.submit(Request { lun: 0, cdb, out: list, in_bytes: 0 }).unwrap();
        // It has begun when the first block is there.
        while writer.read(1, 0, 1)[..512] == zeros[..512] {
            let ended = host.session.completion_within(Duration::from_millis(1)).unwrap();
            assert!(ended.is_none(), "{ended:?}");
        }
        let (response, ended) = host.session.abort_task(0, tag).unwrap();
        assert_eq!((response, ended), (0, None), "FUNCTION COMPLETE, and the copy is not answered");
        let after = writer.read(1, 0, 40);
        assert!(after[20 << 20..] == zeros[20 << 20..], "it was given up before its end");
        // The time of many pieces, and a look through the other controller.
        assert!(Host::log_in(&appliance, 1, NARROW).read(0, 0, 40).len() == 40 << 20);
        let mut other = Host::log_in_as(&appliance, 1 - controller, WIDE, 11);
        assert!(other.read(1, 0, 40) == after, "a block changed");
    }
    drop(writer);
    let stopped = appliance.stop().unwrap();
    let [a, b] = [0, 1].map(|controller| stopped.volume(controller, 1).unwrap());
    assert_eq!(judge::copies::first_difference(a, b, MIB << 20).unwrap(), None);
}
