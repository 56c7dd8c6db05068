//! LUN numbers: the ones that hosts and the interlink use, and the places in the plan that they stand for.

use crate::command::LunIndex;

/// LUN numbers with their places, ascending.
pub(super) struct LunNumbers(Vec<(u16, LunIndex)>);

impl LunNumbers {
    /// The numbers of LUNs in the plan's order.
    pub(super) fn new(numbers: impl Iterator<Item = u16>) -> Self {
        let mut numbers: Vec<(u16, LunIndex)> =
            numbers.zip(0..).map(|(number, index)| (number, LunIndex(index))).collect();
        numbers.sort_unstable();
        Self(numbers)
    }

    /// The LUN of a number, if there is one.
    pub(super) fn find(&self, number: u64) -> Option<LunIndex> {
        let number = u16::try_from(number).ok()?;
        // LUNs are mostly numbered from 0 without gaps: then the number is the place, however many there are.
        if let Some((found, index)) = self.0.get(usize::from(number))
            && *found == number
        {
            return Some(*index);
        }
        let at = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.0.get(at).map(|(_, index)| *index)
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, LunIndex)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_its_place_with_gaps_and_without() {
        for numbers in [vec![0, 1, 2], vec![5, 0, 300, 1], vec![7]] {
            let all = LunNumbers::new(numbers.iter().copied());
            for (number, index) in numbers.iter().zip(0..) {
                assert_eq!(all.find(u64::from(*number)), Some(LunIndex(index)), "{numbers:?}");
            }
            for missing in [3, 301, 65_535, 65_536, u64::MAX] {
                assert_eq!(all.find(missing), None, "{numbers:?}");
            }
            assert!(all.iter().is_sorted_by_key(|(number, _)| number));
        }
    }
}
