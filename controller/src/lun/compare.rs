//! What is made of blocks that were read: comparisons, and the result of an ORWRITE. Pure.

use bytes::{Bytes, BytesMut};
use protocol::block::BLOCK_BYTES;

/// Compares two buffers in pieces; the byte offset of the first difference. What one has more than the other is
/// not looked at.
pub(super) fn first_difference(left: &[Bytes], right: &[Bytes]) -> Option<u64> {
    let mut offset = 0;
    let (mut left, mut right) = (Pieces::new(left), Pieces::new(right));
    loop {
        let bytes = left.ahead().len().min(right.ahead().len());
        if bytes == 0 {
            return None;
        }
        let (a, b) = (left.take(bytes), right.take(bytes));
        if a != b {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(0);
            return Some(offset + at as u64);
        }
        offset += bytes as u64;
    }
}

/// The offset of the first byte of `data` that VERIFY does not expect there: `expected` is nothing, one block that
/// every block must equal, or as long as the data.
pub(super) fn first_unexpected(expected: &[Bytes], data: &[Bytes]) -> Option<u64> {
    let length = |pieces: &[Bytes]| pieces.iter().map(Bytes::len).sum::<usize>();
    let block = BLOCK_BYTES as usize;
    let bytes = length(data);
    if length(expected) != block || bytes == block {
        return first_difference(expected, data);
    }
    let expected: Vec<Bytes> =
        core::iter::repeat_n(expected, bytes / block).flat_map(|pieces| pieces.iter().cloned()).collect();
    first_difference(&expected, data)
}

/// What is there or is to be added, bit by bit. Both are equally long.
pub(super) fn ored(there: &[Bytes], added: &[Bytes]) -> Bytes {
    let mut result = BytesMut::with_capacity(there.iter().map(Bytes::len).sum());
    there.iter().for_each(|piece| result.extend_from_slice(piece));
    let mut at = 0;
    for piece in added {
        if let Some(place) = result.get_mut(at..at + piece.len()) {
            place.iter_mut().zip(piece).for_each(|(bits, more)| *bits |= more);
        }
        at += piece.len();
    }
    result.freeze()
}

/// Where a walk through a buffer in pieces is.
struct Pieces<'a> {
    ahead: &'a [u8],
    rest: &'a [Bytes],
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [Bytes]) -> Self {
        Self { ahead: &[], rest: pieces }
    }

    /// What lies ahead in one run; empty at the end only.
    fn ahead(&mut self) -> &'a [u8] {
        while let (true, Some((first, rest))) = (self.ahead.is_empty(), self.rest.split_first()) {
            (self.ahead, self.rest) = (first, rest);
        }
        self.ahead
    }

    /// Takes at most `bytes` of what lies ahead.
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, ahead) = self.ahead.split_at(bytes.min(self.ahead.len()));
        self.ahead = ahead;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(bytes: &[u8], cuts: &[usize]) -> Vec<Bytes> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
    }

    proptest! {
        #[test]
        fn however_they_are_cut_the_first_difference_is_that_of_the_whole(
            left in prop::collection::vec(0_u8..3, 0..64),
            right in prop::collection::vec(0_u8..3, 64),
            cuts in prop::collection::vec(any::<usize>(), 0..6),
            others in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let right = &right[..left.len()];
            let wanted = left.iter().zip(right).position(|(a, b)| a != b).map(|at| at as u64);
            prop_assert_eq!(first_difference(&cut(&left, &cuts), &cut(right, &others)), wanted);
            let wanted: Vec<u8> = left.iter().zip(right).map(|(a, b)| a | b).collect();
            prop_assert_eq!(&ored(&cut(&left, &cuts), &cut(right, &others))[..], &wanted[..]);
        }

        #[test]
        fn one_block_is_expected_in_the_place_of_each(
            blocks in 1_usize..5,
            wrong in any::<prop::sample::Index>(),
            cuts in prop::collection::vec(any::<usize>(), 0..6)
        ) {
            let block: Vec<u8> = (0..512).map(|at| at as u8).collect();
            let mut data = block.repeat(blocks);
            let expected = cut(&block, &cuts);
            prop_assert_eq!(first_unexpected(&expected, &cut(&data, &cuts)), None);
            let wrong = wrong.index(data.len());
            data[wrong] ^= 0x10;
            prop_assert_eq!(first_unexpected(&expected, &cut(&data, &cuts)), Some(wrong as u64));
            prop_assert_eq!(first_unexpected(&[], &cut(&data, &cuts)), None);
        }
    }
}
