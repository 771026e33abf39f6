//! Under which names sidecars find the control plane: the same in its certificate and in what injected pods are told.

use std::net::SocketAddr;

use crate::config::Config;

/// The names that stand in the serving certificate.
pub(super) fn reached_at(config: &Config, in_cluster: bool, discovery: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if in_cluster {
        names.push(service_name(config));
    }
    if !discovery.ip().is_unspecified() && !discovery.ip().is_loopback() {
        names.push(discovery.ip().to_string());
    }
    names.extend(config.advertise.iter().cloned());
    names
}

/// The Service in front of the discovery port, as injected sidecars are told.
pub(super) fn service_name(config: &Config) -> String {
    format!("weft-control-plane.{}.svc", config.namespace)
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
    fn in_a_cluster_the_certificate_names_the_service_of_its_own_namespace() {
        let line = ["weft", "--namespace=mesh", "--advertise=mesh.example.org"];
        let config = Line::try_parse_from(line).unwrap().config;
        let names = reached_at(&config, true, "[::]:4480".parse().unwrap());
        assert!(names.contains(&"weft-control-plane.mesh.svc".to_owned()), "{names:?}");
        assert!(names.contains(&"mesh.example.org".to_owned()), "{names:?}");
        assert!(!names.contains(&"::".to_owned()), "{names:?}");
        let names = reached_at(&config, false, "192.0.2.1:4480".parse().unwrap());
        assert!(names.contains(&"192.0.2.1".to_owned()), "{names:?}");
        assert!(!names.iter().any(|name| name.ends_with(".svc")), "{names:?}");
    }
}
