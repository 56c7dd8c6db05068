//! Connections of the interlink that were accepted and have not proven to be the peer's yet, nor greeted.
//!
//! They have a small share of their own. Where it is used up, the oldest of the address that has most of it is closed,
//! and the new one comes in: the peer needs moments to prove itself, and a connection that proves nothing keeps no
//! other out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use controller::plan::BRIDGES_MAX;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Connections of the interlink that have not proven to be the peer's, at most; the oldest makes room. The peer makes
/// one per worker and one more, all at once.
pub(crate) const UNPROVEN_MAX: usize = BRIDGES_MAX as usize + 32;

/// The share of all listeners of one controller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// By age, the oldest first.
    waiting: BTreeMap<u64, Unproven>,
}

#[derive(Debug)]
struct Unproven {
    from: IpAddr,
    /// Dropped to make room.
    _room: oneshot::Sender<()>,
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    entrance: Entrance,
    number: u64,
    room: oneshot::Receiver<()>,
}

impl Entrance {
    /// A place for a connection from this address. If none is free, another connection has lost its place.
    pub(crate) fn enter(&self, from: IpAddr) -> Place {
        let from = from.to_canonical();
        let (room_kept, room) = oneshot::channel();
        let mut inside = self.0.lock();
        let number = inside.next;
        inside.next += 1;
        if inside.waiting.len() >= UNPROVEN_MAX {
            inside.make_room(from);
        }
        inside.waiting.insert(number, Unproven { from, _room: room_kept });
        Place { entrance: self.clone(), number, room }
    }
}

impl Inside {
    /// Closes the oldest connection of the address that has most of them, the one that is about to come included.
    fn make_room(&mut self, coming: IpAddr) {
        let mut counts = BTreeMap::from([(coming, 1_usize)]);
        for unproven in self.waiting.values() {
            *counts.entry(unproven.from).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        let crowd = |unproven: &Unproven| counts.get(&unproven.from) == Some(&most);
        let oldest = self.waiting.iter().find(|(_, unproven)| crowd(unproven)).map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.waiting.remove(&number);
        }
    }
}

impl Place {
    /// Waits until this connection has to make room for another.
    pub(crate) async fn lost(&mut self) {
        // The sender is never used, only dropped.
        let _dropped = (&mut self.room).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entrance.0.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn has_lost(place: &mut Place) -> bool {
        place.room.try_recv() == Err(TryRecvError::Closed)
    }

    #[test]
    fn the_oldest_makes_room_and_nobody_is_turned_away() {
        let entrance = Entrance::default();
        let mut places: Vec<_> = (0..UNPROVEN_MAX).map(|_| entrance.enter(address(1))).collect();
        assert!(!places.iter_mut().any(has_lost));
        let mut more: Vec<_> = (0..10).map(|_| entrance.enter(address(1))).collect();
        assert!(!more.iter_mut().any(has_lost));
        let lost: Vec<_> = places.iter_mut().map(has_lost).collect();
        assert!(lost[..10].iter().all(|lost| *lost) && !lost[10..].iter().any(|lost| *lost));
        assert_eq!(entrance.0.lock().waiting.len(), UNPROVEN_MAX);
    }

    #[test]
    fn who_stands_alone_is_not_driven_out_by_a_crowd_from_another_address() {
        let entrance = Entrance::default();
        let mut peer = entrance.enter(address(2));
        let mut crowd: Vec<_> = (0..10 * UNPROVEN_MAX).map(|_| entrance.enter(address(1))).collect();
        assert!(!has_lost(&mut peer));
        let lost = crowd.iter_mut().filter_map(|place| has_lost(place).then_some(())).count();
        assert_eq!(crowd.len() - lost, UNPROVEN_MAX - 1);
        // Where many addresses have one each, the oldest of all goes.
        drop(crowd);
        let crowd: Vec<_> = (10..10 + UNPROVEN_MAX as u8).map(|last| entrance.enter(address(last))).collect();
        assert!(has_lost(&mut peer));
        drop((peer, crowd));
        assert!(entrance.0.lock().waiting.is_empty());
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_proven_itself_or_is_gone() {
        let entrance = Entrance::default();
        let mut first = entrance.enter(address(1));
        for _ in 0..3 * UNPROVEN_MAX {
            drop(entrance.enter(address(1)));
        }
        assert!(!has_lost(&mut first));
    }
}
