//! The secrets of `[access]`, read once at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::config::{Chap, Config, SecretPlace};
use crate::session::access::{Access, Known};
use crate::session::chap::{Account, Credentials, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret};

/// A secret that cannot be used. What it is is not told.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the secret of {of} cannot be read from {place}: {source}")]
    Unreadable {
        /// Whose.
        of: String,
        /// The file.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "the secret of {of} lies in {place}, which others may read or change: `chmod 600 {place}` ends that"
    )]
    Exposed {
        /// Whose.
        of: String,
        /// The file.
        place: String,
    },
    /// There is no such variable.
    #[error("the secret of {of} is not there: the environment has no variable {place}")]
    NoVariable {
        /// Whose.
        of: String,
        /// The variable.
        place: String,
    },
    /// Too short or too long.
    #[error("the secret of {of} in {place} must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")]
    Length {
        /// Whose.
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
        /// Whose.
        of: String,
    },
}

/// Reads every secret.
pub fn load(config: &Config) -> Result<Access, SecretError> {
    let mut hosts = BTreeMap::new();
    for host in &config.access.hosts {
        let account = host.chap.as_ref().map(|chap| account(config, &host.name, chap)).transpose()?;
        let luns = host.luns.as_ref().map(|luns| luns.iter().copied().collect::<BTreeSet<_>>());
        let luns = luns.map(|luns| luns.into_iter().collect());
        hosts.insert(host.name.clone(), Known { account, luns });
    }
    let discovery = config.access.discovery.as_ref();
    let discovery = discovery.map(|chap| account(config, "discovery", chap)).transpose()?;
    Ok(Access { open: config.access.open, hosts, discovery })
}

fn account(config: &Config, of: &str, chap: &Chap) -> Result<Account, SecretError> {
    let user = chap.user.clone().unwrap_or_else(|| of.to_owned());
    let initiator = Credentials { user, secret: read(of, &chap.secret)? };
    let own = match &chap.own_secret {
        None => None,
        Some(place) => {
            let user = chap.own_user.clone().unwrap_or_else(|| config.appliance.iqn.clone());
            Some(Credentials { user, secret: read(of, place)? })
        }
    };
    if own.as_ref().is_some_and(|own| own.secret == initiator.secret) {
        return Err(SecretError::Same { of: of.to_owned() });
    }
    Ok(Account { initiator, own })
}

fn read(of: &str, place: &SecretPlace) -> Result<Secret, SecretError> {
    let of = of.to_owned();
    let (bytes, place) = match place {
        SecretPlace::File(path) => {
            let place = path.display().to_string();
            let unreadable =
                |source| SecretError::Unreadable { of: of.clone(), place: place.clone(), source };
            let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(SecretError::Exposed { of, place });
            }
            let mut bytes = fs::read(path).map_err(unreadable)?;
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
    use std::path::Path;

    use super::*;

    const FILE: &str = r#"
[appliance]
iqn = "iqn.2026-11.com.example:demo"
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
        assert!(matches!(load(&config), Err(SecretError::Unreadable { .. })));
        write(path, "a", "secret of host a\n", 0o600);
        write(path, "own", "secret of the target\n", 0o640);
        write(path, "finder", "secret for discovery", 0o400);
        let exposed = load(&config).unwrap_err();
        assert!(matches!(exposed, SecretError::Exposed { .. }), "{exposed}");
        write(path, "own", "secret of host a", 0o600);
        let same = load(&config).unwrap_err();
        assert!(matches!(same, SecretError::Same { .. }) && !same.to_string().contains("secret of host a"));
        write(path, "own", "too short", 0o600);
        assert!(matches!(load(&config), Err(SecretError::Length { .. })));
        write(path, "own", "secret of the target\n", 0o600);
        let access = load(&config).unwrap();
        assert_eq!(access.luns("iqn.1993-08.org.debian:a").as_deref(), Some(&[0][..]));
        let account = access.hosts["iqn.1993-08.org.debian:a"].account.clone().unwrap();
        assert_eq!(account.initiator.user, "iqn.1993-08.org.debian:a");
        assert_eq!(Some(account.initiator.secret), Secret::new(b"secret of host a"));
        assert_eq!(account.own.unwrap().user, "iqn.2026-11.com.example:demo");
        assert_eq!(access.discovery.unwrap().initiator.user, "finder");
    }

    #[test]
    fn a_variable_that_is_not_there_is_named() {
        let text = FILE.replace("secret_file = \"a\"", "secret_env = \"TWINLUN_NO_SUCH_SECRET\"");
        let config = Config::parse(Path::new("appliance.toml"), &text).unwrap();
        let error = load(&config).unwrap_err().to_string();
        assert!(error.contains("TWINLUN_NO_SUCH_SECRET"), "{error}");
    }
}
