//! Disasters of real processes: two controllers, each a process of its own, with hosts on both; one controller is
//! killed, stopped or cut off, comes back, and the pair has to become DUPLEX again by itself.
//!
//! One **round** is one disaster under load in a region of the LUN that no other round uses. Every round is
//! judged: what the hosts saw must be linearizable ([`crate::judge`]), what `twinlun status` says must explain
//! ([`explain`]), and hosts of a controller that goes on may pause only so long. After the last round both
//! controllers end cleanly, and both volumes must hold the same bytes, among them everything acknowledged.
//!
//! * [`pair`]: the two processes; * [`network`]: namespaces with an interlink that can be cut;
//! * [`hosts`]: hosts with two paths; * [`met`]: what they met; * [`lun_content`]: the commands of the disaster itself;
//! * [`round`]: one round; * [`explain`]: what `status` must say;
//! * [`reservations`]: instead of a load, sequences of reservations.

pub mod explain;
pub mod hosts;
pub mod lun_content;
pub mod met;
pub mod network;
pub mod pair;
pub mod reservations;
pub mod round;

use std::fmt;
use std::time::Duration;

use self::network::Cut;
use crate::judge::Violation;

/// Names of the two controllers in the shipped `appliance.toml`; the first is main of its LUN.
pub const NAMES: [&str; 2] = ["alpha", "beta"];

/// Main of the shipped LUN, as an index.
pub const MAIN: usize = 0;

/// Its sub.
pub const SUB: usize = 1;

/// How long hosts of a main that lost its peer may go without an answer.
pub const PAUSE_MAX: Duration = Duration::from_secs(3);

/// One disaster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disaster {
    /// SIGKILL.
    Kill(usize),
    /// SIGKILL to both at once.
    KillBoth,
    /// SIGSTOP, and after a while SIGCONT.
    Pause(usize, Duration),
    /// SIGKILL, and its volume file is gone when it starts again.
    LoseVolume(usize),
    /// SIGTERM: a clean end of one of them.
    End(usize),
    /// The interlink is cut for a while.
    Cut(Cut, Duration),
    /// The interlink is cut both ways and the sub stopped; when it goes on, nothing tells it what it missed.
    CutAndPause(Duration),
}

impl fmt::Display for Disaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(side) => write!(f, "kill -9 {}", NAMES[*side]),
            Self::KillBoth => f.write_str("kill -9 both"),
            Self::Pause(side, time) => write!(f, "SIGSTOP {} for {} s", NAMES[*side], time.as_secs()),
            Self::LoseVolume(side) => {
                write!(f, "kill -9 {} and remove its volume", NAMES[*side])
            }
            Self::End(side) => write!(f, "SIGTERM {}", NAMES[*side]),
            Self::Cut(cut, time) => write!(f, "{cut} for {} s", time.as_secs()),
            Self::CutAndPause(time) => {
                write!(f, "{} and SIGSTOP {} for {} s", Cut::BothWays, NAMES[SUB], time.as_secs())
            }
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum Failure {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    History(#[from] Box<Violation>),
    #[error("waited {waited:?} for: {what}\n{seen}")]
    Never { what: String, waited: Duration, seen: String },
    #[error("{0}")]
    Host(String),
    #[error("status does not explain: {what}\n{screen}")]
    Unexplained { what: String, screen: String },
    #[error("hosts of {name} had no answer for {pause:?}; {PAUSE_MAX:?} is the most")]
    Pause { name: &'static str, pause: Duration },
    #[error("the volumes differ from byte {0} on")]
    Copies(u64),
    #[error("what was acknowledged is not on the volume: {0}")]
    Lost(String),
}
