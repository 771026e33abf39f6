//! Every annotation with values that are right and values that are not, as tables.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect()
}

fn of_pod(name: &str, value: &str) -> Result<PodSettings, Vec<FieldError>> {
    PodSettings::parse(&map(&[(name, value)]), &BTreeMap::new())
}

/// A right value of each setting.
const RIGHT: &[(&str, &str)] = &[
    ("skip-inbound-ports", "22,8000-8100"),
    ("skip-outbound-ports", ""),
    ("skip-inbound-cidrs", "10.0.0.0/8, fd00::/8"),
    ("skip-outbound-cidrs", "169.254.169.254/32"),
    ("opaque-ports", "1-1000"),
    ("permissive-ports", "all"),
    ("proxy-cpu-request", "10m"),
    ("proxy-cpu-limit", "1"),
    ("proxy-memory-request", "32Mi"),
    ("proxy-memory-limit", "1Gi"),
    ("log-level", "weft_proxy=debug,info"),
    ("access-log", "true"),
    ("drain-time", "45s"),
    ("sidecar", "classic"),
    ("proxy-image", "registry.example:5000/weft/proxy:0.1@sha256:0123"),
];

#[test]
fn every_setting_of_the_table_is_read_and_changes_something() {
    let mut named: Vec<_> = TABLE.iter().map(|setting| setting.name).collect();
    let mut tried: Vec<_> = RIGHT.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    tried.sort_unstable();
    assert_eq!(named, tried);
    for (name, value) in RIGHT {
        let settings = of_pod(name, value).unwrap();
        assert_eq!(settings == PodSettings::default(), value.is_empty(), "{name}");
    }
}

#[test]
fn values_are_read_as_they_are_meant() {
    let settings = PodSettings::parse(&map(RIGHT), &BTreeMap::new()).unwrap();
    let port = |number| Port::new(number).unwrap();
    assert!(settings.skip_inbound_ports.contains(port(8050)));
    assert!(!settings.skip_inbound_ports.contains(port(23)));
    assert_eq!(settings.skip_inbound_cidrs.len(), 2);
    assert_eq!(settings.opaque_ports.count(), 1000);
    assert_eq!(settings.permissive_ports, PermissivePorts::All);
    assert!(settings.permissive_ports.contains(port(1)));
    assert_eq!(settings.cpu_request.unwrap().as_str(), "10m");
    assert_eq!(settings.drain_time, Some(Duration::from_secs(45)));
    assert_eq!(settings.access_log, Some(true));
    assert_eq!(settings.sidecar, Sidecar::Classic);
}

#[test]
fn a_mistake_is_refused_by_its_annotation_with_what_is_right() {
    for (name, value, right) in [
        ("skip-inbound-ports", "ssh", "22,8000-8100"),
        ("skip-outbound-ports", "0", "from 1 to 65535"),
        ("skip-inbound-cidrs", "10.0.0.0", "ADDRESS/BITS"),
        ("skip-outbound-cidrs", "10.0.0.1/8", "first address"),
        ("opaque-ports", "1-1001", "at most 1000"),
        ("permissive-ports", "ALL", "\"all\""),
        ("permissive-ports", "1-65535", "\"all\""),
        ("proxy-cpu-request", "a lot", "100m"),
        ("proxy-cpu-limit", "", "100m"),
        ("proxy-memory-request", "64MB", "64Mi"),
        ("proxy-memory-limit", "-1", "64Mi"),
        ("log-level", "verbose", "debug"),
        ("log-level", "=info", "TARGET=LEVEL"),
        ("access-log", "yes", "\"true\" or \"false\""),
        ("drain-time", "30", "30s"),
        ("sidecar", "Native", "\"native\" or \"classic\""),
        ("proxy-image", "a b", "REGISTRY/NAME:TAG"),
        ("proxy-image", "", "REGISTRY/NAME:TAG"),
        ("inject", "true", "\"enabled\" or \"disabled\""),
        ("workload", "Cart", "lower-case"),
        ("skip-inbound-port", "22", "skip-inbound-ports"),
        ("", "22", "is no setting"),
    ] {
        let errors = of_pod(name, value).unwrap_err();
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert_eq!(errors[0].field, format!("metadata.annotations[weft.dev/{name}]"));
        assert!(errors[0].message.contains(right), "{name}: {}", errors[0].message);
    }
}

#[test]
fn every_mistake_is_named_not_only_the_first() {
    let pod = map(&[("sidecar", "x"), ("unknown", "x"), ("drain-time", "x")]);
    let errors = PodSettings::parse(&pod, &map(&[("access-log", "x")])).unwrap_err();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors[0].field.starts_with("the namespace's metadata.annotations"), "{errors:?}");
}

#[test]
fn a_pods_word_replaces_its_namespaces() {
    let namespace = map(&[("skip-outbound-ports", "3306"), ("drain-time", "5s")]);
    let settings = PodSettings::parse(&map(&[("skip-outbound-ports", "")]), &namespace).unwrap();
    assert!(settings.skip_outbound_ports.is_empty());
    assert_eq!(settings.drain_time, Some(Duration::from_secs(5)));
}

#[test]
fn a_request_above_its_limit_is_refused() {
    let pod = map(&[("proxy-memory-request", "1Gi"), ("proxy-memory-limit", "512Mi")]);
    let errors = PodSettings::parse(&pod, &BTreeMap::new()).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "metadata.annotations[weft.dev/proxy-memory-request]: \"1Gi\" is more than the limit \
         \"512Mi\": use at most that"
    );
}

#[test]
fn what_the_injector_writes_stands_on_pods_and_not_on_namespaces() {
    for name in ["injected", "workload", "replaced"] {
        assert_eq!(of_pod(name, "x"), Ok(PodSettings::default()), "{name}");
        let refused = PodSettings::parse(&BTreeMap::new(), &map(&[(name, "x")]));
        assert!(refused.is_err(), "{name}");
    }
    let refused = PodSettings::parse(&BTreeMap::new(), &map(&[("inject", "enabled")])).unwrap_err();
    assert!(refused[0].message.contains("label"), "{refused:?}");
}

#[test]
fn other_annotations_are_none_of_our_business() {
    let pod = BTreeMap::from([("example.com/weft.dev".to_owned(), "x".to_owned())]);
    assert_eq!(PodSettings::parse(&pod, &pod), Ok(PodSettings::default()));
}

#[test]
fn a_mistake_on_a_pod_that_runs_takes_nothing_from_its_other_settings() {
    let annotations = map(&[
        ("skip-inbound-ports", "9000"),
        ("opaque-ports", "every one"),
        ("no-such-thing", ""),
        ("permissive-ports", "all"),
    ]);
    let settings = PodSettings::of_running(&annotations);
    assert!(settings.skip_inbound_ports.contains(Port::new(9000).unwrap()));
    assert!(settings.permissive_ports.is_all());
    assert_eq!(settings.opaque_ports, PortRanges::default());
}
