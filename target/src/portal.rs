//! Portals: listening sockets that hand connections to workers.
