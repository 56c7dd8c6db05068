//! What foreign content of a device or file is, by the signatures that others leave: only to name it to people.
//! Whether content is foreign does not hang on this list.

/// Bytes from the start that signatures lie in.
pub const HEAD_BYTES: usize = 68 << 10;

/// Name, offset from the start, bytes there.
const SIGNATURES: &[(&str, usize, &[u8])] = &[
    ("an XFS file system", 0, b"XFSB"),
    ("an encrypted volume (LUKS)", 0, b"LUKS\xba\xbe"),
    ("a member of an md array", 0, b"\xfc\x4e\x2b\xa9"),
    ("a member of an md array", 4096, b"\xfc\x4e\x2b\xa9"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("an LVM physical volume", 512, b"LABELONE"),
    ("an LVM physical volume", 1024, b"LABELONE"),
    ("an LVM physical volume", 1536, b"LABELONE"),
    ("a bcache device", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("an ext2, ext3 or ext4 file system", 1080, b"\x53\xef"),
    ("a GFS2 file system", 65536, b"\x01\x16\x19\x70"),
    ("an OCFS2 file system", 8192, b"OCFSV2"),
    ("a Btrfs file system", 65600, b"_BHRfS_M"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a partition table (GPT)", 512, b"EFI PART"),
    ("a partition table (GPT)", 4096, b"EFI PART"),
    // The boot signature stands on file systems, too: last.
    ("a partition table or boot sector", 510, b"\x55\xaa"),
];

/// The name of what begins with `head`, if it is known: the first [`HEAD_BYTES`], or less where there is no more.
#[must_use]
pub fn name(head: &[u8]) -> Option<&'static str> {
    let there = |(_, offset, bytes): &&(&str, usize, &[u8])| {
        head.get(*offset..).is_some_and(|rest| rest.starts_with(bytes))
    };
    SIGNATURES.iter().find(there).map(|(name, ..)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_lies_in_the_head_and_is_found_there_by_its_name() {
        for (expected, offset, bytes) in SIGNATURES {
            let mut head = vec![0; HEAD_BYTES];
            assert_eq!(name(&head), None);
            head[*offset..offset + bytes.len()].copy_from_slice(bytes);
            assert_eq!(name(&head), Some(*expected));
            assert_eq!(name(&head[..offset + bytes.len() - 1]), None, "{expected} cut short");
        }
    }

    #[test]
    fn a_file_system_with_a_boot_sector_is_called_a_file_system() {
        let mut head = vec![0; HEAD_BYTES];
        head[3..11].copy_from_slice(b"NTFS    ");
        head[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(name(&head), Some("an NTFS file system"));
    }
}
