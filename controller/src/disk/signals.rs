//! The signal by which the system ends a process whose file has met RLIMIT_FSIZE.

/// From now on a write beyond a file size limit is an error (EFBIG) like any other, for this process and what it
/// starts. Otherwise SIGXFSZ would end it, with everything else it serves.
#[allow(unsafe_code, reason = "no safe wrapper among the dependencies sets a signal to be ignored")]
pub fn outlive_file_size_limits() {
    // SAFETY: SIG_IGN runs no code of ours, and both arguments are the system's own constants.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        tracing::warn!("a file size limit would end this process: {}", std::io::Error::last_os_error());
    }
}
