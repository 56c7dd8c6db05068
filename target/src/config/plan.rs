//! The configuration in the controller's own terms.

use controller::plan::{BRIDGES_MAX, LunPlan, Plan, Side};
use protocol::block::BLOCK_BYTES;

use super::{Config, Lun};

/// What one controller is handed. It opens one bridge per worker; here one worker per processor is assumed.
#[must_use]
pub fn to_plan(config: &Config, side: Side) -> Plan {
    let workers = std::thread::available_parallelism().map_or(1, |processors| processors.get());
    Plan {
        side,
        names: config.controllers.clone().map(|controller| controller.name),
        luns: config.luns.iter().map(lun_plan).collect(),
        shared: shared(config),
        bridges: u16::try_from(workers).unwrap_or(BRIDGES_MAX).clamp(1, BRIDGES_MAX),
    }
}

fn lun_plan(lun: &Lun) -> LunPlan {
    LunPlan {
        number: lun.number,
        name: lun.name.clone(),
        blocks: lun.bytes.unwrap_or(0) / u64::from(BLOCK_BYTES),
        main: lun.main,
        mirror: lun.mirror,
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
/// each LUN's own keys as `lun.NAME.KEY`. Addresses, state folders and devices are each machine's own affair.
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
        shared.extend(keys.map(|(key, value)| (format!("lun.{}.{key}", lun.name), value)));
    }
    shared
}
