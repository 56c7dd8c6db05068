//! Scenarios that are written out: what happens, step by step, on LUN 0 (main is the first controller). A step that
//! waits for a moment makes the run fail if the moment does not come, so that a scenario that ran to its end has met
//! what it was written for.
//!
//! Whoever loses power in one of these loses everything that was not durable.

use core::time::Duration;

use controller::appliance::{CONTROL_KEY, ControlRecord};
use controller::pair::{PairStatus, Service};
use controller::plan::Side;
use controller::time::Time;
use protocol::interlink::copy_report::GroupRecord;

use super::Simulation;
use super::disk::Trouble;
use super::host::Phase;
use super::hub::Hub;
use super::settings::NAMES;
use crate::judge::{Extent, Outcome};
use crate::workload::Ended;

/// A moment that does not come within this time never comes.
const PATIENCE: Duration = Duration::from_secs(15);

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Wait until this is so.
    When(Moment),
    /// It must be so now.
    Must(Moment),
    /// Wait for so long.
    Wait(Duration),
    /// This happens.
    Do(Act),
}

/// What the script waits for. Hosts by their number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Every pair is DUPLEX under its preferred main.
    Settled,
    /// A host may send commands and has none in flight.
    Ready(usize),
    /// A host's last command has been answered, or will never be.
    Idle(usize),
    /// A host waits for an answer.
    Waits(usize),
    /// A host waits for the answer to a task management function.
    Manages(usize),
    /// A host's last command ended like this.
    Ended(usize, Ended),
    /// A host's last command has been answered with this sense key and code.
    Heard(usize, (u8, u8, u8)),
    /// A controller says that a sanitize operation is under way.
    Sanitizing(Side),
    /// A controller's copy holds zeros there.
    Zeros(Side, Extent),
    /// A controller's copy holds what a host wrote last.
    Holds(Side, usize),
    /// It does not.
    Lacks(Side, usize),
    /// Disk I/O of this kind is in flight.
    InFlight(Side, Io),
    /// A record is on its way to a controller's disk.
    Record(Side),
    /// Frames that a controller sent by its own bridges have not arrived.
    OnItsWay(Side),
    /// How a controller takes part in the pair.
    Place(Side, PairStatus, Service),
    /// On a controller's disk the newest generation names these copies: bit 0 the first controller's.
    Members(Side, u8),
    /// On a controller's disk stands whether it ended cleanly.
    Clean(Side, bool),
    /// A controller refuses the LUN, and its reason contains this.
    Refuses(Side, &'static str),
    /// A controller's clean end is complete.
    Stopped(Side),
    /// Neither of them.
    Not(Box<Moment>),
}

/// Kinds of disk I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Io {
    /// READ.
    Read,
    /// WRITE, WRITE SAME, UNMAP.
    Change,
    /// Flush.
    Flush,
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// A host sends a command.
    Ask(usize, Ask),
    /// A host gives up its last command by a task management function.
    GiveUp(usize, Function),
    /// A host resets the LUN.
    ResetLun(usize),
    /// A host loses its connection.
    Disconnect(usize),
    /// A host logs out.
    LogOut(usize),
    /// A host has given its last command up for good: from now on it may not take effect any more.
    Expire(usize),
    /// A controller's process ends at once.
    Kill(Side),
    /// A controller's machine loses power.
    PowerLoss(Side),
    /// A controller is started.
    Start(Side),
    /// A controller is asked to end cleanly.
    Stop(Side),
    /// A controller stands still.
    Pause(Side, Duration),
    /// Nothing from this controller reaches the other.
    Cut(Side),
    /// The interlink carries again.
    Heal,
    /// A controller sees all its connections of the interlink reset; the other one notices nothing.
    Reset(Side),
    /// The same with the control connection alone.
    ResetControl(Side),
    /// Something takes no effect until it is let go.
    Hold(Hold),
    /// It goes on.
    Release(Hold),
    /// A disk gets into trouble.
    Trouble(Side, Trouble),
    /// And out of it.
    Repair(Side),
    /// A controller's volumes are gone.
    RemoveVolumes(Side),
    /// What a controller keeps, volumes and records, is not there any more: put aside.
    Unmount(Side),
    /// It is there again.
    Mount(Side),
    /// A copy of a controller's records is put aside.
    BackUp(Side),
    /// They are what they were then; what they were until now is put aside.
    Restore(Side),
}

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// READ.
    Read(Extent),
    /// WRITE.
    Write(Extent),
    /// COMPARE AND WRITE of a block that is taken for zeros.
    CompareAndWrite(u64),
    /// SYNCHRONIZE CACHE.
    Synchronize,
    /// SANITIZE, OVERWRITE with zeros, answered when it has begun.
    Sanitize,
    /// EXTENDED COPY from the second LUN, of which nobody writes anything, to the same blocks of the first.
    CopyZeros(Extent),
}

/// A task management function (RFC 7143 11.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    /// ABORT TASK.
    AbortTask,
    /// ABORT TASK SET.
    AbortTaskSet,
    /// LOGICAL UNIT RESET.
    LogicalUnitReset,
}

impl Function {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 3] = [Self::AbortTask, Self::AbortTaskSet, Self::LogicalUnitReset];

    /// Its code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::AbortTask => 1,
            Self::AbortTaskSet => 2,
            Self::LogicalUnitReset => 5,
        }
    }
}

/// What can be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// What a controller sends by its own bridges: FORWARD, CANCEL, APPLY.
    Bridges(Side),
    /// What has left a controller by its own bridges and is in the network.
    Wire(Side),
    /// What a controller sends back by the other's: ORDER, DONE, ENDED, APPLIED.
    Replies(Side),
    /// A controller's records of new generations on their way to its disk.
    Records(Side),
    /// The completions of disk I/O of this kind.
    Disk(Side, Io),
    /// That a controller closes connections of the interlink.
    Closes(Side),
    /// That a controller notices the time.
    Ticks(Side),
}

/// Where a script is.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    next: usize,
    /// When it came to that step.
    since: Option<Time>,
    aside: Vec<(Side, Kept)>,
}

/// What a controller keeps.
type Kept = (std::collections::BTreeMap<String, Vec<u8>>, Option<Vec<super::volume::Volume>>);

impl Simulation {
    /// Takes the script as far as it goes now. True at its end.
    pub(super) fn play(&mut self, now: Time) -> Result<bool, String> {
        loop {
            let Some(step) = self.settings.script.get(self.script.next).cloned() else { return Ok(true) };
            let at = self.script.next;
            let since = *self.script.since.get_or_insert(now);
            match &step {
                Step::When(moment) if !self.is(moment) => {
                    if now.since(since) > PATIENCE {
                        return Err(format!("step {at}, {moment:?}, never came: {}", self.stuck()));
                    }
                    return Ok(false);
                }
                Step::Must(moment) if !self.is(moment) => {
                    return Err(format!("step {at}: {moment:?} is not so: {}", self.stuck()));
                }
                Step::Wait(time) if now.since(since) < *time => return Ok(false),
                Step::When(_) | Step::Must(_) | Step::Wait(_) => {}
                Step::Do(act) => self.act(act, now)?,
            }
            self.script.next += 1;
            self.script.since = None;
            let hub = &mut *self.hub.lock();
            hub.report.steps += 1;
            hub.trace.event(hub.now().0, format_args!("STEP {at} {step:?}"));
        }
    }

    fn is(&self, moment: &Moment) -> bool {
        let hub = || self.hub.lock();
        match moment {
            Moment::Settled => self.began.is_some() && self.is_settled(),
            Moment::Ready(host) => {
                self.hosts[*host].phase == Phase::Working && self.hosts[*host].outstanding() == 0
            }
            Moment::Idle(host) => self.hosts[*host].outstanding() == 0,
            Moment::Waits(host) => self.hosts[*host].outstanding() > 0,
            Moment::Manages(host) => !self.hosts[*host].functions.is_empty(),
            Moment::Ended(host, ended) => {
                self.hosts[*host].outstanding() == 0 && self.hosts[*host].last_end.as_ref() == Some(ended)
            }
            Moment::Heard(host, code) => {
                self.hosts[*host].outstanding() == 0 && self.hosts[*host].last_code == Some(*code)
            }
            Moment::Sanitizing(side) => {
                let status = self.units[side.index()].controller.status();
                status.luns.first().is_some_and(|lun| lun.sanitize.is_some())
            }
            Moment::Zeros(side, extent) => hub().disks[side.index()].volumes[0].holds(*extent, None),
            Moment::Holds(side, host) => self.holds(*side, *host),
            Moment::Lacks(side, host) => !self.holds(*side, *host),
            Moment::InFlight(side, io) => hub().disks[side.index()].has_in_flight(*io),
            Moment::Record(side) => hub().processes[side.index()].writing > 0,
            Moment::OnItsWay(side) => hub().interlink.has_frames_under_way(*side),
            Moment::Place(side, status, service) => {
                !hub().processes[side.index()].down
                    && self
                        .place(*side, 0)
                        .is_some_and(|(_, now, served, _)| (now, served) == (*status, *service))
            }
            Moment::Members(side, members) => {
                record(&hub(), *side).is_some_and(|record| record.generation.members == *members)
            }
            Moment::Clean(side, clean) => record(&hub(), *side).is_some_and(|record| record.clean == *clean),
            Moment::Refuses(side, why) => {
                let lun = self.units[side.index()].controller.status().luns.remove(0);
                !lun.serving && lun.reason.is_some_and(|reason| reason.contains(why))
            }
            Moment::Stopped(side) => self.units[side.index()].controller.stopped(),
            Moment::Not(other) => !self.is(other),
        }
    }

    fn holds(&self, side: Side, host: usize) -> bool {
        let volumes = &self.hub.lock().disks[side.index()].volumes;
        self.hosts[host].last_write.is_some_and(|(id, extent)| volumes[0].holds(extent, Some(id)))
    }

    /// The NAA identifiers of the second LUN and the first.
    fn naas(&self) -> Result<[u64; 2], String> {
        let luns = self.units[0].controller.status().luns;
        let naa = |at: usize| {
            let text = luns.get(at)?.naa.as_deref()?;
            u64::from_str_radix(text, 16).ok()
        };
        Option::zip(naa(1), naa(0)).map(|(from, to)| [from, to]).ok_or_else(|| "a LUN has no identity".into())
    }

    fn act(&mut self, act: &Act, now: Time) -> Result<(), String> {
        match *act {
            Act::Ask(host, ask) => {
                if let Ask::CopyZeros(_) = ask {
                    self.hosts[host].naas = self.naas()?;
                }
                let hub = &mut *self.hub.lock();
                self.hosts[host].ask_for(hub, &mut self.history, ask)?;
            }
            Act::GiveUp(host, function) => {
                let hub = &mut *self.hub.lock();
                self.hosts[host].give_up_last(hub, function)?;
            }
            Act::ResetLun(host) => {
                let hub = &mut *self.hub.lock();
                self.hosts[host].manage_lun(hub, Function::LogicalUnitReset, 0);
            }
            Act::Disconnect(host) => self.disconnect(host),
            Act::LogOut(host) => self.hosts[host].log_out(&mut self.hub.lock()),
            Act::Expire(host) => {
                let id = self.hosts[host].last.and_then(|(_, id)| id).ok_or("nothing was asked")?;
                self.history.end(id, Outcome::Aborted);
            }
            Act::Kill(_) | Act::PowerLoss(_) | Act::Start(_) | Act::Stop(_) | Act::Pause(..) => {
                self.change_process(act, now);
            }
            Act::Cut(side) => self.hub.lock().cut_off(&[side]),
            Act::Heal => self.hub.lock().heal_interlink(),
            Act::Reset(side) => self.hub.lock().reset(side, true),
            Act::ResetControl(side) => self.hub.lock().reset(side, false),
            Act::Hold(hold) => self.hub.lock().held.push(hold),
            Act::Release(hold) => self.hub.lock().held.retain(|other| *other != hold),
            Act::Trouble(side, trouble) => {
                {
                    let hub = &mut *self.hub.lock();
                    hub.faults += 1;
                    hub.disks[side.index()].trouble = Some(trouble);
                }
                self.note_failure(side, false);
            }
            Act::Repair(side) => self.hub.lock().disks[side.index()].trouble = None,
            Act::RemoveVolumes(_) | Act::Unmount(_) | Act::BackUp(_) | Act::Restore(_) | Act::Mount(_) => {
                self.change_state_folder(act)?;
            }
        }
        Ok(())
    }

    /// Ends a controller's process, or starts one.
    fn change_process(&mut self, act: &Act, now: Time) {
        match *act {
            Act::Kill(side) | Act::PowerLoss(side) => {
                self.hub.lock().faults += 1;
                self.end(side, matches!(act, Act::PowerLoss(_)));
            }
            Act::Start(side) => self.restart(side),
            Act::Stop(side) => self.units[side.index()].controller.stop(),
            Act::Pause(side, time) => self.hub.lock().processes[side.index()].paused = Some(now + time),
            _ => {}
        }
    }

    /// A person or a mount changes what a controller finds in its state folder.
    fn change_state_folder(&mut self, act: &Act) -> Result<(), String> {
        match *act {
            Act::RemoveVolumes(side) => {
                let volumes = &mut self.hub.lock().disks[side.index()].volumes;
                volumes.iter_mut().for_each(|volume| *volume = Default::default());
            }
            Act::Unmount(side) => {
                let hub = &mut *self.hub.lock();
                let records = core::mem::take(&mut hub.records[side.index()]);
                let none = vec![Default::default(); self.settings.luns.len()];
                let volumes = core::mem::replace(&mut hub.disks[side.index()].volumes, none);
                self.script.aside.push((side, (records, Some(volumes))));
            }
            Act::BackUp(side) => {
                let records = self.hub.lock().records[side.index()].clone();
                self.script.aside.push((side, (records, None)));
            }
            Act::Restore(side) => {
                let found = self.script.aside.iter_mut().find(|(of, _)| *of == side);
                let (_, (records, _)) = found.ok_or("nothing was put aside")?;
                core::mem::swap(&mut self.hub.lock().records[side.index()], records);
            }
            Act::Mount(side) => {
                let found = self.script.aside.iter().rposition(|(of, _)| *of == side);
                let (_, (records, volumes)) = self.script.aside.remove(found.ok_or("nothing was put aside")?);
                let hub = &mut *self.hub.lock();
                hub.records[side.index()] = records;
                if let Some(volumes) = volumes {
                    hub.disks[side.index()].volumes = volumes;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What stands on a controller's disk about LUN 0.
fn record(hub: &Hub, side: Side) -> Option<GroupRecord> {
    let record =
        ControlRecord::read(NAMES[side.index()], hub.records[side.index()].get(CONTROL_KEY)?).ok()?;
    record.groups.into_iter().find(|record| record.lun == hub.settings.luns[0].name)
}
