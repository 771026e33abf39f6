//! What is said of a service port beside its endpoints: its names, its protocol, and all that callers' sidecars do
//! with requests to it.

use weft_proto::{Port, ServiceName, discovery};

use super::Index;
use crate::model::AppProtocol;

impl Index {
    /// A service port as it travels, without its endpoints.
    pub(super) fn declaration(
        &self,
        name: &ServiceName,
        port: Port,
        port_name: &str,
        protocol: Option<AppProtocol>,
    ) -> discovery::Service {
        discovery::Service {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            port: port.into(),
            port_name: port_name.to_owned(),
            protocol: AppProtocol::to_wire(protocol).into(),
            ..discovery::Service::default()
        }
    }
}
