//! REPORT SUPPORTED OPERATION CODES (SPC-4 6.35): which commands there are, from the device server's table.

use super::cdb::{Cdb, be16, be32};

/// REPORTING OPTIONS (SPC-4 table 292).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Options {
    /// 000b: all commands.
    All,
    /// 001b: one operation code that has no service actions.
    Opcode,
    /// 010b: one operation code with one service action.
    ServiceAction,
    /// 011b: one operation code, and its service action if it has any.
    Either,
}

/// The CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportOperationCodes {
    /// RCTD: with command timeouts descriptors.
    pub timeouts: bool,
    /// `None` for reporting options this target does not know.
    pub options: Option<Options>,
    /// REQUESTED OPERATION CODE.
    pub opcode: u8,
    /// REQUESTED SERVICE ACTION.
    pub service_action: u16,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: usize,
}

impl ReportOperationCodes {
    /// Decodes the CDB.
    #[must_use]
    pub const fn of(cdb: &Cdb) -> Self {
        let options = match cdb[2] & 0x07 {
            0 => Some(Options::All),
            1 => Some(Options::Opcode),
            2 => Some(Options::ServiceAction),
            3 => Some(Options::Either),
            _ => None,
        };
        Self {
            timeouts: cdb[2] & 0x80 != 0,
            options,
            opcode: cdb[3],
            service_action: be16(cdb, 4),
            allocation: be32(cdb, 6) as usize,
        }
    }
}

/// One command of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supported<'a> {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, if the operation code has them.
    pub service_action: Option<u8>,
    /// CDB USAGE DATA: the operation code, then a bit for every bit that is looked at. As long as the CDB.
    pub usage: &'a [u8],
}

/// A command timeouts descriptor (SPC-4 6.35.4) that specifies no times.
const TIMEOUTS_DESCRIPTOR: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The all_commands parameter data (SPC-4 6.35.2).
pub fn all_commands<'a>(table: impl Iterator<Item = Supported<'a>>, timeouts: bool) -> Vec<u8> {
    const SERVACTV: u8 = 0x01;
    const CTDP: u8 = 0x02;
    let mut data = vec![0; 4];
    for command in table {
        debug_assert!(
            matches!(command.usage.len(), 6 | 10 | 12 | 16),
            "no length of a CDB: {:02x?}",
            command.usage
        );
        let servactv = if command.service_action.is_some() { SERVACTV } else { 0 };
        let ctdp = if timeouts { CTDP } else { 0 };
        let length = command.usage.len().to_be_bytes();
        data.extend_from_slice(&[command.opcode, 0, 0, command.service_action.unwrap_or(0), 0]);
        data.push(servactv | ctdp);
        data.extend_from_slice(&length[length.len() - 2..]);
        if timeouts {
            data.extend_from_slice(&TIMEOUTS_DESCRIPTOR);
        }
    }
    let length = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

/// The one_command parameter data (SPC-4 6.35.3); `None` for a command that is not supported.
#[must_use]
pub fn one_command(command: Option<Supported<'_>>, timeouts: bool) -> Vec<u8> {
    const CTDP: u8 = 0x80;
    const NOT_SUPPORTED: u8 = 0x01;
    const SUPPORTED_AS_STANDARD: u8 = 0x03;
    let Some(command) = command else {
        return vec![0, NOT_SUPPORTED, 0, 0];
    };
    debug_assert_eq!(command.usage.first(), Some(&command.opcode), "the usage data begins with the opcode");
    let length = command.usage.len().to_be_bytes();
    let mut data = vec![0, SUPPORTED_AS_STANDARD | if timeouts { CTDP } else { 0 }];
    data.extend_from_slice(&length[length.len() - 2..]);
    data.extend_from_slice(command.usage);
    if timeouts {
        data.extend_from_slice(&TIMEOUTS_DESCRIPTOR);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Supported<'_> = Supported { opcode: 0, service_action: None, usage: &[0, 0, 0, 0, 0, 4] };
    const CAPACITY: Supported<'_> =
        Supported { opcode: 0x9e, service_action: Some(0x10), usage: &[0x9e; 16] };

    #[test]
    fn all_commands_have_eight_bytes_each_and_twelve_more_with_timeouts() {
        assert_eq!(
            all_commands([READY, CAPACITY].into_iter(), false),
            [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 6, 0x9e, 0, 0, 0x10, 0, 1, 0, 16]
        );
        let with = all_commands([READY, CAPACITY].into_iter(), true);
        assert_eq!(with.len(), 4 + 2 * 20);
        assert_eq!(with[..14], [0, 0, 0, 40, 0, 0, 0, 0, 0, 2, 0, 6, 0, 10]);
        assert_eq!(with[24..34], [0x9e, 0, 0, 0x10, 0, 3, 0, 16, 0, 10]);
    }

    #[test]
    fn one_command_brings_its_usage_data_or_says_not_supported() {
        assert_eq!(one_command(Some(READY), false), [0, 3, 0, 6, 0, 0, 0, 0, 0, 4]);
        assert_eq!(one_command(Some(READY), true)[..4], [0, 0x83, 0, 6]);
        assert_eq!(one_command(Some(READY), true).len(), 4 + 6 + 12);
        assert_eq!(one_command(None, true), [0, 1, 0, 0]);
    }

    #[test]
    fn the_cdb_gives_options_and_the_command_asked_for() {
        let mut cdb = [0; 16];
        cdb[..12].copy_from_slice(&[0xa3, 0x0c, 0x82, 0x9e, 0, 0x10, 0, 0, 2, 0, 0, 0]);
        let wanted = ReportOperationCodes {
            timeouts: true,
            options: Some(Options::ServiceAction),
            opcode: 0x9e,
            service_action: 0x10,
            allocation: 512,
        };
        assert_eq!(ReportOperationCodes::of(&cdb), wanted);
        cdb[2] = 0x04;
        assert_eq!(ReportOperationCodes::of(&cdb).options, None);
    }
}
