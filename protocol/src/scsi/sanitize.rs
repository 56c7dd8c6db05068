//! SANITIZE (SBC-4 5.30): the CDB, the parameter list of OVERWRITE, and what one pass writes.

use bytes::Bytes;

use super::cdb::Cdb;
use super::sense::{FieldPointer, Sense};
use crate::block::BLOCK_BYTES;

/// OVERWRITE, a service action.
pub const OVERWRITE: u8 = 0x01;
/// BLOCK ERASE, a service action.
pub const BLOCK_ERASE: u8 = 0x02;
/// EXIT FAILURE MODE, a service action.
pub const EXIT_FAILURE_MODE: u8 = 0x1f;

/// Bytes of the OVERWRITE parameter list before the pattern.
const HEADER_BYTES: u16 = 4;

/// The CDB, whatever the service action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sanitize {
    /// IMMED: status as soon as the operation has begun.
    pub immed: bool,
    /// AUSE: a failed operation may be left by EXIT FAILURE MODE.
    pub ause: bool,
    /// PARAMETER LIST LENGTH in bytes.
    pub list_bytes: u16,
    /// The first byte that is reserved and not zero; ZNR, which is for zoned block devices, among them.
    pub reserved: Option<u16>,
}

impl Sanitize {
    /// Decodes the CDB.
    #[must_use]
    pub fn of(cdb: &Cdb) -> Self {
        const ZNR: u8 = 0x40;
        let reserved = if cdb[1] & ZNR != 0 {
            Some(1)
        } else {
            (2..7).zip(&cdb[2..7]).find(|(_, byte)| **byte != 0).map(|(at, _)| at)
        };
        Self {
            immed: cdb[1] & 0x80 != 0,
            ause: cdb[1] & 0x20 != 0,
            list_bytes: u16::from_be_bytes([cdb[7], cdb[8]]),
            reserved,
        }
    }

    /// Whether OVERWRITE may have a parameter list of this length (SBC-4 table 101).
    #[must_use]
    pub const fn overwrite_length_is_right(&self) -> bool {
        self.list_bytes > HEADER_BYTES && (self.list_bytes as u32) < BLOCK_BYTES + 5
    }
}

/// How blocks are sanitized.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    /// Every block is written, in one or more passes.
    Overwrite {
        /// INITIALIZATION PATTERN: 1 byte to a logical block, repeated until a block is full.
        pattern: Bytes,
        /// INVERT: every pass writes the inversion of what the one before it wrote; the last writes the pattern.
        invert: bool,
        /// OVERWRITE COUNT: 1 to 31.
        passes: u8,
    },
    /// Every block becomes a hole.
    BlockErase,
    /// The same for FORMAT UNIT, which hosts are told of in its own words.
    Format,
}

impl Method {
    /// The parameter list of OVERWRITE (SBC-4 5.30.3).
    pub fn overwrite(list: &[u8]) -> Result<Self, Sense> {
        let Some((header, rest)) = list.split_first_chunk::<4>() else {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        };
        let field = |byte| {
            let field = Some(FieldPointer { in_cdb: false, byte });
            Sense { field, ..Sense::INVALID_FIELD_IN_PARAMETER_LIST }
        };
        const TEST: u8 = 0x60;
        let passes = header[0] & 0x1f;
        if header[0] & TEST != 0 || passes == 0 {
            return Err(field(0));
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length == 0 || length > BLOCK_BYTES as usize {
            return Err(field(2));
        }
        let pattern = rest.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let pattern = Bytes::copy_from_slice(pattern);
        Ok(Self::Overwrite { pattern, invert: header[0] & 0x80 != 0, passes })
    }

    /// How a host's command ends while it is under way, so many 65536ths done.
    #[must_use]
    pub const fn in_progress(&self, progress: u16) -> Sense {
        match self {
            Self::Overwrite { .. } | Self::BlockErase => Sense::sanitize_in_progress(progress),
            Self::Format => Sense::format_in_progress(progress),
        }
    }

    /// How often every block is gone over.
    #[must_use]
    pub const fn passes(&self) -> u8 {
        match self {
            Self::Overwrite { passes, .. } => *passes,
            Self::BlockErase | Self::Format => 1,
        }
    }

    /// What a pass, counted from zero, leaves in every block.
    #[must_use]
    pub fn block(&self, pass: u8) -> Bytes {
        match self {
            Self::Overwrite { pattern, invert, passes } => {
                let odd = passes.saturating_sub(pass).is_multiple_of(2);
                let mask = if *invert && odd { 0xff } else { 0 };
                pattern.iter().cycle().take(BLOCK_BYTES as usize).map(|byte| byte ^ mask).collect()
            }
            Self::BlockErase | Self::Format => Bytes::from_static(&[0; BLOCK_BYTES as usize]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdb(bytes: &[u8]) -> Cdb {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    fn list(first: u8, length: u16, pattern: &[u8]) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        [&[first, 0, high, low], pattern].concat()
    }

    #[test]
    fn the_cdb_stands_where_sbc_4_puts_it() {
        let asked = Sanitize::of(&cdb(&[0x48, 0xa1, 0, 0, 0, 0, 0, 0x02, 0x04, 0]));
        assert_eq!(asked, Sanitize { immed: true, ause: true, list_bytes: 516, reserved: None });
        for (at, wanted) in [(1, 0x41), (2, 1), (3, 0x80), (4, 1), (5, 1), (6, 1)] {
            let mut cdb = cdb(&[0x48, 0x01]);
            cdb[at] = wanted;
            assert_eq!(Sanitize::of(&cdb).reserved, Some(at as u16));
        }
    }

    #[test]
    fn an_overwrite_has_a_pattern_of_at_most_a_block() {
        let right: Vec<u16> = (0..=u16::MAX)
            .filter(|length| {
                let [high, low] = length.to_be_bytes();
                Sanitize::of(&cdb(&[0x48, 1, 0, 0, 0, 0, 0, high, low])).overwrite_length_is_right()
            })
            .collect();
        assert_eq!(right, (5..=516).collect::<Vec<_>>());
    }

    #[test]
    fn the_parameter_list_of_overwrite_is_checked_field_by_field() {
        let field = |sense: Sense| sense.field.map(|field| (field.in_cdb, field.byte));
        let length_error = Sense::PARAMETER_LIST_LENGTH_ERROR;
        for (bytes, code, at) in [
            (list(0x00, 4, &[1; 4]), Sense::INVALID_FIELD_IN_PARAMETER_LIST.code, Some((false, 0))),
            (list(0x21, 4, &[1; 4]), Sense::INVALID_FIELD_IN_PARAMETER_LIST.code, Some((false, 0))),
            (list(0x41, 4, &[1; 4]), Sense::INVALID_FIELD_IN_PARAMETER_LIST.code, Some((false, 0))),
            (list(0x01, 0, &[1; 4]), Sense::INVALID_FIELD_IN_PARAMETER_LIST.code, Some((false, 2))),
            (list(0x01, 513, &[1; 512]), Sense::INVALID_FIELD_IN_PARAMETER_LIST.code, Some((false, 2))),
            (list(0x01, 5, &[1; 4]), length_error.code, None),
            (vec![1, 0, 0], length_error.code, None),
        ] {
            let refused = Method::overwrite(&bytes).unwrap_err();
            assert_eq!((refused.code, field(refused)), (code, at), "{bytes:x?}");
        }
        let pattern = Bytes::from_static(&[1, 2, 3]);
        let wanted = Method::Overwrite { pattern, invert: true, passes: 31 };
        assert_eq!(Method::overwrite(&list(0x9f, 3, &[1, 2, 3])), Ok(wanted));
    }

    #[test]
    fn passes_are_inverted_in_turns_and_the_last_writes_the_pattern() {
        for passes in 1..=31 {
            let pattern = Bytes::from_static(&[0x0f, 0x01, 0xaa]);
            let invert = Method::Overwrite { pattern: pattern.clone(), invert: true, passes };
            let plain = Method::Overwrite { pattern, invert: false, passes };
            for pass in 0..passes {
                let (one, other) = (invert.block(pass), plain.block(pass));
                assert_eq!((one.len(), &other[..4], other[511]), (512, &[0x0f, 0x01, 0xaa, 0x0f][..], 0x01));
                let inverted = one.iter().zip(&other).all(|(one, other)| *one == !other);
                assert!(inverted || one == other);
                assert_eq!(inverted, (passes - 1 - pass) % 2 == 1, "{pass} of {passes}");
            }
        }
        for method in [Method::BlockErase, Method::Format] {
            assert_eq!((method.block(0), method.passes()), (Bytes::from_static(&[0; 512]), 1));
        }
    }
}
