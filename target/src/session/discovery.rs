//! Text Requests in full feature phase (RFC 7143 11.10, appendix C): SendTargets, and what little else may be
//! said there.

use protocol::iscsi::keys::{Key, Stage};
use protocol::iscsi::negotiation::{self, Answer};
use protocol::iscsi::{RESERVED_TAG, TextRequest, text};

use super::parameters::{Parameters, WISHES};
use crate::frontend::FrontendConfig;

/// Text of one exchange, over all requests joined by the C bit, at most, in bytes.
pub const TEXT_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Why a Text Request gets a Reject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// A tag of no exchange in being.
    #[error("no text exchange with these tags is open")]
    NoExchange,
    /// Not a list of pairs, too long, or a key that must not be said here.
    #[error("the text breaks the rules of a text exchange")]
    Malformed,
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

/// The one text exchange a connection may have open (10.9 allows one at a time).
#[derive(Debug, Default)]
pub struct TextExchange {
    task_tag: u32,
    transfer_tag: Option<u32>,
    asked: Vec<u8>,
    rest: Vec<u8>,
}

impl TextExchange {
    /// Takes a request; `fresh_tag` is a target transfer tag nothing else uses.
    pub fn on_request(
        &mut self,
        request: &TextRequest,
        data: &[u8],
        directory: &FrontendConfig,
        parameters: &mut Parameters,
        fresh_tag: u32,
    ) -> Result<Part, TextError> {
        if request.target_transfer_tag == RESERVED_TAG {
            *self = Self { task_tag: request.initiator_task_tag, ..Self::default() };
        } else if self.transfer_tag != Some(request.target_transfer_tag)
            || self.task_tag != request.initiator_task_tag
        {
            return Err(TextError::NoExchange);
        }
        if self.asked.len() + data.len() > TEXT_REQUEST_BYTES_MAX {
            *self = Self::default();
            return Err(TextError::Malformed);
        }
        self.asked.extend_from_slice(data);
        if request.continue_bit {
            self.transfer_tag = Some(fresh_tag);
            return Ok(Part { text: Vec::new(), last: false, continues: false, transfer_tag: fresh_tag });
        }
        if self.rest.is_empty() {
            let asked = core::mem::take(&mut self.asked);
            self.rest = answer(&asked, directory, parameters)?;
        }
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
}

fn answer(
    asked: &[u8],
    directory: &FrontendConfig,
    parameters: &mut Parameters,
) -> Result<Vec<u8>, TextError> {
    let mut reply = Vec::new();
    for (key, value) in text::decode(asked).map_err(|_| TextError::Malformed)? {
        let answer = negotiation::answer(&mut parameters.agreed, &WISHES, Stage::FullFeature, key, value);
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

/// SendTargets (appendix C). `All` belongs to discovery sessions, the empty value to normal ones.
fn send_targets(value: &str, directory: &FrontendConfig, discovery: bool, reply: &mut Vec<u8>) {
    let listed = match value {
        "All" if discovery => true,
        "" if !discovery => true,
        "All" | "" => {
            text::push_pair(reply, "SendTargets", "Reject");
            false
        }
        name => name.eq_ignore_ascii_case(&directory.iqn),
    };
    if !listed {
        return;
    }
    text::push_pair(reply, "TargetName", &directory.iqn);
    for group in &directory.portal_groups {
        for address in &group.addresses {
            text::push_pair(reply, "TargetAddress", &format!("{address},{}", group.tag));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::PortalGroup;
    use protocol::iscsi::{CmdSn, StatSn};

    fn directory() -> FrontendConfig {
        let group = |tag, addresses: &[&str]| PortalGroup {
            tag,
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        };
        FrontendConfig {
            iqn: "iqn.2026-11.com.example:demo".to_owned(),
            portal_groups: vec![group(1, &["127.0.0.1:3260"]), group(2, &["127.0.0.1:3261", "[::1]:3261"])],
            own_group: 1,
        }
    }

    fn request(transfer_tag: u32, text: &[u8]) -> TextRequest {
        TextRequest {
            immediate: true,
            final_bit: true,
            continue_bit: false,
            data_segment_length: text.len() as u32,
            lun: [0; 8],
            initiator_task_tag: 9,
            target_transfer_tag: transfer_tag,
            cmd_sn: CmdSn(1),
            exp_stat_sn: StatSn(1),
        }
    }

    fn ask(discovery: bool, text: &[u8]) -> Result<String, TextError> {
        let mut parameters = Parameters { discovery, ..Parameters::default() };
        let mut exchange = TextExchange::default();
        let part =
            exchange.on_request(&request(RESERVED_TAG, text), text, &directory(), &mut parameters, 5)?;
        assert!(part.last && !part.continues && part.transfer_tag == RESERVED_TAG);
        Ok(String::from_utf8(part.text).unwrap().replace('\0', "|"))
    }

    const LIST: &str = "TargetName=iqn.2026-11.com.example:demo|TargetAddress=127.0.0.1:3260,1|\
                        TargetAddress=127.0.0.1:3261,2|TargetAddress=[::1]:3261,2|";

    #[test]
    fn send_targets_lists_the_portals_of_both_controllers() {
        let cases: [(bool, &[u8], &str); 8] = [
            (true, b"SendTargets=All\0", LIST),
            (true, b"SendTargets=iqn.2026-11.com.example:demo\0", LIST),
            (true, b"SendTargets=iqn.other\0", ""),
            (true, b"SendTargets=\0", "SendTargets=Reject|"),
            (false, b"SendTargets=\0", LIST),
            (false, b"SendTargets=All\0", "SendTargets=Reject|"),
            (false, b"SendTargets=iqn.2026-11.com.example:demo\0", LIST),
            (false, b"X-com.example.what=1\0", "X-com.example.what=NotUnderstood|"),
        ];
        for (discovery, text, expected) in cases {
            assert_eq!(ask(discovery, text).unwrap(), expected, "{discovery} {text:?}");
        }
    }

    #[test]
    fn login_keys_are_refused_in_full_feature_phase() {
        for text in [&b"MaxBurstLength=512\0"[..], b"AuthMethod=None\0", b"nonsense\0"] {
            assert_eq!(ask(false, text), Err(TextError::Malformed));
        }
    }

    #[test]
    fn a_long_answer_comes_in_parts_that_the_initiator_asks_for() {
        let mut parameters = Parameters { discovery: true, ..Parameters::default() };
        parameters.agreed.max_recv_data_segment_length = 50;
        let mut exchange = TextExchange::default();
        let mut asked = request(RESERVED_TAG, b"SendTargets=All\0");
        let mut text = &b"SendTargets=All\0"[..];
        let mut whole = Vec::new();
        for tag in 1.. {
            let part = exchange.on_request(&asked, text, &directory(), &mut parameters, tag).unwrap();
            assert!(part.text.len() <= 50);
            whole.extend(part.text);
            if part.last {
                break;
            }
            assert!(part.continues);
            asked = request(part.transfer_tag, b"");
            text = b"";
        }
        assert_eq!(String::from_utf8(whole).unwrap().replace('\0', "|"), LIST);
    }

    #[test]
    fn a_tag_of_no_exchange_is_refused() {
        let mut exchange = TextExchange::default();
        let asked = request(77, b"");
        let answer = exchange.on_request(&asked, b"", &directory(), &mut Parameters::default(), 1);
        assert_eq!(answer, Err(TextError::NoExchange));
    }
}
