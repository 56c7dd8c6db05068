//! Volumes: what one controller keeps of a LUN.

pub mod superblock;
