//! The configuration in the controller's own terms.

use controller::plan::{BRIDGES_MAX, LunPlan, Plan, Side, TOLD};
use controller::volume::stack::VolumeId;
use protocol::block::BLOCK_BYTES;

use sha2::{Digest, Sha256};

use super::{Chap, Config, Host, Lun};
use crate::runtime::access::DISCOVERY_USER;

/// What one controller is handed. It opens one bridge per worker; here one worker per processor is assumed.
#[must_use]
pub fn to_plan(config: &Config, side: Side) -> Plan {
    let workers = std::thread::available_parallelism().map_or(1, |processors| processors.get());
    Plan {
        side,
        names: config.controllers.clone().map(|controller| controller.name),
        luns: config.luns.iter().zip(0..).map(|(lun, base)| lun_plan(lun, VolumeId(base))).collect(),
        shared: shared(config),
        bridges: u16::try_from(workers).unwrap_or(BRIDGES_MAX).clamp(1, BRIDGES_MAX),
    }
}

fn lun_plan(lun: &Lun, base: VolumeId) -> LunPlan {
    LunPlan {
        number: lun.number,
        name: lun.name.clone(),
        base,
        blocks: lun.bytes.unwrap_or(0) / u64::from(BLOCK_BYTES),
        main: lun.main,
        mirror: lun.mirror,
        group: lun.group.clone(),
        write_cache: lun.write_cache,
        read_only: lun.read_only,
        physical_block_exponent: physical_block_exponent(lun.physical_block_bytes),
        device: lun.device.is_some(),
        room: None,
    }
}

/// The exponent of the power of two that counts the logical blocks of a physical one.
fn physical_block_exponent(bytes: u32) -> u8 {
    // At most 31.
    (bytes / BLOCK_BYTES).checked_ilog2().unwrap_or(0) as u8
}

/// The part both machines must agree on: the target name, the controllers' names, the LUNs and their order, then
/// each LUN's own keys as `lun.NAME.KEY`. Who may log in and where hosts are told to go is told where it differs.
/// Interlink addresses, state folders and devices are each machine's own affair.
fn shared(config: &Config) -> Vec<(String, String)> {
    let [first, second] = &config.controllers;
    let names: Vec<&str> = config.luns.iter().map(|lun| lun.name.as_str()).collect();
    let mut shared = vec![
        ("appliance.iqn".to_owned(), config.appliance.iqn.clone()),
        ("controller.name".to_owned(), format!("{}, {}", first.name, second.name)),
        ("lun.name".to_owned(), names.join(", ")),
    ];
    for lun in &config.luns {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let keys = [
            ("number", lun.number.to_string()),
            ("size", lun.bytes.map_or_else(|| "the device's".to_owned(), |bytes| bytes.to_string())),
            ("main", config.controller(lun.main).name.clone()),
            ("mirror", lun.mirror.to_string()),
            ("write_cache", on_off(lun.write_cache)),
            ("read_only", lun.read_only.to_string()),
            ("physical_block", lun.physical_block_bytes.to_string()),
        ];
        // A release that knows no groups has no such key: a LUN that is in one is not served together with it.
        let group = lun.group.iter().map(|group| ("group", group.clone()));
        let keys = keys.into_iter().chain(group);
        shared.extend(keys.map(|(key, value)| (format!("lun.{}.{key}", lun.name), value)));
    }
    shared.extend(told(config).into_iter().map(|(key, value)| (format!("{TOLD}{key}"), value)));
    shared
}

/// Bytes of hosts' keys and values that are compared one by one; what is beyond is compared by a digest.
const HOSTS_TOLD_BYTES: usize = 64 << 10;

/// Who may log in, and where hosts are told to go. Never a secret, and not where it is kept.
fn told(config: &Config) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for controller in &config.controllers {
        let portals: Vec<String> = controller.portals.iter().map(ToString::to_string).collect();
        let key = |key: &str| format!("controller.{}.{key}", controller.name);
        told.push((key("portals"), portals.join(" ")));
        if !controller.advertise.is_empty() {
            told.push((key("advertise"), controller.advertise.join(" ")));
        }
    }
    told.push(("access.open".to_owned(), config.access.open.to_string()));
    if let Some(chap) = &config.access.discovery {
        told.push((
            "access.discovery".to_owned(),
            proof(chap, DISCOVERY_USER, &config.appliance.iqn_as_written),
        ));
    }
    let mut room = HOSTS_TOLD_BYTES;
    let mut rest = Sha256::new();
    let mut left = 0;
    let mut hosts: Vec<&Host> = config.access.hosts.iter().collect();
    hosts.sort_by(|one, other| one.name.cmp(&other.name));
    for host in hosts {
        let (key, value) = (format!("access.host.{}", host.name), describe(config, host));
        match room.checked_sub(key.len() + value.len()) {
            Some(less) if left == 0 => {
                room = less;
                told.push((key, value));
            }
            _ => {
                left += 1;
                rest.update(format!("{key}={value}\n"));
            }
        }
    }
    if left > 0 {
        let digest: String = rest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        told.push(("access.host (those after)".to_owned(), format!("{left} hosts ({digest})")));
    }
    told
}

/// What a host has to prove, and which LUNs it sees.
fn describe(config: &Config, host: &Host) -> String {
    let proof = host.chap.as_ref().map_or_else(
        || "without a proof".to_owned(),
        |chap| proof(chap, &host.name, &config.appliance.iqn_as_written),
    );
    let luns = host.luns.as_ref().map_or_else(
        || "all LUNs".to_owned(),
        |luns| {
            let mut luns = luns.clone();
            luns.sort_unstable();
            luns.dedup();
            let numbers: Vec<String> = luns.iter().map(ToString::to_string).collect();
            if luns.is_empty() { "no LUN".to_owned() } else { format!("LUN {}", numbers.join(", ")) }
        },
    );
    format!("{proof}, {luns}")
}

/// Who proves to be whom.
fn proof(chap: &Chap, user: &str, own_user: &str) -> String {
    let user = chap.user.as_deref().unwrap_or(user);
    match &chap.own_secret {
        None => format!("as {user:?}"),
        Some(_) => format!("as {user:?}, the target as {:?}", chap.own_user.as_deref().unwrap_or(own_user)),
    }
}
