//! Text Requests in full feature phase (RFC 7143 11.10, appendix C): SendTargets, and what little else may be
//! said there.

use core::net::{IpAddr, SocketAddr};

use protocol::iscsi::keys::{Key, Stage};
use protocol::iscsi::negotiation::{self, Answer};
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{RESERVED_TAG, RejectReason, TextRequest, text};

use super::parameters::{Parameters, WISHES};
use crate::frontend::{FrontendConfig, PortalGroup};

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
    /// The addresses of a group that mean something to the host. The group it came to has at least one: that where it is.
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

    /// A loopback address means another machine to a host on another machine, and a link-local one nothing to a host
    /// that is not on that link (RFC 4291 2.5.3, 2.5.6).
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

/// Whether an address is of use on its link only, and with a zone that each node numbers for itself.
pub(crate) const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// A zone index is of the node that has it alone (RFC 4007 6).
const fn without_zone(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::iscsi::{CmdSn, StatSn};

    fn config() -> FrontendConfig {
        let group = |tag, addresses: &[&str]| PortalGroup {
            tag,
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        };
        FrontendConfig {
            iqn: "iqn.2026-11.com.example:demo".to_owned(),
            portal_groups: vec![group(1, &["127.0.0.1:3260"]), group(2, &["127.0.0.1:3261", "[::1]:3261"])],
            own_group: 1,
            access: Default::default(),
        }
    }

    fn directory(config: &FrontendConfig) -> Directory<'_> {
        Directory { config, ends: None }
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
        ask_in(directory(&config()), discovery, text)
    }

    fn ask_in(directory: Directory<'_>, discovery: bool, text: &[u8]) -> Result<String, TextError> {
        let parameters = Parameters { discovery, ..Parameters::default() };
        let mut exchange = TextExchange::default();
        let part = exchange.on_request(&request(RESERVED_TAG, text), text, directory, &parameters, 5)?;
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

    /// What SendTargets tells a host that has come from there to there, of these portals of the first controller.
    fn told(host: &str, portal: &str, addresses: &[&str]) -> Vec<String> {
        let mut config = config();
        config.portal_groups[0].addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        config.portal_groups[1].addresses = vec!["203.0.113.2:3260".to_owned(), "nas-b:3261".to_owned()];
        let ends = Some((host.parse().unwrap(), portal.parse().unwrap()));
        let text = ask_in(Directory { config: &config, ends }, true, b"SendTargets=All\0").unwrap();
        let pairs = text.split('|').filter_map(|pair| pair.strip_prefix("TargetAddress="));
        pairs.map(str::to_owned).collect()
    }

    #[test]
    fn no_host_is_told_an_address_that_means_nothing_to_it() {
        const OTHER: [&str; 2] = ["203.0.113.2:3260,2", "nas-b:3261,2"];
        let all =
            ["127.0.0.1:3260", "[::1]:3260", "[fe80::1%7]:3260", "192.0.2.1:3260", "[2001:db8::1]:3260"];
        let whole = |own: &[&str]| [own, &OTHER].concat().iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let far = ["192.0.2.1:3260,1", "[2001:db8::1]:3260,1"];
        for (host, portal, wanted) in [
            ("192.0.2.9:999", "192.0.2.1:3260", whole(&far)),
            ("[2001:db8::9]:999", "[2001:db8::1]:3260", whole(&far)),
            ("[::ffff:192.0.2.9]:999", "192.0.2.1:3260", whole(&far)),
            ("[fe80::9%3]:999", "[fe80::1%7]:3260", whole(&["[fe80::1]:3260,1", far[0], far[1]])),
            ("127.0.0.1:999", "127.0.0.1:3260", whole(&["127.0.0.1:3260,1", "[::1]:3260,1", far[0], far[1]])),
        ] {
            assert_eq!(told(host, portal, &all), wanted, "{host}");
        }
    }

    #[test]
    fn a_host_is_told_at_least_where_it_is() {
        let own = |host, portal| told(host, portal, &["127.0.0.1:3260"]).remove(0);
        assert_eq!(own("192.0.2.9:999", "192.0.2.1:3260"), "192.0.2.1:3260,1");
        assert_eq!(own("[fe80::9%3]:999", "[fe80::1%7]:3260"), "[fe80::1]:3260,1");
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
            let part = exchange.on_request(&asked, text, directory(&config()), &parameters, tag).unwrap();
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
        let answer = exchange.on_request(&asked, b"", directory(&config()), &Parameters::default(), 1);
        assert_eq!(answer, Err(TextError::NoExchange));
    }

    #[test]
    fn what_is_declared_holds_from_the_end_of_the_exchange_and_not_at_all_if_it_fails() {
        let mut parameters = Parameters::default();
        let mut exchange = TextExchange::default();
        let text = &b"MaxRecvDataSegmentLength=4096\0"[..];
        let open = TextRequest { final_bit: false, ..request(RESERVED_TAG, text) };
        let part = exchange.on_request(&open, text, directory(&config()), &parameters, 5).unwrap();
        assert!(!part.last && part.transfer_tag == 5);
        assert_eq!(parameters.send_segment(), 8192);
        let again = exchange.on_request(&request(5, text), text, directory(&config()), &parameters, 6);
        assert_eq!(again, Err(TextError::Malformed), "declared twice");
        exchange.settle(&mut parameters);
        assert_eq!(parameters.send_segment(), 8192);
        let part =
            exchange.on_request(&request(RESERVED_TAG, text), text, directory(&config()), &parameters, 7);
        assert!(part.unwrap().last);
        exchange.settle(&mut parameters);
        assert_eq!(parameters.send_segment(), 4096);
    }

    #[test]
    fn a_text_may_come_in_several_requests_up_to_a_bound() {
        let parameters = Parameters { discovery: true, ..Parameters::default() };
        let mut exchange = TextExchange::default();
        let partial =
            |tag, text: &[u8]| TextRequest { final_bit: false, continue_bit: true, ..request(tag, text) };
        let first = exchange.on_request(
            &partial(RESERVED_TAG, b"SendTar"),
            b"SendTar",
            directory(&config()),
            &parameters,
            1,
        );
        assert_eq!(first, Ok(Part { text: vec![], last: false, continues: false, transfer_tag: 1 }));
        let second = exchange.on_request(
            &request(1, b"gets=All\0"),
            b"gets=All\0",
            directory(&config()),
            &parameters,
            2,
        );
        assert_eq!(String::from_utf8(second.unwrap().text).unwrap().replace('\0', "|"), LIST);
        let long = vec![b'a'; 8192];
        for (n, fine) in [(1, true), (2, true), (3, false)] {
            let tag = if n == 1 { RESERVED_TAG } else { n - 1 };
            let part = exchange.on_request(&partial(tag, &long), &long, directory(&config()), &parameters, n);
            assert_eq!(part.is_ok(), fine, "{n}");
        }
        let late = exchange.on_request(&request(2, b""), b"", directory(&config()), &parameters, 9);
        assert_eq!(late, Err(TextError::NoExchange));
    }

    #[test]
    fn every_way_to_break_a_text_exchange_has_its_reason() {
        let cases: [(&[u8], TextError, RejectReason); 5] = [
            (b"SendTargets=\0SendTargets=\0", TextError::Malformed, RejectReason::ProtocolError),
            (b"MaxRecvDataSegmentLength=1\0", TextError::Malformed, RejectReason::ProtocolError),
            (b"SendTargets=Irrelevant", TextError::Malformed, RejectReason::ProtocolError),
            (b"\xff=1\0", TextError::Malformed, RejectReason::ProtocolError),
            (&[b'a'; 20_000], TextError::TooLong, RejectReason::LongOperationReject),
        ];
        for (text, error, reason) in cases {
            assert_eq!(ask(false, text), Err(error), "{text:?}");
            assert_eq!(error.reason(), reason);
        }
        let many = (0..65).map(|n| format!("X-{n}=1\0")).collect::<String>();
        assert_eq!(ask(false, many.as_bytes()), Err(TextError::TooLong));
        let reserved = TextRequest { initiator_task_tag: RESERVED_TAG, ..request(RESERVED_TAG, b"") };
        let refused = TextExchange::default().on_request(
            &reserved,
            b"",
            directory(&config()),
            &Parameters::default(),
            1,
        );
        assert_eq!(refused, Err(TextError::NoExchange));
    }

    #[test]
    fn an_open_exchange_can_be_aborted() {
        let mut exchange = TextExchange::default();
        let open = TextRequest { final_bit: false, ..request(RESERVED_TAG, b"") };
        exchange.on_request(&open, b"", directory(&config()), &Parameters::default(), 1).unwrap();
        assert!(!exchange.abort(8));
        assert!(exchange.abort(9) && !exchange.abort(9));
    }
}
