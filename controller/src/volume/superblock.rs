//! The superblock: who a volume belongs to. It lies in the reserved tail, the last MiB of the file or device.

/// What the superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The appliance, random, made once by both controllers together.
    pub appliance: u128,
    /// The LUN's volume id, the same on both controllers, never derived from a name or number.
    pub volume: u128,
    /// Capacity in logical blocks; READ CAPACITY comes from here.
    pub blocks: u64,
}

/// What was found where a volume should be, when the controller started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumeFound {
    /// Nothing there.
    Missing,
    /// A file or device without a superblock and without any content.
    Blank,
    /// A volume of ours, open and ready.
    Open(Superblock),
    /// Content that is not ours, or a superblock that does not hold together: never touched.
    Foreign,
}
