//! Login (RFC 7143 sections 6 and 11.12): what is offered, and what was agreed.

use super::pdu::Digests;

/// What an initiator offers at login.
#[derive(Clone, Debug)]
pub struct Settings {
    /// InitiatorName.
    pub initiator_name: String,
    /// TargetName; without one the session is for discovery.
    pub target_name: Option<String>,
    /// ISID: tells sessions of one initiator name apart.
    pub isid: [u8; 6],
    /// The first CmdSN. Near the end of its range it wraps early in the session.
    pub first_cmd_sn: u32,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// FirstBurstLength, in bytes.
    pub first_burst_bytes: u32,
    /// MaxBurstLength, in bytes.
    pub max_burst_bytes: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// MaxRecvDataSegmentLength of this initiator, in bytes.
    pub receive_segment_bytes: u32,
    /// HeaderDigest and DataDigest: CRC32C or None.
    pub digests: Digests,
}

impl Settings {
    /// What a Linux host offers, for a session of its own.
    #[must_use]
    pub fn linux(initiator_name: &str, target_name: &str, session: u16) -> Self {
        let [high, low] = session.to_be_bytes();
        Self {
            initiator_name: initiator_name.to_owned(),
            target_name: Some(target_name.to_owned()),
            isid: [0x00, 0x02, 0x3d, 0x00, high, low],
            first_cmd_sn: 1,
            initial_r2t: false,
            immediate_data: true,
            first_burst_bytes: 262_144,
            max_burst_bytes: 16_776_192,
            max_outstanding_r2t: 1,
            receive_segment_bytes: 262_144,
            digests: Digests::default(),
        }
    }

    /// The login text (RFC 7143 section 13).
    pub(super) fn text(&self) -> Vec<u8> {
        let yes_no = |yes: bool| if yes { "Yes" } else { "No" }.to_owned();
        let digest = |on: bool| if on { "CRC32C,None" } else { "None" }.to_owned();
        let mut keys = vec![("InitiatorName", self.initiator_name.clone())];
        match &self.target_name {
            None => keys.push(("SessionType", "Discovery".to_owned())),
            Some(name) => keys.extend([
                ("TargetName", name.clone()),
                ("SessionType", "Normal".to_owned()),
                ("InitialR2T", yes_no(self.initial_r2t)),
                ("ImmediateData", yes_no(self.immediate_data)),
                ("MaxBurstLength", self.max_burst_bytes.to_string()),
                ("FirstBurstLength", self.first_burst_bytes.to_string()),
                ("MaxOutstandingR2T", self.max_outstanding_r2t.to_string()),
                ("MaxConnections", "1".to_owned()),
                ("DataPDUInOrder", "Yes".to_owned()),
                ("DataSequenceInOrder", "Yes".to_owned()),
            ]),
        }
        keys.extend([
            ("HeaderDigest", digest(self.digests.header)),
            ("DataDigest", digest(self.digests.data)),
            ("DefaultTime2Wait", "2".to_owned()),
            ("DefaultTime2Retain", "0".to_owned()),
            ("ErrorRecoveryLevel", "0".to_owned()),
            ("MaxRecvDataSegmentLength", self.receive_segment_bytes.to_string()),
        ]);
        keys.into_iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect()
    }
}

/// What holds for a session after its login.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) initial_r2t: bool,
    pub(super) immediate_data: bool,
    pub(super) first_burst: usize,
    pub(super) max_burst: usize,
    /// The target's MaxRecvDataSegmentLength, in bytes.
    pub(super) send_segment: usize,
    pub(super) digests: Digests,
}

impl Agreed {
    /// The defaults of RFC 7143 section 13, before the target said anything.
    pub(super) fn new() -> Self {
        Self {
            initial_r2t: true,
            immediate_data: true,
            first_burst: 65_536,
            max_burst: 262_144,
            send_segment: 8192,
            digests: Digests::default(),
        }
    }

    /// Takes the target's answers. An answer outside what was offered is the key's name as an error.
    pub(super) fn take(&mut self, settings: &Settings, text: &str) -> Result<(), String> {
        for pair in text.split('\0').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| pair.to_owned())?;
            let refused = || pair.to_owned();
            let number = |max: u32| match value.parse::<u32>() {
                Ok(number) if number <= max => Ok(number as usize),
                _ => Err(refused()),
            };
            let yes = || match value {
                "Yes" => Ok(true),
                "No" => Ok(false),
                _ => Err(refused()),
            };
            let digest = |offered: bool| match value {
                "None" => Ok(false),
                "CRC32C" if offered => Ok(true),
                _ => Err(refused()),
            };
            match key {
                "InitialR2T" => self.initial_r2t = yes()?,
                "ImmediateData" => self.immediate_data = yes()?,
                "FirstBurstLength" => self.first_burst = number(settings.first_burst_bytes)?,
                "MaxBurstLength" => self.max_burst = number(settings.max_burst_bytes)?,
                "MaxOutstandingR2T" => drop(number(settings.max_outstanding_r2t)?),
                "MaxRecvDataSegmentLength" => self.send_segment = number(0x00ff_ffff)?,
                "HeaderDigest" => self.digests.header = digest(settings.digests.header)?,
                "DataDigest" => self.digests.data = digest(settings.digests.data)?,
                _ if value == "NotUnderstood" || value == "Reject" => return Err(refused()),
                _ => {}
            }
        }
        if (settings.initial_r2t && !self.initial_r2t) || (!settings.immediate_data && self.immediate_data) {
            return Err("InitialR2T, ImmediateData".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_outside_the_offer_are_named() {
        let settings = Settings::linux("iqn.1993-08.org.debian:a", "iqn.2026-11.com.example:demo", 1);
        let rows = [
            ("MaxBurstLength=65536\0FirstBurstLength=65536\0", None),
            ("MaxBurstLength=16777215\0", Some("MaxBurstLength=16777215")),
            ("HeaderDigest=CRC32C\0", Some("HeaderDigest=CRC32C")),
            ("ImmediateData=Maybe\0", Some("ImmediateData=Maybe")),
            ("InitialR2T=NotUnderstood\0", Some("InitialR2T=NotUnderstood")),
        ];
        for (text, refused) in rows {
            assert_eq!(Agreed::new().take(&settings, text).err().as_deref(), refused, "{text}");
        }
    }
}
