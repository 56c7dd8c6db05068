//! Making right bytes wrong: single bits, bytes, numbers, pieces that are lost, doubled, moved, or taken from another
//! input.

use super::INPUT_BYTES_MAX;
use crate::random::Random;

/// Numbers that are likely to be a bound of something.
const NUMBERS: [u64; 16] =
    [0, 1, 2, 3, 4, 7, 8, 15, 16, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u64::MAX];

/// An input of the corpus, mutated one to eight times.
pub(super) fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(corpus).clone();
    for _ in 0..random.skewed(1, 8) {
        mutate(&mut input, corpus, random);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    if input.is_empty() {
        return input.push(random.next() as u8);
    }
    let at = random.below(input.len() as u64) as usize;
    let rest = input.len() - at;
    match random.below(9) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.next() as u8,
        2 => put_number(input, at, random),
        3 => input.truncate(at),
        4 => {
            let length = random.skewed(1, rest as u64) as usize;
            input.drain(at..at + length.min(rest));
        }
        5 => {
            // A piece once more, in its place or elsewhere.
            let length = (random.skewed(1, rest as u64) as usize).min(rest);
            let piece = input[at..at + length].to_vec();
            let to = random.below(input.len() as u64 + 1) as usize;
            input.splice(to..to, piece);
        }
        6 => {
            let other = random.pick(corpus);
            let from = random.below(other.len() as u64 + 1) as usize;
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        7 => {
            let bytes: Vec<u8> = (0..random.skewed(1, 300)).map(|_| random.next() as u8).collect();
            input.splice(at..at, bytes);
        }
        _ => {
            let byte = input[at];
            let count = random.skewed(1, 2000) as usize;
            input.splice(at..at, core::iter::repeat_n(byte, count));
        }
    }
}

/// A number of one to eight bytes is replaced by another, or becomes a little more or less.
fn put_number(input: &mut [u8], at: usize, random: &mut Random) {
    let width = (1usize << random.below(4)).min(input.len() - at);
    let field = &mut input[at..at + width];
    let old = field.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let new = match random.below(3) {
        0 => *random.pick(&NUMBERS),
        1 => old.wrapping_add(random.between(1, 4)),
        _ => old.wrapping_sub(random.between(1, 4)),
    };
    for (byte, shift) in field.iter_mut().rev().zip(0..) {
        *byte = (new >> (8 * shift)) as u8;
    }
}
