//! What a command ended with.

/// Status codes (SAM-5 5.3.1) as they are on the wire.
pub mod status {
    #![allow(missing_docs, reason = "the names are SAM-5's")]
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Sense data (SPC-4 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    /// The sense key.
    pub key: u8,
    /// ADDITIONAL SENSE CODE and its qualifier.
    pub code: (u8, u8),
    /// INFORMATION, if it is valid.
    pub information: Option<u64>,
    /// It came in descriptor format.
    pub descriptor: bool,
}

impl Sense {
    /// Reads sense data in fixed or descriptor format.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7f {
            0x70 | 0x71 => {
                let fixed = bytes.first_chunk::<14>()?;
                let information = u32::from_be_bytes([fixed[3], fixed[4], fixed[5], fixed[6]]);
                let valid = fixed[0] & 0x80 != 0;
                let code = (fixed[12], fixed[13]);
                Some(Self {
                    key: fixed[2] & 0x0f,
                    code,
                    information: valid.then_some(u64::from(information)),
                    descriptor: false,
                })
            }
            0x72 | 0x73 => {
                let head = bytes.first_chunk::<8>()?;
                let information = match bytes.get(8..20) {
                    Some([0x00, 0x0a, flags, _, rest @ ..]) if flags & 0x80 != 0 => {
                        rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
                    }
                    _ => None,
                };
                Some(Self { key: head[1] & 0x0f, code: (head[2], head[3]), information, descriptor: true })
            }
            _ => None,
        }
    }
}

/// How far the data moved differs from what was expected (RFC 7143 11.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Residual {
    /// All of it moved.
    None,
    /// So many bytes were not moved.
    Underflow(u32),
    /// So many bytes more would have been moved.
    Overflow(u32),
}

/// What a command ended with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code.
    pub status: u8,
    /// With CHECK CONDITION: why.
    pub sense: Option<Sense>,
    /// The data-in buffer.
    pub data: Vec<u8>,
    /// What did not fit.
    pub residual: Residual,
}

impl Response {
    /// GOOD.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status == status::GOOD
    }

    /// The sense key, ASC and ASCQ; zeros without sense data.
    #[must_use]
    pub fn code(&self) -> (u8, u8, u8) {
        self.sense.map_or((0, 0, 0), |sense| (sense.key, sense.code.0, sense.code.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sense_data_are_read() {
        let fixed = [0xf0, 0, 0x0e, 0, 0, 1, 2, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0];
        let descriptor = [0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        let expected = |descriptor| Sense { key: 0x0e, code: (0x1d, 0), information: Some(258), descriptor };
        assert_eq!(Sense::parse(&fixed), Some(expected(false)));
        assert_eq!(Sense::parse(&descriptor), Some(expected(true)));
        assert_eq!(Sense::parse(&[0x72, 5, 0x24, 0, 0, 0, 0, 0]).unwrap().information, None);
        assert_eq!(Sense::parse(&[0x70, 0, 5]), None);
    }
}
