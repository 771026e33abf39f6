//! web calls catalog, again and again, through two sidecars.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use serde_json::{Value, json};
use weft_tests::apps::Http;

use super::{
    site::{Call, Load, Site},
    world::World,
};

/// How web calls where nothing else is said.
pub(crate) const LOAD: Load = Load {
    uri: "http://catalog/",
    version: Http::One,
    connections: 1,
    pause: Duration::from_millis(200),
};

/// A scenario's shop.
pub(crate) struct Shop {
    pub(crate) world: World,
    /// The caller's host.
    pub(crate) web: Rc<Site>,
    /// The first host that serves catalog.
    pub(crate) catalog: Rc<Site>,
}

/// How a shop is set up.
pub(crate) struct Plan<'a> {
    /// The simulated time's grain.
    pub(crate) step: Duration,
    /// How web calls.
    pub(crate) load: Load,
    /// Further settings of the control plane.
    pub(crate) control_plane: &'a [&'a str],
    /// Further settings of web's sidecar.
    pub(crate) web: &'a [&'a str],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { step: Duration::from_millis(2), load: LOAD, control_plane: &[], web: &[] }
    }
}

impl Shop {
    /// A shop in which one host serves catalog, and web has been answered.
    pub(crate) fn open(seed: u64, plan: &Plan<'_>) -> Self {
        let mut world = World::new(seed, plan.step, &objects());
        world.start_control_plane(&["shop/web", "shop/catalog"], plan.control_plane);
        let catalog = world.start_server("catalog-1", "shop/catalog");
        let web = world.start_client("web", "shop/web", plan.load, plan.web);
        let answered = || web.calls().last().is_some_and(Call::is_answered);
        world.run_until("the first answer", Duration::from_secs(30), answered);
        Self { world, web, catalog }
    }

    /// One more host that serves catalog.
    pub(crate) fn add_catalog(&mut self, host: &'static str) {
        self.world.start_server(host, "shop/catalog");
    }

    /// The calls since then that no application answered.
    pub(crate) fn failures_since(&self, since: Duration) -> Vec<Call> {
        let calls = self.web.calls_since(since).into_iter();
        calls.filter(|call| !call.is_answered()).collect()
    }

    /// Calls were made since then, and all of them were answered.
    pub(crate) fn assert_no_failure_since(&self, since: Duration) {
        let calls = self.web.calls_since(since);
        let failed: Vec<_> = calls.iter().filter(|call| !call.is_answered()).collect();
        assert!(!calls.is_empty() && failed.is_empty(), "of {}: {failed:?}", calls.len());
    }

    /// Whether a host's application ever answered.
    pub(crate) fn answered_by(&self, host: &str) -> bool {
        self.web.calls().iter().any(|call| call.app == host)
    }

    /// Lets time pass until a host's application answers a call made from now on.
    pub(crate) fn run_until_answered_by(&mut self, host: &str, within: Duration) {
        let (web, now) = (self.web.clone(), self.world.now());
        self.world.run_until(&format!("an answer of {host}"), within, || {
            web.calls().last().is_some_and(|call| call.at >= now && call.app == host)
        });
    }

    /// How many updates web's sidecar took from the control plane, by kind of resource.
    pub(crate) fn updates(&mut self) -> BTreeMap<String, u64> {
        let lines = self.world.metrics(&self.web, "weft_discovery_updates_total");
        let of_line = |line: &String| {
            let (labels, count) = line.split_once("\",answer=\"ack\"} ")?;
            let (_, kind) = labels.split_once("kind=\"")?;
            Some((kind.to_owned(), count.parse().ok()?))
        };
        lines.iter().map(|line| of_line(line).expect("every update was taken")).collect()
    }
}

fn objects() -> [Value; 2] {
    let workload = |name: &str, spec: Value| {
        let metadata = json!({"namespace": "shop", "name": name});
        json!({"apiVersion": "weft.dev/v1alpha1", "kind": "Workload", "metadata": metadata, "spec": spec})
    };
    let served = json!([{"servicePort": 80}]);
    [
        workload("web", json!({"serviceAccount": "web"})),
        workload(
            "catalog",
            json!({"service": "catalog", "serviceAccount": "catalog", "ports": served}),
        ),
    ]
}
