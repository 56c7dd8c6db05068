//! One session in full feature phase as a pure machine: [`full_feature`].
//!
//! When a PDU's turn has come is said by the [`command_window`], with what came [`early`]. The [`task_manager`] has the
//! [`commands`]: their [`tasks`] in the order of the [`scheduler`] ([`task_set`]), their [`data_out`]
//! ([`data_out_buffer`]) and [`data_in`] within their [`budget`]; and [`task_management`]. The session's other
//! [`requests`]: [`nop`], [`text`],
//! [`logout`]. What is sent is made by a [`sender`]; [`reject`] and [`async_message`] answer none of the above.

pub mod async_message;
pub mod budget;
pub mod command_window;
pub mod commands;
pub mod data_in;
pub mod data_out;
pub mod data_out_buffer;
pub mod early;
pub mod full_feature;
pub mod logout;
pub mod nop;
pub mod opening;
pub mod reject;
pub mod requests;
pub mod scheduler;
pub mod sender;
pub mod task_management;
pub mod task_manager;
pub mod task_set;
pub mod tasks;
pub mod text;
pub mod usage;
