//! Reservations and mode pages on the wire: CDBs, parameter lists and parameter data, built and read from SPC-4, apart
//! from the parser under test.

use super::Cdb;
use super::response::{Response, status};
use crate::judge::reservations::state::{Action, Answer, Command, Entry, Nexus, Out};

/// Bytes that PERSISTENT RESERVE IN may return.
const ALLOCATION: u16 = 8192;

/// The control mode page (SPC-4 7.5.8) of Twinlun with SWP off: TST 001b, QUEUE ALGORITHM MODIFIER 1h, BUSY TIMEOUT
/// PERIOD unlimited.
const CONTROL_PAGE: [u8; 12] = [0x0a, 10, 0x22, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];

/// SWP in byte 4 of the control mode page.
const SWP: u8 = 0x08;

/// The caching mode page (SBC-3 6.5.5) of Twinlun with WCE off.
const CACHING_PAGE: [u8; 20] = [0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// WCE in byte 2 of the caching mode page.
const WCE: u8 = 0x04;

/// The iSCSI name of a numbered host.
#[must_use]
pub fn host_name(host: u32) -> String {
    format!("iqn.1993-08.org.debian:host{host}")
}

/// The ISID of a numbered host.
#[must_use]
pub const fn isid(host: u32) -> [u8; 6] {
    let [_, _, high, low] = host.to_be_bytes();
    [0x00, 0x02, 0x3d, 0x00, high, low]
}

fn cdb(bytes: &[u8]) -> Cdb {
    let mut whole = [0; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    Cdb(whole)
}

/// CDB, data-out buffer and length of the data-in buffer of a command; `None` for what is no command of its own.
#[must_use]
pub fn request(command: &Command) -> Option<(Cdb, Vec<u8>, u32)> {
    let [high, low] = ALLOCATION.to_be_bytes();
    let read =
        |action| (cdb(&[0x5e, action, 0, 0, 0, 0, 0, high, low, 0]), Vec::new(), u32::from(ALLOCATION));
    Some(match command {
        Command::ReadKeys => read(0),
        Command::ReadReservation => read(1),
        Command::ReadFullStatus => read(3),
        Command::Out(out) => {
            let list = parameter_list(out);
            let [a, b, c, d] = (list.len() as u32).to_be_bytes();
            (cdb(&[0x5f, out.action as u8, out.kind, 0, 0, a, b, c, d, 0]), list, 0)
        }
        Command::Reserve => (cdb(&[0x16, 0, 0, 0, 0, 0]), Vec::new(), 0),
        Command::Release => (cdb(&[0x17, 0, 0, 0, 0, 0]), Vec::new(), 0),
        Command::ModeSelect { protect, save } => {
            let mut page = CONTROL_PAGE;
            page[4] = if *protect { SWP } else { 0 };
            mode_select(&page, *save)
        }
        Command::WriteCache { on, save } => {
            let mut page = CACHING_PAGE;
            page[2] = if *on { WCE } else { 0 };
            mode_select(&page, *save)
        }
        Command::Reset | Command::SessionLost => return None,
    })
}

/// MODE SELECT (6) of one page (SPC-4 6.11).
fn mode_select(page: &[u8], save: bool) -> (Cdb, Vec<u8>, u32) {
    let list = [&[0; 4], page].concat();
    (cdb(&[0x15, 0x10 | u8::from(save), 0, 0, list.len() as u8, 0]), list, 0)
}

/// SPC-4 6.16.3 and, for REGISTER AND MOVE, 6.16.4.
fn parameter_list(out: &Out) -> Vec<u8> {
    let mut list = out.key.to_be_bytes().to_vec();
    list.extend_from_slice(&out.action_key.to_be_bytes());
    if out.action == Action::RegisterAndMove {
        let id = transport_id(out.to.host);
        list.extend_from_slice(&[0, u8::from(out.unregister) << 1 | u8::from(out.aptpl)]);
        list.extend_from_slice(&out.to.port.to_be_bytes());
        list.extend_from_slice(&(id.len() as u32).to_be_bytes());
        list.extend_from_slice(&id);
        return list;
    }
    let specified = u8::from(!out.others.is_empty()) << 3;
    let flags = specified | u8::from(out.all_target_ports) << 2 | u8::from(out.aptpl);
    list.extend_from_slice(&[0, 0, 0, 0, flags, 0, 0, 0]);
    if !out.others.is_empty() {
        let ids: Vec<u8> = out.others.iter().flat_map(|host| transport_id(*host)).collect();
        list.extend_from_slice(&(ids.len() as u32).to_be_bytes());
        list.extend_from_slice(&ids);
    }
    list
}

/// The TransportID of a host's port (SPC-4 7.6.4.6).
fn transport_id(host: u32) -> Vec<u8> {
    let mut text = port_name(host).into_bytes();
    text.push(0);
    text.resize(text.len().next_multiple_of(4), 0);
    let mut id = vec![0x45, 0];
    id.extend_from_slice(&(text.len() as u16).to_be_bytes());
    id.extend_from_slice(&text);
    id
}

fn port_name(host: u32) -> String {
    let isid: String = isid(host).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{},i,0x{isid}", host_name(host))
}

/// What a response means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It ended like this.
    Answer(Answer),
    /// It was not carried out: not ready, a unit attention, BUSY, TASK SET FULL.
    NotDone,
    /// Nobody can know.
    Unknown,
}

/// What the response to a command means, or why it cannot be one.
pub fn heard(command: &Command, response: &Response, hosts: u32) -> Result<Heard, String> {
    Ok(match (response.status, response.code().0) {
        (status::GOOD, _) => Heard::Answer(
            told(command, &response.data, hosts)
                .ok_or_else(|| format!("{command:?} told {:02x?}", response.data))?,
        ),
        (status::RESERVATION_CONFLICT, _) => Heard::Answer(Answer::Conflict),
        (status::CHECK_CONDITION, 0x05) => Heard::Answer(Answer::Illegal),
        (status::CHECK_CONDITION, 0x02 | 0x06) | (status::BUSY | status::TASK_SET_FULL, _) => Heard::NotDone,
        (status::CHECK_CONDITION, 0x03 | 0x0b) | (status::TASK_ABORTED, _) => Heard::Unknown,
        (status, _) => {
            return Err(format!("status {status:#04x}, sense {:02x?} to {command:?}", response.code()));
        }
    })
}

/// What PERSISTENT RESERVE IN told to `command`; GOOD for any other.
#[must_use]
pub fn told(command: &Command, data: &[u8], hosts: u32) -> Option<Answer> {
    let header = || {
        let generation = u32::from_be_bytes(*data.first_chunk()?);
        let length = u32::from_be_bytes(data.get(4..8)?.try_into().ok()?) as usize;
        let rest = data.get(8..)?;
        (rest.len() == length).then_some((generation, rest))
    };
    Some(match command {
        Command::ReadKeys => {
            let (generation, rest) = header()?;
            let (keys, left) = rest.as_chunks::<8>();
            let mut keys: Vec<u64> = keys.iter().map(|key| u64::from_be_bytes(*key)).collect();
            keys.sort_unstable();
            left.is_empty().then_some(Answer::Keys(generation, keys))?
        }
        Command::ReadReservation => match header()? {
            (generation, []) => Answer::Held(generation, None),
            (generation, rest) => {
                let rest: [u8; 16] = rest.try_into().ok()?;
                Answer::Held(generation, Some((u64::from_be_bytes(*rest.first_chunk()?), rest[13])))
            }
        },
        Command::ReadFullStatus => {
            let (generation, mut rest) = header()?;
            let mut entries = Vec::new();
            while !rest.is_empty() {
                let (entry, left) = entry(rest, hosts)?;
                entries.push(entry);
                rest = left;
            }
            entries.sort_unstable();
            Answer::Full(generation, entries)
        }
        _ => Answer::Good,
    })
}

/// A full status descriptor (SPC-4 6.15.5) and what follows it.
fn entry(list: &[u8], hosts: u32) -> Option<(Entry, &[u8])> {
    let (head, rest) = list.split_first_chunk::<24>()?;
    let key = u64::from_be_bytes(*head.first_chunk()?);
    let port = u16::from_be_bytes([head[18], head[19]]);
    let length = u32::from_be_bytes([head[20], head[21], head[22], head[23]]) as usize;
    let (id, rest) = rest.split_at_checked(length)?;
    let host = (0..hosts).find(|host| transport_id(*host) == id)?;
    let holds = (head[12] & 0x01 != 0).then_some(head[13] & 0x0f);
    Some((Entry { nexus: Nexus { host, port }, key, holds }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_lists_have_their_fields_where_the_standard_puts_them() {
        let out = Out {
            action: Action::Register,
            kind: 5,
            key: 1,
            action_key: 2,
            aptpl: true,
            all_target_ports: true,
            others: vec![3],
            to: Nexus { host: 4, port: 2 },
            unregister: true,
        };
        let (cdb, list, _) = request(&Command::Out(out.clone())).unwrap();
        assert_eq!(cdb.0[..10], [0x5f, 0, 5, 0, 0, 0, 0, 0, list.len() as u8, 0]);
        assert_eq!(list[..24], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0x0d, 0, 0, 0]);
        assert_eq!(list[24..32], [0, 0, 0, 52, 0x45, 0, 0, 48]);
        assert_eq!(&list[32..79], b"iqn.1993-08.org.debian:host3,i,0x00023d000003\0\0\0".get(..47).unwrap());
        let moved = Out { action: Action::RegisterAndMove, ..out };
        let (_, list, _) = request(&Command::Out(moved)).unwrap();
        assert_eq!(list[16..24], [0, 0x03, 0, 2, 0, 0, 0, 52]);
    }

    #[test]
    fn a_full_status_is_read_and_a_host_nobody_knows_is_not() {
        let mut data = vec![0, 0, 0, 9];
        let id = transport_id(1);
        let mut rest =
            vec![0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 2, 0, 0, 0, id.len() as u8];
        rest.extend_from_slice(&id);
        data.extend_from_slice(&(rest.len() as u32).to_be_bytes());
        data.extend_from_slice(&rest);
        let entry = Entry { nexus: Nexus { host: 1, port: 2 }, key: 7, holds: Some(5) };
        assert_eq!(told(&Command::ReadFullStatus, &data, 2), Some(Answer::Full(9, vec![entry])));
        assert_eq!(told(&Command::ReadFullStatus, &data, 1), None);
    }
}
