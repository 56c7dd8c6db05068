//! Commands of the disaster itself, one after the other: what fills the LUN, makes holes in it and looks back at what
//! the hosts left there.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use super::Failure;
use super::hosts::{HOLE_BLOCKS, Load, REGION_BLOCKS, WORKED_BLOCKS, shapes};
use super::pair::IQN;
use crate::initiator::tcp::Session;
use crate::initiator::{Request, Settings};
use crate::judge::{Extent, History, OpId};
use crate::random::Random;
use crate::workload::{Ended, Mix, Shape, Workload, content};

/// How often a command is tried again while a unit attention is in its way.
const ATTEMPTS_MAX: usize = 20;

/// The part of a region that becomes a hole.
fn hole(region: u64) -> Shape {
    let start = region * REGION_BLOCKS + WORKED_BLOCKS;
    Shape { lun: 0, start, blocks: HOLE_BLOCKS, blocks_min: 1, blocks_max: 1, mix: Mix::NONE }
}

/// Writes what will become a hole, or makes it one, through main.
pub fn dig(load: &Load, portal: SocketAddr, region: u64, hollow: bool) -> Result<(), Failure> {
    let settings = Settings::linux("iqn.1993-08.org.debian:digs", IQN, 3);
    let mut session = Session::connect(portal, settings)?;
    let shape = hole(region);
    let mut workload = Workload::new(98, shape, Random::new(0));
    let mut start = shape.start;
    while start < shape.start + shape.blocks {
        let extent = Extent { start, blocks: 1024 };
        attempt(&mut session, &mut workload, load.history(), |workload, history| {
            if hollow { workload.zero_of(history, extent) } else { workload.write_of(history, extent) }
        })?;
        start += extent.blocks;
    }
    session.logout()?;
    Ok(())
}

/// Reads a whole region through a controller.
pub fn look_back(history: History, portal: SocketAddr, region: u64) -> Result<History, Failure> {
    let settings = Settings::linux("iqn.1993-08.org.debian:looks-back", IQN, 1);
    let mut session = Session::connect(portal, settings)?;
    let history = Mutex::new(history);
    let [crowded, rest] = shapes(region);
    for shape in [crowded, rest, hole(region)] {
        let mut workload = Workload::new(99, shape, Random::new(0));
        let mut start = shape.start;
        while start < shape.start + shape.blocks {
            let blocks = (shape.start + shape.blocks - start).min(1024);
            let extent = Extent { start, blocks };
            attempt(&mut session, &mut workload, &history, |workload, history| {
                workload.read_of(history, extent)
            })?;
            start += blocks;
        }
    }
    session.logout()?;
    Ok(history.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Executes one command, again after a unit attention.
fn attempt(
    session: &mut Session,
    workload: &mut Workload,
    history: &Mutex<History>,
    mut draw: impl FnMut(&mut Workload, &mut History) -> (Request, OpId),
) -> Result<(), Failure> {
    let lock = || history.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS_MAX {
        let (request, id) = draw(workload, &mut lock());
        session.submit(request)?;
        let (_, response) = session.completion()?;
        match workload.ended(&mut lock(), Some(id), &response) {
            Ended::Good => return Ok(()),
            Ended::Refused | Ended::Busy => {}
            other => return Err(Failure::Host(format!("a command of its own: {other:?}"))),
        }
    }
    Err(Failure::Host("a command of its own was refused again and again".to_owned()))
}

/// The mark that [`fill`] writes.
const FILL: OpId = OpId::MAX - 1;

/// Fills blocks no round uses, so that a refill has something to do. One command of 1 MiB after another.
pub fn fill(portal: SocketAddr, extent: Extent) -> Result<(), Failure> {
    let settings = Settings::linux("iqn.1993-08.org.debian:fills", IQN, 2);
    let mut session = Session::connect(portal, settings)?;
    let mut start = extent.start;
    while start < extent.end() {
        let blocks = (extent.end() - start).min(2048);
        let out = content::written(FILL, start, blocks);
        let cdb = crate::initiator::Cdb::write_16(start, blocks as u32, false);
        let response = session.execute(&Request { lun: 0, cdb, out, in_bytes: 0 })?;
        if !response.is_good() {
            return Err(Failure::Host(format!("filling at {start}: {response:?}")));
        }
        start += blocks;
    }
    session.logout()?;
    Ok(())
}

/// Whether a chunk of a volume holds what [`fill`] wrote.
#[must_use]
pub fn is_filled(data: &[u8], start: u64) -> bool {
    let pieces = content::pieces(data, start);
    pieces.iter().all(|piece| piece.seen == crate::judge::Seen::Written(FILL))
}
