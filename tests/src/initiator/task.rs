//! One command of the initiator on its way: what was sent of its data-out, what came of its data-in.

use super::login::Agreed;
use super::pdu::{self, FINAL, Header, Pdu, RESERVED_TAG, opcode};
use super::response::{Residual, Response, Sense, status};
use super::{Request, Tag, cdb};

/// A command from its queueing to its answer.
#[derive(Debug)]
pub(super) struct Task {
    request: Request,
    /// The CmdSN it was sent with.
    pub(super) cmd_sn: Option<u32>,
    /// Data-out sent or asked for so far, in bytes: the target asks in order.
    asked: usize,
    received: Vec<u8>,
    /// Data-In PDUs and R2Ts so far.
    data_sn: u32,
    r2t_sn: u32,
}

impl Task {
    pub(super) fn new(request: Request) -> Self {
        Self { request, cmd_sn: None, asked: 0, received: Vec::new(), data_sn: 0, r2t_sn: 0 }
    }

    /// Sends the command PDU with its immediate data and what may follow unsolicited.
    pub(super) fn send_command(
        &mut self,
        tag: Tag,
        cmd_sn: u32,
        exp_stat_sn: u32,
        agreed: &Agreed,
        output: &mut Vec<u8>,
    ) {
        let total = self.request.out.len();
        let first_burst = agreed.first_burst.min(total);
        let immediate = if agreed.immediate_data { first_burst.min(agreed.send_segment) } else { 0 };
        let unsolicited = if agreed.initial_r2t { immediate } else { first_burst };
        let read = self.request.in_bytes > 0;
        let mut flags = 0x01; // SIMPLE
        flags |= if unsolicited == immediate { FINAL } else { 0 };
        flags |= if read { 0x40 } else { 0 } | if total > 0 { 0x20 } else { 0 };
        let expected = if read { self.request.in_bytes } else { total as u32 };
        let header = Header::new(opcode::SCSI_COMMAND, flags)
            .with(8, &cdb::lun_field(self.request.lun))
            .with_u32(16, tag)
            .with_u32(20, expected)
            .with_u32(24, cmd_sn)
            .with_u32(28, exp_stat_sn)
            .with(32, &self.request.cdb.0);
        pdu::encode(output, header, &self.request.out[..immediate], agreed.digests);
        self.cmd_sn = Some(cmd_sn);
        self.asked = unsolicited;
        if unsolicited > immediate {
            self.send_data(tag, RESERVED_TAG, immediate..unsolicited, exp_stat_sn, agreed, output);
        }
    }

    fn send_data(
        &self,
        tag: Tag,
        transfer_tag: u32,
        range: std::ops::Range<usize>,
        exp_stat_sn: u32,
        agreed: &Agreed,
        output: &mut Vec<u8>,
    ) {
        let mut at = range.start;
        let mut data_sn = 0;
        while at < range.end {
            let end = range.end.min(at + agreed.send_segment);
            let header = Header::new(opcode::DATA_OUT, if end == range.end { FINAL } else { 0 })
                .with(8, &cdb::lun_field(self.request.lun))
                .with_u32(16, tag)
                .with_u32(20, transfer_tag)
                .with_u32(28, exp_stat_sn)
                .with_u32(36, data_sn)
                .with_u32(40, at as u32);
            pdu::encode(output, header, &self.request.out[at..end], agreed.digests);
            at = end;
            data_sn += 1;
        }
    }

    /// Ready To Transfer (RFC 7143 11.8).
    pub(super) fn on_r2t(
        &mut self,
        header: &Header,
        exp_stat_sn: u32,
        agreed: &Agreed,
        output: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let offset = header.u32(40) as usize;
        let length = header.u32(44) as usize;
        if header.u32(36) != self.r2t_sn {
            return Err("R2TSN is out of order");
        }
        if header.u32(20) == RESERVED_TAG {
            return Err("an R2T without a target transfer tag");
        }
        if length == 0 || length > agreed.max_burst {
            return Err("an R2T for nothing or for more than MaxBurstLength");
        }
        if offset != self.asked || offset + length > self.request.out.len() {
            return Err("an R2T out of order or past the data");
        }
        self.r2t_sn += 1;
        self.asked += length;
        self.send_data(header.tag(), header.u32(20), offset..offset + length, exp_stat_sn, agreed, output);
        Ok(())
    }

    /// SCSI Data-In (RFC 7143 11.7); with the S bit it carries the status.
    pub(super) fn on_data_in(&mut self, pdu: &Pdu) -> Result<Option<Response>, &'static str> {
        let header = &pdu.header;
        if header.u32(36) != self.data_sn {
            return Err("DataSN is out of order");
        }
        if header.u32(40) as usize != self.received.len() {
            return Err("Data-In out of order");
        }
        if self.received.len() + pdu.data.len() > self.request.in_bytes as usize {
            return Err("more Data-In than asked for");
        }
        self.data_sn += 1;
        self.received.extend_from_slice(&pdu.data);
        let flags = header.0[1];
        if flags & 0x01 == 0 {
            return Ok(None);
        }
        if flags & FINAL == 0 {
            return Err("the S bit without the F bit");
        }
        self.end(header, None).map(Some)
    }

    /// SCSI Response (RFC 7143 11.4).
    pub(super) fn on_response(&mut self, pdu: &Pdu) -> Result<Response, &'static str> {
        let header = &pdu.header;
        if header.0[2] != 0 {
            return Err("the target failed (a response code other than 00h)");
        }
        if header.u32(36) != self.data_sn {
            return Err("ExpDataSN does not count the Data-In PDUs (RFC 7143 11.4.8)");
        }
        let sense = match pdu.data.split_first_chunk::<2>() {
            Some((length, rest)) => {
                let length = usize::from(u16::from_be_bytes(*length));
                Some(
                    Sense::parse(rest.get(..length).ok_or("SenseLength is too long")?)
                        .ok_or("bad sense data")?,
                )
            }
            None => None,
        };
        if (header.0[3] == status::CHECK_CONDITION) != sense.is_some() {
            return Err("CHECK CONDITION and sense data do not go together");
        }
        self.end(header, sense)
    }

    fn end(&mut self, header: &Header, sense: Option<Sense>) -> Result<Response, &'static str> {
        let count = header.u32(44);
        let residual = match header.0[1] & 0x06 {
            0x00 => Residual::None,
            0x02 => Residual::Underflow(count),
            0x04 => Residual::Overflow(count),
            _ => return Err("both underflow and overflow"),
        };
        let missing = if let Residual::Underflow(count) = residual { count as usize } else { 0 };
        let good = header.0[3] == status::GOOD;
        if good
            && self.request.in_bytes > 0
            && self.received.len() + missing != self.request.in_bytes as usize
        {
            return Err("the residual count does not explain the length of the data");
        }
        let data = std::mem::take(&mut self.received);
        Ok(Response { status: header.0[3], sense, data, residual })
    }
}
