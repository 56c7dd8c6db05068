//! The certificates of the interlink: one file per controller, with its key, its own certificate and its peer's.
//!
//! `twinlun interlink init` makes both files at once, each in its controller's state folder; the operator brings one
//! of them to the other machine. A file is complete or not there: it is written beside its place, flushed, and renamed.
//! The two renames are not one step; in between, as with files of two runs of `init`, each controller refuses the
//! other and says so, and nothing else happens.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use controller::plan::Side;
use controller::volume::files::make_state_folder;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::interlink::secret;
use crate::interlink::tls::pinned::Keys;
use crate::runtime::private_file::{self, PrivateFileError};

/// Bytes of such a file at most.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why the certificates of a controller cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is no such file.
    #[error("the interlink is encrypted and {} is not there. {}", path.display(), missing(here.as_deref()))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The other controller, if its file is here.
        here: Option<String>,
    },
    /// It cannot be read.
    #[error("{} with the certificates of the interlink cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PrivateFileError,
    },
    /// Others may read or change it.
    #[error(
        "{0} holds a key of the interlink, and others may read or change it: `chmod 600 {0}` ends that. If somebody \
         may have read it, make new ones: `twinlun interlink init --renew`", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It does not hold what it should.
    #[error(
        "{} is not as `twinlun interlink init` made it: {what}. Bring it here again, or make new ones for both \
         controllers with `twinlun interlink init --renew`", path.display()
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Why no certificates were made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// There are some.
    #[error("{} is there already; nothing was changed", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    NotWritten {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("no secret can be made: {0}")]
    NoSecret(io::Error),
    /// There is no certificate.
    #[error("no certificate can be made: {0}")]
    NotMade(#[from] rcgen::Error),
}

/// What one controller keeps for its interlink.
pub struct Certificates {
    path: PathBuf,
    key: PrivateKeyDer<'static>,
    /// Its own.
    pub own: CertificateDer<'static>,
    /// Its peer's: the only one that is let in.
    pub peer: CertificateDer<'static>,
}

/// Where the certificates of a controller are.
#[must_use]
pub fn path(config: &Config, side: Side) -> PathBuf {
    config.state_folder(side).join("interlink.pem")
}

/// The only controller whose certificates are on this machine: the one that is to run here.
#[must_use]
pub fn only_here(config: &Config) -> Option<Side> {
    let is_here = |side: Side| config.encrypts_interlink() && path(config, side).exists();
    match [Side::First, Side::Second].map(is_here) {
        [true, false] => Some(Side::First),
        [false, true] => Some(Side::Second),
        _ => None,
    }
}

/// What to do where a file is missing.
fn missing(here: Option<&str>) -> String {
    match here {
        Some(here) => format!(
            "Of the two files only that of {here} is here, so {here} is the controller of this machine: start it by \
             `twinlun run --controller {here}`. Each file belongs on its controller's machine alone"
        ),
        None => "If `twinlun interlink init` ran on the other machine, bring the file from there (it has the same name \
                 there); if it ran on neither, run it on one of the two"
            .to_owned(),
    }
}

impl Certificates {
    /// Reads the file of one controller.
    pub fn load(config: &Config, side: Side) -> Result<Self, CertificateError> {
        let path = path(config, side);
        let text = match private_file::read(&path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(PrivateFileError::Exposed) => return Err(CertificateError::Exposed { path }),
            Err(PrivateFileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                let here = only_here(config).map(|side| config.controller(side).name.clone());
                return Err(CertificateError::Missing { path, here });
            }
            Err(source) => return Err(CertificateError::Unreadable { path, source }),
        };
        let key = PrivateKeyDer::from_pem_slice(&text);
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let (Ok(key), Ok(Ok([own, peer]))) = (key, certificates.map(<[_; 2]>::try_from)) else {
            let what = "it should hold one key and two certificates".to_owned();
            return Err(CertificateError::Wrong { path, what });
        };
        Ok(Self { path, key, own, peer })
    }

    /// What the interlink's connections need.
    pub fn keys(self) -> Result<Keys, CertificateError> {
        let Self { path, key, own, peer } = self;
        Keys::new(own, key, peer).map_err(|error| CertificateError::Wrong { path, what: error.to_string() })
    }
}

#[cfg(test)]
impl Certificates {
    /// The same with a provider of the tests.
    pub(super) fn keys_with(self, provider: rustls::crypto::CryptoProvider) -> Result<Keys, rustls::Error> {
        Keys::with_provider(provider, self.own, self.key, self.peer)
    }
}

/// The file's content; `None` if it is not its owner's alone.
pub(in crate::interlink) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match private_file::read(path, FILE_BYTES_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(PrivateFileError::Exposed) => Ok(None),
        Err(PrivateFileError::Unreadable(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// SHA-256 of a certificate, in hexadecimal digits.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// Of the certificate of its controller.
    pub fingerprint: String,
}

/// Makes new certificates for both controllers, each in its state folder. Those that are there are replaced only if
/// `renew`.
pub fn make(config: &Config, renew: bool) -> Result<[Made; 2], MakeError> {
    let sides = [Side::First, Side::Second];
    let paths = sides.map(|side| path(config, side));
    if let (false, Some(path)) = (renew, paths.iter().find(|path| path.exists())) {
        return Err(MakeError::Exists { path: path.clone() });
    }
    let names = sides.map(|side| config.controller(side).name.as_str());
    let [first, second] = [generate(names[0])?, generate(names[1])?];
    let secret = secret::new_line().map_err(MakeError::NoSecret)?;
    let turned = [names[1], names[0]];
    let texts = [text(names, &first, &second, &secret), text(turned, &second, &first, &secret)];
    for ((side, path), text) in sides.into_iter().zip(&paths).zip(&texts) {
        let written = make_state_folder(&config.state_folder(side)).and_then(|()| write(path, text));
        written.map_err(|source| MakeError::NotWritten { path: path.clone(), source })?;
    }
    for path in &paths {
        put(path).map_err(|source| MakeError::NotWritten { path: path.clone(), source })?;
    }
    let [first_path, second_path] = paths;
    Ok([
        Made { path: first_path, fingerprint: fingerprint(first.0.der()) },
        Made { path: second_path, fingerprint: fingerprint(second.0.der()) },
    ])
}

type Pair = (rcgen::Certificate, KeyPair);

fn generate(controller: &str) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, format!("Twinlun interlink, {controller}"));
    Ok((parameters.self_signed(&key)?, key))
}

/// The file of the first of the two names.
fn text(names: [&str; 2], own: &Pair, peer: &Pair, secret: &str) -> String {
    let [name, other] = names;
    format!(
        "The interlink of controller {name}. Whoever has this key can pass for {name}: for the machine of {name} \
         only.\n\
         {}Certificate of {name}:\n{}Certificate of {other}, the only one that {name} takes:\n{}\
         The secret of both, by which they know each other where the interlink is not encrypted:\n{secret}",
        own.1.serialize_pem(),
        own.0.pem(),
        peer.0.pem()
    )
}

/// Where a file is before it is complete.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = unfinished(path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Puts a finished file into its place.
fn put(path: &Path) -> io::Result<()> {
    fs::rename(unfinished(path), path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
