//! The iSCSI target (RFC 7143): connections, logins, sessions, as machines without sockets and without the controller.
//!
//! Error recovery level 0, one connection per session. From the bytes inwards: a [`connection`] takes PDUs out of its
//! input; its [`login`] says who the host is and what both agree to; its [`session`] orders its commands, gathers their
//! data and answers them. [`sessions`] has all of a controller, [`memory_pool`] what they hold together, [`visits`]
//! which hosts came and went. [`backend`] is what all of this wants of the controller, [`directory`] what it tells of
//! the target.

pub mod backend;
pub mod connection;
pub mod directory;
pub mod login;
pub mod memory_pool;
pub mod session;
pub mod sessions;
pub mod visits;
