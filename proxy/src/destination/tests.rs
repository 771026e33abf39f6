//! A name that crosses the mesh's border while views of it are held.

use std::time::Duration;

use clap::Parser;
use weft_proto::Port;

use super::*;
use crate::{
    config::Config,
    discovery::{InboundPorts, MeshScope, OutsideScope},
    http::{h1, h2},
    identity::Identity,
    tls::MutualTls,
    worker,
};

const NAME: &str = "10.0.0.1:80";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

fn destinations() -> (Destinations, Directory) {
    let command = Command::try_parse_from(["weft-proxy", "--workload", "shop/web"]);
    let config = command.expect("good flags").config;
    let mesh = MeshScope {
        trust_domain: weft_proto::TrustDomain::default(),
        ranges: vec![("10.0.0.0".parse().expect("an address"), 8)],
        suffixes: Vec::new(),
        namespaces: Vec::new(),
        outside: OutsideScope::default(),
    };
    let directory = Directory::fixed(mesh, InboundPorts::default());
    let metrics = Metrics::new();
    let tls = MutualTls::new(Identity::default(), Duration::from_secs(1), metrics.tls());
    let (http1, http2) = (h1::ClientSettings::new(&config), h2::ClientSettings::new(&config));
    let dialer = Dialer::new(tls, &config.timeouts, &config.pool, http1, http2, &metrics);
    let destinations = Destinations::new(
        directory.clone(),
        Rc::new(dialer),
        metrics,
        config.pool.clone(),
        &config.timeouts,
        Tasks::default(),
    );
    (destinations, directory)
}

fn endpoint() -> Destination {
    let port = Port::new(80).expect("a port");
    let endpoint = Endpoint::plain(NAME.parse().expect("an address"), port);
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.endpoints.push(Arc::new(endpoint));
    destination
}

async fn found_in_mesh(destinations: &Destinations) -> Rc<Service> {
    match destinations.find(NAME).await {
        Ok(Found::Mesh(service)) => service,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_view_of_what_left_the_mesh_is_not_found_again() {
    let test = async {
        let (destinations, directory) = destinations();
        directory.pin(NAME, Resolution::Mesh(Arc::new(endpoint())));
        let first = found_in_mesh(&destinations).await;
        assert!(!first.has_left());
        assert_eq!((&*first.name, first.snapshot().destination.endpoints.len()), (NAME, 1));

        directory.pin(NAME, Resolution::Outside);
        assert!(first.has_left());
        assert!(first.snapshot().destination.endpoints.is_empty());
        assert!(matches!(destinations.find(NAME).await, Ok(Found::Outside)));

        directory.pin(NAME, Resolution::Mesh(Arc::new(endpoint())));
        assert!(!first.has_left(), "who holds it may go on");
        assert_eq!(found_in_mesh(&destinations).await.snapshot().destination.endpoints.len(), 1);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_view_of_what_joined_the_mesh_leads_nowhere_in_plain() {
    let test = async {
        let (destinations, directory) = destinations();
        directory.pin(NAME, Resolution::Outside);
        assert!(matches!(destinations.find(NAME).await, Ok(Found::Outside)));
        let outside = destinations.keep_outside(NAME, endpoint(), None);
        assert!(!outside.has_left());
        assert!(destinations.kept(NAME).is_some());

        for joined in [
            Resolution::Mesh(Arc::new(Destination::empty("shop/cart:80".into()))),
            Resolution::NotFound,
            Resolution::Pending,
        ] {
            directory.pin(NAME, joined);
            assert!(outside.has_left());
            directory.pin(NAME, Resolution::Outside);
            assert!(!outside.has_left());
        }
        assert_eq!(outside.snapshot().destination.endpoints.len(), 1, "still where it was");
        // While a name is being resolved, it may join the mesh.
        directory.pin(NAME, Resolution::NotFound);
        assert!(destinations.keep_outside(NAME, endpoint(), None).has_left());
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_name_that_nobody_has_any_more_has_no_endpoints_and_stays_the_meshs() {
    let test = async {
        let (destinations, directory) = destinations();
        directory.pin(NAME, Resolution::Mesh(Arc::new(endpoint())));
        let held = found_in_mesh(&destinations).await;
        directory.pin(NAME, Resolution::NotFound);
        assert!(!held.has_left());
        assert!(held.snapshot().destination.endpoints.is_empty());
    };
    worker::run(test).expect("a runtime");
}
