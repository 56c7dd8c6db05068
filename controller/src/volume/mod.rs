//! Volumes: what one controller keeps of a LUN, and where it keeps its own state.

pub mod files;
pub mod lock;
pub mod record;
pub mod redo;
pub mod room;
pub mod signature;
pub mod stack;
pub mod store;
pub mod superblock;
