//! What a group wants done when something has happened to it: the appliance core carries it out, in the order of the
//! list.

use protocol::interlink::Message;

use super::effect::{Apart, LunOrder};
use super::lifecycle::Ends;
use super::pending::Pending;
use crate::plan::Plan;
use crate::time::Time;

/// How the controller stands when something happens to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    /// The two have joined.
    pub(super) joined: bool,
    /// Whose clean end has begun.
    pub(super) ending: Option<Ends>,
    /// The peer is about to end: nothing is given back to it.
    pub(super) peer_leaves: bool,
    /// This controller is about to end.
    pub(super) leaves: bool,
    /// The version of the interlink that both speak.
    pub(super) version: u16,
    /// Of the last tick.
    pub(super) now: Time,
}

/// What a group wants done.
#[derive(Debug)]
pub(super) enum Wish {
    /// Its LUNs take the place of its view; hosts are served at once only if `true`.
    Begin(bool),
    /// Each of its LUNs is told.
    Tell(LunOrder),
    /// The peer is told of the group, under the generation it has here.
    Say(Message),
    /// All records are written; this follows when they are durable.
    Write(Pending),
    /// A LUN is flushed; this follows when it is.
    Flush(usize, Pending),
    /// The two part.
    Part(Parting),
}

/// Why the two part, as a group sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parting {
    /// The peer sent something that cannot be.
    ProtocolViolation,
    /// The peer does not end what it was asked for.
    Overdue,
    /// A disk failed in the middle of a switch.
    InASwitch,
    /// This controller's disk failed while the two were about to agree.
    OwnDisk,
    /// A disk of this controller that was given up answers.
    OwnDiskAnswers,
    /// This controller's copy is to be made.
    Absent,
    /// A copy of this controller that is out of its pair by a person's word has failed.
    LeftCopy,
}

impl Parting {
    /// The same in words.
    pub(super) fn apart(self, plan: &Plan) -> Apart {
        let own = || plan.own_name().to_owned();
        let peer = || plan.peer_name().to_owned();
        match self {
            Self::ProtocolViolation => Apart::ProtocolViolation(peer()),
            Self::Overdue => Apart::Silent(peer()),
            Self::InASwitch => Apart::Failed(peer()),
            Self::OwnDisk | Self::LeftCopy => Apart::Failed(own()),
            Self::OwnDiskAnswers => Apart::Answers(own()),
            Self::Absent => Apart::Creates(own()),
        }
    }

    /// Whether it is done now; `peer`: there is one, `whole`: there are pairs that are.
    pub(super) fn is_due(self, peer: bool, whole: impl Fn() -> bool) -> bool {
        match self {
            Self::OwnDisk | Self::OwnDiskAnswers => peer,
            // Not worth it while other pairs are whole, which are copied then.
            Self::Absent | Self::LeftCopy => peer && !whole(),
            Self::ProtocolViolation | Self::Overdue | Self::InASwitch => true,
        }
    }
}
