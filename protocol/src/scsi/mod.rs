//! SCSI as it travels inside iSCSI: command descriptor blocks, status, sense data, pages.

pub mod sense;
