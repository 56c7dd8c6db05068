//! Golden screens of `twinlun status`.

use controller::pair::{PairStatus, Role};
use controller::plan::Side;
use controller::status::{
    ContestStatus, ControllerStatus, HostStatus, InterlinkStatus, LunStatus, PeerReport, ReservationStatus,
};

use super::super::check::tests::config;
use super::super::control::AskError;
use super::Overview;
use crate::interlink::tls::certificates;

mod long;

/// What the two controllers of the example say when all is well.
pub(in super::super) fn healthy() -> [ControllerStatus; 2] {
    [("alpha", "beta", Role::Main), ("beta", "alpha", Role::Sub)].map(|(name, peer, role)| ControllerStatus {
        controller: name.to_owned(),
        peer: peer.to_owned(),
        appliance: Some("6f1c".to_owned()),
        incarnation: "17".to_owned(),
        stuck: None,
        stopping: false,
        interlink: InterlinkStatus {
            up: true,
            encrypted: false,
            bridges: 4,
            refused: false,
            mute: false,
            reason: None,
        },
        luns: vec![LunStatus {
            number: 0,
            name: "data0".to_owned(),
            group: None,
            bytes: 1 << 30,
            role,
            main: "alpha".to_owned(),
            status: PairStatus::Duplex,
            serving: true,
            copied_percent: None,
            copy_seconds_left: None,
            image: None,
            sanitize: None,
            reservation: None,
            reason: None,
            commands: 0,
            communication_bytes: 0,
            naa: None,
            wwid: None,
            serial: None,
        }],
        hosts: Vec::new(),
        contests: Vec::new(),
        notes: Vec::new(),
        peer_said: None,
        file_systems: Vec::new(),
        troubles: Vec::new(),
        limits: Vec::new(),
    })
}

fn host(name: &str, alias: &str, portal: &str, address: &str, seconds: u64, commands: u32) -> HostStatus {
    HostStatus {
        initiator: format!("iqn.1993-08.org.debian:{name}"),
        alias: alias.to_owned(),
        address: address.to_owned(),
        portal: portal.to_owned(),
        seconds,
        commands,
    }
}

/// What a controller told its peer.
fn said(by: &ControllerStatus, age_seconds: u64, current: bool, hosts: Vec<HostStatus>) -> PeerReport {
    let hosts_count = hosts.len() as u32;
    PeerReport { age_seconds, current, luns: by.luns.clone(), hosts_count, hosts, notes: Vec::new() }
}

fn screen(answers: [Result<ControllerStatus, AskError>; 2]) -> (bool, String) {
    let config = config("");
    let overview = Overview::from_answers(&config, answers);
    (overview.ok, overview.render(&config))
}

#[test]
fn a_healthy_appliance_fits_a_glance() {
    let [mut alpha, mut beta] = healthy();
    alpha.luns[0].commands = 3;
    alpha.hosts = vec![host("web1", "web-1", "192.0.2.1:3260", "192.0.2.21:51000", 7500, 3)];
    beta.hosts = vec![host("web2", "", "192.0.2.2:3260", "192.0.2.22:51000", 40 * 86_400 + 3700, 0)];
    let expected = "\
iqn.2026-11.com.example:demo   appliance 6f1c

CONTROLLER  STATE    INTERLINK
alpha       running  up, 4 bridges
beta        running  up, 4 bridges

LUN  NAME   SIZE   MAIN   PAIR    ON ALPHA              ON BETA
0    data0  1 GiB  alpha  duplex  serving, 3 in flight  serving

HOST                                 ON     PORTAL          FROM              SINCE          IN FLIGHT
iqn.1993-08.org.debian:web1 (web-1)  alpha  192.0.2.1:3260  192.0.2.21:51000  2 h 5 min ago  3
iqn.1993-08.org.debian:web2          beta   192.0.2.2:3260  192.0.2.22:51000  40 d 1 h ago   0

All is well.
";
    assert_eq!(screen([Ok(alpha), Ok(beta)]), (true, expected.to_owned()));
}

#[test]
fn a_peer_on_another_machine_is_shown_through_the_one_in_reach() {
    let [alpha, mut beta] = healthy();
    let hosts = vec![host("web1", "", "192.0.2.1:3260", "192.0.2.21:51000", 75, 3)];
    beta.peer_said = Some(said(&alpha, 1, true, hosts));
    let expected = "\
iqn.2026-11.com.example:demo   appliance 6f1c

CONTROLLER  STATE                            INTERLINK
alpha       running, as beta heard just now  -
beta        running                          up, 4 bridges

LUN  NAME   SIZE   MAIN   PAIR    ON ALPHA  ON BETA
0    data0  1 GiB  alpha  duplex  serving   serving

HOST                         ON     PORTAL          FROM              SINCE      IN FLIGHT
iqn.1993-08.org.debian:web1  alpha  192.0.2.1:3260  192.0.2.21:51000  1 min ago  3

All is well.
";
    assert_eq!(screen([Err(AskError::NotRunning), Ok(beta)]), (true, expected.to_owned()));
}

#[test]
fn a_lost_peer_is_told_with_what_is_safe_to_do_next() {
    let [mut alpha, beta] = healthy();
    alpha.peer_said = Some(said(&beta, 312, false, Vec::new()));
    alpha.interlink = InterlinkStatus {
        up: false,
        encrypted: false,
        bridges: 0,
        refused: false,
        mute: false,
        reason: Some("beta does not answer".to_owned()),
    };
    alpha.luns[0].status = PairStatus::Suspended;
    let expected = "\
iqn.2026-11.com.example:demo   appliance 6f1c

CONTROLLER  STATE                                           INTERLINK
alpha       running                                         down: beta does not answer
beta        not in reach, alpha last heard of it 5 min ago  -

LUN  NAME   SIZE   MAIN   PAIR       ON ALPHA  ON BETA
0    data0  1 GiB  alpha  suspended  serving   was serving

No host is logged in.

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

#[test]
fn an_encrypted_interlink_is_called_so() {
    let both = healthy().map(|mut status| {
        status.interlink.encrypted = true;
        Ok(status)
    });
    let (ok, screen) = screen(both);
    assert!(ok && screen.contains("alpha       running  up, 4 bridges, encrypted\n"), "{screen}");
}

/// What beta's machine shows while its interlink is down and alpha cannot be asked.
fn beside_a_lost(alpha: AskError, interlink: &str) -> String {
    let [_, mut beta] = healthy();
    beta.interlink = InterlinkStatus {
        up: false,
        encrypted: false,
        bridges: 0,
        refused: false,
        mute: false,
        reason: Some("alpha is silent".to_owned()),
    };
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
  --controller alpha`, or `systemctl start twinlun@alpha` where the package is installed; that is
  safe, it serves nothing that is not certain to be current. If it does, check the network between
  their interlink addresses (192.0.2.1:3270, 192.0.2.1:3270).
";
    assert!(screen.contains(expected), "{screen}");
}

#[test]
fn a_peer_that_is_stopped_on_its_machine_gets_its_own_next_step() {
    let [_, mut beta] = healthy();
    beta.interlink = InterlinkStatus {
        up: false,
        encrypted: false,
        bridges: 0,
        refused: false,
        mute: true,
        reason: Some("alpha is silent".to_owned()),
    };
    let mut config = config("");
    config.controllers.iter_mut().for_each(|it| it.interlink = vec!["192.0.2.1:3270".parse().unwrap()]);
    let screen = Overview::from_answers(&config, [Err(AskError::NotRunning), Ok(beta)]).render(&config);
    let words = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("kill -CONT") && !words.contains("check the network"), "{screen}");
}

#[test]
fn what_is_noted_beyond_the_luns_is_told_once_and_the_same_on_either_machine() {
    let differ = "the two machines' appliance.toml differ in `access.open`: true on alpha, false on beta";
    let contest = ContestStatus {
        initiator: "iqn.clone".to_owned(),
        addresses: ["192.0.2.21".to_owned(), "192.0.2.22".to_owned()],
        times: 14,
        seconds: 15,
    };
    let [mut alpha, mut beta] = healthy();
    alpha.notes = vec![differ.to_owned()];
    beta.notes = vec![differ.to_owned()];
    alpha.contests = vec![contest.clone()];
    let told = |by: &ControllerStatus| PeerReport {
        notes: by.notes.iter().cloned().chain(by.contests.iter().map(ToString::to_string)).collect(),
        ..said(by, 1, true, Vec::new())
    };
    let (of_alpha, of_beta) = (told(&alpha), told(&beta));
    let seen = |answers: [Result<ControllerStatus, AskError>; 2]| {
        let config = config("");
        let overview = Overview::from_answers(&config, answers);
        assert!(!overview.ok);
        let mut problems = overview.problems;
        problems.sort();
        problems
    };
    let both = seen([Ok(alpha.clone()), Ok(beta.clone())]);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.iter().any(|line| line.contains("iqn.clone logs in from 192.0.2.21 and from 192.0.2.22")));
    (alpha.peer_said, beta.peer_said) = (Some(of_beta), Some(of_alpha));
    assert_eq!(seen([Ok(alpha), Err(AskError::NotRunning)]), both);
    assert_eq!(seen([Err(AskError::NotRunning), Ok(beta)]), both);
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
    assert_eq!(same, ["LUN 0 data0: it is so."]);
    let apart = problems(|[alpha, beta]| {
        alpha.luns[0].reason = Some("one.".to_owned());
        beta.luns[0].reason = Some("two.".to_owned());
    });
    assert_eq!(apart, ["LUN 0 data0, says alpha: one.", "LUN 0 data0, says beta: two."]);
}

#[test]
fn a_change_of_roles_between_two_questions_is_no_contradiction() {
    let mut rounds = 0;
    let mut answers = |last_wrong: u32| {
        rounds = 0;
        super::consistent(
            || {
                rounds += 1;
                let mut both = healthy();
                if rounds <= last_wrong {
                    both[1].luns[0].role = Role::Main;
                }
                both.map(Ok)
            },
            || (),
        )
    };
    assert!(!super::have_two_mains(&answers(1)));
    assert!(!super::have_two_mains(&answers(super::ASKED_AGAIN_MAX)));
    assert!(super::have_two_mains(&answers(super::ASKED_AGAIN_MAX + 1)), "two mains stay two");
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
    let left_out = problems(|both| {
        both.iter_mut().for_each(|c| {
            c.luns.push(LunStatus { number: 1, name: "data1".to_owned(), ..c.luns[0].clone() })
        });
    });
    assert!(left_out[0].contains("LUN 1 data1: not in the file, but alpha and beta"), "{left_out:?}");
    let apart = problems(|both| both.iter_mut().for_each(|c| c.interlink.up = false));
    assert!(apart[0].contains("127.0.0.1:3270, 127.0.0.1:3271"), "{apart:?}");
}

#[test]
fn a_lun_that_is_served_and_not_in_the_file_is_shown() {
    let mut both = healthy();
    let other = LunStatus { number: 1, name: "data1".to_owned(), bytes: 1 << 29, ..both[1].luns[0].clone() };
    both[1].luns.push(other);
    let (ok, screen) = screen(both.map(Ok));
    assert!(!ok && screen.contains("1    data1  512 MiB  alpha  duplex  -         serving"), "{screen}");
}

#[test]
fn all_is_not_well_before_the_other_was_heard() {
    let [mut alpha, beta] = healthy();
    let (ok, text) = screen([Ok(alpha.clone()), Err(AskError::NotRunning)]);
    assert!(!ok && text.contains("alpha has not heard from it yet"), "{text}");
    alpha.peer_said = Some(said(&beta, 0, true, Vec::new()));
    let (ok, text) = screen([Ok(alpha), Err(AskError::NotRunning)]);
    assert!(ok, "{text}");
}

#[test]
fn who_asks_where_nothing_runs_is_told_which_controller_belongs_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config("[access]\nplain_interlink = false");
    config.appliance.state = folder.path().to_path_buf();
    let made = certificates::make(&config, false).unwrap();
    std::fs::remove_file(&made[0].path).unwrap();
    let nobody = [Err(AskError::NotRunning), Err(AskError::NotRunning)];
    let text = Overview::from_answers(&config, nobody).render(&config);
    assert!(text.contains("`twinlun run --controller beta`, or `systemctl"), "{text}");
    let error = certificates::Certificates::load(&config, Side::First).err().unwrap().to_string();
    assert!(error.contains("only that of beta is here") && !error.contains("bring"), "{error}");
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
    assert_eq!(overview.problems, ["LUN 0 data0, LUN 1 d1, LUN 2 d2, LUN 3 d3 and 5 more: so."]);
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
