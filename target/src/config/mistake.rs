//! What can be wrong with appliance.toml: the place, what stands there, and what would be right.

use core::fmt;
use core::ops::Range;
use std::io;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use protocol::iscsi::names::NameError;

use super::size::SizeProblem;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {error}", file.display())]
    #[diagnostic(help("name the file with --config FILE; nothing running was touched"))]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something in it is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Mistakes(Box<Mistakes>),
}

/// Everything that was found wrong in one file, in the order of the file.
#[derive(Debug)]
pub struct Mistakes {
    file: String,
    text: NamedSource<String>,
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Debug)]
pub struct Mistake {
    /// The key with its section, for instance `lun[0].size`; empty for what is no TOML at all.
    pub key: String,
    /// The bytes of the text it is about.
    pub span: Range<usize>,
    /// Line and column (in characters), both counted from 1.
    pub place: (usize, usize),
    /// What is wrong and what would be right.
    pub problem: Problem,
}

impl Mistakes {
    pub(super) fn new(file: &Path, text: &str, mistakes: Vec<Mistake>) -> Self {
        let file = file.display().to_string();
        Self { text: NamedSource::new(&file, text.to_owned()).with_language("toml"), file, mistakes }
    }

    /// The mistakes as plain lines: `file:line:column: key: problem; remedy`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.mistakes.iter().map(|mistake| {
            let (line, column) = mistake.place;
            let remedy = mistake.problem.help().map(|help| format!("; {help}")).unwrap_or_default();
            format!("{}:{line}:{column}: {mistake}{remedy}", self.file)
        })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => write!(f, "a mistake in {}; nothing running was touched", self.file),
            n => write!(f, "{n} mistakes in {}; nothing running was touched", self.file),
        }
    }
}

impl std::error::Error for Mistakes {}

impl Diagnostic for Mistakes {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.mistakes.iter().map(|mistake| mistake as &dyn Diagnostic)))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "{}: {}", self.key, self.problem)
        }
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(core::iter::once(LabeledSpan::new_with_span(None, self.span.clone()))))
    }
}

/// What is wrong with one key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Diagnostic)]
pub enum Problem {
    /// The TOML parser's word for it.
    #[error("not TOML: {0}")]
    #[diagnostic(help("appliance.toml is TOML: `key = value` lines below [section] lines"))]
    Syntax(String),
    /// A key nobody knows, close to one that is known.
    #[error("there is no such key")]
    #[diagnostic(help("did you mean `{nearest}`?"))]
    UnknownNear {
        /// The known key most like it.
        nearest: &'static str,
    },
    /// A key nobody knows.
    #[error("there is no such key")]
    #[diagnostic(help("remove it; the keys here are {known}"))]
    Unknown {
        /// All keys of the section.
        known: String,
    },
    /// A required key or section is not there.
    #[error("is missing")]
    #[diagnostic(help("add {example}"))]
    Missing {
        /// A line that would do.
        example: &'static str,
    },
    /// A value of another kind of TOML.
    #[error("{found} stands where {expected} is needed")]
    #[diagnostic(help("write, for instance, {example}"))]
    WrongKind {
        /// What stands there.
        found: &'static str,
        /// What should.
        expected: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// None of the words the key knows.
    #[error("{found:?} is not one of its values")]
    #[diagnostic(help("write one of {choices}"))]
    NotOneOf {
        /// What stands there.
        found: String,
        /// All of them.
        choices: String,
    },
    /// A key that is part of the format but has nothing behind it yet.
    #[error("is not available yet")]
    #[diagnostic(help("{remedy}"))]
    NotYet {
        /// What to do instead.
        remedy: &'static str,
    },
    /// Not an iSCSI name.
    #[error("{found:?} is not an iSCSI name: {problem}")]
    #[diagnostic(help("write, for instance, \"iqn.2026-11.com.example:demo\", with a domain of your own"))]
    NotAnIscsiName {
        /// What stands there.
        found: String,
        /// Why not.
        problem: NameError,
    },
    /// Not a name for a file.
    #[error("{0:?} cannot be a name: it becomes part of a file name")]
    #[diagnostic(help(
        "use 1 to 64 lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or a digit"
    ))]
    NotAName(String),
    /// Not a name for a group.
    #[error("{0:?} cannot be the name of a group")]
    #[diagnostic(help(
        "use 1 to 64 lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or a digit"
    ))]
    NotAGroup(String),
    /// Not an IP address with a port.
    #[error("{0:?} is not an IP address with a port")]
    #[diagnostic(help("write, for instance, \"192.0.2.10:3260\" or \"[2001:db8::10]:3260\""))]
    NotAnAddress(String),
    /// Not a host with a port.
    #[error("{0:?} is not an address with a port")]
    #[diagnostic(help(
        "write what hosts shall connect to, for instance \"192.0.2.10:3260\" or \"storage-a.example.com:3260\""
    ))]
    NotAnAdvertisement(String),
    /// Port zero.
    #[error("{0} leaves the port to chance")]
    #[diagnostic(help(
        "name a port: hosts and the other controller must find it again; 3260 is iSCSI's own"
    ))]
    PortZero(String),
    /// A link-local address is of one link only.
    #[error("{0} is a link-local address: it does not tell on which of this machine's networks")]
    #[diagnostic(help(
        "write the number of the network interface behind it, for instance \"[fe80::1%2]:3260\"; `ip link` tells it"
    ))]
    NoZone(String),
    /// One address for both controllers.
    #[error("hosts are told {address} for the other controller too, by {first}")]
    #[diagnostic(help(
        "they would take one controller for both, and lose both ways at once: tell them of each controller where it \
         alone is"
    ))]
    AdvertisedTwice {
        /// The address.
        address: String,
        /// The key that has it.
        first: String,
    },
    /// A list without elements.
    #[error("is an empty list")]
    #[diagnostic(help("write, for instance, {example}"))]
    EmptyList {
        /// A line that would do.
        example: &'static str,
    },
    /// Hosts cannot be told `0.0.0.0`.
    #[error("{0} listens everywhere, so hosts cannot be told where that is")]
    #[diagnostic(help(
        "add `advertise = [\"ADDRESS:PORT\"]` with the addresses hosts shall use, or name the addresses in `portals`"
    ))]
    WildcardPortal(String),
    /// The peer cannot dial `0.0.0.0`.
    #[error("{0} listens everywhere, so the other controller cannot be told where that is")]
    #[diagnostic(help("name the address the other controller reaches this one by"))]
    WildcardInterlink(String),
    /// Two listeners in one place.
    #[error("{address} is already used by {first}")]
    #[diagnostic(help("give each portal and interlink an address or port of its own"))]
    AddressTwice {
        /// The address.
        address: String,
        /// The key that has it, and where.
        first: String,
    },
    /// A name or number given twice.
    #[error("{found} is already used by {first}")]
    #[diagnostic(help("give each its own"))]
    Twice {
        /// What stands there.
        found: String,
        /// The section that has it, and where.
        first: String,
    },
    /// A host named twice.
    #[error("{found} is the host that {first} names already; names that differ in case are the same")]
    #[diagnostic(help("keep one section for each host, with everything that is true of it"))]
    HostTwice {
        /// What stands there.
        found: String,
        /// The section that has it, and where.
        first: String,
    },
    /// Not two controllers.
    #[error("an appliance has exactly two controllers; here {} {found}", if *found == 1 { "is" } else { "are" })]
    #[diagnostic(help("write two [[controller]] sections, each with name, portals and interlink"))]
    NotTwoControllers {
        /// How many there are.
        found: usize,
    },
    /// A name no controller has.
    #[error("{found:?} is not the name of a controller")]
    #[diagnostic(help("the controllers are {known}"))]
    NoSuchController {
        /// What stands there.
        found: String,
        /// Both names.
        known: String,
    },
    /// A number outside its range.
    #[error("{found} is out of range")]
    #[diagnostic(help("write a number from 0 to {max}"))]
    OutOfRange {
        /// What stands there.
        found: String,
        /// The largest.
        max: u64,
    },
    /// More LUNs than an appliance has.
    #[error("there are {found} LUNs; an appliance has at most {max}")]
    #[diagnostic(help("remove some"))]
    TooManyLuns {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// Not a size.
    #[error("{found:?} is not a size: {problem}")]
    #[diagnostic(help("{}", problem.remedy()))]
    NotASize {
        /// What stands there.
        found: String,
        /// Why not.
        problem: SizeProblem,
    },
    /// LUNs of one group that cannot be served together.
    #[error(
        "LUNs of one group have the same `{key}`: here it is {own}, and {their} for the first of {group:?}, {first}"
    )]
    #[diagnostic(help("write the same `{key}` for all LUNs of the group, or name another group here"))]
    GroupDiffers {
        /// The group.
        group: String,
        /// The key that differs.
        key: &'static str,
        /// What it says here.
        own: String,
        /// What it says for the first LUN of the group.
        their: String,
        /// That LUN, and where.
        first: String,
    },
    /// A mirrored LUN with one device.
    #[error("a mirrored LUN needs a device on both controllers; {missing} has none")]
    #[diagnostic(help(
        "add `{missing} = \"/dev/…\"` between the braces, or set `mirror = false` if one copy is enough"
    ))]
    DeviceMissing {
        /// The controller without.
        missing: String,
    },
    /// A device that would not be used.
    #[error("the LUN is not mirrored, so {controller} keeps no copy and its device would not be used")]
    #[diagnostic(help("remove `{controller} = …`, or remove `mirror = false`"))]
    DeviceUnused {
        /// The controller that keeps no copy.
        controller: String,
    },
    /// Hosts from anywhere, unsaid.
    #[error("{0} is not loopback: every machine that reaches it could read and overwrite the LUNs")]
    #[diagnostic(help(
        "name every host that may log in in an [[access.host]] section with a CHAP secret; or, if the network is \
         closed, say so with `open = true` in [access]; otherwise use a loopback address"
    ))]
    NotOpen(String),
    /// A LUN that a host is to see and that is not there.
    #[error("there is no LUN {0}")]
    #[diagnostic(help("write the numbers of LUNs that have a [[lun]] section"))]
    NoSuchLun(u16),
    /// A CHAP section without a secret.
    #[error("there is a CHAP section without a secret for the initiator to prove")]
    #[diagnostic(help(
        "write the secret, 12 to 255 bytes, into a file that only you can read, and add `secret_file = \"FILE\"`; \
         or put it into the environment and add `secret_env = \"NAME\"`"
    ))]
    NoSecret,
    /// A secret in two places.
    #[error("the secret would be in two places")]
    #[diagnostic(help("keep one of both keys"))]
    TwoSecrets,
}
