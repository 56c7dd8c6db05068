//! What a person wants of a pair: part of the generation, so that it is durable on both before it takes effect, and
//! the newer one counts when the two meet.

use super::frame::FrameError;

/// How many copies a pair of two is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Wanted {
    /// Both, kept identical.
    #[default]
    Pair,
    /// Both, and they may differ: main's goes on, the other stays as it is.
    Split,
    /// Main's alone.
    Simplex,
}

/// What a person wants of a pair beside what the configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Will {
    /// How many copies.
    pub wanted: Wanted,
    /// 0 or 1: which controller is to be main; none: the one that the configuration prefers.
    pub main: Option<u8>,
}

/// Where it begins in the byte of a generation's members: a generation of which a person wants nothing looks as in the
/// first release.
const SHIFT: u8 = 2;

impl Will {
    /// In the upper six bits of a byte.
    pub(super) const fn bits(self) -> u8 {
        let wanted = match self.wanted {
            Wanted::Pair => 0,
            Wanted::Split => 1,
            Wanted::Simplex => 2,
        };
        let main = match self.main {
            None => 0,
            Some(0) => 1,
            Some(_) => 2,
        };
        (wanted | main << 2) << SHIFT
    }

    /// Reads it.
    pub(super) const fn of_bits(byte: u8) -> Result<Self, FrameError> {
        let bits = byte >> SHIFT;
        let wanted = match bits & 0b11 {
            0 => Wanted::Pair,
            1 => Wanted::Split,
            2 => Wanted::Simplex,
            _ => return Err(FrameError::Content),
        };
        let main = match bits >> 2 {
            0 => None,
            1 => Some(0),
            2 => Some(1),
            _ => return Err(FrameError::Content),
        };
        Ok(Self { wanted, main })
    }
}

/// What a person asks of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PairCommand {
    /// One copy becomes two.
    Create,
    /// The copies go apart: main's goes on, the other stays as it is.
    Split,
    /// They become identical again: main's is copied to the other.
    Resync,
    /// Main and sub change their roles.
    Swap,
    /// Two copies become one: main's.
    Delete,
}

impl PairCommand {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Create, Self::Split, Self::Resync, Self::Swap, Self::Delete];

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Create => 0,
            Self::Split => 1,
            Self::Resync => 2,
            Self::Swap => 3,
            Self::Delete => 4,
        }
    }

    pub(super) fn read(code: u8) -> Result<Self, FrameError> {
        Self::ALL.get(usize::from(code)).copied().ok_or(FrameError::Content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_will_is_read_as_it_was_written_and_all_else_is_refused() {
        let mut known = Vec::new();
        for wanted in [Wanted::Pair, Wanted::Split, Wanted::Simplex] {
            for main in [None, Some(0), Some(1)] {
                let will = Will { wanted, main };
                for members in 0..4 {
                    assert_eq!(Will::of_bits(will.bits() | members), Ok(will));
                }
                known.push(will.bits());
            }
        }
        assert_eq!(Will::default().bits(), 0, "as in the first release");
        let others = (0..=255_u8).filter(|byte| !known.contains(&(byte & !0b11)));
        assert!(others.map(Will::of_bits).all(|read| read == Err(FrameError::Content)));
    }

    #[test]
    fn every_command_is_read_as_it_was_written() {
        for command in PairCommand::ALL {
            assert_eq!(PairCommand::read(command.code()), Ok(command));
        }
        assert_eq!(PairCommand::read(5), Err(FrameError::Content));
    }
}
