//! The messages between the two controllers, versioned.
