//! The secret by which two controllers know each other on an interlink without encryption.
//!
//! `twinlun interlink init` writes one into the files of both controllers. Where there is none, and every address of
//! the interlink is on loopback, both controllers run on one machine: whichever starts first makes one in the state
//! folder they share, and both read it. In either file it is one line with its format, the secret, and a checksum.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use controller::plan::Side;
use ring::hmac;
use sha2::{Digest, Sha256};

use super::tls::certificates;
use crate::config::Config;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// How its line begins, in any format.
const NAME: &str = "twinlun-interlink-secret ";

/// The same with the version of the format.
const MARK: &str = "twinlun-interlink-secret 1 ";

/// Hexadecimal digits of the line's checksum.
const CHECKSUM_DIGITS: usize = 8;

/// The file of two controllers on one machine.
const FILE: &str = "interlink.secret";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// Nobody made one, and the two are not on one machine.
    #[error(
        "`plain_interlink = true` turns the encryption of the interlink off, not the proof of who is at its other end, \
         and {} with the secret for it is not there. If `twinlun interlink init` ran on the other machine, bring the \
         file from there (it has the same name there); if it ran on neither, run it on one of the two", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It was made by a release that knew no secrets.
    #[error(
        "{} has no secret for an interlink without encryption: it was made by an earlier release. Make new files for \
         both controllers with `twinlun interlink init --renew`", path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{} with the secret of the interlink cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error(
        "{0} holds the secret of the interlink, and others may read or change it: `chmod 600 {0}` ends that. If \
         somebody may have read it, remove it (or make a new one with `twinlun interlink init --renew`, if that made \
         it) and start both controllers again", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It does not hold what it should.
    #[error(
        "the secret of the interlink in {} is damaged. Where `twinlun interlink init` made it, bring the file here \
         again or make new ones with `--renew`; else remove it. Then start both controllers again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// What both controllers know and nobody else.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: &[u8; SECRET_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// HMAC-SHA-256 of a claim.
    pub(crate) fn sign(&self, claim: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        for (place, byte) in mac.iter_mut().zip(hmac::sign(&self.0, claim).as_ref()) {
            *place = *byte;
        }
        mac
    }

    /// Whether this is the MAC of a claim; in the same time whatever differs.
    pub(crate) fn verifies(&self, claim: &[u8], mac: &[u8; 32]) -> bool {
        hmac::verify(&self.0, claim, mac).is_ok()
    }

    /// The one to be used by this controller. Makes the one of two controllers on one machine.
    pub fn load(config: &Config, side: Side) -> Result<Self, SecretFileError> {
        let brought = certificates::path(config, side);
        match found(&brought)? {
            Found::Secret(secret) => return Ok(secret),
            Found::NoFile | Found::NoSecret if config.interlink_is_on_loopback() => {}
            Found::NoFile => return Err(SecretFileError::Missing { path: brought }),
            Found::NoSecret => return Err(SecretFileError::Older { path: brought }),
        }
        let path = config.appliance.state.join(FILE);
        if matches!(found(&path)?, Found::NoFile) {
            make(&path).map_err(|source| SecretFileError::Unusable { path: path.clone(), source })?;
        }
        match found(&path)? {
            Found::Secret(secret) => Ok(secret),
            Found::NoFile | Found::NoSecret => Err(SecretFileError::Damaged { path }),
        }
    }

    /// Whether a controller would find one here, for those who only look: nothing is made.
    pub fn look(config: &Config, side: Side) -> Result<(), SecretFileError> {
        let path = certificates::path(config, side);
        let not_brought = match found(&path)? {
            Found::Secret(_) => return Ok(()),
            Found::NoFile => SecretFileError::Missing { path },
            Found::NoSecret => SecretFileError::Older { path },
        };
        if !config.interlink_is_on_loopback() {
            return Err(not_brought);
        }
        let path = config.appliance.state.join(FILE);
        match found(&path)? {
            Found::Secret(_) => Ok(()),
            Found::NoFile => Err(not_brought),
            Found::NoSecret => Err(SecretFileError::Damaged { path }),
        }
    }
}

/// What a file holds.
enum Found {
    NoFile,
    NoSecret,
    Secret(Secret),
}

fn found(path: &Path) -> Result<Found, SecretFileError> {
    let path = path.to_owned();
    let text = match certificates::read(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(SecretFileError::Exposed { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoFile),
        Err(source) => return Err(SecretFileError::Unusable { path, source }),
    };
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().filter(|line| line.starts_with(NAME));
    match (lines.next(), lines.next()) {
        (None, _) => Ok(Found::NoSecret),
        (Some(line), None) => match parse(line) {
            Some(secret) => Ok(Found::Secret(secret)),
            None => Err(SecretFileError::Damaged { path }),
        },
        (Some(_), Some(_)) => Err(SecretFileError::Damaged { path }),
    }
}

fn parse(line: &str) -> Option<Secret> {
    let (digits, checksum) = line.strip_prefix(MARK)?.split_once(' ')?;
    if checksum != self::checksum(digits) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2).map(|pair| core::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    Some(Secret::new(&bytes?.try_into().ok()?))
}

fn checksum(digits: &str) -> String {
    let sum = Sha256::digest(format!("{MARK}{digits}"));
    let mut text = hex(&sum);
    text.truncate(CHECKSUM_DIGITS);
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random() -> io::Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The line of a new secret.
pub(crate) fn new_line() -> io::Result<String> {
    let digits = hex(&random()?);
    Ok(format!("{MARK}{digits} {}\n", checksum(&digits)))
}

/// Makes the file, unless somebody else is faster: it is complete or not there, and never replaced.
fn make(path: &Path) -> io::Result<()> {
    let own = hex(random()?.get(..8).unwrap_or_default());
    let unfinished = path.with_extension(format!("new-{own}"));
    let text = format!(
        "By this the controllers of an appliance that run on this machine know each other. It was made by the first \
         of\n\
         them that started; if it is lost, start both again.\n{}",
        new_line()?
    );
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = write();
    // It does no harm if it stays.
    let _removed = fs::remove_file(&unfinished);
    written?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(folder: &Path, interlink: [&str; 2], access: &str) -> Config {
        let [alpha, beta] = interlink;
        let text = format!(
            "[appliance]\niqn = \"iqn.2026-11.com.example:demo\"\nstate = \"state\"\n\
             [[controller]]\nname = \"alpha\"\nportals = [\"127.0.0.1:3260\"]\ninterlink = \"{alpha}\"\n\
             [[controller]]\nname = \"beta\"\nportals = [\"127.0.0.1:3261\"]\ninterlink = \"{beta}\"\n\
             [[lun]]\nnumber = 0\nname = \"data0\"\nsize = \"8 MiB\"\nmain = \"alpha\"\n[access]\n{access}\n"
        );
        fs::create_dir_all(folder.join("state/alpha")).unwrap();
        fs::create_dir_all(folder.join("state/beta")).unwrap();
        Config::parse(&folder.join("appliance.toml"), &text).unwrap()
    }

    const ONE_MACHINE: [&str; 2] = ["127.0.0.1:3270", "127.0.0.1:3271"];
    const TWO_MACHINES: [&str; 2] = ["192.0.2.1:3270", "192.0.2.2:3270"];

    fn same(one: &Secret, other: &Secret) -> bool {
        other.verifies(b"claim", &one.sign(b"claim"))
    }

    #[test]
    fn two_controllers_on_one_machine_that_start_at_once_have_one_secret_that_is_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), ONE_MACHINE, "");
        let secrets: Vec<Secret> = std::thread::scope(|scope| {
            let sides = [Side::First, Side::Second].into_iter().cycle().take(16);
            let threads: Vec<_> = sides
                .map(|side| {
                    scope.spawn({
                        let config = &config;
                        move || Secret::load(config, side).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| same(secret, &secrets[0])));
        let state = folder.path().join("state");
        let mode = fs::metadata(state.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let left = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.filter(|name| name.to_string_lossy().starts_with(FILE)).count(), 1);
        // Another appliance has another one.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Secret::load(&self::config(elsewhere.path(), ONE_MACHINE, ""), Side::First).unwrap();
        assert!(!same(&secrets[0], &other));
    }

    #[test]
    fn two_machines_without_encryption_need_the_secret_that_init_makes() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), TWO_MACHINES, "plain_interlink = true");
        let missing = Secret::load(&config, Side::First).unwrap_err();
        assert!(missing.to_string().contains("run it on one of the two"), "{missing}");
        assert!(!folder.path().join("state").join(FILE).exists());
        certificates::make(&config, false).unwrap();
        let [first, second] = [Side::First, Side::Second].map(|side| Secret::load(&config, side).unwrap());
        assert!(same(&first, &second));
        certificates::make(&config, true).unwrap();
        assert!(!same(&first, &Secret::load(&config, Side::First).unwrap()));
        // As an earlier release made it.
        let path = certificates::path(&config, Side::First);
        let text = fs::read_to_string(&path).unwrap();
        let older: String =
            text.lines().filter(|line| !line.starts_with(MARK)).map(|it| format!("{it}\n")).collect();
        fs::write(&path, older).unwrap();
        assert!(matches!(Secret::load(&config, Side::First), Err(SecretFileError::Older { .. })));
        assert!(certificates::Certificates::load(&config, Side::First).is_ok());
    }

    #[test]
    fn a_secret_that_is_damaged_or_not_its_owners_alone_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), ONE_MACHINE, "");
        Secret::load(&config, Side::First).unwrap();
        let path = folder.path().join("state").join(FILE);
        let whole = fs::read_to_string(&path).unwrap();
        let at = whole.find(MARK).unwrap();
        for digit in at + MARK.len()..whole.len() {
            let mut damaged = whole.clone().into_bytes();
            damaged[digit] = if damaged[digit] == b'0' { b'1' } else { b'0' };
            fs::write(&path, &damaged).unwrap();
            let refused = Secret::load(&config, Side::Second);
            assert!(matches!(refused, Err(SecretFileError::Damaged { .. })), "digit {digit}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        let newer = whole.replace("secret 1 ", "secret 2 ");
        for text in ["", "nonsense\n", &whole[..whole.len() - 20], &whole.repeat(2), &newer] {
            fs::write(&path, text).unwrap();
            let refused = Secret::load(&config, Side::Second);
            assert!(matches!(refused, Err(SecretFileError::Damaged { .. })), "{text:?}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(Secret::load(&config, Side::Second).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Secret::load(&config, Side::First), Err(SecretFileError::Exposed { .. })));
    }
}
