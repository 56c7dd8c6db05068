//! Every text key of RFC 7143 sections 12 and 13 in one table: its name, who may send it when, and the rule by
//! which its value is agreed on.

/// A text key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Key {
    /// AuthMethod (12.1).
    AuthMethod,
    /// CHAP_A (12.1.3): algorithms.
    ChapAlgorithm,
    /// CHAP_I (12.1.3): identifier.
    ChapIdentifier,
    /// CHAP_C (12.1.3): challenge.
    ChapChallenge,
    /// CHAP_N (12.1.3): name.
    ChapName,
    /// CHAP_R (12.1.3): response.
    ChapResponse,
    /// HeaderDigest (13.1).
    HeaderDigest,
    /// DataDigest (13.1).
    DataDigest,
    /// MaxConnections (13.2).
    MaxConnections,
    /// SendTargets (13.3).
    SendTargets,
    /// TargetName (13.4).
    TargetName,
    /// InitiatorName (13.5).
    InitiatorName,
    /// TargetAlias (13.6).
    TargetAlias,
    /// InitiatorAlias (13.7).
    InitiatorAlias,
    /// TargetAddress (13.8).
    TargetAddress,
    /// TargetPortalGroupTag (13.9).
    TargetPortalGroupTag,
    /// InitialR2T (13.10).
    InitialR2t,
    /// ImmediateData (13.11).
    ImmediateData,
    /// MaxRecvDataSegmentLength (13.12).
    MaxRecvDataSegmentLength,
    /// MaxBurstLength (13.13).
    MaxBurstLength,
    /// FirstBurstLength (13.14).
    FirstBurstLength,
    /// DefaultTime2Wait (13.15).
    DefaultTime2Wait,
    /// DefaultTime2Retain (13.16).
    DefaultTime2Retain,
    /// MaxOutstandingR2T (13.17).
    MaxOutstandingR2t,
    /// DataPDUInOrder (13.18).
    DataPduInOrder,
    /// DataSequenceInOrder (13.19).
    DataSequenceInOrder,
    /// ErrorRecoveryLevel (13.20).
    ErrorRecoveryLevel,
    /// SessionType (13.21).
    SessionType,
    /// TaskReporting (13.23).
    TaskReporting,
    /// iSCSIProtocolLevel (13.24, RFC 7144 7.1.1).
    ProtocolLevel,
    /// IFMarker (13.25).
    IfMarker,
    /// OFMarker (13.25).
    OfMarker,
    /// IFMarkInt (13.25).
    IfMarkInt,
    /// OFMarkInt (13.25).
    OfMarkInt,
    /// X#NodeArchitecture (13.26).
    NodeArchitecture,
}

/// How the value of a key comes about ("Result function" of section 13; 6.2.1 and 6.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The first value of the offered list that the acceptor supports.
    List,
    /// Boolean AND.
    And,
    /// Boolean OR.
    Or,
    /// The smaller number; within these bounds.
    Minimum(u32, u32),
    /// The larger number; within these bounds.
    Maximum(u32, u32),
    /// Declared, a number within these bounds: no answer.
    DeclaredNumber(u32, u32),
    /// Declared, text: no answer.
    DeclaredText,
    /// A question or a step of an exchange, whose answer is other keys.
    Exchange,
    /// Obsolete and always answered with Reject (13.25).
    Obsolete,
}

/// The key's "Use".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// LO, leading only: in the login phase of a session's first connection.
    Leading,
    /// IO, initialize only: in the login phase.
    Login,
    /// ALL: in the login phase and in full feature phase.
    All,
    /// FFPO: in full feature phase only.
    FullFeatureOnly,
}

/// The key's "Senders".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// Initiator.
    Initiator,
    /// Target.
    Target,
    /// Initiator and target.
    Both,
}

/// Where a key is seen (6.2: every stage of the login phase is a negotiation of its own).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// SecurityNegotiation.
    Security,
    /// LoginOperationalNegotiation.
    Operational,
    /// Full feature phase, in Text PDUs.
    FullFeature,
}

/// One row of the table.
struct Row {
    key: Key,
    name: &'static str,
    rule: Rule,
    used: Use,
    sender: Sender,
    /// Any-Stage, or one of the security keys of section 12.
    in_security: bool,
    /// False for the security keys that have no place outside their stage.
    in_operational: bool,
}

/// 2**24 - 1: the bound of all lengths.
const LENGTH_MAX: u32 = (1 << 24) - 1;

const fn row(key: Key, name: &'static str, rule: Rule, used: Use, sender: Sender) -> Row {
    Row { key, name, rule, used, sender, in_security: false, in_operational: true }
}

/// A key that may also appear in the SecurityNegotiation stage (section 13: Any-Stage).
const fn any_stage(row: Row) -> Row {
    Row { in_security: true, ..row }
}

/// A key of section 12.
const fn security(key: Key, name: &'static str, rule: Rule) -> Row {
    Row { key, name, rule, used: Use::Login, sender: Sender::Both, in_security: true, in_operational: false }
}

/// In the order of [`Key`].
const TABLE: [Row; 35] = {
    use Rule::{And, DeclaredNumber, DeclaredText, Exchange, List, Maximum, Minimum, Obsolete, Or};
    use Sender::{Both, Initiator, Target};
    use Use::{All, FullFeatureOnly, Leading, Login};
    [
        security(Key::AuthMethod, "AuthMethod", List),
        security(Key::ChapAlgorithm, "CHAP_A", Exchange),
        security(Key::ChapIdentifier, "CHAP_I", Exchange),
        security(Key::ChapChallenge, "CHAP_C", Exchange),
        security(Key::ChapName, "CHAP_N", Exchange),
        security(Key::ChapResponse, "CHAP_R", Exchange),
        row(Key::HeaderDigest, "HeaderDigest", List, Login, Both),
        row(Key::DataDigest, "DataDigest", List, Login, Both),
        row(Key::MaxConnections, "MaxConnections", Minimum(1, 65_535), Leading, Both),
        row(Key::SendTargets, "SendTargets", Exchange, FullFeatureOnly, Initiator),
        any_stage(row(Key::TargetName, "TargetName", DeclaredText, Login, Both)),
        any_stage(row(Key::InitiatorName, "InitiatorName", DeclaredText, Login, Initiator)),
        any_stage(row(Key::TargetAlias, "TargetAlias", DeclaredText, All, Target)),
        any_stage(row(Key::InitiatorAlias, "InitiatorAlias", DeclaredText, All, Initiator)),
        any_stage(row(Key::TargetAddress, "TargetAddress", DeclaredText, All, Target)),
        any_stage(row(
            Key::TargetPortalGroupTag,
            "TargetPortalGroupTag",
            DeclaredNumber(0, 65_535),
            Login,
            Target,
        )),
        row(Key::InitialR2t, "InitialR2T", Or, Leading, Both),
        row(Key::ImmediateData, "ImmediateData", And, Leading, Both),
        row(
            Key::MaxRecvDataSegmentLength,
            "MaxRecvDataSegmentLength",
            DeclaredNumber(512, LENGTH_MAX),
            All,
            Both,
        ),
        row(Key::MaxBurstLength, "MaxBurstLength", Minimum(512, LENGTH_MAX), Leading, Both),
        row(Key::FirstBurstLength, "FirstBurstLength", Minimum(512, LENGTH_MAX), Leading, Both),
        row(Key::DefaultTime2Wait, "DefaultTime2Wait", Maximum(0, 3600), Leading, Both),
        row(Key::DefaultTime2Retain, "DefaultTime2Retain", Minimum(0, 3600), Leading, Both),
        row(Key::MaxOutstandingR2t, "MaxOutstandingR2T", Minimum(1, 65_535), Leading, Both),
        row(Key::DataPduInOrder, "DataPDUInOrder", Or, Leading, Both),
        row(Key::DataSequenceInOrder, "DataSequenceInOrder", Or, Leading, Both),
        row(Key::ErrorRecoveryLevel, "ErrorRecoveryLevel", Minimum(0, 2), Leading, Both),
        any_stage(row(Key::SessionType, "SessionType", DeclaredText, Leading, Initiator)),
        row(Key::TaskReporting, "TaskReporting", List, Leading, Both),
        row(Key::ProtocolLevel, "iSCSIProtocolLevel", Minimum(0, 31), Leading, Both),
        row(Key::IfMarker, "IFMarker", Obsolete, Login, Both),
        row(Key::OfMarker, "OFMarker", Obsolete, Login, Both),
        row(Key::IfMarkInt, "IFMarkInt", Obsolete, Login, Both),
        row(Key::OfMarkInt, "OFMarkInt", Obsolete, Login, Both),
        row(Key::NodeArchitecture, "X#NodeArchitecture", DeclaredText, Leading, Both),
    ]
};

impl Key {
    /// The key with this name; names are case sensitive (6.1).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.key)
    }

    /// All keys.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.key)
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The key's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// How its value comes about.
    #[must_use]
    pub const fn rule(self) -> Rule {
        self.row().rule
    }

    /// True if an initiator may send the key.
    #[must_use]
    pub fn is_from_initiator(self) -> bool {
        self.row().sender != Sender::Target
    }

    /// True if a target may send the key, be it unasked, as an answer, or in a SendTargets response.
    #[must_use]
    pub fn is_from_target(self) -> bool {
        self.row().sender != Sender::Initiator
    }

    /// True if the key may be sent at this stage by an initiator. In the SecurityNegotiation stage "other keys
    /// MUST NOT be used" (section 12).
    #[must_use]
    pub fn is_allowed_in(self, stage: Stage) -> bool {
        let Row { used, in_security, in_operational, .. } = self.row();
        match stage {
            Stage::Security => *in_security,
            Stage::Operational => *in_operational && *used != Use::FullFeatureOnly,
            Stage::FullFeature => !matches!(used, Use::Login | Use::Leading),
        }
    }

    /// True for what only the login of a session's first connection may say (section 13: LO).
    #[must_use]
    pub fn is_leading_only(self) -> bool {
        self.row().used == Use::Leading
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::text::is_key;

    #[test]
    fn the_table_is_in_the_order_of_the_keys_and_names_are_unique() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.key as usize, at, "{}", row.name);
            assert_eq!(Key::from_name(row.name), Some(row.key));
            assert!(is_key(row.name));
        }
        assert_eq!(Key::all().count(), TABLE.len());
        assert_eq!(Key::from_name("headerdigest"), None);
        assert_eq!(Key::from_name("X-com.example.key"), None);
    }

    #[test]
    fn stages_admit_the_keys_the_standard_lists_for_them() {
        let security: Vec<_> =
            Key::all().filter(|key| key.is_allowed_in(Stage::Security)).map(Key::name).collect();
        assert_eq!(
            security,
            [
                "AuthMethod",
                "CHAP_A",
                "CHAP_I",
                "CHAP_C",
                "CHAP_N",
                "CHAP_R",
                "TargetName",
                "InitiatorName",
                "TargetAlias",
                "InitiatorAlias",
                "TargetAddress",
                "TargetPortalGroupTag",
                "SessionType",
            ]
        );
        let full_feature: Vec<_> = Key::all()
            .filter(|key| key.is_allowed_in(Stage::FullFeature) && key.is_from_initiator())
            .map(Key::name)
            .collect();
        assert_eq!(full_feature, ["SendTargets", "InitiatorAlias", "MaxRecvDataSegmentLength"]);
        assert!(!Key::SendTargets.is_allowed_in(Stage::Operational));
        assert!(!Key::AuthMethod.is_allowed_in(Stage::Operational));
        assert!(Key::InitialR2t.is_allowed_in(Stage::Operational));
    }

    #[test]
    fn what_holds_for_a_session_is_said_on_its_first_connection_only() {
        let later: Vec<_> = Key::all()
            .filter(|key| key.is_from_initiator() && key.is_allowed_in(Stage::Operational))
            .filter(|key| !key.is_leading_only())
            .map(Key::name)
            .collect();
        assert_eq!(
            later,
            [
                "HeaderDigest",
                "DataDigest",
                "TargetName",
                "InitiatorName",
                "InitiatorAlias",
                "MaxRecvDataSegmentLength",
                "IFMarker",
                "OFMarker",
                "IFMarkInt",
                "OFMarkInt",
            ]
        );
    }

    #[test]
    fn senders_are_those_of_the_standard() {
        assert!(!Key::InitiatorName.is_from_target() && Key::InitiatorName.is_from_initiator());
        assert!(!Key::TargetPortalGroupTag.is_from_initiator() && Key::TargetPortalGroupTag.is_from_target());
        assert!(Key::HeaderDigest.is_from_initiator() && Key::HeaderDigest.is_from_target());
    }
}
