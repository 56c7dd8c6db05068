//! Addresses: where to listen, and what hosts are told.

use super::*;

#[test]
fn a_wildcard_portal_needs_advertise_and_hosts_are_told_that_address() {
    let open = format!("{GOOD}[access]\nopen = true\n").replace("127.0.0.1:3260", "0.0.0.0:3260");
    assert_eq!(
        lines(&open),
        [
            "6:12: controller[0].portals: 0.0.0.0:3260 listens everywhere, so hosts cannot be told where that is; \
          add `advertise = [\"ADDRESS:PORT\"]` with the addresses hosts shall use, or name the addresses in `portals`"
        ]
    );
    let advertised =
        open.replace("name = \"alpha\"\np", "name = \"alpha\"\nadvertise = [\"192.0.2.10:3260\"]\np");
    assert_eq!(parse(&advertised).controllers[0].addresses(), ["192.0.2.10:3260"]);
    let wrong = advertised.replace("192.0.2.10:3260", "0.0.0.0:3260");
    assert_eq!(
        lines(&wrong),
        [
            "6:14: controller[0].advertise: \"0.0.0.0:3260\" is not an address with a port; write what hosts shall \
          connect to, for instance \"192.0.2.10:3260\" or \"storage-a.example.com:3260\""
        ]
    );
}

#[test]
fn addresses_off_loopback_are_taken_once_the_file_says_so() {
    let off = GOOD.replace("127.0.0.1:32", "192.0.2.10:32");
    assert_eq!(lines(&off).len(), 2);
    assert_eq!(lines(&format!("{off}[access]\nopen = true\n")), Vec::<String>::new());
}

#[test]
fn the_interlink_is_encrypted_off_loopback_and_wherever_the_file_says_so() {
    let off = GOOD.replace("127.0.0.1:3271", "192.0.2.10:3271");
    for (text, says, encrypted) in [
        (GOOD, "", false),
        (GOOD, "[access]\nplain_interlink = true\n", false),
        (GOOD, "[access]\nplain_interlink = false\n", true),
        (&off, "", true),
        (&off, "[access]\nplain_interlink = false\n", true),
        (&off, "[access]\nplain_interlink = true\n", false),
    ] {
        let config = parse(&format!("{text}{says}"));
        assert_eq!(config.encrypts_interlink(), encrypted, "{text}{says}");
    }
}

#[test]
fn both_controllers_may_listen_everywhere_on_machines_of_their_own() {
    let wild = |host: &str| format!("portals = [\"0.0.0.0:3260\"]\nadvertise = [\"{host}:3260\"]");
    let text = GOOD
        .replace("portals = [\"127.0.0.1:3260\"]", &wild("192.0.2.10"))
        .replace("portals = [\"127.0.0.1:3261\"]", &wild("192.0.2.11"));
    assert_eq!(lines(&format!("{text}[access]\nopen = true\n")), Vec::<String>::new());
}

#[test]
fn a_controller_may_listen_everywhere_in_both_families_of_addresses() {
    let both = "portals = [\"0.0.0.0:3260\", \"[::]:3260\"]\nadvertise = \"192.0.2.10:3260\"";
    let text = GOOD.replace("portals = [\"127.0.0.1:3260\"]", both);
    assert_eq!(lines(&format!("{text}[access]\nopen = true\n")), Vec::<String>::new());
    let twice = text.replace("[::]:3260", "192.0.2.10:3260") + "[access]\nopen = true\n";
    assert!(lines(&twice)[0].contains("is already used by controller[0].portals"), "{:?}", lines(&twice));
}

#[test]
fn no_address_is_told_hosts_for_both_controllers() {
    let tell = |first: &str, second: &str| {
        let told = |list: &str| if list.is_empty() { String::new() } else { format!("advertise = {list}\n") };
        let text = GOOD
            .replace("name = \"alpha\"\n", &format!("name = \"alpha\"\n{}", told(first)))
            .replace("name = \"beta\"\n", &format!("name = \"beta\"\n{}", told(second)));
        lines(&text)
    };
    let one = r#""192.0.2.10:3260""#;
    let twice = tell(one, r#"["192.0.2.11:3260", "192.0.2.10:3260"]"#);
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(
        twice[0].contains("controller[1].advertise: hosts are told 192.0.2.10:3260 for the other"),
        "{twice:?}"
    );
    assert!(twice[0].contains("by controller[0].advertise"), "{twice:?}");
    assert_eq!(tell(r#""Nas:3260""#, r#""nas:3260""#).len(), 1);
    let portal = tell("", r#""127.0.0.1:3260""#);
    assert!(portal[0].contains("by controller[0].portals"), "{portal:?}");
    assert_eq!(tell(one, r#""192.0.2.10:3261""#), Vec::<String>::new());
    // What alpha listens on is not what hosts are told of it.
    assert_eq!(tell(one, r#""127.0.0.1:3260""#), Vec::<String>::new());
}

#[test]
fn a_link_local_address_has_its_zone_where_it_is_listened_on_and_none_where_hosts_are_told_it() {
    let portal = |address: &str| GOOD.replace("127.0.0.1:3260", address) + "[access]\nopen = true\n";
    assert_eq!(lines(&portal("[fe80::1%2]:3260")), Vec::<String>::new());
    let missing = lines(&portal("[fe80::1]:3260"));
    assert!(
        missing[0].contains("controller[0].portals: [fe80::1]:3260 is a link-local address"),
        "{missing:?}"
    );
    let interlink = lines(&GOOD.replace("127.0.0.1:3270", "[fe80::1]:3270"));
    assert!(
        interlink[0].contains("controller[0].interlink: [fe80::1]:3270 is a link-local"),
        "{interlink:?}"
    );
    for advertised in ["[fe80::1%2]:3260", "[2001:db8::1]", "2001:db8::1", "nas"] {
        let text =
            GOOD.replace("name = \"alpha\"\n", &format!("name = \"alpha\"\nadvertise = \"{advertised}\"\n"));
        assert!(
            lines(&text)[0].contains("is not an address with a port"),
            "{advertised}: {:?}",
            lines(&text)
        );
    }
}
