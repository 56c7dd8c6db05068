//! The few PDUs the load generator needs, laid out by hand from RFC 7143 section 11, so that it shares no
//! mistake with the target it drives.

/// Bytes of a basic header segment (section 11.2.1).
pub(crate) const HEADER_BYTES: usize = 48;

/// Initiator opcodes (section 11.2.1.2).
pub(crate) const NOP_OUT: u8 = 0x00;
pub(crate) const SCSI_COMMAND: u8 = 0x01;
pub(crate) const LOGIN_REQUEST: u8 = 0x03;
pub(crate) const DATA_OUT: u8 = 0x05;
/// Target opcodes.
pub(crate) const NOP_IN: u8 = 0x20;
pub(crate) const SCSI_RESPONSE: u8 = 0x21;
pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
pub(crate) const DATA_IN: u8 = 0x25;
pub(crate) const R2T: u8 = 0x31;

/// Sent with the command itself, ahead of others in the queue (the I bit).
pub(crate) const IMMEDIATE: u8 = 0x40;
/// The F bit; in a login request the same bit is T.
pub(crate) const FINAL: u8 = 0x80;
/// SCSI command flags (section 11.3.1).
pub(crate) const READ: u8 = 0x40;
pub(crate) const WRITE: u8 = 0x20;
const SIMPLE: u8 = 0x01;

/// The reserved tag (section 11.2.1.8).
pub(crate) const NO_TAG: u32 = u32::MAX;

/// A header as it came or as it goes.
#[derive(Clone, Copy)]
pub(crate) struct Header(pub(crate) [u8; HEADER_BYTES]);

impl Header {
    pub(crate) fn new(opcode: u8, flags: u8, tag: u32) -> Self {
        let mut header = Self([0; HEADER_BYTES]);
        header.0[0] = opcode;
        header.0[1] = flags;
        header.put(16, tag)
    }

    /// The header at the beginning of `bytes`, if it is all there.
    pub(crate) fn first(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|bytes| Self(*bytes))
    }

    /// A SCSI command (section 11.3): `tag`, the whole transfer's length, CmdSN, ExpStatSN, the CDB.
    pub(crate) fn command(
        direction: u8,
        lun: [u8; 8],
        tag: u32,
        bytes: u32,
        sn: [u32; 2],
        cdb: [u8; 16],
    ) -> Self {
        let mut header = Self::new(SCSI_COMMAND, FINAL | direction | SIMPLE, tag);
        header.0[8..16].copy_from_slice(&lun);
        header.0[32..48].copy_from_slice(&cdb);
        header.put(20, bytes).put(24, sn[0]).put(28, sn[1])
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    pub(crate) fn tag(&self) -> u32 {
        self.word(16)
    }

    /// A big-endian word at byte `at`, which is a constant of the layout.
    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    pub(crate) fn put(mut self, at: usize, word: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&word.to_be_bytes());
        self
    }

    pub(crate) fn lun(mut self, lun: [u8; 8]) -> Self {
        self.0[8..16].copy_from_slice(&lun);
        self
    }

    /// The header with its data segment's length in place (below 16 MiB).
    pub(crate) fn with_data(self, bytes: usize) -> Self {
        let ahs_and_length = (u32::from(self.0[4]) << 24) | (u32::try_from(bytes).unwrap_or(0) & 0x00ff_ffff);
        self.put(4, ahs_and_length)
    }

    /// Bytes of the data segment, without padding.
    pub(crate) fn data_bytes(&self) -> usize {
        (self.word(4) & 0x00ff_ffff) as usize
    }

    /// What follows the header: additional header segments, data, padding. Without digests.
    pub(crate) fn rest_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4 + self.data_bytes().next_multiple_of(4)
    }
}

/// Bytes of a digest (section 11.2.1).
const DIGEST_BYTES: usize = 4;

/// How PDUs look on one connection.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wire {
    /// With header and data digests. Those of the target are not looked at.
    pub(crate) digests: bool,
}

impl Wire {
    /// Bytes from the beginning of a PDU without additional header segments to its data segment.
    pub(crate) fn header_bytes(self) -> usize {
        if self.digests { HEADER_BYTES + DIGEST_BYTES } else { HEADER_BYTES }
    }

    /// Bytes of the whole PDU.
    pub(crate) fn bytes(self, header: &Header) -> usize {
        let data_digest = if self.digests && header.data_bytes() > 0 { DIGEST_BYTES } else { 0 };
        self.header_bytes() + header.rest_bytes() + data_digest
    }

    /// Appends a PDU with its padding.
    pub(crate) fn push(self, out: &mut Vec<u8>, header: Header, data: &[u8]) {
        let header = header.with_data(data.len());
        out.extend_from_slice(&header.0);
        if self.digests {
            out.extend_from_slice(&crc32c(&header.0));
        }
        let begin = out.len();
        out.extend_from_slice(data);
        out.resize(begin + data.len().next_multiple_of(4), 0);
        if self.digests && !data.is_empty() {
            let digest = crc32c(&out[begin..]);
            out.extend_from_slice(&digest);
        }
    }
}

/// CRC32C by a table, as it goes on the wire (section 13.1): slow, and shared with nobody.
fn crc32c(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ CRC32C[((crc ^ u32::from(*byte)) & 0xff) as usize];
    (!bytes.iter().fold(u32::MAX, step)).to_le_bytes()
}

/// What each byte does to a CRC32C.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// READ(16) or WRITE(16) (SBC-3).
pub(crate) fn transfer_cdb(write: bool, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = if write { 0x8a } else { 0x88 };
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_command_is_laid_out_as_rfc_7143_shows_it() {
        let mut out = Vec::new();
        let cdb = transfer_cdb(false, 0x0102, 8);
        Wire::default().push(
            &mut out,
            Header::command(READ, [0, 1, 0, 0, 0, 0, 0, 0], 7, 4096, [9, 10], cdb),
            &[],
        );
        let expected = [
            [0x01, 0xc1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 7, 0, 0, 0x10, 0, 0, 0, 0, 9, 0, 0, 0, 10],
            [0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 8, 0, 0],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn data_is_padded_to_four_bytes_and_its_length_is_not() {
        let mut out = Vec::new();
        Wire::default().push(&mut out, Header::new(DATA_OUT, FINAL, 1), b"abcde");
        assert_eq!(out.len(), HEADER_BYTES + 8);
        let header = Header::first(&out).unwrap();
        assert_eq!((header.data_bytes(), header.rest_bytes()), (5, 8));
    }

    #[test]
    fn digests_follow_the_header_and_the_padded_data() {
        // RFC 7143 B.4: 32 bytes of zeros.
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        let wire = Wire { digests: true };
        let mut out = Vec::new();
        wire.push(&mut out, Header::new(DATA_OUT, FINAL, 1), b"abcde");
        wire.push(&mut out, Header::new(NOP_OUT, FINAL, 1), &[]);
        assert_eq!(out.len(), (48 + 4 + 8 + 4) + (48 + 4));
        let header = Header::first(&out).unwrap();
        assert_eq!((wire.header_bytes(), wire.bytes(&header)), (52, 64));
        assert_eq!(out[60..64], crc32c(b"abcde\0\0\0"));
    }
}
