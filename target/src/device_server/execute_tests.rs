//! The device server before a real controller that has not met its peer: what is answered all the same, what is
//! refused with which sense, and that a unit attention comes first.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use controller::appliance::{CONTROL_KEY, ControlRecord, Restored};
use controller::command::{Initiator, NexusId, Outcome, TaskTag};
use controller::disk::{DiskIo, DiskResult};
use controller::link::{Frame, LinkId, Via};
use controller::plan::{LunPlan, Plan, Side};
use controller::time::Time;
use controller::unit::Controller;
use controller::volume::stack::VolumeId;
use controller::volume::superblock::{Superblock, VolumeFound};
use controller::world::{Ticket, World};
use protocol::interlink::hello::{Identity, LunIdentity};
use protocol::scsi::sense::Sense;

use super::{Request, execute};

const NEXUS: NexusId = NexusId(1);

/// A world in which nothing happens; it keeps the outcomes of commands.
#[derive(Default)]
struct Still {
    outcomes: Mutex<Vec<Outcome>>,
}

impl World for Still {
    fn now(&self) -> Time {
        Time(0)
    }
    fn random(&self) -> u128 {
        1
    }
    fn wake_at(&self, _: Time) {}
    fn send(&self, _: Via, _: Frame) {}
    fn close(&self, _: LinkId) {}
    fn submit(&self, _: VolumeId, _: DiskIo, _: Ticket) -> Option<DiskResult> {
        None
    }
    fn persist(&self, _: &str, _: Vec<u8>, _: Ticket) {}
    fn create_volume(&self, _: VolumeId, _: Superblock, _: Ticket) {}
    fn begin_service(&self, _: VolumeId, _: Superblock, _: Ticket) {}
    fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        assert_eq!((nexus, tag), (NEXUS, TaskTag(7)));
        self.outcomes.lock().unwrap().push(outcome);
    }
}

/// The second controller of an appliance with LUN 3 of 1 MiB, which it has not met its peer in this run to serve. The
/// nexus is new, so the LUN owes it POWER ON.
fn alone() -> Controller<Still> {
    let lun = LunIdentity { name: "data".into(), volume: 2, naa: 3 << 60 | 4, serial: 5, blocks: 2048 };
    let identity = Identity { appliance: 1, luns: vec![lun] };
    let record = ControlRecord { identity, groups: Vec::new() };
    started(BTreeMap::from([(CONTROL_KEY.to_owned(), record.write("beta"))]))
}

fn started(records: BTreeMap<String, Vec<u8>>) -> Controller<Still> {
    let lun = LunPlan {
        number: 3,
        name: "data".into(),
        base: VolumeId(0),
        blocks: 4096,
        main: Side::First,
        mirror: true,
        group: None,
        write_cache: true,
        read_only: false,
        physical_block_exponent: 3,
        device: false,
        room: None,
    };
    let names = ["alpha".into(), "beta".into()];
    let plan = Plan { side: Side::Second, names, luns: vec![lun], shared: vec![], bridges: 1 };
    let restored = Restored { records, unusable: None, volumes: vec![VolumeFound::Missing] };
    let controller = Controller::new(Still::default(), plan, restored);
    controller.start();
    controller.nexus_added(NEXUS, &Initiator { name: "iqn.1994-05.org:host".into(), isid: [0; 6] });
    controller
}

fn send(controller: &Controller<Still>, lun: u8, cdb: &[u8]) -> Option<Outcome> {
    send_as(controller, None, lun, cdb)
}

/// As a host that may see these LUNs only, if any are given.
fn send_as(controller: &Controller<Still>, luns: Option<&[u16]>, lun: u8, cdb: &[u8]) -> Option<Outcome> {
    let mut request = Request {
        nexus: NEXUS,
        tag: TaskTag(7),
        lun: [0, lun, 0, 0, 0, 0, 0, 0],
        luns: luns.map(Into::into),
        cdb: [0; 16],
        data: Vec::new(),
        announced: 0,
        received: Time(0),
    };
    request.cdb[..cdb.len()].copy_from_slice(cdb);
    execute(controller, request)
}

/// The bytes a command answers.
fn answer(controller: &Controller<Still>, lun: u8, cdb: &[u8]) -> Vec<u8> {
    match send(controller, lun, cdb) {
        Some(Outcome::Good(data)) => data.concat(),
        other => panic!("{other:?}"),
    }
}

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 96, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
const READ_ONE_BLOCK: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

#[test]
fn inquiry_and_report_luns_are_answered_and_leave_the_unit_attention_pending() {
    let controller = alone();
    assert_eq!(answer(&controller, 3, &INQUIRY)[0], 0x00);
    assert_eq!(answer(&controller, 3, &REPORT_LUNS)[8..], [0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::POWER_ON)));
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::UNAVAILABLE)));
}

#[test]
fn request_sense_takes_the_unit_attention_as_its_data() {
    let controller = alone();
    let power_on = answer(&controller, 3, &REQUEST_SENSE);
    assert_eq!((power_on[2], power_on[12], power_on[13]), (0x06, 0x29, 0x00));
    assert_eq!(answer(&controller, 3, &REQUEST_SENSE)[2], 0x00);
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::UNAVAILABLE)));
}

#[test]
fn a_command_that_is_wrong_hears_the_unit_attention_first() {
    let power_on = Some(Outcome::Check(Sense::POWER_ON));
    for (cdb, then) in [
        (&[0xff][..], Sense::INVALID_OPERATION_CODE),
        (&[0xa3, 0x1f][..], Sense::invalid_cdb_field(1)),
        (&[0x00, 0, 0, 0, 0, 0x04][..], Sense::invalid_cdb_field(5)),
        // Past the last block, and of no blocks: that the LUN cannot serve comes before either.
        (&[0x28, 0, 0, 0, 8, 0, 0, 0, 1, 0][..], Sense::UNAVAILABLE),
        (&[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], Sense::UNAVAILABLE),
    ] {
        let controller = alone();
        assert_eq!(send(&controller, 3, cdb), power_on, "{cdb:02x?}");
        assert_eq!(send(&controller, 3, cdb), Some(Outcome::Check(then)), "{cdb:02x?}");
        assert!(controller.world().outcomes.lock().unwrap().is_empty());
    }
}

#[test]
fn what_touches_blocks_is_answered_by_the_controller() {
    let controller = alone();
    assert_eq!(send(&controller, 3, &READ_ONE_BLOCK), None);
    assert_eq!(send(&controller, 3, &READ_ONE_BLOCK), None);
    let wanted = [Outcome::Check(Sense::POWER_ON), Outcome::Check(Sense::UNAVAILABLE)];
    assert_eq!(*controller.world().outcomes.lock().unwrap(), wanted);
}

#[test]
fn a_lun_that_cannot_serve_tells_its_target_port_groups_and_operation_codes() {
    let controller = alone();
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::POWER_ON)));
    let groups = answer(&controller, 3, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!((groups[4] & 0x0f, groups[16] & 0x0f), (0x03, 0x03));
    let codes = answer(&controller, 3, &[0xa3, 0x0c, 0x01, 0x28, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(codes[1], 0x03);
}

#[test]
fn a_lun_that_cannot_serve_tells_what_it_is_from_its_record() {
    let controller = alone();
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::POWER_ON)));
    let last_block_and_length = [0, 0, 7, 0xff, 0, 0, 2, 0];
    assert_eq!(answer(&controller, 3, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), last_block_and_length);
    let long = answer(&controller, 3, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]);
    assert_eq!(long[4..12], last_block_and_length);
    // MODE SENSE (6) and (10) of the Caching page, with its block descriptor.
    assert_eq!(answer(&controller, 3, &[0x1a, 0, 0x08, 0, 255, 0])[5..8], [0, 8, 0]);
    assert_eq!(answer(&controller, 3, &[0x5a, 0, 0x08, 0, 0, 0, 0, 0, 255, 0])[9..12], [0, 8, 0]);
    let named = answer(&controller, 3, &[0x12, 1, 0x83, 0, 255, 0]);
    assert_eq!(named[4..16], [1, 3, 0, 8, 0x30, 0, 0, 0, 0, 0, 0, 4]);
    assert_eq!(answer(&controller, 3, &[0x12, 1, 0x80, 0, 255, 0])[4..], *b"0000000000000005");
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::UNAVAILABLE)));
}

#[test]
fn a_lun_that_was_never_made_has_no_name_and_is_not_listed() {
    let controller = started(BTreeMap::new());
    assert_eq!(answer(&controller, 3, &INQUIRY)[0], 0x7f);
    assert_eq!(
        send(&controller, 3, &[0x12, 1, 0x83, 0, 255, 0]),
        Some(Outcome::Check(Sense::LUN_NOT_SUPPORTED))
    );
    assert_eq!(answer(&controller, 3, &REPORT_LUNS).len(), 8);
    assert_eq!(send(&controller, 3, &TEST_UNIT_READY), Some(Outcome::Check(Sense::POWER_ON)));
    let capacity = send(&controller, 3, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(capacity, Some(Outcome::Check(Sense::UNAVAILABLE)));
}

#[test]
fn a_lun_that_does_not_exist_is_not_supported_but_answers_report_luns() {
    let controller = alone();
    assert_eq!(send(&controller, 4, &TEST_UNIT_READY), Some(Outcome::Check(Sense::LUN_NOT_SUPPORTED)));
    assert_eq!(send(&controller, 4, &READ_ONE_BLOCK), Some(Outcome::Check(Sense::LUN_NOT_SUPPORTED)));
    assert_eq!(answer(&controller, 0, &REPORT_LUNS)[8..], [0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer(&controller, 4, &INQUIRY)[0], 0x7f);
}

#[test]
fn a_lun_that_a_host_is_not_to_see_is_not_there_for_it() {
    let controller = alone();
    for (luns, seen) in [(&[3][..], true), (&[1, 3], true), (&[1], false), (&[], false)] {
        let taken = send_as(&controller, Some(luns), 3, &READ_ONE_BLOCK);
        assert_eq!(taken != Some(Outcome::Check(Sense::LUN_NOT_SUPPORTED)), seen, "{luns:?}");
        for lun in [0, 3] {
            let Some(Outcome::Good(list)) = send_as(&controller, Some(luns), lun, &REPORT_LUNS) else {
                panic!()
            };
            assert_eq!(list.concat().len() == 16, seen, "{luns:?}");
        }
        let Some(Outcome::Good(data)) = send_as(&controller, Some(luns), 3, &INQUIRY) else { panic!() };
        assert_eq!(data.concat()[0] == 0, seen, "{luns:?}");
    }
}

#[test]
fn a_write_that_is_right_goes_to_the_controller_and_one_that_is_not_does_not() {
    let controller = alone();
    let mut request = Request {
        nexus: NEXUS,
        tag: TaskTag(7),
        lun: [0, 3, 0, 0, 0, 0, 0, 0],
        luns: None,
        cdb: [0; 16],
        data: vec![Bytes::from(vec![1; 512])],
        announced: 512,
        received: Time(0),
    };
    request.cdb[..10].copy_from_slice(&[0x2a, 0x20, 0, 0, 0, 0, 0, 0, 1, 0]);
    let protected = request.clone();
    assert_eq!(execute(&controller, protected), Some(Outcome::Check(Sense::POWER_ON)));
    request.cdb[1] = 0;
    assert_eq!(execute(&controller, request), None);
    assert_eq!(*controller.world().outcomes.lock().unwrap(), [Outcome::Check(Sense::UNAVAILABLE)]);
}
