//! CHAP against libiscsi's initiator: who has the secrets gets in, and nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};

const HOST: &str = "iqn.1993-08.org.debian:chap";

const ACCESS: &str = r#"
[[access.host]]
name = "iqn.1993-08.org.debian:chap"
user = "host"
secret_file = "host"
own_user = "target"
own_secret_file = "own"
luns = [1]
[[access.host]]
name = "iqn.1993-08.org.debian:free"
[access.discovery]
user = "finder"
secret_file = "finder"
"#;

const SECRETS: [(&str, &str); 3] =
    [("host", "secret-of-host\n"), ("own", "secret-of-target\n"), ("finder", "secret-of-finder")];

/// What a command of libiscsi-bin says, if it succeeds.
fn run(command: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(command).args(arguments).output().expect("Debian's package libiscsi-bin has it");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn hosts_get_in_with_the_right_secrets_only() {
    let luns = [0, 1].map(|number| Lun { number, mib: 16, main: 0, mirror: false });
    let appliance = Appliance::start_with("chap", &luns, Processes::One, ACCESS, &SECRETS)
        .unwrap_or_else(|error| panic!("{error}"));
    let portal = appliance.portals[0];
    let inquiry = |initiator: &str, credentials: &str, more: &str| {
        let url = format!("iscsi://{credentials}{portal}/{IQN}/1{more}");
        run("iscsi-inq", &["-i", initiator, &url])
    };
    let mutual = "?target_user=target&target_password=secret-of-target";
    let wrong_target = "?target_user=target&target_password=secret-of-nobody";
    for (name, initiator, credentials, more, enters) in [
        ("one way", HOST, "host%secret-of-host@", "", true),
        ("both ways", HOST, "host%secret-of-host@", mutual, true),
        ("a target that is not the one expected", HOST, "host%secret-of-host@", wrong_target, false),
        ("nothing", HOST, "", "", false),
        ("the wrong secret", HOST, "host%secret-of-ghost@", "", false),
        ("the wrong name", HOST, "ghost%secret-of-host@", "", false),
        ("another host with its secret", "iqn.1993-08.org.debian:other", "host%secret-of-host@", "", false),
        ("a named host without a secret", "iqn.1993-08.org.debian:free", "", "", true),
        ("a stranger", "iqn.1993-08.org.debian:stranger", "", "", false),
    ] {
        assert_eq!(inquiry(initiator, credentials, more).is_some(), enters, "{name}");
    }
    let list = |credentials: &str| run("iscsi-ls", &["-i", HOST, &format!("iscsi://{credentials}{portal}")]);
    assert!(list("finder%secret-of-finder@").is_some_and(|list| list.contains(IQN)));
    assert_eq!(list("host%secret-of-host@"), None, "discovery has credentials of its own");
    assert_eq!(list(""), None);
    let capacity = |initiator: &str, credentials: &str, lun: u16| {
        run("iscsi-readcapacity16", &["-i", initiator, &format!("iscsi://{credentials}{portal}/{IQN}/{lun}")])
    };
    assert!(capacity(HOST, "host%secret-of-host@", 1).is_some());
    assert!(capacity(HOST, "host%secret-of-host@", 0).is_none(), "it is not to see LUN 0");
    assert!(capacity("iqn.1993-08.org.debian:free", "", 0).is_some());
    assert!(!appliance.logs().contains("secret-of-"));
    appliance.stop().unwrap();
}

#[test]
fn a_secret_that_others_can_read_is_refused_at_the_start() {
    let lun = Lun { number: 0, mib: 16, main: 0, mirror: false };
    let access = "[[access.host]]\nname = \"iqn.1993-08.org.debian:a\"\nsecret_file = \"/etc/passwd\"\n";
    let error = Appliance::start_with("chap-exposed", &[lun], Processes::One, access, &[]).unwrap_err();
    // Lines are broken anywhere.
    let said: String =
        error.to_string().chars().filter(|char| !char.is_whitespace() && *char != '│').collect();
    assert!(said.contains("chmod600/etc/passwd"), "{error}");
}

#[test]
fn a_host_named_with_capitals_gets_in_by_its_own_name() {
    let access = "[[access.host]]\nname = \"iqn.1993-08.org.debian:Capital-A\"\nsecret_file = \"host\"\n\
                  own_secret_file = \"own\"\n";
    let lun = Lun { number: 0, mib: 16, main: 0, mirror: false };
    let appliance = Appliance::start_with("chap-capitals", &[lun], Processes::One, access, &SECRETS[..2])
        .unwrap_or_else(|error| panic!("{error}"));
    let portal = appliance.portals[0];
    for (name, user, enters) in [
        ("iqn.1993-08.org.debian:Capital-A", "iqn.1993-08.org.debian:Capital-A", true),
        ("iqn.1993-08.org.debian:capital-a", "iqn.1993-08.org.debian:Capital-A", true),
        ("iqn.1993-08.org.debian:Capital-A", "iqn.1993-08.org.debian:capital-a", true),
        ("iqn.1993-08.org.debian:Capital-A", "iqn.1993-08.org.debian:Capital-B", false),
    ] {
        for mutual in ["", &format!("?target_user={IQN}&target_password=secret-of-target")] {
            let url = format!("iscsi://{user}%secret-of-host@{portal}/{IQN}/0{mutual}");
            assert_eq!(run("iscsi-inq", &["-i", name, &url]).is_some(), enters, "{name} {user} {mutual}");
        }
    }
    assert!(appliance.logs().contains("its CHAP name is \"iqn.1993-08.org.debian:Capital-B\""));
    appliance.stop().unwrap();
}
