//! What the hosts of a LUN may believe of its write cache: as long as it is off for certain, what is answered GOOD is
//! durable.

/// Whether the write cache of a LUN is off, and stays off through everything that may happen.
#[derive(Clone, Debug)]
pub struct Caching {
    off: bool,
    /// How often somebody has asked that it be on.
    asked_on: u64,
    /// Those of them whose answer nobody has heard.
    on_under_way: u64,
}

/// The moment a command began, as far as the write cache matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    off: bool,
    asked_on: u64,
}

impl Caching {
    /// The write cache of a LUN that is configured so.
    #[must_use]
    pub const fn new(write_cache: bool) -> Self {
        Self { off: !write_cache, asked_on: 0, on_under_way: 0 }
    }

    /// A command begins.
    #[must_use]
    pub const fn moment(&self) -> Moment {
        Moment { off: self.off, asked_on: self.asked_on }
    }

    /// A MODE SELECT with WCE set begins, saved or not.
    pub const fn ask_on(&mut self) {
        self.off = false;
        self.asked_on += 1;
        self.on_under_way += 1;
    }

    /// It was answered, whatever the answer.
    pub const fn answered_on(&mut self) {
        self.on_under_way -= 1;
    }

    /// A MODE SELECT with WCE cleared and SP set was answered GOOD.
    pub const fn saved_off(&mut self, begun: Moment) {
        self.off |= self.on_under_way == 0 && self.asked_on == begun.asked_on;
    }

    /// Whether it was off from when a command began until now.
    #[must_use]
    pub const fn off_since(&self, begun: Moment) -> bool {
        begun.off && self.off && self.asked_on == begun.asked_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_only_after_an_answer_that_nobody_contradicts() {
        let mut caching = Caching::new(true);
        let begun = caching.moment();
        assert!(!caching.off_since(begun));
        caching.saved_off(begun);
        assert!(!caching.off_since(begun), "it began before");
        let begun = caching.moment();
        assert!(caching.off_since(begun));
        caching.ask_on();
        assert!(!caching.off_since(begun));
        caching.saved_off(caching.moment());
        assert!(!caching.off_since(caching.moment()), "the other may come later");
        caching.answered_on();
        caching.saved_off(begun);
        assert!(!caching.off_since(caching.moment()), "the other may have come later");
        let begun = caching.moment();
        caching.saved_off(begun);
        assert!(!caching.off_since(begun), "it was on in between");
        assert!(caching.off_since(caching.moment()));
        let off = Caching::new(false);
        assert!(off.off_since(off.moment()));
    }
}
