//! The policy of a port as it stands now, for connections that are open.
//!
//! Comes in: what discovery says of this workload's ports, each time it says something new. Goes out: the policy for
//! the next request, at the cost of one load while nothing changed, and whether access to the port is another than it
//! was.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use weft_proto::Port;

use crate::{
    discovery::{InboundPort, InboundPorts, Subscription},
    shared::Shared,
};

/// A port's policy as it stands now.
#[derive(Debug)]
pub struct LivePort {
    port: Port,
    ports: RefCell<Subscription<Option<Arc<InboundPorts>>>>,
    current: RefCell<Rc<InboundPort>>,
    version: Cell<u64>,
}

impl LivePort {
    /// A port, and the policy by which its connection was accepted.
    #[must_use]
    pub fn new(shared: &Shared, port: Port, accepted: InboundPort) -> Self {
        Self {
            port,
            ports: RefCell::new(shared.inbound()),
            current: RefCell::new(Rc::new(accepted)),
            version: Cell::new(0),
        }
    }

    /// The policy now. Of a port that is served no longer the last one: its connections end by themselves.
    #[must_use]
    pub fn now(&self) -> Rc<InboundPort> {
        self.refresh();
        self.current.borrow().clone()
    }

    /// Another number each time that access to the port has changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.refresh();
        self.version.get()
    }

    fn refresh(&self) {
        let mut ports = self.ports.borrow_mut();
        if !ports.has_changed().unwrap_or(false) {
            return;
        }
        let ports = ports.borrow_and_update();
        let Some(port) = ports.as_ref().and_then(|ports| ports.port(self.port)) else { return };
        let mut current = self.current.borrow_mut();
        if current.access != port.access {
            self.version.set(self.version.get() + 1);
        }
        *current = Rc::new(port.clone());
    }
}
