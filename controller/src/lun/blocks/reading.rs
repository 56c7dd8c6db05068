//! Data that came from the local copy becomes an answer here, and only here, with the proof that the copy was the truth
//! after it was read.

use protocol::scsi::sense::Sense;

use crate::command::{Data, Op, Outcome};
use crate::lease::{self, Lease, Proof};
use crate::lun::compare::first_unexpected;
use crate::lun::report::report;
use crate::pair::{PairView, Role, Service};
use crate::time::Time;

/// Whether the local copy is the truth *now*, after its data was read.
#[derive(Debug)]
pub(super) enum Truth {
    /// It is.
    Proven(Proof),
    /// Not before the lease is renewed.
    Unproven,
    /// Only main's is.
    AtMain,
    /// Nobody is served here any more.
    Nowhere,
}

/// What the local copy is by the place in the pair, and at the sub by the lease.
pub(super) fn truth(view: &PairView, lease: &Lease, now: Time) -> Truth {
    match (view.role, view.service) {
        // Between losing the peer and going on alone main is still main.
        (Role::Main, Service::Mirrored | Service::Alone | Service::Undecided) => {
            Truth::Proven(lease::of_main())
        }
        (Role::Sub, Service::Mirrored) => lease.proof(now).map_or(Truth::Unproven, Truth::Proven),
        (Role::Sub, Service::Forwarded) => Truth::AtMain,
        _ => Truth::Nowhere,
    }
}

/// The only place where a read's data becomes an answer: it takes the proof that it may.
pub(super) fn answer(op: &Op, _proof: &Proof, data: Data) -> Outcome {
    match op {
        Op::Verify { expected, .. } => match first_unexpected(expected, &data) {
            Some(offset) => Outcome::Check(Sense::miscompare(offset)),
            None => Outcome::Good(Data::new()),
        },
        Op::Report { what, allocation } => Outcome::Good(report(*what, *allocation, &data)),
        _ => Outcome::Good(data),
    }
}
