//! PDUs captured between other implementations: each is cut as it was sent, decodes to the fields another decoder
//! sees, and is encoded again byte for byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers may fail the test")]

use std::collections::BTreeMap;
use std::path::Path;

use protocol::iscsi::{
    Bhs, DecodeError, Digests, Frame, InitiatorPdu, Opcode, Residual, TargetPdu, ahs, digest, sense_segment,
    text,
};

/// One captured PDU.
struct Vector {
    /// Where it stands and what it is.
    comment: String,
    bhs: Bhs,
    /// The other segments by their names.
    segments: BTreeMap<String, Vec<u8>>,
    /// What the other decoder saw.
    fields: BTreeMap<String, String>,
}

impl Vector {
    fn segment(&self, name: &str) -> &[u8] {
        self.segments.get(name).map_or(&[], Vec::as_slice)
    }

    /// The whole PDU as it was on the wire.
    fn wire(&self) -> Vec<u8> {
        let rest = ["ahs", "header_digest", "data", "padding", "data_digest"].map(|name| self.segment(name));
        [&self.bhs[..], &rest.concat()].concat()
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    assert_eq!(hex.len() % 2, 0, "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn parse(file: &str, three: &[&str]) -> Vector {
    let [comment, pdu, fields] = three else { panic!("{file}: a vector is three lines: {three:?}") };
    let mut pieces = pdu.split(' ');
    let bhs = bytes(pieces.next().unwrap()).try_into().unwrap();
    let named = |piece: &str| {
        let (name, hex) = piece.split_once(':').unwrap();
        (name.to_owned(), bytes(hex))
    };
    let field = |field: &str| {
        let (name, value) = field.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    Vector {
        comment: format!("{file}: {}", comment.strip_prefix("# ").unwrap()),
        bhs,
        segments: pieces.map(named).collect(),
        fields: fields.strip_prefix("= ").unwrap().split(' ').map(field).collect(),
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
    files.sort();
    let mut vectors = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_str().unwrap();
        let content = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = content.lines().filter(|line| !line.is_empty()).collect();
        vectors.extend(lines.chunks(3).map(|three| parse(file, three)));
    }
    vectors
}

/// The fields of a decoded PDU under the names of the vectors.
type Fields = Vec<(&'static str, u64)>;

fn residual_fields(residual: Residual) -> Fields {
    vec![
        ("overflow", u64::from(matches!(residual, Residual::Overflow(_)))),
        ("underflow", u64::from(matches!(residual, Residual::Underflow(_)))),
        ("residual", residual.count().into()),
    ]
}

fn isid_number(isid: [u8; 6]) -> u64 {
    isid.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Wireshark shows the first two bytes of single-level LUNs.
fn lun_number(lun: [u8; 8]) -> u64 {
    u16::from_be_bytes([lun[0], lun[1]]).into()
}

macro_rules! fields {
    ($($name:literal: $value:expr),* $(,)?) => {
        vec![$(($name, u64::from($value))),*]
    };
}

fn initiator_fields(pdu: &InitiatorPdu) -> Fields {
    match pdu {
        InitiatorPdu::NopOut(p) => fields! {
            "immediate": p.immediate, "data": p.data_segment_length, "lun": lun_number(p.lun),
            "itt": p.initiator_task_tag, "ttt": p.target_transfer_tag, "cmd_sn": p.cmd_sn.0,
            "exp_stat_sn": p.exp_stat_sn.0,
        },
        InitiatorPdu::ScsiCommand(p) => fields! {
            "immediate": p.immediate, "final": p.final_bit, "read": p.read, "write": p.write,
            "attribute": p.attribute as u8, "total_ahs": p.total_ahs_length, "data": p.data_segment_length,
            "lun": lun_number(p.lun), "itt": p.initiator_task_tag, "expected": p.expected_data_transfer_length,
            "cmd_sn": p.cmd_sn.0, "exp_stat_sn": p.exp_stat_sn.0,
        },
        InitiatorPdu::TaskManagementRequest(p) => fields! {
            "immediate": p.immediate, "function": p.function.value(), "lun": lun_number(p.lun),
            "itt": p.initiator_task_tag, "rtt": p.referenced_task_tag, "cmd_sn": p.cmd_sn.0,
            "exp_stat_sn": p.exp_stat_sn.0, "ref_cmd_sn": p.ref_cmd_sn.0,
        },
        InitiatorPdu::LoginRequest(p) => fields! {
            "transit": p.next_stage.is_some(), "continue": p.continue_bit, "csg": p.current_stage as u8,
            "nsg": p.next_stage.map_or(0, |stage| stage as u8), "version_max": p.version_max,
            "version_min": p.version_min, "data": p.data_segment_length, "isid": isid_number(p.isid.0),
            "tsih": p.tsih, "itt": p.initiator_task_tag, "cid": p.cid, "cmd_sn": p.cmd_sn.0,
            "exp_stat_sn": p.exp_stat_sn.0,
        },
        InitiatorPdu::TextRequest(p) => fields! {
            "immediate": p.immediate, "final": p.final_bit, "continue": p.continue_bit,
            "data": p.data_segment_length, "lun": lun_number(p.lun), "itt": p.initiator_task_tag,
            "ttt": p.target_transfer_tag, "cmd_sn": p.cmd_sn.0, "exp_stat_sn": p.exp_stat_sn.0,
        },
        InitiatorPdu::DataOut(p) => fields! {
            "final": p.final_bit, "data": p.data_segment_length, "lun": lun_number(p.lun),
            "itt": p.initiator_task_tag, "ttt": p.target_transfer_tag, "exp_stat_sn": p.exp_stat_sn.0,
            "data_sn": p.data_sn, "offset": p.buffer_offset,
        },
        InitiatorPdu::LogoutRequest(p) => fields! {
            "immediate": p.immediate, "reason": p.reason as u8, "itt": p.initiator_task_tag, "cid": p.cid,
            "cmd_sn": p.cmd_sn.0, "exp_stat_sn": p.exp_stat_sn.0,
        },
        InitiatorPdu::Snack(p) => fields! {
            "snack_type": p.snack_type as u8, "lun": lun_number(p.lun), "itt": p.initiator_task_tag,
            "ttt": p.transfer_or_snack_tag, "exp_stat_sn": p.exp_stat_sn.0, "beg_run": p.beg_run,
            "run_length": p.run_length,
        },
    }
}

fn target_fields(pdu: &TargetPdu) -> Fields {
    match pdu {
        TargetPdu::NopIn(p) => fields! {
            "data": p.data_segment_length, "lun": lun_number(p.lun), "itt": p.initiator_task_tag,
            "ttt": p.target_transfer_tag, "stat_sn": p.stat_sn.0, "exp_cmd_sn": p.exp_cmd_sn.0,
            "max_cmd_sn": p.max_cmd_sn.0,
        },
        TargetPdu::ScsiResponse(p) => {
            let mut fields = fields! {
                "response": u8::from(p.response != protocol::iscsi::ServiceResponse::CompletedAtTarget),
                "status": p.status, "data": p.data_segment_length, "itt": p.initiator_task_tag,
                "stat_sn": p.stat_sn.0, "exp_cmd_sn": p.exp_cmd_sn.0, "max_cmd_sn": p.max_cmd_sn.0,
                "exp_data_sn": p.exp_data_sn,
            };
            fields.extend(residual_fields(p.residual));
            fields
        }
        TargetPdu::TaskManagementResponse(p) => fields! {
            "tm_response": p.response as u8, "itt": p.initiator_task_tag, "stat_sn": p.stat_sn.0,
            "exp_cmd_sn": p.exp_cmd_sn.0, "max_cmd_sn": p.max_cmd_sn.0,
        },
        TargetPdu::LoginResponse(p) => fields! {
            "transit": p.next_stage.is_some(), "continue": p.continue_bit, "csg": p.current_stage as u8,
            "nsg": p.next_stage.map_or(0, |stage| stage as u8), "version_max": p.version_max,
            "version_active": p.version_active, "data": p.data_segment_length, "isid": isid_number(p.isid.0),
            "tsih": p.tsih, "itt": p.initiator_task_tag, "stat_sn": p.stat_sn.0, "exp_cmd_sn": p.exp_cmd_sn.0,
            "max_cmd_sn": p.max_cmd_sn.0, "login_status": p.status as u16,
        },
        TargetPdu::TextResponse(p) => fields! {
            "final": p.final_bit, "continue": p.continue_bit, "data": p.data_segment_length,
            "lun": lun_number(p.lun), "itt": p.initiator_task_tag, "ttt": p.target_transfer_tag,
            "stat_sn": p.stat_sn.0, "exp_cmd_sn": p.exp_cmd_sn.0, "max_cmd_sn": p.max_cmd_sn.0,
        },
        TargetPdu::DataIn(p) => {
            let mut fields = fields! {
                "final": p.final_bit, "acknowledge": p.acknowledge, "has_status": p.status.is_some(),
                "data": p.data_segment_length, "itt": p.initiator_task_tag, "stat_sn": p.stat_sn.0,
                "exp_cmd_sn": p.exp_cmd_sn.0, "max_cmd_sn": p.max_cmd_sn.0, "data_sn": p.data_sn,
                "offset": p.buffer_offset, "status": p.status.unwrap_or_default(),
            };
            fields.extend(residual_fields(p.residual));
            fields
        }
        TargetPdu::LogoutResponse(p) => fields! {
            "logout_response": p.response as u8, "itt": p.initiator_task_tag, "stat_sn": p.stat_sn.0,
            "exp_cmd_sn": p.exp_cmd_sn.0, "max_cmd_sn": p.max_cmd_sn.0, "time_2_wait": p.time_2_wait,
            "time_2_retain": p.time_2_retain,
        },
        TargetPdu::ReadyToTransfer(p) => fields! {
            "lun": lun_number(p.lun), "itt": p.initiator_task_tag, "ttt": p.target_transfer_tag,
            "stat_sn": p.stat_sn.0, "exp_cmd_sn": p.exp_cmd_sn.0, "max_cmd_sn": p.max_cmd_sn.0,
            "r2t_sn": p.r2t_sn, "offset": p.buffer_offset, "desired": p.desired_data_transfer_length,
        },
        TargetPdu::AsyncMessage(_) | TargetPdu::Reject(_) => panic!("there is no vector of {pdu:?}"),
    }
}

/// A number as Wireshark prints it: hexadecimal with 0x, else decimal; an ISID without 0x.
fn number(name: &str, value: &str) -> u64 {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None if name == "isid" => u64::from_str_radix(value, 16).unwrap(),
        None => value.parse().unwrap(),
    }
}

/// Decodes and encodes; the fields, if the opcode is known.
fn round_trip(vector: &Vector) -> Result<Fields, DecodeError> {
    let (encoded, fields) = if Opcode::of(&vector.bhs).is_none_or(Opcode::is_from_initiator) {
        let pdu = InitiatorPdu::decode(&vector.bhs)?;
        (pdu.encode(), initiator_fields(&pdu))
    } else {
        let pdu = TargetPdu::decode(&vector.bhs)?;
        (pdu.encode(), target_fields(&pdu))
    };
    let mut sent = vector.bhs;
    if Opcode::of(&sent) == Some(Opcode::LoginResponse) && sent[1] & 0x80 == 0 {
        sent[1] &= !0x03; // tgt sends an NSG without T, where it is reserved (RFC 7143 11.12.3)
    }
    assert_eq!(encoded, sent, "{}", vector.comment);
    Ok(fields)
}

/// What Wireshark shows and a header's struct has no field for, or the other way round.
const NOT_IN_HEADER: [&str; 5] = ["opcode", "total_ahs", "text", "sense", "cdb_length"];
const NOT_SHOWN: [&str; 2] = ["nsg", "status"];

#[test]
fn captured_headers_have_the_fields_another_decoder_sees_and_are_encoded_byte_for_byte() {
    let mut seen = BTreeMap::new();
    for vector in vectors() {
        let opcode = Opcode::value_of(&vector.bhs);
        *seen.entry(opcode).or_insert(0_usize) += 1;
        let ours = match round_trip(&vector) {
            Ok(ours) => ours,
            Err(error) => {
                assert_eq!(error, DecodeError::UnknownOpcode(0x1c), "{}", vector.comment);
                continue;
            }
        };
        assert_eq!(number("opcode", &vector.fields["opcode"]), opcode.into(), "{}", vector.comment);
        for (name, value) in &ours {
            match vector.fields.get(*name) {
                Some(_) if *name == "nsg" && vector.fields["transit"] == "0" => {}
                Some(theirs) => assert_eq!(number(name, theirs), *value, "{name} of {}", vector.comment),
                None => assert!(NOT_SHOWN.contains(name), "{name} of {} is not judged", vector.comment),
            }
        }
        for name in vector.fields.keys() {
            let known = ours.iter().any(|(ours, _)| ours == name) || NOT_IN_HEADER.contains(&name.as_str());
            assert!(known || vector.fields[name] == "0", "{name} of {} is not decoded", vector.comment);
        }
    }
    // Every PDU but Asynchronous Message and Reject, which no one sent, and the unknown opcode.
    assert_eq!(seen.len(), 17, "{seen:?}");
    assert!(seen.values().sum::<usize>() > 150, "{seen:?}");
}

#[test]
fn captured_pdus_are_cut_where_they_were_sent_and_their_digests_are_right() {
    let (mut header_digests, mut data_digests) = (0, 0);
    for vector in vectors() {
        let Vector { bhs, comment, .. } = &vector;
        let wire = vector.wire();
        let has = |name| vector.segments.contains_key(name);
        let frame = Frame::of(bhs, Digests { header: has("header_digest"), data: has("data_digest") });
        assert_eq!(frame.total_bytes(), wire.len(), "{comment}");
        assert_eq!(wire[frame.ahs()], *vector.segment("ahs"), "{comment}");
        assert_eq!(wire[frame.data()], *vector.segment("data"), "{comment}");
        assert_eq!(frame.padding_bytes(), vector.segment("padding").len(), "{comment}");
        if let Some(range) = frame.header_digest() {
            assert_eq!(wire[range], digest::header_digest(bhs, vector.segment("ahs")), "{comment}");
            header_digests += 1;
        }
        if let Some(range) = frame.data_digest() {
            assert_eq!(wire[range], digest::data_digest([vector.segment("data")]), "{comment}");
            data_digests += 1;
        }
    }
    assert!(header_digests > 20 && data_digests > 10, "{header_digests} {data_digests}");
}

#[test]
fn captured_texts_have_the_pairs_another_decoder_sees() {
    let mut texts = 0;
    for vector in vectors() {
        let Some(expected) = vector.fields.get("text") else { continue };
        let data = vector.segment("data");
        let pairs = text::decode(data).unwrap();
        let joined: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(joined.join("|"), *expected, "{}", vector.comment);
        let again = text::encode(pairs);
        assert!(data.starts_with(&again) && data[again.len()..].iter().all(|byte| *byte == 0));
        texts += 1;
    }
    assert!(texts > 10, "{texts}");
}

#[test]
fn captured_sense_data_and_additional_headers_are_found() {
    let (mut senses, mut additional) = (0, 0);
    for vector in vectors() {
        if let Some(length) = vector.fields.get("sense") {
            let (sense, rest) = sense_segment::decode(vector.segment("data")).unwrap();
            assert_eq!(sense.len() as u64, number("sense", length), "{}", vector.comment);
            assert_eq!(sense_segment::encode(sense), vector.segment("data"), "{}", vector.comment);
            assert!(rest.is_empty() && matches!(sense[0] & 0x7f, 0x70 | 0x72), "{}", vector.comment);
            senses += 1;
        }
        if vector.segments.contains_key("ahs") {
            let header = ahs::decode(vector.segment("ahs")).unwrap();
            let cdb_bytes = header.extended_cdb.unwrap().len() as u64;
            assert_eq!(
                cdb_bytes + 1,
                number("cdb_length", &vector.fields["cdb_length"]),
                "{}",
                vector.comment
            );
            assert_eq!(header.encode(), vector.segment("ahs"), "{}", vector.comment);
            additional += 1;
        }
    }
    assert!(senses > 5 && additional > 0, "{senses} {additional}");
}
