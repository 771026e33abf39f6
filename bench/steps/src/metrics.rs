//! What a sidecar counts of one request: that it is on its way, and how it ended.

use std::{hint::black_box, time::Duration};

use weft_proxy::telemetry::{Direction, Metrics, RequestOutcome, TlsState};

/// Records a request so often.
pub(crate) fn run(times: usize) {
    let metrics = Metrics::new();
    let traffic = metrics.traffic(Direction::Outbound, "shop/cart:80");
    for number in 0..times {
        let in_flight = black_box(&traffic).begin();
        traffic.request(black_box(&RequestOutcome {
            status: 200,
            grpc_status: None,
            reason: None,
            duration: Duration::from_micros(100 + 37 * (number as u64 % 1000)),
            tls: TlsState::Mutual,
        }));
        drop(in_flight);
    }
}
