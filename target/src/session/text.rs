//! Data segments of Login and Text PDUs as `key=value` pairs (RFC 7143 6.1).

/// One pair, borrowed from the data segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair<'a> {
    /// The key name: 1 to 63 bytes.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
}

/// Bytes of a key name at most (6.1: "key-name ... no more than 63 characters").
pub const KEY_BYTES_MAX: usize = 63;

/// A data segment that is not a list of pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the data segment is not a list of key=value pairs (RFC 7143 6.1)")]
pub struct NotPairs;

/// The pairs of a whole data segment. "Each pair ... MUST be followed by at least one null delimiter": the last
/// may miss it here, and further nulls are padding.
pub fn pairs(text: &[u8]) -> Result<Vec<Pair<'_>>, NotPairs> {
    let text = core::str::from_utf8(text).map_err(|_| NotPairs)?;
    text.split('\0')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Ok(Pair { key, value }),
            _ => Err(NotPairs),
        })
        .collect()
}

/// Appends a pair and its null.
pub fn put(text: &mut Vec<u8>, key: &str, value: &str) {
    text.extend_from_slice(key.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    text.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_may_hold_an_equals_sign_or_nothing() {
        let pairs = pairs(b"A=b=c\0SendTargets=\0\0").unwrap();
        assert_eq!(pairs, [Pair { key: "A", value: "b=c" }, Pair { key: "SendTargets", value: "" }]);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for text in [&b"novalue\0"[..], b"=x\0", b"\xff=1\0", &[b'k'; 64], b"A=1\0B"] {
            assert_eq!(pairs(text), Err(NotPairs), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_is_read_back(given in proptest::collection::vec(("[A-Za-z][A-Za-z0-9.+@_#-]{0,62}", "[ -~]{0,40}"), 0..8)) {
            let mut text = Vec::new();
            given.iter().for_each(|(key, value)| put(&mut text, key, value));
            let read = pairs(&text).unwrap();
            prop_assert!(read.iter().map(|p| (p.key, p.value)).eq(given.iter().map(|(k, v)| (&k[..], &v[..]))));
        }

        #[test]
        fn any_bytes_are_read_without_a_crash(text: Vec<u8>) {
            let _ = pairs(&text);
        }
    }
}
