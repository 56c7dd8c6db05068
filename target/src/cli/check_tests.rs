//! Golden text of `twinlun check`.

use std::fs;
use std::path::{Path, PathBuf};

use controller::appliance::{CONTROL_KEY, ControlRecord};
use controller::volume::store::Store;
use controller::volume::superblock::TAIL_BYTES;
use protocol::interlink::copy_report::{Generation, GroupRecord, Start, Starts};

use super::{Report, describe};
use crate::config::Config;
use crate::interlink::tls::certificates;

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

The interlink is not encrypted.

LUN  NAME   SIZE   MAIN   COPIES            WRITE CACHE  HOSTS MAY       PHYSICAL BLOCK
0    data0  1 GiB  alpha  both controllers  on           read and write  512 B

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
fn whatever_the_text_shows_programs_are_told_too() {
    let more = "group = \"db\"\nmirror = false\nread_only = true\nwrite_cache = \"off\"\n\
                [[lun]]\nnumber = 7\nname = \"data7\"\nmain = \"beta\"\n\
                device = { alpha = \"/nowhere/a\", beta = \"/nowhere/b\" }\n";
    let json = serde_json::to_value(Report::of(&config(more))).unwrap();
    assert_eq!(json["state"], "/nowhere/state");
    assert_eq!(
        json["controllers"],
        serde_json::json!([
            { "name": "alpha", "portals": ["127.0.0.1:3260"], "interlink": ["127.0.0.1:3270"] },
            { "name": "beta", "portals": ["127.0.0.1:3261"], "interlink": ["127.0.0.1:3271", "[::1]:3271"] },
        ])
    );
    assert_eq!(
        json["luns"],
        serde_json::json!([
            { "number": 0, "name": "data0", "bytes": 1_u64 << 30, "main": "alpha", "group": "db", "copies": ["alpha"],
              "write_cache": false, "read_only": true, "physical_block_bytes": 512 },
            { "number": 7, "name": "data7", "bytes": null, "main": "beta", "group": null, "copies": ["alpha", "beta"],
              "write_cache": true, "read_only": false, "physical_block_bytes": 512 },
        ])
    );
}

#[test]
fn groups_are_shown_where_there_are_some() {
    let lun = |number: u8, more: &str| {
        format!("[[lun]]\nnumber = {number}\nname = \"data{number}\"\nsize = 512\nmain = \"alpha\"\n{more}")
    };
    let config = config(&format!("group = \"db\"\n{}{}", lun(1, ""), lun(2, "group = \"db\"\n")));
    let expected = "\
LUN  NAME   SIZE   MAIN   COPIES            WRITE CACHE  HOSTS MAY       PHYSICAL BLOCK  GROUP
0    data0  1 GiB  alpha  both controllers  on           read and write  512 B           db
1    data1  512 B  alpha  both controllers  on           read and write  512 B           -
2    data2  512 B  alpha  both controllers  on           read and write  512 B           db
";
    let text = describe(&config);
    assert!(text.contains(expected), "{text}");
    let json = serde_json::to_value(Report::of(&config)).unwrap();
    let groups: Vec<_> = (0..3).map(|lun| json["luns"][lun]["group"].as_str()).collect();
    assert_eq!(groups, [Some("db"), None, Some("db")]);
}

#[test]
fn a_lun_of_main_alone_has_one_volume() {
    let config = config("mirror = false\nread_only = true\nwrite_cache = \"off\"");
    assert!(
        describe(&config).contains("0    data0  1 GiB  alpha  main alone  off          read       512 B\n")
    );
    let report = Report::of(&config);
    let on: Vec<&str> = report.volumes.iter().map(|volume| volume.controller.as_str()).collect();
    assert_eq!(on, ["alpha"]);
}

#[test]
fn who_may_log_in_is_shown_and_never_where_a_secret_is() {
    let config = config(
        "[[access.host]]\nname = \"iqn.1993-08.org.debian:A\"\nluns = [0]\nsecret_file = \"no-a\"\nown_secret_file = \
         \"no-t\"\n[[access.host]]\nname = \"iqn.1993-08.org.debian:b\"\nluns = []\n\
         [access.discovery]\nsecret_env = \"NO_SUCH\"\n",
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
    assert_eq!(
        one.volumes.iter().map(|volume| volume.found.as_str()).collect::<Vec<_>>(),
        ["nothing yet; made when the controllers first meet", "not on this machine"]
    );
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

/// A state folder of alpha whose record knows of a copy of data0 there, and of those of `members`.
fn made_on_alpha(folder: &Path, members: u8) {
    let state = folder.join("state/alpha");
    fs::create_dir_all(&state).unwrap();
    let generation = Generation { number: 3, members, ..Generation::default() };
    let group = GroupRecord {
        lun: "data0".to_owned(),
        generation,
        clean: false,
        flushed: false,
        volume: Start::default(),
        volume_coming: Start::default(),
        starts: Starts::default(),
    };
    let record = ControlRecord { groups: vec![group], ..ControlRecord::default() };
    let (store, records) = Store::open(&state).unwrap();
    assert!(records.is_empty());
    store.persist(CONTROL_KEY, record.write("alpha"), Box::new(|| ()));
    drop(store);
}

#[test]
fn a_volume_that_was_made_and_is_gone_is_a_problem() {
    for (members, next) in [(0b11, "beta has a copy: if this one is lost"), (0b01, "the only current copy")] {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), "");
        made_on_alpha(folder.path(), members);
        let files = || fs::read_dir(folder.path().join("state/alpha")).unwrap().count();
        let before = files();
        let report = Report::of(&config);
        let path = folder.path().join("state/alpha/data0.volume");
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        let problem = &report.problems[0];
        assert!(problem.starts_with(&format!("{} is gone or empty", path.display())), "{problem}");
        assert!(problem.contains(next) && problem.contains("disk is mounted"), "{problem}");
        assert_eq!(report.volumes[0].found, "gone; a copy was kept here");
        assert_eq!(report.volumes[1].found, "nothing yet; made when the controllers first meet");
        fs::File::create(&path).unwrap().set_len((1 << 30) + TAIL_BYTES).unwrap();
        assert!(Report::of(&config).problems[0].contains("is gone or empty"), "it is a hole all over");
        fs::remove_file(&path).unwrap();
        assert_eq!(files(), before, "nothing was made");
    }
}

#[test]
fn records_that_cannot_be_used_are_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path(), "");
    made_on_alpha(folder.path(), 0b11);
    let state = folder.path().join("state");
    fs::rename(state.join("alpha"), state.join("beta")).unwrap();
    let problems = Report::of(&config).problems;
    assert!(problems.len() == 1 && problems[0].contains("its state folder is that of alpha"), "{problems:?}");
    for name in ["control.1", "control.2"] {
        fs::write(state.join("beta").join(name), [0; 100]).unwrap();
    }
    let problems = Report::of(&config).problems;
    assert!(problems.len() == 1 && problems[0].contains("cannot be read"), "{problems:?}");
}

/// `run` says that the secret "holds the secret of the interlink, and others may read or change it", and does not
/// start.
#[test]
fn the_secret_of_two_controllers_on_one_machine_is_looked_at() {
    use std::os::unix::fs::PermissionsExt;

    use controller::plan::Side;

    use crate::interlink::secret::Secret;

    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path(), "");
    fs::create_dir(folder.path().join("state")).unwrap();
    Secret::load(&config, Side::First).unwrap();
    assert_eq!(Report::of(&config).problems, Vec::<String>::new());
    let secret = folder.path().join("state/interlink.secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Secret::load(&config, Side::First).unwrap_err().to_string();
    let report = Report::of(&config);
    assert_eq!(report.problems, [format!("{refused}.")]);
}

/// `run` says "cannot listen on ...: path must be shorter than SUN_LEN", and does not start.
#[test]
fn a_state_folder_in_which_no_control_socket_can_be_is_found() {
    use std::os::unix::net::UnixListener;

    use controller::plan::Side;

    let folder = tempfile::tempdir().unwrap();
    let deep = folder
        .path()
        .join("a-folder-with-a-name-of-forty-characters")
        .join("and-one-in-it-of-forty-characters-or-so");
    let config = config_in(&deep, "");
    fs::create_dir_all(config.state_folder(Side::First)).unwrap();
    let refused = UnixListener::bind(config.control_socket(Side::First)).unwrap_err();
    assert_ne!(Report::of(&config).problems, Vec::<String>::new(), "{refused}");
}

/// `run` says "the control state in ... cannot be read", and refuses every LUN.
#[test]
fn records_that_cannot_be_read_are_found() {
    use controller::plan::Side;
    use controller::volume::store::Store;

    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path(), "");
    let state = config.state_folder(Side::First);
    fs::create_dir_all(&state).unwrap();
    for name in ["control.1", "control.2"] {
        fs::write(state.join(name), "what is left after a bad day").unwrap();
    }
    let refused = Store::open(&state).err().unwrap().to_string();
    assert_ne!(Report::of(&config).problems, Vec::<String>::new(), "{refused}");
}
