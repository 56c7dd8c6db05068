//! The greeting: first frame in both directions of every connection of the interlink.

use bytes::{BufMut, BytesMut};

use super::frame::FrameError;
use super::wire::{Reader, put_list, put_string};

/// LUNs named in one message at most.
pub const LUNS_MAX: usize = 1024;
/// Keys of the shared configuration at most.
pub const KEYS_MAX: usize = 16 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Liveness, generations, identity.
    Control,
    /// The data pipe of the dialing controller with this number, its status pipe coming back.
    Bridge(u16),
}

/// Who a LUN is, made once by both controllers together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunIdentity {
    /// The LUN's name in the configuration.
    pub name: String,
    /// The volume id.
    pub volume: u128,
    /// NAA designator, type 3: locally assigned.
    pub naa: u64,
    /// Unit serial number.
    pub serial: u64,
    /// Capacity in logical blocks.
    pub blocks: u64,
}

/// Who the appliance is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The appliance id; zero while there is none.
    pub appliance: u128,
    /// Every LUN that was ever made, by name.
    pub luns: Vec<LunIdentity>,
}

/// The greeting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest and newest version spoken.
    pub versions: (u16, u16),
    /// What the connection is for.
    pub purpose: Purpose,
    /// 0: the first controller of the configuration; 1: the second.
    pub side: u8,
    /// The sender's appliance id; zero while it has none.
    pub appliance: u128,
    /// This run of the sender.
    pub incarnation: u128,
    /// Bridges the sender dials.
    pub bridges: u16,
    /// The shared part of the configuration, key by key. Only on the control connection.
    pub shared: Vec<(String, String)>,
    /// The largest LUN, in logical blocks, that fits the sender's device for a LUN of this name; zero if the device
    /// cannot be used. LUNs in files are not named. Only on the control connection.
    pub rooms: Vec<(String, u64)>,
    /// Only on the control connection.
    pub identity: Identity,
}

pub(super) fn put_identity(body: &mut BytesMut, identity: &Identity) {
    body.put_u128(identity.appliance);
    put_list(body, LUNS_MAX, &identity.luns, |body, lun| {
        put_string(body, &lun.name);
        body.put_u128(lun.volume);
        body.put_u64(lun.naa);
        body.put_u64(lun.serial);
        body.put_u64(lun.blocks);
    });
}

pub(super) fn identity(reader: &mut Reader<'_>) -> Result<Identity, FrameError> {
    Ok(Identity {
        appliance: reader.u128()?,
        luns: reader.list(LUNS_MAX, |reader| {
            Ok(LunIdentity {
                name: reader.string()?,
                volume: reader.u128()?,
                naa: reader.u64()?,
                serial: reader.u64()?,
                blocks: reader.u64()?,
            })
        })?,
    })
}

impl Identity {
    /// The identity as a record of the state store.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let mut body = BytesMut::new();
        put_identity(&mut body, self);
        body.to_vec()
    }

    /// Reads a record of the state store.
    pub fn from_record(record: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(record);
        let identity = identity(&mut reader)?;
        reader.end()?;
        Ok(identity)
    }
}

impl Hello {
    pub(super) fn put(&self, body: &mut BytesMut) {
        body.put_u16(self.versions.0);
        body.put_u16(self.versions.1);
        match self.purpose {
            Purpose::Control => body.put_slice(&[0, 0, 0]),
            Purpose::Bridge(number) => {
                body.put_u8(1);
                body.put_u16(number);
            }
        }
        body.put_u8(self.side);
        body.put_u128(self.appliance);
        body.put_u128(self.incarnation);
        body.put_u16(self.bridges);
        put_list(body, KEYS_MAX, &self.shared, |body, (key, value)| {
            put_string(body, key);
            put_string(body, value);
        });
        put_list(body, LUNS_MAX, &self.rooms, |body, (lun, blocks)| {
            put_string(body, lun);
            body.put_u64(*blocks);
        });
        put_identity(body, &self.identity);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            versions: (reader.u16()?, reader.u16()?),
            purpose: match (reader.u8()?, reader.u16()?) {
                (0, _) => Purpose::Control,
                (1, number) => Purpose::Bridge(number),
                _ => return Err(FrameError::Content),
            },
            side: reader.u8()?,
            appliance: reader.u128()?,
            incarnation: reader.u128()?,
            bridges: reader.u16()?,
            shared: reader.list(KEYS_MAX, |reader| Ok((reader.string()?, reader.string()?)))?,
            rooms: reader.list(LUNS_MAX, |reader| Ok((reader.string()?, reader.u64()?)))?,
            identity: identity(reader)?,
        })
    }
}
