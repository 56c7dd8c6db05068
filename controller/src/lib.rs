//! One storage control unit of a Twinlun appliance.
//!
//! The cores ([`lun`], [`group`], [`appliance`]) are plain structs: an event and the time go in, actions come
//! out. [`unit::Controller`] is the one loop around them (lock, handle, take, perform), generic over
//! [`world::World`], so that the product and the simulated world run the same code.

pub mod appliance;
pub mod background;
pub mod clock;
pub mod command;
pub mod copy_manager;
pub mod disk;
pub mod exclusive;
pub mod group;
pub mod lease;
pub mod limits;
pub mod link;
pub mod log_limit;
pub mod lun;
pub mod pair;
pub mod plan;
pub mod reservation;
pub mod route;
pub mod shared;
pub mod status;
#[cfg(test)]
mod testing;
pub mod time;
pub mod unit;
pub mod volume;
pub mod world;
