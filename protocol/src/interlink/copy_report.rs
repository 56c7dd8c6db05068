//! What each controller knows of a LUN's copies when the two meet, and the generation they agree on.

use bytes::{BufMut, BytesMut};

use super::frame::{FrameError, GenerationTag};
use super::hello::LUNS_MAX;
use super::will::Will;
use super::wire::{Reader, put_list, put_string};

/// Who may complete writes of a group, and whose copies count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Generation {
    /// Counts up; zero before the first.
    pub number: u64,
    /// Random.
    pub id: u128,
    /// The id of the one before.
    pub parent: u128,
    /// 0 or 1: which controller is main.
    pub main: u8,
    /// Bit 0: the first controller's copy is whole; bit 1: the second's.
    pub members: u8,
    /// What a person wants of the pair. Version 2.
    pub will: Will,
}

impl Generation {
    /// What messages carry of it.
    #[must_use]
    pub const fn tag(&self) -> GenerationTag {
        GenerationTag { number: self.number, id: self.id as u64 }
    }

    /// Whether the copy of controller `side` (0 or 1) is whole.
    #[must_use]
    pub const fn has_member(&self, side: u8) -> bool {
        self.members & (1 << side) != 0
    }

    /// Writes it.
    pub fn put(&self, body: &mut BytesMut) {
        body.put_u64(self.number);
        body.put_u128(self.id);
        body.put_u128(self.parent);
        body.put_u8(self.main);
        body.put_u8(self.members | self.will.bits());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let (number, id, parent) = (reader.u64()?, reader.u128()?, reader.u128()?);
        let (main, copies) = (reader.u8()?, reader.u8()?);
        if main > 1 {
            return Err(FrameError::Content);
        }
        Ok(Self { number, id, parent, main, members: copies & 0b11, will: Will::of_bits(copies)? })
    }
}

/// The beginning of a time of service: when two controllers, or one alone, began to serve a LUN. Made durable before
/// the first byte, so nothing that is older can have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Start {
    /// The number of the generation it began with; zero for none.
    pub number: u64,
    /// Random.
    pub id: u128,
}

impl Start {
    /// The one with which a generation begins.
    #[must_use]
    pub const fn of(generation: Generation) -> Self {
        Self { number: generation.number, id: generation.id }
    }

    fn put(self, body: &mut BytesMut) {
        body.put_u64(self.number);
        body.put_u128(self.id);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { number: reader.u64()?, id: reader.u128()? })
    }
}

/// What a controller knows of the times in which both served a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Starts {
    /// The last of which it knew, before it served, that the other has its generation durable too.
    pub joint: Start,
    /// The last whose generation it made durable: the other may know it as joint.
    pub coming: Start,
}

impl Starts {
    /// Whether this controller was there when `start` began.
    #[must_use]
    pub fn knows(&self, start: Start) -> bool {
        start.number == 0 || start == self.joint || start == self.coming
    }

    pub(super) fn put(self, body: &mut BytesMut) {
        self.joint.put(body);
        self.coming.put(body);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { joint: Start::read(reader)?, coming: Start::read(reader)? })
    }
}

/// What a controller tells of a LUN beside its report. Version 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// The times in which both served.
    pub starts: Starts,
    /// [`CopyReport::may_go_on`].
    pub may_go_on: bool,
    /// [`CopyReport::remembers`].
    pub remembers: bool,
}

impl Told {
    pub(super) fn put(self, body: &mut BytesMut) {
        self.starts.put(body);
        body.put_u8(u8::from(self.may_go_on));
        body.put_u8(u8::from(self.remembers));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let starts = Starts::read(reader)?;
        Ok(Self { starts, may_go_on: reader.bool()?, remembers: reader.bool()? })
    }
}

/// What was found where a controller's volume should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyFound {
    /// Nothing, or no volume is wanted here.
    Missing,
    /// A file or device without content.
    Blank,
    /// The LUN's own volume.
    Whole,
    /// Something else.
    Foreign,
    /// Its disk failed during this run: neither a source nor worth refilling.
    Failed,
    /// The LUN's own volume as it was at an earlier time, or with a record of an earlier time: never a source. Version
    /// 2.
    Stale,
    /// What this controller keeps of the LUN beside its volume cannot be read. Version 2.
    Unreadable,
    /// The copy of the other controller. Version 2.
    Others,
    /// The LUN's own volume, onto whose disk what was acknowledged is still on its way: it was asked for when the two
    /// parted, and may fail. Version 2.
    Unsettled,
}

impl CopyFound {
    /// What a peer of version 1 is told: what it knows no word for it must neither copy from nor to.
    #[must_use]
    pub const fn in_version_1(self) -> Self {
        match self {
            Self::Stale | Self::Unreadable => Self::Failed,
            Self::Others => Self::Foreign,
            Self::Unsettled => Self::Whole,
            other => other,
        }
    }
}

/// How a pair goes on under a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pairing {
    /// Both copies are whole (or the LUN has one only).
    Whole,
    /// Main's copy is copied to the other.
    Copy,
    /// Main's copy is the only one; the other controller forwards.
    Out,
}

impl Pairing {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Copy => 1,
            Self::Out => 2,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        match reader.u8()? {
            0 => Ok(Self::Whole),
            1 => Ok(Self::Copy),
            2 => Ok(Self::Out),
            _ => Err(FrameError::Content),
        }
    }
}

/// One controller's knowledge of one LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyReport {
    /// The newest generation it has on disk.
    pub generation: Generation,
    /// Everything of that generation was flushed and marked clean.
    pub clean: bool,
    /// It holds everything that was acknowledged under that generation: this run of the controller has taken part in
    /// it and has its memory, or had everything on its disk before it ended.
    pub kept: bool,
    /// Its volume.
    pub copy: CopyFound,
    /// It had heard of the LUN before the two met this time.
    pub known: bool,
    /// Its volume is a block device, whose old content must not be taken for a copy.
    pub device: bool,
    /// Travels by itself, and not to a peer of version 1: nothing is known of that one's.
    pub starts: Option<Starts>,
    /// As main by a generation on its disk it serves without the other, or will when a lease has run out: as long as
    /// that one's word does not keep it from that, nobody else may become main. Travels with `starts`.
    pub may_go_on: bool,
    /// It has run on since it last took part, and knows what no disk has: reservations that do not persist. Travels
    /// with `starts`.
    pub remembers: bool,
}

impl CopyReport {
    /// Whether it holds all that was acknowledged under its generation.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.copy == CopyFound::Whole && (self.kept || self.clean)
    }

    pub(super) fn put(&self, body: &mut BytesMut) {
        self.generation.put(body);
        body.put_u8(u8::from(self.clean));
        body.put_u8(u8::from(self.kept));
        body.put_u8(match self.copy {
            CopyFound::Missing => 0,
            CopyFound::Blank => 1,
            CopyFound::Whole => 2,
            CopyFound::Foreign => 3,
            CopyFound::Failed => 4,
            CopyFound::Stale => 5,
            CopyFound::Unreadable => 6,
            CopyFound::Others => 7,
            CopyFound::Unsettled => 8,
        });
        body.put_u8(u8::from(self.known));
        body.put_u8(u8::from(self.device));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            generation: Generation::read(reader)?,
            clean: reader.bool()?,
            kept: reader.bool()?,
            copy: match reader.u8()? {
                0 => CopyFound::Missing,
                1 => CopyFound::Blank,
                2 => CopyFound::Whole,
                3 => CopyFound::Foreign,
                4 => CopyFound::Failed,
                5 => CopyFound::Stale,
                6 => CopyFound::Unreadable,
                7 => CopyFound::Others,
                8 => CopyFound::Unsettled,
                _ => return Err(FrameError::Content),
            },
            known: reader.bool()?,
            device: reader.bool()?,
            starts: None,
            may_go_on: false,
            remembers: false,
        })
    }
}

/// What a controller keeps on disk of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRecord {
    /// The LUN's name.
    pub lun: String,
    /// The newest generation.
    pub generation: Generation,
    /// Both copies were quiet, and this one was flushed: no write can have come since.
    pub clean: bool,
    /// This copy was flushed after the other was lost: it has everything that was acknowledged. The two may differ in
    /// what was not.
    pub flushed: bool,
    /// What the superblock of the volume says.
    pub volume: Start,
    /// What it may say already: it is written when this is durable.
    pub volume_coming: Start,
    /// The times in which both served.
    pub starts: Starts,
}

impl GroupRecord {
    /// All groups as one record of the state store.
    #[must_use]
    pub fn encode_all(groups: &[Self]) -> Vec<u8> {
        let mut body = BytesMut::new();
        put_list(&mut body, LUNS_MAX, groups, |body, group| {
            put_string(body, &group.lun);
            group.generation.put(body);
            body.put_u8(u8::from(group.clean));
            body.put_u8(u8::from(group.flushed));
            group.volume.put(body);
            group.volume_coming.put(body);
            group.starts.put(body);
        });
        body.to_vec()
    }

    /// Reads a record of the state store.
    pub fn decode_all(record: &[u8]) -> Result<Vec<Self>, FrameError> {
        Self::decode(record, |reader| {
            let [volume, volume_coming] = [Start::read(reader)?, Start::read(reader)?];
            Ok((volume, volume_coming, Starts::read(reader)?))
        })
    }

    /// Reads a record of the first release, which knew nothing of starts.
    pub fn decode_all_of_first(record: &[u8]) -> Result<Vec<Self>, FrameError> {
        Self::decode(record, |_| Ok(Default::default()))
    }

    fn decode(
        record: &[u8],
        starts: impl Fn(&mut Reader<'_>) -> Result<(Start, Start, Starts), FrameError>,
    ) -> Result<Vec<Self>, FrameError> {
        let mut reader = Reader(record);
        let groups = reader.list(LUNS_MAX, |reader| {
            let lun = reader.string()?;
            let generation = Generation::read(reader)?;
            let [clean, flushed] = [reader.bool()?, reader.bool()?];
            let (volume, volume_coming, starts) = starts(reader)?;
            Ok(Self { lun, generation, clean, flushed, volume, volume_coming, starts })
        })?;
        reader.end()?;
        Ok(groups)
    }
}
