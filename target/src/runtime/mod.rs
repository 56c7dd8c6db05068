//! The product around the cores: workers, sockets of the interlink, disks, state store.
//!
//! [`Appliance::start`] starts one or both controllers in this process. They share workers and disk threads;
//! each has a control thread of its own, on which nothing ever waits for a disk: ticks, liveness and the control
//! connection of the interlink run there.
//!
//! * [`workers`]: threads that run connections and bridges; `busy_poll`: when they sleep; `requests`: what of a
//!   [`batch`](crate::batch) asks disks.
//! * [`world`]: what the controller asks of the outside; `timer`: when it is called.
//! * [`liveness`]: whether all of this gets on, and what is done if it does not; `kept`: which disks keep threads.
//! * `portals`, `accept_errors`: accepting hosts; `tidy`: memory goes back to the system.
//! * `scan`: what lies where the volumes are, without waiting for ever.

pub(crate) mod accept_errors;
pub mod access;
pub mod advice;
pub(crate) mod busy_poll;
mod descriptors;
mod kept;
pub mod liveness;
pub mod places;
mod portals;
pub mod private_file;
pub(crate) mod requests;
mod rooms;
mod scan;
mod signals;
mod start;
mod tidy;
mod timer;
pub mod workers;
pub mod world;

/// Bounds that [`crate::admin::limits`] shows.
pub(crate) mod limits {
    pub(crate) use super::timer::TIMES_MAX;
    pub(crate) use super::workers::{HUNG_THREADS_MAX, hung_threads};
    pub(crate) use crate::admin::control::{CLIENTS_MAX, REQUEST_BYTES_MAX};
    pub(crate) use crate::interlink::limits::*;
}

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use controller::disk::buffers::BufferPool;
use controller::disk::pool::{DiskPool, NO_DISK};
use controller::disk::signals::outlive_file_size_limits;
use controller::plan::{BRIDGES_MAX, Side};
use controller::status::ControllerStatus;
use controller::unit::Controller;
use controller::volume::lock::{LockError, StateLock};

use self::liveness::{Liveness, Watch};
use self::scan::Looking;
use self::signals::Signals;
use self::start::Shared;
use self::workers::Workers;
use self::world::ProductWorld;
use crate::batch::Batch;
use crate::config::Config;
use crate::iscsi::sessions::Sessions;

/// How long a clean end may take.
pub const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How long hosts are given to log out before a clean end goes on without them (RFC 7143 11.9.1).
pub const HOSTS_LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// How often a clean end is looked for.
const STOP_LOOKED_FOR_EVERY: Duration = Duration::from_millis(5);

/// Why a controller cannot start. Nothing on any volume was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder cannot be made or used.
    #[error("the state folder {} cannot be used: {source}", path.display())]
    StateFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else runs this controller.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A volume cannot be opened.
    #[error("the volume {} cannot be opened: {source}", path.display())]
    Volume {
        /// Its file or device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two volumes would be one.
    #[error("two volumes would lie in one place: {what}")]
    SharedVolume {
        /// Which, and where.
        what: String,
    },
    /// An address or socket cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address, or the path of the socket.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Secrets of `[access]` cannot be used.
    #[error(transparent)]
    Secret(#[from] access::SecretErrors),
    /// The certificates of the interlink cannot be used.
    #[error(transparent)]
    Certificates(#[from] crate::interlink::tls::certificates::CertificateError),
    /// The secret of the interlink cannot be used.
    #[error(transparent)]
    InterlinkSecret(#[from] crate::interlink::secret::SecretFileError),
    /// Threads or their runtime cannot be started.
    #[error("no threads can be started: {0}")]
    Threads(io::Error),
}

/// The controllers that run in this process.
pub struct Appliance {
    // In the order in which they end: what runs tasks, the controllers, the disks.
    workers: Arc<Workers>,
    controllers: Vec<Running>,
    watch: Watch,
    _pool: DiskPool,
}

/// One controller that runs.
struct Running {
    control: Workers,
    controller: Arc<Controller<ProductWorld>>,
    sessions: Arc<Sessions>,
    control_socket: PathBuf,
    _lock: StateLock,
}

/// How a clean end went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// Everything is flushed and marked clean.
    Clean,
    /// It took longer than [`STOP_WITHIN`], or a second signal came: the next start treats it as a crash.
    Unclean,
}

impl Appliance {
    /// Starts these controllers of the configuration, with one worker per processor.
    pub fn start(config: &Config, sides: &[Side]) -> Result<Self, StartError> {
        let processors = std::thread::available_parallelism().map_or(1, |processors| processors.get());
        Self::start_with_workers(config, sides, processors)
    }

    /// Starts these controllers with that many workers, at least one and at most [`BRIDGES_MAX`].
    pub fn start_with_workers(config: &Config, sides: &[Side], workers: usize) -> Result<Self, StartError> {
        Self::start_looking(config, sides, workers, Looking::default())
    }

    fn start_looking(
        config: &Config,
        sides: &[Side],
        workers: usize,
        mut looking: Looking,
    ) -> Result<Self, StartError> {
        let (shared, silent) =
            places::shared_in_time(config, sides, looking.patience).map_err(StartError::Threads)?;
        looking.silent.extend(silent);
        if !shared.is_empty() {
            return Err(StartError::SharedVolume { what: shared.join("; ") });
        }
        outlive_file_size_limits();
        let count = workers.clamp(1, usize::from(BRIDGES_MAX));
        let workers = Arc::new(Workers::start(count).map_err(StartError::Threads)?);
        let pool = DiskPool::start().map_err(StartError::Threads)?;
        let buffers = BufferPool::default();
        let watch = Watch::start(pool.look()).map_err(StartError::Threads)?;
        watch.over(&workers);
        let liveness = watch.liveness();
        let host_connections = descriptors::for_hosts(config, sides, count);
        let shared = Shared {
            config,
            workers: Arc::clone(&workers),
            buffers,
            pool: &pool,
            host_connections,
            liveness,
            looking,
        };
        let controllers =
            sides.iter().map(|side| shared.start(*side)).collect::<Result<Vec<Running>, _>>()?;
        let lane = pool.lane(NO_DISK);
        workers.spawn(0, move || tidy::keep(lane, shared.buffers));
        controllers.iter().for_each(|running| watch.over(&running.control));
        Ok(Self { workers, controllers, watch, _pool: pool })
    }

    /// Whether everything that serves hosts and the peer gets on. What it gives may be asked from any thread, also
    /// after the appliance has ended.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.watch.liveness()
    }

    /// What the controllers of this process say of themselves.
    #[must_use]
    pub fn status(&self) -> Vec<ControllerStatus> {
        self.controllers.iter().map(|running| running.controller.status()).collect()
    }

    /// Something that tells the same from another thread, without keeping the controllers alive.
    pub fn watch(&self) -> impl Fn() -> Vec<ControllerStatus> + Send + 'static {
        let controllers: Vec<_> =
            self.controllers.iter().map(|running| Arc::downgrade(&running.controller)).collect();
        move || controllers.iter().filter_map(Weak::upgrade).map(|controller| controller.status()).collect()
    }

    /// Runs until SIGTERM, SIGINT or SIGHUP, then says so to `ending` and ends cleanly; a SIGTERM or SIGINT after that
    /// ends at once. If it cannot end cleanly, says so to `unclean` before it ends what may still wait for disks.
    pub fn run_until_signal(self, ending: impl FnOnce(), unclean: impl FnOnce()) -> io::Result<Stopped> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            let name = signals.next().await;
            tracing::info!(
                "ending ({name}): hosts are asked to log out, commands in flight finish, then everything is flushed"
            );
            ending();
            self.ask_hosts_to_leave();
            let (ended, why) = tokio::select! {
                ended = self.stopped_in_time() => (ended, "it takes too long"),
                () = signals.insists() => (Stopped::Unclean, "a second signal came"),
            };
            if ended == Stopped::Unclean {
                tracing::warn!(
                    "not everything is flushed, and this is not waited for ({why}): connections end now. What was not \
                     answered may be lost here, the next start treats this as a crash. A disk that does not answer may \
                     keep this process for a while"
                );
                unclean();
            }
            Ok(ended)
        })
    }

    /// Ends cleanly: hosts log out, commands in flight finish, everything is flushed.
    #[must_use]
    pub fn stop(self) -> Stopped {
        self.ask_hosts_to_leave();
        let mut ending = Ending::begin();
        loop {
            if let Some(stopped) = ending.look(&self) {
                return stopped;
            }
            std::thread::sleep(STOP_LOOKED_FOR_EVERY);
        }
    }

    fn ask_hosts_to_leave(&self) {
        for running in &self.controllers {
            let _batch = Batch::begin();
            running.controller.announce_stop();
        }
        self.controllers.iter().for_each(|running| running.sessions.ask_to_leave(HOSTS_LEAVE_WITHIN));
    }

    fn begin_stop(&self) {
        for running in &self.controllers {
            let _batch = Batch::begin();
            running.controller.stop();
        }
    }

    fn stopped(&self) -> bool {
        self.controllers.iter().all(|running| running.controller.stopped())
    }

    async fn stopped_in_time(&self) -> Stopped {
        let mut ending = Ending::begin();
        loop {
            if let Some(stopped) = ending.look(self) {
                return stopped;
            }
            tokio::time::sleep(STOP_LOOKED_FOR_EVERY).await;
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.count()
    }
}

/// A clean end: first the hosts leave, or their time is up; then the controllers stop; then the hosts
/// that are still there are told that their connections end.
struct Ending {
    begun: Instant,
    stopping: bool,
}

impl Ending {
    fn begin() -> Self {
        Self { begun: Instant::now(), stopping: false }
    }

    /// How it ended, if it has.
    fn look(&mut self, appliance: &Appliance) -> Option<Stopped> {
        let running = || appliance.controllers.iter();
        let alone = running().all(|running| running.sessions.count() == 0);
        if !self.stopping && (alone || self.begun.elapsed() > HOSTS_LEAVE_WITHIN) {
            self.stopping = true;
            appliance.begin_stop();
        }
        if self.stopping && appliance.stopped() {
            running().for_each(|running| running.sessions.dismiss_all());
            return Some(Stopped::Clean);
        }
        (self.begun.elapsed() > STOP_WITHIN).then_some(Stopped::Unclean)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A socket that stays behind does no harm: the next start replaces it.
        let _gone_already = std::fs::remove_file(&self.control_socket);
    }
}

#[cfg(test)]
mod tests;
