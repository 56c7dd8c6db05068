//! appliance.toml: reading it, and telling what is wrong with it.
