//! Sizes as people write them: `"1 GiB"`, `"100 MiB"`, or a number of bytes.

use protocol::block::BLOCK_BYTES;

/// Bytes of a LUN at most: 1 EiB, well inside what a file offset and a block address can hold.
pub const LUN_BYTES_MAX: u64 = 1 << 60;

/// The units, largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why something is not the size of a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SizeProblem {
    /// No whole number at its beginning.
    #[error("it does not begin with a whole number")]
    NotANumber,
    /// A fraction.
    #[error("it is not whole")]
    Fraction,
    /// A unit nobody knows, or a decimal one.
    #[error("its unit is not known")]
    Unit,
    /// Zero.
    #[error("a LUN needs at least one block")]
    Zero,
    /// Not whole blocks.
    #[error("it is not a multiple of {BLOCK_BYTES} bytes, the logical block")]
    NotWholeBlocks,
    /// More than [`LUN_BYTES_MAX`].
    #[error("it is more than 1 EiB")]
    TooLarge,
}

impl SizeProblem {
    /// What would be right.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NotANumber | Self::Zero => {
                "write, for instance, \"100 GiB\", \"512 MiB\", or a number of bytes"
            }
            Self::Fraction => "use the next smaller unit: \"1536 MiB\" rather than \"1.5 GiB\"",
            Self::Unit => "the units are B, KiB, MiB, GiB and TiB, each 1024 times the one before",
            Self::NotWholeBlocks => "round it to a multiple of 512, or write it in KiB, MiB or GiB",
            Self::TooLarge => "write a smaller size",
        }
    }
}

/// The size of a LUN in bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeProblem> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if rest.starts_with(['.', ',']) && digits > 0 {
        return Err(SizeProblem::Fraction);
    }
    if digits == 0 {
        return Err(SizeProblem::NotANumber);
    }
    let unit = match rest.trim() {
        "" => 1,
        name => {
            UNITS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).ok_or(SizeProblem::Unit)?.1
        }
    };
    let number: u64 = number.parse().map_err(|_| SizeProblem::TooLarge)?;
    check_size(number.checked_mul(unit).ok_or(SizeProblem::TooLarge)?)
}

/// `bytes`, if a LUN can have that many.
pub(super) const fn check_size(bytes: u64) -> Result<u64, SizeProblem> {
    match bytes {
        0 => Err(SizeProblem::Zero),
        _ if bytes > LUN_BYTES_MAX => Err(SizeProblem::TooLarge),
        _ if !bytes.is_multiple_of(BLOCK_BYTES as u64) => Err(SizeProblem::NotWholeBlocks),
        _ => Ok(bytes),
    }
}

/// The size in the largest unit that tells it exactly: `1 GiB`, `1536 MiB`, `512 B`.
#[must_use]
pub fn in_units(bytes: u64) -> String {
    let (name, unit) =
        UNITS.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)).unwrap_or(("B", 1));
    format!("{} {name}", bytes / unit)
}

/// About how much it is, in the largest unit of which it is at least one: `9.9 TiB`, `512 B`.
#[must_use]
pub fn rounded(bytes: u64) -> String {
    let (name, unit) = UNITS.into_iter().find(|(_, unit)| bytes >= *unit).unwrap_or(("B", 1));
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    match (unit, tenths % 10) {
        (1, _) | (_, 0) => format!("{} {name}", tenths / 10),
        (_, tenth) => format!("{}.{tenth} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rounded_size_never_claims_more_than_there_is() {
        let sizes = [0, 512, 1536, 1 << 20, (10 << 40) - 1, u64::MAX];
        let told = ["0 B", "512 B", "1.5 KiB", "1 MiB", "9.9 TiB", "16777215.9 TiB"];
        assert_eq!(sizes.map(rounded), told);
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let table: &[(&str, Result<u64, SizeProblem>)] = &[
            ("1 GiB", Ok(1 << 30)),
            ("1GiB", Ok(1 << 30)),
            (" 100  mib ", Ok(100 << 20)),
            ("512", Ok(512)),
            ("512 B", Ok(512)),
            ("3 TiB", Ok(3 << 40)),
            ("1048576 TiB", Ok(LUN_BYTES_MAX)),
            ("1048577 TiB", Err(SizeProblem::TooLarge)),
            ("99999999999999999999", Err(SizeProblem::TooLarge)),
            ("16777216 TiB", Err(SizeProblem::TooLarge)),
            ("1 GB", Err(SizeProblem::Unit)),
            ("1.5 GiB", Err(SizeProblem::Fraction)),
            ("", Err(SizeProblem::NotANumber)),
            ("-1 GiB", Err(SizeProblem::NotANumber)),
            ("GiB", Err(SizeProblem::NotANumber)),
            ("0", Err(SizeProblem::Zero)),
            ("1000", Err(SizeProblem::NotWholeBlocks)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text), *expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_size_printed_is_the_size_read(blocks in 1..=LUN_BYTES_MAX / 512) {
            prop_assert_eq!(parse_size(&in_units(blocks * 512)), Ok(blocks * 512));
        }

        #[test]
        fn no_text_makes_the_size_parser_panic(text in ".*") {
            let _ = parse_size(&text);
        }
    }
}
