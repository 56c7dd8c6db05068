//! The sections of appliance.toml one by one: which keys each has, what they may say, and what they mean when
//! they are left out.

use core::ops::Range;
use std::net::SocketAddr;
use std::path::Path;

use controller::plan::Side;
use protocol::iscsi::names::IscsiName;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::hosts::access;
use super::mistake::Problem;
use super::reader::{Key, Reader, Section, list};
use super::size::{SizeProblem, check_size, parse_size};
use super::{Access, Appliance, Config, Controller, Lun, SecretPlace};
use crate::iscsi::session::text::is_link_local;

/// The highest LUN number: what the simple peripheral addressing of SAM-5 section 4.7.7.2 can tell.
pub(super) const LUN_NUMBER_MAX: u16 = 255;

pub(super) const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

const DOCUMENT: &[Key] = &[
    key("appliance", "an [appliance] section with `iqn = \"iqn.2026-11.com.example:demo\"`"),
    key("controller", "two [[controller]] sections, each with name, portals and interlink"),
    key("lun", "a [[lun]] section with number, name, size and main"),
    key("witness", "[witness]"),
    key("access", "[access]"),
];

const APPLIANCE: &[Key] =
    &[key("iqn", "`iqn = \"iqn.2026-11.com.example:demo\"`"), key("state", "`state = \"state\"`")];

const CONTROLLER: &[Key] = &[
    key("name", "`name = \"alpha\"`"),
    key("portals", "`portals = [\"127.0.0.1:3260\"]`"),
    key("advertise", "`advertise = [\"192.0.2.10:3260\"]`"),
    key("interlink", "`interlink = \"127.0.0.1:3270\"`"),
];

const LUN: &[Key] = &[
    key("number", "`number = 0`"),
    key("name", "`name = \"data0\"`"),
    key("size", "`size = \"1 GiB\"`"),
    key("main", "`main = \"alpha\"`"),
    key("device", "`device = { alpha = \"/dev/vg0/data0\", beta = \"/dev/vg1/data0\" }`"),
    key("mirror", "`mirror = false`"),
    key("mode", "`mode = \"sync\"`"),
    key("write_cache", "`write_cache = \"off\"`"),
    key("read_only", "`read_only = true`"),
    key("physical_block", "`physical_block = \"4 KiB\"`"),
    key("communication_volume", "`communication_volume = \"memory\"`"),
    key("arbitration", "`arbitration = \"main\"`"),
    key("group", "`group = \"database\"`"),
];

/// Keys of `[[lun]]` of which only the first value has something behind it so far, and what to do instead.
const ONE_VALUE_YET: &[(&str, &[&str], &str)] = &[
    ("mode", &["sync", "semi-sync", "async", "adaptive"], "remove this key or set `mode = \"sync\"`"),
    (
        "communication_volume",
        &["memory", "file", "subvolume"],
        "remove this key or set `communication_volume = \"memory\"`",
    ),
    ("arbitration", &["main", "symmetric"], "remove this key or set `arbitration = \"main\"`"),
];

/// What the file says, with positions, before sections are compared with each other. `None`: missing or wrong,
/// and noted as a mistake.
pub(super) struct Draft {
    pub(super) iqn: Option<Iqn>,
    pub(super) state: String,
    pub(super) controllers: Vec<ControllerDraft>,
    pub(super) luns: Vec<LunDraft>,
    pub(super) access: Access,
}

/// The target name: in lower case, and as the file writes it.
pub(super) struct Iqn {
    folded: String,
    written: String,
}

pub(super) struct ControllerDraft {
    pub(super) name: Option<Spanned<String>>,
    pub(super) portals: Vec<Spanned<SocketAddr>>,
    pub(super) advertise: Vec<Spanned<String>>,
    pub(super) interlink: Vec<Spanned<SocketAddr>>,
}

pub(super) struct LunDraft {
    pub(super) number: Option<Spanned<u16>>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) bytes: Option<u64>,
    pub(super) main: Option<Spanned<String>>,
    pub(super) mirror: bool,
    pub(super) group: Option<Spanned<String>>,
    pub(super) write_cache: bool,
    pub(super) read_only: bool,
    pub(super) physical_block_bytes: u32,
    pub(super) device: Option<DeviceDraft>,
}

/// `device = { … }`: where it stands, and each controller's name with its path.
pub(super) struct DeviceDraft {
    pub(super) span: Range<usize>,
    pub(super) paths: Vec<(Spanned<String>, Spanned<String>)>,
}

impl DeviceDraft {
    /// The device of the controller of that name.
    pub(super) fn of(&self, controller: &str) -> Option<&(Spanned<String>, Spanned<String>)> {
        self.paths.iter().find(|(name, _)| name.get_ref() == controller)
    }
}

impl Draft {
    /// The checked configuration; paths are taken relative to `folder`.
    pub(super) fn finish(self, folder: &Path) -> Option<Config> {
        let mut controllers = self.controllers.into_iter().map(|draft| {
            Some(Controller {
                name: draft.name?.into_inner(),
                portals: draft.portals.into_iter().map(Spanned::into_inner).collect(),
                advertise: draft.advertise.into_iter().map(Spanned::into_inner).collect(),
                interlink: draft.interlink.into_iter().map(Spanned::into_inner).collect(),
            })
        });
        let controllers = [controllers.next()??, controllers.next()??];
        let luns: Option<Vec<Lun>> = self
            .luns
            .into_iter()
            .map(|draft| {
                let main = draft.main?;
                let second = *main.get_ref() == controllers[1].name;
                let device = draft.device.map(|device| {
                    [0, 1].map(|side: usize| {
                        device.of(&controllers[side].name).map(|(_, path)| folder.join(path.get_ref()))
                    })
                });
                Some(Lun {
                    number: draft.number?.into_inner(),
                    name: draft.name?.into_inner(),
                    bytes: draft.bytes,
                    main: if second { Side::Second } else { Side::First },
                    mirror: draft.mirror,
                    group: draft.group.map(Spanned::into_inner),
                    write_cache: draft.write_cache,
                    read_only: draft.read_only,
                    physical_block_bytes: draft.physical_block_bytes,
                    device,
                })
            })
            .collect();
        let Iqn { folded: iqn, written: iqn_as_written } = self.iqn?;
        let appliance = Appliance { iqn, iqn_as_written, state: folder.join(self.state) };
        let mut access = self.access;
        let chaps = access.hosts.iter_mut().filter_map(|host| host.chap.as_mut());
        for chap in chaps.chain(access.discovery.as_mut()) {
            for place in [Some(&mut chap.secret), chap.own_secret.as_mut()].into_iter().flatten() {
                if let SecretPlace::File(path) = place {
                    *path = folder.join(&*path);
                }
            }
        }
        Some(Config { appliance, controllers, luns: luns?, access })
    }
}

/// Reads every section of the document.
pub(super) fn read<'t>(reader: &mut Reader<'t>, root: &Spanned<DeTable<'t>>) -> Draft {
    let document = reader.section(String::new(), 0..0, DOCUMENT, root.get_ref());
    if let Some(witness) = reader.optional(&document, "witness") {
        let remedy = "remove the [witness] section; without one, a controller that was running when the pair \
                      broke goes on if it is main, and the other waits for an operator";
        reader.mistake("witness".to_owned(), witness.span(), Problem::NotYet { remedy });
    }
    let (iqn, state) = appliance(reader, &document);
    let controllers = tables(reader, &document, "controller").into_iter().map(|(path, span, table)| {
        let section = reader.section(path, span, CONTROLLER, table);
        controller(reader, &section)
    });
    let controllers = controllers.collect();
    let luns = tables(reader, &document, "lun").into_iter().map(|(path, span, table)| {
        let section = reader.section(path, span, LUN, table);
        lun(reader, &section)
    });
    let luns: Vec<LunDraft> = luns.collect();
    let access = access(reader, &document, &luns);
    Draft { iqn, state, controllers, luns, access }
}

/// The tables of `[[name]]`, each with its path for mistakes and its place.
pub(super) fn tables<'a, 't>(
    reader: &mut Reader<'t>,
    document: &Section<'a, 't>,
    name: &str,
) -> Vec<(String, Range<usize>, &'a DeTable<'t>)> {
    let Some(value) = reader.required(document, name) else { return Vec::new() };
    let items: &DeArray<'t> = match value.get_ref() {
        DeValue::Array(items) => items,
        _ => {
            reader.wrong_kind(document, name, value, "a section in double brackets");
            return Vec::new();
        }
    };
    let mut tables = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match item.get_ref() {
            DeValue::Table(table) => tables.push((format!("{name}[{index}]"), item.span(), table)),
            _ => reader.wrong_kind(document, name, item, "a section in double brackets"),
        }
    }
    tables
}

/// The table of `[name]`.
pub(super) fn table<'a, 't>(
    reader: &mut Reader<'t>,
    document: &Section<'a, 't>,
    name: &str,
    keys: &'static [Key],
    value: &'a Spanned<DeValue<'t>>,
) -> Option<Section<'a, 't>> {
    if let DeValue::Table(table) = value.get_ref() {
        Some(reader.section(name.to_owned(), value.span(), keys, table))
    } else {
        reader.wrong_kind(document, name, value, "a section");
        None
    }
}

fn appliance<'t>(reader: &mut Reader<'t>, document: &Section<'_, 't>) -> (Option<Iqn>, String) {
    let section = reader
        .required(document, "appliance")
        .and_then(|value| table(reader, document, "appliance", APPLIANCE, value));
    let Some(section) = section else { return (None, String::new()) };
    let iqn = reader.text(&section, "iqn").and_then(|iqn| {
        let found = iqn.get_ref();
        let both = |name: IscsiName| Iqn { folded: name.as_str().to_owned(), written: found.clone() };
        let name = IscsiName::parse(found).map(both);
        let wrong = |problem| Problem::NotAnIscsiName { found: found.clone(), problem };
        name.map_err(|problem| reader.mistake(section.key("iqn"), iqn.span(), wrong(problem))).ok()
    });
    let state = reader.optional_text(&section, "state");
    (iqn, state.map_or_else(|| "state".to_owned(), Spanned::into_inner))
}

fn controller<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> ControllerDraft {
    let name = name(reader, section);
    let mut portals = Vec::new();
    if let Some(value) = reader.required(section, "portals") {
        portals = addresses(reader, section, "portals", value, false);
    }
    let mut advertise = Vec::new();
    if let Some(value) = reader.optional(section, "advertise") {
        advertise = advertised(reader, section, value);
    } else if let Some(wild) = portals.iter().find(|portal| portal.get_ref().ip().is_unspecified()) {
        reader.mistake(
            section.key("portals"),
            wild.span(),
            Problem::WildcardPortal(wild.get_ref().to_string()),
        );
    }
    let mut interlink = Vec::new();
    if let Some(value) = reader.required(section, "interlink") {
        interlink = addresses(reader, section, "interlink", value, true);
    }
    for wild in interlink.iter().filter(|address| address.get_ref().ip().is_unspecified()) {
        let problem = Problem::WildcardInterlink(wild.get_ref().to_string());
        reader.mistake(section.key("interlink"), wild.span(), problem);
    }
    ControllerDraft { name, portals, advertise, interlink }
}

/// `name` of a controller or a LUN: becomes part of a file name.
fn name<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> Option<Spanned<String>> {
    let name = reader.text(section, "name")?;
    plain_name(reader, section, "name", name, Problem::NotAName)
}

/// A name of letters that may stand in the names of files.
fn plain_name<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    key: &str,
    name: Spanned<String>,
    problem: fn(String) -> Problem,
) -> Option<Spanned<String>> {
    let word = name.get_ref();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = (1..=64).contains(&word.len())
        && word.bytes().next().is_some_and(plain)
        && word.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte));
    if !good {
        reader.mistake(section.key(key), name.span(), problem(word.clone()));
        return None;
    }
    Some(name)
}

fn addresses<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    key: &str,
    value: &Spanned<DeValue<'t>>,
    single: bool,
) -> Vec<Spanned<SocketAddr>> {
    let mut addresses = Vec::new();
    for text in reader.texts(section, key, value, single) {
        match text.get_ref().parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                reader.mistake(section.key(key), text.span(), Problem::PortZero(address.to_string()));
            }
            Ok(address) if is_link_local(address.ip()) && zone(address) == 0 => {
                let problem = Problem::NoZone(address.to_string());
                reader.mistake(section.key(key), text.span(), problem);
            }
            Ok(address) => addresses.push(Spanned::new(text.span(), address)),
            Err(_) => {
                let problem = Problem::NotAnAddress(text.get_ref().clone());
                reader.mistake(section.key(key), text.span(), problem);
            }
        }
    }
    addresses
}

/// `advertise`: what hosts are told; a name is allowed, a wildcard is not.
fn advertised<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    value: &Spanned<DeValue<'t>>,
) -> Vec<Spanned<String>> {
    let good = |text: &str| match text.parse::<SocketAddr>() {
        // A zone's number is this machine's own: no host could make use of it.
        Ok(address) => address.port() != 0 && !address.ip().is_unspecified() && zone(address) == 0,
        Err(_) => text.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok_and(|port| port != 0)
                && !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        }),
    };
    let texts = reader.texts(section, "advertise", value, true);
    for text in texts.iter().filter(|text| !good(text.get_ref())) {
        let problem = Problem::NotAnAdvertisement(text.get_ref().clone());
        reader.mistake(section.key("advertise"), text.span(), problem);
    }
    texts
}

/// The zone that an address names, zero for none.
const fn zone(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

fn lun<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> LunDraft {
    for (name, choices, remedy) in ONE_VALUE_YET {
        if reader.choice(section, name, choices) != 0
            && let Some(value) = reader.optional(section, name)
        {
            reader.mistake(section.key(name), value.span(), Problem::NotYet { remedy });
        }
    }
    let device = reader.optional(section, "device").and_then(|value| devices(reader, section, value));
    let size = if reader.optional(section, "device").is_some() {
        reader.optional(section, "size")
    } else {
        reader.required(section, "size")
    };
    LunDraft {
        number: number(reader, section),
        name: name(reader, section),
        bytes: size.and_then(|value| bytes(reader, section, value)),
        main: reader.text(section, "main"),
        mirror: reader.switch(section, "mirror", true),
        group: reader
            .optional_text(section, "group")
            .and_then(|name| plain_name(reader, section, "group", name, Problem::NotAGroup)),
        write_cache: reader.choice(section, "write_cache", &["on", "off"]) == 0,
        read_only: reader.switch(section, "read_only", false),
        physical_block_bytes: match reader.choice(section, "physical_block", &["512 B", "4 KiB"]) {
            0 => 512,
            _ => 4096,
        },
        device,
    }
}

fn number<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> Option<Spanned<u16>> {
    let value = reader.required(section, "number")?;
    let Some(integer) = value.get_ref().as_integer() else {
        reader.wrong_kind(section, "number", value, "a number");
        return None;
    };
    match u16::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if number <= LUN_NUMBER_MAX => Some(Spanned::new(value.span(), number)),
        _ => {
            let problem = Problem::OutOfRange { found: integer.to_string(), max: u64::from(LUN_NUMBER_MAX) };
            reader.mistake(section.key("number"), value.span(), problem);
            None
        }
    }
}

fn bytes<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    value: &Spanned<DeValue<'t>>,
) -> Option<u64> {
    let (found, result) = match value.get_ref() {
        DeValue::String(text) => (text.to_string(), parse_size(text)),
        DeValue::Integer(integer) => {
            let bytes = u64::from_str_radix(integer.as_str(), integer.radix());
            let negative = integer.as_str().starts_with('-');
            let outside = if negative { SizeProblem::NotANumber } else { SizeProblem::TooLarge };
            (integer.to_string(), bytes.map_err(|_| outside).and_then(check_size))
        }
        _ => {
            reader.wrong_kind(section, "size", value, "a size");
            return None;
        }
    };
    result
        .map_err(|problem| {
            reader.mistake(section.key("size"), value.span(), Problem::NotASize { found, problem });
        })
        .ok()
}

fn devices<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    value: &Spanned<DeValue<'t>>,
) -> Option<DeviceDraft> {
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong_kind(section, "device", value, "a device for each controller");
        return None;
    };
    let mut paths = Vec::new();
    for (name, path) in table {
        if let Some(path) = reader.as_text(section, "device", path) {
            let name = Spanned::new(name.span(), name.get_ref().to_string());
            paths.push((name, path));
        }
    }
    Some(DeviceDraft { span: value.span(), paths })
}

/// The names of the controllers for a message.
pub(super) fn controller_names(draft: &Draft) -> String {
    list(
        draft
            .controllers
            .iter()
            .filter_map(|controller| controller.name.as_ref())
            .map(|name| name.get_ref().as_str()),
    )
}
