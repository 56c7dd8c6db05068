//! What a controller keeps on its disk: the appliance's identity and every group's generation, in one record. They
//! become durable together, so no crash leaves a LUN that is known and has no generation, or the other way round.

use protocol::interlink::hello::Identity;
use protocol::interlink::standing::GroupRecord;

/// Key of the record in the state store.
pub const CONTROL_KEY: &str = "control";

/// Bytes of the length before the identity.
const LENGTH_BYTES: usize = 4;

/// The record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ControlRecord {
    /// The appliance's identity, with the LUNs this controller has had a part in.
    pub identity: Identity,
    /// The groups.
    pub groups: Vec<GroupRecord>,
}

impl ControlRecord {
    /// For the state store: the identity's length in bytes (32 bits, big-endian), the identity, the groups.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let identity = self.identity.to_record();
        let length = u32::try_from(identity.len()).unwrap_or(u32::MAX);
        let mut record = length.to_be_bytes().to_vec();
        record.extend_from_slice(&identity);
        record.extend_from_slice(&GroupRecord::encode_all(&self.groups));
        record
    }

    /// Reads it; `None` if it is none.
    #[must_use]
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (length, rest) = record.split_first_chunk::<LENGTH_BYTES>()?;
        let (identity, groups) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let identity = Identity::from_record(identity).ok()?;
        Some(Self { identity, groups: GroupRecord::decode_all(groups).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use protocol::interlink::hello::LunIdentity;
    use protocol::interlink::standing::Generation;

    use super::*;

    #[test]
    fn what_was_kept_is_read_again_and_what_was_cut_short_is_not() {
        let lun = LunIdentity { name: "data0".into(), volume: 1, naa: 2, serial: 3, blocks: 4 };
        let generation = Generation { number: 5, id: 6, parent: 7, main: 1, members: 3 };
        let record = ControlRecord {
            identity: Identity { appliance: 8, luns: vec![lun] },
            groups: vec![GroupRecord { lun: "data0".into(), generation, clean: true, flushed: false }],
        };
        let bytes = record.encode();
        assert_eq!(ControlRecord::decode(&bytes), Some(record));
        assert!((0..bytes.len()).all(|length| ControlRecord::decode(&bytes[..length]).is_none()));
    }
}
