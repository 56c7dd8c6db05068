//! The target `cut` of tests/src/mutation.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| twinlun_tests::mutation::check("framing", input));
