//! CRC32C of one run of bytes, by the processor: checksums of superblocks, and the digests of iSCSI, which lie on the
//! way of every command.
//!
//! A few KiB take one instruction for every eight bytes, in three lanes side by side, because the processor begins a
//! `crc32` each cycle but ends it three cycles later; what the lanes have is put together by a multiplication.
//! Processors with AVX-512 do runs of some length with fewer instructions still, and those without `crc32` in their
//! own way: both as crc-fast does it.

/// Bytes of a lane: three of them and 16 bytes more are 4 KiB.
const LANE_BYTES: usize = 1360;

/// Runs from this many bytes on are left to AVX-512, where the processor has it.
const WIDE_BYTES_MIN: usize = 256;

/// The CRC32C of `bytes`, from an initial value of all ones and inverted at the end (RFC 7143 13.1).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let wide = bytes.len() >= WIDE_BYTES_MIN && has!("vpclmulqdq") && has!("avx512vl");
        if !wide && has!("sse4.2") && has!("pclmulqdq") {
            // SAFETY: the processor has just said that it knows the instructions of these features, which is all
            // that the call asks for; the function itself is safe code.
            #[expect(unsafe_code, reason = "a function for one kind of processor")]
            return unsafe { by_instruction(bytes) };
        }
    }
    crc_fast::crc32_iscsi(bytes)
}

/// As [`crc32c`], with the instructions `crc32` and `pclmulqdq`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn by_instruction(bytes: &[u8]) -> u32 {
    use core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
    let (mut crc, mut rest) = (u64::from(u32::MAX), bytes);
    while let Some((first, more)) = rest.split_first_chunk::<LANE_BYTES>()
        && let Some((second, more)) = more.split_first_chunk::<LANE_BYTES>()
        && let Some((third, more)) = more.split_first_chunk::<LANE_BYTES>()
    {
        let (mut second_crc, mut third_crc) = (0, 0);
        for ((first, second), third) in steps(first).zip(steps(second)).zip(steps(third)) {
            for word in 0..STEP_WORDS {
                crc = _mm_crc32_u64(crc, u64::from_le_bytes(first[word]));
                second_crc = _mm_crc32_u64(second_crc, u64::from_le_bytes(second[word]));
                third_crc = _mm_crc32_u64(third_crc, u64::from_le_bytes(third[word]));
            }
        }
        let shifted = multiply(crc, SHIFT_BY_TWO_LANES) ^ multiply(second_crc, SHIFT_BY_LANE);
        crc = third_crc ^ _mm_crc32_u64(0, shifted);
        rest = more;
    }
    let (words, odd) = rest.as_chunks::<8>();
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

/// Words of a lane that are taken without looking whether it ends.
#[cfg(target_arch = "x86_64")]
const STEP_WORDS: usize = 10;

#[cfg(target_arch = "x86_64")]
fn steps(lane: &[u8; LANE_BYTES]) -> impl Iterator<Item = &[[u8; 8]; STEP_WORDS]> {
    const { assert!(LANE_BYTES.is_multiple_of(8 * STEP_WORDS)) };
    lane.as_chunks::<8>().0.as_chunks::<STEP_WORDS>().0.iter()
}

/// The product of two polynomials of 32 bits, bit-reflected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2,pclmulqdq")]
fn multiply(crc: u64, by: u64) -> u64 {
    use core::arch::x86_64::{_mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64};
    let product =
        _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc.cast_signed()), _mm_cvtsi64_si128(by.cast_signed()));
    _mm_cvtsi128_si64(product).cast_unsigned()
}

/// What a CRC is multiplied by to pass over one lane of zeros, and two.
#[cfg(target_arch = "x86_64")]
const SHIFT_BY_LANE: u64 = shift_by(LANE_BYTES);
#[cfg(target_arch = "x86_64")]
const SHIFT_BY_TWO_LANES: u64 = shift_by(2 * LANE_BYTES);

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
            let by_instruction = unsafe { by_instruction(bytes) };
            assert_eq!(by_instruction, expected, "{} bytes, by instruction", bytes.len());
        }
    }

    #[test]
    fn the_check_value_of_the_polynomial_comes_out() {
        assert_eq!(plain(b"123456789"), 0xe306_9283);
        all_ways_agree(b"123456789");
    }

    #[test]
    fn every_way_gives_the_same_around_the_length_of_the_lanes() {
        let bytes: Vec<u8> =
            (0..4 * 3 * LANE_BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for blocks in 0..3 {
            for beside in 0..20 {
                all_ways_agree(&bytes[..blocks * 3 * LANE_BYTES + beside]);
                all_ways_agree(&bytes[beside..blocks * 3 * LANE_BYTES + 20]);
            }
        }
    }

    proptest! {
        #[test]
        fn every_way_gives_the_same(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
            all_ways_agree(&bytes);
        }
    }
}
