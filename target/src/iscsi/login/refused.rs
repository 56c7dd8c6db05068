//! Why a login is refused: the status that RFC 7143 section 11.13.5 has for the host, and a sentence for the log of
//! this controller, which says more than a stranger should hear.

use std::borrow::Cow;

use protocol::iscsi::LoginStatus;

/// A login that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// What the host is told.
    pub status: LoginStatus,
    /// Why, for the log.
    pub why: Cow<'static, str>,
}

impl Refused {
    /// A refusal with its reason.
    #[must_use]
    pub fn because(status: LoginStatus, why: impl Into<Cow<'static, str>>) -> Self {
        Self { status, why: why.into() }
    }
}

impl From<LoginStatus> for Refused {
    fn from(status: LoginStatus) -> Self {
        use LoginStatus as S;
        let why = match status {
            S::AuthenticationFailure => "it has not proved who it is",
            S::AuthorizationFailure => "it is not among the hosts that [access] names",
            S::NotFound => "it asks for another target",
            S::UnsupportedVersion => "it speaks a version of iSCSI that is not known",
            S::TooManyConnections => "a session has one connection only",
            S::MissingParameter => "a key that must be there is missing",
            S::SessionTypeNotSupported => "it asks for a type of session that does not exist",
            S::SessionDoesNotExist => "the session it wants to go on with is not there",
            S::InvalidDuringLogin => "it sent something other than a Login Request",
            S::ServiceUnavailable => "no LUN is known here yet, or this controller is stopping",
            S::OutOfResources => "as many sessions as there may be are open",
            S::TargetError => "the system gave no random numbers",
            _ => "its Login Request breaks a rule of RFC 7143",
        };
        Self { status, why: why.into() }
    }
}
