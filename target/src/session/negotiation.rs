//! Negotiation of the operational keys (RFC 7143 6.2 and section 13): a table with a row per key.
//!
//! Each offered value is answered by the rule of its row, and the result goes into the [`Parameters`]. This
//! target answers; it offers nothing of its own but declarations, so no negotiation ever takes a second round.

use super::parameters::{
    BURST_BYTES_MAX, FIRST_BURST_BYTES_MAX, OUTSTANDING_R2T_MAX, Parameters, SEGMENT_BYTES_DEFAULT,
};

/// What an offered key gets back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// `key=value`.
    Value(String),
    /// Nothing: the key was a declaration.
    Silent,
    /// The value breaks the protocol; a login ends (6.2: "a protocol error").
    Error,
}

impl Answer {
    fn constant(value: &'static str) -> Self {
        Self::Value(value.to_owned())
    }
}

/// How the value of a key is found (6.2.1, 6.2.2).
#[derive(Clone, Copy)]
enum Rule {
    /// The smaller of both numbers: bounds of the offer, our own value, where the result goes.
    Minimum { low: u32, high: u32, ours: u32, set: fn(&mut Parameters, u32) },
    /// The larger of both numbers.
    Maximum { low: u32, high: u32, ours: u32, set: fn(&mut Parameters, u32) },
    /// Yes only if both say Yes.
    And { ours: bool, set: fn(&mut Parameters, bool) },
    /// Yes if either says Yes.
    Or { ours: bool, set: fn(&mut Parameters, bool) },
    /// The first of the offered values that is one of ours.
    List { ours: &'static [&'static str], set: fn(&mut Parameters, &str) },
    /// A number the other side declares.
    Declared { low: u32, high: u32, set: fn(&mut Parameters, u32) },
    /// Text the other side declares, of no consequence here.
    Ignored,
    /// Always the same answer, whatever was offered.
    Constant(&'static str),
    /// A key only targets send.
    TargetOnly,
}

/// One key.
struct Row {
    key: &'static str,
    rule: Rule,
    /// "Irrelevant when: SessionType=Discovery".
    normal_only: bool,
}

const fn row(key: &'static str, rule: Rule) -> Row {
    Row { key, rule, normal_only: false }
}

const fn normal(key: &'static str, rule: Rule) -> Row {
    Row { key, rule, normal_only: true }
}

const fn nothing_number(_: &mut Parameters, _: u32) {}
const fn nothing_flag(_: &mut Parameters, _: bool) {}
const fn nothing_text(_: &mut Parameters, _: &str) {}

/// The largest value of the length keys, in bytes.
const LENGTH_MAX: u32 = (1 << 24) - 1;

/// Every key of section 13 an initiator may send in the operational stage, but for the names.
const ROWS: &[Row] = &[
    row(
        "HeaderDigest",
        Rule::List { ours: &["CRC32C", "None"], set: |p, v| p.digests.header = v == "CRC32C" },
    ),
    row("DataDigest", Rule::List { ours: &["CRC32C", "None"], set: |p, v| p.digests.data = v == "CRC32C" }),
    normal("MaxConnections", Rule::Minimum { low: 1, high: 65_535, ours: 1, set: nothing_number }),
    row("InitiatorAlias", Rule::Ignored),
    normal("InitialR2T", Rule::Or { ours: false, set: |p, v| p.initial_r2t = v }),
    normal("ImmediateData", Rule::And { ours: true, set: |p, v| p.immediate_data = v }),
    row(
        "MaxRecvDataSegmentLength",
        Rule::Declared { low: 512, high: LENGTH_MAX, set: |p, v| p.send_segment = v },
    ),
    normal(
        "MaxBurstLength",
        Rule::Minimum { low: 512, high: LENGTH_MAX, ours: BURST_BYTES_MAX, set: |p, v| p.max_burst = v },
    ),
    normal(
        "FirstBurstLength",
        Rule::Minimum {
            low: 512,
            high: LENGTH_MAX,
            ours: FIRST_BURST_BYTES_MAX,
            set: |p, v| p.first_burst = v,
        },
    ),
    row(
        "DefaultTime2Wait",
        Rule::Maximum { low: 0, high: 3600, ours: 0, set: |p, v| p.time_to_wait = v as u16 },
    ),
    row(
        "DefaultTime2Retain",
        Rule::Minimum { low: 0, high: 3600, ours: 0, set: |p, v| p.time_to_retain = v as u16 },
    ),
    normal(
        "MaxOutstandingR2T",
        Rule::Minimum {
            low: 1,
            high: 65_535,
            ours: OUTSTANDING_R2T_MAX,
            set: |p, v| p.max_outstanding_r2t = v,
        },
    ),
    normal("DataPDUInOrder", Rule::Or { ours: true, set: nothing_flag }),
    normal("DataSequenceInOrder", Rule::Or { ours: true, set: nothing_flag }),
    row("ErrorRecoveryLevel", Rule::Minimum { low: 0, high: 2, ours: 0, set: nothing_number }),
    normal("TaskReporting", Rule::List { ours: &["RFC3720"], set: nothing_text }),
    row("iSCSIProtocolLevel", Rule::Minimum { low: 0, high: 31, ours: 1, set: nothing_number }),
    // 13.25: obsolete; never NotUnderstood.
    row("IFMarker", Rule::Constant("No")),
    row("OFMarker", Rule::Constant("No")),
    row("IFMarkInt", Rule::Constant("Reject")),
    row("OFMarkInt", Rule::Constant("Reject")),
    row("TargetAlias", Rule::TargetOnly),
    row("TargetAddress", Rule::TargetOnly),
    row("TargetPortalGroupTag", Rule::TargetOnly),
];

/// True if the table has a row for `key`: an operational key.
#[must_use]
pub fn is_operational(key: &str) -> bool {
    ROWS.iter().any(|row| row.key == key)
}

/// A number as text keys write it: decimal, or hexadecimal after `0x` (RFC 7143 6.1).
fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if value.bytes().all(|b| b.is_ascii_digit()) => value.parse().ok(),
        None => None,
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

const fn yes_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// Answers one operational key. An unknown one gets NotUnderstood (6.2), a value out of its bounds Reject, and
/// then the default stands.
#[must_use]
pub fn negotiate(parameters: &mut Parameters, key: &str, value: &str) -> Answer {
    let Some(row) = ROWS.iter().find(|row| row.key == key) else {
        return Answer::constant("NotUnderstood");
    };
    if row.normal_only && parameters.discovery {
        return Answer::constant("Irrelevant");
    }
    let outcome = match row.rule {
        Rule::Minimum { low, high, ours, set } => bounded(value, low, high).map(|offer| {
            set(parameters, offer.min(ours));
            offer.min(ours).to_string()
        }),
        Rule::Maximum { low, high, ours, set } => bounded(value, low, high).map(|offer| {
            set(parameters, offer.max(ours));
            offer.max(ours).to_string()
        }),
        Rule::And { ours, set } => boolean(value).map(|offer| {
            set(parameters, offer && ours);
            yes_no(offer && ours).to_owned()
        }),
        Rule::Or { ours, set } => boolean(value).map(|offer| {
            set(parameters, offer || ours);
            yes_no(offer || ours).to_owned()
        }),
        Rule::List { ours, set } => value.split(',').find(|offer| ours.contains(offer)).map(|offer| {
            set(parameters, offer);
            offer.to_owned()
        }),
        Rule::Declared { low, high, set } => {
            return match bounded(value, low, high) {
                Some(declared) => {
                    set(parameters, declared);
                    Answer::Silent
                }
                None => Answer::Error,
            };
        }
        Rule::Ignored => return Answer::Silent,
        Rule::Constant(answer) => Some(answer.to_owned()),
        Rule::TargetOnly => return Answer::Error,
    };
    outcome.map_or_else(|| Answer::constant("Reject"), Answer::Value)
}

fn bounded(value: &str, low: u32, high: u32) -> Option<u32> {
    number(value).filter(|number| (low..=high).contains(number))
}

/// Keeps what two keys promise about each other: "FirstBurstLength MUST NOT exceed MaxBurstLength" (13.14).
pub fn settle(parameters: &mut Parameters) {
    parameters.first_burst = parameters.first_burst.min(parameters.max_burst);
    debug_assert!(parameters.receive_segment >= SEGMENT_BYTES_DEFAULT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(key: &str, value: &str) -> (Answer, Parameters) {
        let mut parameters = Parameters::default();
        let answer = negotiate(&mut parameters, key, value);
        (answer, parameters)
    }

    #[test]
    fn every_key_is_answered_by_its_rule() {
        let cases = [
            ("HeaderDigest", "CRC32C,None", "CRC32C"),
            ("HeaderDigest", "None,CRC32C", "None"),
            ("DataDigest", "X-fast,CRC32C", "CRC32C"),
            ("DataDigest", "MD5", "Reject"),
            ("MaxConnections", "8", "1"),
            ("MaxConnections", "0", "Reject"),
            ("InitialR2T", "No", "No"),
            ("InitialR2T", "Yes", "Yes"),
            ("InitialR2T", "yes", "Reject"),
            ("ImmediateData", "Yes", "Yes"),
            ("ImmediateData", "No", "No"),
            ("MaxBurstLength", "16776192", "1048576"),
            ("MaxBurstLength", "0x200", "512"),
            ("MaxBurstLength", "511", "Reject"),
            ("MaxBurstLength", "16777216", "Reject"),
            ("FirstBurstLength", "262144", "262144"),
            ("FirstBurstLength", "-1", "Reject"),
            ("DefaultTime2Wait", "2", "2"),
            ("DefaultTime2Retain", "20", "0"),
            ("DefaultTime2Retain", "3601", "Reject"),
            ("MaxOutstandingR2T", "1", "1"),
            ("MaxOutstandingR2T", "65535", "8"),
            ("DataPDUInOrder", "No", "Yes"),
            ("DataSequenceInOrder", "No", "Yes"),
            ("ErrorRecoveryLevel", "2", "0"),
            ("TaskReporting", "FastAbort,ResponseFence,RFC3720", "RFC3720"),
            ("iSCSIProtocolLevel", "2", "1"),
            ("IFMarker", "No", "No"),
            ("OFMarker", "Yes", "No"),
            ("IFMarkInt", "2048~8192", "Reject"),
            ("OFMarkInt", "2048", "Reject"),
            ("X-com.example.speed", "11", "NotUnderstood"),
            ("FastForward", "Yes", "NotUnderstood"),
        ];
        for (key, value, expected) in cases {
            assert_eq!(answer(key, value).0, Answer::Value(expected.to_owned()), "{key}={value}");
        }
    }

    #[test]
    fn declarations_are_taken_without_an_answer() {
        let (said, parameters) = answer("MaxRecvDataSegmentLength", "65536");
        assert_eq!((said, parameters.send_segment), (Answer::Silent, 65_536));
        assert_eq!(answer("InitiatorAlias", "host").0, Answer::Silent);
    }

    #[test]
    fn what_only_a_target_may_say_or_no_segment_can_be_is_an_error() {
        for (key, value) in [
            ("TargetPortalGroupTag", "1"),
            ("TargetAlias", "x"),
            ("MaxRecvDataSegmentLength", "511"),
            ("MaxRecvDataSegmentLength", "lots"),
        ] {
            assert_eq!(answer(key, value).0, Answer::Error, "{key}={value}");
        }
    }

    #[test]
    fn a_discovery_session_finds_the_keys_of_data_transfer_irrelevant() {
        let mut parameters = Parameters { discovery: true, ..Parameters::default() };
        for key in ["InitialR2T", "ImmediateData", "MaxBurstLength", "MaxConnections", "DataPDUInOrder"] {
            assert_eq!(
                negotiate(&mut parameters, key, "Yes"),
                Answer::Value("Irrelevant".to_owned()),
                "{key}"
            );
        }
        assert_eq!(negotiate(&mut parameters, "HeaderDigest", "None"), Answer::Value("None".to_owned()));
    }

    #[test]
    fn the_first_burst_never_exceeds_the_burst() {
        let mut parameters = Parameters::default();
        let _ = negotiate(&mut parameters, "MaxBurstLength", "4096");
        settle(&mut parameters);
        assert_eq!((parameters.first_burst, parameters.max_burst), (4096, 4096));
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_bounds_of_the_parameters(key in 0..ROWS.len(), value in "\\PC{0,12}|0x[0-9a-f]{1,9}|[0-9]{1,11}") {
            let mut parameters = Parameters::default();
            let _ = negotiate(&mut parameters, ROWS[key].key, &value);
            settle(&mut parameters);
            prop_assert!((512..=LENGTH_MAX).contains(&parameters.send_segment));
            prop_assert!((512..=BURST_BYTES_MAX).contains(&parameters.max_burst));
            prop_assert!(parameters.first_burst <= parameters.max_burst);
            prop_assert!((1..=OUTSTANDING_R2T_MAX).contains(&parameters.max_outstanding_r2t));
        }
    }
}
