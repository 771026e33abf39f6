//! Which registration an operator's object allows. A sidecar proves its identity by its certificate; what
//! it serves, and under which name, only a `Workload` object says.

use std::collections::BTreeSet;

use weft_proto::{Port, SpiffeId, WorkloadName, names::is_subdomain};

use super::{Index, endpoint::identity};
use crate::model::{RegisteredPort, Registration, Resource, WorkloadSpec};

/// Why a registration is not allowed: names the object, the field and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody said that there is such a workload.
    #[error("Workload {workload} does not exist: apply one, or correct the workload's name")]
    NoWorkload {
        /// Its name.
        workload: WorkloadName,
    },
    /// The workload acts as another service account.
    #[error(
        "Workload {workload}: spec.serviceAccount allows {allowed}, but the sidecar presents {presented}"
    )]
    WrongIdentity {
        /// Its name.
        workload: WorkloadName,
        /// Whom the object allows.
        allowed: String,
        /// Who came.
        presented: SpiffeId,
    },
    /// Not a name.
    #[error(
        "Workload {workload}: {instance:?} is no instance's name: use lower-case letters, digits, '-' and '.'"
    )]
    BadInstance {
        /// Its name.
        workload: WorkloadName,
        /// What the sidecar calls itself.
        instance: String,
    },
    /// The workload has no such port.
    #[error("Workload {workload}: spec.ports has no port {name:?}: it has {known}")]
    NoPort {
        /// Its name.
        workload: WorkloadName,
        /// The port that was registered.
        name: String,
        /// The ports that there are.
        known: String,
    },
    /// The workload has the port under another number.
    #[error(
        "Workload {workload}: port {name:?} is {allowed}, but the sidecar registers {presented}"
    )]
    WrongPort {
        /// Its name.
        workload: WorkloadName,
        /// The port's name.
        name: String,
        /// What the object says.
        allowed: Port,
        /// What was registered.
        presented: Port,
    },
    /// Two entries for one port.
    #[error("Workload {workload}: port {name:?} is registered twice")]
    Twice {
        /// Its name.
        workload: WorkloadName,
        /// The port's name.
        name: String,
    },
    /// Two ports under one number: which of them is meant by it?
    #[error(
        "Workload {workload}: port {name:?} is {number}, but so is another port that the sidecar registers"
    )]
    SameNumber {
        /// Its name.
        workload: WorkloadName,
        /// The second port's name.
        name: String,
        /// The number of both.
        number: Port,
    },
    /// Nobody could dial that.
    #[error(
        "Workload {workload}: port {name:?} is registered at {address}: use an address that others can dial"
    )]
    NoAddress {
        /// Its name.
        workload: WorkloadName,
        /// The port's name.
        name: String,
        /// What was registered.
        address: std::net::SocketAddr,
    },
}

impl Index {
    /// Whether an operator's object allows this registration.
    ///
    /// # Errors
    /// Says what the object allows instead.
    pub fn check_registration(&self, registration: &Registration) -> Result<(), Refusal> {
        let name = &registration.key.workload;
        let workload = self.check_identity(name, &registration.spiffe_id)?;
        if !is_subdomain(&registration.key.instance) {
            let instance = registration.key.instance.to_string();
            return Err(Refusal::BadInstance { workload: name.clone(), instance });
        }
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for port in &registration.ports {
            if !names.insert(port.name.as_str()) {
                return Err(Refusal::Twice { workload: name.clone(), name: port.name.clone() });
            }
            if !numbers.insert(port.app_port) {
                let (workload, name) = (name.clone(), port.name.clone());
                return Err(Refusal::SameNumber { workload, name, number: port.app_port });
            }
            check_port(name, workload, port)?;
        }
        Ok(())
    }

    /// Whether an operator's object lets this identity act as this workload.
    ///
    /// # Errors
    /// Says whom the object allows instead.
    pub fn check_identity(
        &self,
        name: &WorkloadName,
        presented: &SpiffeId,
    ) -> Result<&Resource<WorkloadSpec>, Refusal> {
        let workload = self
            .workloads
            .get(name)
            .ok_or_else(|| Refusal::NoWorkload { workload: name.clone() })?;
        let allowed = identity(name, workload, &self.trust_domain);
        if allowed.as_ref() == Some(presented) {
            return Ok(workload);
        }
        Err(Refusal::WrongIdentity {
            workload: name.clone(),
            allowed: allowed.map_or_else(|| "nobody".to_owned(), |id| id.to_string()),
            presented: presented.clone(),
        })
    }
}

fn check_port(
    name: &WorkloadName,
    workload: &Resource<WorkloadSpec>,
    port: &RegisteredPort,
) -> Result<(), Refusal> {
    let ports = workload.spec.ports();
    let Some(declared) = ports.iter().find(|declared| declared.name == port.name) else {
        let known: Vec<String> = ports.iter().map(|port| format!("{:?}", port.name)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Refusal::NoPort { workload: name.clone(), name: port.name.clone(), known });
    };
    if let Some(allowed) = declared.port
        && allowed != port.app_port
    {
        return Err(Refusal::WrongPort {
            workload: name.clone(),
            name: port.name.clone(),
            allowed,
            presented: port.app_port,
        });
    }
    if port.address.ip().is_unspecified()
        || port.address.ip().is_multicast()
        || port.address.port() == 0
    {
        let (address, port) = (port.address, port.name.clone());
        return Err(Refusal::NoAddress { workload: name.clone(), name: port, address });
    }
    Ok(())
}
