//! Redirects: every status, every part of the location, and what stands in it when a part is not said.

use crate::stage::{Stage, get, route, status};

fn redirect(path: &str, redirect: &str) -> String {
    format!(
        "
  - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_redirect_is_answered_by_the_sidecar() {
    let rules = [
        redirect("/host", "{hostname: example.org}"),
        redirect("/s301", "{hostname: example.org, statusCode: 301}"),
        redirect("/s303", "{hostname: example.org, statusCode: 303}"),
        redirect("/s307", "{hostname: example.org, statusCode: 307}"),
        redirect("/s308", "{hostname: example.org, statusCode: 308}"),
        redirect("/prefix", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /other}}"),
        redirect("/slash", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}"),
        redirect("/full", "{path: {type: ReplaceFullPath, replaceFullPath: /other}}"),
        redirect("/https", "{scheme: https}"),
        redirect("/https-port", "{scheme: https, port: 8443}"),
        redirect("/https-443", "{scheme: https, port: 443}"),
        redirect("/port", "{port: 8083}"),
        redirect("/port-80", "{port: 80}"),
        redirect(
            "/all",
            "{scheme: https, hostname: example.org, port: 8443, statusCode: 301, path: {type: ReplaceFullPath, \
             replaceFullPath: /x}}",
        ),
    ]
    .concat();
    let stage = Stage::with(&route("redirects", "echo", &rules)).await;
    let to = |code, location| {
        status(code).field("location", location).field("weft-reason", "route-redirect")
    };
    stage
        .check(&[
            (get("http://echo/host/x?y=z"), to(302, "http://example.org/host/x?y=z")),
            (get("http://echo/s301"), to(301, "http://example.org/s301")),
            (get("http://echo/s303"), to(303, "http://example.org/s303")),
            (get("http://echo/s307"), to(307, "http://example.org/s307")),
            (get("http://echo/s308"), to(308, "http://example.org/s308")),
            (get("http://echo/prefix/a?b"), to(302, "http://echo/other/a?b")),
            (get("http://echo/prefix"), to(302, "http://echo/other")),
            (get("http://echo/slash/a"), to(302, "http://echo/a")),
            (get("http://echo/slash"), to(302, "http://echo/")),
            (get("http://echo/full/a?b"), to(302, "http://echo/other?b")),
            (get("http://echo/https"), to(302, "https://echo/https")),
            (get("http://echo/https-port"), to(302, "https://echo:8443/https-port")),
            (get("http://echo/https-443"), to(302, "https://echo/https-443")),
            (get("http://echo/port"), to(302, "http://echo:8083/port")),
            (get("http://echo/port-80"), to(302, "http://echo/port-80")),
            (get("http://echo/all/a"), to(301, "https://example.org:8443/x")),
        ])
        .await;
}
