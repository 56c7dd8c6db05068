//! Asking a running controller at its control socket, `<state>/<controller>/control.sock`: one line out
//! (`status`, or `pair` and what is asked of pairs), one line of JSON back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use controller::status::ControllerStatus;
use protocol::interlink::will::PairCommand;
use serde::de::DeserializeOwned;

use crate::admin::control::{PairAnswer, pair_word};

/// An answer at most: what 256 LUNs have to say, with room.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// How long a controller is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a controller did not tell its status.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody listens.
    #[error("it does not run on this machine")]
    NotRunning,
    /// Somebody else's socket.
    #[error("this user may not ask it; try again as the user it runs as")]
    Forbidden,
    /// It runs, but says nothing.
    #[error("it runs but did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// What it says makes no sense.
    #[error("its answer is not understood; is it of another version?")]
    Garbled,
    /// Anything else.
    #[error("its control socket failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NotRunning,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// Asks the controller behind a control socket for its status.
pub(super) fn ask(socket: &Path) -> Result<ControllerStatus, AskError> {
    request(socket, "status")
}

/// Asks it something about the pairs of LUNs.
pub(super) fn ask_pairs(
    socket: &Path,
    command: PairCommand,
    luns: &[u16],
) -> Result<Vec<PairAnswer>, AskError> {
    let numbers: String = luns.iter().map(|number| format!(" {number}")).collect();
    request(socket, &format!("pair {}{numbers}", pair_word(command)))
}

fn request<T: DeserializeOwned>(socket: &Path, request: &str) -> Result<T, AskError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "{request}")?;
    let mut answer = String::new();
    BufReader::new(stream).take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(|_| AskError::Garbled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;

    use super::super::status::tests::healthy;
    use super::*;

    /// A folder of this process alone, gone when it is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("twinlun-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Asks a controller that answers `answer` and leaves the connection open, as a running one does.
    fn ask_one_that_says(name: &str, answer: String) -> Result<ControllerStatus, AskError> {
        let folder = Folder::new(name);
        let socket = folder.0.join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            (request, stream)
        });
        let told = ask(&socket);
        let (request, _open) = server.join().unwrap();
        assert_eq!(request, "status\n");
        told
    }

    #[test]
    fn a_controller_is_asked_one_line_and_answers_one_line() {
        let [alpha, _] = healthy();
        let line = format!("{}\n", serde_json::to_string(&alpha).unwrap());
        assert_eq!(ask_one_that_says("asked", line).unwrap(), alpha);
    }

    #[test]
    fn an_answer_that_is_no_status_is_told_apart_from_silence() {
        let answer = "{\"error\": \"what?\"}\n".to_owned();
        assert!(matches!(ask_one_that_says("garbled", answer), Err(AskError::Garbled)));
    }

    #[test]
    fn a_socket_nobody_listens_at_means_not_running() {
        let folder = Folder::new("left-behind");
        let socket = folder.0.join("control.sock");
        assert!(matches!(ask(&socket), Err(AskError::NotRunning)));
        drop(UnixListener::bind(&socket).unwrap());
        assert!(matches!(ask(&socket), Err(AskError::NotRunning)));
    }
}
