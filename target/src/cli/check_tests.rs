//! Golden text of `twinlun check`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Report, describe};
use crate::config::Config;
use crate::run::tls::certificates;

/// The example appliance, with `end` added to its one LUN.
pub(in super::super) fn config(end: &str) -> Config {
    config_in(Path::new("/nowhere"), end)
}

pub(in super::super) fn config_in(folder: &Path, end: &str) -> Config {
    let text = format!(
        r#"
[appliance]
iqn = "iqn.2026-11.com.example:demo"
[[controller]]
name = "alpha"
portals = ["127.0.0.1:3260"]
interlink = "127.0.0.1:3270"
[[controller]]
name = "beta"
portals = ["127.0.0.1:3261"]
interlink = ["127.0.0.1:3271", "[::1]:3271"]
[[lun]]
number = 0
name = "data0"
size = "1 GiB"
main = "alpha"
{end}
"#
    );
    Config::parse(&folder.join("appliance.toml"), &text).unwrap()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("twinlun-check-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_name_that_hosts_may_not_resolve_is_warned_of() {
    let mut config = config("");
    config.controllers[1].advertise = vec!["192.0.2.2:3260".to_owned(), "nas-b.example:3260".to_owned()];
    let warnings = super::warnings(&config);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("advertise of beta: nas-b.example:3260 is a name."), "{warnings:?}");
    config.controllers[1].advertise.pop();
    assert_eq!(super::warnings(&config), Vec::<String>::new());
}

#[test]
fn the_example_is_described_line_by_line() {
    let expected = "\
iqn.2026-11.com.example:demo   state in /nowhere/state

CONTROLLER  PORTALS         INTERLINK
alpha       127.0.0.1:3260  127.0.0.1:3270
beta        127.0.0.1:3261  127.0.0.1:3271 [::1]:3271

LUN  NAME   SIZE   MAIN   COPIES            WRITE CACHE  HOSTS MAY
0    data0  1 GiB  alpha  both controllers  on           read and write

VOLUME OF  ON     AT                                 WHAT IS THERE
data0      alpha  /nowhere/state/alpha/data0.volume  nothing yet; made when the controllers first meet
data0      beta   /nowhere/state/beta/data0.volume   nothing yet; made when the controllers first meet

WHO MAY LOG IN    PROVES ITSELF AS               THE TARGET AS  SEES
every other host  nobody: no proof is asked for  -              all LUNs

The file is right.
";
    let config = config("");
    assert_eq!(Report::of(&config).render(&config), expected);
}

#[test]
fn a_lun_of_main_alone_has_one_volume() {
    let config = config("mirror = false\nread_only = true\nwrite_cache = \"off\"");
    assert!(describe(&config).contains("0    data0  1 GiB  alpha  main alone  off          read\n"));
    let report = Report::of(&config);
    let on: Vec<&str> = report.volumes.iter().map(|volume| volume.controller.as_str()).collect();
    assert_eq!(on, ["alpha"]);
}

#[test]
fn who_may_log_in_is_shown_and_never_where_a_secret_is() {
    let config = config(
        "[[access.host]]\nname = \"iqn.1993-08.org.debian:A\"\nluns = [0]\nsecret_file = \"no-a\"\nown_secret_file = \"no-t\"\n\
         [[access.host]]\nname = \"iqn.1993-08.org.debian:b\"\nluns = []\n[access.discovery]\nsecret_env = \"NO_SUCH\"\n",
    );
    let report = Report::of(&config);
    let json = serde_json::to_value(&report.hosts).unwrap();
    assert_eq!(json[0]["user"], "iqn.1993-08.org.debian:A");
    assert_eq!(json[1]["luns"], serde_json::json!([]));
    let text = report.render(&config);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.starts_with("WHO MAY LOG IN"))
        .take_while(|line| !line.is_empty())
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let no_proof = "nobody: no proof is asked for";
    let iqn = "iqn.2026-11.com.example:demo";
    assert_eq!(
        rows,
        [
            vec!["WHO MAY LOG IN", "PROVES ITSELF AS", "THE TARGET AS", "SEES"],
            vec!["iqn.1993-08.org.debian:A", "iqn.1993-08.org.debian:A", iqn, "LUN 0"],
            vec!["iqn.1993-08.org.debian:b", no_proof, "-", "no LUN"],
            vec!["any host, for discovery", "discovery", "-", "the portals"],
        ]
    );
    // Every secret that is missing stands in the way of a start, and is told.
    assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
}

#[test]
fn what_is_open_is_warned_of() {
    let config = config("[access]\nopen = true\nplain_interlink = true");
    let text = Report::of(&config).render(&config);
    assert_eq!(text.matches("\nwarning: ").count(), 2, "{text}");
    assert!(text.ends_with("The file is right.\n"));
}

#[test]
fn the_certificates_of_an_encrypted_interlink_are_looked_for_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path(), "[access]\nplain_interlink = false");
    let none = Report::of(&config).problems;
    assert!(none.len() == 1 && none[0].contains("run it on one of the two"), "{none:?}");
    let made = certificates::make(&config, false).unwrap();
    let report = Report::of(&config);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let (alpha, beta) = (&made[0].fingerprint, &made[1].fingerprint);
    let text = report.render(&config);
    let row = format!("beta          {}  {}  {}", &beta[..16], &alpha[..16], made[1].path.display());
    assert!(text.contains(&row), "{text}");
    // One of another run.
    let kept = fs::read(&made[0].path).unwrap();
    certificates::make(&config, true).unwrap();
    fs::write(&made[0].path, kept).unwrap();
    let apart = Report::of(&config).problems;
    assert!(apart.len() == 1 && apart[0].contains("come of two runs"), "{apart:?}");
    // The other controller's is where it belongs, on the other machine.
    fs::remove_file(&made[1].path).unwrap();
    let one = Report::of(&config);
    assert!(one.problems.is_empty() && one.render(&config).contains("not on this machine"), "{one:?}");
    fs::write(&made[0].path, "nonsense").unwrap();
    assert!(Report::of(&config).problems[0].contains("is not as `twinlun interlink init` made it"));
}

#[test]
fn the_largest_size_that_fits_a_device_is_told_and_a_larger_one_refused() {
    let folder = folder("device");
    let device = folder.join("device");
    fs::File::create(&device).unwrap().set_len(64 << 20).unwrap();
    let end = "device = { alpha = \"device\", beta = \"elsewhere\" }";
    let config = config_in(&folder, end);
    let report = Report::of(&config);
    assert_eq!(report.volumes[0].largest_size, Some(63 << 20));
    assert_eq!(report.volumes[0].found, "a device, blank; the largest size that fits is 63 MiB");
    assert_eq!(report.volumes[1].found, "no such device on this machine");
    let device = device.display();
    assert_eq!(
        report.problems,
        [format!(
            "{device} has 64 MiB, too small for LUN data0 with Twinlun's 1 MiB at its end: the largest `size` is \
             63 MiB."
        )]
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn foreign_content_in_the_place_of_a_volume_is_a_problem() {
    let folder = folder("foreign");
    fs::create_dir_all(folder.join("state/alpha")).unwrap();
    fs::write(folder.join("state/alpha/data0.volume"), vec![7; 2 << 20]).unwrap();
    let config = config_in(&folder, "");
    let report = Report::of(&config);
    assert_eq!(report.volumes[0].found, "something else");
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].contains("not a volume of Twinlun"));
    assert!(!report.render(&config).contains("The file is right"));
    fs::remove_dir_all(folder).unwrap();
}
