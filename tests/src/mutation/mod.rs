//! Parsers under mutation: bytes that were right once, and are not any more, fed to everything that reads what
//! somebody else wrote. The same targets serve the tests (some seconds), the command `mutate` (as long as wanted) and
//! cargo-fuzz (`tests/fuzz`).
//!
//! What must hold of every input: no panic; what was read and is written again is read as the same; no more memory
//! than [`Target::bytes_max`]; no input takes longer than [`PATIENCE`]. The same seed gives the same inputs.

mod corpus;
mod mutate;
mod parsers;
mod session;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::random::Random;

/// Far beyond what any input may take, and far below what a person waits for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of one input at most.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

/// What is under mutation.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Inputs that are right.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Reads an input; an `Err` says which property does not hold.
    pub read: fn(&[u8]) -> Result<(), String>,
    /// Memory that reading one input may take, in bytes.
    pub bytes_max: usize,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "pdu", corpus: corpus::headers, read: parsers::pdu, bytes_max: 64 << 10 },
    Target { name: "framing", corpus: corpus::streams, read: parsers::frame_stream, bytes_max: 1 << 20 },
    Target { name: "segments", corpus: corpus::segments, read: parsers::segments, bytes_max: 256 << 10 },
    Target { name: "text", corpus: corpus::texts, read: parsers::text, bytes_max: 1 << 20 },
    Target { name: "cdb", corpus: corpus::cdbs, read: parsers::cdb, bytes_max: 64 << 10 },
    Target { name: "lists", corpus: corpus::lists, read: parsers::lists, bytes_max: 1 << 20 },
    Target { name: "interlink", corpus: corpus::frames, read: parsers::interlink, bytes_max: 4 << 20 },
    Target { name: "records", corpus: corpus::records, read: parsers::records, bytes_max: 4 << 20 },
    Target { name: "session", corpus: session::corpus, read: session::read, bytes_max: 64 << 20 },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// For cargo-fuzz: reads an input, and panics if a property does not hold.
pub fn check(name: &str, input: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    if let Err(what) = (target.read)(input) {
        panic!("{what}");
    }
}

/// How much memory is in use, and has been at most since it was last asked: none where nobody counts.
pub trait Memory {
    /// Begins anew with what is in use now, and gives it, in bytes.
    fn begin(&self) -> usize;
    /// The most that was in use since, in bytes.
    fn peak(&self) -> usize;
}

/// Nobody counts.
pub struct Uncounted;

impl Memory for Uncounted {
    fn begin(&self) -> usize {
        0
    }

    fn peak(&self) -> usize {
        0
    }
}

/// An input on which a property does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {what}\nseed {seed}, input {number} of {} bytes; again: \
         cargo run -p twinlun-tests --bin mutate -- --target {target} --input {}", input.len(), hex(input))]
pub struct Failure {
    /// The target.
    pub target: &'static str,
    /// What does not hold.
    pub what: String,
    /// The seed.
    pub seed: u64,
    /// Which input of that seed.
    pub number: u64,
    /// The input.
    pub input: Vec<u8>,
}

/// An input in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads one input.
pub fn read_one(target: &Target, input: &[u8], memory: &impl Memory) -> Result<(), String> {
    let begun = Instant::now();
    let base = memory.begin();
    match catch_unwind(AssertUnwindSafe(|| (target.read)(input))) {
        Ok(result) => result?,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            return Err(format!("it panicked: {}", text.unwrap_or_default()));
        }
    }
    let taken = memory.peak().saturating_sub(base);
    if taken > target.bytes_max {
        return Err(format!("it took {taken} bytes of memory, {} are its bound", target.bytes_max));
    }
    if begun.elapsed() > PATIENCE {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    Ok(())
}

/// Reads the corpus as it is, then `inputs` mutations of it, or as many as there is time for.
pub fn run(
    target: &Target,
    seed: u64,
    inputs: u64,
    until: Instant,
    memory: &impl Memory,
) -> Result<u64, Box<Failure>> {
    let corpus = (target.corpus)();
    let failure = |what, number, input: &[u8]| {
        Box::new(Failure { target: target.name, what, seed, number, input: input.to_vec() })
    };
    for input in &corpus {
        read_one(target, input, memory).map_err(|what| failure(what, 0, input))?;
    }
    for number in 1..=inputs {
        if Instant::now() > until {
            return Ok(number - 1);
        }
        let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let input = mutate::mutated(&corpus, &mut random);
        read_one(target, &input, memory).map_err(|what| failure(what, number, &input))?;
    }
    Ok(inputs)
}
