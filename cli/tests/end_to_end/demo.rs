//! `weft demo`: the first thing that a newcomer sees.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{World, example};

const CLEAN_WITHIN: Duration = Duration::from_secs(2);
const SERVICES: [&str; 6] = ["cache", "cart", "catalog", "inventory", "payments", "web"];

#[test]
fn the_demo_ends_by_itself_with_every_request_answered_over_mutual_tls() {
    let world = World::new();
    let output = world.weft(&["demo", "--duration", "5s", "-o", "json"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    let services = result["services"].as_array().expect("services");
    let names: Vec<&str> = services.iter().filter_map(|service| service["name"].as_str()).collect();
    assert_eq!(names, SERVICES, "{result}");
    for service in services {
        assert!(service["requests"].as_u64() > Some(0), "{service}");
        assert_eq!(service["success_rate"], 1.0, "{service}\n{error}");
        assert_eq!(service["mtls_share"], 1.0, "{service}");
        assert!(service["rps"].as_f64() > Some(0.0), "{service}");
        let ms = |name: &str| service[name].as_f64().expect("a latency");
        assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p95_ms"), "{service}");
        assert!(ms("p95_ms") <= ms("p99_ms"), "{service}");
    }
    assert_eq!(result["proxies"], 11);
    assert!(result["ready_ms"].as_u64() > Some(0));
    world.assert_clean_within(CLEAN_WITHIN);
}

#[test]
fn a_demo_that_is_killed_or_interrupted_leaves_nothing_behind() {
    for signal in [Signal::KILL, Signal::INT] {
        let world = World::new();
        let mut demo = world.start(&["demo"]);
        demo.says("The shop is up");
        demo.signal(signal);
        let ended_well = demo.ends_within(CLEAN_WITHIN);
        assert_eq!(ended_well, signal == Signal::INT);
        world.assert_clean_within(CLEAN_WITHIN);
    }
}

#[test]
fn the_demo_s_file_runs_by_weft_up_as_well() {
    let world = World::new();
    let run = world.start(&["up", &example("shop.yaml")]);
    run.says("all 11 replicas are ready");
}

#[test]
fn json_without_an_end_is_refused_with_what_to_type() {
    let world = World::new();
    let output = world.weft(&["demo", "-o", "json"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("--duration 15s"), "{error}");
}
