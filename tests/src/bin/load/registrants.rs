//! Registrants of persistent reservations (SPC-4 6.16), so that a LUN that has many can be compared with one that has
//! none. The load itself is one of them.

use super::session::{Error, Session};

/// The key of all of them.
const KEY: u64 = 0x7477_696e_6c75_6e21;

/// PERSISTENT RESERVE OUT, and its service actions (SPC-4 table 235).
const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
const REGISTER: u8 = 0x00;
const RESERVE: u8 = 0x01;
const CLEAR: u8 = 0x03;

/// SPECIFY INITIATOR PORTS and ALL TARGET PORTS (SPC-4 6.16.3).
const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;

/// Registers this session's port and `count - 1` others, from which nobody logs in, each at every target port; and
/// reserves if there is a type.
pub(crate) fn register(session: &mut Session, count: u32, kind: Option<u8>) -> Result<(), Error> {
    let others: Vec<u8> = (1..count).flat_map(transport_id).collect();
    let mut list = parameters(0, KEY);
    list[20] = ALL_TG_PT;
    if !others.is_empty() {
        list[20] |= SPEC_I_PT;
        list.extend_from_slice(&(others.len() as u32).to_be_bytes());
        list.extend_from_slice(&others);
    }
    out(session, REGISTER, 0, &list)?;
    match kind {
        Some(kind) => out(session, RESERVE, kind, &parameters(KEY, 0)),
        None => Ok(()),
    }
}

/// Ends all registrations and the reservation.
pub(crate) fn clear(session: &mut Session) -> Result<(), Error> {
    out(session, CLEAR, 0, &parameters(KEY, 0))
}

fn out(session: &mut Session, action: u8, kind: u8, list: &[u8]) -> Result<(), Error> {
    let mut cdb = [0; 16];
    [cdb[0], cdb[1], cdb[2]] = [PERSISTENT_RESERVE_OUT, action, kind];
    cdb[5..9].copy_from_slice(&(list.len() as u32).to_be_bytes());
    session.write(cdb, list)
}

fn parameters(key: u64, action_key: u64) -> Vec<u8> {
    [&key.to_be_bytes()[..], &action_key.to_be_bytes(), &[0; 8]].concat()
}

/// The TransportID of an initiator port (SPC-4 7.6.4.6).
fn transport_id(number: u32) -> Vec<u8> {
    let mut text = format!("iqn.2026-11.com.example:n{number},i,0x00023d000001\0").into_bytes();
    text.resize(text.len().next_multiple_of(4), 0);
    let [high, low] = (text.len() as u16).to_be_bytes();
    [&[0x45, 0, high, low][..], &text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_id_is_a_whole_number_of_words_and_says_how_long_it_is() {
        for number in [1, 10, 127] {
            let id = transport_id(number);
            assert_eq!(id.len() % 4, 0);
            assert_eq!(usize::from(u16::from_be_bytes([id[2], id[3]])), id.len() - 4);
            assert_eq!(id.last(), Some(&0));
        }
    }
}
