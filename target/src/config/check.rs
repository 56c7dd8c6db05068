//! What only shows when sections are compared: names given twice, listeners in one place, devices that do not
//! fit the mirror, addresses off loopback nobody allowed.

use std::net::{IpAddr, SocketAddr};

use controller::plan::LUNS_MAX;
use toml::Spanned;

use super::mistake::Problem;
use super::reader::Reader;
use super::sections::{Draft, LunDraft, controller_names};

/// Compares the sections with each other.
pub(super) fn across(reader: &mut Reader<'_>, draft: &Draft) {
    controllers(reader, draft);
    addresses(reader, draft);
    advertised(reader, draft);
    access(reader, draft);
    luns(reader, draft);
}

fn controllers(reader: &mut Reader<'_>, draft: &Draft) {
    let found = draft.controllers.len();
    // None at all was noted as a missing section.
    if found != 2 && found != 0 {
        let at = draft.controllers.get(2).or(draft.controllers.first());
        let span = at.and_then(|controller| controller.name.as_ref()).map_or(0..0, Spanned::span);
        reader.mistake("controller".to_owned(), span, Problem::NotTwoControllers { found });
    }
    let names = draft.controllers.iter().enumerate().filter_map(|(i, c)| Some((i, c.name.as_ref()?)));
    twice(reader, "controller", "name", names.map(|(i, name)| (i, name, format!("{:?}", name.get_ref()))));
}

/// Notes every value that an earlier section has as well.
fn twice<'d, T: PartialEq + 'd>(
    reader: &mut Reader<'_>,
    section: &str,
    key: &str,
    values: impl Iterator<Item = (usize, &'d Spanned<T>, String)>,
) {
    let mut seen: Vec<(usize, &Spanned<T>)> = Vec::new();
    for (index, value, found) in values {
        if let Some((first, other)) = seen.iter().find(|(_, other)| other.get_ref() == value.get_ref()) {
            let first = format!("{section}[{first}] ({})", reader.whereabouts(&other.span()));
            reader.mistake(
                format!("{section}[{index}].{key}"),
                value.span(),
                Problem::Twice { found, first },
            );
        } else {
            seen.push((index, value));
        }
    }
}

/// Every listening address with the controller it belongs to and its key.
fn listeners(draft: &Draft) -> impl Iterator<Item = (usize, &'static str, &Spanned<SocketAddr>)> {
    draft.controllers.iter().enumerate().flat_map(|(index, controller)| {
        let portals = controller.portals.iter().map(move |address| (index, "portals", address));
        portals.chain(controller.interlink.iter().map(move |address| (index, "interlink", address)))
    })
}

fn addresses(reader: &mut Reader<'_>, draft: &Draft) {
    let mut seen: Vec<(usize, String, &Spanned<SocketAddr>)> = Vec::new();
    for (index, key, spanned) in listeners(draft) {
        let address = *spanned.get_ref();
        let key = format!("controller[{index}].{key}");
        if let Some((_, first, at)) =
            seen.iter().find(|(other, _, taken)| clash(*taken.get_ref(), address, *other == index))
        {
            let first = format!("{first} ({})", reader.whereabouts(&at.span()));
            let problem = Problem::AddressTwice { address: address.to_string(), first };
            reader.mistake(key, spanned.span(), problem);
        } else {
            seen.push((index, key, spanned));
        }
    }
}

/// Whether two listeners cannot both be. A wildcard takes the port of the whole machine, but of its own family of
/// addresses only, and the two controllers may live on two machines.
fn clash(a: SocketAddr, b: SocketAddr, same_machine: bool) -> bool {
    let wild = |address: SocketAddr| address.ip().is_unspecified();
    let family = a.is_ipv4() == b.is_ipv4();
    a.port() == b.port() && (a.ip() == b.ip() && !wild(a) || same_machine && family && (wild(a) || wild(b)))
}

/// Every address that hosts are told is of one controller only.
fn advertised(reader: &mut Reader<'_>, draft: &Draft) {
    let told = |index: usize| {
        let controller = draft.controllers.get(index);
        controller.map(|controller| controller.advertise.as_slice()).unwrap_or_default()
    };
    let portals = |index: usize| {
        // Where hosts are told something else, the portals are this machine's own affair.
        let controller = draft.controllers.get(index).filter(|_| told(index).is_empty());
        let portals = controller.map(|controller| controller.portals.as_slice()).unwrap_or_default();
        portals.iter().map(|portal| portal.get_ref().to_string())
    };
    for (index, other) in [(0, 1), (1, 0)] {
        for advertised in told(index) {
            let text = advertised.get_ref();
            let is = |other: &str| match (other.parse::<SocketAddr>(), text.parse::<SocketAddr>()) {
                (Ok(other), Ok(own)) => other == own,
                _ => other.eq_ignore_ascii_case(text),
            };
            let first = if index > other && told(other).iter().any(|other| is(other.get_ref())) {
                "advertise"
            } else if portals(other).any(|portal| is(&portal)) {
                "portals"
            } else {
                continue;
            };
            let (key, first) =
                (format!("controller[{index}].advertise"), format!("controller[{other}].{first}"));
            let problem = Problem::AdvertisedTwice { address: text.clone(), first };
            reader.mistake(key, advertised.span(), problem);
        }
    }
}

fn access(reader: &mut Reader<'_>, draft: &Draft) {
    let hosts = &draft.access.hosts;
    let guarded = !hosts.is_empty() && hosts.iter().all(|host| host.chap.is_some());
    for (index, key, spanned) in listeners(draft) {
        let address = *spanned.get_ref();
        if is_loopback(address.ip()) {
            continue;
        }
        let problem = match key {
            "portals" if !draft.access.open && !guarded => Problem::NotOpen(address.to_string()),
            _ => continue,
        };
        reader.mistake(format!("controller[{index}].{key}"), spanned.span(), problem);
    }
}

pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn luns(reader: &mut Reader<'_>, draft: &Draft) {
    let found = draft.luns.len();
    if found > LUNS_MAX {
        let span = draft.luns.get(LUNS_MAX).and_then(|lun| lun.name.as_ref()).map_or(0..0, Spanned::span);
        reader.mistake("lun".to_owned(), span, Problem::TooManyLuns { found, max: LUNS_MAX });
    }
    let names = draft.luns.iter().enumerate().filter_map(|(i, lun)| Some((i, lun.name.as_ref()?)));
    twice(reader, "lun", "name", names.map(|(i, name)| (i, name, format!("{:?}", name.get_ref()))));
    let numbers = draft.luns.iter().enumerate().filter_map(|(i, lun)| Some((i, lun.number.as_ref()?)));
    twice(reader, "lun", "number", numbers.map(|(i, number)| (i, number, number.get_ref().to_string())));
    for (index, lun) in draft.luns.iter().enumerate() {
        references(reader, draft, index, lun);
    }
    groups(reader, draft);
    let names = draft.controllers.iter().filter_map(|controller| controller.name.as_ref());
    for name in names {
        let paths = draft.luns.iter().enumerate().filter_map(|(index, lun)| {
            let (_, path) = lun.device.as_ref()?.of(name.get_ref())?;
            Some((index, path, format!("{:?} of {}", path.get_ref(), name.get_ref())))
        });
        twice(reader, "lun", "device", paths);
    }
}

/// LUNs of a group are served together: what says how, they have in common.
fn groups(reader: &mut Reader<'_>, draft: &Draft) {
    for (index, lun) in draft.luns.iter().enumerate() {
        let Some(group) = &lun.group else { continue };
        let joins =
            |other: &&LunDraft| other.group.as_ref().is_some_and(|of| of.get_ref() == group.get_ref());
        let before = draft.luns[..index].iter().enumerate().find(|(_, other)| joins(other));
        let Some((first, other)) = before else { continue };
        let at = other.group.as_ref().map_or_else(String::new, |of| reader.whereabouts(&of.span()));
        let first = format!("lun[{first}] ({at})");
        let main = |lun: &LunDraft| lun.main.as_ref().map(|main| format!("{:?}", main.get_ref()));
        let differs = match (main(lun), main(other)) {
            (Some(own), Some(their)) if own != their => Some(("main", own, their)),
            _ if lun.mirror != other.mirror => {
                Some(("mirror", lun.mirror.to_string(), other.mirror.to_string()))
            }
            _ => None,
        };
        if let Some((key, own, their)) = differs {
            let problem = Problem::GroupDiffers { group: group.get_ref().clone(), key, own, their, first };
            reader.mistake(format!("lun[{index}].group"), group.span(), problem);
        }
    }
}

/// The names of controllers in one `[[lun]]`: its main and its devices.
fn references(reader: &mut Reader<'_>, draft: &Draft, index: usize, lun: &LunDraft) {
    let names: Vec<&String> =
        draft.controllers.iter().filter_map(|c| c.name.as_ref()).map(Spanned::get_ref).collect();
    // With a controller's name missing or wrong every reference would be a mistake as well.
    if names.len() != 2 || draft.controllers.len() != 2 {
        return;
    }
    let device_names = lun.device.iter().flat_map(|device| device.paths.iter().map(|(name, _)| name));
    let main = lun.main.iter().map(|main| ("main", main));
    for (key, name) in main.chain(device_names.map(|name| ("device", name))) {
        if !names.contains(&name.get_ref()) {
            let problem =
                Problem::NoSuchController { found: name.get_ref().clone(), known: controller_names(draft) };
            reader.mistake(format!("lun[{index}].{key}"), name.span(), problem);
        }
    }
    let Some(device) = &lun.device else { return };
    for name in names {
        let is_main = lun.main.as_ref().is_some_and(|main| main.get_ref() == name);
        let key = format!("lun[{index}].device");
        match device.of(name) {
            None if lun.mirror || is_main => {
                let problem = Problem::DeviceMissing { missing: name.clone() };
                reader.mistake(key, device.span.clone(), problem);
            }
            Some((at, _)) if !lun.mirror && !is_main => {
                let problem = Problem::DeviceUnused { controller: name.clone() };
                reader.mistake(key, at.span(), problem);
            }
            _ => {}
        }
    }
}
