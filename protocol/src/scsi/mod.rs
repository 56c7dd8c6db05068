//! SCSI as it travels inside iSCSI: command descriptor blocks, status, sense data, pages.
//!
//! A CDB is decoded beside what it asks for: [`inquiry`], [`vpd`], [`mode`], [`log`], [`defects`], [`report_luns`],
//! [`read_capacity`], [`operation_codes`], [`task_management`] and [`target_port_groups`] describe a logical unit;
//! [`cdb`], [`provisioning`], [`extended_copy`], [`sanitize`] and [`format`](mod@format) reach its blocks.

pub mod cdb;
pub mod defects;
pub mod extended_copy;
pub mod format;
pub mod inquiry;
pub mod log;
pub mod lun;
pub mod mode;
pub mod operation_codes;
pub mod persistent_reservation;
pub mod provisioning;
pub mod read_capacity;
pub mod report_luns;
pub mod sanitize;
pub mod sense;
pub mod target_port_groups;
pub mod task_management;
pub mod vpd;
