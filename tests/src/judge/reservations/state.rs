//! What a logical unit's reservations and mode pages are, and what each command makes of them: SPC-4 5.13 (persistent
//! reservations), SPC-2 5.5 (RESERVE and RELEASE) and SPC-4 7.5.8 (SWP), written down as they stand there.

/// An I_T nexus: a host's initiator port and a relative target port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Nexus {
    /// The host's number.
    pub host: u32,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub port: u16,
}

/// One session of a host: what holds a reservation by RESERVE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Session {
    /// Its nexus.
    pub nexus: Nexus,
    /// Counts the host's sessions.
    pub number: u32,
}

/// Relative target ports.
pub const PORTS: [u16; 2] = [1, 2];

/// TYPE: the reservation types (SPC-4 table 207).
pub const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

/// Service actions of PERSISTENT RESERVE OUT (SPC-4 table 211), by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the names are SPC-4's")]
pub enum Action {
    Register,
    Reserve,
    Release,
    Clear,
    Preempt,
    PreemptAndAbort,
    RegisterAndIgnoreExistingKey,
    RegisterAndMove,
}

/// All of them, by their numbers.
pub const ACTIONS: [Action; 8] = [
    Action::Register,
    Action::Reserve,
    Action::Release,
    Action::Clear,
    Action::Preempt,
    Action::PreemptAndAbort,
    Action::RegisterAndIgnoreExistingKey,
    Action::RegisterAndMove,
];

/// A PERSISTENT RESERVE OUT.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Out {
    /// SERVICE ACTION.
    pub action: Action,
    /// TYPE.
    pub kind: u8,
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub action_key: u64,
    /// APTPL.
    pub aptpl: bool,
    /// ALL_TG_PT.
    pub all_target_ports: bool,
    /// SPEC_I_PT: hosts that are registered too.
    pub others: Vec<u32>,
    /// REGISTER AND MOVE: to whom.
    pub to: Nexus,
    /// REGISTER AND MOVE: UNREG.
    pub unregister: bool,
}

/// A command that reads or changes the state.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Command {
    /// PERSISTENT RESERVE OUT.
    Out(Out),
    /// PERSISTENT RESERVE IN, READ KEYS.
    ReadKeys,
    /// PERSISTENT RESERVE IN, READ RESERVATION.
    ReadReservation,
    /// PERSISTENT RESERVE IN, READ FULL STATUS.
    ReadFullStatus,
    /// RESERVE.
    Reserve,
    /// RELEASE.
    Release,
    /// MODE SELECT of the control mode page: SWP, and the SP bit of the CDB.
    ModeSelect {
        /// Software write protection.
        protect: bool,
        /// SP.
        save: bool,
    },
    /// MODE SELECT of the caching mode page: WCE, and the SP bit of the CDB.
    WriteCache {
        /// The write cache.
        on: bool,
        /// SP.
        save: bool,
    },
    /// LOGICAL UNIT RESET.
    Reset,
    /// A session is over.
    SessionLost,
}

impl Command {
    /// It changes nothing, whatever the state is.
    #[must_use]
    pub const fn only_reads(&self) -> bool {
        matches!(self, Self::ReadKeys | Self::ReadReservation | Self::ReadFullStatus)
    }
}

/// One descriptor of READ FULL STATUS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// Who is registered.
    pub nexus: Nexus,
    /// RESERVATION KEY.
    pub key: u64,
    /// R_HOLDER with its TYPE.
    pub holds: Option<u8>,
}

/// How a command ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Answer {
    /// GOOD.
    Good,
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST.
    Illegal,
    /// One of these two: the standard's editions differ.
    Refused,
    /// GOOD or RESERVATION CONFLICT: the standard's editions differ.
    Either,
    /// READ KEYS: PRGENERATION and the keys, sorted.
    Keys(u32, Vec<u64>),
    /// READ RESERVATION: PRGENERATION, the holder's key and the type.
    Held(u32, Option<(u64, u8)>),
    /// READ FULL STATUS: PRGENERATION and the registrants, sorted.
    Full(u32, Vec<Entry>),
}

impl Answer {
    /// Whether an answer that was seen is this one.
    #[must_use]
    pub fn fits(&self, seen: &Self) -> bool {
        match self {
            Self::Refused => matches!(seen, Self::Conflict | Self::Illegal),
            Self::Either => matches!(seen, Self::Good | Self::Conflict),
            _ => self == seen,
        }
    }
}

/// What a command asks leave for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// INQUIRY.
    Always,
    /// TEST UNIT READY.
    Describe,
    /// READ, VERIFY.
    Read,
    /// SYNCHRONIZE CACHE.
    Write,
    /// WRITE and its like.
    Change,
}

/// What a command may hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// It is carried out.
    Granted,
    /// RESERVATION CONFLICT.
    Conflict,
    /// DATA PROTECT, WRITE PROTECTED.
    Protected,
}

/// Registrants and their keys, in the order of their nexuses. Few, and compared far more often than changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Keys(Vec<(Nexus, u64)>);

impl Keys {
    fn at(&self, nexus: Nexus) -> Result<usize, usize> {
        self.0.binary_search_by_key(&nexus, |(nexus, _)| *nexus)
    }

    /// A registrant's key.
    #[must_use]
    pub fn get(&self, nexus: Nexus) -> Option<u64> {
        self.at(nexus).ok().map(|at| self.0[at].1)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Nexus, u64)> {
        self.0.iter().copied()
    }

    fn insert(&mut self, nexus: Nexus, key: u64) {
        match self.at(nexus) {
            Ok(at) => self.0[at].1 = key,
            Err(at) => self.0.insert(at, (nexus, key)),
        }
    }

    fn retain(&mut self, stays: impl Fn(Nexus, u64) -> bool) {
        self.0.retain(|(nexus, key)| stays(*nexus, *key));
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The state.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct State {
    /// PRGENERATION.
    pub generation: u32,
    /// APTPL of the last registration.
    pub aptpl: bool,
    /// Registrants.
    pub keys: Keys,
    /// Type and holder; no one holder if all registrants hold it.
    pub held: Option<(u8, Option<Nexus>)>,
    /// RESERVE.
    pub reserver: Option<Session>,
    /// SWP: as it is, and as it is saved.
    pub protect: (bool, bool),
}

const fn is_of_all(kind: u8) -> bool {
    kind >= 7
}

impl State {
    /// What a command makes of it, and how it ends.
    #[must_use]
    pub fn after(&self, who: Session, command: &Command) -> (Self, Answer) {
        let mut next = self.clone();
        let answer = match command {
            Command::Reset => {
                next.reserver = None;
                next.protect.0 = next.protect.1;
                Answer::Good
            }
            Command::SessionLost => {
                next.reserver = next.reserver.filter(|reserver| *reserver != who);
                Answer::Good
            }
            Command::Release if self.reserver == Some(who) => {
                next.reserver = None;
                Answer::Good
            }
            // Another's reservation, or none, stays as it is (SPC-2 7.16); registrations come in between (SPC-4
            // 5.13.3).
            Command::Release if self.keys.is_empty() => Answer::Good,
            Command::Release => Answer::Either,
            _ if self.reserver.is_some_and(|reserver| reserver != who) => Answer::Conflict,
            Command::Reserve => next.reserve_legacy(who),
            Command::ModeSelect { .. } | Command::WriteCache { .. } if !self.may(who.nexus, true) => {
                Answer::Conflict
            }
            Command::WriteCache { .. } => Answer::Good,
            Command::ModeSelect { protect, save } => {
                next.protect = (*protect, if *save { *protect } else { self.protect.1 });
                Answer::Good
            }
            // SPC-2 5.5.1: the two ways of reserving exclude each other.
            _ if self.reserver.is_some() => Answer::Conflict,
            Command::ReadKeys => {
                let mut keys: Vec<u64> = self.keys.iter().map(|(_, key)| key).collect();
                keys.sort_unstable();
                Answer::Keys(self.generation, keys)
            }
            Command::ReadReservation => Answer::Held(self.generation, self.descriptor()),
            Command::ReadFullStatus => Answer::Full(self.generation, self.entries()),
            Command::Out(out) => next.out(who.nexus, out),
        };
        (next, answer)
    }

    /// After a loss of power (SPC-4 5.13.5): PRGENERATION is zero, mode pages are as saved.
    #[must_use]
    pub fn after_power_loss(&self) -> Self {
        let protect = (self.protect.1, self.protect.1);
        if self.aptpl {
            Self { generation: 0, reserver: None, protect, ..self.clone() }
        } else {
            Self { protect, ..Self::default() }
        }
    }

    /// What a session's command may hear.
    #[must_use]
    pub fn leave(&self, who: Session, access: Access) -> Leave {
        let reserved = self.reserver.is_some_and(|reserver| reserver != who);
        let asks = match access {
            Access::Always => return Leave::Granted,
            Access::Describe => None,
            Access::Read => Some(false),
            Access::Write | Access::Change => Some(true),
        };
        if reserved || asks.is_some_and(|writes| !self.may(who.nexus, writes)) {
            Leave::Conflict
        } else if access == Access::Change && self.protect.0 {
            Leave::Protected
        } else {
            Leave::Granted
        }
    }

    /// SPC-4 tables 62 and 63.
    fn may(&self, who: Nexus, writes: bool) -> bool {
        match self.held {
            None => true,
            Some((1 | 5 | 7, _)) if !writes => true,
            Some((1 | 3, holder)) => holder == Some(who),
            Some(_) => self.keys.get(who).is_some(),
        }
    }

    fn holds(&self, who: Nexus) -> bool {
        match self.held {
            None => false,
            Some((_, None)) => self.keys.get(who).is_some(),
            Some((_, holder)) => holder == Some(who),
        }
    }

    fn descriptor(&self) -> Option<(u64, u8)> {
        let (kind, holder) = self.held?;
        Some((holder.and_then(|holder| self.keys.get(holder)).unwrap_or(0), kind))
    }

    fn entries(&self) -> Vec<Entry> {
        let holds = |nexus| self.held.filter(|_| self.holds(nexus)).map(|(kind, _)| kind);
        self.keys.iter().map(|(nexus, key)| Entry { nexus, key, holds: holds(nexus) }).collect()
    }

    /// SPC-4 5.13.3: the holder, and every registrant where registrants pass, hears GOOD and nothing is done.
    fn reserve_legacy(&mut self, who: Session) -> Answer {
        let spared = match self.held {
            Some((1 | 3, holder)) => holder == Some(who.nexus),
            Some(_) => self.keys.get(who.nexus).is_some(),
            None => false,
        };
        if spared {
            return Answer::Good;
        }
        if !self.keys.is_empty() {
            return Answer::Conflict;
        }
        self.reserver = Some(who);
        Answer::Good
    }

    fn out(&mut self, who: Nexus, out: &Out) -> Answer {
        let own = self.keys.get(who);
        match out.action {
            Action::Register if own.unwrap_or(0) != out.key => Answer::Conflict,
            Action::Register | Action::RegisterAndIgnoreExistingKey => self.register(who, out),
            _ if own != Some(out.key) => Answer::Conflict,
            Action::Reserve => self.reserve(who, out.kind),
            Action::Release => self.release(who, out.kind),
            Action::Clear => {
                self.generation = self.generation.wrapping_add(1);
                self.keys = Keys::default();
                self.held = None;
                Answer::Good
            }
            Action::Preempt | Action::PreemptAndAbort => self.preempt(who, out),
            Action::RegisterAndMove => self.register_and_move(who, out),
        }
    }

    /// SPC-4 5.13.7 and tables 63 and 64.
    fn register(&mut self, who: Nexus, out: &Out) -> Answer {
        let own = self.keys.get(who);
        if !out.others.is_empty() && (own.is_some() || out.action_key == 0) {
            return Answer::Illegal;
        }
        if out.action_key == 0 && own.is_none() {
            return Answer::Good;
        }
        self.generation = self.generation.wrapping_add(1);
        self.aptpl = out.aptpl;
        if out.action_key == 0 {
            self.unregister(who);
            return Answer::Good;
        }
        for port in PORTS.into_iter().filter(|port| *port == who.port || out.all_target_ports) {
            for host in out.others.iter().chain([&who.host]) {
                self.keys.insert(Nexus { host: *host, port }, out.action_key);
            }
        }
        Answer::Good
    }

    /// SPC-4 5.13.11.2.1.
    fn unregister(&mut self, who: Nexus) {
        let held_it = self.held.is_some_and(|(_, holder)| holder == Some(who));
        self.keys.retain(|nexus, _| nexus != who);
        if held_it || self.keys.is_empty() {
            self.held = None;
        }
    }

    /// SPC-4 5.13.9.
    fn reserve(&mut self, who: Nexus, kind: u8) -> Answer {
        match self.held {
            None => {
                self.held = Some((kind, (!is_of_all(kind)).then_some(who)));
                Answer::Good
            }
            Some((now, _)) if now == kind && self.holds(who) => Answer::Good,
            Some(_) => Answer::Conflict,
        }
    }

    /// SPC-4 5.13.11.2.2.
    fn release(&mut self, who: Nexus, kind: u8) -> Answer {
        match self.held {
            Some((now, _)) if self.holds(who) && now != kind => Answer::Illegal,
            Some(_) if self.holds(who) => {
                self.held = None;
                Answer::Good
            }
            _ => Answer::Good,
        }
    }

    /// SPC-4 5.13.11.2.3 to 5.13.11.2.5.
    fn preempt(&mut self, who: Nexus, out: &Out) -> Answer {
        let named = out.action_key;
        let takes_it = match self.held {
            Some((_, None)) => named == 0,
            Some((_, Some(holder))) => named != 0 && self.keys.get(holder) == Some(named),
            None => false,
        };
        if named == 0 && !takes_it {
            return Answer::Illegal;
        }
        if named != 0 && !self.keys.iter().any(|(_, key)| key == named) {
            return Answer::Conflict;
        }
        self.generation = self.generation.wrapping_add(1);
        if takes_it {
            self.keys.retain(|nexus, key| nexus == who || (named != 0 && key != named));
            self.held = Some((out.kind, (!is_of_all(out.kind)).then_some(who)));
        } else {
            self.keys.retain(|_, key| key != named);
            if self.keys.is_empty() {
                self.held = None;
            }
        }
        Answer::Good
    }

    /// SPC-4 5.13.8.
    fn register_and_move(&mut self, who: Nexus, out: &Out) -> Answer {
        match self.held {
            Some((kind, Some(holder))) if holder == who && out.action_key != 0 && out.to != who => {
                self.generation = self.generation.wrapping_add(1);
                self.aptpl = out.aptpl;
                self.keys.insert(out.to, out.action_key);
                self.held = Some((kind, Some(out.to)));
                if out.unregister {
                    self.keys.retain(|nexus, _| nexus != who);
                }
                Answer::Good
            }
            _ => Answer::Refused,
        }
    }
}
