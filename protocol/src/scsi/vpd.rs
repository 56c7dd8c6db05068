//! Vital product data pages (SPC-4 7.8, SBC-3 6.5): who the LUN is and what it can take.
//!
//! Both controllers answer the same bytes but for the port in page 83h.

use super::extended_copy::{CopyLimits, third_party_copy_page};

/// Supported VPD Pages.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Unit Serial Number.
pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
/// Device Identification.
pub const DEVICE_IDENTIFICATION: u8 = 0x83;
/// Extended INQUIRY Data.
pub const EXTENDED_INQUIRY_DATA: u8 = 0x86;
/// Third-Party Copy.
pub const THIRD_PARTY_COPY: u8 = 0x8f;
/// Block Limits.
pub const BLOCK_LIMITS: u8 = 0xb0;
/// Block Device Characteristics.
pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
/// Logical Block Provisioning.
pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;

/// Every page there is, ascending.
const PAGES: [u8; 8] = [
    SUPPORTED_PAGES,
    UNIT_SERIAL_NUMBER,
    DEVICE_IDENTIFICATION,
    EXTENDED_INQUIRY_DATA,
    THIRD_PARTY_COPY,
    BLOCK_LIMITS,
    BLOCK_DEVICE_CHARACTERISTICS,
    LOGICAL_BLOCK_PROVISIONING,
];

/// What the pages tell of a LUN and the port it was asked through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity<'a> {
    /// PRODUCT SERIAL NUMBER, printable ASCII.
    pub serial: &'a str,
    /// The NAA designator, type 3 in its upper four bits.
    pub naa: u64,
    /// RELATIVE TARGET PORT IDENTIFIER and TARGET PORT GROUP of the port the command came in by.
    pub port: u16,
}

/// What the Block Limits page tells (SBC-3 6.5.3), in logical blocks unless said otherwise, and its neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockLimits {
    /// MAXIMUM COMPARE AND WRITE LENGTH.
    pub compare_and_write_max: u8,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY.
    pub transfer_granularity: u16,
    /// MAXIMUM TRANSFER LENGTH.
    pub transfer_max: u32,
    /// OPTIMAL TRANSFER LENGTH.
    pub transfer_optimal: u32,
    /// MAXIMUM PREFETCH LENGTH.
    pub prefetch_max: u32,
    /// MAXIMUM UNMAP LBA COUNT.
    pub unmap_max: u32,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT, in descriptors.
    pub unmap_descriptors_max: u32,
    /// OPTIMAL UNMAP GRANULARITY.
    pub unmap_granularity: u32,
    /// MAXIMUM WRITE SAME LENGTH.
    pub write_same_max: u64,
    /// MAXIMUM ATOMIC TRANSFER LENGTH. No boundaries within a transfer.
    pub atomic_max: u32,
    /// What the Third-Party Copy page tells.
    pub copy: CopyLimits,
    /// ATOMIC ALIGNMENT and ATOMIC TRANSFER LENGTH GRANULARITY; zero: any.
    pub atomic_granularity: u32,
}

/// The page of that code, or `None` if there is none.
#[must_use]
pub fn page(code: u8, identity: &Identity<'_>, limits: &BlockLimits) -> Option<Vec<u8>> {
    let body = match code {
        SUPPORTED_PAGES => PAGES.to_vec(),
        UNIT_SERIAL_NUMBER => identity.serial.as_bytes().to_vec(),
        DEVICE_IDENTIFICATION => device_identification(identity),
        EXTENDED_INQUIRY_DATA => EXTENDED_INQUIRY_DATA_BODY.to_vec(),
        THIRD_PARTY_COPY => third_party_copy_page(&limits.copy),
        BLOCK_LIMITS => block_limits(limits).to_vec(),
        BLOCK_DEVICE_CHARACTERISTICS => block_device_characteristics().to_vec(),
        LOGICAL_BLOCK_PROVISIONING => LOGICAL_BLOCK_PROVISIONING_BODY.to_vec(),
        _ => return None,
    };
    debug_assert!(body.len() <= usize::from(u16::MAX), "a page can tell its length");
    let length = u16::try_from(body.len()).ok()?;
    let mut page = vec![0x00, code];
    page.extend_from_slice(&length.to_be_bytes());
    page.extend_from_slice(&body);
    Some(page)
}

/// The name that hosts give a LUN of that NAA designator: `/dev/disk/by-id/scsi-` before it on Linux, the WWID of
/// multipath-tools.
#[must_use]
pub fn wwid(naa: u64) -> String {
    format!("3{naa:016x}")
}

/// Designation descriptors (SPC-4 7.8.6): NAA of the LUN, number and group of the port.
///
/// A second designator of the LUN would be a second name: Linux, multipath-tools and the rules of sg3_utils prefer all
/// others to an NAA that is locally assigned, and udev's scsi_id an NAA of any kind. `tests/names_of_a_lun.rs` has
/// their rules.
fn device_identification(identity: &Identity<'_>) -> Vec<u8> {
    const BINARY: u8 = 0x01;
    const NAA: u8 = 0x03;
    // Association with the target port, PIV, PROTOCOL IDENTIFIER iSCSI.
    const ISCSI_BINARY: u8 = 0x50 | BINARY;
    const RELATIVE_TARGET_PORT: u8 = 0x80 | 0x10 | 0x04;
    const TARGET_PORT_GROUP: u8 = 0x80 | 0x10 | 0x05;

    let [high, low] = identity.port.to_be_bytes();
    let mut body = Vec::new();
    designator(&mut body, BINARY, NAA, &identity.naa.to_be_bytes());
    designator(&mut body, ISCSI_BINARY, RELATIVE_TARGET_PORT, &[0, 0, high, low]);
    designator(&mut body, ISCSI_BINARY, TARGET_PORT_GROUP, &[0, 0, high, low]);
    body
}

/// Appends one designation descriptor; an overlong designator is cut at 255 bytes.
fn designator(body: &mut Vec<u8>, code_set: u8, kind: u8, value: &[u8]) {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    body.extend_from_slice(&[code_set, kind, 0, length]);
    body.extend(value.iter().take(usize::from(length)));
}

/// Extended INQUIRY Data (SPC-4 7.8.7): HEADSUP, ORDSUP and SIMPSUP, the task attributes there are; V_SUP, a
/// volatile cache, which SYNCHRONIZE CACHE and FUA see to; no protection information, no groups, no priorities.
const EXTENDED_INQUIRY_DATA_BODY: [u8; 60] = {
    let mut body = [0; 60];
    body[1] = 0x07;
    body[2] = 0x01;
    body
};

fn block_limits(limits: &BlockLimits) -> [u8; 60] {
    let mut body = [0; 60];
    body[0] = 0x01; // WSNZ
    body[1] = limits.compare_and_write_max;
    body[2..4].copy_from_slice(&limits.transfer_granularity.to_be_bytes());
    body[4..8].copy_from_slice(&limits.transfer_max.to_be_bytes());
    body[8..12].copy_from_slice(&limits.transfer_optimal.to_be_bytes());
    body[12..16].copy_from_slice(&limits.prefetch_max.to_be_bytes());
    body[16..20].copy_from_slice(&limits.unmap_max.to_be_bytes());
    body[20..24].copy_from_slice(&limits.unmap_descriptors_max.to_be_bytes());
    body[24..28].copy_from_slice(&limits.unmap_granularity.to_be_bytes());
    body[28] = 0x80; // UGAVALID, UNMAP GRANULARITY ALIGNMENT 0
    body[32..40].copy_from_slice(&limits.write_same_max.to_be_bytes());
    // MAXIMUM ATOMIC TRANSFER LENGTH WITH ATOMIC BOUNDARY and MAXIMUM ATOMIC BOUNDARY SIZE stay zero (SBC-4 6.6.4).
    body[40..44].copy_from_slice(&limits.atomic_max.to_be_bytes());
    body[44..48].copy_from_slice(&limits.atomic_granularity.to_be_bytes());
    body[48..52].copy_from_slice(&limits.atomic_granularity.to_be_bytes());
    body
}

/// MEDIUM ROTATION RATE 0001h: no seeks worth ordering for. WABEREQ 01b: blocks can be read after a SANITIZE that
/// erased them (SBC-4 6.6.2).
fn block_device_characteristics() -> [u8; 60] {
    let mut body = [0; 60];
    body[1] = 0x01;
    body[3] = 0x40;
    body
}

/// No threshold; LBPU, LBPWS, LBPWS10, LBPRZ; PROVISIONING TYPE thin (SBC-3 6.5.4).
const LOGICAL_BLOCK_PROVISIONING_BODY: [u8; 4] = [0x00, 0xe4, 0x02, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity<'_> =
        Identity { serial: "0123456789abcdef", naa: 0x3123_4567_89ab_cdef, port: 2 };
    const LIMITS: BlockLimits = BlockLimits {
        compare_and_write_max: 1,
        transfer_granularity: 8,
        transfer_max: 0x4000,
        transfer_optimal: 0x800,
        prefetch_max: 0x4000,
        unmap_max: 0x8_0000,
        unmap_descriptors_max: 256,
        unmap_granularity: 8,
        write_same_max: 0x1_0000,
        atomic_max: 0x200,
        copy: CopyLimits {
            cscds_max: 4,
            segments_max: 8,
            copies_max: 16,
            named_copies_max: 16,
            block_bytes: 512,
        },
        atomic_granularity: 8,
    };

    fn get(code: u8) -> Vec<u8> {
        page(code, &IDENTITY, &LIMITS).unwrap()
    }

    #[test]
    fn the_first_page_lists_exactly_the_pages_that_exist() {
        let listed = get(SUPPORTED_PAGES);
        assert_eq!(listed, [0, 0, 0, 8, 0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2]);
        for code in 0..=255 {
            let answer = page(code, &IDENTITY, &LIMITS);
            assert_eq!(answer.is_some(), listed[4..].contains(&code), "{code:02x}");
            assert!(answer.is_none_or(|page| page[1] == code
                && usize::from(u16::from_be_bytes([page[2], page[3]])) == page.len() - 4));
        }
    }

    #[test]
    fn the_serial_number_page_is_the_serial_number() {
        assert_eq!(get(UNIT_SERIAL_NUMBER), *b"\x00\x80\x00\x100123456789abcdef");
    }

    #[test]
    fn device_identification_names_the_unit_and_the_port() {
        let mut wanted = vec![0x00, 0x83, 0x00, 12 + 8 + 8];
        wanted.extend_from_slice(&[0x01, 0x03, 0, 8, 0x31, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        wanted.extend_from_slice(&[0x51, 0x94, 0, 4, 0, 0, 0, 2]);
        wanted.extend_from_slice(&[0x51, 0x95, 0, 4, 0, 0, 0, 2]);
        assert_eq!(get(DEVICE_IDENTIFICATION), wanted);
    }

    #[test]
    fn block_limits_stand_where_sbc_3_puts_them() {
        let mut wanted = vec![0x00, 0xb0, 0x00, 0x3c];
        wanted.extend_from_slice(&[0x01, 0x01, 0, 8, 0, 0, 0x40, 0, 0, 0, 0x08, 0, 0, 0, 0x40, 0]);
        wanted.extend_from_slice(&[0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]);
        wanted.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 8, 0, 0, 0, 8]);
        wanted.resize(64, 0);
        assert_eq!(get(BLOCK_LIMITS), wanted);
    }

    #[test]
    fn extended_inquiry_data_names_task_attributes_and_the_volatile_cache() {
        let mut wanted = [0; 64];
        wanted[..7].copy_from_slice(&[0x00, 0x86, 0x00, 0x3c, 0x00, 0x07, 0x01]);
        assert_eq!(get(EXTENDED_INQUIRY_DATA), wanted);
    }

    #[test]
    fn the_disk_does_not_rotate_and_is_thin() {
        assert_eq!(get(BLOCK_DEVICE_CHARACTERISTICS)[..8], [0x00, 0xb1, 0x00, 0x3c, 0x00, 0x01, 0, 0x40]);
        assert_eq!(get(LOGICAL_BLOCK_PROVISIONING), [0x00, 0xb2, 0x00, 0x04, 0x00, 0xe4, 0x02, 0x00]);
    }
}
