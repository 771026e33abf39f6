//! Commands that end at once, with and without a control plane.

use std::path::Path;

use crate::support::{World, eventually};

#[test]
fn without_anything_running_every_command_says_what_to_do() {
    let world = World::new();
    assert!(world.weft_ok(&[]).contains("weft demo"));
    for arguments in [
        &["get", "services"][..],
        &["proxies"],
        &["endpoints", "shop/cart"],
        &["identity", "shop/cart"],
        &["token", "list"],
        &["down"],
        &["apply", "-f", "/nonexistent.yaml"],
        &["up", "/nonexistent.yaml"],
        &["get", "services", "--api", "/nonexistent.sock"],
    ] {
        let output = world.weft(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("error: ") && error.contains(" next: "), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let usage = world.weft(&["up"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(world.run_folders().is_empty());
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line_and_starts_nothing() {
    let world = World::new();
    let file = world.file(
        "bad.yaml",
        "apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {name: cart}\nspec:\n  port: 99999\n",
    );
    let output = world.weft(&["up", file.to_str().expect("text")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("bad.yaml:5: Workload cart") && error.contains("99999"), "{error}");
    assert!(world.run_folders().is_empty());
}

#[test]
fn completions_and_versions_are_printed() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.weft_ok(&["completion", shell]);
        assert!(script.contains("rotate-root"), "{shell}");
        assert!(!script.contains("janitor") && !script.contains("demo-app"), "{shell}");
    }
    assert!(world.weft_ok(&["version"]).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(world.json(&["version", "-o", "json"])["client"], env!("CARGO_PKG_VERSION"));
}

const CART: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec: {service: cart, port: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
";

#[test]
fn objects_and_tokens_are_kept_by_a_control_plane() {
    let world = World::new();
    let state = world.path("state");
    let flag = format!("--state={}", state.display());
    let _control_plane = world.start(&["control-plane", "--discovery-listen=127.0.0.1:0", &flag]);
    eventually("the control plane answers", || {
        world.weft_ok(&["version"]).contains("trust domain")
    });
    let file = world.file("cart.yaml", CART);
    let file = file.to_str().expect("text");

    let dry = world.weft_ok(&["apply", "-f", file, "--dry-run"]);
    assert!(dry.contains("Workload shop/cart created (dry run)"), "{dry}");
    let applied = world.weft_ok(&["apply", "-f", file]);
    assert_eq!(applied, "Workload shop/cart created\nService shop/cart created\n");
    let again = world.weft_ok(&["apply", "-f", file]);
    assert!(again.contains("Service shop/cart unchanged"), "{again}");

    let list = world.weft_ok(&["get", "svc", "-A"]);
    assert!(list.starts_with("NAMESPACE") && list.contains("cart"), "{list}");
    let object = world.json(&["get", "workload/cart", "-n", "shop", "-o", "json"]);
    assert_eq!(object["spec"]["port"], 8080);
    assert!(world.weft_ok(&["get", "Workloads", "-n", "shop", "-o", "yaml"]).contains("items:"));
    let described = world.weft_ok(&["describe", "service", "cart", "-n", "shop"]);
    assert!(described.contains("Conditions:"), "{described}");

    implied_services(&world);
    refusals(&world);
    tokens(&world);

    let deleted = world.weft_ok(&["delete", "-f", file]);
    assert!(deleted.contains("Workload shop/cart deleted"), "{deleted}");
    assert_eq!(world.weft(&["delete", "svc", "cart", "-n", "shop"]).status.code(), Some(1));
}

/// A service without an object of its own is not denied.
fn implied_services(world: &World) {
    let hello = CART.split("---").next().expect("a workload").replace("cart", "hello");
    let file = world.file("hello.yaml", &hello);
    world.weft_ok(&["apply", "-f", file.to_str().expect("text")]);
    for arguments in [&["endpoints"][..], &["endpoints", "-n", "shop"]] {
        let all = world.weft_ok(arguments);
        assert!(all.contains("shop/cart:80") && all.contains("shop/hello:8080"), "{all}");
        assert!(all.contains("no instance"), "{all}");
    }
    let one = world.weft_ok(&["endpoints", "hello", "-n", "shop"]);
    assert!(one.contains("shop/hello:8080") && !one.contains("cart"), "{one}");
    for arguments in [&["get", "svc", "-A"][..], &["describe", "services", "-n", "shop"]] {
        let told = world.weft(arguments);
        let note = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success() && note.contains("shop/hello (by Workload hello)"), "{note}");
    }
    let denied = world.weft(&["describe", "service", "hello", "-n", "shop"]);
    let error = String::from_utf8_lossy(&denied.stderr);
    assert!(error.contains("Workload hello makes it"), "{error}");
    assert!(error.contains("weft endpoints shop/hello"), "{error}");
    let wrong_port = world.weft(&["endpoints", "shop/hello:81"]);
    let error = String::from_utf8_lossy(&wrong_port.stderr);
    assert!(error.contains("shop/hello has no port 81: it has 8080"), "{error}");
    world.weft_ok(&["delete", "-f", file.to_str().expect("text")]);
}

fn refusals(world: &World) {
    let bad = CART.replace("port: 8080", "prot: 8080");
    let bad = world.file("bad.yaml", &bad);
    let output = world.weft(&["apply", "-f", bad.to_str().expect("text")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("Workload shop/cart refused") && error.contains("prot"), "{error}");
    // The other object of the file was taken nevertheless.
    let taken = String::from_utf8_lossy(&output.stdout);
    assert!(taken.contains("Service shop/cart unchanged"), "{taken}");

    for arguments in [
        &["get", "svc", "nobody", "-n", "shop"][..],
        &["get", "nonsense"],
        &["identity", "shop/cart"],
        &["endpoints", "shop/nobody"],
        &["token", "revoke", "nonsense"],
    ] {
        let output = world.weft(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains(" next: "), "{arguments:?}: {error}");
    }
}

fn tokens(world: &World) {
    let secret = world.weft_ok(&["token", "create", "cart", "-n", "shop", "--ttl", "1h"]);
    assert!(!secret.trim().is_empty() && secret.lines().count() == 1, "{secret}");
    let file = world.path("token");
    let made = world.json(&[
        "token",
        "create",
        "cart",
        "-n",
        "shop",
        "-o",
        "json",
        "--to-file",
        file.to_str().expect("text"),
    ]);
    assert_private(&file);
    let count = || world.json(&["token", "list", "-o", "json"]).as_array().map(Vec::len);
    let before = count();
    for taken in [file.to_str().expect("text"), "/nonexistent/token"] {
        let refused = world.weft(&["token", "create", "cart", "-n", "shop", "--to-file", taken]);
        assert_eq!(refused.status.code(), Some(1));
    }
    assert_eq!(count(), before, "what nobody got is not good");
    let id = made["id"].as_str().expect("an id").to_owned();
    assert!(made["token"].is_null(), "the secret stands in the file alone: {made}");
    assert!(world.weft_ok(&["token", "list"]).contains(&id));
    assert!(world.weft_ok(&["token", "revoke", &id]).contains("revoked"));
}

fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
