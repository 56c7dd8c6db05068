//! What every PDU of a session in full feature phase carries, and where it goes.

use controller::unit::SenseFormats;
use protocol::iscsi::{CmdSn, Lun, RESERVED_TAG, StatSn};
use protocol::scsi::lun::Address;
use protocol::scsi::sense::Sense;

use super::command_window::CommandWindow;
use crate::iscsi::connection::output::Output;
use crate::iscsi::login::parameters::Parameters;

/// What the PDUs of one event are made from.
#[derive(Debug)]
pub struct Sender<'a> {
    /// The connection's output.
    pub output: &'a mut Output,
    /// The next StatSN.
    pub stat_sn: &'a mut StatSn,
    /// The command window.
    pub window: &'a mut CommandWindow,
    /// Target transfer tags.
    pub tags: &'a mut TransferTags,
    /// What was negotiated.
    pub parameters: &'a Parameters,
    /// The numbers of the LUNs the initiator may see; all if none.
    pub luns: Option<&'a [u16]>,
    /// In which format sense data of the LUNs is sent.
    pub sense_formats: &'a SenseFormats,
}

impl Sender<'_> {
    /// ExpCmdSN.
    #[must_use]
    pub const fn expected(&self) -> CmdSn {
        self.window.expected()
    }

    /// MaxCmdSN.
    #[must_use]
    pub const fn maximum(&self) -> CmdSn {
        self.window.maximum()
    }

    /// The StatSN of a PDU that uses one up.
    pub fn take_stat_sn(&mut self) -> StatSn {
        let this = *self.stat_sn;
        *self.stat_sn = this.next();
        this
    }

    /// True if the initiator may see a LUN that this LUN field could name.
    #[must_use]
    pub fn sees(&self, lun: &Lun) -> bool {
        self.luns.is_none_or(|seen| match Address::decode(lun) {
            Address::Unit(number) => seen.contains(&number),
            Address::ReportLuns | Address::Other => false,
        })
    }

    /// Sense data as D_SENSE of its LUN says: in fixed format if the initiator sees no LUN there.
    pub fn sense_data(&self, lun: &Lun, sense: &Sense) -> Vec<u8> {
        let descriptor = match Address::decode(lun) {
            Address::Unit(number) => {
                self.luns.is_none_or(|seen| seen.contains(&number))
                    && self.sense_formats.is_descriptor(number)
            }
            Address::ReportLuns | Address::Other => false,
        };
        if descriptor { sense.to_descriptor() } else { sense.to_fixed() }
    }
}

/// Target transfer tags: none is given twice before all others have been.
#[derive(Clone, Copy, Debug)]
pub struct TransferTags {
    next: u32,
}

impl Default for TransferTags {
    fn default() -> Self {
        Self { next: 1 }
    }
}

impl TransferTags {
    /// A tag that nothing under way uses; never [`RESERVED_TAG`].
    pub fn take(&mut self) -> u32 {
        let tag = self.next;
        debug_assert!(tag != 0 && tag != RESERVED_TAG, "no transfer has this tag");
        self.next = if tag + 1 == RESERVED_TAG { 1 } else { tag + 1 };
        tag
    }
}
