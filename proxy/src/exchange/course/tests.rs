//! Routes over real sockets: the application's connection, the outbound side of a sidecar, the backends. What discovery
//! would say, the test says.

use std::rc::Rc;

use http::{HeaderValue, StatusCode};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    discovery::Resolution,
    http::fields::SpeltName,
    route::{
        Filter, Routes,
        filter::{Field, HeaderModifier},
        matcher::Match,
        mirror::Mirror,
        redirect::Redirect,
        rewrite::{PathRewrite, Rewrite},
        testing::{self, Stage, any, backend, by_header, invalid, prefix, rule, worker},
    },
};

fn field(name: &'static str, value: &'static str) -> Field {
    let name = SpeltName::read(name.as_bytes()).expect("a name");
    Field { name, value: HeaderValue::from_static(value) }
}

#[test]
fn requests_are_split_by_path_and_header_and_what_no_rule_takes_is_not_found() {
    worker(async {
        let stage = Stage::new(&["v1", "v2"]).await;
        stage.route(
            vec![rule("one", [(1, backend("v1"))], []), rule("two", [(1, backend("v2"))], [])],
            vec![
                Match { rule: 1, ..by_header("version", "two") },
                Match { rule: 0, ..prefix("/v1") },
                Match { rule: 1, ..prefix("/v2") },
            ],
        );
        let mut client = stage.client().await;
        for (target, fields, status, server) in [
            ("/v1/a", "", 200, "v1"),
            ("/v2", "", 200, "v2"),
            ("/v1", "Version: two\r\n", 200, "v2"),
            ("/v3", "", 404, ""),
            ("/v11", "", 404, ""),
        ] {
            let answer = client.get(target, fields).await;
            assert_eq!((answer.status, answer.server()), (status, server), "{target}");
            let reason = if status == 404 { "route-not-found" } else { "" };
            assert_eq!(answer.field("weft-reason"), reason, "{target}");
        }
        let route = r#"{service="shop/cart:80",route="two",backend="shop/v2:80",status="200"}"#;
        let text = stage.metrics.text();
        assert!(text.contains(&format!("weft_backend_requests_total{route} 2\n")), "{text}");
    });
}

#[test]
fn weights_hold_within_five_percent_and_an_invalid_backend_takes_its_share() {
    worker(async {
        let stage = Stage::new(&["v1", "v2"]).await;
        let split = [(70, backend("v1")), (30, backend("v2")), (0, invalid("never"))];
        stage.route(vec![rule("split", split, [])], vec![any()]);
        let mut client = stage.client().await;
        let mut first = 0;
        for _ in 0..1000 {
            let answer = client.get("/", "").await;
            assert_eq!(answer.status, 200);
            first += u32::from(answer.server() == "v1");
        }
        assert!((650..=750).contains(&first), "{first} of 1000");

        let half = [(1, backend("v1")), (1, invalid("Service shop/gone does not exist"))];
        stage.route(vec![rule("half", half, [])], vec![any()]);
        let mut failed = 0;
        for _ in 0..400 {
            let answer = client.get("/", "").await;
            if answer.status == 500 {
                assert_eq!(answer.field("weft-reason"), "backend-invalid");
                assert!(
                    answer.body.contains("Service shop/gone does not exist"),
                    "{}",
                    answer.body
                );
                failed += 1;
            }
        }
        assert!((150..=250).contains(&failed), "{failed} of 400");
        for nobody in [vec![], vec![(0, backend("v1"))]] {
            stage.route(vec![rule("nobody", nobody, [])], vec![any()]);
            assert_eq!(client.get("/", "").await.status, 500);
        }
    });
}

#[test]
fn fields_hosts_and_paths_are_modified_by_the_rule_and_then_by_the_backend() {
    worker(async {
        let stage = Stage::new(&["v1"]).await;
        let modifier = |set: Field| HeaderModifier { set: [set].into(), ..Default::default() };
        let path = Some(PathRewrite::Prefix("/new".into()));
        let filters = [
            Filter::RequestHeaders(modifier(field("X-Rule", "rule"))),
            Filter::ResponseHeaders(modifier(field("X-Answer", "rule"))),
            Filter::Rewrite(Rewrite { host: None, path }),
        ];
        let own = [
            Filter::RequestHeaders(modifier(field("x-rule", "backend"))),
            Filter::ResponseHeaders(HeaderModifier {
                add: [field("X-Answer", "backend")].into(),
                ..Default::default()
            }),
        ];
        let v1 = testing::filtered("v1", own);
        stage.route(vec![rule("one", [(1, v1)], filters)], vec![prefix("/old")]);
        let answer = stage.client().await.get("/old/a?q=1", "").await;
        assert!(answer.body.contains("GET /new/a?q=1 HTTP/1.1\r\n"), "{}", answer.body);
        assert!(answer.body.contains("x-rule: backend\r\n"), "{}", answer.body);
        assert!(answer.head.contains("X-Answer: rule\r\nX-Answer: backend\r\n"), "{}", answer.head);
    });
}

#[test]
fn a_redirect_answers_and_reaches_no_backend() {
    worker(async {
        let stage = Stage::new(&["v1"]).await;
        let redirect = Redirect {
            scheme: None,
            host: Some("example.org".into()),
            path: Some(PathRewrite::Prefix("/new".into())),
            port: None,
            status: StatusCode::PERMANENT_REDIRECT,
        };
        let filters = [Filter::Redirect(redirect)];
        stage.route(vec![rule("away", [], filters)], vec![prefix("/old")]);
        let answer = stage.client().await.get("/old/a?q=1", "").await;
        assert_eq!(answer.status, 308);
        assert_eq!(answer.field("location"), "http://example.org/new/a?q=1");
        assert_eq!(answer.field("weft-reason"), "route-redirect");

        let (status, headers) = stage.http2("/old/a", false).await;
        assert_eq!(
            (status, &headers["location"]),
            (308, &"http://example.org/new/a".parse().unwrap())
        );
        let (status, headers) = stage.http2("/old/a", true).await;
        assert_eq!((status, &headers["grpc-status"]), (200, &"12".parse().unwrap()));
        let (status, headers) = stage.http2("/else", true).await;
        assert_eq!((status, &headers["weft-reason"]), (200, &"route-not-found".parse().unwrap()));
    });
}

#[test]
fn copies_go_to_the_mirror_and_its_silence_delays_nothing() {
    worker(async {
        let stage = Stage::new(&["v1", "silent"]).await;
        let mirror =
            |name| Filter::Mirror(Mirror { backend: backend(name), numerator: 1, denominator: 1 });
        let rules = || vec![rule("copied", [(1, backend("v1"))], [mirror("silent"), mirror("v1")])];
        stage.route(rules(), vec![any()]);
        let mut client = stage.client().await;
        assert_eq!(client.post("/a", 5).await.status, 200);
        stage.seen("silent", "POST /a", 1).await;
        stage.seen("v1", "POST /a", 2).await;
        stage.counted(r#"weft_mirrored_requests_total{result="answered"} 1"#).await;

        // Longer than what may be replayed: nobody gets half a request.
        assert_eq!(client.post("/b", 70_000).await.status, 200);
        stage.counted(r#"weft_mirrored_requests_total{result="not-whole"} 2"#).await;
        assert_eq!(stage.requests("silent", "POST /b"), 0);
    });
}

#[test]
fn an_upgrade_goes_through_a_route_and_is_spliced() {
    worker(async {
        let stage = Stage::new(&["upgrade"]).await;
        stage.route(vec![rule("one", [(1, backend("upgrade"))], [])], vec![prefix("/socket")]);
        let mut stream = stage.connect().await;
        let request =
            "GET /socket HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let head = testing::read_head(&mut stream).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream.write_all(b"ping").await.expect("sent");
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.expect("sent back");
        assert_eq!(&echo, b"ping");
    });
}

#[test]
fn new_routes_act_on_open_connections_and_without_any_the_service_answers_itself() {
    worker(async {
        let stage = Stage::new(&["cart", "v1", "v2"]).await;
        let all_to = |name| stage.route(vec![rule(name, [(1, backend(name))], [])], vec![any()]);
        all_to("v1");
        let mut client = stage.client().await;
        assert_eq!(client.get("/", "").await.server(), "v1");
        all_to("v2");
        assert_eq!(client.get("/", "").await.server(), "v2");
        stage.set(Routes::default());
        assert_eq!(client.get("/", "").await.server(), "cart");
    });
}

#[test]
fn a_backend_that_nobody_answers_about_or_that_does_not_exist_ends_the_request() {
    worker(async {
        let stage = Stage::new(&["v1"]).await;
        for (name, status, reason) in
            [("unheard-of", 503, "discovery-unavailable"), ("gone", 500, "backend-invalid")]
        {
            if name == "gone" {
                stage.directory.pin("shop/gone:80", Resolution::NotFound);
            }
            stage.route(vec![rule("one", [(1, backend(name))], [])], vec![any()]);
            let answer = stage.client().await.get("/", "").await;
            assert_eq!((answer.status, answer.field("weft-reason")), (status, reason), "{name}");
        }
    });
}

#[test]
fn a_route_back_to_its_own_service_makes_no_second_view_and_follows_no_route_again() {
    worker(async {
        let stage = Stage::new(&["cart"]).await;
        stage.route(vec![rule("self", [(1, backend("cart"))], [])], vec![any()]);
        assert_eq!(stage.client().await.get("/", "").await.server(), "cart");
        let service = stage.service().await;
        let destinations = &stage.shared.destinations;
        let found = destinations.backend(&service, "shop/cart:80").await.expect("found");
        assert!(Rc::ptr_eq(&found, &service));
    });
}
