//! Random ids: of the appliance, of volumes, of generations and of marks.

/// Where they come from: one seed, stirred (SplitMix64 on both halves), so that a run is what its seed makes of it.
#[derive(Debug)]
pub(super) struct Ids(u128);

impl Ids {
    pub(super) const fn new(seed: u128) -> Self {
        Self(seed)
    }

    /// A new one.
    pub(super) fn make(&mut self) -> u128 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let stir = |mut word: u64| {
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        u128::from(stir(high ^ low.rotate_left(32))) << 64 | u128::from(stir(low))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_of_one_seed_and_of_neighbouring_seeds_differ() {
        let made: BTreeSet<u128> = (0..50)
            .flat_map(|seed| {
                core::iter::repeat_with({
                    let mut ids = Ids::new(seed);
                    move || ids.make()
                })
                .take(50)
            })
            .collect();
        assert_eq!(made.len(), 2_500);
        assert_eq!(Ids::new(7).make(), Ids::new(7).make());
    }
}
