//! MODE SELECT to real controllers: what a host changes through one holds through both, and saved outlives both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Response, Sense, Settings};

/// The first controller is main.
const LUNS: [Lun; 1] = [Lun { number: 0, mib: 16, main: 0, mirror: true }];
const SUB: usize = 1;

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;

struct Host(Session);

impl Host {
    /// A host of a controller that has nothing to be told.
    fn log_in(appliance: &Appliance, controller: usize) -> Self {
        let settings = Settings::linux("iqn.1993-08.org.debian:modes", IQN, controller as u16);
        let mut host = Self(Session::connect(appliance.portals[controller], settings).unwrap());
        while host.execute(Cdb::test_unit_ready(), Vec::new(), 0).code().0 == 6 {}
        host
    }

    /// Once: a unit attention is told, too.
    fn execute(&mut self, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Response {
        self.0.submit(Request { lun: 0, cdb, out, in_bytes }).unwrap();
        self.0.completion().unwrap().1
    }

    fn good(&mut self, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Vec<u8> {
        // A controller that is back tells so at its own time.
        let response = loop {
            let response = self.execute(cdb.clone(), out.clone(), in_bytes);
            if response.code() != (6, 0x2a, 6) {
                break response;
            }
        };
        assert!(response.is_good(), "{response:?}");
        response.data
    }

    /// A page as MODE SENSE tells it: current 0, changeable 1, default 2, saved 3.
    fn page(&mut self, control: u8, page: u8) -> Vec<u8> {
        self.good(Cdb::mode_sense_6(control, page, 255), Vec::new(), 255)[4..].to_vec()
    }

    /// WCE and D_SENSE of these values.
    fn values(&mut self, control: u8) -> (bool, bool) {
        (self.page(control, CACHING)[2] & WCE != 0, self.page(control, CONTROL)[2] & D_SENSE != 0)
    }

    /// MODE SELECT of both pages.
    fn select(&mut self, save: bool, (cache, descriptor): (bool, bool)) {
        let (mut caching, mut control) = (self.page(0, CACHING), self.page(0, CONTROL));
        caching[2] = caching[2] & !WCE | if cache { WCE } else { 0 };
        control[2] = control[2] & !D_SENSE | if descriptor { D_SENSE } else { 0 };
        let list = [vec![0; 4], caching, control].concat();
        self.good(Cdb::mode_select_6(save, list.len() as u8), list, 0);
    }

    /// The sense data of a READ beyond the end.
    fn refusal(&mut self) -> Sense {
        let response = self.execute(Cdb::read_16(1 << 40, 1), Vec::new(), 512);
        assert_eq!(response.code(), (5, 0x21, 0));
        response.sense.unwrap()
    }
}

#[test]
fn what_a_host_of_the_sub_selects_holds_on_both_and_saved_outlives_both_being_killed() {
    let appliance =
        Appliance::start("modes", &LUNS, Processes::Two).unwrap_or_else(|error| panic!("{error}"));
    let mut hosts = [0, 1].map(|controller| Host::log_in(&appliance, controller));
    for host in &mut hosts {
        assert_eq!(host.values(0), (true, false));
        assert_eq!(host.values(1), (true, true), "changeable");
        assert!(!host.refusal().descriptor);
    }
    hosts[SUB].select(true, (false, true));
    let told = hosts[0].execute(Cdb::test_unit_ready(), Vec::new(), 0);
    assert_eq!(told.code(), (6, 0x2a, 1), "MODE PARAMETERS CHANGED");
    assert!(told.sense.unwrap().descriptor);
    for host in &mut hosts {
        for (control, wanted) in [(0, (false, true)), (2, (true, false)), (3, (false, true))] {
            assert_eq!(host.values(control), wanted, "PC {control}");
        }
        assert!(host.refusal().descriptor);
        host.good(Cdb::write_16(0, 8, false), vec![7; 4096], 0);
    }
    // What is not saved ends with the two.
    hosts[0].select(false, (true, false));
    assert!(!hosts[0].refusal().descriptor);
    let told = hosts[SUB].execute(Cdb::test_unit_ready(), Vec::new(), 0);
    assert_eq!((told.code(), told.sense.unwrap().descriptor), ((6, 0x2a, 1), false));
    drop(hosts);
    let appliance = appliance.crash().unwrap_or_else(|error| panic!("{error}"));
    let mut hosts = [0, 1].map(|controller| Host::log_in(&appliance, controller));
    for host in &mut hosts {
        assert_eq!((host.values(0), host.values(3)), ((false, true), (false, true)));
        assert!(host.refusal().descriptor);
        assert_eq!(host.good(Cdb::read_16(0, 8), Vec::new(), 4096), [7; 4096]);
    }
    drop(hosts);
    appliance.stop().unwrap();
}
