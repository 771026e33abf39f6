//! Registrations come, go and outlive their streams, on times that are passed in.

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Sink for Told {
    fn registered(&self, registration: &Registration) {
        let said = format!("{} {}", registration.incarnation, registration.ready);
        self.0.lock().unwrap().push(said);
    }
    fn ended(&self, registration: &Registration) {
        self.0.lock().unwrap().push(format!("{} ended", registration.incarnation));
    }
}

impl Told {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn registry() -> (Registry, Arc<Told>) {
    let told = Arc::new(Told::default());
    let config = RegistryConfig { grace: GRACE, settle: SETTLE };
    (Registry::new(config, told.clone(), Instant::now()), told)
}

fn key() -> InstanceKey {
    instance_key("shop/cart", "0").unwrap()
}

fn registration(incarnation: &str) -> Registration {
    Registration {
        key: key(),
        incarnation: incarnation.into(),
        spiffe_id: "spiffe://weft.local/ns/shop/sa/cart".parse().unwrap(),
        ports: vec![RegisteredPort {
            name: String::new(),
            app_port: weft_proto::Port::new(8080).unwrap(),
            address: "127.0.0.1:4143".parse().unwrap(),
        }],
        ready: false,
        detail: String::new(),
        zone: "".into(),
    }
}

/// A stream that has registered its instance and reported it ready.
fn joined(registry: &Registry, stream: u64, incarnation: &str) -> StreamId {
    let stream = StreamId(stream);
    registry.attach(&key(), stream);
    registry.register(stream, registration(incarnation));
    registry.health(stream, &key(), true, "");
    stream
}

#[tokio::test(start_paused = true)]
async fn a_registration_outlives_its_stream_by_the_grace_period() {
    let (registry, told) = registry();
    let stream = joined(&registry, 1, "a");
    let end = Instant::now();
    registry.detach(stream, &key(), end);
    assert_eq!(registry.reap(end + GRACE / 2), Some(end + GRACE));
    assert_eq!(registry.all().len(), 1);
    assert_eq!(registry.reap(end + GRACE), None);
    assert!(registry.all().is_empty());
    assert_eq!(told.all(), ["a false", "a true", "a ended"]);
}

#[tokio::test(start_paused = true)]
async fn an_old_streams_end_and_words_do_not_touch_the_new_ones_registration() {
    let (registry, told) = registry();
    let old = joined(&registry, 1, "a");
    let new = joined(&registry, 2, "b");
    let now = Instant::now();
    registry.detach(old, &key(), now);
    registry.deregister(old, &key());
    registry.health(old, &key(), false, "gone");
    registry.register(old, registration("a"));
    registry.attach(&key(), old);
    assert_eq!(registry.reap(now + GRACE * 2), None);
    let kept = registry.of(&key()).unwrap();
    assert_eq!((&*kept.incarnation, kept.ready), ("b", true));
    registry.deregister(new, &key());
    assert_eq!(registry.of(&key()), None);
    assert_eq!(told.all(), ["a false", "a true", "b false", "b true", "b ended"]);
}

#[tokio::test(start_paused = true)]
async fn a_reconnected_sidecar_keeps_its_health_and_a_restarted_one_reports_anew() {
    let (registry, told) = registry();
    let old = joined(&registry, 1, "a");
    let before = told.all();
    registry.detach(old, &key(), Instant::now());
    let again = StreamId(2);
    registry.attach(&key(), again);
    registry.register(again, registration("a"));
    assert!(registry.of(&key()).unwrap().ready);
    assert_eq!(registry.reap(Instant::now() + GRACE * 2), None, "no longer orphaned");
    assert_eq!(told.all(), before, "nothing changed for anybody");

    let restarted = StreamId(3);
    registry.attach(&key(), restarted);
    registry.register(restarted, registration("b"));
    assert!(!registry.of(&key()).unwrap().ready);
}

#[tokio::test(start_paused = true)]
async fn while_the_start_settles_only_instances_that_reported_are_withdrawn() {
    let (registry, _) = registry();
    let start = Instant::now();
    let id = "shop/cart/0:8080";
    assert!(registry.withholds(id, start, |_| true));
    registry.attach(&key(), StreamId(1));
    registry.register(StreamId(1), registration("a"));
    assert!(registry.withholds(id, start, |_| true), "it has not said yet whether it is ready");
    registry.health(StreamId(1), &key(), false, "starting");
    assert!(!registry.withholds(id, start, |_| true));
    assert!(registry.withholds("shop/cart/1:8080", start, |_| true));
    assert!(!registry.withholds("shop/cart/1:8080", start, |_| false), "a pod's tell nothing");
    assert!(!registry.withholds("shop/cart/1:8080", start + SETTLE, |_| true));
}

#[test]
fn malformed_ports_and_instances_are_refused_by_field_and_value() {
    let message = |app_port, address: &str| weft_proto::discovery::RegisteredPort {
        name: "http".into(),
        app_port,
        address: address.into(),
    };
    assert!(port(message(8080, "127.0.0.1:4143")).is_ok());
    assert!(port(message(8080, "[::1]:4143")).is_ok());
    for (wrong, says) in [
        (message(0, "127.0.0.1:1"), "app_port"),
        (message(70_000, "127.0.0.1:1"), "70000"),
        (message(80, "localhost:1"), "localhost:1"),
    ] {
        let error = port(wrong).unwrap_err();
        assert!(error.contains(says) && error.contains("http"), "{error}");
    }
    assert!(instance_key("cart", "0").unwrap_err().contains("cart"));
    assert!(instance_key("shop/cart", "a/b").unwrap_err().contains("a/b"));
}
