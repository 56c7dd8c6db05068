//! iSCSI names: which strings are one, and when two are the same (RFC 7143 4.2.7).

use core::fmt;

/// The largest name, in bytes of its UTF-8 encoding (4.2.7.2).
pub const NAME_BYTES_MAX: usize = 223;

/// The naming authority of a name (4.2.7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameType {
    /// `iqn.`: iSCSI qualified name.
    Iqn,
    /// `eui.`: IEEE EUI-64.
    Eui,
    /// `naa.`: Network Address Authority.
    Naa,
}

/// Why a string is no iSCSI name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// More than [`NAME_BYTES_MAX`].
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// It begins with none of the three type designators.
    #[error("the name does not begin with iqn., eui. or naa.")]
    UnknownType,
    /// A character no name may hold.
    #[error("the name holds {0:?}; allowed are letters, digits, '-', '.' and ':'")]
    Character(char),
    /// No `yyyy-mm.` follows `iqn.`.
    #[error("after \"iqn.\" a year and month must follow, as in iqn.2001-04.com.example:disk")]
    Date,
    /// No domain name follows the date.
    #[error("after the date a reversed domain name must follow, as in iqn.2001-04.com.example:disk")]
    Domain,
    /// The identifier is not 16 (or, after `naa.`, 16 or 32) hexadecimal digits.
    #[error("after \"eui.\" 16, after \"naa.\" 16 or 32 hexadecimal digits must follow")]
    Identifier,
}

/// A valid iSCSI name, in lower case, so that equal names are equal bytes (4.2.7.2).
///
/// Beyond ASCII, characters are checked to be letters or digits without upper case; names are expected to come
/// normalized, and are compared as they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IscsiName(String);

impl IscsiName {
    /// Checks a name that is being configured: exactly what 4.2.7 allows, upper case folded to lower.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let name = Self::fold(name)?;
        let (name_type, rest) = split_type(&name.0)?;
        if let Some(wrong) = rest.chars().find(|c| !is_name_character(*c)) {
            return Err(NameError::Character(wrong));
        }
        match name_type {
            NameType::Iqn => check_iqn(rest)?,
            NameType::Eui => check_hexadecimal(rest, &[16])?,
            NameType::Naa => check_hexadecimal(rest, &[16, 32])?,
        }
        Ok(name)
    }

    /// Takes the name an initiator says it has. Hosts in the field use names the standard does not allow (an
    /// underscore, say), and nothing depends on their form: only length, type and control characters are checked.
    pub fn from_initiator(name: &str) -> Result<Self, NameError> {
        let name = Self::fold(name)?;
        split_type(&name.0)?;
        match name.0.chars().find(|c| c.is_control() || c.is_whitespace()) {
            Some(wrong) => Err(NameError::Character(wrong)),
            None => Ok(name),
        }
    }

    fn fold(name: &str) -> Result<Self, NameError> {
        if name.len() > NAME_BYTES_MAX {
            Err(NameError::TooLong)
        } else {
            Ok(Self(name.to_ascii_lowercase()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of a folded name and what follows the designator.
fn split_type(name: &str) -> Result<(NameType, &str), NameError> {
    for (designator, name_type) in [("iqn.", NameType::Iqn), ("eui.", NameType::Eui), ("naa.", NameType::Naa)]
    {
        if let Some(rest) = name.strip_prefix(designator) {
            return Ok((name_type, rest));
        }
    }
    Err(NameError::UnknownType)
}

fn is_name_character(c: char) -> bool {
    matches!(c, '-' | '.' | ':') || (c.is_alphanumeric() && !c.is_uppercase())
}

/// `yyyy-mm.`, a reversed domain name, and optionally a colon with anything (4.2.7.4).
fn check_iqn(rest: &str) -> Result<(), NameError> {
    let (date, rest) = rest.split_once('.').ok_or(NameError::Date)?;
    let (year, month) = date.split_once('-').ok_or(NameError::Date)?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) || !("01"..="12").contains(&month) {
        return Err(NameError::Date);
    }
    let domain = rest.split_once(':').map_or(rest, |(domain, _)| domain);
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    if domain.split('.').all(is_label) { Ok(()) } else { Err(NameError::Domain) }
}

fn check_hexadecimal(digits: &str, lengths: &[usize]) -> Result<(), NameError> {
    let fine = lengths.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fine { Ok(()) } else { Err(NameError::Identifier) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_standard_are_names() {
        for name in [
            "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
            "iqn.2001-04.com.example",
            "iqn.2001-04.com.example:storage.tape1.sys1.xyz",
            "iqn.1993-11.com.disk-vendor:diskarrays.sn.45678",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
            "naa.62004567BA64678D0123456789ABCDEF",
        ] {
            assert_eq!(IscsiName::parse(name).unwrap().as_str(), name.to_ascii_lowercase());
            assert!(IscsiName::from_initiator(name).is_ok());
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        let long = format!("iqn.2001-04.com.example:{}", "x".repeat(200));
        for (name, error) in [
            ("", NameError::UnknownType),
            ("disk", NameError::UnknownType),
            ("iqn.", NameError::Date),
            ("iqn.2001.com.example", NameError::Date),
            ("iqn.201-04.com.example", NameError::Date),
            ("iqn.2001-13.com.example", NameError::Date),
            ("iqn.2001-00.com.example", NameError::Date),
            ("iqn.2001-04.", NameError::Domain),
            ("iqn.2001-04.:disk", NameError::Domain),
            ("iqn.2001-04.com..example", NameError::Domain),
            ("iqn.2001-04.com.example:a_b", NameError::Character('_')),
            ("iqn.2001-04.com.example:a b", NameError::Character(' ')),
            ("iqn.2001-04.com.example:\u{c9}", NameError::Character('\u{c9}')),
            ("eui.02004567A425678", NameError::Identifier),
            ("eui.02004567A425678G", NameError::Identifier),
            ("naa.52004567BA64678D01", NameError::Identifier),
            (&long, NameError::TooLong),
        ] {
            assert_eq!(IscsiName::parse(name), Err(error), "{name}");
        }
    }

    #[test]
    fn hosts_may_have_names_the_standard_does_not_allow() {
        assert!(IscsiName::from_initiator("iqn.1994-05.com.example:my_host").is_ok());
        assert_eq!(IscsiName::from_initiator("iqn.a\n"), Err(NameError::Character('\n')));
        assert_eq!(IscsiName::from_initiator("my_host"), Err(NameError::UnknownType));
    }

    #[test]
    fn names_that_differ_in_case_are_the_same() {
        assert_eq!(IscsiName::parse("iqn.2001-04.COM.Example"), IscsiName::parse("iqn.2001-04.com.example"));
    }

    proptest! {
        #[test]
        fn no_string_brings_the_parser_down(name in "\\PC{0,40}", tail in "\\PC{0,12}") {
            let _ = IscsiName::parse(&name);
            let _ = IscsiName::parse(&format!("iqn.{tail}"));
            let _ = IscsiName::from_initiator(&format!("eui.{tail}"));
        }
    }
}
