//! CHAP (RFC 7143 12.1.3, 9.2; RFC 1994), the target's side, as a pure machine.
//!
//! ```text
//!   ExpectAlgorithms ──CHAP_A / CHAP_A CHAP_I CHAP_C──► ExpectResponse ──CHAP_N CHAP_R [CHAP_I CHAP_C]──► Proved
//! ```
//! The initiator proves that it knows its secret; if it asks for it, the target then proves that it knows its own.
//! A missing key, a malformed one and a wrong proof each get the login status section 9.2 names.

use core::fmt;

use protocol::iscsi::LoginStatus;
use protocol::iscsi::{binary, text};
use sha2::Digest;
use subtle::ConstantTimeEq;

use crate::iscsi::login::refused::Refused;

/// The longest challenge, in bytes (12.1.3).
const CHALLENGE_BYTES_MAX: usize = 1024;

/// The shortest secret that is accepted, in bytes: 96 bits (9.2.1).
pub const SECRET_BYTES_MIN: usize = 12;

/// The longest secret that is accepted, in bytes.
pub const SECRET_BYTES_MAX: usize = 255;

/// A CHAP secret. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret, if it has an acceptable length.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// A name with the secret that proves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// CHAP_N.
    pub user: String,
    /// The secret.
    pub secret: Secret,
}

/// What an initiator has to call itself in CHAP_N.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum User {
    /// Exactly this: a user's name is compared byte by byte.
    Named(String),
    /// Its InitiatorName, in whatever case it writes it: iSCSI names that differ in case are the same (4.2.7.2).
    InitiatorName(String),
}

impl User {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Named(user) => bool::from(user.as_bytes().ct_eq(name.as_bytes())),
            Self::InitiatorName(own) => own.eq_ignore_ascii_case(name),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Named(name) | Self::InitiatorName(name)) = self;
        write!(f, "{name:?}")
    }
}

/// What an initiator has to prove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// CHAP_N.
    pub user: User,
    /// The secret.
    pub secret: Secret,
}

/// Who has to prove what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// What the initiator proves.
    pub initiator: Proof,
    /// What this target proves if it is asked to.
    pub own: Option<Credentials>,
}

/// A hash algorithm by its number in CHAP_A (IANA, PPP authentication algorithms).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    fn from_number(number: u64) -> Option<Self> {
        [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha3_256].into_iter().find(|it| *it as u64 == number)
    }

    /// The first offered algorithm that is known; those that are not are ignored (6.2.1).
    fn choose(offered: &str) -> Option<Self> {
        offered.split(',').filter_map(text::parse_number).find_map(Self::from_number)
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The response to a challenge (RFC 1994 4.1): the hash over identifier, secret and challenge.
    fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            digest.finalize().to_vec()
        }
        let parts = [&[identifier][..], &secret.0, challenge];
        match self {
            Self::Md5 => hash::<md5::Md5>(parts),
            Self::Sha1 => hash::<sha1::Sha1>(parts),
            Self::Sha256 => hash::<sha2::Sha256>(parts),
            Self::Sha3_256 => hash::<sha3::Sha3_256>(parts),
        }
    }
}

/// The CHAP keys of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// CHAP_A.
    pub algorithms: Option<String>,
    /// CHAP_I.
    pub identifier: Option<String>,
    /// CHAP_C.
    pub challenge: Option<String>,
    /// CHAP_N.
    pub name: Option<String>,
    /// CHAP_R.
    pub response: Option<String>,
}

/// Keys with their values, to be sent back.
pub type Answer = Vec<(&'static str, String)>;

/// Where the exchange stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Chap {
    /// For CHAP_A.
    #[default]
    ExpectAlgorithms,
    /// For the answer to this challenge.
    ExpectResponse(Challenge),
    /// The initiator is who it says it is.
    Proved,
}

/// What the initiator was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    algorithm: Algorithm,
    identifier: u8,
    bytes: Vec<u8>,
}

impl Chap {
    /// True when the initiator has proved its identity.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        *self == Self::Proved
    }

    /// Takes the CHAP keys of a request; `random` fills bytes with what nobody can guess, or fails.
    pub fn step(
        &mut self,
        account: &Account,
        said: &Said,
        random: fn(&mut [u8]) -> bool,
    ) -> Result<Answer, Refused> {
        match self {
            Self::ExpectAlgorithms if *said == Said::default() => Ok(Vec::new()),
            Self::ExpectAlgorithms => {
                let (challenge, answer) = ask(said, random)?;
                *self = Self::ExpectResponse(challenge);
                Ok(answer)
            }
            Self::ExpectResponse(challenge) => {
                let answer = challenge.judge(account, said)?;
                *self = Self::Proved;
                Ok(answer)
            }
            Self::Proved if *said == Said::default() => Ok(Vec::new()),
            Self::Proved => Err(LoginStatus::InitiatorError.into()),
        }
    }
}

fn ask(said: &Said, random: fn(&mut [u8]) -> bool) -> Result<(Challenge, Answer), Refused> {
    let Said { algorithms: Some(algorithms), identifier: None, challenge: None, name: None, response: None } =
        said
    else {
        let missing = said.algorithms.is_none();
        let status = if missing { LoginStatus::MissingParameter } else { LoginStatus::InitiatorError };
        return Err(status.into());
    };
    let algorithm = Algorithm::choose(algorithms).ok_or_else(|| {
        Refused::because(LoginStatus::AuthenticationFailure, "it offers no CHAP algorithm that is known here")
    })?;
    let mut identifier = [0];
    let mut bytes = vec![0; algorithm.bytes()];
    if !random(&mut identifier) || !random(&mut bytes) {
        return Err(LoginStatus::TargetError.into());
    }
    let answer = vec![
        ("CHAP_A", (algorithm as u8).to_string()),
        ("CHAP_I", identifier[0].to_string()),
        ("CHAP_C", binary::encode(&bytes)),
    ];
    Ok((Challenge { algorithm, identifier: identifier[0], bytes }, answer))
}

impl Challenge {
    fn judge(&self, account: &Account, said: &Said) -> Result<Answer, Refused> {
        if said.algorithms.is_some() {
            return Err(LoginStatus::InitiatorError.into());
        }
        // A target that answered a challenge without CHAP_R would prove itself to somebody unknown (9.2).
        let (Some(name), Some(response)) = (&said.name, &said.response) else {
            return Err(LoginStatus::MissingParameter.into());
        };
        let response = binary::decode(response, CHALLENGE_BYTES_MAX).ok_or(LoginStatus::InitiatorError)?;
        let counter = self.counter_challenge(said)?;
        let expected = self.algorithm.response(self.identifier, &account.initiator.secret, &self.bytes);
        let right_response = bool::from(expected.ct_eq(&response));
        let right_name = account.initiator.user.is(name);
        let reflected = account.own.as_ref().is_some_and(|own| {
            let mine = self.algorithm.response(self.identifier, &own.secret, &self.bytes);
            bool::from(mine.ct_eq(&response))
        });
        let wrong = |why: String| Refused::because(LoginStatus::AuthenticationFailure, why);
        if reflected {
            return Err(wrong("it proves the secret that the target has to prove to it".to_owned()));
        }
        if !right_name {
            let expected = &account.initiator.user;
            return Err(wrong(format!("its CHAP name is {name:?}, which has to be {expected}")));
        }
        if !right_response {
            return Err(wrong("its CHAP secret is not the one that is kept here for it".to_owned()));
        }
        let Some((identifier, challenge)) = counter else {
            return Ok(Vec::new());
        };
        let own = account.own.as_ref().ok_or_else(|| {
            wrong(
                "it wants the target to prove itself, for which it has no `own_secret_file` here".to_owned(),
            )
        })?;
        let response = self.algorithm.response(identifier, &own.secret, &challenge);
        Ok(vec![("CHAP_N", own.user.clone()), ("CHAP_R", binary::encode(&response))])
    }

    /// The initiator's own challenge, if it has one. It must not be the target's (9.2.1).
    fn counter_challenge(&self, said: &Said) -> Result<Option<(u8, Vec<u8>)>, Refused> {
        let (identifier, challenge) = match (&said.identifier, &said.challenge) {
            (None, None) => return Ok(None),
            (Some(identifier), Some(challenge)) => (identifier, challenge),
            _ => return Err(LoginStatus::MissingParameter.into()),
        };
        let identifier = text::parse_number(identifier).and_then(|number| u8::try_from(number).ok());
        let challenge = binary::decode(challenge, CHALLENGE_BYTES_MAX);
        let (Some(identifier), Some(challenge)) = (identifier, challenge) else {
            return Err(LoginStatus::InitiatorError.into());
        };
        if challenge == self.bytes {
            let why = "it sends the target's own challenge back";
            return Err(Refused::because(LoginStatus::AuthenticationFailure, why));
        }
        Ok(Some((identifier, challenge)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, secret: &str) -> Credentials {
        Credentials { user: user.to_owned(), secret: Secret::new(secret.as_bytes()).unwrap() }
    }

    fn account() -> Account {
        let Credentials { user, secret } = credentials("host", "secret of the host");
        Account {
            initiator: Proof { user: User::Named(user), secret },
            own: Some(credentials("target", "secret of the target")),
        }
    }

    fn fixed(bytes: &mut [u8]) -> bool {
        bytes.fill(0x5a);
        true
    }

    /// A step, with the status alone of what is refused.
    fn step(
        chap: &mut Chap,
        account: &Account,
        said: &Said,
        random: fn(&mut [u8]) -> bool,
    ) -> Result<Answer, LoginStatus> {
        chap.step(account, said, random).map_err(|refused| refused.status)
    }

    fn algorithms(offered: &str) -> Said {
        Said { algorithms: Some(offered.to_owned()), ..Said::default() }
    }

    fn asked(offered: &str) -> (Chap, Challenge, Answer) {
        let mut chap = Chap::default();
        let answer = chap.step(&account(), &algorithms(offered), fixed).unwrap();
        let Chap::ExpectResponse(challenge) = chap.clone() else { panic!("{chap:?}") };
        (chap, challenge, answer)
    }

    fn proof(challenge: &Challenge) -> Said {
        let response =
            challenge.algorithm.response(challenge.identifier, &account().initiator.secret, &challenge.bytes);
        Said { name: Some("host".to_owned()), response: Some(binary::encode(&response)), ..Said::default() }
    }

    #[test]
    fn responses_are_those_of_the_hash_functions() {
        // Made with Python's hashlib over 5Ah, "secret of the host" and the bytes 0 to 15.
        let secret = account().initiator.secret;
        let challenge: Vec<u8> = (0..16).collect();
        for (algorithm, expected) in [
            (Algorithm::Md5, GOLDEN[0]),
            (Algorithm::Sha1, GOLDEN[1]),
            (Algorithm::Sha256, GOLDEN[2]),
            (Algorithm::Sha3_256, GOLDEN[3]),
        ] {
            let response = algorithm.response(0x5a, &secret, &challenge);
            assert_eq!(binary::encode(&response), expected, "{algorithm:?}");
            assert_eq!(response.len(), algorithm.bytes());
        }
    }

    const GOLDEN: [&str; 4] = [
        "0x951e678af3e4fd8e41b55aaee66d8a8a",
        "0xe50b2887a0d9907ff870d326b456826ffce73f03",
        "0x53e284ba7fe5d1fc799c220f75b1eb95fda8d2471cb192362b5dbe1160684540",
        "0xe8416c44fb5a9584945cac26d70db9001ff5e89c5b65f9d39abf46a8a168f5cc",
    ];

    #[test]
    fn the_first_known_algorithm_is_chosen() {
        for (offered, chosen) in [("5", "5"), ("6,5", "6"), ("99,7,5", "7"), ("8", "8"), ("0x7", "7")] {
            let (_, challenge, answer) = asked(offered);
            let expected = [
                ("CHAP_A", chosen.to_owned()),
                ("CHAP_I", "90".to_owned()),
                ("CHAP_C", binary::encode(&challenge.bytes)),
            ];
            assert_eq!(answer, expected, "{offered}");
        }
        for offered in ["", "1", "none", "-5"] {
            let refused = step(&mut Chap::default(), &account(), &algorithms(offered), fixed);
            assert_eq!(refused, Err(LoginStatus::AuthenticationFailure), "{offered}");
        }
    }

    #[test]
    fn an_initiator_that_proves_itself_gets_in() {
        let (mut chap, challenge, _) = asked("7");
        assert!(!chap.is_proved());
        assert_eq!(chap.step(&account(), &proof(&challenge), fixed), Ok(vec![]));
        assert!(chap.is_proved());
        assert_eq!(chap.step(&account(), &Said::default(), fixed), Ok(vec![]));
        assert_eq!(step(&mut chap, &account(), &algorithms("5"), fixed), Err(LoginStatus::InitiatorError));
    }

    #[test]
    fn an_initiator_name_proves_itself_in_whatever_case_and_a_users_name_in_its_own() {
        let by_name = User::InitiatorName("iqn.1993-08.org.debian:Host".to_owned());
        for (user, said, enters) in [
            (by_name.clone(), "iqn.1993-08.org.debian:Host", true),
            (by_name.clone(), "iqn.1993-08.org.debian:host", true),
            (by_name.clone(), "IQN.1993-08.ORG.DEBIAN:HOST", true),
            (by_name, "iqn.1993-08.org.debian:ghost", false),
            (User::Named("Host".to_owned()), "Host", true),
            (User::Named("Host".to_owned()), "host", false),
        ] {
            let (mut chap, challenge, _) = asked("7");
            let mut account = account();
            account.initiator.user = user.clone();
            let proof = Said { name: Some(said.to_owned()), ..proof(&challenge) };
            assert_eq!(chap.step(&account, &proof, fixed).is_ok(), enters, "{user:?} {said}");
        }
    }

    #[test]
    fn why_a_proof_is_wrong_is_said_for_the_log() {
        let (chap, challenge, _) = asked("7");
        let good = proof(&challenge);
        let ghost = Said { name: Some("gho\u{7}st".to_owned()), ..good.clone() };
        let wrong = Said { response: Some("0x00".to_owned()), ..good };
        for (said, why) in [
            (ghost, "its CHAP name is \"gho\\u{7}st\", which has to be \"host\""),
            (wrong, "its CHAP secret is not the one that is kept here for it"),
        ] {
            assert_eq!(chap.clone().step(&account(), &said, fixed).unwrap_err().why, why);
        }
    }

    #[test]
    fn the_target_proves_itself_if_it_is_asked_to() {
        let (mut chap, challenge, _) = asked("5");
        let counter = Said {
            identifier: Some("7".to_owned()),
            challenge: Some("0x0102030405".to_owned()),
            ..proof(&challenge)
        };
        let own = account().own.unwrap().secret;
        let expected = Algorithm::Md5.response(7, &own, &[1, 2, 3, 4, 5]);
        assert_eq!(
            chap.clone().step(&account(), &counter, fixed),
            Ok(vec![("CHAP_N", "target".to_owned()), ("CHAP_R", binary::encode(&expected))])
        );
        let one_way = Account { own: None, ..account() };
        assert_eq!(step(&mut chap, &one_way, &counter, fixed), Err(LoginStatus::AuthenticationFailure));
    }

    #[test]
    fn whatever_is_missing_malformed_or_wrong_gets_its_status() {
        use LoginStatus as S;
        let (chap, challenge, answer) = asked("5");
        let good = proof(&challenge);
        let own = account().own.unwrap().secret;
        let mine = Algorithm::Md5.response(challenge.identifier, &own, &challenge.bytes);
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (Said { response: None, ..good.clone() }, S::MissingParameter),
            (Said { name: None, ..good.clone() }, S::MissingParameter),
            (Said { identifier: some("1"), ..good.clone() }, S::MissingParameter),
            (Said { challenge: some("0x01"), ..good.clone() }, S::MissingParameter),
            (Said { algorithms: some("5"), ..good.clone() }, S::InitiatorError),
            (Said { response: some("123"), ..good.clone() }, S::InitiatorError),
            (Said { response: some("0xzz"), ..good.clone() }, S::InitiatorError),
            (Said { identifier: some("256"), challenge: some("0x01"), ..good.clone() }, S::InitiatorError),
            (Said { response: some("0x00"), ..good.clone() }, S::AuthenticationFailure),
            (Said { name: some("Host"), ..good.clone() }, S::AuthenticationFailure),
            (Said { response: some(&binary::encode(&mine)), ..good.clone() }, S::AuthenticationFailure),
            (
                Said { identifier: some("90"), challenge: some(&answer[2].1), ..good.clone() },
                S::AuthenticationFailure,
            ),
        ];
        for (said, status) in cases {
            assert_eq!(step(&mut chap.clone(), &account(), &said, fixed), Err(status), "{said:?}");
        }
        let mut chap = Chap::default();
        assert_eq!(step(&mut chap, &account(), &good, fixed), Err(S::MissingParameter));
        assert_eq!(step(&mut chap, &account(), &algorithms("5"), |_| false), Err(S::TargetError));
    }

    #[test]
    fn one_secret_for_both_directions_is_an_authentication_failure() {
        let same = Account { own: Some(credentials("target", "secret of the host")), ..account() };
        let (mut chap, challenge, _) = asked("5");
        assert_eq!(
            step(&mut chap, &same, &proof(&challenge), fixed),
            Err(LoginStatus::AuthenticationFailure)
        );
    }

    #[test]
    fn a_secret_is_long_enough_and_never_printed() {
        assert!(Secret::new(&[1; 11]).is_none() && Secret::new(&[1; 256]).is_none());
        assert!(Secret::new(&[1; 12]).is_some());
        assert!(!format!("{:?}", account()).contains("secret of"));
    }
}
