//! In which format sense data goes to hosts. Only what encodes a response needs to know, and only for CHECK CONDITION;
//! so it looks here, without a lock, and nothing on its way has to carry it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// D_SENSE of every LUN of a controller (SPC-4 7.5.8), as the shared state has it here: on both controllers before
/// the MODE SELECT that changed it is answered.
#[derive(Clone, Debug, Default)]
pub struct SenseFormats {
    /// By LUN number, ascending.
    luns: Arc<[(u16, Arc<AtomicBool>)]>,
}

impl SenseFormats {
    /// Of the LUNs of these numbers, each with its D_SENSE.
    #[must_use]
    pub fn new(mut luns: Vec<(u16, Arc<AtomicBool>)>) -> Self {
        luns.sort_unstable_by_key(|(number, _)| *number);
        Self { luns: luns.into() }
    }

    /// Whether sense data of a LUN is in descriptor format; in fixed format if there is no such LUN.
    #[must_use]
    pub fn is_descriptor(&self, number: u16) -> bool {
        let at = self.luns.binary_search_by_key(&number, |(number, _)| *number);
        at.is_ok_and(|at| self.luns.get(at).is_some_and(|(_, set)| set.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lun_is_found_by_its_number_and_none_means_fixed_format() {
        let set = Arc::new(AtomicBool::new(false));
        let formats = SenseFormats::new(vec![(7, set.clone()), (2, Arc::default())]);
        assert!(![0, 2, 7].iter().any(|number| formats.is_descriptor(*number)));
        set.store(true, Ordering::Relaxed);
        assert!(formats.is_descriptor(7));
        assert!(![0, 2, 8].iter().any(|number| formats.is_descriptor(*number)));
        assert!(!SenseFormats::default().is_descriptor(7));
    }
}
