//! Who may log in, and what has to be proved for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::iscsi::login::chap::Account;

/// The hosts that are known, as configured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Hosts that are not named are let in although others are.
    pub open: bool,
    /// Named hosts by InitiatorName in lower case.
    pub hosts: BTreeMap<String, Known>,
    /// What discovery sessions have to prove; without it, what the host has to.
    pub discovery: Option<Account>,
}

/// A named host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// What it has to prove, if anything.
    pub account: Option<Account>,
    /// The numbers of the LUNs it may see, ascending; all if none.
    pub luns: Option<Arc<[u16]>>,
}

/// What is demanded of an initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand<'a> {
    /// Nothing: AuthMethod=None.
    Nothing,
    /// CHAP.
    Proof(&'a Account),
    /// It does not get in whatever it proves.
    Refused,
}

impl Access {
    /// The LUNs an initiator may see, by its name in lower case; all if none.
    #[must_use]
    pub fn luns(&self, initiator: &str) -> Option<Arc<[u16]>> {
        self.hosts.get(initiator).and_then(|known| known.luns.clone())
    }

    /// What is demanded of an initiator, by its name in lower case. Where no host is named, everybody may come.
    #[must_use]
    pub fn demand(&self, initiator: &str, discovery: bool) -> Demand<'_> {
        if let (true, Some(account)) = (discovery, &self.discovery) {
            return Demand::Proof(account);
        }
        match self.hosts.get(initiator) {
            Some(Known { account: Some(account), .. }) => Demand::Proof(account),
            Some(_) => Demand::Nothing,
            None if self.open || self.hosts.is_empty() => Demand::Nothing,
            None => Demand::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::login::chap::{Proof, Secret, User};

    fn account(user: &str) -> Account {
        let secret = Secret::new(b"a secret of enough bytes").unwrap();
        Account { initiator: Proof { user: User::Named(user.to_owned()), secret }, own: None }
    }

    #[test]
    fn what_is_demanded_goes_by_the_name_and_the_kind_of_session() {
        let a = Known { account: Some(account("a")), luns: Some([1, 3].into()) };
        let hosts = BTreeMap::from([("iqn.a".to_owned(), a), ("iqn.b".to_owned(), Known::default())]);
        let access = Access { open: false, hosts, discovery: Some(account("discovery")) };
        let (a, all) = (account("a"), account("discovery"));
        for (initiator, discovery, demand) in [
            ("iqn.a", false, Demand::Proof(&a)),
            ("iqn.b", false, Demand::Nothing),
            ("iqn.c", false, Demand::Refused),
            ("iqn.a", true, Demand::Proof(&all)),
            ("iqn.c", true, Demand::Proof(&all)),
        ] {
            assert_eq!(access.demand(initiator, discovery), demand, "{initiator}");
        }
        let access = Access { discovery: None, ..access };
        assert_eq!(access.demand("iqn.a", true), Demand::Proof(&a));
        assert_eq!(access.demand("iqn.c", true), Demand::Refused);
        let access = Access { open: true, ..access };
        assert_eq!(access.demand("iqn.c", false), Demand::Nothing);
        assert_eq!(access.demand("iqn.a", false), Demand::Proof(&a));
        assert_eq!(Access::default().demand("iqn.c", false), Demand::Nothing);
        assert_eq!(access.luns("iqn.a").as_deref(), Some(&[1, 3][..]));
        assert_eq!((access.luns("iqn.b"), access.luns("iqn.c")), (None, None));
    }
}
