//! YAML and JSON become objects, or an error that names line and field.

use super::*;
use crate::model::{AppProtocol, Probe};

fn parse_one(text: &str) -> Result<Object, String> {
    let mut all = parse_documents("shop.yaml", text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).map(|parsed| parsed.object).map_err(|error| error.to_string())
}

fn workload(spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {{name: cart}}\nspec:\n{spec}"
    )
}

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\nspec:\n{spec}"
    )
}

#[test]
fn several_documents_are_read_with_their_lines() {
    let text = "# a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\n\n---\n\
                {\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \"metadata\": {\"name\": \"a\"}}\n";
    let parsed: Vec<Parsed> = parse_documents("f.yaml", text)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("all are right");
    assert_eq!(parsed.len(), 2);
    assert_eq!(
        (parsed[0].object.key().to_string().as_str(), parsed[0].line),
        ("Namespace shop", 4)
    );
    assert_eq!(
        (parsed[1].object.key().to_string().as_str(), parsed[1].line),
        ("ServiceAccount default/a", 10)
    );
}

#[test]
fn a_workload_of_three_lines_has_every_default() {
    let Ok(Object::Workload(cart)) = parse_one(&workload("  service: cart\n  command: [./cart]\n"))
    else {
        panic!("refused")
    };
    assert_eq!(cart.metadata.namespace, "default");
    assert_eq!(cart.spec.service_account("cart-1"), "cart");
    assert_eq!(cart.spec.replicas(), 1);
    let ports = cart.spec.ports();
    assert_eq!(ports.len(), 1);
    assert_eq!((ports[0].port, ports[0].service_port().number()), (None, 80));
    assert_eq!(ports[0].env_name(), "PORT");
    assert_eq!(cart.spec.readiness().expect("it serves a port").probe, Probe::Tcp);
}

#[test]
fn a_client_serves_no_port_and_names_its_upstreams() {
    let spec =
        "  upstreams:\n  - {service: cart-db.shop, port: 6379}\n  - {service: web, env: WEB}\n";
    let Ok(Object::Workload(client)) = parse_one(&workload(spec)) else { panic!("refused") };
    assert!(client.spec.ports().is_empty());
    assert_eq!(client.spec.readiness(), None);
    assert_eq!(client.spec.service_account("client"), "client");
    let [db, web] = &client.spec.upstreams[..] else { panic!("two upstreams") };
    assert_eq!(db.service.resolve("default").to_string(), "shop/cart-db");
    assert_eq!((db.env_name().as_str(), db.port().number()), ("CART_DB_ADDR", 6379));
    assert_eq!(web.service.resolve("default").to_string(), "default/web");
    assert_eq!((web.env_name().as_str(), web.port().number()), ("WEB", 80));
}

#[test]
fn a_service_from_a_cluster_is_read_and_foreign_fields_are_dropped() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: cart\n  managedFields: [{manager: x}]\n\
                spec:\n  type: ClusterIP\n  clusterIP: 10.96.0.7\n  clusterIPs: [10.96.0.7, 'fd00::7']\n  \
                sessionAffinity: None\n  ports:\n  - {name: web, port: 80, targetPort: http, appProtocol: \
                kubernetes.io/h2c, nodePort: 30080}\n  - {name: dns, port: 53, protocol: UDP, appProtocol: \
                example.com/x}\nstatus: {loadBalancer: {}}\n";
    let Ok(Object::Service(cart)) = parse_one(text) else { panic!("refused") };
    assert_eq!(cart.spec.cluster_addresses().len(), 2);
    assert_eq!(cart.spec.ports[0].app_protocol, Some(AppProtocol::Http2));
    assert_eq!(cart.spec.ports[1].app_protocol, None);
    let json = Object::from(cart.clone()).to_json();
    assert_eq!(parse_object(&json.to_string()).expect("its own output"), Object::Service(cart));
}

#[test]
fn json_with_escaped_surrogates_is_read() {
    let text = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop",
        "annotations": {"mood": "\ud83d\ude00"}}}"#;
    let object = parse_object(text).expect("valid JSON");
    assert_eq!(object.metadata().annotations["mood"], "\u{1f600}");
    let text = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop",
        "annotations": {"a": "\ud83d\ude00\u00e4\\ud83d\\ude00\u0041\u0042", "b": "\\\ud83d\ude00"}}}"#;
    let object = parse_object(text).expect("valid JSON");
    let json: serde_json::Value = serde_json::from_str(text).expect("valid JSON");
    for name in ["a", "b"] {
        let expected = json["metadata"]["annotations"][name].as_str();
        assert_eq!(Some(object.metadata().annotations[name].as_str()), expected);
    }
}

#[test]
fn json_is_read_whatever_characters_stand_in_it() {
    let mood =
        "a \u{2028} b\u{85}c\u{2029}\u{7f}\u{80}\u{feff}\u{ffff}\u{1f600}\u{e4}\t\n\"\\ud83d";
    let json = serde_json::json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "annotations": {"mood": mood}}});
    for text in [json.to_string(), format!("{json:#}")] {
        let object = parse_object(&text).expect("valid JSON");
        assert_eq!(object.metadata().annotations["mood"], mood, "{text}");
    }
}

#[test]
fn a_mistake_in_json_with_escapes_is_named_with_its_own_line() {
    let text = r#"{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a", "labels": {
        "mood": "\ud83d\ude00"}, "nmae": ""}}"#;
    let error = parse_one(text).expect_err("an unknown field");
    let expected = "shop.yaml:2: Namespace a: metadata: unknown field `nmae`";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn mistakes_are_named_with_file_line_object_field_value_and_what_is_right() {
    let cases: &[(String, &str)] = &[
        ("kind: [".into(), "shop.yaml:2: did not find expected node content"),
        ("kind: Servce\napiVersion: v1\nmetadata: {name: a}".into(),
         "shop.yaml:1: Servce a: kind: \"Servce\" is no known kind: use one of Service, Workload, Namespace, ServiceAccount, MeshConfig"),
        ("metadata: {name: a}".into(), "shop.yaml:1: object a: kind: \"\" is no known kind"),
        ("apiVersion: v2\nkind: Service\nmetadata: {name: a}".into(),
         "shop.yaml:1: Service a: apiVersion: \"v2\" has no Service: use \"v1\""),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: A_b}".into(),
         "shop.yaml:3: Service A_b: metadata.name: \"A_b\" is not a valid name: use 1 to 63"),
        ("apiVersion: v1\nkind: Service\nmetadata: {nmae: a}".into(),
         "shop.yaml:3: Service (unnamed): metadata: unknown field `nmae`, expected one of `name`"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {weft.dev/a_B.c: x, a b: x}}".into(),
         "shop.yaml:3: Namespace a: metadata.labels: \"a b\" is not a valid key: use NAME or PREFIX/NAME"),
        ("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  annotations: {A/b: x}".into(),
         "shop.yaml:5: Namespace a: metadata.annotations: \"A/b\" is not a valid key"),
        (service("  selector: {-a: x}\n"), "shop.yaml:5: Service shop/cart: spec.selector: \"-a\" is not a valid key"),
        (workload("  prot: 1\n"), "shop.yaml:5: Workload cart: spec: unknown field `prot`, expected one of `service`"),
        (workload("  port: 0\n"), "shop.yaml:5: Workload cart: spec.port: invalid value: integer `0`, expected a port number from 1 to 65535"),
        (workload("  protocol: htpp\n"), "shop.yaml:5: Workload cart: spec.protocol: unknown variant `htpp`, expected one of `http`"),
        (workload("  ports:\n  - {name: a, port: 1}\n  - {name: a, port: 2}\n"),
         "shop.yaml:7: Workload default/cart: spec.ports[1].name: \"a\" names two ports"),
        (workload("  ports:\n  - {name: a}\n  - {name: b}\n"),
         "shop.yaml:7: Workload default/cart: spec.ports[1]: 80 is the service's port of two ports: set servicePort"),
        (workload("  port: 1\n  ports: [{port: 2}]\n"), "shop.yaml:5: Workload default/cart: spec.port: stands beside spec.ports"),
        (workload("  service: a.b\n"), "shop.yaml:5: Workload default/cart: spec.service: \"a.b\" is not a valid name"),
        (workload("  upstreams:\n  - service: a.b.c\n"),
         "shop.yaml:6: Workload cart: spec.upstreams[0].service: \"a.b.c\" is no service: use NAME or NAME.NAMESPACE"),
        (workload("  readiness:\n    http: {path: x}\n  port: 1\n"),
         "shop.yaml:6: Workload default/cart: spec.readiness.http.path: \"x\" is no path: begin it with '/'"),
        (workload("  service: a\n  addresses:\n  - address: 10.0.0.1\n"),
         "shop.yaml:7: Workload default/cart: spec.addresses[0]: port \"\" has no number"),
        (workload("  port: 1\n  addresses:\n  - address: 10.0.0.1\n  - address: '::'\n"),
         "shop.yaml:8: Workload default/cart: spec.addresses[1].address: nobody can dial ::"),
        (workload("  env:\n  - {name: A, value: [80]}\n"),
         "shop.yaml:6: Workload cart: spec.env[0].value: invalid type: sequence, expected a string"),
        (service("  ports:\n  - port: 80\n  - port: 81\n"), "shop.yaml:6: Service shop/cart: spec.ports[0]: port 80 has no name"),
        (service("  ports:\n  - port: 80\n    appProtocol: [http]\n"),
         "shop.yaml:7: Service shop/cart: spec.ports[0].appProtocol: invalid type: sequence"),
        (service("  ports:\n  - {port: 80, targetPort: 70000}\n"),
         "shop.yaml:6: Service shop/cart: spec.ports[0].targetPort: invalid value: integer `70000`"),
        (service("  clusterIP: ten\n"), "shop.yaml:5: Service shop/cart: spec.clusterIP: \"ten\" is no address"),
        ("apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}".into(),
         "shop.yaml:3: MeshConfig m: metadata.name: \"m\" is not used: the one MeshConfig is named \"mesh\""),
        ("apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec:\n  addressRanges:\n  - 10.0.0.1/8\n".into(),
         "shop.yaml:6: MeshConfig mesh: spec.addressRanges[0]: \"10.0.0.1/8\" is not a valid address range: use the range's first address"),
        ("apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {nameSuffixes: [a, .b]}\n".into(),
         "shop.yaml:4: MeshConfig mesh: spec.nameSuffixes[1]: \".b\" is no suffix"),
    ];
    let mut wrong = String::new();
    for (text, expected) in cases {
        let error = parse_one(text).expect_err(text);
        if !error.starts_with(expected) {
            wrong += &format!("\n got {error}\nwant {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn one_broken_document_does_not_hide_the_others() {
    let text = format!(
        "{}---\n{}---\n{}",
        workload("  port: 0\n"),
        service("  ports: []\n"),
        workload("  port: x\n")
    );
    let outcomes = parse_documents("f.yaml", &text);
    let lines: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().map_or_else(|e| e.line, |p| p.line))
        .collect();
    assert_eq!(lines, [5, 8, 17]);
    assert!(outcomes[1].is_ok());
}

#[test]
fn a_file_full_of_mistakes_names_the_first_ones() {
    let text = vec![workload("  service: A\n"); 3000].join("---\n");
    let errors: Vec<String> = parse_documents("f.yaml", &text)
        .into_iter()
        .map(|outcome| outcome.expect_err("all are wrong").to_string())
        .collect();
    assert_eq!(errors.len(), 21);
    assert_eq!(
        errors[20],
        "f.yaml:121: there may be more mistakes from here on: right the others first"
    );
}

#[test]
fn kinds_are_known_by_every_spelling() {
    for (text, kind) in [
        ("Service", Some(Kind::Service)),
        ("svc", Some(Kind::Service)),
        ("SERVICES", Some(Kind::Service)),
        ("workload", Some(Kind::Workload)),
        ("ns", Some(Kind::Namespace)),
        ("sa", Some(Kind::ServiceAccount)),
        ("meshconfigs", Some(Kind::MeshConfig)),
        ("pod", None),
        ("", None),
    ] {
        assert_eq!(Kind::from_spelling(text), kind, "{text}");
    }
    for info in KINDS {
        assert_eq!(info.kind.info().name, info.name);
    }
}

/// Pieces that make and break YAML.
const PIECES: &[&str] = &[
    "apiVersion: v1\n",
    "kind: Service\n",
    "kind: Workload\n",
    "metadata: {name: a}\n",
    "spec:\n",
    "  ports:\n",
    "  - port: 80\n",
    "---\n",
    "...\n",
    "--- ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "\t",
    "&a ",
    "*a",
    "!t ",
    "|\n",
    "\"",
    "'",
    "#",
    "\n",
    "\u{0}",
    "\u{feff}",
    "%YAML 1.2\n",
    "<<: *a\n",
    "? ",
    "é",
    "80",
    "null",
    "~",
    "- - - ",
    "\\u",
    "{\"a\": \"\\ud83d\"}",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3000))]
    #[test]
    fn any_text_is_parsed_or_refused_in_finite_steps(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        let outcomes = parse_documents("f", &text);
        proptest::prop_assert!(outcomes.len() <= text.len() + 1);
        for parsed in outcomes.into_iter().flatten() {
            let again = parse_object(&parsed.object.to_json().to_string());
            proptest::prop_assert_eq!(again, Ok(parsed.object));
        }
    }
}
