//! How discovery stands, for readiness, `/config` and the operator.

use serde::Serialize;

/// How discovery stands now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The stream to the control plane is open.
    pub connected: bool,
    /// The control plane's process and version, of the newest stream.
    pub control_plane: Option<String>,
    /// Why the last stream could not be opened or was lost.
    pub last_error: Option<String>,
    /// The eager set has been answered.
    pub mesh: bool,
    /// What this workload serves has been answered.
    pub inbound: bool,
    /// What the control plane says to this workload's registration.
    pub registration: Registration,
}

/// What the control plane says to this workload's registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nothing is registered: no application ports are set.
    #[default]
    None,
    /// No answer yet.
    Awaited,
    /// This workload's endpoints are in the mesh.
    Accepted,
    /// Not allowed, and why.
    Refused(String),
}

impl Status {
    /// What readiness still waits for, one sentence each; nothing when ready. Once ready, a lost control
    /// plane changes nothing: the proxy works with what it has.
    #[must_use]
    pub fn waits_for(&self) -> Vec<String> {
        let mut waits = Vec::new();
        if !(self.connected || self.mesh && self.inbound) {
            waits.push(match &self.last_error {
                Some(error) => format!("the control plane is not reached: {error}"),
                None => "the control plane is not reached yet".to_owned(),
            });
        }
        if !self.mesh {
            waits.push("the control plane has not said what is in the mesh".to_owned());
        }
        if !self.inbound {
            waits.push("the control plane has not said what this workload serves".to_owned());
        }
        match &self.registration {
            Registration::None | Registration::Accepted => {}
            Registration::Awaited => waits.push("the registration is not answered yet".to_owned()),
            Registration::Refused(reason) => {
                waits.push(format!("the registration is refused: {reason}"));
            }
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_was_ready_stays_so_without_the_control_plane() {
        let ready = Status { connected: true, mesh: true, inbound: true, ..Status::default() };
        assert!(ready.waits_for().is_empty());
        assert!(Status { connected: false, ..ready.clone() }.waits_for().is_empty());
        let refused = Registration::Refused("Workload shop/cart: no such object".to_owned());
        let waits = Status { registration: refused, ..ready }.waits_for();
        assert_eq!(waits, ["the registration is refused: Workload shop/cart: no such object"]);
    }

    #[test]
    fn what_is_missing_is_said_with_the_last_error() {
        let status =
            Status { last_error: Some("connection refused".to_owned()), ..Status::default() };
        assert_eq!(
            status.waits_for(),
            [
                "the control plane is not reached: connection refused",
                "the control plane has not said what is in the mesh",
                "the control plane has not said what this workload serves",
            ]
        );
    }
}
