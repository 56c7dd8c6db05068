//! A request to a disk on its way: what is asked of which volume, and who is told of the answer.

use std::sync::{Arc, Weak};

use controller::disk::file::{AtOnce, VolumeFile};
use controller::disk::{DiskIo, DiskResult};
use controller::unit::Controller;
use controller::world::Ticket;

use super::workers::ask_disk;
use super::world::ProductWorld;
use crate::batch::Batch;

/// A request that may be done at once, by a thread that can be done without.
pub(crate) struct DiskRequest {
    /// Whom to ask.
    pub(crate) file: Arc<VolumeFile>,
    /// For what.
    pub(crate) io: DiskIo,
    /// Who waits.
    pub(crate) answer_to: AnswerTo,
}

impl DiskRequest {
    /// Asks. What is not answered at once is answered by a thread of the disk pool.
    pub(crate) fn carry_out(self) -> Option<Answer> {
        let Self { file, io, answer_to } = self;
        let cold = match ask_disk(&file, || file.try_at_once(&io)) {
            AtOnce::Done(result) => return Some(Answer { answer_to, result }),
            AtOnce::NotDone { cold } => cold,
        };
        let later = answer_to.clone();
        let result = file.submit(io, cold, move |result| later.tell(result))?;
        Some(Answer { answer_to, result })
    }
}

/// Who waits for the answer to a request: a controller, that knows it by a ticket.
#[derive(Clone)]
pub(crate) struct AnswerTo {
    /// It may have ended meanwhile.
    pub(crate) controller: Weak<Controller<ProductWorld>>,
    /// Its name for the request.
    pub(crate) ticket: Ticket,
}

impl AnswerTo {
    /// The answer; what the controller makes of it is one batch.
    pub(crate) fn tell(self, result: DiskResult) {
        tell_all(&mut vec![Answer { answer_to: self, result }]);
    }
}

/// What a disk said, and to whom.
pub(crate) struct Answer {
    answer_to: AnswerTo,
    result: DiskResult,
}

#[cfg(test)]
impl Answer {
    /// An answer that nobody uses: its content tells when it is dropped.
    pub(crate) fn to_nobody(result: DiskResult) -> Self {
        Self { answer_to: AnswerTo { controller: Weak::new(), ticket: Ticket(0) }, result }
    }
}

/// Takes all of these answers to those who wait for them, in their order; what they make of them is one batch.
pub(crate) fn tell_all(answers: &mut Vec<Answer>) {
    let _batch = Batch::begin();
    let mut answers = answers.drain(..).peekable();
    while let Some(first) = answers.next() {
        let controller = first.answer_to.controller.clone();
        let of_the_same = core::iter::from_fn(|| {
            answers.next_if(|answer| Weak::ptr_eq(&answer.answer_to.controller, &controller))
        });
        let answers = core::iter::once(first).chain(of_the_same);
        let mut answers = answers.map(|answer| (answer.answer_to.ticket, answer.result));
        match controller.upgrade() {
            Some(controller) => controller.on_disk_answers(answers),
            // It has ended.
            None => answers.by_ref().for_each(drop),
        }
    }
}
