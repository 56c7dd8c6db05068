//! Agreeing on operational parameters: pure functions from what one side offers and the other would have to what
//! both then use (RFC 7143 6.2, section 13).
//!
//! A target keeps two [`Parameters`]: its own wishes, and what is agreed, which begins as
//! [`Parameters::default`]. Each received pair goes through [`answer`]; what it returns is sent back. When the
//! login is about to end, [`Parameters::check`] looks at the rules between keys. The caller sees to what is not
//! decided by a single value: names, SessionType, AuthMethod and CHAP, SendTargets, and that no key comes twice.

use super::keys::{Key, Rule, Stage};
use super::parameters::{CRC32C, Parameters, TaskReporting};
use super::text::{IRRELEVANT, NONE, NOT_UNDERSTOOD, REJECT, boolean, parse_boolean, parse_number};

/// What the acceptor of a pair does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Sends the key back with this number; it is agreed.
    Number(u32),
    /// Sends the key back with this word. It is agreed, unless it is Reject, NotUnderstood or Irrelevant.
    Word(&'static str),
    /// Sends nothing: the other side declared something, which is now stored.
    Silence,
    /// What to do is the caller's business: a name, an alias, SessionType, AuthMethod, CHAP, SendTargets,
    /// X#NodeArchitecture.
    ByCaller(Key),
}

impl Answer {
    /// The value to send back, if this is an answer.
    #[must_use]
    pub fn value(self) -> Option<String> {
        match self {
            Self::Number(number) => Some(number.to_string()),
            Self::Word(word) => Some(word.to_owned()),
            Self::Silence | Self::ByCaller(_) => None,
        }
    }
}

/// A pair that must not be answered: a protocol error that ends the negotiation (6.2, 7.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NegotiationError {
    /// The key may not be sent by an initiator.
    #[error("{} is not a key an initiator sends", .0.name())]
    WrongSender(Key),
    /// The key may not be sent at this stage.
    #[error("{} is not a key of this stage", .0.name())]
    WrongStage(Key),
    /// NotUnderstood, Irrelevant or Reject was proposed (6.2).
    #[error("{} was offered with a value that is reserved for answers (RFC 7143 6.2)", .0.name())]
    ReservedWord(Key),
    /// A declaration outside its bounds; there is no answer to it that would settle anything (7.12).
    #[error("{} was declared with a value that is not acceptable (RFC 7143 7.12)", .0.name())]
    NotAcceptable(Key),
    /// The target's answer is not one the rule allows (6.2.2).
    #[error("{} was answered with a value that is not admissible (RFC 7143 6.2.2)", .0.name())]
    NotAdmissible(Key),
}

/// The first of the offered values that is supported (6.2.1).
#[must_use]
pub fn choose_from_list<'a>(offered: &'a str, supported: &[&str]) -> Option<&'a str> {
    offered.split(',').find(|value| supported.contains(value))
}

/// A target's answer to one pair of an initiator; what is agreed or declared by it is stored in `agreed`.
///
/// A number above a key's bound counts as the bound; one below it, or what is no number, is rejected
/// (6.2.2: "MAY be answered with the constant "Reject"; otherwise, the acceptor MUST select an admissible value").
/// Boolean answers are sent even where they are optional.
pub fn answer(
    agreed: &mut Parameters,
    own: &Parameters,
    stage: Stage,
    key: &str,
    value: &str,
) -> Result<Answer, NegotiationError> {
    let Some(key) = Key::from_name(key) else {
        return Ok(Answer::Word(NOT_UNDERSTOOD));
    };
    if !key.is_from_initiator() {
        return Err(NegotiationError::WrongSender(key));
    }
    if !key.is_allowed_in(stage) {
        return Err(NegotiationError::WrongStage(key));
    }
    if key.rule() != Rule::DeclaredText && [NOT_UNDERSTOOD, IRRELEVANT, REJECT].contains(&value) {
        return Err(NegotiationError::ReservedWord(key));
    }
    Ok(match key.rule() {
        Rule::List => answer_list(agreed, own, key, value),
        Rule::And | Rule::Or => answer_boolean(agreed, own, key, value),
        Rule::Minimum(low, high) | Rule::Maximum(low, high) | Rule::DeclaredNumber(low, high) => {
            match parse_number(value).map(|number| u32::try_from(number).unwrap_or(u32::MAX).min(high)) {
                Some(offered) if offered >= low => answer_number(agreed, own, key, offered),
                _ if matches!(key.rule(), Rule::DeclaredNumber(..)) => {
                    return Err(NegotiationError::NotAcceptable(key));
                }
                _ => Answer::Word(REJECT),
            }
        }
        Rule::DeclaredText | Rule::Exchange => Answer::ByCaller(key),
        Rule::Obsolete => Answer::Word(REJECT),
    })
}

fn answer_list(agreed: &mut Parameters, own: &Parameters, key: Key, offered: &str) -> Answer {
    let digest = |wanted: bool| {
        let supported: &[&str] = if wanted { &[CRC32C, NONE] } else { &[NONE] };
        choose_from_list(offered, supported).map(|choice| choice == CRC32C)
    };
    let digest_word = |crc32c: bool| Answer::Word(if crc32c { CRC32C } else { NONE });
    match key {
        Key::HeaderDigest => digest(own.header_digest).map(|crc32c| {
            agreed.header_digest = crc32c;
            digest_word(crc32c)
        }),
        Key::DataDigest => digest(own.data_digest).map(|crc32c| {
            agreed.data_digest = crc32c;
            digest_word(crc32c)
        }),
        Key::TaskReporting => {
            let mut known = offered.split(',').filter_map(TaskReporting::from_name);
            known.find(|value| *value <= own.task_reporting).map(|choice| {
                agreed.task_reporting = choice;
                Answer::Word(choice.name())
            })
        }
        key => Some(Answer::ByCaller(key)),
    }
    .unwrap_or(Answer::Word(REJECT))
}

fn answer_boolean(agreed: &mut Parameters, own: &Parameters, key: Key, offered: &str) -> Answer {
    let Some(offered) = parse_boolean(offered) else {
        return Answer::Word(REJECT);
    };
    let result = match (key.rule(), own.clone().boolean_mut(key)) {
        (Rule::And, Some(own)) => offered && *own,
        (_, Some(own)) => offered || *own,
        (_, None) => return Answer::ByCaller(key),
    };
    if let Some(agreed) = agreed.boolean_mut(key) {
        *agreed = result;
    }
    Answer::Word(boolean(result))
}

fn answer_number(agreed: &mut Parameters, own: &Parameters, key: Key, offered: u32) -> Answer {
    let result = match (key.rule(), own.clone().number_mut(key)) {
        (Rule::Minimum(..), Some(own)) => offered.min(*own),
        (Rule::Maximum(..), Some(own)) => offered.max(*own),
        (Rule::DeclaredNumber(..), Some(_)) => offered,
        _ => return Answer::ByCaller(key),
    };
    if let Some(agreed) = agreed.number_mut(key) {
        *agreed = result;
    }
    if matches!(key.rule(), Rule::DeclaredNumber(..)) { Answer::Silence } else { Answer::Number(result) }
}

/// An initiator takes a target's answer to what it offered, or a target's declaration. Answers that settle
/// nothing (Irrelevant, Reject) leave the parameter as it is.
pub fn accept(
    agreed: &mut Parameters,
    offered: &Parameters,
    key: &str,
    value: &str,
) -> Result<(), NegotiationError> {
    let Some(key) = Key::from_name(key) else { return Ok(()) };
    if [IRRELEVANT, REJECT].contains(&value) {
        return Ok(());
    }
    // "Returning a NotUnderstood response on any of these text keys therefore MUST be considered a protocol
    // error" (6.2).
    let wrong = NegotiationError::NotAdmissible(key);
    match key.rule() {
        Rule::DeclaredText | Rule::Exchange | Rule::Obsolete => return Ok(()),
        Rule::DeclaredNumber(..) if key != Key::MaxRecvDataSegmentLength => return Ok(()),
        Rule::List if key == Key::AuthMethod => return Ok(()),
        _ => {}
    }
    let mut chosen = *agreed;
    // The answer must be a result the rule can have: applied to the offer once more it stays what it is.
    let again = answer(&mut chosen, offered, Stage::Operational, key.name(), value).map_err(|_| wrong)?;
    let is_result = match again {
        Answer::Word(word) => word == value,
        Answer::Number(number) => parse_number(value) == Some(u64::from(number)),
        Answer::Silence => true,
        Answer::ByCaller(_) => false,
    };
    if is_result && value != REJECT {
        *agreed = chosen;
        Ok(())
    } else {
        Err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a target may wish for.
    const OWN: Parameters = Parameters {
        header_digest: true,
        data_digest: true,
        max_connections: 1,
        initial_r2t: false,
        immediate_data: true,
        max_recv_data_segment_length: 1 << 20,
        max_burst_length: 1 << 20,
        first_burst_length: 1 << 18,
        default_time_2_wait: 2,
        default_time_2_retain: 0,
        max_outstanding_r2t: 8,
        data_pdu_in_order: true,
        data_sequence_in_order: true,
        error_recovery_level: 0,
        task_reporting: TaskReporting::ResponseFence,
        protocol_level: 1,
    };

    fn answer_of(key: &str, value: &str) -> (Option<String>, Parameters) {
        let mut agreed = Parameters::default();
        let answer = answer(&mut agreed, &OWN, Stage::Operational, key, value).unwrap();
        (answer.value(), agreed)
    }

    #[test]
    fn every_key_is_answered_by_its_own_rule() {
        for (key, value, expected) in [
            ("HeaderDigest", "None", Some("None")),
            ("HeaderDigest", "None,CRC32C", Some("None")),
            ("HeaderDigest", "CRC32C,None", Some("CRC32C")),
            ("DataDigest", "X-other,CRC32C", Some("CRC32C")),
            ("DataDigest", "X-other", Some("Reject")),
            ("MaxConnections", "8", Some("1")),
            ("MaxConnections", "0", Some("Reject")),
            ("InitialR2T", "Yes", Some("Yes")),
            ("InitialR2T", "No", Some("No")),
            ("InitialR2T", "no", Some("Reject")),
            ("ImmediateData", "Yes", Some("Yes")),
            ("ImmediateData", "No", Some("No")),
            ("MaxRecvDataSegmentLength", "262144", None),
            ("MaxBurstLength", "16776192", Some("1048576")),
            ("MaxBurstLength", "0x10000", Some("65536")),
            ("MaxBurstLength", "99999999999", Some("1048576")),
            ("MaxBurstLength", "-1", Some("Reject")),
            ("FirstBurstLength", "262144", Some("262144")),
            ("DefaultTime2Wait", "0", Some("2")),
            ("DefaultTime2Wait", "3600", Some("3600")),
            ("DefaultTime2Retain", "20", Some("0")),
            ("MaxOutstandingR2T", "1", Some("1")),
            ("MaxOutstandingR2T", "65535", Some("8")),
            ("DataPDUInOrder", "No", Some("Yes")),
            ("DataSequenceInOrder", "No", Some("Yes")),
            ("ErrorRecoveryLevel", "2", Some("0")),
            ("TaskReporting", "FastAbort,ResponseFence,RFC3720", Some("ResponseFence")),
            ("TaskReporting", "RFC3720,FastAbort", Some("RFC3720")),
            ("TaskReporting", "FastAbort", Some("Reject")),
            ("iSCSIProtocolLevel", "2", Some("1")),
            ("IFMarker", "No", Some("Reject")),
            ("OFMarkInt", "2048~8192", Some("Reject")),
            ("X-com.example.key", "1", Some("NotUnderstood")),
            ("X#NodeArchitecture", "Linux", None),
            ("InitiatorName", "iqn.2001-04.com.example", None),
        ] {
            assert_eq!(answer_of(key, value).0.as_deref(), expected, "{key}={value}");
        }
    }

    #[test]
    fn what_is_answered_is_stored_and_a_reject_changes_nothing() {
        assert!(answer_of("HeaderDigest", "CRC32C").1.header_digest);
        assert!(!answer_of("InitialR2T", "No").1.initial_r2t);
        assert_eq!(answer_of("MaxRecvDataSegmentLength", "32768").1.max_recv_data_segment_length, 32768);
        assert_eq!(answer_of("MaxOutstandingR2T", "4").1.max_outstanding_r2t, 4);
        assert_eq!(
            answer_of("TaskReporting", "ResponseFence").1.task_reporting,
            TaskReporting::ResponseFence
        );
        assert_eq!(answer_of("MaxBurstLength", "1").1, Parameters::default());
        assert_eq!(answer_of("ImmediateData", "maybe").1, Parameters::default());
    }

    #[test]
    fn what_breaks_the_protocol_is_not_answered() {
        let mut agreed = Parameters::default();
        let too_short = NegotiationError::NotAcceptable(Key::MaxRecvDataSegmentLength);
        for (stage, key, value, error) in [
            (Stage::Operational, "TargetAlias", "x", NegotiationError::WrongSender(Key::TargetAlias)),
            (Stage::Operational, "SendTargets", "All", NegotiationError::WrongStage(Key::SendTargets)),
            (Stage::Security, "HeaderDigest", "None", NegotiationError::WrongStage(Key::HeaderDigest)),
            (Stage::FullFeature, "InitialR2T", "No", NegotiationError::WrongStage(Key::InitialR2t)),
            (Stage::Operational, "InitialR2T", "Reject", NegotiationError::ReservedWord(Key::InitialR2t)),
            (Stage::Operational, "MaxRecvDataSegmentLength", "511", too_short),
            (Stage::Operational, "MaxRecvDataSegmentLength", "many", too_short),
            (Stage::FullFeature, "MaxRecvDataSegmentLength", "0", too_short),
        ] {
            assert_eq!(answer(&mut agreed, &OWN, stage, key, value), Err(error));
        }
        assert_eq!(agreed, Parameters::default());
    }

    #[test]
    fn an_initiator_takes_admissible_answers_only() {
        let offer = Parameters { max_outstanding_r2t: 4, ..OWN };
        for (key, value, fine) in [
            ("MaxOutstandingR2T", "4", true),
            ("MaxOutstandingR2T", "1", true),
            ("MaxOutstandingR2T", "5", false),
            ("DefaultTime2Wait", "1", false),
            ("DefaultTime2Wait", "3", true),
            ("DataPDUInOrder", "No", false),
            ("ImmediateData", "No", true),
            ("HeaderDigest", "CRC32C", true),
            ("HeaderDigest", "None", true),
            ("HeaderDigest", "X-other", false),
            ("InitialR2T", "NotUnderstood", false),
            ("InitialR2T", "Irrelevant", true),
            ("IFMarker", "Reject", true),
            ("TargetPortalGroupTag", "1", true),
            ("MaxRecvDataSegmentLength", "8192", true),
        ] {
            let mut agreed = Parameters::default();
            assert_eq!(accept(&mut agreed, &offer, key, value).is_ok(), fine, "{key}={value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_offered_both_sides_end_with_the_same(number: u64, which in 0_usize..35, word in 0..4) {
            let key = Key::all().nth(which).unwrap();
            let value = match word {
                0 => number.to_string(),
                1 => "Yes".to_owned(),
                2 => "No".to_owned(),
                _ => "CRC32C,None,RFC3720".to_owned(),
            };
            let mut target = Parameters::default();
            let answer = answer(&mut target, &OWN, Stage::Operational, key.name(), &value);
            if let Some(answered) = answer.ok().and_then(Answer::value) {
                let mut initiator = Parameters::default();
                let offer = Parameters {
                    max_connections: 65_535, max_burst_length: 1 << 23, first_burst_length: 1 << 23,
                    default_time_2_wait: 0, default_time_2_retain: 3600, max_outstanding_r2t: 65_535,
                    data_pdu_in_order: false, data_sequence_in_order: false, error_recovery_level: 2, ..OWN
                };
                prop_assert_eq!(accept(&mut initiator, &offer, key.name(), &answered), Ok(()));
                prop_assert_eq!(initiator, target);
            }
        }

        #[test]
        fn no_pair_brings_the_negotiation_down(which in 0_usize..35, value in "\\PC{0,20}") {
            let key = Key::all().nth(which).unwrap();
            for stage in [Stage::Security, Stage::Operational, Stage::FullFeature] {
                let _ = answer(&mut Parameters::default(), &OWN, stage, key.name(), &value);
            }
            let _ = accept(&mut Parameters::default(), &OWN, key.name(), &value);
        }
    }
}
