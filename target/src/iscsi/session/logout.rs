//! Logout (RFC 7143 11.14, 11.15).

use protocol::iscsi::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResult};

use super::sender::Sender;

/// What a request comes to on the connection with this CID. Only [`LogoutResult::Closed`] ends the session.
#[must_use]
pub fn judge(request: &LogoutRequest, cid: u16) -> LogoutResult {
    match request.reason {
        LogoutReason::CloseSession => LogoutResult::Closed,
        LogoutReason::CloseConnection if request.cid == cid => LogoutResult::Closed,
        LogoutReason::CloseConnection => LogoutResult::CidNotFound,
        LogoutReason::RemoveForRecovery => LogoutResult::RecoveryNotSupported,
    }
}

/// Answers a request.
pub fn respond(sender: &mut Sender<'_>, request: &LogoutRequest, result: LogoutResult) {
    // Both are at most 3600 s by the rules of their keys (13.15, 13.16).
    let seconds = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let agreed = &sender.parameters.agreed;
    let (time_2_wait, time_2_retain) =
        (seconds(agreed.default_time_2_wait), seconds(agreed.default_time_2_retain));
    let header = LogoutResponse {
        response: result,
        initiator_task_tag: request.initiator_task_tag,
        stat_sn: sender.take_stat_sn(),
        exp_cmd_sn: sender.expected(),
        max_cmd_sn: sender.maximum(),
        time_2_wait,
        time_2_retain,
    };
    sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
}
