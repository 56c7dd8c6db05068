//! `[access]`: the hosts that may log in.

use controller::plan::Side;

use super::{GOOD, lines, parse};
use crate::config::to_plan;

#[test]
fn who_may_log_in_is_compared_between_the_machines_without_any_secret() {
    let access = "[[access.host]]\nname = \"iqn.b\"\nuser = \"b\"\nsecret_file = \"secret-b\"\nown_secret_env = \
                  \"SECRET_T\"\nluns = [3, 0]\n[[access.host]]\nname = \"iqn.a\"\n\
                  [access.discovery]\nsecret_file = \"secret-d\"\n";
    let text = format!("{GOOD}[[lun]]\nnumber = 3\nname = \"d3\"\nsize = 512\nmain = \"beta\"\n{access}");
    let shared = to_plan(&parse(&text), Side::First).shared;
    let told: Vec<String> = shared
        .iter()
        .filter_map(|(key, value)| Some(format!("{}={value}", key.strip_prefix("lun./access.")?)))
        .collect();
    assert_eq!(
        told,
        [
            "open=false",
            "discovery=as \"discovery\"",
            "host.iqn.a=without a proof, all LUNs",
            "host.iqn.b=as \"b\", the target as \"iqn.2026-11.com.example:demo\", LUN 0, 3",
        ]
    );
    assert!(!format!("{shared:?}").to_lowercase().contains("secret"), "{shared:?}");
    let many: String = (0..2000).map(|n| format!("[[access.host]]\nname = \"iqn.{n}\"\n")).collect();
    let told = |text: &str| to_plan(&parse(&format!("{GOOD}{text}")), Side::First).shared;
    let bytes: usize = told(&many).iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes < 80 << 10, "{bytes}");
    assert_ne!(told(&many), told(&many.replace("iqn.999\"", "iqn.x999\"")), "what is beyond is compared too");
}

#[test]
fn mistakes_about_hosts_are_told_with_what_would_be_right() {
    for (access, expected) in [
        ("[[access.host]]\nname = \"iqn.a\"\nluns = [0, 7]\n", "access.host[0].luns: there is no LUN 7"),
        ("[[access.host]]\nname = \"iqn.a\"\nluns = 0\n", "access.host[0].luns"),
        ("[[access.host]]\nname = \"host\"\n", "access.host[0].name"),
        ("[[access.host]]\nuser = \"a\"\n", "access.host[0].name"),
        (
            "[[access.host]]\nname = \"iqn.a\"\nuser = \"a\"\n",
            "access.host[0]: there is a CHAP section without",
        ),
        ("[access.discovery]\nuser = \"a\"\n", "discovery: there is a CHAP section without"),
        (
            "[access.discovery]\nsecret_file = \"a\"\nsecret_env = \"b\"\n",
            "discovery.secret_env: the secret would be in two places",
        ),
        ("[[access.host]]\nname = \"iqn.a\"\nsecrt_file = \"a\"\n", "access.host[0].secrt_file"),
    ] {
        let found = lines(&format!("{GOOD}{access}"));
        assert!(found.iter().any(|line| line.contains(expected)), "{access}: {found:?}");
    }
}

#[test]
fn a_host_named_twice_is_refused_with_both_places_whatever_its_case() {
    for second in ["iqn.1993-08.org.debian:a", "IQN.1993-08.org.debian:A"] {
        let access = format!(
            "[[access.host]]\nname = \"iqn.1993-08.org.debian:a\"\nsecret_file = \"a\"\n[[access.host]]\nname = \
             \"{second}\"\n"
        );
        assert_eq!(
            lines(&format!("{GOOD}{access}")),
            [format!(
                "21:8: access.host[1].name: {second:?} is the host that access.host[0] (line 18, column 8) names \
                 already; names that differ in case are the same; keep one section for each host, with everything \
                 that is true of it"
            )]
        );
    }
}

#[test]
fn a_key_of_hosts_that_says_nothing_about_discovery_is_no_key_of_it() {
    for key in ["name = \"iqn.a\"", "luns = [0]"] {
        let found = lines(&format!("{GOOD}[access.discovery]\nsecret_file = \"a\"\n{key}\n"));
        assert!(found.len() == 1 && found[0].contains("there is no such key"), "{key}: {found:?}");
    }
}
