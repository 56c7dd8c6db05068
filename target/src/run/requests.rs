//! A request to a disk on its way: what is asked of which volume, and who is told of the answer.

use std::sync::{Arc, Weak};

use controller::disk::file::VolumeFile;
use controller::disk::{DiskIo, DiskResult};
use controller::unit::Controller;
use controller::world::Ticket;

use super::workers::ask_disk;
use super::world::{ProductWorld, tell};

/// A request that may be done at once, by a thread that can be done without.
pub(super) struct DiskRequest {
    /// Whom to ask.
    pub(super) file: Arc<VolumeFile>,
    /// For what.
    pub(super) io: DiskIo,
    /// Who waits.
    pub(super) answer_to: AnswerTo,
}

impl DiskRequest {
    /// Asks. What is not answered at once is answered by a thread of the disk pool.
    pub(super) fn carry_out(self) {
        let Self { file, io, answer_to } = self;
        let later = answer_to.clone();
        if let Some(result) = ask_disk(&file, || file.submit(io, move |result| later.tell(result))) {
            answer_to.tell(result);
        }
    }
}

/// Who waits for the answer to a request: a controller, that knows it by a ticket.
#[derive(Clone)]
pub(super) struct AnswerTo {
    /// It may have ended meanwhile.
    pub(super) controller: Weak<Controller<ProductWorld>>,
    /// Its name for the request.
    pub(super) ticket: Ticket,
}

impl AnswerTo {
    /// The answer; what the controller makes of it is one batch.
    pub(super) fn tell(self, result: DiskResult) {
        let Self { controller, ticket } = self;
        tell(controller, move |unit| unit.on_disk(ticket, result))();
    }
}
