//! What a controller that has ended says of its LUNs: which the other serves from now on, and which nobody does.

use controller::pair::{PairStatus, Role};
use controller::status::{ControllerStatus, LunStatus};
use tracing::Level;

use super::changes::Line;

/// The lines, from how the controllers of this process were when they were told to end, and how they have ended. None
/// where both ended with this process: then nobody is left to serve.
pub(super) fn lines(before: &[ControllerStatus], after: &[ControllerStatus]) -> Vec<Line> {
    let ([before], [after]) = (before, after) else { return Vec::new() };
    let then = |lun: &LunStatus| before.luns.iter().find(|then| then.number == lun.number);
    after.luns.iter().filter_map(|lun| line(before, then(lun)?, lun)).collect()
}

fn line(controller: &ControllerStatus, then: &LunStatus, lun: &LunStatus) -> Option<Line> {
    if then.role == Role::Sub {
        return None;
    }
    let (own, peer) = (&controller.controller, &controller.peer);
    let nobody = format!("no controller serves it until {own} is started again");
    let (level, what) = match (lun.role, then.status) {
        (Role::Sub, _) => (Level::INFO, format!("handed over to {peer}, which serves it with everything")),
        (Role::Main, PairStatus::Simplex) => (Level::WARN, format!("its only copy is here: {nobody}")),
        // Ended together with the other, or that was away.
        (Role::Main, PairStatus::Duplex) if controller.interlink.up => {
            (Level::INFO, format!("not handed over, {peer} ends as well or was too late: {nobody}"))
        }
        (Role::Main, _) => {
            (Level::WARN, format!("not handed over, for {peer} does not have everything: {nobody}"))
        }
    };
    Some(Line { level, text: format!("{own}: LUN {} {}: {what}", lun.number, lun.name) })
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::healthy;
    use super::*;

    /// What is said of the LUN of one that was its main with `status`, and has ended with `role`.
    fn said(status: PairStatus, role: Role) -> Vec<(Level, String)> {
        let [mut before, _] = healthy();
        before.luns[0].status = status;
        let mut after = before.clone();
        after.luns[0].role = role;
        lines(&[before], &[after]).into_iter().map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn what_was_handed_over_is_said_and_what_nobody_serves_is_a_warning() {
        let handed_over =
            "alpha: LUN 0 data0: handed over to beta, which serves it with everything".to_owned();
        assert_eq!(said(PairStatus::Duplex, Role::Sub), [(Level::INFO, handed_over)]);
        for status in [PairStatus::Copy, PairStatus::Suspended, PairStatus::Simplex] {
            let said = said(status, Role::Main);
            let text = "no controller serves it until alpha is started again";
            assert!(said.len() == 1 && said[0].0 == Level::WARN && said[0].1.ends_with(text), "{said:?}");
        }
        assert_eq!(said(PairStatus::Duplex, Role::Main)[0].0, Level::INFO);
    }

    #[test]
    fn one_that_was_not_main_and_both_together_say_nothing() {
        let [alpha, beta] = healthy();
        assert_eq!(lines(core::slice::from_ref(&beta), core::slice::from_ref(&beta)), []);
        assert_eq!(lines(&[alpha.clone(), beta.clone()], &[alpha, beta]), []);
    }
}
