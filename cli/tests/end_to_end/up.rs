//! `weft up`: services that run, come back, change with their file, and leave nothing behind.

use std::{fs, time::Duration};

use rustix::process::{Signal, kill_process};

use crate::support::{Started, World, eventually, holds_within};

/// What the issue grants for everything to be gone.
const CLEAN_WITHIN: Duration = Duration::from_secs(2);

const SHOP: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: payments, namespace: shop}
spec:
  service: payments
  command: [$(WEFT_BIN), demo-app, payments]
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: sleeper, namespace: shop}
spec:
  command: [sh, -c, 'echo the proxy is $http_proxy; sleep 12345 & exec sleep 54321']
";

fn up(world: &World, text: &str) -> Started {
    let file = world.file("mine.yaml", text);
    world.start(&["up", file.to_str().expect("text")])
}

#[test]
fn services_run_come_back_and_are_stopped_from_another_terminal() {
    let world = World::new();
    let mut run = up(&world, SHOP);
    run.says("all 2 replicas are ready");
    run.says("sleeper-0            | the proxy is http://127.0.0.1:");
    let proxies = world.json(&["proxies", "-o", "json"]);
    assert_eq!(proxies.as_array().map(Vec::len), Some(2), "{proxies}");
    let endpoints = world.weft_ok(&["endpoints", "shop/payments"]);
    assert!(endpoints.contains("shop/payments") && endpoints.contains("ready"), "{endpoints}");
    let identity = world.weft_ok(&["identity", "shop/payments"]);
    assert!(identity.contains("spiffe://weft.local/ns/shop/sa/payments"), "{identity}");

    let output = world.weft(&["delete", "workload", "sleeper", "-n", "shop"]);
    let error = String::from_utf8_lossy(&output.stderr);
    let file = world.path("mine.yaml");
    assert!(error.contains(&format!("stands in {}", file.display())), "{error}");

    let app = world.running("sleep 54321");
    assert_eq!(app.len(), 1);
    kill_process(app[0], Signal::KILL).expect("killed");
    run.says("sleeper-0            | [weft] was killed by signal 9; starting it again in 1s");
    eventually("the app is back", || {
        world.running("sleep 54321").first().is_some_and(|back| *back != app[0])
    });
    eventually("what it had started went with it", || world.running("sleep 12345").len() == 1);

    let stopped = world.weft_ok(&["down"]);
    assert!(stopped.contains("weft up"), "{stopped}");
    assert!(run.ends_within(CLEAN_WITHIN));
    world.assert_clean_within(CLEAN_WITHIN);
}

#[test]
fn a_sidecar_and_the_control_plane_come_back_without_the_app_noticing() {
    let world = World::new();
    let run = up(&world, SHOP);
    run.says("all 2 replicas are ready");
    let app = world.running("sleep 54321");
    for process in ["proxy --workload=shop/sleeper", "control-plane --discovery"] {
        let before = world.running(process);
        assert_eq!(before.len(), 1, "{process}");
        kill_process(before[0], Signal::KILL).expect("killed");
        eventually("it is back", || {
            world.running(process).first().is_some_and(|back| *back != before[0])
        });
        eventually("both sidecars are connected, and payments is ready", || {
            let output = world.weft(&["proxies", "-o", "json"]);
            let proxies: serde_json::Value =
                serde_json::from_slice(&output.stdout).unwrap_or_default();
            let connected = |workload: &str, ready: bool| {
                proxies.as_array().is_some_and(|all| {
                    all.iter().any(|proxy| {
                        proxy["workload"] == workload
                            && proxy["connected"] == true
                            && proxy["ready"] == ready
                    })
                })
            };
            connected("shop/payments", true) && connected("shop/sleeper", false)
        });
    }
    assert_eq!(world.running("sleep 54321"), app);
}

#[test]
fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
    let world = World::new();
    let run = up(&world, SHOP);
    run.says("all 2 replicas are ready");
    let file = world.path("mine.yaml");
    let sleepers = || world.running("sleep 54321").len();

    let payments = world.running("demo-app payments");
    let more = SHOP.replace(
        "sleeper, namespace: shop}\nspec:",
        "sleeper, namespace: shop}\nspec:\n  replicas: 2",
    );
    fs::write(&file, &more).expect("written");
    eventually("a second replica runs", || sleepers() == 2);

    fs::write(&file, more.replace("replicas: 2", "replicsa: 2")).expect("written");
    run.says("mine.yaml:13");
    assert_eq!(sleepers(), 2, "the last good state stays");

    let (payments_only, _) = SHOP.split_once("---").expect("two objects");
    fs::write(&file, payments_only).expect("written");
    eventually("the sleepers are gone", || sleepers() == 0);
    assert_eq!(world.running("demo-app payments"), payments, "what did not change runs on");
}

const TWICE: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: payments}
spec:
  service: payments
  replicas: 2
  command: [$(WEFT_BIN), demo-app, payments]
  env: [{name: EDITION, value: first}]
";

#[test]
fn changed_replicas_are_replaced_one_after_the_other() {
    let world = World::new();
    let run = up(&world, TWICE);
    run.says("all 2 replicas are ready");
    let first = world.running("demo-app payments");
    world.file("mine.yaml", &TWICE.replace("first", "second"));
    let mut fewest = usize::MAX;
    eventually("both are replaced", || {
        let endpoints = world.weft_ok(&["endpoints", "default/payments"]);
        fewest = fewest.min(endpoints.matches(" ready ").count());
        let now = world.running("demo-app payments");
        now.len() == 2 && now.iter().all(|pid| !first.contains(pid))
    });
    assert!(fewest >= 1, "there was a moment without any ready endpoint");
}

/// An app that ignores SIGTERM, with children in its group and in sessions of their own.
const STUBBORN: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: stubborn}
spec:
  replicas: 2
  command: [sh, -c, 'trap \"\" TERM; setsid sleep 777 & sleep 777 & while true; do sleep 777; done']
";

fn stubborn(world: &World) -> Started {
    let run = up(world, STUBBORN);
    eventually("both replicas run with all their children", || {
        world.running("sleep 777").len() == 2 * 4
    });
    run
}

#[test]
fn a_killed_run_leaves_nothing_behind() {
    let world = World::new();
    let mut run = stubborn(&world);
    run.signal(Signal::KILL);
    run.ends_within(CLEAN_WITHIN);
    world.assert_clean_within(CLEAN_WITHIN);
}

#[test]
fn a_run_that_is_killed_while_it_starts_leaves_nothing_behind() {
    let world = World::new();
    // At moments from the first process to the whole mesh.
    for processes in [1, 2, 3, 4, 6, 8] {
        let mut run = up(&world, STUBBORN);
        let begun = || world.processes().len() >= processes;
        assert!(holds_within(Duration::from_secs(30), begun), "{}", run.log());
        run.signal(Signal::KILL);
        run.ends_within(CLEAN_WITHIN);
        world.assert_clean_within(CLEAN_WITHIN);
    }
}

#[test]
fn ctrl_c_leaves_nothing_behind_even_of_apps_that_ignore_it() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let world = World::new();
        let mut run = stubborn(&world);
        run.signal(signal);
        assert!(run.ends_within(CLEAN_WITHIN), "{}", run.log());
        world.assert_clean_within(CLEAN_WITHIN);
    }
}
