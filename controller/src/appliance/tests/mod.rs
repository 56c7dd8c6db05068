//! Two controllers in a world of their own ([`TwoControllers`]): what the whole core does, from its parts together.

mod absence;
mod cold_start;
mod copy;
mod device;
mod disk;
mod ending;
mod forwarded;
mod grouped;
mod hand_over;
mod hand_over_faults;
mod hand_over_fuzz;
mod late;
mod late_mark;
mod mark;
mod meeting;
mod membership;
mod memory;
mod note;
mod order;
mod pair_commands;
mod pair_edges;
mod pair_faults;
mod pair_fuzz;
mod pair_hosts;
mod pair_volumes;
mod refusal;
mod room;
mod start;
mod stuck;
mod switch;
mod word;

use crate::command::Outcome;
use crate::pair::{PairStatus, Role};
use crate::testing::TwoControllers;

fn statuses(duo: &TwoControllers) -> [(PairStatus, Role, bool); 2] {
    duo.controllers.each_ref().map(|controller| {
        let lun = controller.status().luns.remove(0);
        (lun.status, lun.role, lun.serving)
    })
}

fn met(seed: u64, mirror: bool) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, mirror);
    duo.connect();
    duo.settle(1);
    duo
}

const GOOD: Outcome = Outcome::Good(Vec::new());

const DUPLEX: [(PairStatus, Role, bool); 2] =
    [(PairStatus::Duplex, Role::Main, true), (PairStatus::Duplex, Role::Sub, true)];

fn reasons(duo: &TwoControllers) -> [String; 2] {
    duo.controllers.each_ref().map(|controller| controller.status().luns.remove(0).reason.unwrap_or_default())
}
