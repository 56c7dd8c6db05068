//! What a controller keeps on its disk: the appliance's identity and every group's generation, in one record. They
//! become durable together, so no crash leaves a LUN that is known and has no generation, or the other way round.

use protocol::interlink::copy_report::GroupRecord;
use protocol::interlink::hello::Identity;

use crate::volume::record::{self, Kind, RecordError};

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
    /// For the state store of this controller: the identity's length in bytes (32 bits, big-endian), the identity, the
    /// groups.
    #[must_use]
    pub fn write(&self, controller: &str) -> Vec<u8> {
        let identity = self.identity.to_record();
        let length = u32::try_from(identity.len()).unwrap_or(u32::MAX);
        let mut content = length.to_be_bytes().to_vec();
        content.extend_from_slice(&identity);
        content.extend_from_slice(&GroupRecord::encode_all(&self.groups));
        record::wrap(Kind::Control, controller, &content)
    }

    /// Reads that of this controller.
    pub fn read(controller: &str, record: &[u8]) -> Result<Self, RecordError> {
        let (version, content) = record::unwrap(Kind::Control, controller, record)?;
        Self::content(version, content).ok_or(RecordError::Damaged)
    }

    fn content(version: u32, content: &[u8]) -> Option<Self> {
        let (length, rest) = content.split_first_chunk::<LENGTH_BYTES>()?;
        let (identity, groups) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let groups = match version {
            1 => GroupRecord::decode_all_of_first(groups),
            _ => GroupRecord::decode_all(groups),
        };
        Some(Self { identity: Identity::from_record(identity).ok()?, groups: groups.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use protocol::interlink::copy_report::{Generation, Start, Starts};
    use protocol::interlink::hello::LunIdentity;

    use super::*;

    fn example() -> ControlRecord {
        let lun = LunIdentity { name: "data0".into(), volume: 1, naa: 2, serial: 3, blocks: 4 };
        let generation =
            Generation { number: 5, id: 6, parent: 7, main: 1, members: 3, ..Generation::default() };
        let start = Start { number: 4, id: 9 };
        let group = GroupRecord {
            lun: "data0".into(),
            generation,
            clean: true,
            flushed: false,
            volume: start,
            volume_coming: Start::default(),
            starts: Starts { joint: start, coming: Start::of(generation) },
        };
        ControlRecord { identity: Identity { appliance: 8, luns: vec![lun] }, groups: vec![group] }
    }

    #[test]
    fn what_was_kept_is_read_again_and_what_was_cut_short_or_grew_is_not() {
        let record = example().write("alpha");
        assert_eq!(ControlRecord::read("alpha", &record), Ok(example()));
        for length in 0..record.len() {
            assert_eq!(ControlRecord::read("alpha", &record[..length]), Err(RecordError::Damaged));
        }
        let longer = [&record[..], &[0]].concat();
        assert_eq!(ControlRecord::read("alpha", &longer), Err(RecordError::Damaged));
    }

    #[test]
    fn a_record_with_any_bit_flipped_is_refused() {
        let record = example().write("alpha");
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ControlRecord::read("alpha", &damaged), Err(RecordError::Damaged), "bit {bit}");
        }
    }
}
