//! What surrounds every record of the state store, so that what is not one of this controller's records is told from
//! one. Numbers are little-endian:
//!
//! | byte | what |
//! |---|---|
//! | 0 | `TWINCTRL` (identity and generations) or `TWINUNIT` (the shared state of a LUN) |
//! | 8 | version (32 bits) |
//! | 12 | length of the name, then the name of the controller (16 bits) |
//! | | length of the content (32 bits), then the content |
//! | | CRC32C of everything before (32 bits) |
//!
//! The first release kept the bare content: that is version 1, and it names no controller. A record that cannot be read
//! is never taken for none, and never overwritten.

use crate::disk::crc32c::crc32c;

/// What this release writes.
pub const RECORD_VERSION: u32 = 2;

/// Which record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Identity and generations.
    Control,
    /// The shared state of a LUN.
    Unit,
}

impl Kind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Control => *b"TWINCTRL",
            Self::Unit => *b"TWINUNIT",
        }
    }
}

/// Why a record cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// It does not hold together.
    #[error("it is damaged")]
    Damaged,
    /// Written by a release this one does not know.
    #[error("a newer release wrote it (version {0}; this one reads up to {RECORD_VERSION})")]
    Version(u32),
    /// It is another controller's.
    #[error("it is the record of {0}")]
    Other(String),
    /// It is not there, and others that are written later are.
    #[error("it is missing")]
    Missing,
}

/// The record of a controller with this content.
#[must_use]
pub fn wrap(kind: Kind, controller: &str, content: &[u8]) -> Vec<u8> {
    let mut record = kind.magic().to_vec();
    record.extend_from_slice(&RECORD_VERSION.to_le_bytes());
    record.extend_from_slice(&(controller.len() as u16).to_le_bytes());
    record.extend_from_slice(controller.as_bytes());
    record.extend_from_slice(&(content.len() as u32).to_le_bytes());
    record.extend_from_slice(content);
    record.extend_from_slice(&crc32c(&record).to_le_bytes());
    record
}

/// The version and the content of a record of this controller.
pub fn unwrap<'a>(kind: Kind, controller: &str, record: &'a [u8]) -> Result<(u32, &'a [u8]), RecordError> {
    let Some(rest) = record.strip_prefix(&kind.magic()) else {
        return Ok((1, record));
    };
    let damaged = || RecordError::Damaged;
    let (covered, sum) = record.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32c(covered) != u32::from_le_bytes(*sum) {
        return Err(RecordError::Damaged);
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let version = u32::from_le_bytes(*version);
    if version != RECORD_VERSION {
        return Err(RecordError::Version(version));
    }
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(damaged)?;
    if name != controller.as_bytes() {
        return Err(RecordError::Other(String::from_utf8_lossy(name).into_owned()));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let content = rest
        .strip_suffix(sum)
        .filter(|content| content.len() as u64 == u64::from(u32::from_le_bytes(*length)));
    Ok((version, content.ok_or_else(damaged)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_golden_one() {
        let record = wrap(Kind::Control, "alpha", &[1, 2, 3]);
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "5457494e4354524c02000000\
                      0500616c706861\
                      03000000010203";
        assert_eq!(hex[..golden.len()], *golden);
        assert_eq!(unwrap(Kind::Control, "alpha", &record), Ok((2, &[1, 2, 3][..])));
    }

    #[test]
    fn any_damage_is_noticed_or_leaves_what_no_release_ever_wrote() {
        let record = wrap(Kind::Unit, "alpha", &[7; 40]);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = unwrap(Kind::Unit, "alpha", &damaged);
            // Without its magic it can only be one of the first release, whose own reading refuses it.
            assert!(
                read == Err(RecordError::Damaged) || read == Ok((1, &damaged[..])),
                "bit {bit}: {read:?}"
            );
        }
        for length in 8..record.len() {
            assert_eq!(unwrap(Kind::Unit, "alpha", &record[..length]), Err(RecordError::Damaged));
        }
    }

    #[test]
    fn a_newer_record_and_that_of_another_controller_are_told_apart() {
        let record = wrap(Kind::Unit, "alpha", &[7; 40]);
        assert_eq!(unwrap(Kind::Unit, "beta", &record), Err(RecordError::Other("alpha".into())));
        let mut newer = record;
        newer[8] = 3;
        let end = newer.len() - 4;
        let sum = crc32c(&newer[..end]).to_le_bytes();
        newer[end..].copy_from_slice(&sum);
        assert_eq!(unwrap(Kind::Unit, "alpha", &newer), Err(RecordError::Version(3)));
    }
}
