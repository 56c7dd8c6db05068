//! Disasters of two real processes, each once and short; the command `disaster` goes on with them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use twinlun_tests::disaster::network::{Cut, Network};
use twinlun_tests::disaster::pair::Pair;
use twinlun_tests::disaster::round::{Run, Settings};
use twinlun_tests::disaster::{Disaster, Failure, MAIN, SUB, reservations};

fn strike(name: &str, network: Option<Network>, disasters: &[Disaster]) {
    strike_at(|| Pair::start(name, network), disasters);
}

fn strike_at(start: impl FnOnce() -> Result<Pair, Failure>, disasters: &[Disaster]) {
    let seed = std::env::var("TWINLUN_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}; another one: TWINLUN_SEED=N");
    let settings = Settings { seed, filled_mib: 64, print: false };
    let run = || -> Result<(), Failure> {
        let mut run = Run::begin(start()?, settings)?;
        for disaster in disasters {
            println!("{}", run.round(*disaster)?);
        }
        run.end()
    };
    run().unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}

#[test]
fn a_killed_or_stopped_controller_comes_back_to_duplex_and_nothing_acknowledged_is_lost() {
    let time = Duration::from_secs(4);
    let disasters = [
        Disaster::Kill(MAIN),
        Disaster::Kill(SUB),
        Disaster::Pause(MAIN, time),
        Disaster::Pause(SUB, time),
        Disaster::LoseVolume(MAIN),
        Disaster::KillBoth,
    ];
    strike("killed", None, &disasters);
}

#[test]
fn over_an_encrypted_interlink_a_killed_controller_comes_back_to_duplex_as_over_a_plain_one() {
    let disasters = [Disaster::Kill(SUB), Disaster::Kill(MAIN), Disaster::KillBoth];
    strike_at(|| Pair::start_encrypted("encrypted"), &disasters);
}

#[test]
fn a_controller_that_is_ended_cleanly_under_load_comes_back_to_duplex() {
    strike("ended", None, &[Disaster::End(SUB), Disaster::End(MAIN)]);
}

#[test]
fn over_a_cut_interlink_main_goes_on_the_sub_refuses_and_nobody_reads_what_is_stale() {
    let time = Duration::from_secs(3);
    let cuts = [Cut::BothWays, Cut::From(MAIN)];
    let mut disasters = cuts.map(|cut| Disaster::Cut(cut, time)).to_vec();
    disasters.push(Disaster::CutAndPause(time));
    match Network::build() {
        Err(why) => println!("skipped, for this needs network namespaces: {why}"),
        Ok(network) => strike("cut", Some(network), &disasters),
    }
}

#[test]
fn after_kill_9_both_controllers_show_the_reservations_that_were_last_answered() {
    let run = || -> Result<(), Failure> {
        let mut run = reservations::Run::begin(Pair::start("reserved", None)?, 1)?;
        for sequence in 0..3 {
            println!("{}", run.sequence(sequence)?);
        }
        run.end()
    };
    run().unwrap_or_else(|failure| panic!("{failure}"));
}
