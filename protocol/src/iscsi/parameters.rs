//! The operational parameters of a session: the typed values of the keys of RFC 7143 section 13.

use super::keys::Key;
use super::text::{self, NONE, boolean};

/// The name of the only digest (13.1).
pub const CRC32C: &str = "CRC32C";

/// How task aborts are reported (13.23); each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TaskReporting {
    /// RFC3720.
    #[default]
    Rfc3720,
    /// ResponseFence.
    ResponseFence,
    /// FastAbort.
    FastAbort,
}

impl TaskReporting {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rfc3720 => "RFC3720",
            Self::ResponseFence => "ResponseFence",
            Self::FastAbort => "FastAbort",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Rfc3720, Self::ResponseFence, Self::FastAbort].into_iter().find(|value| value.name() == name)
    }
}

/// The operational parameters of a session with one connection. The default is the standard's for every key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// HeaderDigest=CRC32C. As a wish: CRC32C is accepted where it is offered first; None always is.
    pub header_digest: bool,
    /// DataDigest=CRC32C. As a wish: as above.
    pub data_digest: bool,
    /// MaxConnections.
    pub max_connections: u32,
    /// InitialR2T: unsolicited Data-Out is not allowed.
    pub initial_r2t: bool,
    /// ImmediateData is allowed.
    pub immediate_data: bool,
    /// MaxRecvDataSegmentLength, in bytes. As a wish: what this side can receive; as agreed: what the other side
    /// declared, the limit for what is sent to it.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength, in bytes.
    pub max_burst_length: u32,
    /// FirstBurstLength, in bytes; see [`Self::first_burst_bytes`].
    pub first_burst_length: u32,
    /// DefaultTime2Wait, in seconds.
    pub default_time_2_wait: u32,
    /// DefaultTime2Retain, in seconds.
    pub default_time_2_retain: u32,
    /// MaxOutstandingR2T of one task.
    pub max_outstanding_r2t: u32,
    /// DataPDUInOrder.
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder.
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u32,
    /// TaskReporting. As a wish: the most that is supported.
    pub task_reporting: TaskReporting,
    /// iSCSIProtocolLevel: 1 is RFC 7143 (13.24).
    pub protocol_level: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_recv_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            default_time_2_wait: 2,
            default_time_2_retain: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            task_reporting: TaskReporting::Rfc3720,
            protocol_level: 1,
        }
    }
}

/// A rule between keys that the agreed parameters break (6.2: checked "after all the parameters are available").
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IntegrityError {
    /// 13.14.
    #[error("FirstBurstLength exceeds MaxBurstLength (RFC 7143 13.14)")]
    FirstBurstTooLong,
    /// 13.19.
    #[error(
        "with ErrorRecoveryLevel above 0 and DataSequenceInOrder, MaxOutstandingR2T must be 1 (RFC 7143 13.19)"
    )]
    TooManyR2ts,
}

impl Parameters {
    /// The rules between keys.
    pub const fn check(&self) -> Result<(), IntegrityError> {
        if self.first_burst_length > self.max_burst_length {
            return Err(IntegrityError::FirstBurstTooLong);
        }
        if self.error_recovery_level > 0 && self.data_sequence_in_order && self.max_outstanding_r2t > 1 {
            return Err(IntegrityError::TooManyR2ts);
        }
        Ok(())
    }

    /// How much unsolicited data one command may bring, in bytes: FirstBurstLength, but never more than
    /// MaxBurstLength (13.14). Initiators that offer a small MaxBurstLength and leave the other at its default
    /// mean this.
    #[must_use]
    pub fn first_burst_bytes(&self) -> u32 {
        self.first_burst_length.min(self.max_burst_length)
    }

    /// The value of a key as it is offered, answered or declared; `None` for keys that are no parameters.
    #[must_use]
    pub fn value(&self, key: Key) -> Option<String> {
        let mut copy = *self;
        if let Some(flag) = copy.boolean_mut(key) {
            return Some(boolean(*flag).to_owned());
        }
        if let Some(number) = copy.number_mut(key) {
            return Some(number.to_string());
        }
        let digest = |wanted: bool| if wanted { "CRC32C,None" } else { NONE }.to_owned();
        match key {
            Key::HeaderDigest => Some(digest(self.header_digest)),
            Key::DataDigest => Some(digest(self.data_digest)),
            // 13.23: "at least the RFC3720 and ResponseFence values MUST be offered"; who supports only the default
            // does not offer the key.
            Key::TaskReporting => match self.task_reporting {
                TaskReporting::Rfc3720 => None,
                TaskReporting::ResponseFence => Some("ResponseFence,RFC3720".to_owned()),
                TaskReporting::FastAbort => Some("FastAbort,ResponseFence,RFC3720".to_owned()),
            },
            _ => None,
        }
    }

    /// Appends a key with its [value](Self::value) to a text.
    pub fn push(&self, text: &mut Vec<u8>, key: Key) {
        if let Some(value) = self.value(key) {
            text::push_pair(text, key.name(), &value);
        }
    }

    pub(super) const fn boolean_mut(&mut self, key: Key) -> Option<&mut bool> {
        match key {
            Key::InitialR2t => Some(&mut self.initial_r2t),
            Key::ImmediateData => Some(&mut self.immediate_data),
            Key::DataPduInOrder => Some(&mut self.data_pdu_in_order),
            Key::DataSequenceInOrder => Some(&mut self.data_sequence_in_order),
            _ => None,
        }
    }

    pub(super) const fn number_mut(&mut self, key: Key) -> Option<&mut u32> {
        match key {
            Key::MaxConnections => Some(&mut self.max_connections),
            Key::MaxRecvDataSegmentLength => Some(&mut self.max_recv_data_segment_length),
            Key::MaxBurstLength => Some(&mut self.max_burst_length),
            Key::FirstBurstLength => Some(&mut self.first_burst_length),
            Key::DefaultTime2Wait => Some(&mut self.default_time_2_wait),
            Key::DefaultTime2Retain => Some(&mut self.default_time_2_retain),
            Key::MaxOutstandingR2t => Some(&mut self.max_outstanding_r2t),
            Key::ErrorRecoveryLevel => Some(&mut self.error_recovery_level),
            Key::ProtocolLevel => Some(&mut self.protocol_level),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_between_keys_are_checked_at_the_end() {
        assert_eq!(Parameters::default().check(), Ok(()));
        let short = Parameters { max_burst_length: 4096, ..Parameters::default() };
        assert_eq!(short.check(), Err(IntegrityError::FirstBurstTooLong));
        assert_eq!(short.first_burst_bytes(), 4096);
        let recovery =
            Parameters { error_recovery_level: 1, max_outstanding_r2t: 2, ..Parameters::default() };
        assert_eq!(recovery.check(), Err(IntegrityError::TooManyR2ts));
    }

    #[test]
    fn parameters_are_written_as_keys() {
        let wish = Parameters { header_digest: true, initial_r2t: false, ..Parameters::default() };
        let mut text = Vec::new();
        wish.push(&mut text, Key::MaxRecvDataSegmentLength);
        wish.push(&mut text, Key::HeaderDigest);
        wish.push(&mut text, Key::InitialR2t);
        wish.push(&mut text, Key::InitiatorName);
        assert_eq!(text, b"MaxRecvDataSegmentLength=8192\0HeaderDigest=CRC32C,None\0InitialR2T=No\0");
    }
}
