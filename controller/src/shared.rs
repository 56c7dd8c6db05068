//! What an event makes of the state that both controllers share of a LUN. Pure: main asks it, and sends the sub what
//! it says.

use protocol::interlink::event::{Event, ModeSelection};
use protocol::interlink::sanitize::{Order, Position, Sanitize, Step};
use protocol::interlink::shared::{Attention, Modes, NexusHandle, Recipients, Requester, SharedState, Stamp};
use protocol::scsi::persistent_reservation::parameter_data;
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::{Sense, Status};

use crate::command::{Access, Data, Outcome};
use crate::reservation;

const CONFLICT: Outcome = Outcome::Status(Status::ReservationConflict);

/// What an event does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The state afterwards; `None` if nothing changes.
    pub next: Option<SharedState>,
    /// Who has to be told, before the event is answered.
    pub attentions: Vec<Attention>,
    /// What its answer carries.
    pub data: Data,
    /// What is in flight and not admitted is given up first, on both controllers.
    pub reset: bool,
}

impl Applied {
    const NOTHING: Self = Self { next: None, attentions: Vec::new(), data: Data::new(), reset: false };

    fn change(next: SharedState, attentions: Vec<Attention>) -> Self {
        Self { next: Some(next), attentions, ..Self::NOTHING }
    }
}

/// Applies an event to the state of a LUN whose write cache is configured so. An `Err` is how it ends without having
/// done anything. The stamp is the caller's to set.
pub fn apply(state: &SharedState, event: &Event, write_cache: bool) -> Result<Applied, Outcome> {
    if let Some(sense) = state.sanitize.sense(0).filter(|_| !passes_sanitize(&state.sanitize, event)) {
        return Err(Outcome::Check(sense));
    }
    match event {
        Event::Reset => Ok(reset(state)),
        Event::ReserverLost(handle) if state.reserver == Some(*handle) => {
            Ok(Applied::change(SharedState { reserver: None, ..state.clone() }, Vec::new()))
        }
        Event::ReserverLost(_) => Ok(Applied::NOTHING),
        Event::Reserve(who) => reserve(state, who),
        Event::Release(who) if state.reserver == Some(who.handle) => {
            Ok(Applied::change(SharedState { reserver: None, ..state.clone() }, Vec::new()))
        }
        // No error if it is another's or there is none (SPC-2 7.16), but for those that a persistent reservation
        // keeps out.
        Event::Release(who) if may_release(state, who) => Ok(Applied::NOTHING),
        Event::Release(_) => Err(CONFLICT),
        Event::ModeSelect { who, select } => {
            may_pass_reserver(state, who.handle)?;
            if !reservation::passes(&state.reservations, &who.name, Access::Write) {
                return Err(CONFLICT);
            }
            Ok(mode_select(state, who.handle, *select, write_cache))
        }
        // SPC-2 5.5.1: while the LUN is reserved by RESERVE, for its holder too.
        Event::ReserveIn { .. } | Event::ReserveOut { .. } if state.reserver.is_some() => Err(CONFLICT),
        Event::ReserveIn { action, allocation, .. } => {
            let mut data = parameter_data(*action, &state.reservations);
            data.truncate(usize::from(*allocation));
            Ok(Applied { data: vec![data.into()], ..Applied::NOTHING })
        }
        Event::ReserveOut { who, out } => {
            let done = reservation::perform(&state.reservations, &who.name, out)?;
            let next = done.next.map(|reservations| SharedState { reservations, ..state.clone() });
            Ok(Applied { next, attentions: done.attentions, ..Applied::NOTHING })
        }
        Event::Sanitize { who, order, .. } => sanitize(state, who, order.as_deref()),
        Event::Sanitized { from, step } => Ok(sanitized(state, *from, *step)),
    }
}

/// Whether an event may happen while a sanitize operation is under way, or after it has failed (SBC-4 4.11): what a
/// sanitize operation was to overwrite no format makes away with.
#[must_use]
pub fn passes_sanitize(sanitize: &Sanitize, event: &Event) -> bool {
    match event {
        Event::Reset | Event::ReserverLost(_) | Event::ReserveIn { .. } | Event::Sanitized { .. } => true,
        Event::Sanitize { order, .. } => match sanitize {
            Sanitize::Idle | Sanitize::FormatFailed => true,
            Sanitize::UnderWay { .. } => false,
            Sanitize::Failed { .. } => order.as_ref().is_none_or(|order| order.method != Method::Format),
        },
        Event::Reserve(_) | Event::Release(_) | Event::ModeSelect { .. } | Event::ReserveOut { .. } => {
            matches!(sanitize, Sanitize::Idle)
        }
    }
}

/// SBC-4 5.30.1: an operation that failed in restricted completion mode is left by another one in that mode only.
fn sanitize(state: &SharedState, who: &Requester, order: Option<&Order>) -> Result<Applied, Outcome> {
    may_pass_reserver(state, who.handle)?;
    if !reservation::passes(&state.reservations, &who.name, Access::Write) {
        return Err(CONFLICT);
    }
    let restricted = state.sanitize == Sanitize::Failed { ause: false };
    let sanitize = match order {
        None if restricted => return Err(Outcome::Check(Sense::invalid_cdb_field(1))),
        None if !matches!(state.sanitize, Sanitize::Failed { .. }) => return Ok(Applied::NOTHING),
        None => Sanitize::Idle,
        Some(_) if state.current.write_protect => return Err(Outcome::Check(Sense::WRITE_PROTECTED)),
        Some(order) if restricted && order.ause => {
            return Err(Outcome::Check(Sense::invalid_cdb_field(1)));
        }
        Some(order) => Sanitize::UnderWay { order: order.clone(), at: Position::default() },
    };
    Ok(Applied::change(SharedState { sanitize, ..state.clone() }, Vec::new()))
}

/// What main has done, if it is of the operation that the state names and as far as the state knows it.
fn sanitized(state: &SharedState, from: Position, step: Step) -> Applied {
    let Sanitize::UnderWay { order, at } = &state.sanitize else {
        return Applied::NOTHING;
    };
    if *at != from {
        return Applied::NOTHING;
    }
    let sanitize = match step {
        Step::To(at) => Sanitize::UnderWay { order: order.clone(), at },
        Step::Done => Sanitize::Idle,
        Step::Failed if order.method == Method::Format => Sanitize::FormatFailed,
        Step::Failed => Sanitize::Failed { ause: order.ause },
    };
    Applied::change(SharedState { sanitize, ..state.clone() }, Vec::new())
}

/// The state under the next version.
#[must_use]
pub fn stamped(state: SharedState, generation: u64) -> SharedState {
    let stamp = Stamp { generation, version: state.stamp.version + 1, whole: true };
    SharedState { stamp, ..state }
}

/// SAM-5 6.3.3: reservations by RESERVE end, mode parameters are as saved; persistent reservations stay.
fn reset(state: &SharedState) -> Applied {
    let next = SharedState { current: state.saved, reserver: None, ..state.clone() };
    let attention = Attention { whom: Recipients::All, code: Sense::LOGICAL_UNIT_RESET.code };
    Applied { reset: true, ..Applied::change(next, vec![attention]) }
}

/// Whether a session may pass a reservation by RESERVE (SPC-2 5.5.1).
fn may_pass_reserver(state: &SharedState, handle: NexusHandle) -> Result<(), Outcome> {
    match state.reserver {
        Some(reserver) if reserver != handle => Err(CONFLICT),
        _ => Ok(()),
    }
}

fn may_release(state: &SharedState, who: &Requester) -> bool {
    state.reservations.reservation.is_none() || reservation::is_spared(&state.reservations, &who.name)
}

fn reserve(state: &SharedState, who: &Requester) -> Result<Applied, Outcome> {
    may_pass_reserver(state, who.handle)?;
    if reservation::is_spared(&state.reservations, &who.name) || state.reserver == Some(who.handle) {
        return Ok(Applied::NOTHING);
    }
    // With registrations the other way of reserving is in use (SPC-4 5.13.3).
    if !state.reservations.registrants.is_empty() {
        return Err(CONFLICT);
    }
    Ok(Applied::change(SharedState { reserver: Some(who.handle), ..state.clone() }, Vec::new()))
}

/// SPC-4 6.11: what was selected holds from here on; everybody else is told.
fn mode_select(state: &SharedState, who: NexusHandle, select: ModeSelection, write_cache: bool) -> Applied {
    let selected = |modes: Modes| Modes {
        write_protect: select.write_protect.unwrap_or(modes.write_protect),
        descriptor_sense: select.descriptor_sense.unwrap_or(modes.descriptor_sense),
        write_cache: select.write_cache.or(modes.write_cache),
    };
    let current = selected(state.current);
    let saved = if select.save { selected(state.saved) } else { state.saved };
    if (current, saved) == (state.current, state.saved) {
        return Applied::NOTHING;
    }
    let told = |modes: Modes| modes.with_configured(write_cache);
    let same = told(current) == told(state.current) && told(saved) == told(state.saved);
    let next = SharedState { current, saved, ..state.clone() };
    let attention = Attention { whom: Recipients::AllBut(who), code: Sense::MODE_PARAMETERS_CHANGED.code };
    // To write down what was configured changes no page.
    Applied::change(next, if same { Vec::new() } else { vec![attention] })
}
