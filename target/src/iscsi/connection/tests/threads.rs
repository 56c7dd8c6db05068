//! Answers from several threads, on a socket that takes little at a time.

use std::sync::mpsc;
use std::thread;

use super::*;

/// Commands of the run.
const COMMANDS: usize = 3000;

/// A socket that takes a few bytes, then refuses once, over and over.
#[derive(Default)]
struct Narrow {
    state: Mutex<(BytesMut, bool)>,
    wanted: Mutex<bool>,
}

impl Transport for Narrow {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let (written, refuse) = &mut *self.state.lock();
        *refuse = !*refuse;
        if *refuse {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = written.len();
        written.extend(pieces.iter().flat_map(|piece| piece.iter().copied()).take(1000));
        Ok(written.len() - before)
    }
    fn want_writable(&self) {
        *self.wanted.lock() = true;
    }
    fn shutdown(&self) {}
}

impl Narrow {
    fn take_wanted(&self) -> bool {
        core::mem::take(&mut *self.wanted.lock())
    }
}

#[test]
fn answers_of_many_threads_leave_whole_and_in_the_order_of_their_numbers() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    // From here on the same session writes to the narrow socket.
    let narrow = Arc::new(Narrow::default());
    let directory = host.connection.directory.clone();
    let mut connection = Connection::new(narrow.clone(), script.sessions.clone(), directory, Time(0));
    core::mem::swap(&mut host.connection, &mut connection);
    host.log_in(&script, "iqn.b", "");
    while narrow.take_wanted() {
        host.connection.on_writable(&script).unwrap();
    }
    narrow.state.lock().0.clear();
    let nexus = script.sessions.list().iter().find(|s| s.initiator == "iqn.b").unwrap().nexus;

    let mut senders = Vec::new();
    let answering = (0..3).map(|_| {
        let (sender, tags) = mpsc::channel::<u32>();
        senders.push(sender);
        let sessions = script.sessions.clone();
        thread::spawn(move || {
            for tag in tags {
                let data = Bytes::from(vec![tag as u8; 700]);
                sessions.answer(nexus, TaskTag::of(tag), Outcome::Good(vec![data]));
            }
        })
    });
    let answering = answering.collect::<Vec<_>>();

    let mut seen = Vec::new();
    let mut sent = 0;
    while seen.len() < COMMANDS {
        while sent < COMMANDS && sent < seen.len() + 100 {
            let tag = host.command(0xff, 2, false, &[], true);
            host.exchange(&script).unwrap();
            senders[sent % 3].send(tag).unwrap();
            sent += 1;
        }
        if narrow.take_wanted() {
            host.connection.on_writable(&script).unwrap();
        } else {
            thread::yield_now();
        }
        let written = &mut narrow.state.lock().0;
        while let Framed::Pdu(pdu) = take_pdu(written, Digests::default(), u32::MAX).unwrap() {
            match TargetPdu::decode(&pdu.bhs).unwrap() {
                TargetPdu::DataIn(header) => {
                    assert_eq!(header.stat_sn.0, 1 + seen.len() as u32, "in the order of their numbers");
                    assert_eq!(pdu.data.unwrap(), vec![header.initiator_task_tag as u8; 700]);
                    seen.push(header.initiator_task_tag);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    drop(senders);
    answering.into_iter().for_each(|thread| thread.join().unwrap());
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), COMMANDS, "each once");
}
