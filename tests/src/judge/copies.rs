//! Identical copies: every byte of the LUN is the same on both controllers.

use std::io::{self, Read};

/// Bytes compared at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The offset of the first byte, of the first `bytes`, in which the two differ.
pub fn first_difference(mut a: impl Read, mut b: impl Read, bytes: u64) -> io::Result<Option<u64>> {
    let mut of_a = vec![0; CHUNK_BYTES];
    let mut of_b = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = CHUNK_BYTES.min(usize::try_from(bytes - at).unwrap_or(CHUNK_BYTES));
        a.read_exact(&mut of_a[..length])?;
        b.read_exact(&mut of_b[..length])?;
        // Whole chunks at once: a byte at a time takes seconds per GiB without optimization.
        if of_a[..length] != of_b[..length]
            && let Some(within) = (0..length).find(|byte| of_a[*byte] != of_b[*byte])
        {
            return Ok(Some(at + within as u64));
        }
        at += length as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_byte_is_found_wherever_it_is() {
        let a = vec![7; 3 << 20];
        for at in [0, 1 << 20, (3 << 20) - 1] {
            let mut b = a.clone();
            b[at] = 8;
            assert_eq!(first_difference(&a[..], &b[..], 3 << 20).unwrap(), Some(at as u64));
            assert_eq!(first_difference(&a[..], &b[..], at as u64).unwrap(), None);
        }
    }

    #[test]
    fn a_copy_that_is_too_short_is_an_error() {
        assert!(first_difference(&[1, 2][..], &[1][..], 2).is_err());
    }
}
