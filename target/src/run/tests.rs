//! Tests of starting and ending controllers in this process.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::*;

/// Addresses nobody listens on.
fn free_addresses() -> [String; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

fn config(folder: &Path) -> Config {
    let [alpha, alpha_link, beta, beta_link] = free_addresses();
    let text = format!(
        r#"
        [appliance]
        iqn = "iqn.2026-11.com.example:demo"
        state = "state"
        [[controller]]
        name = "alpha"
        portals = ["{alpha}"]
        interlink = "{alpha_link}"
        [[controller]]
        name = "beta"
        portals = ["{beta}"]
        interlink = "{beta_link}"
        [[lun]]
        number = 0
        name = "data0"
        size = "8 MiB"
        main = "alpha"
        "#
    );
    Config::parse(&folder.join("appliance.toml"), &text).unwrap()
}

fn ask(config: &Config, side: Side, request: &str) -> serde_json::Value {
    let mut socket = UnixStream::connect(config.control_socket(side)).unwrap();
    writeln!(socket, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_controller_answers_on_its_control_socket_and_leaves_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let appliance = Appliance::start_with_workers(&config, &[Side::First, Side::Second], 2).unwrap();
    for side in [Side::First, Side::Second] {
        let permissions = std::fs::metadata(config.control_socket(side)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        assert!(ask(&config, side, "status").get("interlink").is_some());
        assert!(ask(&config, side, "dance").get("error").is_some());
    }
    assert_eq!(appliance.stop(), Stopped::Clean);
    assert!(!config.control_socket(Side::First).exists());
}

#[test]
fn a_controller_that_runs_already_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = Appliance::start_with_workers(&config, &[Side::First], 1).unwrap();
    let again = Appliance::start_with_workers(&config, &[Side::First], 1);
    assert!(matches!(again, Err(StartError::Lock(LockError::Held { .. }))));
    let other = Appliance::start_with_workers(&config, &[Side::Second], 1).unwrap();
    assert_eq!((first.stop(), other.stop()), (Stopped::Clean, Stopped::Clean));
    let again = Appliance::start_with_workers(&config, &[Side::First], 1).unwrap();
    assert_eq!(again.stop(), Stopped::Clean);
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let portal = config.controllers[0].portals[0];
    let _other = TcpListener::bind(portal).unwrap();
    let error = Appliance::start_with_workers(&config, &[Side::First], 1).err().unwrap();
    assert!(error.to_string().contains(&portal.to_string()), "{error}");
}
