//! Objects of a cluster that can be read, and that cannot.

use super::*;

fn sink(kind: Kind) -> OfKind {
    let (tell_read, _) = watch::channel(0);
    let log = Arc::new(Log::new(BTreeMap::new(), Version::default()));
    let (unreadable, _) = watch::channel(Vec::new());
    let (inner, read) = (Mutex::default(), AtomicUsize::new(0));
    let state = State { log, inner, read, tell_read, unreadable };
    OfKind { info: kind.info(), state: Arc::new(state), is_read: false }
}

#[test]
fn an_object_that_cannot_be_read_is_named_until_it_is_gone_or_right() {
    let mut sink = sink(Kind::Workload);
    let object = |spec: serde_json::Value| {
        let metadata = json!({"namespace": "shop", "name": "cart", "uid": "1"});
        serde_json::from_value::<DynamicObject>(json!({"metadata": metadata, "spec": spec}))
            .unwrap()
    };
    let wrong = || object(json!({"replicas": "many"}));
    let problems = |sink: &OfKind| sink.state.lock().problems.len();
    sink.apply(object(json!({"service": "cart"})));
    sink.apply(wrong());
    assert_eq!(problems(&sink), 1);
    assert_eq!(sink.state.log.list().objects.len(), 1, "what it said before holds");
    // It was deleted while the watch was away.
    sink.replace(Vec::new());
    assert_eq!((problems(&sink), sink.state.log.list().objects.len()), (0, 0));
    sink.replace(vec![wrong()]);
    sink.replace(Vec::new());
    assert_eq!(problems(&sink), 0, "one that was never right, too");
}

#[test]
fn of_an_object_that_cannot_be_read_enough_is_known_to_write_its_status() {
    let object = |spec: serde_json::Value| {
        let metadata = json!({"namespace": "shop", "name": "p", "uid": "1", "generation": 3});
        serde_json::from_value::<DynamicObject>(json!({"metadata": metadata, "spec": spec}))
            .unwrap()
    };
    let parents = json!([{"group": "", "kind": "Service", "name": "cart"}]);
    let target = json!([{"kind": "Service", "name": "cart"}]);
    for (kind, spec, told) in [
        (Kind::HTTPRoute, json!({"parentRefs": parents, "hostnames": ["a:80"]}), 1),
        (Kind::TCPRoute, json!({"parentRefs": parents, "rules": []}), 1),
        (
            Kind::TrafficPolicy,
            json!({"targetRefs": target, "faults": [{"percent": 1, "match": [{"paths": [{"pattern": "("}]}]}]}),
            0,
        ),
        (Kind::HTTPRoute, json!({"parentRefs": "cart"}), usize::MAX),
    ] {
        let mut sink = sink(kind);
        sink.apply(object(spec));
        let unreadable = sink.state.unreadable.borrow().clone();
        assert_eq!(sink.state.lock().problems.len(), 1, "{kind}");
        let Some(one) = unreadable.first() else {
            assert_eq!(told, usize::MAX, "{kind}");
            continue;
        };
        assert_eq!(one.outline.metadata().generation, 3);
        let said = crate::status::judge::invalid(one);
        assert_eq!((said.parents.len(), said.conditions.len()), (told, 1 - told), "{kind}");
        let all = said.conditions.iter().chain(said.parents.iter().flat_map(|(_, said)| said));
        for condition in all {
            assert_eq!((condition.holds, condition.reason), (false, "Invalid"));
        }
        sink.replace(Vec::new());
        assert!(sink.state.unreadable.borrow().is_empty());
    }
}

fn object(namespace: &str, spec: &Value) -> DynamicObject {
    let metadata = json!({"namespace": namespace, "name": "p", "uid": "1", "generation": 3});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

#[test]
fn a_policy_that_cannot_be_read_denies_until_it_can_unless_its_last_good_form_is_known() {
    let bad = json!({"targetRefs": [{"kind": "Service", "name": "cart"}], "later": 1});
    let good = json!({"default": "Allow"});
    let in_force = |sink: &OfKind| {
        let objects = sink.state.log.list().objects;
        objects.first().map(|object| object.to_json()["spec"].clone())
    };
    let message = |sink: &OfKind| {
        let unreadable = sink.state.unreadable.borrow().clone();
        unreadable
            .first()
            .map(|one| crate::status::judge::invalid(one).conditions[0].message.clone())
    };
    // As after a start.
    let mut sink = sink(Kind::AccessPolicy);
    sink.replace(vec![object("shop", &bad)]);
    let denies = json!({"targetRefs": bad["targetRefs"], "rules": [{"action": "Deny"}]});
    assert_eq!(in_force(&sink), Some(denies.clone()));
    let said = message(&sink).unwrap();
    assert!(said.ends_with("until it can be read, everything at Service cart is denied"), "{said}");
    sink.apply(object("shop", &bad));
    assert_eq!(in_force(&sink), Some(denies));
    sink.apply(object("shop", &good));
    assert_eq!((in_force(&sink), message(&sink)), (Some(good.clone()), None));
    sink.apply(object("shop", &bad));
    assert_eq!(in_force(&sink), Some(good));
    let said = message(&sink).unwrap();
    assert!(said.ends_with("what it said before, if anything, holds"), "{said}");
    sink.replace(Vec::new());
    assert_eq!(in_force(&sink), None);
}

#[test]
fn a_rule_that_cannot_be_read_leaves_the_others_of_its_route_in_force() {
    let bad = json!({"matches": [{"path": {"type": "RegularExpression", "value": "("}}]});
    let mut sink = sink(Kind::HTTPRoute);
    sink.apply(object("shop", &json!({"rules": [bad, {"name": "good"}]})));
    let objects = sink.state.log.list().objects;
    let fates = Route::of(&objects[0]).unwrap().fates();
    assert!(
        matches!(
            &fates[..],
            [
                crate::model::gateway::route::Fate::Dropped(_),
                crate::model::gateway::route::Fate::Whole
            ]
        ),
        "{fates:?}"
    );
    assert_eq!(sink.state.lock().problems.len(), 1, "it is named");
    assert!(sink.state.unreadable.borrow().is_empty(), "its status is as of any other");
}
