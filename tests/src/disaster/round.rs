//! One round: a disaster under load, the return to DUPLEX, and the judgement.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::hosts::{self, Load, REGION_BLOCKS};
use super::lun_content;
use super::met::Met;
use super::network::Cut;
use super::pair::{LUN_BYTES, Pair, Views, is_duplex, lun};
use super::{Disaster, Failure, MAIN, NAMES, PAUSE_MAX, SUB, explain};
use crate::judge::{self, Extent, History, Kind, Outcome};
use crate::workload::content;

/// GOOD answers every host has before, during and after a disaster.
const PROGRESS: u64 = 20;

/// First block of the part of the LUN that is filled; the regions of the rounds lie below.
const FILLED_FROM: u64 = LUN_BYTES / 512 / 2;

/// How a run is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of all that is random.
    pub seed: u64,
    /// How much is written beforehand, in MiB; up to half the LUN.
    pub filled_mib: u64,
    /// Whether every screen of `status` is printed.
    pub print: bool,
}

/// What a round met.
#[derive(Clone, Debug)]
pub struct Report {
    disaster: Disaster,
    operations: usize,
    overlaps: u64,
    met: Met,
    /// The longest pause of the hosts of the controller that went on.
    pub pause: Option<Duration>,
    /// From the end of the disaster to DUPLEX.
    pub back: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} operations, {} overlaps; {}; ",
            self.disaster, self.operations, self.overlaps, self.met
        )?;
        if let Some(pause) = self.pause {
            write!(f, "longest pause {} ms; ", pause.as_millis())?;
        }
        write!(f, "DUPLEX after {} ms", self.back.as_millis())
    }
}

/// Rounds on one pair, to its clean end.
#[derive(Debug)]
pub struct Run {
    pair: Pair,
    settings: Settings,
    histories: Vec<History>,
}

impl Run {
    /// Prepares a running pair.
    pub fn begin(pair: Pair, settings: Settings) -> Result<Self, Failure> {
        lun_content::fill(pair.portals[MAIN], filled(&settings))?;
        Ok(Self { pair, settings, histories: Vec::new() })
    }

    /// How many rounds there is room for.
    pub const ROUNDS_MAX: u64 = FILLED_FROM / REGION_BLOCKS;

    /// One round.
    pub fn round(&mut self, disaster: Disaster) -> Result<Report, Failure> {
        let region = self.histories.len() as u64;
        let seed = self.settings.seed.wrapping_mul(1000).wrapping_add(region);
        let load = Load::start(self.pair.portals, region, interval(disaster), seed);
        lun_content::dig(&load, self.pair.portals[MAIN], region, false)?;
        load.wait_for_good(&[MAIN, SUB], PROGRESS)?;
        let back = self.strike(disaster, &load)?;
        load.wait_for_good(&[MAIN, SUB], PROGRESS)?;
        let (mut history, met) = load.stop()?;
        for portal in self.pair.portals {
            history = lun_content::look_back(history, portal, region)?;
        }
        judge::check(&history).map_err(Box::new)?;
        let mut report = Report {
            disaster,
            operations: history.operations().len(),
            overlaps: history.overlaps(),
            met: Met::default(),
            pause: None,
            back,
        };
        met.iter().for_each(|met| report.met += met);
        if let Some(side) = goes_on(disaster) {
            report.pause = Some(check_hosts_of(side, &met)?);
        }
        self.check_codes(&met)?;
        self.histories.push(history);
        Ok(report)
    }

    /// NOT READY is always the one that sends a host to its other path.
    fn check_codes(&self, met: &[Met]) -> Result<(), Failure> {
        let codes = met.iter().flat_map(|met| met.codes.keys());
        match codes.copied().find(|(_, code)| code.0 == 0x02 && *code != hosts::UNAVAILABLE) {
            None => Ok(()),
            Some((side, code)) => {
                Err(Failure::Host(format!("{} answered NOT READY {code:02x?}", NAMES[side])))
            }
        }
    }

    /// The disaster from its beginning to DUPLEX; tells how long the way back took.
    fn strike(&mut self, disaster: Disaster, load: &Load) -> Result<Duration, Failure> {
        match disaster {
            Disaster::Kill(side) | Disaster::LoseVolume(side) => {
                self.pair.kill(side)?;
                self.without(side, disaster, load)?;
                if matches!(disaster, Disaster::LoseVolume(_)) {
                    self.pair.remove_volume(side)?;
                }
                self.pair.spawn(side)?;
            }
            Disaster::End(side) => {
                self.pair.end(side)?;
                self.handed_over_by(side, disaster, load)?;
                self.pair.spawn(side)?;
            }
            Disaster::KillBoth => {
                self.pair.kill(MAIN)?;
                self.pair.kill(SUB)?;
                self.look(disaster, "neither runs", MAIN, explain::NOBODY)?;
                self.pair.spawn(SUB)?;
                self.pair.wait_until("the sub runs", |views| !views[SUB].is_null())?;
                load.wait_for_refusals(SUB)?;
                self.look(disaster, "the sub runs alone", SUB, explain::SUB_STARTED)?;
                self.pair.spawn(MAIN)?;
            }
            Disaster::Pause(side, time) => {
                let begun = Instant::now();
                self.pair.signal(side, Signal::STOP)?;
                self.without(side, disaster, load)?;
                self.look(disaster, "one hangs", side, explain::HANGS)?;
                thread::sleep(time.saturating_sub(begun.elapsed()));
                self.pair.signal(side, Signal::CONT)?;
            }
            Disaster::Cut(cut, time) => self.cut(cut, time, load)?,
            Disaster::CutAndPause(time) => self.cut_and_pause(time, load)?,
        }
        self.back(disaster)
    }

    /// What the other does while one is away.
    fn without(&self, side: usize, disaster: Disaster, load: &Load) -> Result<(), Failure> {
        if side == SUB {
            self.pair.wait_until("main serves alone", |views| serves_alone(&views[MAIN]))?;
            self.go_on_alone(MAIN, load)?;
            self.look(disaster, "the sub is away", MAIN, explain::MAIN_ALONE)
        } else {
            self.pair.wait_until("the sub refuses", |views| lun(&views[SUB])["serving"] == false)?;
            load.wait_for_refusals(SUB)?;
            self.look(disaster, "main is away", SUB, explain::SUB_ALONE)
        }
    }

    /// One has ended cleanly: the other is main, whichever was.
    fn handed_over_by(&self, side: usize, disaster: Disaster, load: &Load) -> Result<(), Failure> {
        let other = 1 - side;
        self.pair.wait_until("the other serves alone", |views| serves_alone(&views[other]))?;
        self.go_on_alone(other, load)?;
        let expected = if other == MAIN { explain::MAIN_ALONE } else { explain::SUB_IS_MAIN };
        self.look(disaster, "one has ended", other, expected)
    }

    /// What hosts of a main do while the other knows nothing of it.
    fn go_on_alone(&self, main: usize, load: &Load) -> Result<(), Failure> {
        lun_content::dig(load, self.pair.portals[main], self.histories.len() as u64, true)?;
        load.wait_for_good(&[main], PROGRESS)
    }

    fn cut_and_pause(&self, time: Duration, load: &Load) -> Result<(), Failure> {
        let network = self.pair.network().ok_or_else(|| io::Error::other("there is no network to cut"))?;
        let begun = Instant::now();
        network.cut(Cut::BothWays).map_err(io::Error::other)?;
        self.pair.signal(SUB, Signal::STOP)?;
        self.pair.wait_until("main serves alone", |views| serves_alone(&views[MAIN]))?;
        self.go_on_alone(MAIN, load)?;
        thread::sleep(time.saturating_sub(begun.elapsed()));
        self.pair.signal(SUB, Signal::CONT)?;
        load.wait_for_refusals(SUB)?;
        self.look(Disaster::CutAndPause(time), "it goes on", SUB, explain::SUB_CUT)?;
        network.mend().map_err(io::Error::other)?;
        Ok(())
    }

    fn cut(&self, cut: Cut, time: Duration, load: &Load) -> Result<(), Failure> {
        let network = self.pair.network().ok_or_else(|| io::Error::other("there is no network to cut"))?;
        let disaster = Disaster::Cut(cut, time);
        let begun = Instant::now();
        network.cut(cut).map_err(io::Error::other)?;
        self.pair.wait_until("main serves alone, the sub refuses", |views| {
            serves_alone(&views[MAIN]) && lun(&views[SUB])["serving"] == false
        })?;
        load.wait_for_refusals(SUB)?;
        self.go_on_alone(MAIN, load)?;
        self.look(disaster, "cut", MAIN, explain::MAIN_CUT)?;
        self.look(disaster, "cut", SUB, explain::SUB_CUT)?;
        thread::sleep(time.saturating_sub(begun.elapsed()));
        network.mend().map_err(io::Error::other)?;
        Ok(())
    }

    /// The way back, with a look at `status` while a copy is being refilled.
    fn back(&self, disaster: Disaster) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let copies = |views: &Views| views.iter().any(|view| lun(view)["copied_percent"].as_u64() > Some(0));
        self.pair.wait_until("the way back begins", |views| copies(views) || is_duplex(views))?;
        let screen = self.pair.screen(SUB)?;
        if screen.text.contains("copied") {
            self.judge_screen(disaster, "refilling", SUB, &screen, explain::REFILLING)?;
        }
        self.pair.wait_until_duplex()?;
        let back = begun.elapsed();
        self.look(disaster, "back", MAIN, explain::WELL)?;
        Ok(back)
    }

    fn look(
        &self,
        disaster: Disaster,
        when: &str,
        side: usize,
        expected: explain::Expected,
    ) -> Result<(), Failure> {
        let screen = self.pair.screen(side)?;
        self.judge_screen(disaster, when, side, &screen, expected)
    }

    fn judge_screen(
        &self,
        disaster: Disaster,
        when: &str,
        side: usize,
        screen: &super::pair::Screen,
        expected: explain::Expected,
    ) -> Result<(), Failure> {
        if self.settings.print {
            let machine = if self.pair.network().is_some() { NAMES[side] } else { "both" };
            println!("\n=== {disaster}; {when}; on {machine}\n{}", screen.text);
        }
        explain::check(screen, expected)
    }

    /// Ends both cleanly; then both volumes must be the same and hold all that was acknowledged.
    pub fn end(mut self) -> Result<(), Failure> {
        self.pair.stop()?;
        let [a, b] = [self.pair.open_volume(0)?, self.pair.open_volume(1)?];
        if let Some(at) = judge::copies::first_difference(a, b, LUN_BYTES)? {
            return Err(Failure::Copies(at));
        }
        for (region, history) in (0..).zip(&mut self.histories) {
            let extent = Extent { start: region * REGION_BLOCKS, blocks: REGION_BLOCKS };
            let data = read(&self.pair, extent)?;
            let id = history.invoke(u32::MAX, 0, Kind::Read, vec![extent]);
            history.end(id, Outcome::Read(content::pieces(&data, extent.start)));
            judge::check(history).map_err(Box::new)?;
        }
        let filled = filled(&self.settings);
        let mut start = filled.start;
        while start < filled.end() {
            let extent = Extent { start, blocks: (filled.end() - start).min(2048) };
            if !lun_content::is_filled(&read(&self.pair, extent)?, start) {
                return Err(Failure::Lost(format!("blocks {start} to {}", extent.end())));
            }
            start = extent.end();
        }
        Ok(())
    }
}

/// Hosts of one that goes on pause at most so long, keep their connections, and get no error. Tells the pause.
fn check_hosts_of(side: usize, met: &[Met]) -> Result<Duration, Failure> {
    for met in hosts::only(met, side) {
        if met.lost > 0 || met.codes.keys().any(|(_, code)| code.0 != 0x06) {
            return Err(Failure::Host(format!("{} went on, but its hosts met: {met}", NAMES[side])));
        }
    }
    let pause = hosts::only(met, side).map(|met| met.pause).max().unwrap_or_default();
    if pause > PAUSE_MAX {
        return Err(Failure::Pause { name: NAMES[side], pause });
    }
    Ok(pause)
}

fn read(pair: &Pair, extent: Extent) -> io::Result<Vec<u8>> {
    let mut volume = pair.open_volume(MAIN)?;
    volume.seek(SeekFrom::Start(extent.start * 512))?;
    let mut data = vec![0; extent.blocks as usize * 512];
    volume.read_exact(&mut data)?;
    Ok(data)
}

fn filled(settings: &Settings) -> Extent {
    Extent { start: FILLED_FROM, blocks: settings.filled_mib.min(LUN_BYTES >> 21) * 2048 }
}

/// Long disasters with fewer commands in the same time, so that every history stays short enough to judge.
fn interval(disaster: Disaster) -> Duration {
    match disaster {
        Disaster::Pause(_, time) | Disaster::Cut(_, time) | Disaster::CutAndPause(time)
            if time > Duration::from_secs(10) =>
        {
            Duration::from_millis(50)
        }
        _ => Duration::from_millis(15),
    }
}

/// Which controller serves its hosts throughout.
fn goes_on(disaster: Disaster) -> Option<usize> {
    match disaster {
        Disaster::End(side) => Some(1 - side),
        Disaster::Kill(side) | Disaster::Pause(side, _) | Disaster::LoseVolume(side) => {
            (side == SUB).then_some(MAIN)
        }
        Disaster::Cut(..) | Disaster::CutAndPause(_) => Some(MAIN),
        Disaster::KillBoth => None,
    }
}

fn serves_alone(view: &serde_json::Value) -> bool {
    lun(view)["serving"] == true && lun(view)["status"] == "suspended"
}
