//! Golden screens of `twinlun status`.

use controller::status::{ControllerStatus, InterlinkStatus, LunStatus, PairStatus, Role};

use super::super::check::tests::config;
use super::super::control::AskError;
use super::Overview;

/// What the two controllers of the example say when all is well.
pub(in super::super) fn healthy() -> [ControllerStatus; 2] {
    [("alpha", "beta", Role::Main), ("beta", "alpha", Role::Sub)].map(|(name, peer, role)| ControllerStatus {
        controller: name.to_owned(),
        peer: peer.to_owned(),
        appliance: Some("6f1c".to_owned()),
        incarnation: "17".to_owned(),
        interlink: InterlinkStatus { up: true, bridges: 4, reason: None },
        luns: vec![LunStatus {
            number: 0,
            name: "data0".to_owned(),
            bytes: 1 << 30,
            role,
            main: "alpha".to_owned(),
            status: PairStatus::Duplex,
            serving: true,
            copied_percent: None,
            reason: None,
            commands: 0,
            communication_bytes: 0,
            naa: None,
            serial: None,
        }],
    })
}

fn screen(answers: [Result<ControllerStatus, AskError>; 2]) -> (bool, String) {
    let config = config("");
    let overview = Overview::from_answers(&config, answers);
    (overview.ok, overview.render(&config))
}

#[test]
fn a_healthy_appliance_fits_a_glance() {
    let [mut alpha, beta] = healthy();
    alpha.luns[0].commands = 3;
    let expected = "\
iqn.2026-11.com.example:demo   appliance 6f1c

CONTROLLER  STATE    INTERLINK
alpha       running  up, 4 bridges
beta        running  up, 4 bridges

LUN  NAME   SIZE   MAIN   PAIR    ON ALPHA              ON BETA
0    data0  1 GiB  alpha  duplex  serving, 3 in flight  serving

All is well.
";
    assert_eq!(screen([Ok(alpha), Ok(beta)]), (true, expected.to_owned()));
}

#[test]
fn a_peer_on_another_machine_is_shown_through_the_one_in_reach() {
    let [_, beta] = healthy();
    let expected = "\
iqn.2026-11.com.example:demo   appliance 6f1c

CONTROLLER  STATE                  INTERLINK
alpha       running, as beta says  -
beta        running                up, 4 bridges

LUN  NAME   SIZE   MAIN   PAIR    ON ALPHA  ON BETA
0    data0  1 GiB  alpha  duplex  -         serving

All is well.
";
    assert_eq!(screen([Err(AskError::NotRunning), Ok(beta)]), (true, expected.to_owned()));
}

#[test]
fn a_lost_peer_is_told_with_what_is_safe_to_do_next() {
    let [mut alpha, _] = healthy();
    alpha.interlink =
        InterlinkStatus { up: false, bridges: 0, reason: Some("beta does not answer".to_owned()) };
    alpha.luns[0].status = PairStatus::Suspended;
    let expected = "\
iqn.2026-11.com.example:demo   appliance 6f1c

CONTROLLER  STATE         INTERLINK
alpha       running       down: beta does not answer
beta        not in reach  -

LUN  NAME   SIZE   MAIN   PAIR       ON ALPHA  ON BETA
0    data0  1 GiB  alpha  suspended  serving   -

! beta does not run. Start it: `twinlun run --controller beta`; that is safe, it serves nothing that
  is not certain to be current.
! LUN 0 data0: suspended; new writes are on one copy only, alpha's. Do not delete or move that
  volume; start the other controller or repair the interlink.
";
    assert_eq!(screen([Ok(alpha), Err(AskError::NotRunning)]), (false, expected.to_owned()));
}

#[test]
fn nothing_running_is_told_with_how_to_start_it() {
    let expected = "\
iqn.2026-11.com.example:demo

CONTROLLER  STATE         INTERLINK
alpha       not in reach  -
beta        not in reach  -

LUN  NAME   SIZE   MAIN  PAIR  ON ALPHA  ON BETA
0    data0  1 GiB  -     -     -         -

! No controller runs on this machine, so it serves no hosts; the data stays as it is. Start it:
  `twinlun run`, or `twinlun run --controller NAME` for one of the two.
";
    assert_eq!(screen([Err(AskError::NotRunning), Err(AskError::NotRunning)]), (false, expected.to_owned()));
}

/// What beta's machine shows while its interlink is down and alpha cannot be asked.
fn beside_a_lost(alpha: AskError, interlink: &str) -> String {
    let [_, mut beta] = healthy();
    beta.interlink = InterlinkStatus { up: false, bridges: 0, reason: Some("alpha is silent".to_owned()) };
    let mut config = config("");
    config.controllers.iter_mut().for_each(|it| it.interlink = vec![interlink.parse().unwrap()]);
    Overview::from_answers(&config, [Err(alpha), Ok(beta)]).render(&config)
}

#[test]
fn a_controller_that_hangs_is_told_from_one_that_does_not_run() {
    let screen = beside_a_lost(AskError::Silent, "127.0.0.1:3270");
    assert!(screen.contains("alpha       does not answer  -"), "{screen}");
    assert!(screen.contains("alpha runs on this machine but does not answer"), "{screen}");
    let screen = beside_a_lost(AskError::NotRunning, "127.0.0.1:3270");
    assert!(screen.contains("alpha       not in reach  -"), "{screen}");
    assert!(screen.contains("alpha does not run. Start it"), "{screen}");
}

#[test]
fn a_peer_on_another_machine_may_run_though_it_is_out_of_reach() {
    let screen = beside_a_lost(AskError::NotRunning, "192.0.2.1:3270");
    let expected = "\
! beta does not reach alpha. If alpha does not run on its machine, start it there: `twinlun run
  --controller alpha`; that is safe, it serves nothing that is not certain to be current. If it
  does, check the network between their interlink addresses (192.0.2.1:3270, 192.0.2.1:3270).
";
    assert!(screen.contains(expected), "{screen}");
}

/// The lines that begin with an exclamation mark.
fn problems(change: impl Fn(&mut [ControllerStatus; 2])) -> Vec<String> {
    let mut both = healthy();
    change(&mut both);
    let (ok, screen) = screen(both.map(Ok));
    let problems: Vec<String> = screen
        .replace("\n  ", " ")
        .lines()
        .filter_map(|line| line.strip_prefix("! "))
        .map(str::to_owned)
        .collect();
    assert_eq!(ok, problems.is_empty());
    problems
}

#[test]
fn a_reason_of_both_controllers_is_told_once_and_each_others_apart() {
    let same = problems(|both| both.iter_mut().for_each(|c| c.luns[0].reason = Some("it is so.".to_owned())));
    assert_eq!(same, ["LUN 0 data0 on alpha and beta: it is so."]);
    let apart = problems(|[alpha, beta]| {
        alpha.luns[0].reason = Some("one.".to_owned());
        beta.luns[0].reason = Some("two.".to_owned());
    });
    assert_eq!(apart, ["LUN 0 data0 on alpha: one.", "LUN 0 data0 on beta: two."]);
}

#[test]
fn nothing_that_is_wrong_goes_without_a_word() {
    let refusing = problems(|[_, beta]| beta.luns[0].serving = false);
    assert_eq!(refusing, ["LUN 0 data0: not served by beta; its hosts should use the other controller."]);
    let copying = problems(|both| both.iter_mut().for_each(|c| c.luns[0].status = PairStatus::Copy));
    assert_eq!(
        copying,
        [
            "LUN 0 data0: being copied; until that is done only the copy of alpha is complete. Leave alpha running; \
          nothing else to do."
        ]
    );
    let mains = problems(|[_, beta]| beta.luns[0].role = Role::Main);
    assert!(mains[0].contains("both controllers call themselves main"), "{mains:?}");
    let unknown = problems(|[_, beta]| beta.luns.clear());
    assert!(unknown[0].contains("beta was started without it"), "{unknown:?}");
    let apart = problems(|both| both.iter_mut().for_each(|c| c.interlink.up = false));
    assert!(apart[0].contains("127.0.0.1:3270, 127.0.0.1:3271"), "{apart:?}");
}

#[test]
fn many_luns_with_one_trouble_are_told_in_one_line() {
    let more: String = (1..9)
        .map(|n| format!("[[lun]]\nnumber = {n}\nname = \"d{n}\"\nsize = 512\nmain = \"beta\"\n"))
        .collect();
    let config = config(&more);
    let answers = healthy().map(|mut status| {
        let lun = status.luns.remove(0);
        status.luns = config
            .luns
            .iter()
            .map(|l| LunStatus {
                number: l.number,
                name: l.name.clone(),
                reason: Some("so.".to_owned()),
                ..lun.clone()
            })
            .collect();
        Ok(status)
    });
    let overview = Overview::from_answers(&config, answers);
    assert_eq!(
        overview.problems,
        ["LUN 0 data0, LUN 1 d1, LUN 2 d2, LUN 3 d3 and 5 more on alpha and beta: so."]
    );
}

#[test]
fn json_has_both_statuses_in_the_words_of_the_documentation() {
    let config = config("");
    let json = serde_json::to_value(Overview::from_answers(&config, healthy().map(Ok))).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["problems"], serde_json::json!([]));
    assert_eq!(json["controllers"][0]["status"]["luns"][0]["status"], "duplex");
    assert_eq!(json["controllers"][1]["status"]["luns"][0]["role"], "sub");
}
