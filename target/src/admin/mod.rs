//! What an administrator asks of a running controller: the control socket, and the limits with their present use.

pub(crate) mod control;
pub mod limits;
