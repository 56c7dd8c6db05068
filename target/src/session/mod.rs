//! The session layer of one connection as pure state machines: login, command window, data transfer.
//!
//! Error recovery level 0, one connection per session (RFC 7143). From the bytes inwards: [`mod@line`] is one
//! connection without its socket; [`cut`] takes PDUs out of its input; [`login`] agrees on [`parameters`] with those
//! whom [`access`] and [`chap`] let in, or tells why not ([`refused`]); [`full_feature`] is the session afterwards, with its
//! [`command_window`] with what came [`early`], its [`task_manager`]: [`commands`] and their [`tasks`] in the order of the [`scheduler`]
//! ([`task_set`]), [`data_out`] ([`transfer`]) and [`data_in`] within their [`budget`]; [`task_management`]; its other [`requests`]: [`nop`],
//! [`text`], [`logout`], [`reject`], [`async_message`]. [`link`] is what several threads share
//! of it, [`output`] what waits to be written, [`memory`] what all sessions hold together.

pub mod access;
pub mod async_message;
pub mod backend;
pub mod budget;
pub mod chap;
pub mod command_window;
pub mod commands;
pub mod cut;
pub mod data_in;
pub mod data_out;
pub mod early;
pub mod full_feature;
pub mod line;
pub mod link;
pub mod login;
pub mod logout;
pub mod memory;
pub mod nop;
pub mod opening;
pub mod output;
pub mod parameters;
pub mod refused;
pub mod reject;
pub mod requests;
pub mod scheduler;
pub mod sender;
pub mod task_management;
pub mod task_manager;
pub mod task_set;
pub mod tasks;
pub mod text;
pub mod transfer;
pub mod usage;
