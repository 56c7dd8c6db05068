//! Persistent reservations (SPC-4 5.13): what a PERSISTENT RESERVE OUT makes of the registrants and the reservation of
//! a LUN, and whom a reservation lets pass. Pure; main asks it for both controllers.
//!
//! A registration belongs to an I_T nexus: the initiator's name, its ISID, and the relative target port. Sessions come
//! and go without it.

#[cfg(test)]
pub(crate) mod asked;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use protocol::interlink::shared::{
    Attention, NexusName, REGISTRANTS_MAX, Recipients, Registrant, Reservation, Reservations,
};
use protocol::scsi::persistent_reservation::{InitiatorPort, Kind, OutAction, ReserveOut};
use protocol::scsi::sense::{Sense, Status};

use crate::command::{Access, Outcome};

/// Relative target ports: one for each controller.
const PORTS: [u16; 2] = [1, 2];

/// What a PERSISTENT RESERVE OUT does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// Afterwards; `None` if nothing changes.
    pub next: Option<Reservations>,
    /// Who has to be told.
    pub attentions: Vec<Attention>,
}

const CONFLICT: Outcome = Outcome::Status(Status::ReservationConflict);
const INVALID: Outcome = Outcome::Check(Sense::INVALID_FIELD_IN_PARAMETER_LIST);

impl Done {
    const NOTHING: Self = Self { next: None, attentions: Vec::new() };
}

/// Whether a nexus may do this under the reservation (SPC-4 5.13.1, tables 62 and 63).
#[must_use]
pub fn passes(state: &Reservations, nexus: &NexusName, access: Access) -> bool {
    let Some((reservation, kind)) = held(state) else {
        return true;
    };
    let asks = match access {
        Access::Always | Access::Describe | Access::Own => false,
        Access::Read => kind.excludes_reads(),
        Access::Write => true,
    };
    if !asks {
        return true;
    }
    if kind.is_holders_alone() { reservation.holder == *nexus } else { key_of(state, nexus).is_some() }
}

/// Whether a nexus is the holder, or as good as one: what lets RESERVE and RELEASE (SPC-2) end without doing anything
/// (SPC-4 5.13.3).
#[must_use]
pub fn is_spared(state: &Reservations, nexus: &NexusName) -> bool {
    held(state).is_some_and(|(reservation, kind)| {
        if kind.is_holders_alone() { reservation.holder == *nexus } else { key_of(state, nexus).is_some() }
    })
}

/// What a nexus's PERSISTENT RESERVE OUT does. An `Err` is how it ends without having done anything.
pub fn perform(state: &Reservations, nexus: &NexusName, out: &ReserveOut) -> Result<Done, Outcome> {
    let own = key_of(state, nexus);
    match out.action {
        OutAction::Register => match own {
            Some(key) if key != out.key => Err(CONFLICT),
            None if out.key != 0 => Err(CONFLICT),
            _ => register(state, nexus, own, out),
        },
        OutAction::RegisterAndIgnoreExistingKey => register(state, nexus, own, out),
        _ if own != Some(out.key) => Err(CONFLICT),
        OutAction::Reserve => reserve(state, nexus, out),
        OutAction::Release => release(state, nexus, out),
        OutAction::Clear => Ok(clear(state, nexus)),
        OutAction::Preempt | OutAction::PreemptAndAbort => preempt(state, nexus, out),
        OutAction::RegisterAndMove => register_and_move(state, nexus, out),
    }
}

fn held(state: &Reservations) -> Option<(&Reservation, Kind)> {
    let reservation = state.reservation.as_ref()?;
    Some((reservation, Kind::of(reservation.kind)?))
}

fn key_of(state: &Reservations, nexus: &NexusName) -> Option<u64> {
    let at = state.registrants.binary_search_by(|registrant| registrant.nexus.cmp(nexus)).ok()?;
    state.registrants.get(at).map(|registrant| registrant.key)
}

fn holds(state: &Reservations, nexus: &NexusName) -> bool {
    held(state).is_some_and(|(reservation, kind)| {
        if kind.is_all_registrants() { key_of(state, nexus).is_some() } else { reservation.holder == *nexus }
    })
}

fn changed(state: &Reservations, attentions: Vec<Attention>) -> Done {
    Done { next: Some(state.clone()), attentions }
}

/// Sets a nexus's key; false if there is no room for one more.
fn set_key(state: &mut Reservations, nexus: NexusName, key: u64) -> bool {
    match state.registrants.binary_search_by(|registrant| registrant.nexus.cmp(&nexus)) {
        Ok(at) => state.registrants[at].key = key,
        Err(_) if state.registrants.len() >= REGISTRANTS_MAX => return false,
        Err(at) => state.registrants.insert(at, Registrant { nexus, key }),
    }
    true
}

/// An attention for each of the registrants that `chosen` picks.
fn tell(state: &Reservations, sense: Sense, chosen: impl Fn(&Registrant) -> bool) -> Vec<Attention> {
    let registrants = state.registrants.iter().filter(|registrant| chosen(registrant));
    registrants
        .map(|registrant| Attention { whom: Recipients::One(registrant.nexus.clone()), code: sense.code })
        .collect()
}

/// REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-4 5.13.7), the key being right.
fn register(
    state: &Reservations,
    nexus: &NexusName,
    own: Option<u64>,
    out: &ReserveOut,
) -> Result<Done, Outcome> {
    if own.is_some() && !out.others.is_empty() {
        return Err(INVALID);
    }
    let mut next = state.clone();
    next.generation = next.generation.wrapping_add(1);
    next.aptpl = out.aptpl;
    if out.action_key == 0 {
        let Some(_) = own else {
            return if out.others.is_empty() { Ok(Done::NOTHING) } else { Err(INVALID) };
        };
        let attentions = unregister(&mut next, nexus);
        return Ok(Done { next: Some(next), attentions });
    }
    let own_port = InitiatorPort { initiator: nexus.initiator.clone(), isid: nexus.isid };
    for port in PORTS {
        if port != nexus.port && !out.all_target_ports {
            continue;
        }
        for initiator in core::iter::once(&own_port).chain(&out.others) {
            if !set_key(&mut next, initiator.nexus(port), out.action_key) {
                return Err(Outcome::Check(Sense::INSUFFICIENT_REGISTRATION_RESOURCES));
            }
        }
    }
    Ok(Done { next: Some(next), attentions: Vec::new() })
}

/// SPC-4 5.13.11.2.1: with the holder's registration goes its reservation, with the last one that of all registrants.
fn unregister(next: &mut Reservations, nexus: &NexusName) -> Vec<Attention> {
    let held = held(next).map(|(reservation, kind)| (reservation.holder.clone(), kind));
    next.registrants.retain(|registrant| registrant.nexus != *nexus);
    let Some((holder, kind)) = held else {
        return Vec::new();
    };
    let ends = if kind.is_all_registrants() { next.registrants.is_empty() } else { holder == *nexus };
    if !ends {
        return Vec::new();
    }
    next.reservation = None;
    if kind.is_holders_alone() { Vec::new() } else { tell(next, Sense::RESERVATIONS_RELEASED, |_| true) }
}

/// RESERVE (SPC-4 5.13.9).
fn reserve(state: &Reservations, nexus: &NexusName, out: &ReserveOut) -> Result<Done, Outcome> {
    match &state.reservation {
        None => {
            let reservation = Some(Reservation { kind: out.kind, holder: nexus.clone() });
            Ok(changed(&Reservations { reservation, ..state.clone() }, Vec::new()))
        }
        Some(held) if held.kind == out.kind && holds(state, nexus) => Ok(Done::NOTHING),
        Some(_) => Err(CONFLICT),
    }
}

/// RELEASE (SPC-4 5.13.11.2.2).
fn release(state: &Reservations, nexus: &NexusName, out: &ReserveOut) -> Result<Done, Outcome> {
    let Some((reservation, kind)) = held(state).filter(|_| holds(state, nexus)) else {
        return Ok(Done::NOTHING);
    };
    if reservation.kind != out.kind {
        return Err(Outcome::Check(Sense::INVALID_RELEASE));
    }
    let attentions = if kind.is_holders_alone() {
        Vec::new()
    } else {
        tell(state, Sense::RESERVATIONS_RELEASED, |registrant| registrant.nexus != *nexus)
    };
    Ok(changed(&Reservations { reservation: None, ..state.clone() }, attentions))
}

/// CLEAR (SPC-4 5.13.11.2.6).
fn clear(state: &Reservations, nexus: &NexusName) -> Done {
    let attentions = tell(state, Sense::RESERVATIONS_PREEMPTED, |registrant| registrant.nexus != *nexus);
    let generation = state.generation.wrapping_add(1);
    let next = Reservations { generation, registrants: Vec::new(), reservation: None, ..state.clone() };
    changed(&next, attentions)
}

/// PREEMPT and PREEMPT AND ABORT (SPC-4 5.13.11.2.3 to 5.13.11.2.5).
fn preempt(state: &Reservations, nexus: &NexusName, out: &ReserveOut) -> Result<Done, Outcome> {
    let holder_goes = match held(state) {
        Some((_, kind)) if kind.is_all_registrants() => out.action_key == 0,
        Some((reservation, _)) => {
            out.action_key != 0 && key_of(state, &reservation.holder) == Some(out.action_key)
        }
        None => false,
    };
    if out.action_key == 0 && !holder_goes {
        return Err(INVALID);
    }
    let named = |registrant: &Registrant| out.action_key == 0 || registrant.key == out.action_key;
    if !state.registrants.iter().any(named) {
        return Err(CONFLICT);
    }
    let mut next = state.clone();
    next.generation = next.generation.wrapping_add(1);
    let other = |registrant: &Registrant| registrant.nexus != *nexus;
    let mut attentions =
        tell(state, Sense::REGISTRATIONS_PREEMPTED, |registrant| named(registrant) && other(registrant));
    if holder_goes {
        next.registrants.retain(|registrant| !(named(registrant) && other(registrant)));
        let reservation = Reservation { kind: out.kind, holder: nexus.clone() };
        let before = next.reservation.replace(reservation);
        if before.is_some_and(|before| before.kind != out.kind) {
            attentions.extend(tell(&next, Sense::RESERVATIONS_RELEASED, other));
        }
    } else {
        next.registrants.retain(|registrant| !named(registrant));
        // Of all registrants none may be left: whoever preempts may name its own key.
        if next.registrants.is_empty() {
            next.reservation = None;
        }
    }
    Ok(Done { next: Some(next), attentions })
}

/// REGISTER AND MOVE (SPC-4 5.13.8).
fn register_and_move(state: &Reservations, nexus: &NexusName, out: &ReserveOut) -> Result<Done, Outcome> {
    let moved = out.moved.as_ref().ok_or(INVALID)?;
    match held(state) {
        Some((reservation, kind)) if !kind.is_all_registrants() && reservation.holder == *nexus => {}
        _ => return Err(CONFLICT),
    }
    let to = moved.to.nexus(moved.port);
    if out.action_key == 0 || !PORTS.contains(&moved.port) || to == *nexus {
        return Err(INVALID);
    }
    let mut next = state.clone();
    next.generation = next.generation.wrapping_add(1);
    next.aptpl = out.aptpl;
    if !set_key(&mut next, to.clone(), out.action_key) {
        return Err(Outcome::Check(Sense::INSUFFICIENT_REGISTRATION_RESOURCES));
    }
    if let Some(reservation) = &mut next.reservation {
        reservation.holder = to;
    }
    if moved.unregister {
        next.registrants.retain(|registrant| registrant.nexus != *nexus);
    }
    Ok(Done { next: Some(next), attentions: Vec::new() })
}
