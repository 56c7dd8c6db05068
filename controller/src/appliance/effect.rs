//! What the appliance core asks to be done, and why the two controllers are apart.

use protocol::interlink::Message;
use protocol::interlink::copy_report::Generation;

use crate::disk::DiskError;
use crate::group::Refusal;
use crate::link::LinkId;
use crate::pair::PairView;
use crate::time::Time;
use crate::volume::superblock::Superblock;
use crate::world::Ticket;

/// What an appliance core asks to be done.
#[derive(Debug)]
pub enum Effect {
    /// A message on a connection.
    Send(LinkId, Message),
    /// What this controller says of itself, on a connection.
    Tell(LinkId),
    /// A message about one LUN, with its generation, on a connection.
    SendAbout(LinkId, usize, Generation, Message),
    /// Close a connection.
    Close(LinkId),
    /// Call back at that time, or soon after.
    Wake(Time),
    /// Make a record durable.
    Persist(&'static str, Vec<u8>, Ticket),
    /// A LUN has an identity: its capacity in blocks is this.
    Identified(usize, u64),
    /// LUNs have been added to those that hosts see.
    LunsChanged,
    /// Make a volume.
    Create(usize, Superblock, Ticket),
    /// Write the superblock of a volume anew.
    BeginService(usize, Superblock, Ticket),
    /// Flush a volume.
    Flush(usize, Ticket),
    /// Give a LUN its place in the pair; hosts are served at once only if `open`.
    Begin {
        /// Its place in the controller's table.
        lun: usize,
        /// Its place.
        view: PairView,
        /// Its capacity in blocks.
        blocks: u64,
        /// Whether hosts are served already.
        open: bool,
    },
    /// Tell a LUN.
    Order {
        /// Its place in the controller's table.
        lun: usize,
        /// What it is to do.
        order: LunOrder,
        /// Its place from now on; the connections stay, or are lost with the peer.
        view: PairView,
    },
}

/// What a LUN is told beside its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LunOrder {
    /// Hosts are served.
    Open,
    /// Nothing is served any more.
    Suspend,
    /// The peer is gone; this controller serves on.
    PeerGone,
    /// The peer is out of reach, and this main will go on.
    LosePeer,
    /// Hosts' new commands wait.
    Hold,
    /// Hosts' new commands are refused.
    Close,
    /// The peer's copy is about to leave the pair.
    LastCopy,
    /// The copy is whole.
    Copied,
    /// Its volume is about to be flushed from outside.
    Flushes,
}

/// Why the two are apart.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Apart {
    /// They have not met since this controller started.
    #[error("{0} has not been met since this controller started")]
    NeverMet(String),
    /// The connection broke.
    #[error("the connection to {0} was lost")]
    Lost(String),
    /// Nothing was heard.
    #[error("{0} is silent")]
    Silent(String),
    /// This controller does not get on.
    #[error(
        "{0} does not get on, and has parted from the other controller. If nothing changes it ends by itself in some \
         seconds, to be started anew: see that it is"
    )]
    Stuck(String),
    /// A disk failed in the middle of a switch.
    #[error(
        "a disk failed while the role of {0} was changing; the two are about to meet again without that copy"
    )]
    Failed(String),
    /// A disk that was given up has answered.
    #[error("a disk of {0} that did not answer does now; the two are about to meet again with that copy")]
    Answers(String),
    /// A pair is wanted whose second copy is not there.
    #[error("{0} is about to make its volume; the two meet again with it")]
    Creates(String),
    /// It ended cleanly.
    #[error("{0} was stopped cleanly, with everything on its disk")]
    Stopped(String),
    /// This controller is ending.
    #[error("this controller is stopping")]
    Stopping,
    /// Another appliance.
    #[error(
        "{0} belongs to another appliance; nothing was exchanged with it. Check the interlink addresses, and \
         whether each machine has its own state folder"
    )]
    OtherAppliance(String),
    /// Not the peer.
    #[error("whoever answers at the interlink address is not {0}. Check `interlink` in both files")]
    NotThePeer(String),
    /// One of the two encrypts the interlink, the other does not. What the peer does comes second.
    #[error(
        "{0} {peer} the interlink and this controller {own}. Write the same `plain_interlink` and interlink addresses \
         into both machines' appliance.toml and start both again", peer = does(*.1), own = does(!*.1)
    )]
    Encryption(String, bool),
    /// Its certificate is not the one that is pinned for it.
    #[error(
        "whoever answers for {0} on the interlink has another certificate than the one kept here for {0}; nothing \
         was exchanged. If new ones were made, one of the two still runs with the old ones or has no new file: put \
         both files in place, then stop both and start both. If `twinlun interlink init` ran on both machines, make \
         new ones on one of them (`twinlun interlink init --renew`) first. If neither, find out who it is"
    )]
    WrongCertificate(String),
    /// The peer refuses the own certificate.
    #[error(
        "{0} keeps another certificate for this controller than the one it has; nothing was exchanged. If new \
         ones were made, put both files in place, then stop both and start both; if not, make new ones on one machine \
         (`twinlun interlink init --renew`), bring the other its file, then stop both and start both"
    )]
    CertificateRefused(String),
    /// It speaks the interlink as before there was a proof.
    #[error(
        "{0} does not prove itself on an interlink without encryption: it runs an earlier release than this \
         controller. Nothing was exchanged. Run the same release on both"
    )]
    NoProof(String),
    /// Its proof was made with another secret.
    #[error(
        "whoever answers for {0} on the interlink proves itself with another secret than the one kept here; nothing \
         was exchanged. Where both controllers run on one machine, give both the same `state` folder and start both \
         again; where they do not, make a new secret on one of them (`twinlun interlink init --renew`), bring the \
         other its file and start both again; if neither helps, find out who it is"
    )]
    WrongProof(String),
    /// No common version.
    #[error("{0} speaks no version of the interlink that this one speaks. Run the same release on both")]
    Version(String),
    /// The configurations differ in something both need.
    #[error("{0}")]
    Differs(Refusal),
    /// A volume could not be made.
    #[error("a volume could not be created on {0}: {1}; the two are about to meet again without that copy")]
    NoVolume(String, DiskError),
    /// The control state of this controller cannot be used.
    #[error(
        "{0} serves nothing: {1}. Nothing was changed, and {0} neither meets the other controller nor writes anything \
         down. Put the state folder of {0} back as it was last, or run the release that wrote it, then start {0} \
         again; until then hosts use the other controller, which may be serving"
    )]
    Unusable(String, String),
    /// A message made no sense.
    #[error("{0} sent something that makes no sense; the connection was closed")]
    ProtocolViolation(String),
}

impl Apart {
    /// A connection came to nothing before a frame was exchanged; `name` is the peer's.
    pub(super) const fn of_refusal(refusal: LinkRefusal, name: String) -> Self {
        match refusal {
            LinkRefusal::Mute => Self::Silent(name),
            LinkRefusal::OtherIsPlain => Self::Encryption(name, false),
            LinkRefusal::OtherIsEncrypted => Self::Encryption(name, true),
            LinkRefusal::WrongCertificate => Self::WrongCertificate(name),
            LinkRefusal::CertificateRefused => Self::CertificateRefused(name),
            LinkRefusal::NoProof => Self::NoProof(name),
            LinkRefusal::WrongProof => Self::WrongProof(name),
        }
    }

    /// The two reach each other, but one will not have the other: no network is to be looked at.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::OtherAppliance(_)
            | Self::NotThePeer(_)
            | Self::Encryption(..)
            | Self::WrongCertificate(_)
            | Self::CertificateRefused(_)
            | Self::NoProof(_)
            | Self::WrongProof(_)
            | Self::Version(_)
            | Self::Differs(_)
            | Self::Unusable(..)
            | Self::ProtocolViolation(_) => true,
            Self::NeverMet(_)
            | Self::Lost(_)
            | Self::Silent(_)
            | Self::Stuck(_)
            | Self::Failed(_)
            | Self::Stopped(_)
            | Self::Answers(_)
            | Self::Creates(_)
            | Self::NoVolume(..)
            | Self::Stopping => false,
        }
    }
}

/// Why a connection of the interlink ended before a frame was exchanged, where people can do something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkRefusal {
    /// The other end does not encrypt, this one does.
    OtherIsPlain,
    /// The other end encrypts, this one does not.
    OtherIsEncrypted,
    /// The other end has another certificate than the peer's.
    WrongCertificate,
    /// The other end does not take this controller's certificate.
    CertificateRefused,
    /// The other end greets as the release before does, which proves nothing.
    NoProof,
    /// The other end's proof was made with another secret.
    WrongProof,
    /// The other end takes the connection and says nothing.
    Mute,
}

const fn does(encrypt: bool) -> &'static str {
    if encrypt { "encrypts" } else { "does not encrypt" }
}
