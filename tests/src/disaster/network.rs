//! Two network namespaces, one per controller, joined by a pair of virtual Ethernet devices that carries the
//! interlink alone; hosts reach each controller by another pair. The interlink can be cut, both ways or one way.

use std::fmt;
use std::process::Command;

/// How the interlink is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The cable is pulled: both ends know.
    Unplugged,
    /// Everything is lost silently, both ways.
    BothWays,
    /// What this controller sends is lost silently; what its peer sends arrives.
    From(usize),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplugged => f.write_str("interlink unplugged"),
            Self::BothWays => f.write_str("interlink cut both ways"),
            Self::From(side) => write!(f, "interlink cut one way, from {}", super::NAMES[*side]),
        }
    }
}

/// An Ethernet address nobody has: frames sent to it are lost.
const NOBODY: &str = "02:00:00:00:00:01";

/// The namespaces; gone when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// Of each controller.
    pub namespaces: [String; 2],
    /// Third number of all addresses, so that two of these can be at once.
    third: u32,
    /// The devices of the interlink.
    devices: [String; 2],
}

impl Network {
    /// Builds it. The error says why this machine cannot: usually for want of root.
    pub fn build() -> Result<Self, String> {
        let id = std::process::id();
        let network = Self {
            namespaces: ["a", "b"].map(|end| format!("twinlun{id}{end}")),
            third: id % 250,
            devices: ["a", "b"].map(|end| format!("ti{id}{end}")),
        };
        for namespace in &network.namespaces {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        let [a, b] = &network.namespaces;
        let [on_a, on_b] = &network.devices;
        ip(&format!("link add {on_a} netns {a} type veth peer name {on_b} netns {b}"))?;
        for side in 0..2 {
            let namespace = &network.namespaces[side];
            let device = &network.devices[side];
            ip(&format!("-n {namespace} addr add {}/30 dev {device}", network.interlink(side)))?;
            ip(&format!("-n {namespace} link set {device} up"))?;
            let (here, there) = (format!("tp{id}{side}h"), format!("tp{id}{side}"));
            ip(&format!("link add {here} type veth peer name {there} netns {namespace}"))?;
            ip(&format!("addr add {}/30 dev {here}", network.host(side)))?;
            ip(&format!("link set {here} up"))?;
            ip(&format!("-n {namespace} addr add {}/30 dev {there}", network.portal(side)))?;
            ip(&format!("-n {namespace} link set {there} up"))?;
        }
        Ok(network)
    }

    fn address(&self, fourth: usize) -> String {
        format!("198.18.{}.{fourth}", self.third)
    }

    /// Where a controller is on the interlink.
    #[must_use]
    pub fn interlink(&self, side: usize) -> String {
        self.address(1 + side)
    }

    /// Where hosts reach a controller.
    #[must_use]
    pub fn portal(&self, side: usize) -> String {
        self.address(6 + 4 * side)
    }

    fn host(&self, side: usize) -> String {
        self.address(5 + 4 * side)
    }

    /// Cuts the interlink.
    pub fn cut(&self, cut: Cut) -> Result<(), String> {
        match cut {
            Cut::Unplugged => ip(&format!("-n {} link set {} down", self.namespaces[0], self.devices[0])),
            Cut::BothWays => self.lose(0).and_then(|()| self.lose(1)),
            Cut::From(side) => self.lose(side),
        }
    }

    /// Sends what `side` has for its peer to nobody.
    fn lose(&self, side: usize) -> Result<(), String> {
        let (namespace, device, peer) =
            (&self.namespaces[side], &self.devices[side], self.interlink(1 - side));
        ip(&format!("-n {namespace} neigh replace {peer} lladdr {NOBODY} dev {device} nud permanent"))
    }

    /// Mends whatever was cut.
    pub fn mend(&self) -> Result<(), String> {
        for side in 0..2 {
            let (namespace, device) = (&self.namespaces[side], &self.devices[side]);
            ip(&format!("-n {namespace} link set {device} up"))?;
            ip(&format!("-n {namespace} neigh flush dev {device} nud permanent"))?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The devices go with their namespaces.
        for namespace in &self.namespaces {
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

/// Runs `ip` with these arguments.
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("ip {arguments}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
