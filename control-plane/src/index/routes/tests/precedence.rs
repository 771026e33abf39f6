//! The order of matches: the Gateway API's, and a total one.

use proptest::prelude::*;

use super::{super::precedence::Rank, *};
use crate::index::routes::precedence::of_http;

/// The matches of shop/cart:80 with these routes.
fn ordered(routes: &[String]) -> Vec<String> {
    let all = services(&["shop/cart:80"]);
    let index = index(&[&all, &routes.concat()]);
    matches(&told(&index, "shop/cart:80", "web").expect("routes"))
}

fn rules(matches: &[&str]) -> String {
    let rules: Vec<String> = matches.iter().map(|one| format!("{{matches: [{one}]}}")).collect();
    format!("rules: [{}]", rules.join(", "))
}

#[test]
fn matches_of_one_route_go_by_what_they_say_and_then_by_their_place() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &[
                "{path: {value: /}}",
                "{path: {value: /long/prefix}}",
                "{path: {type: RegularExpression, value: '/.*'}}",
                "{path: {type: Exact, value: /a}}",
                "{path: {value: /a/}}",
            ],
            &[
                "/a -> split rules[3]",
                "~/.* -> split rules[2]",
                "/long/prefix* -> split rules[1]",
                "/a* -> split rules[4]",
                "/* -> split rules[0]",
            ],
        ),
        (
            &[
                "{headers: [{name: A, value: b}, {name: c, value: d}]}",
                "{method: GET}",
                "{queryParams: [{name: q, value: r}]}",
                "{headers: [{name: a, value: b}], queryParams: [{name: q, value: r}]}",
                "{}",
            ],
            &[
                "GET /* -> split rules[1]",
                "/* a=b c=d -> split rules[0]",
                "/* a=b ?q=r -> split rules[3]",
                "/* ?q=r -> split rules[2]",
                "/* -> split rules[4]",
            ],
        ),
        (
            &["{path: {value: /b}}, {path: {value: /a}}", "{path: {value: /a}}"],
            &["/b* -> split rules[0]", "/a* -> split rules[0]", "/a* -> split rules[1]"],
        ),
        (&["{headers: [{name: X, value: a}, {name: x, value: b}]}"], &["/* x=a -> split rules[0]"]),
        // How long a pattern is says nothing, nor does a prefix's last slash.
        (
            &[
                "{path: {type: RegularExpression, value: '/.*'}}",
                "{path: {type: RegularExpression, value: '/a/.*'}}",
                "{path: {value: /a}}",
                "{path: {value: /a/}, method: GET}",
                "{path: {value: /a}, method: PUT}",
            ],
            &[
                "~/.* -> split rules[0]",
                "~/a/.* -> split rules[1]",
                "GET /a* -> split rules[3]",
                "PUT /a* -> split rules[4]",
                "/a* -> split rules[2]",
            ],
        ),
        (
            &["{path: {value: /a}}", "{path: {value: /a/}}"],
            &["/a* -> split rules[0]", "/a* -> split rules[1]"],
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(ordered(&[route("HTTPRoute", "shop/split", &rules(given))]), *expected);
    }
}

#[test]
fn calls_of_grpc_go_by_service_method_and_headers() {
    let given = rules(&[
        "{}",
        "{method: {service: shop.Cart}}",
        "{method: {method: Add}}",
        "{method: {service: shop.Cart, method: Add}}",
        "{method: {type: RegularExpression, service: 'shop[.].*'}}",
        "{method: {service: shop.Cart, method: Add}, headers: [{name: A, value: b}]}",
    ]);
    let expected = [
        "gRPC /shop.Cart/Add a=b -> split rules[5]",
        "gRPC /shop.Cart/Add -> split rules[3]",
        "gRPC /shop.Cart* -> split rules[1]",
        "gRPC ~/(?:shop[.].*)/[^/]+ -> split rules[4]",
        "gRPC ~/[^/]+/Add -> split rules[2]",
        "gRPC * -> split rules[0]",
    ];
    assert_eq!(ordered(&[route("GRPCRoute", "shop/split", &given)]), expected);
    let alike = rules(&[
        "{method: {type: RegularExpression, service: abc, method: Ad.}}",
        "{method: {service: abc, method: Add}}",
    ]);
    let said = ordered(&[route("GRPCRoute", "shop/split", &alike)]);
    assert_eq!(said[0], "gRPC /abc/Add -> split rules[1]", "of two as long the exact one");
}

#[test]
fn hosts_come_before_everything() {
    let given = [
        route("HTTPRoute", "shop/any", &rules(&["{path: {type: Exact, value: /a}}"])),
        route(
            "HTTPRoute",
            "shop/wild",
            &format!("hostnames: ['*.example.com', '*.longer.example.com'], {}", rules(&["{}"])),
        ),
        route("HTTPRoute", "shop/one", &format!("hostnames: [a.example.com], {}", rules(&["{}"]))),
    ];
    let expected = [
        "a.example.com /* -> one rules[0]",
        "*.longer.example.com /* -> wild rules[0]",
        "*.example.com /* -> wild rules[0]",
        "/a -> any rules[0]",
    ];
    assert_eq!(ordered(&given), expected);
}

#[test]
fn of_equal_matches_the_oldest_route_wins_and_then_the_first_by_name() {
    let dated = |name: &str, date: &str| {
        let text = route("HTTPRoute", name, &rules(&["{}"]));
        if date.is_empty() {
            return text;
        }
        text.replace(
            ", namespace: shop}\nspec",
            &format!(", namespace: shop, creationTimestamp: '{date}'}}\nspec"),
        )
    };
    let given = [
        dated("shop/a", ""),
        dated("shop/b", "2026-02-02T00:00:00Z"),
        dated("shop/d", "2026-01-01T00:00:00Z"),
        dated("shop/c", "2026-01-01T00:00:00Z"),
    ];
    let expected = ["/* -> c rules[0]", "/* -> d rules[0]", "/* -> b rules[0]", "/* -> a rules[0]"];
    assert_eq!(ordered(&given), expected);
}

/// A route with one rule of one match, of every kind that takes part in the order.
fn any_route() -> impl Strategy<Value = Object> {
    let path = prop_oneof![
        Just("{}"),
        Just("{path: {value: /a}}"),
        Just("{path: {value: /a/}}"),
        Just("{path: {type: Exact, value: /a}}"),
        Just("{path: {type: RegularExpression, value: /a}, method: GET}"),
        Just("{headers: [{name: a, value: b}]}"),
        Just("{queryParams: [{name: a, value: b}]}"),
    ];
    let host = prop_oneof![Just(""), Just("a.b"), Just("*.b"), Just("*.a.b")];
    let created = prop_oneof![Just(""), Just("2026-01-01T00:00:00Z"), Just("2026-02-02T00:00:00Z")];
    ("[ab]", path, host, created, any::<bool>()).prop_map(|(name, path, host, created, calls)| {
        let hosts =
            if host.is_empty() { String::new() } else { format!("hostnames: ['{host}'], ") };
        let (kind, path) = if calls { ("GRPCRoute", "{}") } else { ("HTTPRoute", path) };
        let text = route(kind, &format!("shop/{name}"), &format!("{hosts}{}", rules(&[path])));
        let mut object = objects(&text).remove(0);
        object.metadata_mut().creation_timestamp =
            Some(created.to_owned()).filter(|at| !at.is_empty());
        object
    })
}

fn rank(object: &Object) -> Rank {
    let route = Route::of(object).expect("a route");
    let (host, specifics) = match route {
        Route::Http(route) => (&route.spec.hostnames, of_http(&route.spec.rules()[0].matches[0])),
        Route::Grpc(route) => (&route.spec.hostnames, [0; 5]),
        Route::Tls(_) | Route::Tcp(_) => unreachable!("none is made"),
    };
    Rank::new(route, host.first().map_or("", |host| host), (0, 0), specifics)
}

proptest! {
    #[test]
    fn precedence_is_a_total_order(a in any_route(), b in any_route(), c in any_route()) {
        let (x, y, z) = (rank(&a), rank(&b), rank(&c));
        prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse());
        if x <= y && y <= z {
            prop_assert!(x <= z);
        }
        // Two that stand alike are the same route's, or say the same of routes that cannot be told apart.
        if x == y {
            prop_assert_eq!(a.key().name, b.key().name);
        }
    }

    #[test]
    fn the_order_in_which_routes_come_does_not_matter(
        mut routes in proptest::collection::vec(any_route(), 1..6),
    ) {
        routes.sort_by_key(|route| route.key());
        routes.dedup_by_key(|route| route.key());
        let told = |routes: &[Object]| {
            let mut index = index(&[&services(&["shop/cart:80"])]);
            for route in routes {
                index.apply(route);
            }
            told(&index, "shop/cart:80", "web")
        };
        let forwards = told(&routes);
        routes.reverse();
        prop_assert_eq!(forwards, told(&routes));
    }
}
