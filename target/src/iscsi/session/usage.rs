//! What a session uses of its bounds, for `status`.

/// What a session uses of its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Commands not answered yet.
    pub tasks: u64,
    /// Task management functions that wait for tasks to end.
    pub functions: u64,
    /// Bytes of data-out gathered or asked for and not yet executed.
    pub solicited_bytes: u64,
    /// Bytes of data-in being read or waiting to be sent.
    pub data_in_bytes: u64,
    /// Aborted tasks whose Data-Out is still dropped.
    pub aborted_writes: u64,
    /// Bytes of output that wait for the host to take them.
    pub output_bytes: u64,
}
