//! All LUNs of a controller, each behind a lock of its own.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use protocol::interlink::GenerationTag;

use super::SenseFormats;
use crate::appliance::{self, Appliance, Effect, LunOrder, Restored};
use crate::background::Background;
use crate::command::LunIndex;
use crate::lease::Lease;
use crate::lun::{Action, Lun, LunSetup};
use crate::pair::PairView;
use crate::plan::Plan;
use crate::status::LimitStatus;
use crate::time::{RunTime, Time};
use crate::volume::stack::Stack;
use crate::world::Ticket;

/// Room for this many actions is kept for a thread's next event; an event that needed more gives the rest back.
const KEPT_ACTIONS: usize = 1024;

thread_local! {
    /// Where this thread's next event of a LUN puts its actions: asking the allocator for room costs more than most
    /// events do.
    static ROOM: Cell<Vec<Action>> = const { Cell::new(Vec::new()) };
}

/// The LUNs, in the plan's order.
pub(super) struct Luns {
    luns: Vec<Entry>,
    clock: Arc<RunTime>,
    /// Whose turn it is to work in the background. Locked before a LUN, never after.
    background: Mutex<Background>,
}

/// One LUN.
struct Entry {
    lun: Mutex<Lun>,
    /// When its next tick is due, in nanoseconds. Written with the LUN locked, and looked at without, so that a tick
    /// of the controller costs a load for each LUN that rests.
    due: AtomicU64,
    /// The record of its shared state can be read. If it cannot, the LUN is refused and the record is never written
    /// over.
    is_readable: bool,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Lun> {
        let lun = self.lun.lock();
        // Not before: a tick that is being handled says last when the next is due.
        self.due.store(0, Ordering::Relaxed);
        lun
    }
}

/// What came of an effect that may be about a LUN.
pub(super) enum Told {
    /// The LUN of this index asks for these actions, perhaps none.
    Lun(usize, Vec<Action>),
    /// All LUNs have been told.
    All,
    /// There is no such LUN.
    Missing,
    /// The effect is about something else.
    Other(Effect),
}

impl Luns {
    /// The LUNs of a plan at the controller's start, with the shared state that was restored.
    pub(super) fn new(plan: &Plan, restored: &Restored, incarnation: u64, lease: &Arc<Lease>) -> Self {
        let clock = Arc::<RunTime>::default();
        let places = plan.luns.iter().zip(0..).map(|(lun, index)| {
            let setup = LunSetup {
                index,
                stack: Stack::of(lun.base),
                blocks: lun.blocks,
                write_cache: lun.write_cache,
                luns: plan.luns.len(),
                side: plan.side,
                incarnation,
            };
            let state = restored.shared(plan.own_name(), &lun.name);
            let is_readable = state.is_ok();
            let lun =
                Mutex::new(Lun::new(setup, state.unwrap_or_default(), Arc::clone(lease), Arc::clone(&clock)));
            Entry { lun, due: AtomicU64::new(0), is_readable }
        });
        Self { luns: places.collect(), clock, background: Mutex::default() }
    }

    /// What a LUN has to do in the background has changed: it, or others that waited, come to their turn, and ask
    /// for these actions. The queue is locked meanwhile, so that it goes by what the LUNs want now.
    pub(super) fn share_background(&self, index: usize, now: Time) -> Vec<(usize, Vec<Action>)> {
        let mut background = self.background.lock();
        let work = self.lock(index).and_then(|lun| lun.background_work());
        let turns = background.look(LunIndex(index as u16), work).into_iter();
        let asks = turns.filter_map(|(turn, work)| {
            let (turn, mut actions) = (usize::from(turn.0), Vec::new());
            self.lock(turn)?.on_background_turn(work, now, &mut actions);
            Some((turn, actions))
        });
        asks.collect()
    }

    /// A tick of one LUN whose actions are not performed yet; whether it has given its disk up.
    #[cfg(test)]
    pub(super) fn gives_up_and_says_so_later(&self, index: usize, now: Time) -> bool {
        self.clock.tick(now);
        self.lock(index).is_some_and(|mut lun| {
            lun.on_tick(now, &mut Vec::new());
            lun.gave_disk_up()
        })
    }

    /// How many of them work in the background.
    pub(super) fn background_limit(&self) -> LimitStatus {
        self.background.lock().limit()
    }

    /// The sense data formats of LUNs that have these numbers.
    pub(super) fn sense_formats(&self, numbers: impl Iterator<Item = u16>) -> SenseFormats {
        SenseFormats::new(
            numbers.zip(self.iter()).map(|(number, lun)| (number, lun.unit().sense_format())).collect(),
        )
    }

    /// Tells each LUN that has an identity its capacity.
    pub(super) fn learn_capacities(&self, appliance: &Appliance) {
        for (index, mut lun) in self.iter().enumerate() {
            if let Some(identity) = appliance.view().lun_identity(index) {
                lun.learn(identity.blocks);
            }
        }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.luns.len()
    }

    /// A LUN, locked. It has its next tick: something may happen to it now.
    pub(super) fn lock(&self, index: usize) -> Option<MutexGuard<'_, Lun>> {
        self.luns.get(index).map(Entry::lock)
    }

    /// Time has passed: tells the LUNs that are due, and has the actions of each performed, without its lock.
    pub(super) fn tick(&self, now: Time, mut perform: impl FnMut(usize, &mut Vec<Action>)) {
        self.clock.tick(now);
        for (index, place) in self.luns.iter().enumerate() {
            if place.due.load(Ordering::Relaxed) > now.0 {
                continue;
            }
            let mut actions = ROOM.with(Cell::take);
            {
                let mut lun = place.lun.lock();
                lun.on_tick(now, &mut actions);
                place.due.store(lun.next_tick().0, Ordering::Relaxed);
            }
            perform(index, &mut actions);
            reuse(actions);
        }
    }

    /// When a LUN has its next tick, if nothing happens to it.
    #[cfg(test)]
    pub(super) fn due(&self, index: usize) -> Time {
        Time(self.luns[index].due.load(Ordering::Relaxed))
    }

    /// The LUNs one after the other, each locked when it comes. To look at them, or to tell them what no time follows
    /// from.
    pub(super) fn iter(&self) -> impl Iterator<Item = MutexGuard<'_, Lun>> {
        self.luns.iter().map(|place| place.lun.lock())
    }

    /// Whether a LUN's shared state may be written: not over a record that could not be read.
    pub(super) fn may_persist(&self, index: usize) -> bool {
        self.luns.get(index).is_some_and(|place| place.is_readable)
    }

    /// Lets a LUN handle an event. Gives the actions that it asks for, to be performed without the lock and then given
    /// to [`reuse`]; `None` if there is no such LUN.
    pub(super) fn handle(
        &self,
        index: usize,
        handle: impl FnOnce(&mut Lun, &mut Vec<Action>),
    ) -> Option<Vec<Action>> {
        let place = self.luns.get(index)?;
        let mut actions = ROOM.with(Cell::take);
        handle(&mut place.lock(), &mut actions);
        Some(actions)
    }

    /// Tells a LUN what the appliance has decided about it; an effect about anything else comes back.
    pub(super) fn tell(&self, effect: Effect, now: Time) -> Told {
        let mut actions = Vec::new();
        let index = match effect {
            Effect::Begin { lun: index, view, blocks, open } => {
                let Some(mut lun) = self.lock(index) else { return Told::Missing };
                lun.begin(view, blocks, now, &mut actions);
                if open {
                    lun.open(now, &mut actions);
                }
                index
            }
            Effect::Order { lun: index, order, view } => {
                let Some(mut lun) = self.lock(index) else { return Told::Missing };
                carry_out(order, &mut lun, view, now, &mut actions);
                index
            }
            Effect::Identified(index, blocks) => {
                let Some(mut lun) = self.lock(index) else { return Told::Missing };
                lun.learn(blocks);
                index
            }
            Effect::LunsChanged => {
                self.iter().for_each(|mut lun| lun.luns_changed());
                return Told::All;
            }
            other => return Told::Other(other),
        };
        Told::Lun(index, actions)
    }

    /// The generation of a LUN that has given its disk up.
    pub(super) fn gave_disk_up(&self, index: usize) -> Option<GenerationTag> {
        let lun = self.lock(index)?;
        lun.gave_disk_up().then(|| lun.view().generation)
    }

    /// Looks whether what always holds of every LUN does, and whether LUNs of one group have one place.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub(super) fn check(&self, groups: &[Vec<usize>]) {
        let background = self.background.lock();
        background.check();
        for (lun, index) in self.iter().zip(0..) {
            lun.check();
            let due = self.luns[usize::from(index)].due.load(Ordering::Relaxed);
            assert!(
                due <= lun.next_tick().0,
                "LUN {index} has something due and sleeps until {due}: {lun:?}"
            );
            let place = background.place(LunIndex(index));
            let mut own = lun.background_place();
            assert!(
                own == place && !own.on_work(lun.background_work()),
                "LUN {index}: {own:?}, in the queue {place:?}"
            );
        }
        for group in groups {
            let luns = group.iter().filter_map(|index| self.luns.get(*index).map(|place| place.lun.lock()));
            let places: Vec<_> = luns
                .map(|lun| {
                    let view = lun.view();
                    (view.role, view.status, view.service, view.generation)
                })
                .collect();
            assert!(places.windows(2).all(|two| two[0] == two[1]), "LUNs of one group differ: {places:?}");
        }
    }
}

/// The index of the LUN whose ticket it is; `None` if it is the appliance's.
pub(super) const fn lun_of(ticket: Ticket) -> Option<usize> {
    if appliance::owns(ticket) { None } else { Some((ticket.0 >> 48) as usize) }
}

/// Keeps the room that actions took for this thread's next event.
pub(super) fn reuse(actions: Vec<Action>) {
    if actions.capacity() <= KEPT_ACTIONS {
        ROOM.with(|room| room.set(actions));
    }
}

fn carry_out(order: LunOrder, lun: &mut Lun, view: PairView, now: Time, actions: &mut Vec<Action>) {
    match order {
        LunOrder::Open => lun.open(now, actions),
        LunOrder::Suspend => lun.suspend(view, now, actions),
        LunOrder::PeerGone => lun.peer_gone(view, now, actions),
        LunOrder::LosePeer => lun.lose_peer(view, now, actions),
        LunOrder::Hold => lun.hold(now, actions),
        LunOrder::LastCopy => lun.stay_as_last_copy(),
        LunOrder::Flushes => lun.flushes(),
        LunOrder::Copied => lun.on_copied(view, now, actions),
        LunOrder::Close => lun.close(view, now, actions),
    }
}

#[cfg(test)]
#[path = "tick_tests.rs"]
mod tick_tests;

#[cfg(test)]
#[path = "background_tests.rs"]
mod background_tests;
