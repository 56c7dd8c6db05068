//! PDUs as an initiator sees them (RFC 7143 section 11): the basic header segment by its byte offsets, padding,
//! digests. Written from the RFC, apart from the encoding under test.

/// Length of the basic header segment (RFC 7143 11.2.1), in bytes.
pub const BHS_BYTES: usize = 48;

/// The tag that names no task (RFC 7143 11.2.1.8, 11.7.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// The immediate bit of a request's first byte (RFC 7143 11.2.1.1).
pub const IMMEDIATE: u8 = 0x40;

/// The final bit of the second byte (RFC 7143 11.2.1.3).
pub const FINAL: u8 = 0x80;

/// Opcodes (RFC 7143 11.2.1.2).
pub mod opcode {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// A basic header segment.
#[derive(Clone, Copy, Debug)]
pub struct Header(pub [u8; BHS_BYTES]);

impl Header {
    /// A header of all zeros but for its opcode byte and flags byte.
    #[must_use]
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut bytes = [0; BHS_BYTES];
        bytes[0] = opcode;
        bytes[1] = flags;
        Self(bytes)
    }

    /// Sets the 32-bit field at `offset`.
    #[must_use]
    pub fn with_u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    /// Sets the bytes at `offset`.
    #[must_use]
    pub fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The 32-bit field at `offset`.
    #[must_use]
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_be_bytes([self.0[offset], self.0[offset + 1], self.0[offset + 2], self.0[offset + 3]])
    }

    /// The opcode without the immediate bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// The initiator task tag (RFC 7143 11.2.1.8).
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.u32(16)
    }

    /// TotalAHSLength (RFC 7143 11.2.1.5), in bytes.
    #[must_use]
    pub fn ahs_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength (RFC 7143 11.2.1.6), in bytes without padding.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }
}

/// One PDU received.
#[derive(Clone, Debug)]
pub struct Pdu {
    /// The basic header segment.
    pub header: Header,
    /// The data segment without padding.
    pub data: Vec<u8>,
}

/// Which digests a connection uses (RFC 7143 13.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// CRC32C after every header.
    pub header: bool,
    /// CRC32C after every data segment that is not empty.
    pub data: bool,
}

/// A digest that does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DigestError;

/// Appends a PDU.
pub fn encode(out: &mut Vec<u8>, mut header: Header, data: &[u8], digests: Digests) {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    header.0[5..8].copy_from_slice(&length[1..]);
    out.extend_from_slice(&header.0);
    if digests.header {
        out.extend_from_slice(&crc32c(&header.0).to_le_bytes());
    }
    if data.is_empty() {
        return;
    }
    let start = out.len();
    out.extend_from_slice(data);
    out.resize(start + data.len().next_multiple_of(4), 0);
    if digests.data {
        let digest = crc32c(&out[start..]);
        out.extend_from_slice(&digest.to_le_bytes());
    }
}

/// Takes the first PDU of `bytes`, with how long it was; `None` if it is not complete yet.
pub fn decode(bytes: &[u8], digests: Digests) -> Result<Option<(Pdu, usize)>, DigestError> {
    let Some(head) = bytes.first_chunk::<BHS_BYTES>() else { return Ok(None) };
    let header = Header(*head);
    let header_end = BHS_BYTES + header.ahs_bytes();
    let data_start = header_end + if digests.header { 4 } else { 0 };
    let data_end = data_start + header.data_bytes();
    let padded_end = data_start + header.data_bytes().next_multiple_of(4);
    let data_digest = digests.data && data_end > data_start;
    let end = padded_end + if data_digest { 4 } else { 0 };
    if bytes.len() < end {
        return Ok(None);
    }
    let fits = |from: usize, to: usize| bytes[to..to + 4] == crc32c(&bytes[from..to]).to_le_bytes();
    if digests.header && !fits(0, header_end) || data_digest && !fits(data_start, padded_end) {
        return Err(DigestError);
    }
    Ok(Some((Pdu { header, data: bytes[data_start..data_end].to_vec() }, end)))
}

/// CRC32C (RFC 7143 13.1: the Castagnoli polynomial 11EDC6F41h, reflected).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_rfc_7143_appendix_a_4() {
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }

    #[test]
    fn a_pdu_comes_back_as_it_was_sent_and_not_before_its_last_byte() {
        for digests in [Digests::default(), Digests { header: true, data: true }] {
            let mut bytes = Vec::new();
            encode(&mut bytes, Header::new(opcode::NOP_OUT, FINAL).with_u32(16, 7), b"hello", digests);
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut], digests).unwrap().is_none(), "cut at {cut}");
            }
            let (pdu, length) = decode(&bytes, digests).unwrap().unwrap();
            assert_eq!((pdu.header.tag(), pdu.data.as_slice(), length), (7, &b"hello"[..], bytes.len()));
        }
    }

    #[test]
    fn a_flipped_bit_breaks_its_digest() {
        let digests = Digests { header: true, data: true };
        for at in [3, 60] {
            let mut bytes = Vec::new();
            encode(&mut bytes, Header::new(opcode::NOP_OUT, FINAL), &[5; 16], digests);
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes, digests).err(), Some(DigestError), "byte {at}");
        }
    }
}
