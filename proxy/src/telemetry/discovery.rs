//! Metrics of the stream to the control plane.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Of the stream to the control plane.
#[derive(Debug, Default)]
pub struct DiscoveryMetrics {
    connected: Gauge,
    streams: Counter,
    updates: Family<Labels<2>, Counter>,
    subscriptions: Family<Labels<1>, Gauge>,
}

impl DiscoveryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "1 while the stream to the control plane is open";
        registry.register("discovery_connected", help, new.connected.clone());
        let help = "Streams to the control plane that were opened";
        registry.register("discovery_streams", help, new.streams.clone());
        let help = "Updates from the control plane, by kind of resource and answer";
        registry.register("discovery_updates", help, new.updates.clone());
        let help = "Resources subscribed to on demand, by kind";
        registry.register("discovery_subscriptions", help, new.subscriptions.clone());
        new
    }

    /// The stream was opened, or is gone.
    pub fn connected(&self, connected: bool) {
        if connected {
            self.streams.inc();
        }
        self.connected.set(i64::from(connected));
    }

    /// An update was put in force or refused.
    pub fn update(&self, kind: &'static str, accepted: bool) {
        let answer = if accepted { "ack" } else { "nack" };
        self.updates.get_or_create(&[("kind", kind), ("answer", answer)]).inc();
    }

    /// How many destinations and services are subscribed to.
    pub fn subscriptions(&self, targets: usize, services: usize) {
        for (kind, count) in [("target", targets), ("service", services)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.subscriptions.get_or_create(&[("kind", kind)]).set(count);
        }
    }
}
