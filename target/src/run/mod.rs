//! The product around the cores: workers, sockets of the interlink, disks, state store.
