//! The end of a demo that ends by itself: one JSON object, or a table, of everything since it was ready.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{table, traffic::Numbers};
use crate::{command::DemoFormat, output};

/// The object that `-o json` prints.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    services: Vec<Service>,
    proxies: usize,
    ready_ms: u64,
    #[serde(skip)]
    numbers: BTreeMap<String, Numbers>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Service {
    name: String,
    requests: u64,
    success_rate: f64,
    rps: f64,
    /// Of opaque TCP: how long connections were open. Null when nothing came.
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    mtls_share: f64,
}

impl Summary {
    pub(super) fn new(numbers: BTreeMap<String, Numbers>, proxies: usize, ready: Duration) -> Self {
        let services = numbers.iter().map(|(name, numbers)| Service {
            name: name.clone(),
            requests: numbers.requests,
            // Of no request, none succeeded.
            success_rate: rounded(numbers.success_rate.unwrap_or_default(), 6),
            rps: rounded(numbers.rps, 2),
            p50_ms: numbers.p50_ms.map(|ms| rounded(ms, 3)),
            p95_ms: numbers.p95_ms.map(|ms| rounded(ms, 3)),
            p99_ms: numbers.p99_ms.map(|ms| rounded(ms, 3)),
            mtls_share: rounded(numbers.mtls_share.unwrap_or_default(), 6),
        });
        let services = services.collect();
        let ready_ms = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX);
        Self { services, proxies, ready_ms, numbers }
    }

    pub(super) fn print(&self, format: DemoFormat) -> anyhow::Result<()> {
        match format {
            DemoFormat::Json => output::print(&(serde_json::to_string(self)? + "\n")),
            DemoFormat::Table => {
                output::print("since it was ready:\n")?;
                output::print_table(&table::plain(&self.numbers), "no service was asked")
            }
        }
    }
}

/// To so many decimals; never up to 1 what is less.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).floor() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_promised_form() {
        let numbers = Numbers {
            requests: 3_000_000,
            success_rate: Some(2_999_999.0 / 3_000_000.0),
            rps: 10.0 / 3.0,
            p50_ms: Some(1.23456),
            p95_ms: Some(2.0),
            p99_ms: None,
            mtls_share: Some(1.0),
        };
        let numbers =
            BTreeMap::from([("cart".to_owned(), numbers), ("web".to_owned(), Numbers::default())]);
        let summary = Summary::new(numbers, 11, Duration::from_millis(1_500));
        let json = serde_json::to_string(&summary).expect("JSON");
        assert_eq!(
            json,
            r#"{"services":[{"name":"cart","requests":3000000,"success_rate":0.999999,"rps":3.33,"#
                .to_owned()
                + r#""p50_ms":1.234,"p95_ms":2.0,"p99_ms":null,"mtls_share":1.0},"#
                + r#"{"name":"web","requests":0,"success_rate":0.0,"rps":0.0,"p50_ms":null,"#
                + r#""p95_ms":null,"p99_ms":null,"mtls_share":0.0}],"proxies":11,"ready_ms":1500}"#
        );
    }
}
