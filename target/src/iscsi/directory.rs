//! What a controller tells hosts of the target, and whom it lets in.

use crate::iscsi::login::access::Access;

/// One group of portals, as SendTargets lists it: the portals of one controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortalGroup {
    /// Target portal group tag: 1 for the first controller, 2 for the second.
    pub tag: u16,
    /// Addresses with ports, for instance `127.0.0.1:3260` or `[::1]:3260`.
    pub addresses: Vec<String>,
}

/// What the front end is told at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendConfig {
    /// The iSCSI target name, the same on both controllers.
    pub iqn: String,
    /// The portals of both controllers; SendTargets on either lists all of them.
    pub portal_groups: Vec<PortalGroup>,
    /// The tag of this controller's own group.
    pub own_group: u16,
    /// Who may log in.
    pub access: Access,
}
