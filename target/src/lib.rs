//! The iSCSI front end of Twinlun: portals, sessions, the device server, the configuration and the command line.
//!
//! The journey of a command, top to bottom: [`portal`] accepts, [`iscsi::connection`] turns bytes into PDUs,
//! [`iscsi::session`] orders them and gathers Data-Out, [`device_server`] finds the opcode's row and hands it to the
//! [`Controller::command`](controller::unit::Controller::command). The answer comes back through [`iscsi::sessions`].

pub mod admin;
pub mod batch;
pub mod cli;
pub mod config;
pub mod device_server;
pub mod frontend;
pub mod interlink;
pub mod iscsi;
mod log;
pub mod portal;
pub mod runtime;
pub mod transport;
