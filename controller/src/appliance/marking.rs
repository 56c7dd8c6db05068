//! Marking volumes, round by round ([`Round`]): which volumes have a part in a round, and what follows when they are
//! marked.
//!
//! ```text
//!  choose ──► the record that names the marks ──► on_named ──► each volume ──► on_marked ──► the record ──► on_over
//! ```
//!
//! What always holds: the groups without another copy are marked by themselves, and no meeting begins before they are.

use super::copies::GIVEN_UP;
use super::deed::Deed;
use super::groups::Groups;
use super::ids::Ids;
use super::lifecycle::{Event, Stage};
use super::pending::Pending;
use super::starts::Round;
use crate::disk::DiskError;

/// What is being marked.
#[derive(Debug, Default)]
pub(super) struct Marking {
    /// Groups without a copy that are being made ready at the start.
    singles: Vec<usize>,
}

impl Marking {
    /// A group that starts as the one that has the only copies of its LUNs.
    pub(super) fn add_single(&mut self, at: usize) {
        self.singles.push(at);
    }

    /// Whether groups without a copy are still being made ready.
    pub(super) const fn is_making_ready(&self) -> bool {
        !self.singles.is_empty()
    }

    /// Chooses the marks of a round. Whether there is a record to be written for it.
    pub(super) fn choose(&self, round: Round, groups: &mut Groups, ids: &mut Ids) -> bool {
        let mut any = false;
        for at in 0..groups.len() {
            if !self.is_in(at, round, groups) {
                continue;
            }
            let group = groups.at_mut(at);
            match round {
                Round::Start => any |= group.copies_mut().choose_start_marks(ids),
                Round::Single | Round::Alone(_) => {
                    group.copies_mut().choose_marks(ids);
                    any = true;
                }
                // A meeting and an end choose them with the rest of what they write down.
                Round::Agreed | Round::End => {}
            }
        }
        any
    }

    /// Whether a group's volumes are marked in a round.
    fn is_in(&self, at: usize, round: Round, groups: &Groups) -> bool {
        match round {
            // Those without a copy are marked by themselves.
            Round::Start => !self.singles.contains(&at),
            Round::Single => self.singles.contains(&at),
            Round::Alone(ticket) => groups.at(at).stage() == Stage::GoingAlone { ticket },
            Round::Agreed => groups.at(at).stage().is_agreed(),
            Round::End => true,
        }
    }

    /// The record that names the marks of a round is durable: they are written.
    pub(super) fn on_named(&mut self, round: Round, groups: &Groups) -> Vec<Deed> {
        let places: Vec<usize> = (0..groups.len()).filter(|at| self.is_in(*at, round, groups)).collect();
        let marks = places.iter().flat_map(|at| groups.at(*at).copies().to_mark());
        let mut deeds: Vec<Deed> =
            marks.map(|(lun, superblock)| Deed::Mark(lun, superblock, round)).collect();
        let waits = deeds.len() as u32;
        if matches!(round, Round::Alone(_)) {
            // No copy whose disk was given up meanwhile is served alone; what is waited for may come late.
            let given_up = |at: &usize| groups.at(*at).copies().breakage() == Some(GIVEN_UP);
            let refused = |at| Deed::Happens(at, Event::Refused { for_good: true });
            deeds.extend(places.into_iter().filter(given_up).map(refused));
        }
        match round {
            Round::Start => deeds.push(Deed::GoOn),
            Round::Single if waits == 0 => deeds.push(Deed::Write(Pending::Over(round))),
            Round::Alone(_) if waits == 0 => deeds.extend(self.on_over(round)),
            Round::Single | Round::Alone(_) => {}
            Round::Agreed | Round::End => deeds.push(Deed::Marks(round, waits)),
        }
        deeds
    }

    /// A volume has its mark, or its disk did not take it; `more`: others of its round are waited for.
    pub(super) fn on_marked(
        &mut self,
        lun: usize,
        round: Round,
        result: Result<(), DiskError>,
        more: bool,
        groups: &mut Groups,
    ) -> Vec<Deed> {
        let at = groups.place(lun);
        // Without the mark of an end nothing says that it was clean, and no more: the copy has all that was answered,
        // and is marked again before it serves alone.
        if round == Round::End && result.is_err() {
            return vec![Deed::Marked(round, false)];
        }
        let good = groups.at_mut(at).copies_mut().on_marked(lun, result);
        let mut deeds = Vec::new();
        match round {
            Round::Start => {
                if !good {
                    deeds.push(Deed::Happens(at, Event::DiskLost));
                }
                deeds.push(Deed::GoOn);
            }
            Round::Single | Round::Alone(_) => {
                if !good {
                    self.singles.retain(|single| *single != at);
                    deeds.push(Deed::Happens(at, Event::Refused { for_good: true }));
                }
                if !more {
                    deeds.push(Deed::Write(Pending::Over(round)));
                }
            }
            Round::Agreed | Round::End => deeds.push(Deed::Marked(round, good)),
        }
        deeds
    }

    /// What says that the marks of a round are there is durable.
    pub(super) fn on_over(&mut self, round: Round) -> Vec<Deed> {
        let mut deeds: Vec<Deed> = match round {
            Round::Single => {
                let singles = core::mem::take(&mut self.singles).into_iter();
                singles.map(|at| Deed::Happens(at, Event::StartsSimplex)).collect()
            }
            Round::Alone(ticket) => vec![Deed::EveryGroup(Event::AloneDurable(ticket))],
            Round::Agreed | Round::Start | Round::End => return Vec::new(),
        };
        deeds.push(Deed::GoOn);
        deeds
    }
}
