//! The secrets of `[access]`, read once at the start. All that cannot be used are told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::private_file::{self, PrivateFileError};
use crate::config::{Chap, Config, SecretPlace};
use crate::iscsi::login::access::{Access, Known};
use crate::iscsi::login::chap::{
    Account, Credentials, Proof, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret, User,
};

/// Bytes of a file with a secret at most: the longest secret and its line's end.
const FILE_BYTES_MAX: u64 = SECRET_BYTES_MAX as u64 + 2;

/// A secret that cannot be used. What it is is not told.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read, or is not to be trusted.
    #[error("the secret of {of} cannot be taken from {place}: {why}{}", remedy(why, place))]
    File {
        /// The initiator that it is for, as the file names it.
        of: String,
        /// The file.
        place: String,
        /// Why.
        why: PrivateFileError,
    },
    /// There is no such variable.
    #[error("the secret of {of} is not there: the environment has no variable {place}")]
    NoVariable {
        /// The initiator that it is for, as the file names it.
        of: String,
        /// The variable.
        place: String,
    },
    /// Too short or too long.
    #[error("the secret of {of} in {place} must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")]
    Length {
        /// The initiator that it is for, as the file names it.
        of: String,
        /// Where it is.
        place: String,
    },
    /// One secret for both directions.
    #[error(
        "{of} and the target would prove themselves by the same secret, so that either could pass for the other: \
         give the target one of its own"
    )]
    Same {
        /// The initiator that it is for, as the file names it.
        of: String,
    },
}

/// What ends the trouble with a file.
fn remedy(why: &PrivateFileError, place: &str) -> String {
    match why {
        PrivateFileError::Exposed => format!(": `chmod 600 {place}` ends that"),
        PrivateFileError::Foreign { user, .. } => format!(": `chown {user} {place}` ends that"),
        PrivateFileError::Unreadable(_) | PrivateFileError::NotAFile | PrivateFileError::TooLong(_) => {
            String::new()
        }
    }
}

/// Every secret that cannot be used. At least one.
#[derive(Debug)]
pub struct SecretErrors(pub Vec<SecretError>);

impl fmt::Display for SecretErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SecretErrors {}

/// Reads every secret.
pub fn load(config: &Config) -> Result<Access, SecretErrors> {
    let mut wrong = Vec::new();
    let mut hosts = BTreeMap::new();
    for host in &config.access.hosts {
        let user = || User::InitiatorName(host.name_as_written.clone());
        let account = host.chap.as_ref().and_then(|chap| account(config, &host.name, chap, user, &mut wrong));
        let luns = host.luns.as_ref().map(|luns| luns.iter().copied().collect::<BTreeSet<_>>());
        let luns = luns.map(|luns| luns.into_iter().collect());
        hosts.insert(host.name.clone(), Known { account, luns });
    }
    let user = || User::Named(DISCOVERY_USER.to_owned());
    let discovery = config.access.discovery.as_ref();
    let discovery = discovery.and_then(|chap| account(config, "discovery", chap, user, &mut wrong));
    if wrong.is_empty() {
        Ok(Access { open: config.access.open, hosts, discovery })
    } else {
        Err(SecretErrors(wrong))
    }
}

/// What discovery sessions call themselves in CHAP where the configuration does not say.
pub const DISCOVERY_USER: &str = "discovery";

/// The account of one section; `None` if a secret of it is wrong.
fn account(
    config: &Config,
    of: &str,
    chap: &Chap,
    default_user: impl Fn() -> User,
    wrong: &mut Vec<SecretError>,
) -> Option<Account> {
    let mut note = |read: Result<Secret, SecretError>| read.map_err(|error| wrong.push(error)).ok();
    let secret = note(read(of, &chap.secret));
    let own = chap.own_secret.as_ref().map(|place| note(read(&format!("the target for {of}"), place)));
    let initiator = Proof { user: chap.user.clone().map_or_else(default_user, User::Named), secret: secret? };
    let own = match own {
        None => None,
        Some(secret) => {
            let user = chap.own_user.clone().unwrap_or_else(|| config.appliance.iqn_as_written.clone());
            Some(Credentials { user, secret: secret? })
        }
    };
    if own.as_ref().is_some_and(|own| own.secret == initiator.secret) {
        wrong.push(SecretError::Same { of: of.to_owned() });
        return None;
    }
    Some(Account { initiator, own })
}

fn read(of: &str, place: &SecretPlace) -> Result<Secret, SecretError> {
    let of = of.to_owned();
    let (bytes, place) = match place {
        SecretPlace::File(path) => {
            let place = path.display().to_string();
            let mut bytes = match private_file::read(path, FILE_BYTES_MAX) {
                Ok(bytes) => bytes,
                Err(PrivateFileError::TooLong(_)) => return Err(SecretError::Length { of, place }),
                Err(why) => return Err(SecretError::File { of, place, why }),
            };
            while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
                bytes.pop();
            }
            (bytes, place)
        }
        SecretPlace::Variable(name) => {
            let Some(value) = std::env::var_os(name) else {
                return Err(SecretError::NoVariable { of, place: name.clone() });
            };
            (value.into_encoded_bytes(), name.clone())
        }
    };
    Secret::new(&bytes).ok_or(SecretError::Length { of, place })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const FILE: &str = r#"
[appliance]
iqn = "iqn.2026-11.com.Example:demo"
[[controller]]
name = "alpha"
portals = ["192.0.2.1:3260"]
interlink = "127.0.0.1:3270"
[[controller]]
name = "beta"
portals = ["127.0.0.1:3261"]
interlink = "127.0.0.1:3271"
[[lun]]
number = 0
name = "data0"
size = "1 GiB"
main = "alpha"
[[access.host]]
name = "IQN.1993-08.org.debian:a"
luns = [0]
secret_file = "a"
own_secret_file = "own"
[access.discovery]
user = "finder"
secret_file = "finder"
"#;

    fn write(folder: &Path, name: &str, content: &str, mode: u32) {
        fs::write(folder.join(name), content).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn secrets_come_from_files_that_only_their_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let config = Config::parse(&path.join("appliance.toml"), FILE).unwrap();
        write(path, "a", "secret of host a\n", 0o600);
        write(path, "own", "secret of the target\n", 0o640);
        write(path, "finder", "secret for discovery", 0o400);
        let exposed = load(&config).unwrap_err();
        assert!(exposed.to_string().contains("chmod 600") && exposed.0.len() == 1, "{exposed}");
        write(path, "own", "secret of host a", 0o600);
        let same = load(&config).unwrap_err();
        let (kind, text) = (&same.0[0], same.to_string());
        assert!(matches!(kind, SecretError::Same { .. }) && !text.contains("secret of host a"), "{text}");
        for wrong in ["too short", &"too long".repeat(40)] {
            write(path, "own", wrong, 0o600);
            assert!(matches!(load(&config).unwrap_err().0[..], [SecretError::Length { .. }]));
        }
        write(path, "own", "secret of the target\n", 0o600);
        let access = load(&config).unwrap();
        assert_eq!(access.luns("iqn.1993-08.org.debian:a").as_deref(), Some(&[0][..]));
        let account = access.hosts["iqn.1993-08.org.debian:a"].account.clone().unwrap();
        assert_eq!(account.initiator.user, User::InitiatorName("IQN.1993-08.org.debian:a".to_owned()));
        assert_eq!(Some(account.initiator.secret), Secret::new(b"secret of host a"));
        assert_eq!(account.own.unwrap().user, "iqn.2026-11.com.Example:demo");
        assert_eq!(access.discovery.unwrap().initiator.user, User::Named("finder".to_owned()));
    }

    #[test]
    fn a_variable_that_is_not_there_is_named() {
        let text = FILE.replace("secret_file = \"a\"", "secret_env = \"TWINLUN_NO_SUCH_SECRET\"");
        let config = Config::parse(Path::new("appliance.toml"), &text).unwrap();
        let error = load(&config).unwrap_err().to_string();
        assert!(error.contains("TWINLUN_NO_SUCH_SECRET"), "{error}");
    }

    #[test]
    fn every_secret_that_cannot_be_used_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&folder.path().join("appliance.toml"), FILE).unwrap();
        let error = load(&config).unwrap_err();
        let of = ["iqn.1993-08.org.debian:a", "iqn.1993-08.org.debian:a", "discovery"];
        assert_eq!(error.0.len(), 3, "{error}");
        for (line, (of, file)) in error.to_string().lines().zip(of.into_iter().zip(["a", "own", "finder"])) {
            let place = folder.path().join(file);
            assert!(line.contains(of) && line.contains(&place.display().to_string()), "{line}");
        }
    }
}
