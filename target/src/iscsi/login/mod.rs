//! The Login Phase of one connection (RFC 7143 6.3) as a pure machine: requests in, answers out.
//!
//! ```text
//!   (start) ──► SecurityNegotiation ──► LoginOperationalNegotiation ──► FullFeaturePhase
//!      └────────────────────────────────────────▲      ▲                     ▲
//!                       └─────────────────────────────────────────────────────┘
//! ```
//! Every request is answered by [`Verdict::Go`], [`Verdict::Enter`] (the last answer) or [`Verdict::Refuse`]
//! (the connection then ends). The machine keeps no time; its caller bounds the whole phase.

pub mod access;
pub mod chap;
pub mod parameters;
pub mod refused;

use std::borrow::Cow;

use protocol::iscsi::keys::{Key, Stage};
use protocol::iscsi::login_request::VERSION;
use protocol::iscsi::names::{IscsiName, NAME_BYTES_MAX};
use protocol::iscsi::negotiation::{self, Answer};
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{CmdSn, Isid, LoginRequest, LoginStage, LoginStatus, text};

use self::access::{Access, Demand};
use self::chap::{Chap, Said};
use self::parameters::{BURST_BYTES_MIN, Parameters, RECEIVE_SEGMENT_BYTES_MAX, WISHES};
use self::refused::Refused;
use crate::iscsi::sessions::Existing;

/// Login Requests of one connection at most.
pub const LOGIN_REQUESTS_MAX: u32 = 32;

/// Text of one negotiation step, over all requests joined by the C bit, at most, in bytes.
pub const LOGIN_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Keys of one login at most; together with the 63 bytes of a key name this keeps every answer within one PDU.
pub const LOGIN_KEYS_MAX: usize = 64;

/// What the login must know of the target at the moment of a request.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The tag of the portal group the connection came in by.
    pub portal_group: u16,
    /// Whether the target is served at all.
    pub serving: bool,
    /// The session that the TSIH of the request stands for.
    pub existing: Option<&'a Existing>,
    /// Who may log in.
    pub access: &'a Access,
    /// Fills bytes with what nobody can guess, or fails.
    pub random: fn(&mut [u8]) -> bool,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// CSG, as requested.
    pub current: LoginStage,
    /// NSG with T=1, or none with T=0.
    pub next: Option<LoginStage>,
    /// The data segment.
    pub text: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Status 0000h; the login goes on.
    Go(Reply),
    /// Status 0000h with T=1 and NSG=FullFeaturePhase: the session begins.
    Enter(Reply),
    /// Any other status; the connection ends.
    Refuse(LoginStatus),
}

/// The Login Phase of one connection.
#[derive(Debug, Default)]
pub struct Login {
    requests: u32,
    opening: Option<Opening>,
    stage: Option<LoginStage>,
    text: Vec<u8>,
    keys: Vec<String>,
    introduced: bool,
    /// InitiatorName as it was sent, cut to what a name may have.
    sent: String,
    /// Why it is refused, once it is.
    why: Cow<'static, str>,
    initiator: String,
    initiator_alias: String,
    group_announced: bool,
    segment_announced: bool,
    named: bool,
    method: Option<Method>,
    said: Said,
    parameters: Parameters,
}

/// AuthMethod, once chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Method {
    None,
    Chap(Chap),
}

/// What every request of one login repeats (RFC 7143 11.12.5 to 11.12.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Opening {
    isid: Isid,
    cid: u16,
    tag: u32,
    tsih: u16,
    versions: (u8, u8),
    /// The first CmdSN of the session (11.12.8).
    cmd_sn: CmdSn,
}

impl Login {
    /// A connection nothing was heard from yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The initiator's name, in lower case; empty before it gave one.
    #[must_use]
    pub fn initiator(&self) -> &str {
        &self.initiator
    }

    /// InitiatorName as it was sent, whatever it is worth; empty before it was.
    #[must_use]
    pub fn sent_name(&self) -> &str {
        &self.sent
    }

    /// Why this login is refused, for the log; empty while it is not.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// InitiatorAlias, if one was declared.
    #[must_use]
    pub fn initiator_alias(&self) -> &str {
        &self.initiator_alias
    }

    /// True as long as no request came.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.requests == 0
    }

    /// The CmdSN of the first request: the first ExpCmdSN of a new session (11.12.8).
    #[must_use]
    pub fn first_cmd_sn(&self) -> CmdSn {
        self.opening.map_or(CmdSn(0), |opening| opening.cmd_sn)
    }

    /// The handle of the session whose connection this login replaces, if it does (6.3.4).
    #[must_use]
    pub fn reinstates(&self) -> Option<u16> {
        self.opening.map(|opening| opening.tsih).filter(|tsih| *tsih != 0)
    }

    /// True if the initiator named the target.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        self.named
    }

    /// What was negotiated; final after [`Verdict::Enter`].
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Takes one Login Request with its data segment.
    pub fn on_request(&mut self, request: &LoginRequest, data: &[u8], around: &Circumstances<'_>) -> Verdict {
        match self.step(request, data, around) {
            Ok(verdict) => verdict,
            Err(refused) => {
                self.why = refused.why;
                Verdict::Refuse(refused.status)
            }
        }
    }

    fn step(
        &mut self,
        request: &LoginRequest,
        data: &[u8],
        around: &Circumstances<'_>,
    ) -> Result<Verdict, Refused> {
        self.requests += 1;
        if self.requests > LOGIN_REQUESTS_MAX {
            return Err(LoginStatus::InitiatorError.into());
        }
        self.check_opening(request, around)?;
        let next = self.check_stages(request)?;
        if self.text.len() + data.len() > LOGIN_TEXT_BYTES_MAX {
            return Err(LoginStatus::InitiatorError.into());
        }
        self.text.extend_from_slice(data);
        debug_assert!(self.opening.is_some() && self.stage.is_some(), "the request was looked at");
        if request.continue_bit {
            return Ok(Verdict::Go(Reply { current: request.current_stage, next: None, text: Vec::new() }));
        }
        let mut text = core::mem::take(&mut self.text);
        // The last null is missed by some initiators; one more does no harm.
        text.push(0);
        let pairs = text::decode(&text).map_err(|_| LoginStatus::InitiatorError)?;
        self.introduce(&pairs, around)?;
        let demand = self.demand(request.current_stage, around)?;
        let mut reply = Vec::new();
        self.announce(request.current_stage, around, &mut reply);
        let wishes = self.wishes(&pairs);
        for (key, value) in &pairs {
            self.on_key(request.current_stage, &wishes, demand, (key, value), &mut reply)?;
        }
        let next = if self.authenticate(demand, next, around, &mut reply)? { next } else { None };
        if let Some(next) = next {
            self.stage = Some(next);
        }
        let reply = Reply { current: request.current_stage, next, text: reply };
        if next == Some(LoginStage::FullFeaturePhase) {
            // "An iSCSI target MUST perform integrity checking before the new parameters take effect" (6.2).
            let agreed = &mut self.parameters.agreed;
            agreed.first_burst_length = agreed.first_burst_bytes();
            agreed.check().map_err(|_| LoginStatus::InitiatorError)?;
            debug_assert!(!self.initiator.is_empty(), "a session is somebody's");
            return Ok(Verdict::Enter(reply));
        }
        Ok(Verdict::Go(reply))
    }

    /// The first request tells who logs in where; the others repeat it.
    fn check_opening(
        &mut self,
        request: &LoginRequest,
        around: &Circumstances<'_>,
    ) -> Result<(), LoginStatus> {
        let opening = Opening {
            isid: request.isid,
            cid: request.cid,
            tag: request.initiator_task_tag,
            tsih: request.tsih,
            versions: (request.version_min, request.version_max),
            cmd_sn: self.opening.map_or(request.cmd_sn, |first| first.cmd_sn),
        };
        match self.opening {
            Some(first) if first == opening => Ok(()),
            Some(_) => Err(LoginStatus::InitiatorError),
            None if request.version_min > VERSION => Err(LoginStatus::UnsupportedVersion),
            None if opening.tsih != 0 && around.existing.is_none() => Err(LoginStatus::SessionDoesNotExist),
            None => {
                self.opening = Some(opening);
                Ok(())
            }
        }
    }

    /// The table of 6.3: which stage may follow which. Gives the next stage if the request asks for one.
    fn check_stages(&mut self, request: &LoginRequest) -> Result<Option<LoginStage>, LoginStatus> {
        use LoginStage::{FullFeaturePhase, OperationalNegotiation, SecurityNegotiation};
        let current = request.current_stage;
        if current == FullFeaturePhase || self.stage.is_some_and(|stage| stage != current) {
            return Err(LoginStatus::InitiatorError);
        }
        self.stage = Some(current);
        match (current, request.next_stage) {
            (_, None) => Ok(None),
            _ if request.continue_bit => Err(LoginStatus::InitiatorError),
            (SecurityNegotiation, Some(OperationalNegotiation))
            | (SecurityNegotiation | OperationalNegotiation, Some(FullFeaturePhase)) => {
                Ok(request.next_stage)
            }
            _ => Err(LoginStatus::InitiatorError),
        }
    }

    /// What is demanded of this initiator. One that has something to prove cannot skip the SecurityNegotiation
    /// stage (6.3.1), nor leave it before it has.
    fn demand<'a>(&self, stage: LoginStage, around: &Circumstances<'a>) -> Result<Demand<'a>, Refused> {
        let demand = around.access.demand(&self.initiator, self.parameters.discovery);
        match demand {
            Demand::Refused => Err(LoginStatus::AuthorizationFailure.into()),
            Demand::Proof(_) if stage != LoginStage::SecurityNegotiation && !self.is_proved() => {
                Err(Refused::because(LoginStatus::AuthenticationFailure, NO_PROOF))
            }
            _ => Ok(demand),
        }
    }

    fn is_proved(&self) -> bool {
        matches!(&self.method, Some(Method::Chap(chap)) if chap.is_proved())
    }

    /// Takes the exchange of proofs further. True if nothing stands in the way of the next stage.
    fn authenticate(
        &mut self,
        demand: Demand<'_>,
        next: Option<LoginStage>,
        around: &Circumstances<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<bool, Refused> {
        let said = core::mem::take(&mut self.said);
        let Demand::Proof(account) = demand else {
            return if said == Said::default() { Ok(true) } else { Err(LoginStatus::InitiatorError.into()) };
        };
        let Some(Method::Chap(chap)) = &mut self.method else {
            // Nothing was offered yet; an initiator that wants to go on offers nothing any more.
            let hopeless = next.is_some() || said != Said::default();
            let refused = || Refused::because(LoginStatus::AuthenticationFailure, NO_PROOF);
            return if hopeless { Err(refused()) } else { Ok(false) };
        };
        for (key, value) in chap.step(account, &said, around.random)? {
            text::push_pair(reply, key, &value);
        }
        Ok(chap.is_proved())
    }

    /// Reads the names of the first request: who it is, what kind of session, which target.
    fn introduce(&mut self, pairs: &[(&str, &str)], around: &Circumstances<'_>) -> Result<(), Refused> {
        if self.introduced {
            return Ok(());
        }
        let value = |key: Key| pairs.iter().find(|pair| pair.0 == key.name()).map(|pair| pair.1);
        let initiator = value(Key::InitiatorName).ok_or_else(|| {
            Refused::because(LoginStatus::MissingParameter, "it does not say its InitiatorName")
        })?;
        self.sent = initiator.chars().take(NAME_BYTES_MAX).collect();
        let initiator = IscsiName::from_initiator(initiator)
            .map_err(|error| Refused::because(LoginStatus::InitiatorError, error.to_string()))?;
        match value(Key::SessionType) {
            None | Some("Normal") => {}
            Some("Discovery") => self.parameters.discovery = true,
            Some(_) => return Err(LoginStatus::SessionTypeNotSupported.into()),
        }
        match value(Key::TargetName) {
            None if !self.parameters.discovery => {
                return Err(Refused::because(LoginStatus::MissingParameter, "it does not say which target"));
            }
            Some(name) if !name.eq_ignore_ascii_case(around.target) => {
                let name: String = name.chars().take(NAME_BYTES_MAX).collect();
                return Err(Refused::because(LoginStatus::NotFound, format!("it asks for target {name:?}")));
            }
            _ => {}
        }
        if !around.serving {
            return Err(LoginStatus::ServiceUnavailable.into());
        }
        self.check_existing(&initiator, around)?;
        self.named = value(Key::TargetName).is_some();
        self.initiator = initiator.as_str().to_owned();
        self.introduced = true;
        Ok(())
    }

    /// The table of 6.3.1 for a TSIH that is not zero: a session has one connection, so none can be added, but the
    /// one there is can be replaced.
    fn check_existing(&self, initiator: &IscsiName, around: &Circumstances<'_>) -> Result<(), LoginStatus> {
        let Some(opening) = self.opening.filter(|opening| opening.tsih != 0) else {
            return Ok(());
        };
        match around.existing {
            Some(existing) if existing.initiator != initiator.as_str() || existing.isid != opening.isid => {
                Err(LoginStatus::SessionDoesNotExist)
            }
            Some(_) if self.parameters.discovery => Err(LoginStatus::SessionDoesNotExist),
            Some(existing) if existing.cid != opening.cid => Err(LoginStatus::TooManyConnections),
            Some(_) => Ok(()),
            None => Err(LoginStatus::SessionDoesNotExist),
        }
    }

    /// What this target would have, seen what is offered together: FirstBurstLength must not exceed MaxBurstLength
    /// (13.14), whichever comes first.
    fn wishes(&self, pairs: &[(&str, &str)]) -> Agreed {
        let offered = pairs.iter().find(|pair| pair.0 == Key::MaxBurstLength.name());
        let offered = offered.and_then(|pair| text::parse_number(pair.1));
        let burst = offered.and_then(|number| u32::try_from(number).ok());
        let burst = burst.unwrap_or(self.parameters.agreed.max_burst_length).max(BURST_BYTES_MIN);
        Agreed { first_burst_length: WISHES.first_burst_length.min(burst), ..WISHES }
    }

    /// Declares what this target declares, each once and as early as the stage allows.
    fn announce(&mut self, stage: LoginStage, around: &Circumstances<'_>, reply: &mut Vec<u8>) {
        if !self.group_announced {
            self.group_announced = true;
            text::push_pair(reply, "TargetPortalGroupTag", &around.portal_group.to_string());
            if !self.parameters.discovery {
                text::push_pair(reply, "TargetAlias", "Twinlun");
            }
        }
        if stage == LoginStage::OperationalNegotiation && !self.segment_announced {
            self.segment_announced = true;
            self.parameters.receive_segment = RECEIVE_SEGMENT_BYTES_MAX;
            text::push_pair(reply, "MaxRecvDataSegmentLength", &RECEIVE_SEGMENT_BYTES_MAX.to_string());
        }
    }

    fn on_key(
        &mut self,
        stage: LoginStage,
        wishes: &Agreed,
        demand: Demand<'_>,
        (key, value): (&str, &str),
        reply: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        // 6.3: "An attempt to renegotiate/redeclare parameters ... MUST respond with a Login reject".
        if self.keys.len() >= LOGIN_KEYS_MAX || self.keys.iter().any(|known| known == key) {
            return Err(LoginStatus::InitiatorError.into());
        }
        self.keys.push(key.to_owned());
        let known = Key::from_name(key);
        // The session's own keys are not said again when its connection is replaced; its type may be.
        let leading = known.is_some_and(|key| key.is_leading_only() && key != Key::SessionType);
        if leading && self.reinstates().is_some() {
            return Err(LoginStatus::InitiatorError.into());
        }
        let stage = match stage {
            LoginStage::SecurityNegotiation => Stage::Security,
            LoginStage::OperationalNegotiation | LoginStage::FullFeaturePhase => Stage::Operational,
        };
        let answer = negotiation::answer(&mut self.parameters.agreed, wishes, stage, key, value);
        let answer = answer.map_err(|_| LoginStatus::InitiatorError)?;
        let answer = match (known, answer) {
            // 13.25 allows No as well as Reject; No is what initiators in the field are used to.
            (Some(Key::IfMarker | Key::OfMarker), _) => Some("No".to_owned()),
            (_, Answer::ByCaller(key)) => self.on_own_key(key, value, demand)?,
            (_, answer) => answer.value(),
        };
        if let Some(answer) = answer {
            text::push_pair(reply, key, &answer);
        }
        Ok(())
    }

    /// The keys that are not decided by their value alone.
    fn on_own_key(&mut self, key: Key, value: &str, demand: Demand<'_>) -> Result<Option<String>, Refused> {
        let said = match key {
            Key::ChapAlgorithm => &mut self.said.algorithms,
            Key::ChapIdentifier => &mut self.said.identifier,
            Key::ChapChallenge => &mut self.said.challenge,
            Key::ChapName => &mut self.said.name,
            Key::ChapResponse => &mut self.said.response,
            _ => return self.on_other_key(key, value, demand),
        };
        *said = Some(value.to_owned());
        Ok(None)
    }

    fn on_other_key(&mut self, key: Key, value: &str, demand: Demand<'_>) -> Result<Option<String>, Refused> {
        match key {
            Key::AuthMethod => {
                let (method, word) = authentication(value, demand)?;
                self.method = Some(method);
                Ok(Some(word.to_owned()))
            }
            Key::InitiatorAlias => {
                self.initiator_alias = value.to_owned();
                Ok(None)
            }
            Key::InitiatorName | Key::SessionType | Key::TargetName | Key::NodeArchitecture => Ok(None),
            _ => Err(LoginStatus::InitiatorError.into()),
        }
    }
}

/// AuthMethod (RFC 7143 12.1): the first that is offered and allowed for this initiator.
fn authentication(offered: &str, demand: Demand<'_>) -> Result<(Method, &'static str), Refused> {
    let (method, word) = match demand {
        Demand::Proof(_) => (Method::Chap(Chap::default()), CHAP),
        Demand::Nothing | Demand::Refused => (Method::None, text::NONE),
    };
    let chosen = negotiation::choose_from_list(offered, &[word]);
    chosen.map(|_| (method, word)).ok_or_else(|| {
        let why =
            if word == CHAP { NO_PROOF } else { "it insists on proving itself, and has no secret here" };
        Refused::because(LoginStatus::AuthenticationFailure, why)
    })
}

/// Why a host gets no further that has to prove itself and does not.
const NO_PROOF: &str = "it has to prove itself by CHAP and does not";

/// The value of AuthMethod for CHAP.
const CHAP: &str = "CHAP";

#[cfg(test)]
mod tests;
