//! What reads bytes and keeps nothing: PDUs, text, CDBs, parameter lists, messages of the interlink, records.

use bytes::{Bytes, BytesMut};
use controller::volume::record::{self, Kind};
use controller::volume::superblock::{SUPERBLOCK_BYTES, Superblock};
use protocol::block::BLOCK_BYTES;
use protocol::interlink::copy_report::GroupRecord;
use protocol::interlink::frame::{self, PREFIX_BYTES, frame_lengths};
use protocol::interlink::hello::Identity;
use protocol::interlink::shared::SharedState;
use protocol::interlink::{GenerationTag, Message, Prefix};
use protocol::iscsi::keys::{Key, Stage};
use protocol::iscsi::parameters::Parameters;
use protocol::iscsi::{
    Digests, InitiatorPdu, TargetPdu, ahs, names, negotiation, sense_segment, text as keys,
};
use protocol::scsi::lun::Address;
use protocol::scsi::sanitize::Method;
use protocol::scsi::{cdb as cdbs, provisioning};
use target::iscsi::connection::framing::{Framed, take_pdu};

/// A property that does not hold.
fn differs(what: &str, first: &impl core::fmt::Debug, second: &impl core::fmt::Debug) -> Result<(), String> {
    Err(format!("{what}: {first:?} was written again and read as {second:?}"))
}

/// The first bytes as an array, zeros behind them.
fn array<const N: usize>(input: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let length = input.len().min(N);
    array[..length].copy_from_slice(&input[..length]);
    array
}

pub(super) fn pdu(input: &[u8]) -> Result<(), String> {
    let bhs = array(input);
    if let Ok(pdu) = InitiatorPdu::decode(&bhs) {
        let again = InitiatorPdu::decode(&pdu.encode());
        if again != Ok(pdu) {
            return differs("an initiator's PDU", &pdu, &again);
        }
    }
    if let Ok(pdu) = TargetPdu::decode(&bhs) {
        let again = TargetPdu::decode(&pdu.encode());
        if again != Ok(pdu) {
            return differs("a target's PDU", &pdu, &again);
        }
    }
    let _ = Address::decode(&array(&bhs[8..16]));
    Ok(())
}

/// A stream is framed into PDUs whose bytes add up to what was taken.
pub(super) fn frame_stream(input: &[u8]) -> Result<(), String> {
    let (flags, rest) = input.split_first().unwrap_or((&0, &[]));
    let digests = Digests { header: flags & 1 != 0, data: flags & 2 != 0 };
    let mut stream = BytesMut::from(rest);
    for _ in 0..=rest.len() {
        let before = stream.len();
        match take_pdu(&mut stream, digests, 8192) {
            Ok(Framed::Pdu(_)) if stream.len() < before => {}
            Ok(Framed::Pdu(_)) => return Err("a PDU was framed out of nothing".to_owned()),
            Ok(Framed::Incomplete(bytes)) if bytes <= before => {
                return Err(format!("{bytes} bytes are asked for, {before} are there"));
            }
            Ok(Framed::Incomplete(_)) | Err(_) => return Ok(()),
        }
    }
    Err("a stream was framed without end".to_owned())
}

pub(super) fn segments(input: &[u8]) -> Result<(), String> {
    if let Ok(header) = ahs::decode(input) {
        let written = header.encode();
        let again = ahs::decode(&written);
        if again != Ok(header) {
            return differs("additional header segments", &header, &again);
        }
    }
    if let Ok((sense, rest)) = sense_segment::decode(input)
        && sense.len() + rest.len() > input.len()
    {
        return Err("more sense data than there is".to_owned());
    }
    Ok(())
}

pub(super) fn text(input: &[u8]) -> Result<(), String> {
    let Ok(pairs) = keys::decode(input) else { return Ok(()) };
    let written = keys::encode(pairs.iter().copied());
    let again = keys::decode(&written);
    if again.as_ref() != Ok(&pairs) {
        return differs("a text", &pairs, &again);
    }
    for stage in [Stage::Security, Stage::Operational, Stage::FullFeature] {
        let own = Parameters::default();
        let mut agreed = Parameters::default();
        for (key, value) in &pairs {
            let answer = negotiation::answer(&mut agreed, &own, stage, key, value);
            let word = answer.ok().and_then(negotiation::Answer::value);
            if word.is_some_and(|word| keys::decode(&keys::encode([(*key, word.as_str())])).is_err()) {
                return Err(format!("the answer to {key}={value} is no text"));
            }
        }
        let _ = agreed.check();
    }
    for (key, value) in pairs {
        let _ = (keys::parse_boolean(value), keys::parse_number(value), Key::from_name(key));
        if let Ok(name) = names::IscsiName::from_initiator(value)
            && names::IscsiName::from_initiator(name.as_str()).as_ref() != Ok(&name)
        {
            return Err(format!("the name {value:?} is not the same read again"));
        }
    }
    Ok(())
}

pub(super) fn cdb(input: &[u8]) -> Result<(), String> {
    use protocol::scsi::{
        defects, inquiry, log, mode, operation_codes, read_capacity, report_luns, target_port_groups,
    };
    let cdb = array(input);
    for transfer in
        [cdbs::Transfer::of_6, cdbs::Transfer::of_10, cdbs::Transfer::of_12, cdbs::Transfer::of_16]
    {
        let _ = transfer(&cdb);
    }
    let _ = (cdbs::Transfer::of_compare_and_write(&cdb), cdbs::RequestSense::of(&cdb));
    let _ = (inquiry::Inquiry::of(&cdb), report_luns::ReportLuns::of(&cdb), provisioning::Unmap::of(&cdb));
    let _ = (mode::ModeSense::of_6(&cdb), mode::ModeSense::of_10(&cdb));
    let _ = (provisioning::WriteSame::of_10(&cdb), provisioning::WriteSame::of_16(&cdb));
    let _ = (read_capacity::lba_without_pmi(&cdb), read_capacity::allocation_16(&cdb));
    let _ = operation_codes::ReportOperationCodes::of(&cdb);
    let _ = target_port_groups::ReportTargetPortGroups::of(&cdb);
    let _ = (provisioning::GetLbaStatus::of(&cdb), log::LogSense::of(&cdb), cdbs::StartStopUnit::of(&cdb));
    let _ = defects::ReadDefectData::of_10(&cdb).parameter_data();
    let _ = defects::ReadDefectData::of_12(&cdb).parameter_data();
    let taken = target::device_server::data_out_bytes(&cdb);
    if taken > target::device_server::limits::DATA_OUT_BYTES_MAX {
        return Err(format!("a command takes {taken} bytes of data-out"));
    }
    Ok(())
}

/// A CDB, then the parameter list it announces.
pub(super) fn lists(input: &[u8]) -> Result<(), String> {
    cdb(input)?;
    let list = input.get(16..).unwrap_or_default();
    if let Ok(descriptors) = provisioning::unmap_descriptors(list)
        && descriptors.len() * provisioning::UNMAP_DESCRIPTOR_BYTES > list.len()
    {
        return Err("more descriptors than the list has room for".to_owned());
    }
    let cdb: [u8; 16] = array(input);
    mode_select(&cdb, list)?;
    extended_copy(&cdb, list)?;
    overwrite(list)?;
    reserve_out(&cdb, list)
}

/// EXTENDED COPY, under limits of the input's choosing: what was read fits them, and what it fills of the list.
fn extended_copy(cdb: &[u8; 16], list: &[u8]) -> Result<(), String> {
    use protocol::scsi::extended_copy::{
        self as copying, CSCD_BYTES, CopyLimits, HEADER_BYTES, ParameterList, SEGMENT_BYTES,
    };
    let limits = CopyLimits {
        cscds_max: u16::from(cdb[2]),
        segments_max: u16::from(cdb[3]),
        copies_max: 1,
        named_copies_max: 1,
        block_bytes: 512,
    };
    let _ = (copying::parameter_list_bytes(cdb), copying::list_identifier(cdb), copying::allocation(cdb));
    match ParameterList::of(list, &limits) {
        Ok(read) => {
            let (cscds, segments) = (read.cscds.len(), read.segments.len());
            let bytes = HEADER_BYTES + cscds * CSCD_BYTES + segments * SEGMENT_BYTES;
            if bytes > list.len() || cscds > usize::from(cdb[2]) || segments > usize::from(cdb[3]) {
                return Err(format!("{cscds} and {segments} descriptors of {} bytes", list.len()));
            }
        }
        Err(sense) if sense.field.is_some_and(|field| usize::from(field.byte) >= list.len()) => {
            return Err(format!("a field in error behind the end of the list: {sense:?}"));
        }
        Err(_) => {}
    }
    Ok(())
}

/// The parameter list of SANITIZE: what is taken of it fills a block.
fn overwrite(list: &[u8]) -> Result<(), String> {
    let Ok(method) = Method::overwrite(list) else { return Ok(()) };
    let wrong = |pass: &u8| method.block(*pass).len() != BLOCK_BYTES as usize;
    if method.passes() == 0 || (0..method.passes()).any(|pass| wrong(&pass)) {
        return Err(format!("a pass of {method:?} does not fill a block"));
    }
    let Method::Overwrite { pattern, .. } = &method else { return Err("it erases".to_owned()) };
    let last = method.block(method.passes() - 1);
    if last.chunks(pattern.len()).any(|piece| !pattern.starts_with(piece)) {
        return Err(format!("the last pass of {method:?} does not write the pattern"));
    }
    Ok(())
}

/// MODE SELECT as the CDB announces the list, and as if it announced what is there: a host that lies, and one that
/// does not.
fn mode_select(cdb: &[u8; 16], list: &[u8]) -> Result<(), String> {
    use protocol::interlink::event::ModeSelection;
    use protocol::interlink::shared::Modes;
    use protocol::scsi::mode::{self, ModeSelect, ModeSense, Parameters};
    let modes = |bits: u8| Modes {
        write_protect: bits & 1 != 0,
        descriptor_sense: bits & 2 != 0,
        write_cache: (bits & 4 != 0).then_some(bits & 8 != 0),
    };
    let parameters = Parameters {
        blocks: u64::from(cdb[3]) << (cdb[4] & 0x3f),
        write_cache: cdb[5] & 1 != 0,
        read_only: cdb[5] & 2 != 0,
        current: modes(cdb[6]),
        saved: modes(cdb[7]),
    };
    let told_back = ModeSelection {
        save: false,
        write_protect: Some(parameters.current.write_protect),
        descriptor_sense: Some(parameters.current.descriptor_sense),
        write_cache: Some(parameters.current.caches(parameters.write_cache)),
    };
    for select in [ModeSelect::of_6(cdb), ModeSelect::of_10(cdb)] {
        let _ = select.selection(list, &parameters);
        let _ = ModeSelect { length: list.len(), ..select }.selection(list, &parameters);
    }
    // What MODE SENSE tells may be sent back: every page, with and without block descriptors.
    let sense = ModeSense { allocation: u32::MAX as usize, ..ModeSense::of_10(&all_pages(cdb[1])) };
    let Ok(mut told) = mode::parameter_list(&sense, &parameters) else {
        return Err("MODE SENSE of all pages is refused".to_owned());
    };
    // Both are reserved in MODE SELECT (SPC-4 7.5.5).
    told[..2].fill(0);
    told[3] = 0;
    let select = ModeSelect { ten: true, save: false, length: told.len() };
    match select.selection(&told, &parameters) {
        Ok(Some(selection)) if selection == told_back => Ok(()),
        other => Err(format!("what MODE SENSE tells is taken as {other:?}")),
    }
}

/// MODE SENSE (10) of every page and subpage, with the flags that `flags` has.
fn all_pages(flags: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[3]) = (0x5a, flags & 0x18, 0x3f, 0xff);
    (cdb[7], cdb[8]) = (0xff, 0xff);
    cdb
}

/// PERSISTENT RESERVE OUT, likewise. The initiator ports that were read are the same written and read again.
fn reserve_out(cdb: &[u8; 16], list: &[u8]) -> Result<(), String> {
    use protocol::scsi::persistent_reservation::{ReserveOut, TRANSPORT_IDS_MAX};
    let _ = ReserveOut::of(cdb, list);
    let mut true_to_size = *cdb;
    true_to_size[5..9].copy_from_slice(&(list.len() as u32).to_be_bytes());
    let Ok(out) = ReserveOut::of(&true_to_size, list) else { return Ok(()) };
    if out.others.len() > TRANSPORT_IDS_MAX {
        return Err(format!("{} initiator ports in one list", out.others.len()));
    }
    for port in out.others.iter().chain(out.moved.as_ref().map(|moved| &moved.to)) {
        let id = port.transport_id();
        // REGISTER with SPEC_I_PT: the list of TransportIDs has its length before it.
        let mut again = vec![0; 24];
        again[20] = 0x08;
        again.extend_from_slice(&(id.len() as u32).to_be_bytes());
        again.extend_from_slice(&id);
        let mut register = [0x5f; 16];
        (register[1], register[2]) = (0, 0);
        register[5..9].copy_from_slice(&(again.len() as u32).to_be_bytes());
        let read = ReserveOut::of(&register, &again).map(|out| out.others);
        if read.as_ref() != Ok(&vec![port.clone()]) {
            return differs("an initiator port", port, &read);
        }
    }
    Ok(())
}

/// A frame as it comes, and the same body under a checksum that is right: a peer that lies.
pub(super) fn interlink(input: &[u8]) -> Result<(), String> {
    let Some((fixed, rest)) = input.split_first_chunk::<PREFIX_BYTES>() else { return Ok(()) };
    if let Ok(lengths) = frame_lengths(fixed) {
        let (head, payload) = input.split_at(lengths.head.min(input.len()));
        read_message(head, payload)?;
    }
    let body = rest.get(..rest.len().min(frame::BODY_BYTES_MAX as usize)).unwrap_or_default();
    let generation = GenerationTag { number: 1, id: 2 };
    let prefix = Prefix { version: 1, kind: fixed[6], lun: 3, generation };
    read_message(&frame::encode(prefix, body, &[]), &[])
}

fn read_message(head: &[u8], payload: &[u8]) -> Result<(), String> {
    let Ok((prefix, message)) = Message::decode(head, payload) else { return Ok(()) };
    let written = message.encode(prefix.lun, prefix.generation, &[Bytes::copy_from_slice(payload)]);
    match Message::decode(&written, payload) {
        Ok((_, again)) if again == message => Ok(()),
        again => differs("a message", &message, &again),
    }
}

/// One byte for the kind, then the record.
pub(super) fn records(input: &[u8]) -> Result<(), String> {
    let (kind, record) = input.split_first().unwrap_or((&0, &[]));
    match kind % 6 {
        0 => {
            if let Ok(identity) = Identity::from_record(record) {
                let again = Identity::from_record(&identity.to_record());
                if again.as_ref() != Ok(&identity) {
                    return differs("an identity", &identity, &again);
                }
            }
        }
        1 => {
            if let Ok(groups) = GroupRecord::decode_all(record) {
                let again = GroupRecord::decode_all(&GroupRecord::encode_all(&groups));
                if again.as_ref() != Ok(&groups) {
                    return differs("the groups", &groups, &again);
                }
            }
        }
        5 => {
            if let Ok((2, content)) = record::unwrap(Kind::Unit, "alpha", record) {
                let again = record::wrap(Kind::Unit, "alpha", content);
                if again != record {
                    return differs("a record", &record, &again);
                }
            }
        }
        4 => {
            if let Ok(state) = SharedState::decode(record) {
                let again = SharedState::decode(&state.encode());
                if again.as_ref() != Ok(&state) {
                    return differs("a shared state", &state, &again);
                }
            }
        }
        kind => {
            let mut copy: [u8; SUPERBLOCK_BYTES] = array(record);
            if kind == 3 {
                // Under a checksum that is right.
                let crc = protocol_crc(&copy[..SUPERBLOCK_BYTES - 4]);
                copy[SUPERBLOCK_BYTES - 4..].copy_from_slice(&crc);
            }
            if let Ok((superblock, sequence)) = Superblock::decode(&copy) {
                let again = Superblock::decode(&superblock.encode(sequence));
                if again != Ok((superblock, sequence)) {
                    return differs("a superblock", &superblock, &again);
                }
            }
            let _ = Superblock::newest(&[copy, copy]);
        }
    }
    Ok(())
}

/// CRC32C, least significant byte first, as iSCSI's digest and the superblock both have it.
fn protocol_crc(bytes: &[u8]) -> [u8; 4] {
    protocol::iscsi::digest::digest([bytes])
}
