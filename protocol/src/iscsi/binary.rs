//! Binary values in text: hex-constants and base64-constants (RFC 7143 6.1, RFC 4648 section 4).

/// The bytes of a binary-value, at most `most` of them; `None` for what is none or longer. A hex-constant with an
/// odd number of digits begins with a half byte ("a byte-length of (the integer part of) (n + 1)/2", 6.1).
/// Decimal-constants are taken for numbers only: they have no length.
#[must_use]
pub fn decode(value: &str, most: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => decode_hex(digits.as_bytes(), most),
        "0b" | "0B" => decode_base64(digits.as_bytes(), most),
        _ => None,
    }?;
    (bytes.len() <= most).then_some(bytes)
}

fn decode_hex(digits: &[u8], most: usize) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() > most.saturating_mul(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (first, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for byte in first {
        bytes.push(digit(*byte)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(bytes)
}

fn decode_base64(digits: &[u8], most: usize) -> Option<Vec<u8>> {
    if digits.is_empty()
        || digits.len() > most.div_ceil(3).saturating_mul(4)
        || !digits.len().is_multiple_of(4)
    {
        return None;
    }
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=').count();
    let (digits, _) = digits.split_at(digits.len() - padding);
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(4) * 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            bits = bits << 6 | u32::from(base64_digit(*byte)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, triple @ ..] = bits.to_be_bytes();
        let (used, unused) = triple.split_at_checked(group.len() - 1)?;
        // RFC 4648 3.5: bits beyond the last byte are zero; otherwise two texts would mean the same.
        if unused.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(used);
    }
    Some(bytes)
}

const fn base64_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// The hex-constant of these bytes.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    use core::fmt::Write;
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_encodings_are_read_and_nothing_else() {
        for (value, bytes) in [
            ("0x00ff10", Some(&[0x00, 0xff, 0x10][..])),
            ("0XAb", Some(&[0xab])),
            ("0xabc", Some(&[0x0a, 0xbc])),
            ("0bAP8Q", Some(&[0x00, 0xff, 0x10])),
            ("0BAP8=", Some(&[0x00, 0xff])),
            ("0bAA==", Some(&[0x00])),
            ("0x", None),
            ("0b", None),
            ("0", None),
            ("", None),
            ("1234", None),
            ("0xfg", None),
            ("0x+f", None),
            ("0bAP8", None),
            ("0bA===", None),
            ("0b====", None),
            ("0bAP9=", None),
            ("0bAB==", None),
            ("0bA=8Q", None),
            ("0bAP-_", None),
            ("é0x00", None),
        ] {
            assert_eq!(decode(value, 8).as_deref(), bytes, "{value:?}");
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_refused() {
        assert_eq!(decode(&encode(&[7; 16]), 16), Some(vec![7; 16]));
        assert_eq!(decode(&encode(&[7; 17]), 16), None);
        assert_eq!(decode("0bAAAAAAAAAAAAAAAAAAAAAAA=", 16), None, "17 bytes");
        assert_eq!(decode("0bAAAAAAAAAAAAAAAAAAAAAA==", 16), Some(vec![0; 16]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(bytes in prop::collection::vec(any::<u8>(), 1..80)) {
            prop_assert_eq!(decode(&encode(&bytes), 80), Some(bytes));
        }

        #[test]
        fn no_value_brings_the_decoder_down(value in "0[xXbB][0-9a-zA-Z+/=]{0,40}", most in 0_usize..20) {
            if let Some(bytes) = decode(&value, most) {
                prop_assert!(bytes.len() <= most);
            }
        }
    }
}
