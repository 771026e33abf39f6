//! Which callers' breakers leave an endpoint alone, in words.

use std::time::Duration;

use weft_proto::api::EndpointStatus;

use crate::output;

/// `shop/web/0 (consecutive-failures, 4s left)`, or `3 callers (probe, success-rate; up to 12s left)`; empty where none
/// does.
pub(crate) fn in_words(endpoint: &EndpointStatus) -> String {
    let mut causes: Vec<&str> =
        endpoint.ejections.iter().map(|ejection| ejection.cause.as_str()).collect();
    causes.sort_unstable();
    causes.dedup();
    let causes = causes.join(", ");
    let longest = endpoint.ejections.iter().map(|ejection| ejection.left_ms).max().unwrap_or(0);
    let left = match u64::try_from(longest) {
        Ok(0) | Err(_) => "being tried out".to_owned(),
        // Rounded up: what is left is never shown as nothing.
        Ok(millis) => {
            format!("{} left", output::span(Duration::from_secs(millis.div_ceil(1_000))))
        }
    };
    match (endpoint.ejected_by, endpoint.ejections.as_slice()) {
        (0, _) => String::new(),
        (1, [one]) => format!("{}/{} ({causes}, {left})", one.workload, one.instance),
        (count, _) if longest > 0 => format!("{count} callers ({causes}; up to {left})"),
        (count, _) => format!("{count} callers ({causes}; {left})"),
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::api::EjectionStatus;

    use super::*;

    fn ejected(ejections: &[(&str, i64)]) -> EndpointStatus {
        let ejection = |(cause, left_ms): &(&str, i64)| EjectionStatus {
            workload: "shop/web".into(),
            instance: "0".into(),
            cause: (*cause).to_owned(),
            since: 0,
            left_ms: *left_ms,
        };
        EndpointStatus {
            ejected_by: u32::try_from(ejections.len()).expect("few"),
            ejections: ejections.iter().map(ejection).collect(),
            ..EndpointStatus::default()
        }
    }

    #[test]
    fn who_leaves_an_endpoint_alone_and_for_how_long_is_one_text() {
        for (ejections, text) in [
            (&[][..], ""),
            (&[("success-rate", 3_001)], "shop/web/0 (success-rate, 4s left)"),
            (&[("success-rate", 0)], "shop/web/0 (success-rate, being tried out)"),
            (
                &[("success-rate", 0), ("failure-percent", 61_000), ("success-rate", 1)],
                "3 callers (failure-percent, success-rate; up to 1m1s left)",
            ),
            (&[("probe", 0), ("probe", 0)], "2 callers (probe; being tried out)"),
        ] {
            assert_eq!(in_words(&ejected(ejections)), text);
        }
    }
}
