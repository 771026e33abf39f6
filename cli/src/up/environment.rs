//! What an app is told by its environment: its port, its sidecar, its upstreams, who it is. Pure.

use std::collections::BTreeMap;

use super::{expand::expand, plan::ReplicaPlan, ports::SidecarPorts};

/// Destinations that are never asked of the sidecar: the app's own machine. An IPv6 address stands without
/// brackets: httpx makes a URL of each entry, and refuses to start with one that is none.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// An app's command and variables, with every `$(NAME)` replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) command: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
}

/// What one replica's app is started with. `app_ports` stand in the order of the plan's; `weft` is this
/// binary.
pub(crate) fn environment(
    plan: &ReplicaPlan,
    app_ports: &[u16],
    sidecar: &SidecarPorts,
    weft: &str,
) -> Environment {
    let mut variables = own(plan, weft);
    variables.extend(ports(plan, app_ports));
    variables.extend(proxy(sidecar));
    variables.extend(upstreams(plan, sidecar));
    let mut known: BTreeMap<String, String> = variables.iter().cloned().collect();
    // As in Kubernetes, a variable may refer to those before it.
    for (name, value) in &plan.env {
        let value = expand(value, |name| known.get(name).cloned());
        known.insert(name.clone(), value.clone());
        variables.push((name.clone(), value));
    }
    let command =
        plan.command.iter().map(|word| expand(word, |name| known.get(name).cloned())).collect();
    Environment { command, variables }
}

fn own(plan: &ReplicaPlan, weft: &str) -> Vec<(String, String)> {
    let mut variables = vec![
        ("WEFT_BIN".into(), weft.to_owned()),
        ("WEFT_NAMESPACE".into(), plan.name.namespace.clone()),
        ("WEFT_WORKLOAD".into(), plan.name.full_workload()),
        ("WEFT_INSTANCE".into(), plan.name.index.to_string()),
        ("WEFT_SERVICE_ACCOUNT".into(), plan.service_account.clone()),
    ];
    if let Some(service) = &plan.service {
        variables.push(("WEFT_SERVICE".into(), service.clone()));
    }
    variables
}

fn ports(plan: &ReplicaPlan, app_ports: &[u16]) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    // The first port is PORT as well, whatever its name.
    if let Some(first) = app_ports.first() {
        variables.push(("PORT".into(), first.to_string()));
    }
    let named = plan.ports.iter().zip(app_ports);
    variables.extend(
        named
            .filter(|(planned, _)| planned.env != "PORT")
            .map(|(planned, port)| (planned.env.clone(), port.to_string())),
    );
    variables
}

/// Clients read one spelling or the other.
fn proxy(sidecar: &SidecarPorts) -> Vec<(String, String)> {
    let proxy = format!("http://{}", sidecar.outbound);
    let pairs = [("http_proxy", proxy.as_str()), ("no_proxy", NO_PROXY)];
    pairs
        .iter()
        .flat_map(|(name, value)| {
            [((*name).to_owned(), (*value).to_owned()), (name.to_uppercase(), (*value).to_owned())]
        })
        .collect()
}

fn upstreams(plan: &ReplicaPlan, sidecar: &SidecarPorts) -> Vec<(String, String)> {
    let address = |destination: &str| sidecar.upstreams.get(destination);
    plan.upstreams
        .iter()
        .filter_map(|up| Some((up.env.clone(), address(&up.destination)?.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{
        super::plan::{PlannedPort, PlannedUpstream, ReplicaName},
        *,
    };

    fn plan() -> ReplicaPlan {
        let port = |name: &str, env: &str| PlannedPort {
            name: name.into(),
            number: None,
            env: env.into(),
        };
        ReplicaPlan {
            name: ReplicaName { namespace: "shop".into(), workload: "cart".into(), index: 1 },
            service: Some("cart".into()),
            service_account: "cart".into(),
            command: ["$(WEFT_BIN)", "--port=$(PORT_ADMIN)", "$(LATER)", "$$(PORT)"]
                .map(Into::into)
                .into(),
            env: vec![
                ("EARLY".into(), "$(LATER)".into()),
                ("LATER".into(), "http://127.0.0.1:$(PORT)".into()),
                ("BOTH".into(), "$(LATER)/x".into()),
            ],
            working_dir: PathBuf::new(),
            ports: vec![port("http", "PORT_HTTP"), port("admin", "PORT_ADMIN")],
            upstreams: vec![PlannedUpstream {
                destination: "inventory.shop:50051".into(),
                local_port: None,
                env: "INVENTORY_ADDR".into(),
            }],
            probe: None,
            zone: String::new(),
        }
    }

    #[test]
    fn an_app_learns_its_ports_its_sidecar_and_its_upstreams() {
        let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let sidecar = SidecarPorts {
            outbound: address(1),
            inbound: address(2),
            admin: address(3),
            upstreams: BTreeMap::from([("inventory.shop:50051".into(), address(4))]),
        };
        let environment = environment(&plan(), &[8080, 9090], &sidecar, "/bin/weft");
        let value = |name: &str| {
            let found = environment.variables.iter().rfind(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        for (name, expected) in [
            ("PORT", "8080"),
            ("PORT_HTTP", "8080"),
            ("PORT_ADMIN", "9090"),
            ("http_proxy", "http://127.0.0.1:1"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("NO_PROXY", NO_PROXY),
            ("INVENTORY_ADDR", "127.0.0.1:4"),
            ("WEFT_WORKLOAD", "shop/cart"),
            ("WEFT_INSTANCE", "1"),
            ("EARLY", "$(LATER)"),
            ("BOTH", "http://127.0.0.1:8080/x"),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        let words = ["/bin/weft", "--port=9090", "http://127.0.0.1:8080", "$(PORT)"];
        assert_eq!(environment.command, words);
    }

    #[test]
    fn no_proxy_holds_nothing_but_names_and_bare_addresses() {
        for entry in NO_PROXY.split(',') {
            let is_address = entry.parse::<std::net::IpAddr>().is_ok();
            assert!(is_address || weft_proto::names::is_label(entry), "{entry}");
        }
    }
}
