//! iSCSI (RFC 7143): the PDUs, one file each in the order of section 11, the text keys of section 13, digests.
