//! The harness itself: its mutations differ by seed and only by seed, and a property that does not hold is found.

use super::*;

#[test]
fn the_same_seed_gives_the_same_inputs_and_another_seed_others() {
    let corpus = corpus::headers();
    let inputs = |seed| {
        let mut random = Random::new(seed);
        (0..50).map(|_| mutate::mutated(&corpus, &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
    assert!(inputs(1).iter().any(|input| !corpus.contains(input)));
}

#[test]
fn every_target_has_a_corpus_which_it_reads() {
    for target in TARGETS {
        let corpus = (target.corpus)();
        assert!(corpus.len() >= 2, "{}", target.name);
        for input in corpus {
            assert_eq!(read_one(target, &input, &Uncounted), Ok(()), "{}", target.name);
        }
    }
}

#[test]
fn the_captured_logins_reach_full_feature_phase_and_their_commands_are_answered() {
    let answered = session::answered_by_corpus();
    assert!(answered > 10, "{answered} at most");
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn what_panics_and_what_does_not_hold_is_found_and_can_be_read_again() {
    let corpus = || vec![b"sound".to_vec()];
    let panics: fn(&[u8]) -> Result<(), String> = |input| {
        assert!(input.len() >= 3, "too short");
        Ok(())
    };
    let target = Target { name: "panics", corpus, read: panics, bytes_max: 0 };
    let failure = run(&target, 7, 10_000, deadline(), &Uncounted).unwrap_err();
    assert!(failure.what.contains("too short") && failure.input.len() < 3, "{failure}");
    assert!(failure.to_string().contains("--target panics --input"), "{failure}");
    let differs: fn(&[u8]) -> Result<(), String> =
        |input| if input.starts_with(b"s") { Ok(()) } else { Err("another beginning".to_owned()) };
    let target = Target { name: "differs", corpus, read: differs, bytes_max: 0 };
    let failure = run(&target, 7, 10_000, deadline(), &Uncounted).unwrap_err();
    assert_eq!(failure.what, "another beginning");
}

#[test]
fn what_takes_too_much_memory_is_found() {
    struct Much;
    impl Memory for Much {
        fn begin(&self) -> usize {
            10
        }
        fn peak(&self) -> usize {
            1_000
        }
    }
    let target = Target { name: "much", corpus: || vec![vec![0]], read: |_| Ok(()), bytes_max: 989 };
    assert!(run(&target, 1, 1, deadline(), &Much).unwrap_err().what.contains("990 bytes of memory"));
    let target = Target { bytes_max: 990, ..target };
    assert!(run(&target, 1, 1, deadline(), &Much).is_ok());
}
