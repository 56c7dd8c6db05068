//! The control socket of a controller: one line asks, one line of JSON answers.
//!
//! `status` answers with the controller's status, `pair COMMAND NUMBER...` with what becomes of that command for the
//! pairs of the LUNs of these numbers ([`PairAnswer`]). Anything else answers `{"error": ...}`.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use controller::appliance::PairRefusal;
use controller::unit::Controller;
use protocol::interlink::will::PairCommand;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::runtime::accept_errors::Troubles;
use crate::runtime::world::ProductWorld;

/// Bytes of one request at most.
pub(crate) const REQUEST_BYTES_MAX: u64 = 4096;

/// Connections at a time at most; more are closed.
pub(crate) const CLIENTS_MAX: usize = 32;

/// A connection that asks nothing for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The rest after a connection could not be accepted.
const REST: Duration = Duration::from_millis(100);

/// Where there is one descriptor for all who ask, each has it for this long at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Answers on the control socket, for ever.
pub(crate) async fn serve(
    listener: std::os::unix::net::UnixListener,
    controller: Arc<Controller<ProductWorld>>,
) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the control socket cannot be served: {error}"),
    };
    let clients = Arc::new(AtomicUsize::new(0));
    let troubles = Troubles::of("the control socket");
    // A descriptor to give up when there is no other.
    let mut spare = File::open("/dev/null").ok();
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                troubles.tell(&error, &controller.world().troubles);
                // Who asks how it is shall hear that there are none left.
                if spare.take().is_some()
                    && let Ok(Ok((client, _))) = timeout(REST, listener.accept()).await
                {
                    let _gone_or_answered = timeout(ANSWER_WITHIN, talk(client, &controller)).await;
                } else {
                    sleep(REST).await;
                }
                spare = File::open("/dev/null").ok();
                continue;
            }
        };
        if clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
            continue;
        }
        clients.fetch_add(1, Ordering::Relaxed);
        let (clients, controller) = (Arc::clone(&clients), Arc::clone(&controller));
        tokio::spawn(async move {
            if let Err(error) = talk(client, &controller).await {
                tracing::debug!("a connection to the control socket ended: {error}");
            }
            clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn talk(client: UnixStream, controller: &Controller<ProductWorld>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let mut request = String::new();
        let mut line = (&mut client).take(REQUEST_BYTES_MAX);
        if timeout(IDLE_MAX, line.read_line(&mut request)).await?? == 0 {
            return Ok(());
        }
        let mut line = answer(request.trim(), controller);
        line.push('\n');
        timeout(IDLE_MAX, client.write_all(line.as_bytes())).await??;
    }
}

fn answer(request: &str, controller: &Controller<ProductWorld>) -> String {
    let answer = match request {
        "status" => serde_json::to_value(controller.status())
            .unwrap_or_else(|error| json!({ "error": error.to_string() })),
        _ => pair(request, controller)
            .unwrap_or_else(|| json!({ "error": "this controller knows only the requests: status, pair" })),
    };
    answer.to_string()
}

/// What becomes of a command about pairs. `None` if it is none.
fn pair(request: &str, controller: &Controller<ProductWorld>) -> Option<serde_json::Value> {
    let mut words = request.strip_prefix("pair ")?.split_ascii_whitespace();
    let command = command(words.next()?)?;
    let numbers = words.map(|word| word.parse().ok()).collect::<Option<Vec<u16>>>()?;
    let luns = numbers.iter().map(|number| controller.lun(u64::from(*number)).map(|lun| usize::from(lun.0)));
    let Some(luns) = luns.collect::<Option<Vec<usize>>>() else {
        return Some(json!({ "error": "this controller was started without one of these LUNs" }));
    };
    let answers = controller.pair_command(&luns, command).into_iter().zip(&numbers);
    let answers = answers.map(|(answer, number)| PairAnswer {
        number: *number,
        begun: answer == Ok(true),
        soon: answer == Err(PairRefusal::Busy),
        refused: answer.err().map(|refusal| refusal.to_string()),
    });
    serde_json::to_value(answers.collect::<Vec<_>>()).ok()
}

fn command(word: &str) -> Option<PairCommand> {
    PairCommand::ALL.into_iter().find(|command| pair_word(*command) == word)
}

/// A command about pairs in the words of the command line.
pub(crate) const fn pair_word(command: PairCommand) -> &'static str {
    match command {
        PairCommand::Create => "create",
        PairCommand::Split => "split",
        PairCommand::Resync => "resync",
        PairCommand::Swap => "swap",
        PairCommand::Delete => "delete",
    }
}

/// What becomes of a command for the pair of one LUN. If one of them is refused, nothing is done to any.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PairAnswer {
    /// The LUN's number.
    pub(crate) number: u16,
    /// It has begun; otherwise there is nothing to do.
    pub(crate) begun: bool,
    /// Why it is not done.
    pub(crate) refused: Option<String>,
    /// It may be done in a moment.
    pub(crate) soon: bool,
}
