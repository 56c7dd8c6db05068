//! Tests of the sending side of a link over real sockets.

use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::*;

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A link of the table, and what reads its other end. The link's own reading half must be kept.
async fn link(table: &LinkTable) -> (Arc<Link>, OwnedReadHalf, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let (reader, writer) = dialed.into_split();
    (table.add(writer, None), reader, accepted)
}

fn frame(head: &'static [u8], payload: Vec<Bytes>) -> Frame {
    Frame { head: Bytes::from_static(head), payload }
}

#[test]
fn what_does_not_fit_the_socket_is_sent_when_there_is_room() {
    run(async {
        let table = LinkTable::new(1);
        let (link, _reader, mut peer) = link(&table).await;
        tokio::task::spawn_local(Arc::clone(&link).keep_sending());
        let mut expected = Vec::new();
        for number in 0..64_u8 {
            let payload = Bytes::from(vec![number; 256 * 1024]);
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(&payload);
            table.send(link.id, frame(b"head", vec![payload.slice(..100), payload.slice(100..)]));
        }
        assert!(link.state() == State::Full, "the test must fill the socket");
        table.close(link.id);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        assert!(link.state() == State::Dead, "the link closes after what was sent on it");
    });
}

#[test]
fn a_batch_leaves_in_one_piece_at_its_end() {
    run(async {
        let table = LinkTable::new(1);
        let (link, _reader, mut peer) = link(&table).await;
        let batch = batch::Batch::begin();
        for _ in 0..10 {
            table.send(link.id, frame(b"x", Vec::new()));
        }
        assert_eq!(link.queue.lock().bytes, 10);
        drop(batch);
        assert_eq!(link.queue.lock().bytes, 0);
        let mut received = [0; 10];
        peer.read_exact(&mut received).await.unwrap();
        assert_eq!(received, [b'x'; 10]);
    });
}

#[test]
fn a_frame_for_any_bridge_uses_one_that_is_up_and_vanishes_without() {
    run(async {
        let table = LinkTable::new(3);
        table.send_on_any_bridge(frame(b"lost", Vec::new()));
        let (link, _reader, mut peer) = link(&table).await;
        table.bridge_up(2, &link);
        table.send_on_any_bridge(frame(b"sent", Vec::new()));
        table.remove(&link);
        table.send_on_any_bridge(frame(b"lost", Vec::new()));
        table.send(link.id, frame(b"lost", Vec::new()));
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"sent");
        assert_eq!(table.count(), 0);
    });
}

#[test]
fn a_peer_that_does_not_read_closes_its_link_in_the_end() {
    run(async {
        let table = LinkTable::new(1);
        let (link, _reader, _peer) = link(&table).await;
        let payload = Bytes::from(vec![0; 8 << 20]);
        for _ in 0..LINK_QUEUE_BYTES_MAX / payload.len() + 2 {
            table.send(link.id, frame(b"x", vec![payload.clone()]));
        }
        assert!(link.state() == State::Dead);
        assert_eq!(link.queue.lock().bytes, 0);
    });
}

#[test]
fn what_many_threads_append_arrives_whole() {
    run(async {
        let table = LinkTable::new(1);
        let (link, _reader, mut peer) = link(&table).await;
        tokio::task::spawn_local(Arc::clone(&link).keep_sending());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let pieces = vec![Bytes::from_static(b"1"), Bytes::from_static(b"23")];
                        table.send(link.id, frame(b"0", pieces));
                    }
                });
            }
        });
        table.close(link.id);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 4 * 1000 * 4);
        assert!(received.chunks(4).all(|frame| frame == b"0123"));
    });
}
