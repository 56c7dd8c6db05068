//! FORMAT UNIT (SBC-3 5.4): the CDB and the header of its parameter list. There is nothing to choose: the logical
//! blocks have one length, no protection information, and a medium without defects.

use super::cdb::Cdb;
use super::sense::Sense;

/// The CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormatUnit {
    /// FMTDATA: a parameter list comes.
    pub list: bool,
    /// LONGLIST: its header is the long one.
    pub long_list: bool,
    /// The byte of the first field that asks for what there is not: FMTPINFO, DEFECT LIST FORMAT, FFMT, or a byte that
    /// is reserved or the vendor's.
    pub unknown: Option<u16>,
}

impl FormatUnit {
    /// Decodes the CDB.
    #[must_use]
    pub fn of(cdb: &Cdb) -> Self {
        const FMTPINFO: u8 = 0xc0;
        const DEFECT_LIST_FORMAT: u8 = 0x07;
        let unknown = if cdb[1] & (FMTPINFO | DEFECT_LIST_FORMAT) != 0 {
            Some(1)
        } else {
            (2..5).zip(&cdb[2..5]).find(|(_, byte)| **byte != 0).map(|(at, _)| at)
        };
        Self { list: cdb[1] & 0x10 != 0, long_list: cdb[1] & 0x20 != 0, unknown }
    }

    /// Bytes of the parameter list that are looked at: its header, for its defect list has to be empty.
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        match (self.list, self.long_list) {
            (false, _) => 0,
            (true, false) => 4,
            (true, true) => 8,
        }
    }

    /// The parameter list (SBC-3 5.4.2.2): IMMED, or what is wrong with it.
    pub fn immed(&self, list: &[u8]) -> Result<bool, Sense> {
        const FOV: u8 = 0x80;
        // DPRY, DCRT and STPF are about defects, of which there are none. IP would bring a pattern of the host's.
        const OPTIONS: u8 = 0x70;
        const IP: u8 = 0x08;
        const IMMED: u8 = 0x02;
        let wrong = |byte| Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(byte);
        let Some(header) = list.get(..self.header_bytes()) else {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        };
        let [first, flags, rest @ ..] = header else {
            return Ok(false);
        };
        // PROTECTION FIELD USAGE.
        if first & 0x07 != 0 {
            return Err(wrong(0));
        }
        if flags & IP != 0 || (flags & FOV == 0 && flags & OPTIONS != 0) {
            return Err(wrong(1));
        }
        // P_I_INFORMATION and PROTECTION INTERVAL EXPONENT of the long header, DEFECT LIST LENGTH of both.
        match (2..).zip(rest).find(|(_, byte)| **byte != 0) {
            None => Ok(flags & IMMED != 0),
            Some((at, _)) if !self.long_list => Err(wrong(at.min(2))),
            Some((at, _)) => Err(wrong(at.min(4))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(bytes: &[u8]) -> FormatUnit {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        FormatUnit::of(&cdb)
    }

    #[test]
    fn the_cdb_says_which_header_comes() {
        for (flags, header) in [(0x00, 0), (0x20, 0), (0x08, 0), (0x10, 4), (0x18, 4), (0x30, 8)] {
            let asked = asked(&[0x04, flags]);
            assert_eq!((asked.header_bytes(), asked.unknown), (header, None), "{flags:02x}");
        }
        let unknown: [(&[u8], u16); 6] = [
            (&[0x04, 0x50], 1),
            (&[0x04, 0x80], 1),
            (&[0x04, 0x14], 1),
            (&[0x04, 0, 1], 2),
            (&[0x04, 0, 0, 1], 3),
            (&[0x04, 0, 0, 0, 1], 4),
        ];
        for (cdb, at) in unknown {
            assert_eq!(asked(cdb).unknown, Some(at), "{cdb:02x?}");
        }
    }

    #[test]
    fn the_header_may_ask_for_an_answer_at_once_and_for_little_else() {
        let (none, short, long) = (asked(&[4, 0]), asked(&[4, 0x10]), asked(&[4, 0x30]));
        assert_eq!(none.immed(&[]), Ok(false));
        for (list, immed) in [
            ([0, 0, 0, 0], false),
            ([0, 0x02, 0, 0], true),
            ([0, 0xa2, 0, 0], true),
            ([0, 0xf0, 0, 0], false),
        ] {
            assert_eq!(short.immed(&list), Ok(immed), "{list:02x?}");
            let [first, flags, ..] = list;
            assert_eq!(long.immed(&[first, flags, 0, 0, 0, 0, 0, 0]), Ok(immed), "{list:02x?}");
        }
        let wrong = |at| Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST.in_list(at));
        for (list, at) in [
            ([1, 0, 0, 0], 0),
            ([0, 0x88, 0, 0], 1),
            ([0, 0x20, 0, 0], 1),
            ([0, 2, 0, 4], 2),
            ([0, 2, 4, 0], 2),
        ] {
            assert_eq!(short.immed(&list), wrong(at), "{list:02x?}");
        }
        for (list, at) in [([0, 2, 0, 0x10, 0, 0, 0, 0], 3), ([0, 2, 0, 0, 0, 0, 0, 8], 4)] {
            assert_eq!(long.immed(&list), wrong(at), "{list:02x?}");
        }
        assert_eq!(short.immed(&[0, 2, 0]), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
        assert_eq!(long.immed(&[0, 2, 0, 0]), Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
    }
}
