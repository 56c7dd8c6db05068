//! Serving means answering. A prober stands at both controllers' doors: what `status` calls serving has to answer its
//! writes, during faults and after them; and a main that nothing is the matter with has to serve.
//!
//! * **Owed** ([`OWED_MAX`]): since when a LUN has been called serving and no write was answered GOOD. That it is
//!   reserved or write-protected is an answer. Excused: while its controller stands still, and while any disk of the
//!   pair stands still or fails. Every fault has its own time: two that follow each other have twice as much. That the
//!   peer or the interlink is gone, slow, or refused excuses nobody: who cannot serve without them has to say so.
//! * **Refused** ([`REFUSED_MAX`]): the preferred main that has served the LUN in this run, whose disk was well in it
//!   and whose generation is the newest on any disk, serves it, whatever becomes of its peer. (Only a failed disk or
//!   its coming back makes such a LUN change main, and then another generation is the newest, or it was not the main.)
//! * **In the end** every LUN is served by both, and each answers a write and a read of what was written.
//!
//! A scenario that is written out holds what it is for: there only the end is looked at.

use core::time::Duration;

use bytes::Bytes;
use controller::appliance::{CONTROL_KEY, ControlRecord};
use controller::command::{
    COMMAND_AGE_MAX, Command, Initiator, LunIndex, NexusId, Op, Outcome as Answer, TaskTag,
};
use controller::pair::Role;
use controller::pair::Service as Way;
use controller::plan::Side;
use controller::status::LunStatus;
use controller::time::Time;
use controller::world::World;
use protocol::block::BlockRange;
use protocol::scsi::sense::{Sense, SenseKey, Status};

use super::director::MENDING_MAX;
use super::hub::Hub;
use super::settings::NAMES;
use super::{SIDES, Simulation};
use crate::judge::{Extent, Kind, OpId, Outcome};
use crate::workload::content;

/// The prober's nexus at each controller; no session's number comes so far.
pub(super) const PROBER: NexusId = NexusId(u64::MAX);

/// Who the prober is in the history.
const HOST: u32 = u32::MAX - 1;

/// How often `status` is looked at, in ticks of each controller.
const LOOK_TICKS: u64 = 4;

/// From one probe to the next, unless that is refused.
const REST: Duration = Duration::from_millis(700);

/// How long a LUN may be called serving without answering a write: what came when the peer was lost may end BUSY when
/// it is too old; the next one has to be answered well.
const OWED_MAX: Duration = Duration::from_millis(COMMAND_AGE_MAX.as_millis() as u64 + 1_500);

/// How long a main that nothing is the matter with may refuse.
const REFUSED_MAX: Duration = Duration::from_millis(1_500);

/// What is asked in the end, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proof {
    /// Nothing yet.
    Nothing,
    /// A write was answered, or kept out.
    Wrote,
    /// And a read.
    Read,
}

/// A command of the prober.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    tag: TaskTag,
    id: OpId,
}

/// What a controller has been to a LUN in one of its runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Served {
    /// Not main.
    No,
    /// Main that served it.
    AsMain(u32),
    /// Its disk was not well: its copy may be about to leave the pair, also when the disk is well again.
    Doubted(u32),
}

/// One LUN at one controller.
#[derive(Clone, Debug)]
struct Watch {
    /// Since when it has been called serving without an answered write.
    owes: Option<Time>,
    /// Since when it is refused by a main that should serve it.
    refuses: Option<Time>,
    /// What has become of it in the last run of the controller in which it was main, or its disk was not well.
    served: Served,
    /// What waits for an answer. That a command is answered late does not keep the next one.
    asked: Vec<Asked>,
    /// When the next one is asked.
    next: Time,
    proof: Proof,
}

/// The prober.
#[derive(Debug)]
pub(super) struct Service {
    watches: Vec<[Watch; 2]>,
    /// The runs of the controllers in which it has its nexus.
    known: [Option<u32>; 2],
    next_tag: u64,
    /// The end has come: everyone has to prove that it serves.
    last: bool,
}

impl Service {
    pub(super) fn new(luns: usize) -> Self {
        let watch = Watch {
            owes: None,
            refuses: None,
            served: Served::No,
            asked: Vec::new(),
            next: Time(0),
            proof: Proof::Nothing,
        };
        Self { watches: vec![[watch.clone(), watch]; luns], known: [None; 2], next_tag: 0, last: false }
    }

    /// What stood still goes on, or a disk is not what it was: nobody owes anything for the time until now.
    pub(super) fn excuse(&mut self) {
        self.watches.iter_mut().flatten().for_each(|watch| (watch.owes, watch.refuses) = (None, None));
    }

    /// Another fault begins: what is owed because of it is owed from now on.
    pub(super) fn fault_begins(&mut self, now: Time) {
        self.watches
            .iter_mut()
            .flatten()
            .filter_map(|watch| watch.owes.as_mut())
            .for_each(|owes| *owes = now);
    }

    /// A controller is started: what it said before is forgotten.
    pub(super) fn restarted(&mut self, side: Side) {
        for watch in self.watches.iter_mut().map(|watches| &mut watches[side.index()]) {
            (watch.owes, watch.refuses) = (None, None);
            watch.asked.clear();
        }
    }

    /// A controller's disk gets into trouble: in this run it need not go on as main.
    pub(super) fn doubt(&mut self, side: Side, life: u32) {
        let doubted = Served::Doubted(life);
        self.watches.iter_mut().for_each(|watches| watches[side.index()].served = doubted);
    }
}

impl Simulation {
    /// At a tick of a controller.
    pub(super) fn look_at_service(&mut self, side: Side) -> Result<(), String> {
        let watches = self.settings.has_trouble() && self.settings.script.is_empty() && self.began.is_some();
        let is_time = self.ticks[side.index()].is_multiple_of(LOOK_TICKS);
        if is_time && (watches || self.service.last) { self.look(side) } else { Ok(()) }
    }

    fn look(&mut self, side: Side) -> Result<(), String> {
        let status = self.units[side.index()].controller.status();
        for (at, said) in status.luns.iter().enumerate() {
            let life = self.hub.lock().processes[side.index()].life;
            self.look_whether_it_refuses(side, at, said, life)?;
            self.look_whether_it_owes(side, at, said)?;
            let watch = &self.service.watches[at][side.index()];
            if said.serving && watch.proof != Proof::Read && self.now() >= watch.next {
                self.probe(side, at);
            }
        }
        Ok(())
    }

    fn look_whether_it_refuses(
        &mut self,
        side: Side,
        at: usize,
        said: &LunStatus,
        life: u32,
    ) -> Result<(), String> {
        let lun = &self.settings.luns[at];
        let well =
            is_well(&self.hub.lock(), side) && self.hub.lock().processes[side.index()].paused.is_none();
        let is_main = |(role, _, way, _)| role == Role::Main && way != Way::Refused;
        let serves = well && said.serving && self.place(side, at).is_some_and(is_main);
        let watch = &mut self.service.watches[at][side.index()];
        if serves && watch.served != Served::Doubted(life) {
            watch.served = Served::AsMain(life);
        }
        let should = well && lun.mirror && lun.main == side && watch.served == Served::AsMain(life);
        if said.serving || !should || newest_main(&self.hub.lock(), &lun.name) != Some(side) {
            watch.refuses = None;
            return Ok(());
        }
        let hub = &mut *self.hub.lock();
        let refused = hub.now().since(*watch.refuses.get_or_insert(hub.now()));
        hub.report.longest_refused_ms = hub.report.longest_refused_ms.max(refused.as_millis() as u64);
        if refused <= REFUSED_MAX {
            return Ok(());
        }
        Err(format!(
            "LUN {}: {side:?} is its main and well, and has refused it for {} ms; its words: {}",
            said.number,
            refused.as_millis(),
            said.reason.as_deref().unwrap_or("all is well")
        ))
    }

    fn look_whether_it_owes(&mut self, side: Side, at: usize, said: &LunStatus) -> Result<(), String> {
        let hub = self.hub.lock();
        let stands = hub.processes[side.index()].paused.is_some();
        let excused = stands || !SIDES.iter().all(|side| is_well(&hub, *side));
        let watch = &mut self.service.watches[at][side.index()];
        if !said.serving || excused {
            watch.owes = None;
            return Ok(());
        }
        let owed = hub.now().since(*watch.owes.get_or_insert(hub.now()));
        if owed <= OWED_MAX {
            return Ok(());
        }
        Err(format!(
            "LUN {}: status calls it serving at {side:?}, and for {} ms no write was answered; its words: {}",
            said.number,
            owed.as_millis(),
            said.reason.as_deref().unwrap_or("all is well")
        ))
    }

    /// The next command of the prober: a write of the last block; in the end also a read of what was written.
    fn probe(&mut self, side: Side, at: usize) {
        let (number, start) = (self.settings.luns[at].number, self.settings.luns[at].blocks - 1);
        let Some(range) = BlockRange::new(start, 1) else { return };
        let life = self.hub.lock().processes[side.index()].life;
        let extents = vec![Extent { start, blocks: 1 }];
        let writes = self.service.watches[at][side.index()].proof == Proof::Nothing;
        let (id, op) = if writes {
            let id = self.history.invoke(HOST, number, Kind::Write, extents);
            let data = vec![Bytes::from(content::written(id, start, 1))];
            (id, Op::Write { range, data, fua: false })
        } else {
            (self.history.invoke(HOST, number, Kind::Read, extents), Op::Read { range })
        };
        self.service.next_tag += 1;
        let tag = TaskTag(self.service.next_tag);
        let watch = &mut self.service.watches[at][side.index()];
        watch.asked.push(Asked { tag, id });
        watch.next = self.hub.lock().now() + REST;
        let controller = self.units[side.index()].controller.clone();
        if self.service.known[side.index()] != Some(life) {
            self.service.known[side.index()] = Some(life);
            let name = "iqn.2026-11.com.example:prober".to_owned();
            controller.nexus_added(PROBER, &Initiator { name, isid: [0; 6] });
        }
        self.hub.lock().report.probes += 1;
        let received = controller.world().now();
        controller.command(Command { lun: LunIndex(at as u16), nexus: PROBER, tag, op, received });
    }

    /// The prober is answered.
    pub(super) fn probed(&mut self, side: Side, tag: TaskTag, answer: &Answer) {
        let now = self.now();
        let place =
            |watches: &[Watch; 2]| watches[side.index()].asked.iter().position(|asked| asked.tag == tag);
        let Some((at, asked)) =
            self.service.watches.iter().enumerate().find_map(|(at, watches)| Some((at, place(watches)?)))
        else {
            return;
        };
        let start = self.settings.luns[at].blocks - 1;
        let watch = &mut self.service.watches[at][side.index()];
        let asked = watch.asked.remove(asked);
        let reads = self.history.operation(asked.id).kind == Kind::Read;
        let outcome = match answer {
            Answer::Good(data) if reads => Outcome::Read(content::pieces(&data.concat(), start)),
            Answer::Good(_) => Outcome::Done,
            Answer::Aborted | Answer::Status(Status::TaskAborted) => Outcome::Aborted,
            Answer::Check(sense) if !is_refusal(sense) => Outcome::Unknown,
            Answer::Check(_) | Answer::Status(_) => Outcome::Refused,
        };
        self.history.end(asked.id, outcome);
        let kept_out = matches!(answer, Answer::Status(Status::ReservationConflict))
            || matches!(answer, Answer::Check(sense) if sense.code == Sense::WRITE_PROTECTED.code);
        let served = matches!(answer, Answer::Good(_)) || kept_out;
        if served {
            if let Some(since) = watch.owes.replace(now) {
                let owed = &mut self.hub.lock().report.longest_owed_ms;
                *owed = (*owed).max(now.since(since).as_millis() as u64);
            }
        } else {
            watch.next = now;
        }
        let wrote = self.service.last && served && !reads && watch.proof == Proof::Nothing;
        if wrote {
            watch.proof = Proof::Wrote;
        } else if served && reads {
            watch.proof = Proof::Read;
        }
        // A unit attention is told once.
        let told = matches!(answer, Answer::Check(sense) if sense.key == SenseKey::UnitAttention);
        if told || wrote {
            self.probe(side, at);
        }
    }

    /// All is well again: every LUN is served by both, and answers.
    pub(super) fn prove_service(&mut self) -> Result<(), String> {
        self.service.last = true;
        self.service.excuse();
        let began = self.now();
        for watch in self.service.watches.iter_mut().flatten() {
            watch.next = began;
        }
        for side in SIDES {
            self.look(side)?;
        }
        while self.service.watches.iter().flatten().any(|watch| watch.proof != Proof::Read) {
            self.step()?;
            let now = self.now();
            if self.settings.has_trouble() {
                self.conduct(now)?;
            }
            if now.since(began) > MENDING_MAX {
                return Err(format!("in the end not every LUN is served by both: {}", self.stuck()));
            }
        }
        Ok(())
    }
}

/// Whether a controller's disk does what it shall.
fn is_well(hub: &Hub, side: Side) -> bool {
    hub.disks[side.index()].trouble.is_none() && !hub.stalled(side)
}

/// Whether it says that the command was not executed.
fn is_refusal(sense: &Sense) -> bool {
    matches!(sense.key, SenseKey::UnitAttention | SenseKey::NotReady)
        || sense.code == Sense::WRITE_PROTECTED.code
}

/// Who is main by the newest generation on any disk.
fn newest_main(hub: &Hub, lun: &str) -> Option<Side> {
    let records = NAMES.iter().zip(&hub.records);
    let records = records.filter_map(|(name, of)| ControlRecord::read(name, of.get(CONTROL_KEY)?).ok());
    let groups = records.flat_map(|record| record.groups).filter(|record| record.lun == lun);
    let newest = groups.max_by_key(|record| record.generation.number)?;
    SIDES.get(usize::from(newest.generation.main)).copied()
}
