//! What `twinlun status` must say: on one screen, which controller serves, why the other does not, what to do.

use std::time::Duration;

use super::Failure;
use super::pair::Screen;

/// Lines of a screen.
const LINES_MAX: usize = 24;

/// How long a person waits for it: longer than it waits for a controller that hangs.
const WITHIN: Duration = Duration::from_secs(5);

/// What must be on a screen.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    well: bool,
    phrases: &'static [&'static str],
}

/// All is well.
pub const WELL: Expected = Expected { well: true, phrases: &["All is well", "duplex", "serving"] };

/// Neither controller runs.
pub const NOBODY: Expected = Expected { well: false, phrases: &["No controller runs", "twinlun run"] };

/// The sub is away; asked on main's machine.
pub const MAIN_ALONE: Expected = Expected {
    well: false,
    phrases: &["suspended", "alpha serves its hosts alone", "bring beta back", "refilled by itself"],
};

/// Main has ended cleanly; asked on the machine of the one that was the sub.
pub const SUB_IS_MAIN: Expected = Expected {
    well: false,
    phrases: &["suspended", "beta serves its hosts alone", "bring alpha back", "refilled by itself"],
};

/// Main is away; asked on the sub's machine.
pub const SUB_ALONE: Expected = Expected {
    well: false,
    phrases: &["refusing", "beta refuses its hosts", "acknowledged", "wait for alpha"],
};

/// Main is away and the sub was started again: it cannot know what main has acknowledged meanwhile.
pub const SUB_STARTED: Expected = Expected {
    well: false,
    phrases: &["refusing", "beta refuses its hosts", "may be serving its hosts alone", "wait for alpha"],
};

/// The interlink is cut; asked on main's machine.
pub const MAIN_CUT: Expected = Expected {
    well: false,
    phrases: &["suspended", "alpha serves its hosts alone", "check the network between their interlink"],
};

/// The interlink is cut; asked on the sub's machine.
pub const SUB_CUT: Expected = Expected {
    well: false,
    phrases: &["refusing", "they use the path to alpha", "wait for alpha", "check the network between"],
};

/// A controller is stopped; asked on a machine where both run.
pub const HANGS: Expected = Expected { well: false, phrases: &["does not answer", "the two meet again"] };

/// A copy is being refilled.
pub const REFILLING: Expected =
    Expected { well: false, phrases: &["copy", "is being refilled from", "nothing else to do"] };

/// Judges a screen.
pub fn check(screen: &Screen, expected: Expected) -> Result<(), Failure> {
    let fail = |what: String| Err(Failure::Unexplained { what, screen: screen.text.clone() });
    if screen.took > WITHIN {
        return fail(format!("it took {:?}", screen.took));
    }
    if screen.text.lines().count() > LINES_MAX {
        return fail(format!("more than {LINES_MAX} lines"));
    }
    if (screen.code == 0) != expected.well {
        return fail(format!("the exit code is {}", screen.code));
    }
    // However the lines are broken.
    let text = screen.text.split_whitespace().collect::<Vec<_>>().join(" ");
    match expected.phrases.iter().find(|phrase| !text.contains(**phrase)) {
        Some(phrase) => fail(format!("it does not say `{phrase}`")),
        None => Ok(()),
    }
}
