//! Two LUNs in one group under cuts and crashes. After every event the simulated world looks whether both are under one
//! generation, role, status and service on each controller (`Controller::check`).

use controller::pair::{PairStatus, Service};

use super::{A, ALPHA, B, BETA, GOOD, HERE, act, alone, apart, cut_both, scripted, when, written};
use crate::workload::{Mix, Shape};
use crate::world::disk::Trouble;
use crate::world::script::Act::{
    Ask as Asks, Heal, Kill, PowerLoss, Repair, Reset, Start, Stop, Trouble as GetsInto,
};
use crate::world::script::Ask::Write;
use crate::world::script::Moment::{self, Ended, InFlight, Ready, Record, Stopped};
use crate::world::script::{Io, Step};
use crate::world::settings::{Settings, lun};

/// Both LUNs are alpha's, in one group; hosts of both sides read and write both.
fn grouped(name: &'static str, seed: u64, steps: impl IntoIterator<Item = Vec<Step>>) -> Settings {
    let mut settings = scripted(name, seed, steps);
    settings.luns = vec![lun(0, ALPHA, true, true), lun(1, ALPHA, true, seed.is_multiple_of(2))];
    settings.luns.iter_mut().for_each(|lun| lun.group = Some("db".to_owned()));
    let mix = Mix { read: 40, write: 60, ..Mix::NONE };
    let second = Shape { lun: 1, start: 0, blocks: 64, blocks_min: 1, blocks_max: 8, mix };
    settings.hosts.iter_mut().for_each(|host| host.shapes.push(second));
    settings
}

/// The interlink is cut, main goes on alone with both LUNs; then each controller crashes in turn, in the copy back and
/// in the switch back to alpha, and at last both lose power at once.
#[must_use]
pub fn group_cut_and_crashed(seed: u64) -> Settings {
    let cut = [cut_both().to_vec(), vec![when(alone(ALPHA)), act(Heal)]].concat();
    let crashes = vec![
        when(Moment::Settled),
        act(Kill(ALPHA)),
        when(apart(BETA)),
        act(Start(ALPHA)),
        // beta is main until the copy is whole, and then alpha again.
        when(Moment::Place(BETA, PairStatus::Copy, Service::Mirrored)),
        when(Record(BETA)),
        act(Reset(BETA)),
        when(Moment::Settled),
        act(PowerLoss(BETA)),
        when(alone(ALPHA)),
        act(Start(BETA)),
        when(InFlight(BETA, Io::Change)),
        act(PowerLoss(ALPHA)),
        act(PowerLoss(BETA)),
        act(Start(BETA)),
        act(Start(ALPHA)),
    ];
    grouped("group-cut-and-crashed", seed, [written(A).into(), cut, crashes])
}

/// One disk fails under one LUN, and both copies of that side leave; then a clean end, after which nothing is copied.
#[must_use]
pub fn group_breaks_and_ends(seed: u64) -> Settings {
    let breaks = vec![
        act(GetsInto(BETA, Trouble::Full)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        when(alone(ALPHA)),
        when(Ready(B)),
        act(Repair(BETA)),
        when(Moment::Settled),
        act(Stop(BETA)),
        when(Stopped(BETA)),
        act(Kill(BETA)),
        act(Start(BETA)),
    ];
    grouped("group-breaks-and-ends", seed, [written(A).into(), breaks])
}
