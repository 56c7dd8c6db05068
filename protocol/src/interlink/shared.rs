//! The state of a LUN that both controllers share, other than its blocks: mode pages, reservations. What it is, how
//! it crosses the interlink, and the part of it that survives a loss of power.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::FrameError;
use super::sanitize::Sanitize;
use super::wire::{Reader, put_list, put_string};
use crate::scsi::sense::Asc;

/// Registrants of one LUN at most; one more gets INSUFFICIENT REGISTRATION RESOURCES.
pub const REGISTRANTS_MAX: usize = 256;

/// Attentions that one event raises at most: one per registrant and those of a mode page.
pub const ATTENTIONS_MAX: usize = REGISTRANTS_MAX + 4;

/// An I_T nexus by the names of its ports (SAM-5 4.6.2): what a registration belongs to, through any number of
/// sessions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NexusName {
    /// The initiator's iSCSI name, in lower case.
    pub initiator: String,
    /// The initiator's part of the session id.
    pub isid: [u8; 6],
    /// Relative target port: 1 for the first controller, 2 for the second.
    pub port: u16,
}

/// One session of one run of one controller: what a legacy reservation belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NexusHandle {
    /// 0 or 1: its controller.
    pub side: u8,
    /// Which run of it.
    pub incarnation: u64,
    /// Which session.
    pub nexus: u64,
}

/// Whose event it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requester {
    /// The session.
    pub handle: NexusHandle,
    /// The nexus.
    pub name: NexusName,
}

/// How new a shared state is. Ordered: of two the greater is the newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Stamp {
    /// The number of the generation under which it was last changed, or main went on without its peer.
    pub generation: u64,
    /// It is complete, not only what survives a loss of power. Within a generation a complete state outranks a higher
    /// version: an event missing from it was never answered, since an answer needs both controllers.
    pub whole: bool,
    /// Counts its changes.
    pub version: u64,
}

/// The changeable mode parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Modes {
    /// SWP (SPC-4 7.5.8).
    pub write_protect: bool,
    /// D_SENSE (SPC-4 7.5.8).
    pub descriptor_sense: bool,
    /// WCE (SBC-3 6.4.5), if a host has set it: else it is as configured.
    pub write_cache: Option<bool>,
}

impl Modes {
    const SWP: u8 = 0x01;
    const D_SENSE: u8 = 0x02;
    /// A host has set WCE, and how.
    const WCE_SET: u8 = 0x04;
    const WCE: u8 = 0x08;

    /// WCE of a LUN whose write cache is configured so.
    #[must_use]
    pub const fn caches(self, configured: bool) -> bool {
        match self.write_cache {
            Some(set) => set,
            None => configured,
        }
    }

    /// The same with WCE as it is: equal, if the pages tell the same of a LUN that is configured so.
    #[must_use]
    pub const fn with_configured(self, configured: bool) -> Self {
        Self { write_cache: Some(self.caches(configured)), ..self }
    }
}

/// One registration (SPC-4 5.13.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registrant {
    /// Its nexus.
    pub nexus: NexusName,
    /// Its reservation key; not zero.
    pub key: u64,
}

/// A persistent reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// TYPE field (SPC-4 table 207).
    pub kind: u8,
    /// The holder. With an all registrants type every registrant holds it, and this says nothing.
    pub holder: NexusName,
}

/// Everything about persistent reservations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reservations {
    /// PRGENERATION.
    pub generation: u32,
    /// Activate persist through power loss.
    pub aptpl: bool,
    /// In the order of their nexuses. At most [`REGISTRANTS_MAX`].
    pub registrants: Vec<Registrant>,
    /// The reservation, if there is one.
    pub reservation: Option<Reservation>,
}

/// The shared state of one LUN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SharedState {
    /// How new it is.
    pub stamp: Stamp,
    /// Mode pages as they are.
    pub current: Modes,
    /// Mode pages as they will be after a reset or a loss of power.
    pub saved: Modes,
    /// Whose session has reserved the LUN with RESERVE (SPC-2 5.5.1).
    pub reserver: Option<NexusHandle>,
    /// Persistent reservations.
    pub reservations: Reservations,
    /// Whether the LUN is being sanitized. It outlives any loss of power.
    pub sanitize: Sanitize,
}

/// Whom a unit attention is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recipients {
    /// Every nexus.
    All,
    /// Every nexus but this session's.
    AllBut(NexusHandle),
    /// The session of this nexus.
    One(NexusName),
}

/// A unit attention that an event raises.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attention {
    /// For whom.
    pub whom: Recipients,
    /// ASC and ASCQ; the sense key is UNIT ATTENTION.
    pub code: Asc,
}

impl NexusName {
    pub(super) fn put(&self, body: &mut BytesMut) {
        put_string(body, &self.initiator);
        body.put_slice(&self.isid);
        body.put_u16(self.port);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { initiator: reader.string()?, isid: reader.bytes()?, port: reader.u16()? })
    }
}

impl NexusHandle {
    pub(super) fn put(&self, body: &mut BytesMut) {
        body.put_u8(self.side);
        body.put_u64(self.incarnation);
        body.put_u64(self.nexus);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let handle = Self { side: reader.u8()?, incarnation: reader.u64()?, nexus: reader.u64()? };
        if handle.side > 1 { Err(FrameError::Content) } else { Ok(handle) }
    }
}

impl Requester {
    pub(super) fn put(&self, body: &mut BytesMut) {
        self.handle.put(body);
        self.name.put(body);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { handle: NexusHandle::read(reader)?, name: NexusName::read(reader)? })
    }
}

impl Stamp {
    fn put(self, body: &mut BytesMut) {
        body.put_u64(self.generation);
        body.put_u64(self.version);
        body.put_u8(u8::from(self.whole));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { generation: reader.u64()?, version: reader.u64()?, whole: reader.bool()? })
    }
}

impl Modes {
    fn put(self, body: &mut BytesMut) {
        let bit = |set, bit| if set { bit } else { 0 };
        let cache = match self.write_cache {
            None => 0,
            Some(on) => Self::WCE_SET | bit(on, Self::WCE),
        };
        body.put_u8(bit(self.write_protect, Self::SWP) | bit(self.descriptor_sense, Self::D_SENSE) | cache);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let bits = reader.u8()?;
        let is = |bit| bits & bit != 0;
        let known = Self::SWP | Self::D_SENSE | Self::WCE_SET | Self::WCE;
        if is(!known) || (is(Self::WCE) && !is(Self::WCE_SET)) {
            return Err(FrameError::Content);
        }
        Ok(Self {
            write_protect: is(Self::SWP),
            descriptor_sense: is(Self::D_SENSE),
            write_cache: is(Self::WCE_SET).then_some(is(Self::WCE)),
        })
    }
}

impl Reservations {
    fn put(&self, body: &mut BytesMut) {
        body.put_u32(self.generation);
        body.put_u8(u8::from(self.aptpl));
        put_list(body, REGISTRANTS_MAX, &self.registrants, |body, registrant| {
            registrant.nexus.put(body);
            body.put_u64(registrant.key);
        });
        body.put_u8(u8::from(self.reservation.is_some()));
        if let Some(reservation) = &self.reservation {
            body.put_u8(reservation.kind);
            reservation.holder.put(body);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            generation: reader.u32()?,
            aptpl: reader.bool()?,
            registrants: reader.list(REGISTRANTS_MAX, |reader| {
                Ok(Registrant { nexus: NexusName::read(reader)?, key: reader.u64()? })
            })?,
            reservation: if reader.bool()? {
                Some(Reservation { kind: reader.u8()?, holder: NexusName::read(reader)? })
            } else {
                None
            },
        })
    }
}

impl SharedState {
    /// What is left of it after a loss of power: the saved mode pages, the sanitize operation, and the reservations if
    /// they persist through it (SPC-4 5.13.5). PRGENERATION begins anew.
    #[must_use]
    pub fn after_power_loss(&self) -> Self {
        let reservations = if self.reservations.aptpl {
            Reservations { generation: 0, ..self.reservations.clone() }
        } else {
            Reservations::default()
        };
        let stamp = Stamp { whole: false, ..self.stamp };
        let sanitize = self.sanitize.clone();
        Self { stamp, current: self.saved, saved: self.saved, reserver: None, reservations, sanitize }
    }

    /// Whether a loss of power would leave the same of both.
    #[must_use]
    pub fn survives_as(&self, other: &Self) -> bool {
        let kept = |state: &Self| Self { stamp: Stamp::default(), ..state.after_power_loss() };
        kept(self) == kept(other)
    }

    /// As a record of the state store, or for the interlink.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        self.stamp.put(&mut body);
        self.current.put(&mut body);
        self.saved.put(&mut body);
        body.put_u8(u8::from(self.reserver.is_some()));
        if let Some(reserver) = &self.reserver {
            reserver.put(&mut body);
        }
        self.reservations.put(&mut body);
        self.sanitize.put(&mut body);
        body.freeze()
    }

    /// Reads a record of the state store, or what the peer sent.
    pub fn decode(record: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(record);
        let state = Self {
            stamp: Stamp::read(&mut reader)?,
            current: Modes::read(&mut reader)?,
            saved: Modes::read(&mut reader)?,
            reserver: if reader.bool()? { Some(NexusHandle::read(&mut reader)?) } else { None },
            reservations: Reservations::read(&mut reader)?,
            sanitize: Sanitize::read(&mut reader)?,
        };
        reader.end()?;
        Ok(state)
    }
}

impl Attention {
    pub(super) fn put(&self, body: &mut BytesMut) {
        match &self.whom {
            Recipients::All => body.put_u8(0),
            Recipients::AllBut(handle) => {
                body.put_u8(1);
                handle.put(body);
            }
            Recipients::One(name) => {
                body.put_u8(2);
                name.put(body);
            }
        }
        body.put_slice(&[self.code.0, self.code.1]);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let whom = match reader.u8()? {
            0 => Recipients::All,
            1 => Recipients::AllBut(NexusHandle::read(reader)?),
            2 => Recipients::One(NexusName::read(reader)?),
            _ => return Err(FrameError::Content),
        };
        Ok(Self { whom, code: Asc(reader.u8()?, reader.u8()?) })
    }
}
