//! Every byte that crosses a wire of a Twinlun appliance, and nothing else: no I/O, no clock, no lock.
//!
//! * [`iscsi`]: the PDUs of RFC 7143, one file each in the order of its section 11.
//! * [`scsi`]: CDBs, sense data, INQUIRY, VPD and mode pages, parameter data.
//! * [`interlink`]: the messages between the two controllers.
//! * [`block`]: block addresses and ranges, which all three speak of.

pub mod block;
pub mod interlink;
pub mod iscsi;
pub mod scsi;
