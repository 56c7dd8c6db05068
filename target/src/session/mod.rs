//! The session layer of one connection as pure state machines: login, command window, data transfer.
//!
//! Error recovery level 0, one connection per session (RFC 7143). From the bytes inwards: [`mod@line`] is one
//! connection without its socket; [`cut`] takes PDUs out of its input; [`login`] agrees on [`parameters`] with those
//! whom [`access`] and [`chap`] let in, or tells why not ([`refused`]); [`full_feature`] is the session afterwards, with its [`commands`] window, its
//! [`tasks`] in their [`turns`] ([`task_set`]), their data-out ([`writing`], [`transfer`]) and [`data_in`],
//! [`task_management`] and the other exchanges ([`exchange`], [`discovery`]). [`link`] is what several threads share
//! of it, [`output`] what waits to be written, [`memory`] what all sessions hold together.

pub mod access;
pub mod backend;
pub mod chap;
pub mod commands;
pub mod cut;
pub mod data_in;
pub mod discovery;
pub mod exchange;
pub mod full_feature;
pub mod line;
pub mod link;
pub mod login;
pub mod memory;
pub mod output;
pub mod parameters;
pub mod refused;
pub mod task_management;
pub mod task_set;
pub mod tasks;
pub mod transfer;
pub mod turns;
pub mod writing;
