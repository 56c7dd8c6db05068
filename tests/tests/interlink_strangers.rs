//! Strangers at a plain interlink: whoever cannot prove to be the peer ends nothing, delays nothing and learns nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use controller::plan::Side;
use protocol::interlink::Message;
use protocol::interlink::hello::{Hello, Identity, Purpose};
use protocol::interlink::proof::{FRAME_BYTES, Step};
use target::config::{Config, to_plan};
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

/// A stranger is closed by then, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pair that serves hosts of both controllers.
struct Pair {
    appliance: Appliance,
    config: Config,
    sessions: [Session; 2],
    round: u64,
}

impl Pair {
    fn start(name: &str, processes: Processes) -> Self {
        let lun = Lun { number: 0, mib: 16, main: 0, mirror: true };
        let appliance = Appliance::start(name, &[lun], processes).unwrap();
        let path = appliance.folder().join("appliance.toml");
        let config = Config::parse(&path, &fs::read_to_string(&path).unwrap()).unwrap();
        let sessions = [0, 1].map(|side| {
            let initiator = format!("iqn.1993-08.org.debian:{side}");
            Session::connect(appliance.portals[side], Settings::linux(&initiator, IQN, 1)).unwrap()
        });
        Self { appliance, config, sessions, round: 0 }
    }

    fn interlink(&self, side: Side) -> SocketAddr {
        self.config.controller(side).interlink[0]
    }

    /// Hosts of both write, and read through the other what was written; every command is answered GOOD.
    fn serves(&mut self, after: &str) {
        for _ in 0..20 {
            self.round += 1;
            let side = (self.round % 2) as usize;
            let data = vec![self.round as u8; 4096];
            let write = Request { lun: 0, cdb: Cdb::write_16(64, 8, false), out: data.clone(), in_bytes: 0 };
            let read = Request { lun: 0, cdb: Cdb::read_16(64, 8), out: Vec::new(), in_bytes: 4096 };
            let written = self.sessions[side].execute(&write).unwrap();
            assert!(written.is_good(), "after {after}: {written:?}");
            let read = self.sessions[1 - side].execute(&read).unwrap();
            assert!(read.is_good() && read.data == data, "after {after}: {read:?}");
        }
    }

    /// Which runs of the two know each other, and how they are connected.
    fn standing(&self) -> Vec<serde_json::Value> {
        let status = self.appliance.status().unwrap();
        let of = |side: usize| {
            let status = &status["controllers"][side]["status"];
            vec![status["incarnation"].clone(), status["interlink"].clone()]
        };
        [of(0), of(1)].concat()
    }

    /// What the controller of this side would say on a connection of this purpose: with all that is public of it.
    fn forged(&self, side: Side, purpose: Purpose) -> Hello {
        let status = self.appliance.status().unwrap();
        let status = &status["controllers"][side as usize]["status"];
        let number = |value: &serde_json::Value| u128::from_str_radix(value.as_str().unwrap(), 16).unwrap();
        let plan = to_plan(&self.config, side);
        Hello {
            versions: (1, 1),
            purpose,
            side: side as u8,
            appliance: number(&status["appliance"]),
            incarnation: number(&status["incarnation"]),
            bridges: plan.bridges,
            shared: if purpose == Purpose::Control { plan.shared } else { Vec::new() },
            rooms: Vec::new(),
            identity: Identity::default(),
        }
    }

    fn end(self) {
        for session in self.sessions {
            session.logout().unwrap();
        }
        self.appliance.stop().unwrap();
    }
}

/// Says this to an interlink, and hears all that is answered until it is closed.
fn say(to: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stranger = TcpStream::connect(to).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be closed at once.
    let _closed = stranger.write_all(said);
    let mut heard = Vec::new();
    if let Err(error) = stranger.read_to_end(&mut heard) {
        assert!(error.kind() != ErrorKind::WouldBlock, "a stranger is still connected");
    }
    heard
}

fn encoded(hello: Hello) -> Vec<u8> {
    Message::Hello(Box::new(hello)).encode(0, Default::default(), &[]).to_vec()
}

#[test]
fn a_forged_greeting_with_all_the_right_values_does_not_disturb_a_pair_under_io() {
    for (name, processes) in [("forged-one", Processes::One), ("forged-two", Processes::Two)] {
        let mut pair = Pair::start(name, processes);
        let before = pair.standing();
        pair.serves("nothing");
        for side in [Side::First, Side::Second] {
            for purpose in [Purpose::Control, Purpose::Bridge(0), Purpose::Bridge(1)] {
                let forged = encoded(pair.forged(side, purpose));
                let challenge = Step::Challenge([7; 32]).encode();
                let guessed = [challenge, Step::Proof([7; 32]).encode(), forged.clone()].concat();
                for said in [forged, guessed] {
                    let heard = say(pair.interlink(side.peer()), &said);
                    let what = format!("a greeting for {purpose:?} in the name of {side:?}");
                    pair.serves(&what);
                    assert!(heard.len() <= FRAME_BYTES, "{what} was answered: {heard:?}");
                    assert_eq!(pair.standing(), before, "after {what}");
                }
            }
        }
        pair.end();
    }
}

#[test]
fn a_stranger_learns_nothing_of_the_appliance() {
    let mut pair = Pair::start("stranger-learns", Processes::Two);
    let before = pair.standing();
    for side in [Side::First, Side::Second] {
        let genuine = pair.forged(side, Purpose::Control);
        // A greeting that is wrong in each of what one that is right must have.
        let wrong = [
            Hello { side: 7, ..genuine.clone() },
            Hello { versions: (77, 78), ..genuine.clone() },
            Hello { appliance: 1, ..genuine.clone() },
            Hello { incarnation: 1, purpose: Purpose::Bridge(0), ..genuine.clone() },
            Hello { shared: vec![("appliance.iqn".to_owned(), "iqn.a".to_owned())], ..genuine.clone() },
            genuine,
        ];
        for hello in wrong {
            assert!(say(pair.interlink(side.peer()), &encoded(hello)).is_empty());
        }
        // Who knows how it begins hears a random number, and then nothing whatever it guesses.
        let challenge = Step::Challenge([0; 32]).encode();
        let mut heard = Vec::new();
        for guess in 0..8 {
            let guess = [challenge.clone(), Step::Proof([guess; 32]).encode()].concat();
            let answer: [u8; FRAME_BYTES] = say(pair.interlink(side.peer()), &guess).try_into().unwrap();
            let Ok(Step::Challenge(nonce)) = Step::decode(&answer) else { panic!("{answer:?}") };
            assert!(!heard.contains(&nonce));
            heard.push(nonce);
        }
    }
    pair.serves("strangers");
    assert_eq!(pair.standing(), before);
    pair.end();
}

/// Connections that this process has open.
fn sockets(process: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn strangers_that_begin_a_handshake_at_an_interlink_without_encryption_have_no_more_than_their_share() {
    let mut pair = Pair::start("stranger-shakes", Processes::Two);
    let process = pair.appliance.processes()[0];
    let before = sockets(process);
    let mut strangers = Vec::new();
    let mut most = 0;
    for stranger in 0..800 {
        let mut socket = TcpStream::connect(pair.interlink(Side::First)).unwrap();
        // How a handshake under TLS begins.
        socket.write_all(&[22, 3, 1, 1, 0]).unwrap();
        strangers.push(socket);
        if stranger % 50 == 49 {
            most = most.max(sockets(process).saturating_sub(before));
        }
    }
    // As many as there are workers at most, and 32 more (`UNPROVEN_MAX`), and a few that have lost their place just
    // now.
    assert!(most <= 64 + 32 + 8, "strangers have {most} connections open at once");
    drop(strangers);
    pair.serves("strangers");
    pair.end();
}
