//! The messages: greetings and agreements on the control connection, commands and data on the bridges.
//!
//! A forwarded write, from the sub (whose host sent it) to main and back:
//!
//! ```text
//! sub                          main
//!  │ Forward{id, op} + data ──►│ admits it: range held, sequence given
//!  │◄── Order{id, sequence}    │ sent at once; main writes its own copy
//!  │ applies what it holds     │
//!  │ Applied{sequence} ───────►│
//!  │◄── Done{id}               │ its own copy is written as durably as asked
//!  │ answers its host          │ the range is free when Applied is in and its own copy is written
//! ```
//!
//! A write of main's own host: `Apply{sequence, op} + data` one way, `Applied{sequence}` back on the same bridge.
//! A read or a refusal is answered by `Ended{id}` alone.

use bytes::{BufMut, Bytes, BytesMut};

use super::copy_report::{CopyReport, Generation, Pairing, Told};
use super::frame::{self, FrameError, GenerationTag, Prefix};
use super::hello::{Hello, Identity, LUNS_MAX, identity, put_identity};
use super::operation::{Ending, WireOp, ending, op, put_ending, put_op};
use super::peer_status::PeerStatus;
use super::shared::{ATTENTIONS_MAX, Attention};
use super::will::PairCommand;
use super::wire::{Reader, put_list, put_string};

/// A LUN's generation as proposed by one controller and made durable by both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// The LUN.
    pub lun: String,
    /// Its new generation.
    pub generation: Generation,
    /// How the pair goes on.
    pub pairing: Pairing,
    /// Which copies have to be made first: bit 0 the first controller's, bit 1 the second's.
    pub create: u8,
}

/// A message of the interlink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First in both directions of every connection.
    Hello(Box<Hello>),
    /// From the first controller: what both shall keep as identity.
    Identity(Identity),
    /// From the second: it is durable there.
    IdentityDurable,
    /// Both ways: what the sender knows of each LUN.
    CopyReports(Vec<(String, CopyReport)>),
    /// What the sender knows of each LUN beside that. Since version 2, before the reports.
    Starts(Vec<(String, Told)>),
    /// From the first controller: the generations of all LUNs that can be paired.
    Agreements(Vec<Agreement>),
    /// From the second: they are durable there, and the volumes exist.
    AgreementsDurable,
    /// From the first: they are durable on both, everybody may begin.
    Begin,
    /// Liveness.
    Ping(u64),
    /// Its answer.
    Pong(u64),
    /// The sender is to end, and first gives the other what it is main of. Since version 2.
    Leaving,
    /// To one that is to end: the sender has on its disks what it had when it heard so; and if it is to end as well, it
    /// may. Since version 2.
    Ready,
    /// A person asks something of this LUN's pair that the receiver has to begin. Since version 2.
    Pair(PairCommand),
    /// The sender ends: no new commands of hosts on either side.
    Goodbye,
    /// The sender has no command of its hosts in flight any more.
    Drained,
    /// The sender has flushed everything and marked it clean.
    Farewell,
    /// A switch of this LUN is proposed: hosts' new commands wait on both sides, and when none is in flight the pair
    /// goes on under another generation. From the one who will not be main.
    Switch {
        /// The generation to come.
        generation: Generation,
        /// How the pair goes on.
        pairing: Pairing,
    },
    /// The generation of the switch with this number is durable at the sender.
    SwitchDurable(u64),
    /// It is durable on both, and nothing is in flight: take the new place.
    SwitchBegin(u64),
    /// The sender has taken it: go on.
    SwitchBegun(u64),
    /// From main: the copy is complete and flushed on both sides.
    Copied,
    /// From the sub: it is durable there that both copies are whole.
    CopiedDurable,
    /// The sender's status, for people who ask the other controller. Nothing is decided by it.
    PeerStatus(Box<PeerStatus>),

    /// A command of the sender's host for main.
    Forward {
        /// Names it until it has ended; unique for the sender's incarnation.
        id: u64,
        /// How long ago it came when this was sent, in milliseconds.
        age_ms: u32,
        /// When this was sent, by the clock of the sender's [`Message::Ping`], in nanoseconds.
        sent: u64,
        /// Durable on both copies before GOOD.
        durable: bool,
        /// The version of the shared state by which the sender let it pass.
        version: u64,
        /// What to do.
        op: WireOp,
    },
    /// The sender's host has given up a forwarded command: if it was not admitted, it shall never be.
    Cancel {
        /// Of the forward.
        id: u64,
    },
    /// Main has admitted a forwarded change: apply it now. Payload: nothing, or (ORWRITE) the blocks as they are
    /// to become.
    Order {
        /// Of the forward.
        id: u64,
        /// Its place in the group's order.
        sequence: u64,
        /// Every sequence below this one is on both copies.
        released: u64,
    },
    /// Main's own copy has the forwarded change, as durably as asked.
    Done {
        /// Of the forward.
        id: u64,
    },
    /// A forwarded command ended without a change.
    Ended {
        /// Of the forward.
        id: u64,
        /// How it ended.
        ending: Ending,
    },
    /// A change main has admitted for its own host, or a piece of a copy.
    Apply {
        /// Its place in the group's order.
        sequence: u64,
        /// Every sequence below this one is on both copies.
        released: u64,
        /// Durable before Applied.
        durable: bool,
        /// What to do.
        op: WireOp,
    },
    /// The sub's copy has the change, as durably as asked, or could not take it.
    Applied {
        /// Of the change.
        sequence: u64,
        /// False: the sub's disk failed.
        good: bool,
    },
    /// Every sequence below this one is on both copies; sent when nothing else carries it.
    Released {
        /// The lowest sequence still in flight.
        released: u64,
    },
    /// From main, which has just taken its place: which shared state has the sub?
    SharedAsk,
    /// From the sub; payload: its shared state.
    SharedTold,
    /// From main; payload: the shared state as it is to be from now on.
    Shared {
        /// What is in flight is given up first.
        reset: bool,
        /// It is told because the two have met, not because of an event.
        met: bool,
        /// What the nexuses of the sub have to be told.
        attentions: Vec<Attention>,
    },
    /// From the sub: it has that version of the shared state, its durable part on disk, and its nexuses will be
    /// told.
    SharedTaken {
        /// Of the state.
        version: u64,
    },
}

/// The kind of a greeting, the first frame of a release that proves nothing before it.
pub(super) const HELLO_KIND: u8 = kind::HELLO;

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const IDENTITY: u8 = 2;
    pub(super) const IDENTITY_DURABLE: u8 = 3;
    pub(super) const COPY_REPORTS: u8 = 4;
    pub(super) const AGREEMENTS: u8 = 5;
    pub(super) const AGREEMENTS_DURABLE: u8 = 6;
    pub(super) const BEGIN: u8 = 7;
    pub(super) const PING: u8 = 8;
    pub(super) const PONG: u8 = 9;
    pub(super) const GOODBYE: u8 = 10;
    pub(super) const DRAINED: u8 = 11;
    pub(super) const FAREWELL: u8 = 12;
    pub(super) const SWITCH: u8 = 13;
    pub(super) const COPIED: u8 = 14;
    pub(super) const COPIED_DURABLE: u8 = 15;
    pub(super) const SWITCH_DURABLE: u8 = 16;
    pub(super) const SWITCH_BEGIN: u8 = 17;
    pub(super) const SWITCH_BEGUN: u8 = 18;
    pub(super) const STARTS: u8 = 19;
    pub(super) const LEAVING: u8 = 20;
    pub(super) const READY: u8 = 21;
    pub(super) const PAIR: u8 = 22;
    pub(super) const PEER_STATUS: u8 = 30;
    pub(super) const FORWARD: u8 = 32;
    pub(super) const ORDER: u8 = 33;
    pub(super) const DONE: u8 = 34;
    pub(super) const ENDED: u8 = 35;
    pub(super) const APPLY: u8 = 36;
    pub(super) const APPLIED: u8 = 37;
    pub(super) const RELEASED: u8 = 38;
    pub(super) const CANCEL: u8 = 39;
    pub(super) const SHARED_ASK: u8 = 40;
    pub(super) const SHARED_TOLD: u8 = 41;
    pub(super) const SHARED: u8 = 42;
    pub(super) const SHARED_TAKEN: u8 = 43;
}

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Identity(_) => kind::IDENTITY,
            Self::IdentityDurable => kind::IDENTITY_DURABLE,
            Self::CopyReports(_) => kind::COPY_REPORTS,
            Self::Starts(_) => kind::STARTS,
            Self::Agreements(_) => kind::AGREEMENTS,
            Self::AgreementsDurable => kind::AGREEMENTS_DURABLE,
            Self::Begin => kind::BEGIN,
            Self::Ping(_) => kind::PING,
            Self::Pong(_) => kind::PONG,
            Self::Leaving => kind::LEAVING,
            Self::Ready => kind::READY,
            Self::Pair(_) => kind::PAIR,
            Self::Goodbye => kind::GOODBYE,
            Self::Drained => kind::DRAINED,
            Self::Farewell => kind::FAREWELL,
            Self::Switch { .. } => kind::SWITCH,
            Self::SwitchDurable(_) => kind::SWITCH_DURABLE,
            Self::SwitchBegin(_) => kind::SWITCH_BEGIN,
            Self::SwitchBegun(_) => kind::SWITCH_BEGUN,
            Self::Copied => kind::COPIED,
            Self::CopiedDurable => kind::COPIED_DURABLE,
            Self::PeerStatus(_) => kind::PEER_STATUS,
            Self::Forward { .. } => kind::FORWARD,
            Self::Cancel { .. } => kind::CANCEL,
            Self::Order { .. } => kind::ORDER,
            Self::Done { .. } => kind::DONE,
            Self::Ended { .. } => kind::ENDED,
            Self::Apply { .. } => kind::APPLY,
            Self::Applied { .. } => kind::APPLIED,
            Self::Released { .. } => kind::RELEASED,
            Self::SharedAsk => kind::SHARED_ASK,
            Self::SharedTold => kind::SHARED_TOLD,
            Self::Shared { .. } => kind::SHARED,
            Self::SharedTaken { .. } => kind::SHARED_TAKEN,
        }
    }

    /// Whether it is about one LUN's data: then it travels on a bridge and goes straight to that LUN.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.kind() >= kind::FORWARD
    }

    /// Prefix and body of the frame that carries this message beside `payload`.
    #[must_use]
    pub fn encode(&self, lun: u16, generation: GenerationTag, payload: &[Bytes]) -> Bytes {
        let mut body = BytesMut::with_capacity(64);
        self.put(&mut body);
        let version = match self {
            Self::Starts(_) | Self::Leaving | Self::Ready | Self::Pair(_) => frame::Version::V2,
            _ => frame::Version::V1,
        };
        let prefix = Prefix { version: version as u16, kind: self.kind(), lun, generation };
        debug_assert!(
            self.is_data() || payload.iter().all(Bytes::is_empty),
            "what is not about a LUN's data has no payload: {self:?}"
        );
        frame::encode(prefix, &body, payload)
    }

    fn put(&self, body: &mut BytesMut) {
        match self {
            Self::Hello(hello) => hello.put(body),
            Self::Identity(identity) => put_identity(body, identity),
            Self::Starts(list) => put_list(body, LUNS_MAX, list, |body, (name, told)| {
                put_string(body, name);
                told.put(body);
            }),
            Self::CopyReports(list) => put_list(body, LUNS_MAX, list, |body, (name, report)| {
                put_string(body, name);
                report.put(body);
            }),
            Self::Agreements(list) => put_list(body, LUNS_MAX, list, |body, agreement| {
                put_string(body, &agreement.lun);
                agreement.generation.put(body);
                body.put_u8(agreement.pairing.code());
                body.put_u8(agreement.create);
            }),
            Self::Ping(number)
            | Self::Pong(number)
            | Self::SwitchDurable(number)
            | Self::SwitchBegin(number)
            | Self::SwitchBegun(number) => body.put_u64(*number),
            Self::Switch { generation, pairing } => {
                generation.put(body);
                body.put_u8(pairing.code());
            }
            Self::PeerStatus(status) => status.put(body),
            Self::Pair(command) => body.put_u8(command.code()),
            Self::IdentityDurable
            | Self::AgreementsDurable
            | Self::Begin
            | Self::Leaving
            | Self::Ready
            | Self::Goodbye
            | Self::Drained
            | Self::Farewell
            | Self::Copied
            | Self::CopiedDurable => {}
            Self::Forward { .. }
            | Self::Cancel { .. }
            | Self::Order { .. }
            | Self::Done { .. }
            | Self::Ended { .. }
            | Self::Apply { .. }
            | Self::Applied { .. }
            | Self::Released { .. }
            | Self::SharedAsk
            | Self::SharedTold
            | Self::Shared { .. }
            | Self::SharedTaken { .. } => self.put_data(body),
        }
    }

    /// What travels on bridges.
    fn put_data(&self, body: &mut BytesMut) {
        debug_assert!(self.is_data(), "{self:?} travels on the control connection");
        match self {
            Self::Forward { id, age_ms, sent, durable, version, op } => {
                body.put_u64(*id);
                body.put_u32(*age_ms);
                body.put_u64(*sent);
                body.put_u8(u8::from(*durable));
                body.put_u64(*version);
                put_op(body, op);
            }
            Self::Order { id, sequence, released } => {
                body.put_u64(*id);
                body.put_u64(*sequence);
                body.put_u64(*released);
            }
            Self::Done { id } | Self::Cancel { id } => body.put_u64(*id),
            Self::Ended { id, ending } => {
                body.put_u64(*id);
                put_ending(body, *ending);
            }
            Self::Apply { sequence, released, durable, op } => {
                body.put_u64(*sequence);
                body.put_u64(*released);
                body.put_u8(u8::from(*durable));
                put_op(body, op);
            }
            Self::Applied { sequence, good } => {
                body.put_u64(*sequence);
                body.put_u8(u8::from(*good));
            }
            Self::Released { released } => body.put_u64(*released),
            Self::Shared { reset, met, attentions } => {
                body.put_u8(u8::from(*reset));
                body.put_u8(u8::from(*met));
                put_list(body, ATTENTIONS_MAX, attentions, |body, attention| attention.put(body));
            }
            Self::SharedTaken { version } => body.put_u64(*version),
            _ => {}
        }
    }

    /// Reads a whole frame: checksums, prefix, message.
    pub fn decode(head: &[u8], payload: &[u8]) -> Result<(Prefix, Self), FrameError> {
        let (prefix, body) = frame::decode(head, payload)?;
        let mut reader = Reader(body);
        let message = Self::read(prefix.kind, &mut reader)?;
        reader.end()?;
        Ok((prefix, message))
    }

    fn read(kind: u8, reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match kind {
            kind::HELLO => Self::Hello(Box::new(Hello::read(reader)?)),
            kind::IDENTITY => Self::Identity(identity(reader)?),
            kind::IDENTITY_DURABLE => Self::IdentityDurable,
            kind::COPY_REPORTS => Self::CopyReports(
                reader.list(LUNS_MAX, |reader| Ok((reader.string()?, CopyReport::read(reader)?)))?,
            ),
            kind::STARTS => {
                Self::Starts(reader.list(LUNS_MAX, |reader| Ok((reader.string()?, Told::read(reader)?)))?)
            }
            kind::AGREEMENTS => Self::Agreements(reader.list(LUNS_MAX, |reader| {
                Ok(Agreement {
                    lun: reader.string()?,
                    generation: Generation::read(reader)?,
                    pairing: Pairing::read(reader)?,
                    create: reader.u8()?,
                })
            })?),
            kind::AGREEMENTS_DURABLE => Self::AgreementsDurable,
            kind::BEGIN => Self::Begin,
            kind::PING => Self::Ping(reader.u64()?),
            kind::PONG => Self::Pong(reader.u64()?),
            kind::LEAVING => Self::Leaving,
            kind::READY => Self::Ready,
            kind::PAIR => Self::Pair(PairCommand::read(reader.u8()?)?),
            kind::GOODBYE => Self::Goodbye,
            kind::DRAINED => Self::Drained,
            kind::FAREWELL => Self::Farewell,
            kind::SWITCH => {
                Self::Switch { generation: Generation::read(reader)?, pairing: Pairing::read(reader)? }
            }
            kind::SWITCH_DURABLE => Self::SwitchDurable(reader.u64()?),
            kind::SWITCH_BEGIN => Self::SwitchBegin(reader.u64()?),
            kind::SWITCH_BEGUN => Self::SwitchBegun(reader.u64()?),
            kind::COPIED => Self::Copied,
            kind::COPIED_DURABLE => Self::CopiedDurable,
            kind::PEER_STATUS => Self::PeerStatus(Box::new(PeerStatus::read(reader)?)),
            _ => Self::read_data(kind, reader)?,
        })
    }

    fn read_data(kind: u8, reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match kind {
            kind::FORWARD => Self::Forward {
                id: reader.u64()?,
                age_ms: reader.u32()?,
                sent: reader.u64()?,
                durable: reader.bool()?,
                version: reader.u64()?,
                op: op(reader)?,
            },
            kind::ORDER => {
                Self::Order { id: reader.u64()?, sequence: reader.u64()?, released: reader.u64()? }
            }
            kind::DONE => Self::Done { id: reader.u64()? },
            kind::CANCEL => Self::Cancel { id: reader.u64()? },
            kind::ENDED => Self::Ended { id: reader.u64()?, ending: ending(reader)? },
            kind::APPLY => Self::Apply {
                sequence: reader.u64()?,
                released: reader.u64()?,
                durable: reader.bool()?,
                op: op(reader)?,
            },
            kind::APPLIED => Self::Applied { sequence: reader.u64()?, good: reader.bool()? },
            kind::RELEASED => Self::Released { released: reader.u64()? },
            kind::SHARED_ASK => Self::SharedAsk,
            kind::SHARED_TOLD => Self::SharedTold,
            kind::SHARED => Self::Shared {
                reset: reader.bool()?,
                met: reader.bool()?,
                attentions: reader.list(ATTENTIONS_MAX, Attention::read)?,
            },
            kind::SHARED_TAKEN => Self::SharedTaken { version: reader.u64()? },
            _ => return Err(FrameError::Content),
        })
    }
}
