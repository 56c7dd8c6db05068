//! Long lists, and what a screen names of them.

use super::*;

/// The example with this many LUNs, all well.
fn many(count: u16) -> (crate::config::Config, [ControllerStatus; 2]) {
    let more: String = (1..count)
        .map(|n| format!("[[lun]]\nnumber = {n}\nname = \"d{n}\"\nsize = 512\nmain = \"beta\"\n"))
        .collect();
    let config = config(&more);
    let statuses = healthy().map(|mut status| {
        let lun = status.luns.remove(0);
        let one =
            |l: &crate::config::Lun| LunStatus { number: l.number, name: l.name.clone(), ..lun.clone() };
        status.luns = config.luns.iter().map(one).collect();
        status
    });
    (config, statuses)
}

#[test]
fn long_lists_are_cut_with_a_count_and_those_in_trouble_are_shown() {
    let (config, [mut alpha, beta]) = many(77);
    alpha.luns[70].serving = false;
    alpha.hosts = vec![host("web", "", "192.0.2.1:3260", "192.0.2.21:51000", 9, 0); 65];
    let overview = Overview::from_answers(&config, [Ok(alpha), Ok(beta)]);
    let screen = overview.render(&config);
    assert!(screen.contains("\n70   d70    "), "{screen}");
    let all = "`twinlun status --json` has all of them";
    assert!(screen.contains(&format!("\nand 61 more, served by both; {all}\n")), "{screen}");
    assert!(screen.contains(&format!("\nand 61 more on alpha; {all}\n")), "{screen}");
    assert!(screen.lines().count() < 40, "{screen}");
    let json = serde_json::to_value(&overview).unwrap();
    assert_eq!(json["controllers"][0]["status"]["luns"].as_array().unwrap().len(), 77);
    assert_eq!(json["controllers"][0]["status"]["hosts"].as_array().unwrap().len(), 65);
}

#[test]
fn hosts_of_a_controller_elsewhere_are_counted_though_not_all_are_named() {
    let [alpha, mut beta] = healthy();
    let hosts = vec![host("web", "", "192.0.2.1:3260", "192.0.2.21:51000", 9, 0); 32];
    beta.peer_said = Some(PeerReport { hosts_count: 200, ..said(&alpha, 0, true, hosts) });
    let (_, screen) = screen([Err(AskError::NotRunning), Ok(beta)]);
    assert!(
        screen.contains("\nand 196 more on alpha; `twinlun status` on its machine names them\n"),
        "{screen}"
    );
}

#[test]
fn how_far_a_copy_is_stands_beside_the_pair_on_both_machines() {
    let copying = |of: ControllerStatus, percent: Option<u8>| {
        let mut of = of;
        of.luns[0].status = PairStatus::Copy;
        of.luns[0].copied_percent = percent;
        of.luns[0].copy_seconds_left = percent.map(|_| 150);
        of
    };
    let [alpha, beta] = healthy();
    let (main, sub) = (copying(alpha, Some(43)), copying(beta, None));
    let expected = "0    data0  1 GiB  alpha  copy 43 %, 2 min left  serving   serving\n";
    let (ok, both) = screen([Ok(main.clone()), Ok(sub.clone())]);
    assert!(!ok && both.contains(expected), "{both}");
    let mut of_sub = sub.clone();
    of_sub.peer_said = Some(said(&main, 1, true, Vec::new()));
    let (_, alone) = screen([Err(AskError::NotRunning), Ok(of_sub)]);
    assert!(alone.contains(expected), "{alone}");
    // What was said before the interlink went is not how far the copy is.
    let mut of_sub = sub;
    of_sub.luns[0].status = PairStatus::Suspended;
    of_sub.interlink.up = false;
    of_sub.peer_said = Some(said(&main, 90, false, Vec::new()));
    let (_, old) = screen([Err(AskError::NotRunning), Ok(of_sub)]);
    assert!(old.contains("0    data0  1 GiB  alpha  suspended  was serving  serving\n"), "{old}");
    assert!(old.contains("alpha       not in reach, beta last heard of it 1 min ago  -\n"), "{old}");
}

#[test]
fn who_has_reserved_a_lun_is_shown_where_anybody_has() {
    let [mut alpha, mut beta] = healthy();
    for status in [&mut alpha, &mut beta] {
        status.luns[0].reservation =
            Some(ReservationStatus { kind: "reserve(6)".to_owned(), holders: vec!["iqn.a".to_owned(); 3] });
    }
    let (_, screen) = screen([Ok(alpha), Ok(beta)]);
    assert!(screen.contains("ON BETA  RESERVED\n"), "{screen}");
    assert!(screen.contains("serving  reserve(6): iqn.a, iqn.a and 1 more\n"), "{screen}");
}

#[test]
fn the_name_that_hosts_give_a_lun_is_shown_once_it_has_one() {
    let [mut alpha, beta] = healthy();
    alpha.luns[0].wwid = Some("33123456789abcdef".to_owned());
    let expected = "\
LUN  NAME   SIZE   MAIN   PAIR    ON ALPHA  ON BETA  WWID
0    data0  1 GiB  alpha  duplex  serving   serving  33123456789abcdef
";
    let (_, screen) = screen([Ok(alpha), Ok(beta)]);
    assert!(screen.contains(expected), "{screen}");
}

#[test]
fn what_a_host_calls_itself_cannot_write_elsewhere_on_the_screen() {
    let [mut alpha, beta] = healthy();
    let alias = format!("\u{1b}[2J{}", "x".repeat(200));
    alpha.hosts = vec![host("web", &alias, "192.0.2.1:3260", "192.0.2.21:51000", 9, 0)];
    let (_, screen) = screen([Ok(alpha), Ok(beta)]);
    assert!(!screen.contains('\u{1b}') && screen.contains("(?[2Jxxx"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() < 180), "{screen}");
}

#[test]
fn two_that_refuse_each_other_are_not_told_to_check_the_network() {
    let reason = "the two machines' appliance.toml differ in `appliance.iqn`: a on alpha, b on beta";
    let refused = problems(|both| {
        for status in both {
            status.interlink.up = false;
            status.interlink.refused = true;
            status.interlink.reason = Some(reason.to_owned());
        }
    });
    assert_eq!(refused[0], format!("alpha reaches beta, but the two do not work together: {reason}."));
}

#[test]
fn the_word_of_a_peer_that_lags_behind_is_no_trouble() {
    let [mut alpha, mut beta] = healthy();
    alpha.luns[0].status = PairStatus::Copy;
    alpha.luns[0].reason = Some("being refilled".to_owned());
    beta.peer_said = Some(said(&alpha, 1, true, Vec::new()));
    assert!(screen([Err(AskError::NotRunning), Ok(beta.clone())]).0);
    // About the same state it is heard.
    beta.luns[0].status = PairStatus::Suspended;
    alpha.luns[0].status = PairStatus::Suspended;
    alpha.luns[0].reason = Some("the disk of alpha is full".to_owned());
    beta.peer_said = Some(said(&alpha, 1, true, Vec::new()));
    let (ok, screen) = screen([Err(AskError::NotRunning), Ok(beta)]);
    assert!(!ok && screen.contains("! LUN 0 data0, says alpha: the disk of alpha is full."), "{screen}");
}
