//! Starting one controller: lock, state, volumes, sockets, then the tasks that run it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};

use controller::appliance::Restored;
use controller::disk::buffers::BufferPool;
use controller::disk::pool::DiskPool;
use controller::link::LinkKind;
use controller::log_limit::TimedLogLimiter;
use controller::plan::{Plan, Side};
use controller::unit::Controller;
use controller::volume::files::{VolumePlace, make_state_folder};
use controller::volume::lock::StateLock;
use controller::volume::stack::VolumeId;
use controller::volume::store::Store;
use controller::volume::superblock::VolumeFound;

use super::accept_errors::AcceptErrors;
use super::access;
use super::liveness::Liveness;
use super::portals;
use super::rooms::{Looked, Seen};
use super::scan::{self, Looking, Scanned};
use super::timer::{self, Timer};
use super::workers::Workers;
use super::world::{ProductWorld, VolumeSlot};
use super::{Running, StartError};
use crate::admin::control;
use crate::batch::Batch;
use crate::config::{Config, Lun, to_plan};
use crate::frontend::Frontend;
use crate::interlink::entrance::Entrance;
use crate::interlink::link::LinkTable;
use crate::interlink::secret::Secret;
use crate::interlink::tls::certificates::Certificates;
use crate::interlink::{Interlink, KnownBy};
use crate::iscsi::directory::{FrontendConfig, PortalGroup};
use crate::iscsi::login::access::Access;
use crate::iscsi::sessions::Sessions;
use crate::portal;

/// Every socket one controller listens on.
struct Sockets {
    portals: Vec<TcpListener>,
    interlink: Vec<TcpListener>,
    control: UnixListener,
}

/// What one controller and its sockets share.
struct Surroundings {
    links: Arc<LinkTable>,
    timer: Arc<Timer>,
    sessions: Arc<Sessions>,
    known_by: KnownBy,
    name: String,
}

/// What all controllers of this process share.
pub(super) struct Shared<'a> {
    pub(super) config: &'a Config,
    pub(super) workers: Arc<Workers>,
    pub(super) buffers: BufferPool,
    pub(super) pool: &'a DiskPool,
    /// Connections of hosts that one controller has file descriptors for.
    pub(super) host_connections: usize,
    pub(super) liveness: Liveness,
    pub(super) looking: Looking,
}

impl Shared<'_> {
    /// Starts one controller.
    pub(super) fn start(&self, side: Side) -> Result<Running, StartError> {
        let config = self.config;
        let folder = config.state_folder(side);
        make_state_folder(&folder)
            .map_err(|source| StartError::StateFolder { path: folder.clone(), source })?;
        let lock = StateLock::take(&folder)?;
        let access = access::load(config)?;
        let known_by = if config.encrypts_interlink() {
            KnownBy::Certificate(Certificates::load(config, side)?.keys()?)
        } else {
            KnownBy::Secret(Secret::load(config, side)?)
        };
        let sockets = Sockets::open(config, side)?;
        let (store, records, unusable) = match Store::open(&folder) {
            Ok((store, records)) => (Some(store), records, None),
            // It runs to say so, and writes nothing.
            Err(error) => {
                tracing::error!("{error}");
                (None, BTreeMap::new(), Some(error.to_string()))
            }
        };
        let mut scanned = scan::scan(config, side, &self.looking)?;
        let plan = self.plan(side, &scanned);
        let volumes = scanned.iter().map(|volume| volume.found).collect();
        let restored = Restored { records, unusable, volumes };
        for (scanned, found) in scanned.iter_mut().zip(restored.volumes_that_count(&plan)) {
            scanned.found = found;
        }
        let surroundings = Surroundings {
            links: Arc::new(LinkTable::new(self.workers.count())),
            timer: Arc::default(),
            sessions: Arc::new(Sessions::for_at_most(self.host_connections)),
            known_by,
            name: config.controller(side).name.clone(),
        };
        let controller = Arc::new_cyclic(|controller| {
            let world = self.world(controller.clone(), &surroundings, store, scanned);
            Controller::new(world, plan, restored)
        });
        let control = Workers::start_control(&config.controller(side).name).map_err(StartError::Threads)?;
        {
            let _batch = Batch::begin();
            controller.start();
        }
        let sessions = Arc::clone(&surroundings.sessions);
        self.run(side, sockets, &control, &controller, surroundings, access);
        let control_socket = config.control_socket(side);
        Ok(Running { control, controller, sessions, control_socket, _lock: lock })
    }

    /// The world of one controller, with the volumes that are there.
    fn world(
        &self,
        controller: Weak<Controller<ProductWorld>>,
        surroundings: &Surroundings,
        store: Option<Store>,
        scanned: Vec<Scanned>,
    ) -> ProductWorld {
        let slot = |(volume, lun): (&Scanned, &Lun)| {
            let silent = volume.found == VolumeFound::Silent;
            // What is nowhere is neither made nor changed.
            let (place, path) =
                (volume.place.clone(), volume.place.as_ref().map(|place| place.path().to_owned()));
            Arc::new(VolumeSlot {
                place: place.filter(|_| !silent),
                silent: path.filter(|_| silent),
                lane: self.pool.lane(volume.disk),
                open: OnceLock::new(),
                lun: lun.name.clone(),
                bytes: AtomicU64::new(lun.bytes.unwrap_or_default()),
                // Who asks first is told as well.
                seen: Seen::of(volume.room.clone()),
            })
        };
        let world = ProductWorld {
            controller,
            volumes: scanned.iter().zip(&self.config.luns).map(slot).collect(),
            buffers: self.buffers.clone(),
            store,
            links: Arc::clone(&surroundings.links),
            sessions: Arc::clone(&surroundings.sessions),
            timer: Arc::clone(&surroundings.timer),
            encrypts: matches!(surroundings.known_by, KnownBy::Certificate(_)),
            name: surroundings.name.clone(),
            looked: Looked::default(),
            troubles: AcceptErrors::default(),
            liveness: self.liveness.clone(),
        };
        for (index, volume) in (0..).zip(scanned) {
            if let (Some(file), VolumeFound::Open(superblock)) = (volume.file, volume.found) {
                world.opened(VolumeId(index), file, superblock.blocks);
            }
        }
        world
    }

    /// What the controller is told of the configuration, and of its devices.
    fn plan(&self, side: Side, scanned: &[Scanned]) -> Plan {
        let mut plan = to_plan(self.config, side);
        plan.bridges = u16::try_from(self.workers.count()).unwrap_or(u16::MAX);
        for (lun, volume) in plan.luns.iter_mut().zip(scanned) {
            if let Some(VolumePlace::Device(_)) = &volume.place {
                lun.room = Some(volume.room_blocks);
            }
        }
        plan
    }

    /// Starts the tasks of a controller.
    fn run(
        &self,
        side: Side,
        sockets: Sockets,
        control: &Workers,
        controller: &Arc<Controller<ProductWorld>>,
        surroundings: Surroundings,
        access: Access,
    ) {
        let Surroundings { links, timer, sessions, known_by, name: _ } = surroundings;
        let interlink = Arc::new(Interlink {
            controller: Arc::clone(controller),
            links,
            workers: Arc::downgrade(&self.workers),
            buffers: self.buffers.clone(),
            known_by,
            side,
            peer: self.config.controller(side.peer()).interlink.clone(),
            entrance: Entrance::default(),
            strangers: TimedLogLimiter::default(),
        });
        let caller = Arc::clone(controller);
        control.spawn(0, move || timer::call(caller, timer));
        for listener in sockets.interlink {
            let interlink = Arc::clone(&interlink);
            control.spawn(0, move || interlink.accept(listener));
        }
        if side == Side::First {
            let interlink = Arc::clone(&interlink);
            control.spawn(0, move || interlink.keep_dialed(LinkKind::Control));
        }
        for worker in 0..self.workers.count() {
            let (interlink, number) = (Arc::clone(&interlink), u16::try_from(worker).unwrap_or(u16::MAX));
            self.workers.spawn(worker, move || interlink.keep_dialed(LinkKind::Bridge(number)));
        }
        let config = frontend_config(self.config, side, access);
        let frontend = Arc::new(Frontend::new(config, Arc::clone(controller), sessions));
        for listener in sockets.portals {
            let (workers, frontend) = (Arc::downgrade(&self.workers), Arc::clone(&frontend));
            self.workers.spawn(0, move || portals::accept(listener, workers, frontend));
        }
        // Not on a worker: one that does not get on is to be heard of.
        let answering = Arc::clone(controller);
        control.spawn(0, move || control::serve(sockets.control, answering));
    }
}

fn frontend_config(config: &Config, side: Side, access: Access) -> FrontendConfig {
    let group = |side: Side| PortalGroup { tag: tag(side), addresses: config.controller(side).addresses() };
    FrontendConfig {
        iqn: config.appliance.iqn.clone(),
        portal_groups: vec![group(Side::First), group(Side::Second)],
        own_group: tag(side),
        access,
    }
}

/// The target portal group tag of a controller.
const fn tag(side: Side) -> u16 {
    match side {
        Side::First => 1,
        Side::Second => 2,
    }
}

impl Sockets {
    fn open(config: &Config, side: Side) -> Result<Self, StartError> {
        let own = config.controller(side);
        Ok(Self {
            portals: own.portals.iter().map(listen).collect::<Result<_, _>>()?,
            interlink: own.interlink.iter().map(listen).collect::<Result<_, _>>()?,
            control: listen_locally(&config.control_socket(side))?,
        })
    }
}

fn listen(address: &SocketAddr) -> Result<TcpListener, StartError> {
    portal::listen(*address).map_err(|source| StartError::Listen { address: address.to_string(), source })
}

/// Listens on a socket that only its owner may use. One that an earlier run left behind is replaced: the
/// process that holds the lock of the state folder is the only one.
fn listen_locally(path: &Path) -> Result<UnixListener, StartError> {
    let open = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|source| StartError::Listen { address: path.display().to_string(), source })
}
