//! Accepting hosts: each connection goes to a worker and stays there.

use std::net::TcpListener;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::accept_errors::Troubles;
use super::workers::Workers;
use super::world::ProductWorld;
use crate::frontend::Frontend;
use crate::portal::serve_connection;

/// The rest after a connection could not be accepted.
const REST: Duration = Duration::from_millis(100);

/// Accepts connections of hosts on one portal, for ever.
pub(super) async fn accept(
    listener: TcpListener,
    workers: Weak<Workers>,
    frontend: Arc<Frontend<ProductWorld>>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("a portal cannot be served: {error}"),
    };
    let troubles = Troubles::of("a portal");
    loop {
        let accepted = listener.accept().await.and_then(|(socket, _)| socket.into_std());
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                troubles.tell(&error, &frontend.controller.world().troubles);
                sleep(REST).await;
                continue;
            }
        };
        let Some(workers) = workers.upgrade() else { return };
        let frontend = Arc::clone(&frontend);
        workers.spawn(workers.next(), move || async move {
            match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => serve_connection(frontend, socket).await,
                Err(error) => tracing::warn!("an accepted connection cannot be served: {error}"),
            }
        });
    }
}
