//! What to do next when a controller does not start, each cause its own.

use std::io;

use controller::volume::lock::LockError;

use super::StartError;

/// The next step, as the end of a sentence.
#[must_use]
pub fn next_step(error: &StartError) -> String {
    match error {
        StartError::StateFolder { source, .. } => match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "something that is no folder lies there: move it away, or name another `state` in [appliance]"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that file system",
            io::ErrorKind::ReadOnlyFilesystem => "look why that file system cannot be written to",
            _ => "look whether its disk is mounted and whether this user may write there",
        },
        StartError::Lock(LockError::Held { .. }) => {
            "`twinlun status` shows how that one is; end it first if this one shall run in its place"
        }
        StartError::Lock(LockError::Strange { .. }) => {
            "whoever could put it there may have changed more in that folder"
        }
        StartError::Lock(LockError::Io { .. }) => "look whether its disk is mounted and has room",
        StartError::Volume { .. } => {
            "look whether its disk is mounted and whether this user may read and write it; `twinlun check` says what \
             lies there"
        }
        StartError::SharedVolume { .. } => "give each copy of each LUN a device of its own",
        StartError::Listen { source, .. } => match source.kind() {
            io::ErrorKind::AddrInUse => {
                "something else listens there, perhaps this appliance (`twinlun status`) or another iSCSI target; `ss \
                 -ltnp` names it"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address (`ip address` shows which it has): correct it in \
                 appliance.toml, or start the controller of this machine with --controller"
            }
            io::ErrorKind::PermissionDenied => {
                "a port below 1024 needs root or CAP_NET_BIND_SERVICE; iSCSI's own is 3260"
            }
            _ => "correct the address in appliance.toml",
        },
        StartError::Secret(_) => {
            "once these are mended, start it again; `twinlun check` looks at them without starting"
        }
        StartError::Certificates(_) | StartError::InterlinkSecret(_) => {
            "the other controller is not touched by this; then start this one again"
        }
        StartError::Threads(_) => "look at the limits of threads and memory of this user and machine (`ulimit -u`)",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_way_to_fail_to_start_has_a_next_step_of_its_own() {
        let path = std::path::PathBuf::from("/state");
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let listen =
            |kind| StartError::Listen { address: "192.0.2.1:3260".to_owned(), source: io::Error::from(kind) };
        let folder = |kind| StartError::StateFolder { path: path.clone(), source: io::Error::from(kind) };
        let errors = [
            folder(io::ErrorKind::NotADirectory),
            folder(io::ErrorKind::PermissionDenied),
            folder(io::ErrorKind::ReadOnlyFilesystem),
            folder(io::ErrorKind::StorageFull),
            LockError::Held { path: path.clone(), process: "7".to_owned() }.into(),
            LockError::Strange { path: path.clone(), what: "a symbolic link" }.into(),
            StartError::Volume { path: path.clone(), source: io(io::ErrorKind::PermissionDenied) },
            StartError::SharedVolume { what: String::new() },
            listen(io::ErrorKind::AddrInUse),
            listen(io::ErrorKind::AddrNotAvailable),
            listen(io::ErrorKind::PermissionDenied),
            crate::runtime::access::SecretErrors(Vec::new()).into(),
            StartError::Threads(io(io::ErrorKind::WouldBlock)),
        ];
        let steps: BTreeSet<String> = errors.iter().map(next_step).collect();
        assert_eq!(steps.len(), errors.len(), "{steps:#?}");
    }
}
