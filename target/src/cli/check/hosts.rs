//! Who may log in by the file, and what each has to prove.

use serde::Serialize;

use super::row;
use crate::config::{Chap, Config};
use crate::runtime::access::DISCOVERY_USER;

/// The name of sessions that only ask for portals.
const DISCOVERY: &str = "discovery";

/// Who may log in, and what it has to prove.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct MayLogIn {
    /// Its InitiatorName, as the file writes it; none: every other host.
    host: Option<String>,
    /// What kind of session this is about.
    session: &'static str,
    /// What it calls itself in CHAP; none: it proves nothing.
    user: Option<String>,
    /// What the target calls itself if it is asked to prove itself.
    own_user: Option<String>,
    /// The LUNs it sees; none: all.
    luns: Option<Vec<u16>>,
}

impl MayLogIn {
    pub(super) fn row(&self) -> Vec<String> {
        let host = match (&self.host, self.session) {
            (Some(host), _) => host,
            (None, DISCOVERY) => "any host, for discovery",
            (None, _) => "every other host",
        };
        let luns = match (&self.luns, self.session) {
            (_, DISCOVERY) => "the portals".to_owned(),
            (None, _) => "all LUNs".to_owned(),
            (Some(luns), _) if luns.is_empty() => "no LUN".to_owned(),
            (Some(luns), _) => {
                let numbers: Vec<String> = luns.iter().map(ToString::to_string).collect();
                format!("LUN {}", numbers.join(", "))
            }
        };
        let user = self.user.as_deref().unwrap_or("nobody: no proof is asked for");
        row([host, user, self.own_user.as_deref().unwrap_or("-"), &luns])
    }
}

/// Who may log in, as [`crate::iscsi::login::access`] decides it.
pub(super) fn may_log_in(config: &Config) -> Vec<MayLogIn> {
    let access = &config.access;
    let own_user = |chap: &Chap| {
        chap.own_secret.as_ref()?;
        Some(chap.own_user.clone().unwrap_or_else(|| config.appliance.iqn_as_written.clone()))
    };
    let mut all: Vec<MayLogIn> = access
        .hosts
        .iter()
        .map(|host| MayLogIn {
            host: Some(host.name_as_written.clone()),
            session: "normal",
            user: host
                .chap
                .as_ref()
                .map(|chap| chap.user.clone().unwrap_or_else(|| host.name_as_written.clone())),
            own_user: host.chap.as_ref().and_then(own_user),
            luns: host.luns.clone(),
        })
        .collect();
    if access.open || access.hosts.is_empty() {
        all.push(MayLogIn { host: None, session: "normal", user: None, own_user: None, luns: None });
    }
    all.extend(access.discovery.as_ref().map(|chap| MayLogIn {
        host: None,
        session: DISCOVERY,
        user: Some(chap.user.clone().unwrap_or_else(|| DISCOVERY_USER.to_owned())),
        own_user: own_user(chap),
        luns: None,
    }));
    all
}
