//! PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16): CDBs and parameter data; and the TransportID of an iSCSI
//! initiator port (SPC-4 7.6.4.6).

use super::cdb::{Cdb, be16, be32};
use super::sense::Sense;
use crate::interlink::shared::{NexusName, Reservations};

/// TransportIDs in one PERSISTENT RESERVE OUT at most.
pub const TRANSPORT_IDS_MAX: usize = 64;

/// Bytes of a PERSISTENT RESERVE OUT parameter list at most.
pub const PARAMETER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of an iSCSI name at most (RFC 7143 4.2.7.2).
const NAME_BYTES_MAX: usize = 223;

/// Bytes of a parameter list without TransportIDs.
const BASIC_BYTES: usize = 24;

/// FORMAT CODE 01b (an initiator port) and PROTOCOL IDENTIFIER 5h (iSCSI).
const ISCSI_PORT: u8 = 0x45;

/// TYPE field (SPC-4 table 207).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// 1h
    WriteExclusive,
    /// 3h
    ExclusiveAccess,
    /// 5h
    WriteExclusiveRegistrantsOnly,
    /// 6h
    ExclusiveAccessRegistrantsOnly,
    /// 7h
    WriteExclusiveAllRegistrants,
    /// 8h
    ExclusiveAccessAllRegistrants,
}

impl Kind {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The field's value.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
        }
    }

    /// The type of a field's value.
    #[must_use]
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Every registrant holds it.
    #[must_use]
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Only the holder passes it; not the other registrants.
    #[must_use]
    pub const fn is_holders_alone(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Reading needs leave too.
    #[must_use]
    pub const fn excludes_reads(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }
}

/// Service actions of PERSISTENT RESERVE IN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InAction {
    /// 0h
    ReadKeys,
    /// 1h
    ReadReservation,
    /// 2h
    ReportCapabilities,
    /// 3h
    ReadFullStatus,
}

impl InAction {
    /// The service action of a number.
    #[must_use]
    pub const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::ReadKeys,
            1 => Self::ReadReservation,
            2 => Self::ReportCapabilities,
            3 => Self::ReadFullStatus,
            _ => return None,
        })
    }
}

/// Service actions of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutAction {
    /// 0h
    Register,
    /// 1h
    Reserve,
    /// 2h
    Release,
    /// 3h
    Clear,
    /// 4h
    Preempt,
    /// 5h
    PreemptAndAbort,
    /// 6h
    RegisterAndIgnoreExistingKey,
    /// 7h
    RegisterAndMove,
}

impl OutAction {
    /// Every service action, by its number.
    pub const ALL: [Self; 8] = [
        Self::Register,
        Self::Reserve,
        Self::Release,
        Self::Clear,
        Self::Preempt,
        Self::PreemptAndAbort,
        Self::RegisterAndIgnoreExistingKey,
        Self::RegisterAndMove,
    ];

    /// The service action of a number.
    #[must_use]
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// An initiator port, as a TransportID names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InitiatorPort {
    /// The initiator's iSCSI name, in lower case.
    pub initiator: String,
    /// The initiator's part of the session id.
    pub isid: [u8; 6],
}

/// Where REGISTER AND MOVE moves a reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// UNREG.
    pub unregister: bool,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub port: u16,
    /// TransportID.
    pub to: InitiatorPort,
}

/// A PERSISTENT RESERVE OUT, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReserveOut {
    /// SERVICE ACTION.
    pub action: OutAction,
    /// TYPE, as it stands in the CDB.
    pub kind: u8,
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub action_key: u64,
    /// APTPL.
    pub aptpl: bool,
    /// ALL_TG_PT.
    pub all_target_ports: bool,
    /// With SPEC_I_PT: more initiator ports to register. At most [`TRANSPORT_IDS_MAX`].
    pub others: Vec<InitiatorPort>,
    /// For REGISTER AND MOVE.
    pub moved: Option<Move>,
}

/// PARAMETER LIST LENGTH of PERSISTENT RESERVE OUT, in bytes.
#[must_use]
pub const fn parameter_list_bytes(cdb: &Cdb) -> u32 {
    be32(cdb, 5)
}

/// ALLOCATION LENGTH of PERSISTENT RESERVE IN, in bytes.
#[must_use]
pub const fn allocation(cdb: &Cdb) -> u16 {
    be16(cdb, 7)
}

impl ReserveOut {
    /// Decodes CDB and parameter list.
    pub fn of(cdb: &Cdb, list: &[u8]) -> Result<Self, Sense> {
        let action = OutAction::of(cdb[1] & 0x1f).ok_or(Sense::INVALID_FIELD_IN_CDB)?;
        let (scope, kind) = (cdb[2] >> 4, cdb[2] & 0x0f);
        let uses_type = matches!(
            action,
            OutAction::Reserve | OutAction::Release | OutAction::Preempt | OutAction::PreemptAndAbort
        );
        // A logical unit is the only scope there is (SPC-4 6.16.2).
        if uses_type && (scope != 0 || Kind::of(kind).is_none()) {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        if list.len() != parameter_list_bytes(cdb) as usize || list.len() < BASIC_BYTES {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        let mut out = Self {
            action,
            kind,
            key: number(list, 0),
            action_key: number(list, 8),
            aptpl: false,
            all_target_ports: false,
            others: Vec::new(),
            moved: None,
        };
        if action == OutAction::RegisterAndMove {
            out.read_move(list)?
        } else {
            out.read_flags(list)?
        }
        Ok(out)
    }

    fn read_flags(&mut self, list: &[u8]) -> Result<(), Sense> {
        const SPEC_I_PT: u8 = 0x08;
        const ALL_TG_PT: u8 = 0x04;
        const APTPL: u8 = 0x01;
        let flags = list[20];
        self.aptpl = flags & APTPL != 0;
        self.all_target_ports = flags & ALL_TG_PT != 0;
        if flags & SPEC_I_PT == 0 {
            return if list.len() == BASIC_BYTES { Ok(()) } else { Err(Sense::PARAMETER_LIST_LENGTH_ERROR) };
        }
        if self.action != OutAction::Register {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        let (length, mut rest) =
            list[BASIC_BYTES..].split_first_chunk::<4>().ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        if u32::from_be_bytes(*length) as usize != rest.len() {
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        while !rest.is_empty() {
            let (port, left) = InitiatorPort::take(rest).ok_or(Sense::INVALID_FIELD_IN_PARAMETER_LIST)?;
            if self.others.len() >= TRANSPORT_IDS_MAX || self.others.contains(&port) {
                return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
            }
            self.others.push(port);
            rest = left;
        }
        Ok(())
    }

    fn read_move(&mut self, list: &[u8]) -> Result<(), Sense> {
        const UNREG: u8 = 0x02;
        const APTPL: u8 = 0x01;
        let rest = &list[BASIC_BYTES..];
        if u32::from_be_bytes([list[20], list[21], list[22], list[23]]) as usize != rest.len() {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        self.aptpl = list[17] & APTPL != 0;
        match InitiatorPort::take(rest) {
            Some((to, [])) => {
                let port = u16::from_be_bytes([list[18], list[19]]);
                self.moved = Some(Move { unregister: list[17] & UNREG != 0, port, to });
                Ok(())
            }
            _ => Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST),
        }
    }
}

/// Eight bytes, most significant first; the list was found long enough.
fn number(list: &[u8], at: usize) -> u64 {
    list.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl InitiatorPort {
    /// Takes a TransportID off the front of a list of them.
    fn take(list: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = list.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] != ISCSI_PORT || length % 4 != 0 || length < 20 {
            return None;
        }
        let (text, rest) = rest.split_at_checked(length)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        if text[end..].iter().any(|byte| *byte != 0) {
            return None;
        }
        let text = core::str::from_utf8(&text[..end]).ok()?;
        let (name, isid) = text.split_once(",i,0x")?;
        let valid = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(',');
        if !valid || isid.len() != 12 || !isid.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let isid = u64::from_str_radix(isid, 16).ok()?.to_be_bytes();
        let isid = [isid[2], isid[3], isid[4], isid[5], isid[6], isid[7]];
        Some((Self { initiator: name.to_ascii_lowercase(), isid }, rest))
    }

    /// The TransportID.
    #[must_use]
    pub fn transport_id(&self) -> Vec<u8> {
        let mut text = format!("{},i,0x", self.initiator);
        for byte in self.isid {
            text.push_str(&format!("{byte:02x}"));
        }
        // NUL-terminated and padded to a multiple of four.
        let length = (text.len() + 1).next_multiple_of(4).max(20);
        let mut id = vec![ISCSI_PORT, 0];
        id.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        id.extend_from_slice(text.as_bytes());
        id.resize(4 + length, 0);
        id
    }

    /// Its nexus with a target port.
    #[must_use]
    pub fn nexus(&self, port: u16) -> NexusName {
        NexusName { initiator: self.initiator.clone(), isid: self.isid, port }
    }
}

/// Parameter data of PERSISTENT RESERVE IN.
#[must_use]
pub fn parameter_data(action: InAction, state: &Reservations) -> Vec<u8> {
    match action {
        InAction::ReadKeys => {
            let keys = state.registrants.iter().flat_map(|registrant| registrant.key.to_be_bytes());
            with_header(state, keys.collect())
        }
        InAction::ReadReservation => with_header(state, reservation_descriptor(state)),
        InAction::ReportCapabilities => capabilities(state),
        InAction::ReadFullStatus => with_header(state, full_status(state)),
    }
}

fn with_header(state: &Reservations, rest: Vec<u8>) -> Vec<u8> {
    debug_assert!(rest.len().is_multiple_of(4), "keys and descriptors end at a multiple of 4 bytes");
    let mut data = state.generation.to_be_bytes().to_vec();
    data.extend_from_slice(&u32::try_from(rest.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend_from_slice(&rest);
    data
}

/// SPC-4 6.15.3: with an all registrants type the key is zero.
fn reservation_descriptor(state: &Reservations) -> Vec<u8> {
    let Some(reservation) = &state.reservation else {
        return Vec::new();
    };
    let holder = state.registrants.iter().find(|registrant| registrant.nexus == reservation.holder);
    let all = Kind::of(reservation.kind).is_some_and(Kind::is_all_registrants);
    let key = if all { 0 } else { holder.map_or(0, |holder| holder.key) };
    let mut descriptor = key.to_be_bytes().to_vec();
    descriptor.extend_from_slice(&[0, 0, 0, 0, 0, reservation.kind, 0, 0]);
    descriptor
}

/// SPC-4 6.15.4: CRH, SIP_C, ATP_C, PTPL_C; TMV, PTPL_A; all six types.
fn capabilities(state: &Reservations) -> Vec<u8> {
    vec![0, 8, 0x1d, 0x80 | u8::from(state.aptpl), 0xea, 0x01, 0, 0]
}

/// SPC-4 6.15.5: a descriptor for each registration.
fn full_status(state: &Reservations) -> Vec<u8> {
    let mut all = Vec::new();
    for registrant in &state.registrants {
        let held = state.reservation.as_ref().filter(|reservation| {
            let all = Kind::of(reservation.kind).is_some_and(Kind::is_all_registrants);
            all || reservation.holder == registrant.nexus
        });
        let NexusName { initiator, isid, port } = registrant.nexus.clone();
        let id = InitiatorPort { initiator, isid }.transport_id();
        all.extend_from_slice(&registrant.key.to_be_bytes());
        all.extend_from_slice(&[0; 4]);
        all.extend_from_slice(&[u8::from(held.is_some()), held.map_or(0, |held| held.kind), 0, 0, 0, 0]);
        all.extend_from_slice(&port.to_be_bytes());
        all.extend_from_slice(&u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes());
        all.extend_from_slice(&id);
    }
    all
}

#[cfg(test)]
mod tests;
