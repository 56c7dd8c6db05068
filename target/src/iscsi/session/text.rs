//! Text Requests in full feature phase (RFC 7143 11.10, appendix C): SendTargets, and what little else may be
//! said there.

use core::net::{IpAddr, SocketAddr};

use protocol::iscsi::keys::{Key, Stage};
use protocol::iscsi::negotiation::{self, Answer};
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{RESERVED_TAG, RejectReason, TextRequest, TextResponse, text};

use super::sender::Sender;
use crate::iscsi::directory::{FrontendConfig, PortalGroup};
use crate::iscsi::login::parameters::{Parameters, WISHES};

/// Text of one exchange, over all requests joined by the C bit, at most, in bytes.
pub const TEXT_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Keys of one exchange at most.
pub const TEXT_KEYS_MAX: usize = 64;

/// Why a Text Request gets a Reject. Its exchange is over, and nothing of it has any effect (7.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// A tag of no exchange in being, or the reserved tag.
    #[error("no text exchange with these tags is open")]
    NoExchange,
    /// Not a list of pairs, a key that comes twice or must not be said here, data where there must be none.
    #[error("the text breaks the rules of a text exchange")]
    Malformed,
    /// More text than [`TEXT_REQUEST_BYTES_MAX`] or [`TEXT_KEYS_MAX`] allow.
    #[error("the text is too long")]
    TooLong,
}

impl TextError {
    /// The reason of the Reject (11.17.1).
    #[must_use]
    pub const fn reason(self) -> RejectReason {
        match self {
            Self::NoExchange => RejectReason::InvalidPduField,
            Self::Malformed => RejectReason::ProtocolError,
            Self::TooLong => RejectReason::LongOperationReject,
        }
    }
}

/// One PDU's worth of answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The data segment.
    pub text: Vec<u8>,
    /// F: nothing follows.
    pub last: bool,
    /// C: the text goes on in the next response.
    pub continues: bool,
    /// [`RESERVED_TAG`] exactly with `last`.
    pub transfer_tag: u32,
}

/// Sends a part of the answer to the request with this tag.
pub fn respond(sender: &mut Sender<'_>, tag: u32, part: &Part) {
    let header = TextResponse {
        final_bit: part.last,
        continue_bit: part.continues,
        data_segment_length: part.text.len() as u32,
        lun: [0; 8],
        initiator_task_tag: tag,
        target_transfer_tag: part.transfer_tag,
        stat_sn: sender.take_stat_sn(),
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
    };
    sender.output.pdu(&header.encode(), &part.text, sender.parameters.digests());
}

/// The one text exchange a connection may have open (6.2 allows one at a time).
#[derive(Debug, Default)]
pub struct TextExchange {
    task_tag: u32,
    transfer_tag: Option<u32>,
    /// What came with C=1 and is to be continued.
    asked: Vec<u8>,
    /// What the next responses say.
    rest: Vec<u8>,
    /// Keys the initiator has used in this exchange.
    keys: Vec<String>,
    /// What will be agreed when the exchange is complete.
    agreed: Option<Agreed>,
}

impl TextExchange {
    /// Takes a request; `fresh_tag` is a target transfer tag nothing else uses. After the last part has been sent
    /// [`TextExchange::settle`] is due.
    pub fn on_request(
        &mut self,
        request: &TextRequest,
        data: &[u8],
        directory: Directory<'_>,
        parameters: &Parameters,
        fresh_tag: u32,
    ) -> Result<Part, TextError> {
        let part = self.step(request, data, directory, parameters, fresh_tag);
        if part.is_err() {
            *self = Self::default();
        }
        part
    }

    fn step(
        &mut self,
        request: &TextRequest,
        data: &[u8],
        directory: Directory<'_>,
        parameters: &Parameters,
        fresh_tag: u32,
    ) -> Result<Part, TextError> {
        if request.initiator_task_tag == RESERVED_TAG {
            return Err(TextError::NoExchange);
        }
        if request.target_transfer_tag == RESERVED_TAG {
            *self = Self { task_tag: request.initiator_task_tag, ..Self::default() };
        } else if self.transfer_tag != Some(request.target_transfer_tag)
            || self.task_tag != request.initiator_task_tag
        {
            return Err(TextError::NoExchange);
        }
        if !self.rest.is_empty() {
            // A response with the C bit is answered by a request without data (6.2).
            if !data.is_empty() || request.continue_bit {
                return Err(TextError::Malformed);
            }
            return Ok(self.next_part(request.final_bit, parameters.send_segment() as usize, fresh_tag));
        }
        if self.asked.len() + data.len() > TEXT_REQUEST_BYTES_MAX {
            return Err(TextError::TooLong);
        }
        self.asked.extend_from_slice(data);
        if request.continue_bit {
            self.transfer_tag = Some(fresh_tag);
            return Ok(Part { text: Vec::new(), last: false, continues: false, transfer_tag: fresh_tag });
        }
        let asked = core::mem::take(&mut self.asked);
        self.rest = self.answer(&asked, directory, parameters)?;
        Ok(self.next_part(request.final_bit, parameters.send_segment() as usize, fresh_tag))
    }

    fn next_part(&mut self, wanted_final: bool, most: usize, fresh_tag: u32) -> Part {
        let text = if self.rest.len() > most {
            let rest = self.rest.split_off(most);
            core::mem::replace(&mut self.rest, rest)
        } else {
            core::mem::take(&mut self.rest)
        };
        let continues = !self.rest.is_empty();
        let last = !continues && wanted_final;
        self.transfer_tag = (!last).then_some(fresh_tag);
        Part { text, last, continues, transfer_tag: self.transfer_tag.unwrap_or(RESERVED_TAG) }
    }

    fn answer(
        &mut self,
        asked: &[u8],
        directory: Directory<'_>,
        parameters: &Parameters,
    ) -> Result<Vec<u8>, TextError> {
        let mut reply = Vec::new();
        let agreed = self.agreed.get_or_insert(parameters.agreed);
        for (key, value) in text::decode(asked).map_err(|_| TextError::Malformed)? {
            if self.keys.iter().any(|known| known == key) {
                return Err(TextError::Malformed);
            }
            if self.keys.len() == TEXT_KEYS_MAX {
                return Err(TextError::TooLong);
            }
            self.keys.push(key.to_owned());
            let answer = negotiation::answer(agreed, &WISHES, Stage::FullFeature, key, value);
            match answer.map_err(|_| TextError::Malformed)? {
                Answer::ByCaller(Key::SendTargets) => {
                    send_targets(value, directory, parameters.discovery, &mut reply);
                }
                answer => {
                    if let Some(value) = answer.value() {
                        text::push_pair(&mut reply, key, &value);
                    }
                }
            }
        }
        Ok(reply)
    }

    /// The exchange is complete: what was agreed takes effect.
    pub fn settle(&mut self, parameters: &mut Parameters) {
        if let Some(agreed) = core::mem::take(self).agreed {
            parameters.agreed = agreed;
        }
    }

    /// ABORT TASK for a text exchange; false if none with this tag is open.
    pub fn abort(&mut self, task_tag: u32) -> bool {
        let open = self.transfer_tag.is_some() && self.task_tag == task_tag;
        if open {
            *self = Self::default();
        }
        open
    }
}

/// SendTargets (appendix C). `All` belongs to discovery sessions, the empty value to normal ones.
fn send_targets(value: &str, directory: Directory<'_>, discovery: bool, reply: &mut Vec<u8>) {
    let iqn = &directory.config.iqn;
    let listed = match value {
        "All" if discovery => true,
        "" if !discovery => true,
        "All" | "" => {
            text::push_pair(reply, "SendTargets", "Reject");
            false
        }
        name => name.eq_ignore_ascii_case(iqn),
    };
    if !listed {
        return;
    }
    text::push_pair(reply, "TargetName", iqn);
    for group in &directory.config.portal_groups {
        for address in directory.told(group) {
            text::push_pair(reply, "TargetAddress", &format!("{address},{}", group.tag));
        }
    }
}

/// What SendTargets lists, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    /// The target and its portals.
    pub config: &'a FrontendConfig,
    /// The host's address and that of the portal it came to, if they are known.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

impl Directory<'_> {
    /// The addresses of a group that mean something to the host. The group it came to has at least one: that where it
    /// is.
    fn told(&self, group: &PortalGroup) -> Vec<String> {
        let means = |address: &String| self.as_told(address);
        let mut told: Vec<String> = group.addresses.iter().filter_map(means).collect();
        if let Some((_, portal)) = self.ends
            && told.is_empty()
            && group.tag == self.config.own_group
        {
            told.push(without_zone(portal).to_string());
        }
        told
    }

    /// A loopback address means another machine to a host on another machine, and a shared-local one nothing to a host
    /// that is not on that shared (RFC 4291 2.5.3, 2.5.6).
    fn as_told(&self, address: &str) -> Option<String> {
        let Ok(address) = address.parse::<SocketAddr>() else {
            return Some(address.to_owned());
        };
        let elsewhere = |is: fn(IpAddr) -> bool| {
            self.ends
                .is_some_and(|(host, _)| is(address.ip().to_canonical()) && !is(host.ip().to_canonical()))
        };
        let means_nothing = elsewhere(|ip| ip.is_loopback()) || elsewhere(is_link_local);
        (!means_nothing).then(|| without_zone(address).to_string())
    }
}

/// Whether an address is of use on its shared only, and with a zone that each node numbers for itself.
pub(crate) const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// A zone index is of the node that has it alone (RFC 4007 6).
const fn without_zone(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
