//! TransportIDs, parameter lists and parameter data, byte by byte.

use super::*;
use crate::interlink::shared::{Registrant, Reservation};
use proptest::prelude::*;

fn port() -> InitiatorPort {
    InitiatorPort { initiator: "iqn.2001-04.org:a".into(), isid: [0, 2, 0x3d, 0, 0, 1] }
}

fn cdb(action: u8, kind: u8, length: usize) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..3].copy_from_slice(&[0x5f, action, kind]);
    cdb[5..9].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

fn list(flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut list = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, flags, 0, 0, 0];
    list.extend_from_slice(rest);
    list
}

fn decoded(action: u8, kind: u8, list: &[u8]) -> Result<ReserveOut, Sense> {
    ReserveOut::of(&cdb(action, kind, list.len()), list)
}

#[test]
fn a_transport_id_is_the_name_and_the_isid_of_an_initiator_port() {
    let id = port().transport_id();
    assert_eq!(id[..4], [0x45, 0, 0, 36]);
    assert_eq!(&id[4..], b"iqn.2001-04.org:a,i,0x00023d000001\0\0");
    let mut list = id.clone();
    list.push(9);
    assert_eq!(InitiatorPort::take(&list), Some((port(), &[9][..])));
    let short = InitiatorPort { initiator: "a".into(), isid: [0; 6] }.transport_id();
    assert_eq!((short.len(), short[3]), (24, 20));
}

#[test]
fn a_register_decodes_its_keys_flags_and_transport_ids() {
    let plain = decoded(0, 0, &list(0x05, &[])).unwrap();
    assert_eq!((plain.key, plain.action_key), (1, 2));
    assert!(plain.aptpl && plain.all_target_ports && plain.others.is_empty());
    let id = port().transport_id();
    let ids = [&(id.len() as u32).to_be_bytes()[..], &id].concat();
    assert_eq!(decoded(0, 0, &list(0x08, &ids)).unwrap().others, [port()]);
    for action in 1..7 {
        let refused = decoded(action, 0x01, &list(0x08, &ids));
        assert_eq!(refused, Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST), "SPEC_I_PT with {action}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let length = Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(decoded(0, 0, &list(0, &[])[..23]), length);
    assert_eq!(decoded(0, 0, &list(0, &[0])), length);
    assert_eq!(ReserveOut::of(&cdb(0, 0, 24), &list(0, &[])[..20]), length);
    for (action, kind) in [(1, 0x02), (1, 0x11), (2, 0x09), (4, 0x00), (5, 0x04), (8, 0x01), (0x1f, 0x01)] {
        assert_eq!(decoded(action, kind, &list(0, &[])), Err(Sense::INVALID_FIELD_IN_CDB), "{action} {kind}");
    }
    let id = port().transport_id();
    for (flags, rest) in
        [(0x08, [&[0, 0, 0, 9][..], &id].concat()), (0x08, [&[0, 0, 0, 4][..], &id[..4]].concat())]
    {
        assert_eq!(decoded(0, 0, &list(flags, &rest)), Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST));
    }
}

#[test]
fn register_and_move_names_one_port() {
    let id = port().transport_id();
    let mut list = list(0, &id);
    list[17] = 0x03;
    list[19] = 2;
    list[20..24].copy_from_slice(&(id.len() as u32).to_be_bytes());
    let out = decoded(7, 0, &list).unwrap();
    assert_eq!(out.moved, Some(Move { unregister: true, port: 2, to: port() }));
    assert!(out.aptpl);
    list[23] -= 4;
    assert_eq!(decoded(7, 0, &list), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
}

fn state_of(kind: Kind) -> Reservations {
    let registrants = [(1, 0xa1), (2, 0xa2)];
    Reservations {
        generation: 7,
        aptpl: true,
        registrants: registrants.map(|(at, key)| Registrant { nexus: port().nexus(at), key }).to_vec(),
        reservation: Some(Reservation { kind: kind.code(), holder: port().nexus(2) }),
    }
}

#[test]
fn the_parameter_data_of_each_service_action() {
    let state = state_of(Kind::WriteExclusive);
    let keys = parameter_data(InAction::ReadKeys, &state);
    assert_eq!(keys, [0, 0, 0, 7, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0xa2]);
    let held = parameter_data(InAction::ReadReservation, &state);
    assert_eq!(held, [0, 0, 0, 7, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xa2, 0, 0, 0, 0, 0, 1, 0, 0]);
    let can = parameter_data(InAction::ReportCapabilities, &state);
    assert_eq!(can, [0, 8, 0x1d, 0x81, 0xea, 0x01, 0, 0]);
    let full = parameter_data(InAction::ReadFullStatus, &state);
    let id = port().transport_id();
    assert_eq!(full.len(), 8 + 2 * (24 + id.len()));
    assert_eq!(full[8..32], [0, 0, 0, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 40]);
    let second = &full[32 + id.len()..];
    assert_eq!(second[..24], [0, 0, 0, 0, 0, 0, 0, 0xa2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 40]);
    assert_eq!(second[24..], id);
    let all = state_of(Kind::ExclusiveAccessAllRegistrants);
    assert_eq!(
        parameter_data(InAction::ReadReservation, &all)[8..],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]
    );
}

proptest! {
    #[test]
    fn no_parameter_list_makes_the_decoder_panic(
        action in 0u8..32, kind: u8, flags: u8, list in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let mut list = list;
        if let Some(byte) = list.get_mut(20) { *byte = flags; }
        let _ = decoded(action, kind, &list);
        let _ = InitiatorPort::take(&list);
    }

    #[test]
    fn a_transport_id_comes_back(name in "[a-z0-9.:-]{1,223}", isid: [u8; 6]) {
        let port = InitiatorPort { initiator: name, isid };
        let id = port.transport_id();
        prop_assert_eq!(InitiatorPort::take(&id), Some((port, &[][..])));
    }
}
