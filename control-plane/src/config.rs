//! The control plane's settings: typed, each from a flag or an environment variable.
//!
//! Defaults suit a laptop. `weft control-plane` flattens them into its own flags.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use weft_proto::{NameError, TrustDomain, names};

use crate::model::{PortMode, duration};

/// All settings of one control plane.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where the objects live
    #[arg(long, env = "WEFT_CP_STORE", value_enum, default_value_t = StoreKind::Dir)]
    pub store: StoreKind,
    /// The control plane's own namespace; with the store `kubernetes` its state lies there in a Secret
    #[arg(long, env = "WEFT_CP_NAMESPACE", default_value = "weft-system")]
    pub namespace: String,
    /// Folder for what must survive a restart: roots, join tokens, the objects' last good state
    #[arg(long = "state", env = "WEFT_CP_STATE", default_value = "weft-state")]
    pub state: PathBuf,
    /// Folder with the objects, as YAML files [default: `objects` in the state folder]
    #[arg(long = "objects", env = "WEFT_CP_OBJECTS")]
    pub objects: Option<PathBuf>,

    /// Where sidecars connect
    #[arg(long, env = "WEFT_CP_DISCOVERY_LISTEN", default_value = "127.0.0.1:4480")]
    pub discovery_listen: SocketAddr,
    /// A name or address that sidecars reach it at, when it is not the one it listens on; repeatable
    #[arg(long = "advertise", env = "WEFT_CP_ADVERTISE", value_delimiter = ',', value_parser = advertised)]
    pub advertise: Vec<String>,
    /// Unix socket of the API for the command line [default: `api.sock`; of `weft control-plane` in
    /// $XDG_RUNTIME_DIR/weft or /tmp/weft-UID, where `weft` looks for it, of `weft-control-plane` in the state
    /// folder]
    #[arg(long, env = "WEFT_CP_API_SOCKET")]
    pub api_socket: Option<PathBuf>,
    /// Where /ready, /live and /metrics are served, plain HTTP; off unless set
    #[arg(long, env = "WEFT_CP_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,

    /// Where the admission webhook is served, HTTPS; needs the store `kubernetes`; off unless set
    #[arg(long, env = "WEFT_CP_WEBHOOK_LISTEN")]
    pub webhook_listen: Option<SocketAddr>,
    /// The image of the sidecars that the webhook injects [default: this version's]
    #[arg(long, env = "WEFT_CP_PROXY_IMAGE")]
    pub proxy_image: Option<String>,

    /// How ports treat traffic from outside the mesh, where neither they nor MeshConfig say
    #[arg(long, env = "WEFT_CP_INBOUND_MODE", value_enum, default_value_t = PortMode::Strict)]
    pub inbound_mode: PortMode,

    /// The trust domain of every identity
    #[arg(long, env = "WEFT_CP_TRUST_DOMAIN", default_value = "weft.local")]
    pub trust_domain: TrustDomain,
    /// How long a sidecar's certificate lives; renewed at two thirds
    #[arg(long, env = "WEFT_CP_SVID_TTL", default_value = "24h", value_parser = life)]
    pub svid_ttl: Duration,
    /// How long a root of its own lives
    #[arg(long, env = "WEFT_CP_ROOT_LIFETIME", default_value = "87600h", value_parser = life)]
    pub root_lifetime: Duration,
    /// How long a new root is announced before it signs, at least
    #[arg(long, env = "WEFT_CP_ROOT_PROPAGATION", default_value = "10s", value_parser = duration)]
    pub root_propagation: Duration,
    /// PEM file of a certificate authority handed in: the signing certificate, those above it, the roots
    #[arg(long, env = "WEFT_CP_CA_CHAIN", requires = "ca_key")]
    pub ca_chain: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, env = "WEFT_CP_CA_KEY", requires = "ca_chain")]
    pub ca_key: Option<PathBuf>,
    /// Write a join token to a file (0600) at the start: NAMESPACE/SERVICE_ACCOUNT=FILE; repeatable
    #[arg(long = "initial-token", env = "WEFT_CP_INITIAL_TOKENS", value_delimiter = ',')]
    pub initial_tokens: Vec<InitialToken>,

    /// From the end of a sidecar's stream to the end of its registration
    #[arg(long, env = "WEFT_CP_REGISTRATION_GRACE", default_value = "10s", value_parser = duration)]
    pub registration_grace: Duration,
    /// After a start, for so long no endpoint is withdrawn whose sidecar has not come back
    #[arg(long, env = "WEFT_CP_SETTLE", default_value = "30s", value_parser = duration)]
    pub settle: Duration,
    /// Subscriptions that one sidecar may have
    #[arg(long, env = "WEFT_CP_MAX_SUBSCRIPTIONS", default_value_t = 10_000)]
    pub max_subscriptions: usize,
}

impl Config {
    /// The objects' folder.
    #[must_use]
    pub fn objects_folder(&self) -> PathBuf {
        self.objects.clone().unwrap_or_else(|| self.state.join("objects"))
    }

    /// The API's socket.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.api_socket.clone().unwrap_or_else(|| self.state.join("api.sock"))
    }
}

/// Where the objects live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// YAML files in a folder.
    Dir,
    /// The Kubernetes API.
    Kubernetes,
}

/// A join token to write to a file at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialToken {
    /// The namespace of the identity.
    pub namespace: String,
    /// The service account of the identity.
    pub service_account: String,
    /// Where the token is written.
    pub file: PathBuf,
}

impl FromStr for InitialToken {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError {
            what: "initial token",
            value: text.to_owned(),
            why: "use NAMESPACE/SERVICE_ACCOUNT=FILE",
        };
        let (identity, file) = text.split_once('=').ok_or_else(error)?;
        let (namespace, account) = identity.split_once('/').ok_or_else(error)?;
        if !names::is_label(namespace) || !names::is_subdomain(account) || file.is_empty() {
            return Err(error());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            file: file.into(),
        })
    }
}

/// The life of a certificate: one that ends at once is none.
fn life(text: &str) -> Result<Duration, String> {
    let life = duration(text)?;
    if life < Duration::from_secs(1) {
        return Err(format!(
            "{text:?} is too short for a certificate's life: use 1s or more, such as 24h"
        ));
    }
    Ok(life)
}

/// A name or an address for the control plane's certificate.
fn advertised(text: &str) -> Result<String, String> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if is_address || names::is_subdomain(&text.to_ascii_lowercase()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name or address: use a DNS name such as mesh.example.org, or an IP address, without a port"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn defaults_suit_a_laptop() {
        let config = Line::try_parse_from(["weft"]).unwrap().config;
        assert_eq!(config.discovery_listen, "127.0.0.1:4480".parse().unwrap());
        assert_eq!(config.svid_ttl, Duration::from_secs(24 * 3600));
        assert_eq!(config.objects_folder(), PathBuf::from("weft-state/objects"));
        assert_eq!(config.api_socket(), PathBuf::from("weft-state/api.sock"));
        assert_eq!(config.admin_listen, None);
    }

    #[test]
    fn an_initial_token_names_its_service_account_and_its_file() {
        let token: InitialToken = "shop/cart=/run/cart.token".parse().unwrap();
        assert_eq!((&*token.namespace, &*token.service_account), ("shop", "cart"));
        assert_eq!(token.file, PathBuf::from("/run/cart.token"));
        for wrong in ["", "shop/cart", "cart=/x", "shop/Cart=/x", "shop/cart="] {
            assert!(wrong.parse::<InitialToken>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_could_not_work_is_refused_with_what_would() {
        for (flag, value, right) in [
            ("--svid-ttl", "1s", ""),
            ("--svid-ttl", "0s", "1s or more"),
            ("--svid-ttl", "999ms", "1s or more"),
            ("--root-lifetime", "0h", "1s or more"),
            ("--advertise", "mesh.example.org,10.0.0.1,fd00::1", ""),
            ("--advertise", "a b", "a DNS name"),
            ("--advertise", "mesh.example.org:4480", "without a port"),
            ("--advertise", "", "a DNS name"),
        ] {
            let error = Line::try_parse_from(["weft", flag, value]).err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error.is_empty(), right.is_empty(), "{flag} {value}: {error}");
            assert!(error.contains(right), "{flag} {value}: {error}");
        }
    }

    #[test]
    fn a_chain_needs_its_key() {
        assert!(Line::try_parse_from(["weft", "--ca-chain", "x.pem"]).is_err());
    }
}
