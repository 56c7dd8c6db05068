//! Wrong files and what is said about each, to the letter; and the file that ships with Twinlun.

use std::path::Path;

use controller::plan::Side;
use proptest::prelude::*;

use super::{Config, to_plan};

mod addresses;
mod groups;
mod hosts;

const GOOD: &str = r#"[appliance]
iqn = "iqn.2026-11.com.example:demo"
state = "state"
[[controller]]
name = "alpha"
portals = ["127.0.0.1:3260"]
interlink = "127.0.0.1:3270"
[[controller]]
name = "beta"
portals = ["127.0.0.1:3261"]
interlink = "127.0.0.1:3271"
[[lun]]
number = 0
name = "data0"
size = "1 GiB"
main = "alpha"
"#;

const FILE: &str = "/srv/appliance.toml";

fn lines(text: &str) -> Vec<String> {
    match Config::parse(Path::new(FILE), text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.lines().map(|line| line.replace("/srv/appliance.toml:", "")).collect(),
    }
}

fn parse(text: &str) -> Config {
    Config::parse(Path::new(FILE), text)
        .unwrap_or_else(|wrong| panic!("{:?}", wrong.lines().collect::<Vec<_>>()))
}

/// Each row: what is replaced in [`GOOD`], by what, and everything that must be said about it.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "state = \"state\"",
        "state = ",
        &[
            "3:9: not TOML: string values must be quoted, expected literal string; appliance.toml is TOML: `key = \
             value` lines below [section] lines",
        ],
    ),
    (
        "state = \"state\"",
        "iqn = \"twice\"",
        &["3:1: not TOML: duplicate key; appliance.toml is TOML: `key = value` lines below [section] lines"],
    ),
    (
        "size =",
        "sise =",
        &[
            "12:1: lun[0].size: is missing; add `size = \"1 GiB\"`",
            "15:1: lun[0].sise: there is no such key; did you mean `size`?",
        ],
    ),
    (
        "state = \"state\"",
        "colour = 3",
        &["3:1: appliance.colour: there is no such key; remove it; the keys here are `iqn` and `state`"],
    ),
    (
        "main = \"alpha\"",
        "main = \"alpha\"\nwrite-cache = \"off\"",
        &["17:1: lun[0].write-cache: there is no such key; did you mean `write_cache`?"],
    ),
    (
        "main =",
        "mian =",
        &[
            "12:1: lun[0].main: is missing; add `main = \"alpha\"`",
            "16:1: lun[0].mian: there is no such key; did you mean `main`?",
        ],
    ),
    (
        "number = 0",
        "number = \"0\"",
        &[
            "13:10: lun[0].number: a text in quotes stands where a number is needed; write, for instance, `number = 0`",
        ],
    ),
    (
        "number = 0",
        "number = 256",
        &["13:10: lun[0].number: 256 is out of range; write a number from 0 to 255"],
    ),
    (
        "number = 0",
        "number = -1",
        &["13:10: lun[0].number: -1 is out of range; write a number from 0 to 255"],
    ),
    (
        "\"1 GiB\"",
        "\"1 GB\"",
        &[
            "15:8: lun[0].size: \"1 GB\" is not a size: its unit is not known; the units are B, KiB, MiB, GiB and TiB, \
             each 1024 times the one before",
        ],
    ),
    (
        "\"1 GiB\"",
        "1000",
        &[
            "15:8: lun[0].size: \"1000\" is not a size: it is not a multiple of 512 bytes, the logical block; round it \
             to a multiple of 512, or write it in KiB, MiB or GiB",
        ],
    ),
    (
        "\"1 GiB\"",
        "-512",
        &[
            "15:8: lun[0].size: \"-512\" is not a size: it does not begin with a whole number; write, for instance, \
             \"100 GiB\", \"512 MiB\", or a number of bytes",
        ],
    ),
    (
        "\"1 GiB\"",
        "1.5",
        &[
            "15:8: lun[0].size: a fraction stands where a size is needed; write, for instance, `size = \"1 GiB\"`",
        ],
    ),
    (
        "iqn.2026-11.com.example:demo",
        "demo",
        &[
            "2:7: appliance.iqn: \"demo\" is not an iSCSI name: the name does not begin with iqn., eui. or naa.; \
             write, for instance, \"iqn.2026-11.com.example:demo\", with a domain of your own",
        ],
    ),
    (
        "\"data0\"",
        "\"../data\"",
        &[
            "14:8: lun[0].name: \"../data\" cannot be a name: it becomes part of a file name; use 1 to 64 lower-case \
             letters, digits, `-`, `_` and `.`, beginning with a letter or a digit",
        ],
    ),
    (
        "[\"127.0.0.1:3260\"]",
        "\"127.0.0.1:3260\"",
        &[
            "6:11: controller[0].portals: a text in quotes stands where a list of texts in quotes is needed; write, \
             for instance, `portals = [\"127.0.0.1:3260\"]`",
        ],
    ),
    (
        "[\"127.0.0.1:3260\"]",
        "[]",
        &[
            "6:11: controller[0].portals: is an empty list; write, for instance, `portals = [\"127.0.0.1:3260\"]`",
        ],
    ),
    (
        "127.0.0.1:3260",
        "localhost:3260",
        &[
            "6:12: controller[0].portals: \"localhost:3260\" is not an IP address with a port; write, for instance, \
             \"192.0.2.10:3260\" or \"[2001:db8::10]:3260\"",
        ],
    ),
    (
        "127.0.0.1:3260",
        "127.0.0.1:0",
        &[
            "6:12: controller[0].portals: 127.0.0.1:0 leaves the port to chance; name a port: hosts and the other \
             controller must find it again; 3260 is iSCSI's own",
        ],
    ),
    (
        "127.0.0.1:3271",
        "127.0.0.1:3260",
        &[
            "11:13: controller[1].interlink: 127.0.0.1:3260 is already used by controller[0].portals (line 6, column \
             12); give each portal and interlink an address or port of its own",
        ],
    ),
    (
        "name = \"beta\"",
        "name = \"alpha\"",
        &[
            "9:8: controller[1].name: \"alpha\" is already used by controller[0] (line 5, column 8); give each its own",
        ],
    ),
    (
        "main = \"alpha\"",
        "main = \"gamma\"",
        &[
            "16:8: lun[0].main: \"gamma\" is not the name of a controller; the controllers are `alpha` and `beta`",
        ],
    ),
    ("main = \"alpha\"\n", "", &["12:1: lun[0].main: is missing; add `main = \"alpha\"`"]),
    (
        "127.0.0.1:3260",
        "192.0.2.10:3260",
        &[
            "6:12: controller[0].portals: 192.0.2.10:3260 is not loopback: every machine that reaches it could read \
             and overwrite the LUNs; name every host that may log in in an [[access.host]] section with a CHAP secret; \
             or, if the network is closed, say so with `open = true` in [access]; otherwise use a loopback address",
        ],
    ),
    (
        "[appliance]",
        "[access]\nplain_interlink = \"no\"\n[appliance]",
        &[
            "2:19: access.plain_interlink: a text in quotes stands where true or false is needed; write, for instance, \
             `plain_interlink = true`",
        ],
    ),
    (
        "127.0.0.1:3271",
        "0.0.0.0:3271",
        &[
            "11:13: controller[1].interlink: 0.0.0.0:3271 listens everywhere, so the other controller cannot be told \
             where that is; name the address the other controller reaches this one by",
        ],
    ),
    (
        "[appliance]",
        "[witness]\netcd = [\"http://127.0.0.1:2379\"]\n[appliance]",
        &[
            "1:1: witness: is not available yet; remove the [witness] section; without one, a controller that was \
             running when the pair broke goes on if it is main, and the other waits for an operator",
        ],
    ),
];

/// Rows whose text is added at the end, inside `[[lun]]`.
const WRONG_AT_THE_END: &[(&str, &[&str])] = &[
    (
        "mode = \"async\"",
        &["17:8: lun[0].mode: is not available yet; remove this key or set `mode = \"sync\"`"],
    ),
    (
        "mode = \"fast\"",
        &[
            "17:8: lun[0].mode: \"fast\" is not one of its values; write one of \"sync\", \"semi-sync\", \"async\", \
             \"adaptive\"",
        ],
    ),
    (
        "communication_volume = \"file\"",
        &[
            "17:24: lun[0].communication_volume: is not available yet; remove this key or set `communication_volume = \
             \"memory\"`",
        ],
    ),
    (
        "arbitration = \"symmetric\"",
        &["17:15: lun[0].arbitration: is not available yet; remove this key or set `arbitration = \"main\"`"],
    ),
    (
        "group = \"DB 1\"",
        &[
            "17:9: lun[0].group: \"DB 1\" cannot be the name of a group; use 1 to 64 lower-case letters, digits, `-`, \
             `_` and `.`, beginning with a letter or a digit",
        ],
    ),
    (
        "write_cache = true",
        &[
            "17:15: lun[0].write_cache: true or false stands where a text in quotes is needed; write, for instance, \
             `write_cache = \"off\"`",
        ],
    ),
    (
        "read_only = \"yes\"",
        &[
            "17:13: lun[0].read_only: a text in quotes stands where true or false is needed; write, for instance, \
             `read_only = true`",
        ],
    ),
    (
        "device = { alpha = \"/dev/a\" }",
        &[
            "17:10: lun[0].device: a mirrored LUN needs a device on both controllers; beta has none; add `beta = \
             \"/dev/…\"` between the braces, or set `mirror = false` if one copy is enough",
        ],
    ),
    (
        "mirror = false\ndevice = { alpha = \"/dev/a\", beta = \"/dev/b\" }",
        &[
            "18:30: lun[0].device: the LUN is not mirrored, so beta keeps no copy and its device would not be used; \
             remove `beta = …`, or remove `mirror = false`",
        ],
    ),
    (
        "device = { alpha = \"/dev/a\", bta = \"/dev/b\" }",
        &[
            "17:10: lun[0].device: a mirrored LUN needs a device on both controllers; beta has none; add `beta = \
             \"/dev/…\"` between the braces, or set `mirror = false` if one copy is enough",
            "17:30: lun[0].device: \"bta\" is not the name of a controller; the controllers are `alpha` and `beta`",
        ],
    ),
    (
        "[[lun]]\nnumber = 0\nname = \"data0\"\nsize = \"1 MiB\"\nmain = \"beta\"",
        &[
            "18:10: lun[1].number: 0 is already used by lun[0] (line 13, column 10); give each its own",
            "19:8: lun[1].name: \"data0\" is already used by lun[0] (line 14, column 8); give each its own",
        ],
    ),
    (
        "device = { alpha = \"/dev/a\", beta = \"/dev/b\" }\n[[lun]]\nnumber = 1\nname = \"d1\"\nmain = \"beta\"\n\
         device = { alpha = \"/dev/b\", beta = \"/dev/b\" }",
        &[
            "22:37: lun[1].device: \"/dev/b\" of beta is already used by lun[0] (line 17, column 37); give each its \
             own",
        ],
    ),
    (
        "[[controller]]\nname = \"gamma\"\nportals = [\"127.0.0.1:1\"]\ninterlink = \"127.0.0.1:2\"",
        &[
            "18:8: controller: an appliance has exactly two controllers; here are 3; write two [[controller]] \
             sections, each with name, portals and interlink",
        ],
    ),
    ("[acess]\nopen = true", &["17:2: acess: there is no such key; did you mean `access`?"]),
];

#[test]
fn each_mistake_is_told_with_place_key_value_and_remedy() {
    assert_eq!(lines(GOOD), Vec::<String>::new());
    for (from, to, expected) in WRONG {
        assert!(GOOD.contains(from), "{from}");
        assert_eq!(&lines(&GOOD.replacen(from, to, 1)), expected, "{to}");
    }
    for (end, expected) in WRONG_AT_THE_END {
        assert_eq!(&lines(&format!("{GOOD}{end}\n")), expected, "{end}");
    }
}

#[test]
fn an_empty_file_is_told_what_a_file_needs() {
    assert_eq!(
        lines(""),
        [
            "1:1: appliance: is missing; add an [appliance] section with `iqn = \"iqn.2026-11.com.example:demo\"`",
            "1:1: controller: is missing; add two [[controller]] sections, each with name, portals and interlink",
            "1:1: lun: is missing; add a [[lun]] section with number, name, size and main",
        ]
    );
}

#[test]
fn everything_left_out_has_its_documented_default() {
    let config = parse(&GOOD.replace("state = \"state\"\n", ""));
    assert_eq!(config.appliance.state, Path::new("/srv/state"));
    assert_eq!(config.control_socket(Side::Second), Path::new("/srv/state/beta/control.sock"));
    let lun = &config.luns[0];
    assert!(lun.mirror && lun.write_cache && !lun.read_only && lun.device.is_none());
    assert_eq!((lun.bytes, lun.main), (Some(1 << 30), Side::First));
    assert_eq!(config.volume_path(lun, Side::First).unwrap(), Path::new("/srv/state/alpha/data0.volume"));
    assert!(!config.access.open && !config.encrypts_interlink());
}

#[test]
fn the_target_name_is_kept_as_hosts_will_send_it() {
    let config = parse(&GOOD.replace("com.example:demo", "com.Example:Demo"));
    assert_eq!(config.appliance.iqn, "iqn.2026-11.com.example:demo");
    assert_eq!(config.appliance.iqn_as_written, "iqn.2026-11.com.Example:Demo");
}

#[test]
fn a_lun_that_is_not_mirrored_has_one_volume() {
    let config = parse(&format!("{GOOD}mirror = false\ndevice = {{ alpha = \"disks/a\" }}\n"));
    let lun = &config.luns[0];
    assert_eq!(config.volume_path(lun, Side::First).unwrap(), Path::new("/srv/disks/a"));
    assert_eq!(config.volume_path(lun, Side::Second), None);
}

#[test]
fn the_plan_of_both_controllers_differs_in_the_side_alone() {
    let config = parse(&format!("{GOOD}write_cache = \"off\"\n"));
    let [first, second] = [Side::First, Side::Second].map(|side| to_plan(&config, side));
    assert_eq!(first.side, Side::First);
    assert_eq!(controller::plan::Plan { side: Side::First, ..second }, first);
    assert_eq!(first.luns[0].blocks, 1 << 21);
    let shared: Vec<String> = first.shared.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        shared,
        [
            "appliance.iqn=iqn.2026-11.com.example:demo",
            "controller.name=alpha, beta",
            "lun.name=data0",
            "lun.data0.number=0",
            "lun.data0.size=1073741824",
            "lun.data0.main=alpha",
            "lun.data0.mirror=true",
            "lun.data0.write_cache=off",
            "lun.data0.read_only=false",
            "lun.data0.physical_block=512",
            "lun./controller.alpha.portals=127.0.0.1:3260",
            "lun./controller.beta.portals=127.0.0.1:3261",
            "lun./access.open=false",
        ]
    );
}

#[test]
fn a_mistake_is_shown_to_people_in_its_place() {
    let mistakes = Config::parse(Path::new("appliance.toml"), &GOOD.replace("1 GiB", "1 GB")).unwrap_err();
    let mut shown = String::new();
    let theme = miette::GraphicalTheme::unicode_nocolor();
    miette::GraphicalReportHandler::new_themed(theme).render_report(&mut shown, &mistakes).unwrap();
    for part in ["appliance.toml:15:8", "size = \"1 GB\"", "its unit is not known", "help: the units are"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
}

#[test]
fn the_shipped_appliance_toml_is_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appliance.toml");
    let config = Config::read(&file).map_err(|wrong| miette::Report::new(wrong).to_string()).unwrap();
    assert_eq!(config.controllers.clone().map(|c| c.name), ["alpha", "beta"]);
    assert!(config.luns[0].mirror);
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(
        at in 0..GOOD.len(), remove in 0..40_usize, insert in "[a-z\"=\\[\\]{}.0-9\n ]{0,8}",
    ) {
        let mut text = GOOD.to_owned();
        text.replace_range(at..(at + remove).min(GOOD.len()), &insert);
        for line in lines(&text) {
            prop_assert!(line.contains(':'));
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        prop_assert!(!lines(&text).is_empty());
    }
}
