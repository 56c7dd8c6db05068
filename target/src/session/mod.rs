//! The session layer of one connection as pure state machines: login, command window, data transfer.
