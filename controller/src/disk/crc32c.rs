//! CRC32C of one run of bytes, by the processor: checksums of superblocks, and the digests of iSCSI, which lie on the
//! way of every command.
//!
//! It takes one instruction for every eight bytes, and next to nothing beside them: which way a processor goes is
//! found out once, a header and a block, whose lengths are known, have no loop, and one call does both. Blocks of 4 KiB
//! are done in three lanes side by side, because the processor begins a `crc32` each cycle but ends it three cycles
//! later; what the lanes have is put together once for each block, by a multiplication. Folding by multiplications of
//! 256 bits would take as many: two products and two sums for 32 bytes. Processors with AVX-512 do runs of some length
//! with fewer instructions still, and those without `crc32` in their own way: both as crc-fast does it.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
#[cfg(target_arch = "x86_64")]
use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes that are done in three lanes.
const BLOCK_BYTES: usize = 4096;

/// Words of eight bytes of the first two lanes; the third has one less.
const LANE_WORDS: usize = 171;

/// Runs from this many bytes on are left to AVX-512, where the processor has it.
#[cfg(target_arch = "x86_64")]
const WIDE_BYTES_MIN: usize = 256;

/// The CRC32C of `bytes`, from an initial value of all ones and inverted at the end (RFC 7143 13.1).
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_of_both(&[], bytes).1
}

/// As [`crc32c`], for what is short and always as long: a header.
#[inline]
#[must_use]
pub fn crc32c_of<const BYTES: usize>(bytes: &[u8; BYTES]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if WAY.load(Ordering::Relaxed) >= WIDE {
        // SAFETY: `WAY` says so only of a processor with the instructions of these features, which is all that the
        // call asks for; the function itself is safe code.
        #[expect(unsafe_code, reason = "a function for one kind of processor")]
        return unsafe { in_line(bytes) };
    }
    otherwise(bytes)
}

/// Those of a header and of the data behind it, each as [`crc32c`], by one call.
#[inline]
#[must_use]
pub fn crc32c_of_both<const BYTES: usize>(header: &[u8; BYTES], data: &[u8]) -> (u32, u32) {
    #[cfg(target_arch = "x86_64")]
    {
        let way = WAY.load(Ordering::Relaxed);
        if way == BY_INSTRUCTION || (way == WIDE && data.len() < WIDE_BYTES_MIN) {
            // SAFETY: as in `crc32c_of`.
            #[expect(unsafe_code, reason = "a function for one kind of processor")]
            return unsafe { by_instruction(header, data) };
        }
    }
    both_otherwise(header, data)
}

/// What `crc32c_of` does where the processor is not known yet or has no such instruction. Not inlined: the short
/// way would set aside registers for it.
#[cold]
#[inline(never)]
fn otherwise(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if WAY.load(Ordering::Relaxed) == UNKNOWN {
        find_out();
    }
    crc_fast::crc32_iscsi(bytes)
}

/// What `crc32c_of_both` does where the processor has something better for the data, or is not known yet.
#[inline(never)]
fn both_otherwise<const BYTES: usize>(header: &[u8; BYTES], data: &[u8]) -> (u32, u32) {
    (crc32c_of(header), crc_fast::crc32_iscsi(data))
}

/// The way of this processor: not found out yet, without the instructions `crc32` and `pclmulqdq`, with them and with
/// AVX-512 for long runs, and with them alone. Those with them come last.
#[cfg(target_arch = "x86_64")]
static WAY: AtomicU8 = AtomicU8::new(UNKNOWN);
#[cfg(target_arch = "x86_64")]
const UNKNOWN: u8 = 0;
#[cfg(target_arch = "x86_64")]
const OTHERWISE: u8 = 1;
#[cfg(target_arch = "x86_64")]
const WIDE: u8 = 2;
#[cfg(target_arch = "x86_64")]
const BY_INSTRUCTION: u8 = 3;

#[cfg(target_arch = "x86_64")]
#[cold]
fn find_out() {
    use std::arch::is_x86_feature_detected as has;
    let found = match has!("sse4.2") && has!("pclmulqdq") {
        false => OTHERWISE,
        true if has!("vpclmulqdq") && has!("avx512vl") => WIDE,
        true => BY_INSTRUCTION,
    };
    WAY.store(found, Ordering::Relaxed);
}

/// As [`crc32c_of_both`], with the instructions `crc32` and `pclmulqdq`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn by_instruction<const BYTES: usize>(header: &[u8; BYTES], data: &[u8]) -> (u32, u32) {
    // What a command of a few KiB has as a rule.
    if let Ok(block) = data.try_into() {
        let (of_header, crc) = of_block(header, START, block);
        return (of_header, !crc);
    }
    (one_by_one(START, header), of_any(data))
}

/// What every CRC begins with.
#[cfg(target_arch = "x86_64")]
const START: u64 = u32::MAX as u64;

/// The CRC of a run that is not one block.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn of_any(bytes: &[u8]) -> u32 {
    let (mut crc, mut rest) = (START, bytes);
    while let Some((block, more)) = rest.split_first_chunk::<BLOCK_BYTES>() {
        crc = u64::from(of_block(&[], crc, block).1);
        rest = more;
    }
    one_by_one(crc, rest)
}

/// As [`crc32c`], of so few bytes that no loop is worth it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn in_line<const BYTES: usize>(bytes: &[u8; BYTES]) -> u32 {
    one_by_one(START, bytes)
}

/// Goes on from `crc` with `bytes`, and inverts the end.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2")]
fn one_by_one(mut crc: u64, bytes: &[u8]) -> u32 {
    let (words, odd) = bytes.as_chunks::<8>();
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    // The upper half is zero: the instruction sees to it.
    let mut crc = crc as u32;
    for byte in odd {
        crc = _mm_crc32_u8(crc, *byte);
    }
    !crc
}

/// Goes on from `crc` with a block, in three lanes, and does its header on the way. The last word of the third lane
/// waits for what the others have: all of it goes through one instruction.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn of_block<const BYTES: usize>(header: &[u8; BYTES], mut crc: u64, block: &[u8; BLOCK_BYTES]) -> (u32, u32) {
    /// Words of the first two lanes that are done before: with them all three end side by side.
    const BEFORE: usize = 2;
    const { assert!(3 * LANE_WORDS - 1 == BLOCK_BYTES / 8) };
    let words = block.as_chunks::<8>().0;
    let word = |at: usize| u64::from_le_bytes(words[at]);
    let (mut second, mut third) = (0, 0);
    for at in 0..BEFORE {
        crc = _mm_crc32_u64(crc, word(at));
        second = _mm_crc32_u64(second, word(LANE_WORDS + at));
    }
    macro_rules! run {
        ($words:expr) => {
            for at in $words {
                crc = _mm_crc32_u64(crc, word(BEFORE + at));
                second = _mm_crc32_u64(second, word(LANE_WORDS + BEFORE + at));
                third = _mm_crc32_u64(third, word(2 * LANE_WORDS + at));
            }
        };
    }
    // One run of instructions: a loop of more words would stay a loop.
    run!(0..34);
    run!(34..68);
    run!(68..102);
    run!(102..136);
    run!(136..LANE_WORDS - BEFORE);
    let shifted = passed_over(crc, SHIFT_BY_TWO_LANES, second, SHIFT_BY_LANE);
    let crc = _mm_crc32_u64(third, shifted ^ word(3 * LANE_WORDS - 2));
    (one_by_one(START, header), crc as u32)
}

/// The sum of what the first two lanes have, each multiplied by what lets it pass over the lanes behind it.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2,pclmulqdq")]
fn passed_over(first: u64, by: u64, second: u64, second_by: u64) -> u64 {
    use core::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_xor_si128,
    };
    // By the upper half of a constant, which then lies ready in memory.
    let multiply = |crc: u64, by: u64| {
        let by = _mm_set_epi64x(by.cast_signed(), by.cast_signed());
        _mm_clmulepi64_si128::<0x10>(_mm_cvtsi64_si128(crc.cast_signed()), by)
    };
    _mm_cvtsi128_si64(_mm_xor_si128(multiply(first, by), multiply(second, second_by))).cast_unsigned()
}

/// What a CRC is multiplied by to pass over the third lane, and the second and third.
#[cfg(target_arch = "x86_64")]
const SHIFT_BY_LANE: u64 = shift_by(8 * (LANE_WORDS - 1));
#[cfg(target_arch = "x86_64")]
const SHIFT_BY_TWO_LANES: u64 = shift_by(8 * (2 * LANE_WORDS - 1));

/// x**(8 * `bytes` - 33) modulo the polynomial, bit-reflected. The product with it is one bit short, because both
/// factors are reflected, and taking its CRC multiplies it by x**32.
#[cfg(target_arch = "x86_64")]
const fn shift_by(bytes: usize) -> u64 {
    /// x**32 modulo the polynomial 11EDC6F41h, bit-reflected.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut power: u32 = 1 << 31;
    let mut left = 8 * bytes - 33;
    while left > 0 {
        power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
        left -= 1;
    }
    power as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, as the definition has it.
    fn plain(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            }
        }
        !crc
    }

    fn all_ways_agree(bytes: &[u8]) {
        let expected = plain(bytes);
        assert_eq!(crc32c(bytes), expected, "{} bytes", bytes.len());
        assert_eq!(crc_fast::crc32_iscsi(bytes), expected, "{} bytes, crc-fast", bytes.len());
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("sse4.2") && std::arch::is_x86_feature_detected!("pclmulqdq") {
            // SAFETY: asked for just now.
            #[expect(unsafe_code, reason = "a function for one kind of processor")]
            let by_instruction = unsafe { by_instruction(&[], bytes).1 };
            assert_eq!(by_instruction, expected, "{} bytes, by instruction", bytes.len());
        }
    }

    #[test]
    fn the_check_value_of_the_polynomial_comes_out() {
        assert_eq!(plain(b"123456789"), 0xe306_9283);
        all_ways_agree(b"123456789");
    }

    #[test]
    fn every_way_gives_the_same_around_the_length_of_a_block() {
        let bytes: Vec<u8> =
            (0..4 * BLOCK_BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for blocks in 0..3 {
            for beside in 0..20 {
                all_ways_agree(&bytes[..blocks * BLOCK_BYTES + beside]);
                all_ways_agree(&bytes[beside..blocks * BLOCK_BYTES + 20]);
            }
        }
    }

    #[test]
    fn every_bit_of_a_block_counts() {
        for bit in 0..8 * BLOCK_BYTES {
            let mut block = [0; BLOCK_BYTES];
            block[bit / 8] = 1 << (bit % 8);
            assert_eq!(crc32c(&block), crc_fast::crc32_iscsi(&block), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn every_way_gives_the_same(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
            all_ways_agree(&bytes);
        }

        #[test]
        fn a_header_has_the_digest_of_its_bytes(header: [u8; 48], odd: [u8; 13]) {
            prop_assert_eq!(crc32c_of(&header), plain(&header));
            prop_assert_eq!(crc32c_of(&odd), plain(&odd));
        }

        #[test]
        fn a_header_and_its_data_have_each_their_own(
            header: [u8; 48], data in prop::collection::vec(any::<u8>(), 0..9000), block in prop::bool::ANY,
        ) {
            let mut data = data;
            if block {
                data.resize(BLOCK_BYTES, 0x5a);
            }
            prop_assert_eq!(crc32c_of_both(&header, &data), (plain(&header), plain(&data)));
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("sse4.2") && std::arch::is_x86_feature_detected!("pclmulqdq") {
                // SAFETY: asked for just now.
                #[expect(unsafe_code, reason = "a function for one kind of processor")]
                let both = unsafe { by_instruction(&header, &data) };
                prop_assert_eq!(both, (plain(&header), plain(&data)));
            }
        }
    }
}
