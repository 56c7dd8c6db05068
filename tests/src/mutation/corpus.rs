//! Inputs that are right: PDUs captured between other implementations (`protocol/tests/vectors`), the messages of the
//! interlink as they are on the wire (`protocol/src/interlink/version_1.hex`), and what the code under test makes.

use std::path::Path;

use bytes::Bytes;
use controller::volume::record::{self, Kind};
use controller::volume::superblock::{Owner, Superblock};
use protocol::interlink::sanitize::{Order, Position, Sanitize};
use protocol::interlink::shared::{NexusName, Registrant, Reservation, Reservations, SharedState};
use protocol::iscsi::{ahs::AdditionalHeader, sense_segment};
use protocol::scsi::persistent_reservation::InitiatorPort;
use protocol::scsi::sanitize::Method;

/// A captured PDU, cut into its segments.
pub(super) struct Captured {
    pub(super) bhs: Vec<u8>,
    pub(super) ahs: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// All of it, as it was on the wire.
    pub(super) wire: Vec<u8>,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every captured PDU.
pub(super) fn captured() -> Vec<Captured> {
    let folder = root().join("protocol/tests/vectors");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let content = std::fs::read_to_string(path).unwrap();
        for line in content.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '='])) {
            let mut pieces = line.split(' ');
            let mut pdu = Captured {
                bhs: bytes(pieces.next().unwrap()),
                ahs: Vec::new(),
                data: Vec::new(),
                wire: Vec::new(),
            };
            pdu.wire.clone_from(&pdu.bhs);
            for (name, hex) in pieces.filter_map(|piece| piece.split_once(':')) {
                let segment = bytes(hex);
                pdu.wire.extend_from_slice(&segment);
                match name {
                    "ahs" => pdu.ahs = segment,
                    "data" => pdu.data = segment,
                    _ => {}
                }
            }
            all.push(pdu);
        }
    }
    all
}

pub(super) fn headers() -> Vec<Vec<u8>> {
    captured().into_iter().map(|pdu| pdu.bhs).collect()
}

/// One byte for the digests in use, then PDUs in a row.
pub(super) fn streams() -> Vec<Vec<u8>> {
    let all = captured();
    let mut streams: Vec<Vec<u8>> =
        all.iter().flat_map(|pdu| (0..4).map(|digests| [&[digests][..], &pdu.wire].concat())).collect();
    streams.push(core::iter::once(0).chain(all.iter().flat_map(|pdu| pdu.wire.clone())).collect());
    streams.retain(|stream| stream.len() < super::INPUT_BYTES_MAX / 2);
    streams
}

/// Additional header segments, and data segments with sense data.
pub(super) fn segments() -> Vec<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = captured().into_iter().map(|pdu| pdu.ahs).collect();
    segments.push(
        AdditionalHeader { extended_cdb: Some(&[7; 20]), bidirectional_read_length: Some(4096) }.encode(),
    );
    segments.push(sense_segment::encode(&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0]));
    segments.retain(|segment| !segment.is_empty());
    segments
}

pub(super) fn texts() -> Vec<Vec<u8>> {
    let is_text = |data: &Vec<u8>| data.contains(&b'=') && data.last() == Some(&0);
    captured().into_iter().map(|pdu| pdu.data).filter(is_text).collect()
}

/// CDBs of hosts, and one of every command.
pub(super) fn cdbs() -> Vec<Vec<u8>> {
    let commands = captured().into_iter().filter(|pdu| pdu.bhs[0] & 0x3f == 1);
    let mut cdbs: Vec<Vec<u8>> = commands.map(|pdu| pdu.bhs[32..48].to_vec()).collect();
    for opcode in 0..=u8::MAX {
        let mut cdb = vec![0; 16];
        (cdb[0], cdb[8], cdb[13]) = (opcode, 1, 1);
        cdbs.push(cdb);
    }
    cdbs
}

/// A CDB and its parameter list.
pub(super) fn lists() -> Vec<Vec<u8>> {
    let mut unmap = vec![0; 16];
    (unmap[0], unmap[8]) = (0x42, 40);
    unmap.extend([0, 38, 0, 32, 0, 0, 0, 0]);
    for lba in [0u64, 1 << 33] {
        unmap.extend(lba.to_be_bytes());
        unmap.extend(8u32.to_be_bytes());
        unmap.extend([0; 4]);
    }
    let select = |opcode: u8, at: usize, list: &[u8]| {
        let mut all = vec![0; 16];
        (all[0], all[1], all[at]) = (opcode, 0x10, list.len() as u8);
        all.extend_from_slice(list);
        all
    };
    let caching = [&[0x08, 0x12, 0x04][..], &[0; 17]].concat();
    let control = [0x8a, 10, 0x22, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    let keys: Vec<u8> = [7_u64, 8].iter().flat_map(|key| key.to_be_bytes()).collect();
    let initiator = "iqn.1993-08.org.debian:host1".to_owned();
    let port = InitiatorPort { initiator, isid: [0x80, 1, 2, 3, 4, 5] }.transport_id();
    let reserve = |action: u8, list: &[u8]| {
        let mut all = select(0x5f, 8, list);
        (all[1], all[2]) = (action, 0x05);
        all
    };
    let cscd = [&[0xe4, 0, 0, 0, 1, 3, 0, 8, 0x31, 1, 2, 3, 4, 5, 6, 7][..], &[0; 14], &[2, 0]].concat();
    let segment = [&[2, 2, 0, 0x18, 0, 0, 0, 1, 0, 0, 8, 0][..], &[0; 16]].concat();
    let header = [9, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    let mut copy = select(0x83, 13, &[&header[..], &cscd, &cscd, &segment].concat());
    (copy[1], copy[2], copy[3]) = (0, 4, 8);
    let mut overwrite = vec![0; 16];
    (overwrite[0], overwrite[1], overwrite[8]) = (0x48, 0x81, 7);
    overwrite.extend([0x82, 0, 0, 3, 1, 2, 3]);
    vec![
        copy,
        unmap,
        overwrite,
        select(0x15, 4, &[&[0; 4][..], &caching].concat()),
        select(0x55, 8, &[&[0; 8][..], &caching].concat()),
        select(0x15, 4, &[&[0; 4][..], &control].concat()),
        select(0x55, 8, &[&[0, 0, 0, 0, 0, 0, 0, 8], &[0; 6][..], &[2, 0], &caching, &control].concat()),
        select(0x5f, 8, &[0; 24]),
        reserve(
            0x00,
            &[&keys[..], &[0, 0, 0, 0, 0x0d, 0, 0, 0], &(port.len() as u32).to_be_bytes(), &port].concat(),
        ),
        reserve(0x04, &[&keys[..], &[0; 8]].concat()),
        reserve(0x07, &[&keys[..], &[0, 3, 0, 2], &(port.len() as u32).to_be_bytes(), &port].concat()),
        select(0x2a, 8, &[7; 512]),
    ]
}

/// Every message of the interlink.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(root().join("protocol/src/interlink/version_1.hex")).unwrap();
    let later = std::fs::read_to_string(root().join("protocol/src/interlink/version_2.hex")).unwrap();
    text.lines().chain(later.lines()).map(bytes).collect()
}

/// The records of the state store, taken from the messages that carry the same, and a superblock.
pub(super) fn records() -> Vec<Vec<u8>> {
    use protocol::interlink::copy_report::{Generation, GroupRecord, Start, Starts};
    use protocol::interlink::hello::{Identity, LunIdentity};
    let lun = LunIdentity { name: "data0".into(), volume: 5, naa: 3 << 60, serial: 7, blocks: 2048 };
    let identity = Identity { appliance: 9, luns: vec![lun.clone(), lun] };
    let generation = Generation { number: 3, id: 4, parent: 2, main: 1, members: 3, ..Generation::default() };
    let start = Start { number: 2, id: 6 };
    let group = GroupRecord {
        lun: "data0".into(),
        generation,
        clean: true,
        flushed: true,
        volume: start,
        volume_coming: Start::default(),
        starts: Starts { joint: start, coming: start },
    };
    let superblock = Superblock { start, ..Superblock::new(9, 5, 2048, Owner::of("alpha")) };
    let nexus = NexusName { initiator: "iqn.1993-08.org.debian:host1".into(), isid: [1; 6], port: 2 };
    let registrant = Registrant { nexus: nexus.clone(), key: 7 };
    let reservations = Reservations {
        registrants: vec![registrant],
        reservation: Some(Reservation { holder: nexus, kind: 5 }),
        ..Reservations::default()
    };
    let state = SharedState { reservations, ..SharedState::default() };
    let method = Method::Overwrite { pattern: Bytes::from_static(&[1, 2]), invert: true, passes: 3 };
    let at = Position { pass: 1, next: 5 };
    let sanitize = Sanitize::UnderWay { order: Order { method, ause: true }, at };
    let sanitized = SharedState { sanitize, ..SharedState::default() };
    let tagged = |tag: u8, record: &[u8]| [&[tag][..], record].concat();
    vec![
        tagged(0, &identity.to_record()),
        tagged(1, &GroupRecord::encode_all(&[group.clone(), group])),
        tagged(2, &superblock.encode(7)),
        tagged(3, &superblock.encode(7)[..64]),
        tagged(4, &state.encode()),
        tagged(4, &sanitized.encode()),
        tagged(5, &record::wrap(Kind::Unit, "alpha", &sanitized.encode())),
    ]
}
