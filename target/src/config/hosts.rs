//! `[access]`: the hosts that are named, what they have to prove, and which LUNs they see.

use core::ops::Range;
use std::collections::BTreeMap;

use protocol::iscsi::names::IscsiName;
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Problem;
use super::reader::{Key, Reader, Section};
use super::sections::{LunDraft, key, table, tables};
use super::{Access, Chap, Host, SecretPlace};

const ACCESS: &[Key] = &[
    key("open", "`open = true`"),
    key("plain_interlink", "`plain_interlink = true`"),
    key("host", "an [[access.host]] section with `name = \"iqn.1993-08.org.debian:01:abc\"`"),
    key("discovery", "an [access.discovery] section with `secret_file = \"secrets/discovery\"`"),
];

const USER: Key = key("user", "`user = \"host-a\"`");
const SECRET_FILE: Key = key("secret_file", "`secret_file = \"secrets/host-a\"`");
const SECRET_ENV: Key = key("secret_env", "`secret_env = \"HOST_A_SECRET\"`");
const OWN_USER: Key = key("own_user", "`own_user = \"twinlun\"`");
const OWN_SECRET_FILE: Key = key("own_secret_file", "`own_secret_file = \"secrets/twinlun-to-host-a\"`");
const OWN_SECRET_ENV: Key = key("own_secret_env", "`own_secret_env = \"TWINLUN_SECRET\"`");

const HOST: &[Key] = &[
    USER,
    SECRET_FILE,
    SECRET_ENV,
    OWN_USER,
    OWN_SECRET_FILE,
    OWN_SECRET_ENV,
    key("name", "`name = \"iqn.1993-08.org.debian:01:abc\"`"),
    key("luns", "`luns = [0, 1]`"),
];

const DISCOVERY: &[Key] = &[USER, SECRET_FILE, SECRET_ENV, OWN_USER, OWN_SECRET_FILE, OWN_SECRET_ENV];

/// Reads `[access]`.
pub(super) fn access<'t>(reader: &mut Reader<'t>, document: &Section<'_, 't>, luns: &[LunDraft]) -> Access {
    let section = reader
        .optional(document, "access")
        .and_then(|value| table(reader, document, "access", ACCESS, value));
    let Some(section) = section else { return Access::default() };
    let hosts = hosts(reader, &section, luns);
    let discovery = reader.optional(&section, "discovery");
    let discovery = discovery.and_then(|value| table(reader, &section, "discovery", DISCOVERY, value));
    let discovery = discovery.and_then(|section| {
        let chap = credentials(reader, &section);
        if chap.is_none() {
            reader.mistake(section.path.clone(), section.span.clone(), Problem::NoSecret);
        }
        chap
    });
    Access {
        open: reader.switch(&section, "open", false),
        plain_interlink: reader
            .optional(&section, "plain_interlink")
            .map(|_| reader.switch(&section, "plain_interlink", false)),
        hosts,
        discovery,
    }
}

/// The hosts that are named, each once: of two sections for one host either could be the one that was meant, and
/// one of them may let it in without proof.
fn hosts<'t>(reader: &mut Reader<'t>, access: &Section<'_, 't>, luns: &[LunDraft]) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    if reader.optional(access, "host").is_none() {
        return hosts;
    }
    let mut seen: BTreeMap<String, (String, Range<usize>)> = BTreeMap::new();
    for (path, span, table) in tables(reader, access, "host") {
        let entry = reader.section(format!("access.{path}"), span, HOST, table);
        let Some((host, name)) = host(reader, &entry, luns) else { continue };
        if let Some((first, at)) = seen.get(&host.name) {
            let first = format!("{first} ({})", reader.whereabouts(at));
            let found = format!("{:?}", host.name_as_written);
            reader.mistake(entry.key("name"), name, Problem::HostTwice { found, first });
            continue;
        }
        seen.insert(host.name.clone(), (entry.path, name));
        hosts.push(host);
    }
    hosts
}

/// A host, and where its name stands.
fn host<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    luns: &[LunDraft],
) -> Option<(Host, Range<usize>)> {
    let text = reader.text(section, "name")?;
    match IscsiName::from_initiator(text.get_ref()) {
        Ok(name) => {
            let host = Host {
                name: name.as_str().to_owned(),
                name_as_written: text.get_ref().clone(),
                chap: credentials(reader, section),
                luns: reader.optional(section, "luns").map(|value| visible(reader, section, value, luns)),
            };
            Some((host, text.span()))
        }
        Err(problem) => {
            let wrong = Problem::NotAnIscsiName { found: text.get_ref().clone(), problem };
            reader.mistake(section.key("name"), text.span(), wrong);
            None
        }
    }
}

/// `luns`: the numbers a host may see. None is a list too: the host then sees nothing.
fn visible<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    value: &Spanned<DeValue<'t>>,
    luns: &[LunDraft],
) -> Vec<u16> {
    let DeValue::Array(items) = value.get_ref() else {
        reader.wrong_kind(section, "luns", value, "a list of LUN numbers");
        return Vec::new();
    };
    let mut numbers = Vec::new();
    for item in items {
        let integer = item.get_ref().as_integer();
        let number = integer.and_then(|integer| u16::from_str_radix(integer.as_str(), integer.radix()).ok());
        let mut known = luns.iter().filter_map(|lun| lun.number.as_ref()).map(Spanned::get_ref);
        match number {
            Some(number) if known.any(|known| *known == number) => numbers.push(number),
            Some(number) => {
                reader.mistake(section.key("luns"), item.span(), Problem::NoSuchLun(number));
            }
            None => reader.wrong_kind(section, "luns", item, "the number of a LUN"),
        }
    }
    numbers
}

/// The CHAP keys of a section; `None` if there are none.
fn credentials<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> Option<Chap> {
    let secret = secret(reader, section, "secret_file", "secret_env");
    let own_secret = self::secret(reader, section, "own_secret_file", "own_secret_env");
    let mut user = |key| reader.optional_text(section, key).map(Spanned::into_inner);
    let (user, own_user) = (user("user"), user("own_user"));
    match secret {
        Some(secret) => Some(Chap { user, secret, own_user, own_secret }),
        None if user.is_some() || own_user.is_some() || own_secret.is_some() => {
            reader.mistake(section.path.clone(), section.span.clone(), Problem::NoSecret);
            None
        }
        None => None,
    }
}

fn secret<'t>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    file: &str,
    variable: &str,
) -> Option<SecretPlace> {
    let in_file = reader.optional_text(section, file);
    let in_variable = reader.optional_text(section, variable);
    match (in_file, in_variable) {
        (Some(_), Some(second)) => {
            reader.mistake(section.key(variable), second.span(), Problem::TwoSecrets);
            None
        }
        (Some(path), None) => Some(SecretPlace::File(path.into_inner().into())),
        (None, Some(name)) => Some(SecretPlace::Variable(name.into_inner())),
        (None, None) => None,
    }
}
