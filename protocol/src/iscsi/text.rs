//! Text: key=value pairs in the data segments of Login and Text PDUs (RFC 7143 6.1).
//!
//! What is read here is a complete logical text data segment; one that came in several PDUs with the C bit is joined
//! first, up to [`TEXT_BYTES_MAX`].

/// The largest text that is joined from several PDUs, in bytes. 6.1 asks for at least 8192.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The largest number of pairs in one text. Section 13 defines 26 keys.
pub const PAIRS_MAX: usize = 256;

/// The largest key-name, in bytes (6.1: standard-label).
pub const KEY_BYTES_MAX: usize = 63;

/// The largest simple-value, in bytes (6.1); in a list each of its values.
pub const VALUE_BYTES_MAX: usize = 255;

/// The largest binary value, in bytes of what it encodes (12.1.3: a CHAP challenge or response).
pub const BINARY_VALUE_BYTES_MAX: usize = 1024;

/// The largest binary value, in bytes of its hexadecimal encoding.
const BINARY_TEXT_BYTES_MAX: usize = 2 + 2 * BINARY_VALUE_BYTES_MAX;

/// The answer for a key that is not understood (6.2).
pub const NOT_UNDERSTOOD: &str = "NotUnderstood";
/// The answer for a key that does not matter beside others (6.2).
pub const IRRELEVANT: &str = "Irrelevant";
/// The answer for a value that cannot be had (6.2).
pub const REJECT: &str = "Reject";
/// The value for "no such function" in lists (6.2.1).
pub const NONE: &str = "None";

/// A text that is no list of key=value pairs. Positions are bytes from the beginning of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// More than [`TEXT_BYTES_MAX`].
    #[error("the text is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`PAIRS_MAX`].
    #[error("the text has more than {PAIRS_MAX} pairs")]
    TooManyPairs,
    /// The last pair is not followed by a null byte.
    #[error("the pair at byte {0} does not end with a null byte (RFC 7143 6.1)")]
    NotTerminated(usize),
    /// A pair without "=".
    #[error("the pair at byte {0} has no \"=\" (RFC 7143 6.1)")]
    NoEqualSign(usize),
    /// A key that is empty, longer than [`KEY_BYTES_MAX`] or holds a character no key may hold.
    #[error("the key at byte {0} is not a key-name (RFC 7143 6.1)")]
    Key(usize),
    /// A value that is too long.
    #[error("the value of the pair at byte {0} is too long (RFC 7143 6.1)")]
    Value(usize),
    /// A value that is not UTF-8.
    #[error("the pair at byte {0} is not UTF-8 (RFC 7143 6.1)")]
    NotUtf8(usize),
}

/// Reads all pairs of a complete text, in their order; keys may repeat. Empty pairs (several null bytes in a
/// row) are skipped.
pub fn decode(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TextError::TooLong);
    }
    let mut pairs = Vec::new();
    let (mut at, mut rest) = (0, text);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).ok_or(TextError::NotTerminated(at))?;
        let (pair, after) = rest.split_at(end);
        if !pair.is_empty() {
            if pairs.len() == PAIRS_MAX {
                return Err(TextError::TooManyPairs);
            }
            pairs.push(decode_pair(pair, at)?);
        }
        at += end + 1;
        rest = after.get(1..).unwrap_or_default();
    }
    Ok(pairs)
}

/// The key is what precedes the first "=", the value is all that follows it (6.1).
fn decode_pair(pair: &[u8], at: usize) -> Result<(&str, &str), TextError> {
    let pair = core::str::from_utf8(pair).map_err(|_| TextError::NotUtf8(at))?;
    let (key, value) = pair.split_once('=').ok_or(TextError::NoEqualSign(at))?;
    if !is_key(key) {
        return Err(TextError::Key(at));
    }
    if !is_short_enough(value) {
        return Err(TextError::Value(at));
    }
    Ok((key, value))
}

/// True for a key-name. Wider than 6.1 by what the standard's own keys need: "#" (X#NodeArchitecture) and a small
/// first letter (iSCSIProtocolLevel).
#[must_use]
pub fn is_key(key: &str) -> bool {
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-+@_#".contains(&byte);
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.bytes().all(is_label_byte)
}

fn is_short_enough(value: &str) -> bool {
    value.split(',').all(|item| {
        let is_binary = item.starts_with("0x")
            || item.starts_with("0X")
            || item.starts_with("0b")
            || item.starts_with("0B");
        item.len() <= if is_binary { BINARY_TEXT_BYTES_MAX } else { VALUE_BYTES_MAX }
    })
}

/// Appends one pair with its null byte.
pub fn push_pair(text: &mut Vec<u8>, key: &str, value: &str) {
    debug_assert!(is_key(key) && is_short_enough(value) && !value.contains('\0'));
    text.extend_from_slice(key.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    text.push(0);
}

/// The text of these pairs.
#[must_use]
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in pairs {
        push_pair(&mut text, key, value);
    }
    text
}

/// A numerical-value: a decimal-constant or a hex-constant less than 2**64 (6.1).
#[must_use]
pub fn parse_number(value: &str) -> Option<u64> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // from_str_radix would take a sign; decimal constants have no leading zeros.
    let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let no_leading_zero = radix == 16 || digits == "0" || !digits.starts_with('0');
    if fine && no_leading_zero { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// A boolean-value: "Yes" or "No" (6.1), in exactly this case.
#[must_use]
pub fn parse_boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// "Yes" or "No".
#[must_use]
pub const fn boolean(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_read_in_their_order() {
        let text = b"SessionType=Normal\0InitiatorAlias=a=b c\0TargetAlias=\0";
        let pairs = decode(text).unwrap();
        assert_eq!(pairs, [("SessionType", "Normal"), ("InitiatorAlias", "a=b c"), ("TargetAlias", "")]);
        assert_eq!(encode(pairs), text);
        assert_eq!(decode(b""), Ok(vec![]));
        assert_eq!(decode(b"A=1\0\0B=2\0\0"), Ok(vec![("A", "1"), ("B", "2")]));
    }

    #[test]
    fn the_keys_of_the_standard_are_keys() {
        assert!(is_key("X#NodeArchitecture") && is_key("iSCSIProtocolLevel") && is_key("X-com.example.a_b"));
        assert!(is_key(&"K".repeat(63)) && !is_key(&"K".repeat(64)) && !is_key("") && !is_key("a b"));
    }

    #[test]
    fn text_that_breaks_the_rules_is_refused_with_the_place() {
        let long_key = format!("A=1\0{}=1\0", "K".repeat(64));
        let long_value = format!("A={}\0", "v".repeat(256));
        let cases: [(&[u8], TextError); 7] = [
            (b"A=1\0B=2", TextError::NotTerminated(4)),
            (b"A=1\0B2\0", TextError::NoEqualSign(4)),
            (b"=1\0", TextError::Key(0)),
            (b"a b=1\0", TextError::Key(0)),
            (b"A=\xff\0", TextError::NotUtf8(0)),
            (long_key.as_bytes(), TextError::Key(4)),
            (long_value.as_bytes(), TextError::Value(0)),
        ];
        for (text, error) in cases {
            assert_eq!(decode(text), Err(error));
        }
        assert_eq!(decode(&vec![0; TEXT_BYTES_MAX + 1]), Err(TextError::TooLong));
        assert_eq!(decode(&b"A=1\0".repeat(PAIRS_MAX + 1)), Err(TextError::TooManyPairs));
    }

    #[test]
    fn only_binary_values_and_whole_lists_may_be_longer_than_255_bytes() {
        for (value, fine) in [
            ("v".repeat(255), true),
            (format!("{},{}", "v".repeat(255), "w".repeat(255)), true),
            (format!("0x{}", "f".repeat(2048)), true),
            (format!("0b{}", "f".repeat(1368)), true),
            (format!("0x{}", "f".repeat(2049)), false),
        ] {
            let text = format!("CHAP_C={value}\0");
            assert_eq!(decode(text.as_bytes()).is_ok(), fine, "{} bytes", value.len());
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        for (value, number) in [
            ("0", Some(0)),
            ("262144", Some(262_144)),
            ("0x0200", Some(512)),
            ("0XfF", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("0x", None),
            ("007", None),
            ("+1", None),
            ("-1", None),
            ("ff", None),
            ("1 ", None),
        ] {
            assert_eq!(parse_number(value), number, "{value:?}");
        }
        assert_eq!(parse_boolean("yes"), None);
        assert_eq!(parse_boolean(boolean(true)), Some(true));
        assert_eq!(parse_boolean(boolean(false)), Some(false));
    }

    proptest! {
        #[test]
        fn no_text_brings_the_decoder_down(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&text);
        }

        #[test]
        fn no_likely_text_brings_the_decoder_down(text in "[A=,0x\\x00\\PC]{0,80}") {
            if let Ok(pairs) = decode(text.as_bytes()) {
                let again = encode(pairs.iter().copied());
                prop_assert_eq!(decode(&again), Ok(pairs));
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(
            pairs in prop::collection::vec(("[A-Z][A-Za-z0-9.+@_-]{0,62}", "[ -~]{0,255}"), 0..20),
        ) {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let text = encode(pairs.iter().copied());
            prop_assert_eq!(decode(&text), Ok(pairs));
        }

        #[test]
        fn every_number_is_read_back(number: u64) {
            prop_assert_eq!(parse_number(&number.to_string()), Some(number));
            prop_assert_eq!(parse_number(&format!("{number:#x}")), Some(number));
        }
    }
}
