//! What the kernel has after `weft-proxy init`.

use std::process::Output;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::{
    apps::App,
    ground::init,
    namespace::{self, Namespace, User},
    network::Network,
    process,
};

const FLAGS: [&str; 8] = [
    "--proxy-user=1337",
    "--outbound-port=15001",
    "--inbound-port=15006",
    "--admin-port=15020",
    "--skip-inbound-ports=22,8000-8100,8050-8200",
    "--skip-outbound-ports=53,60000-65535",
    "--skip-inbound-cidrs=10.0.0.0/8,fd00::/8,192.0.2.7",
    "--skip-outbound-cidrs=10.1.0.0/24,10.1.1.0/24,10.1.3.0/24,fd01::/64",
];

/// Somebody else's.
const OTHERS: &str = "table inet others { chain input { type filter hook input priority 0; policy accept; \
                      tcp dport 9 drop; }; }";

/// What `nft list` shows, without counts.
pub(crate) fn listed(pod: &Namespace, what: &str) -> String {
    let mut command = pod.root_program("nft");
    let output = command.arg("--stateless").arg("list").args(what.split(' ')).output();
    let output = output.expect("nft is there");
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It has succeeded; what it logged.
pub(crate) fn succeeded(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test]
async fn the_kernel_has_what_nft_makes_of_the_printed_text() {
    if !namespace::available("the_kernel_has_what_nft_makes_of_the_printed_text") {
        return;
    }
    for flags in [&[][..], &FLAGS] {
        let network = Network::routed(2);
        let (ours, nfts) = (network.pod(0), network.pod(1));
        succeeded(&init(ours, flags).await);
        let printed = init(ours, &[flags, &["--print"]].concat()).await;
        succeeded(&printed);
        nfts.nft(&text(&printed.stdout));
        let expected = listed(nfts, "ruleset");
        assert!(expected.contains("chain outbound"), "{expected}");
        assert_eq!(listed(ours, "ruleset"), expected);
    }
}

#[tokio::test]
async fn written_again_the_rules_are_replaced_and_others_stay() {
    if !namespace::available("written_again_the_rules_are_replaced_and_others_stay") {
        return;
    }
    let network = Network::routed(1);
    let pod = network.pod(0);
    pod.nft(OTHERS);
    // What somebody else has put into the table goes, too.
    pod.nft("table inet weft { chain stray { type filter hook input priority 0; policy drop; }; }");
    succeeded(&init(pod, &[]).await);
    let first = listed(pod, "ruleset");
    assert!(first.contains("table inet others") && !first.contains("stray"), "{first}");
    succeeded(&init(pod, &[]).await);
    assert_eq!(listed(pod, "ruleset"), first);
    succeeded(&init(pod, &FLAGS).await);
    assert!(listed(pod, "ruleset").contains("redirect to :15001"));
    succeeded(&init(pod, &[]).await);
    assert_eq!(listed(pod, "ruleset"), first);
}

#[tokio::test]
async fn removed_the_rules_are_gone_and_others_stay() {
    if !namespace::available("removed_the_rules_are_gone_and_others_stay") {
        return;
    }
    let network = Network::routed(1);
    let pod = network.pod(0);
    pod.nft(OTHERS);
    let before = listed(pod, "ruleset");
    succeeded(&init(pod, &FLAGS).await);
    // The second time there is nothing to remove, which is what is wanted.
    for _ in 0..2 {
        succeeded(&init(pod, &["--remove"]).await);
        assert_eq!(listed(pod, "ruleset"), before);
    }
}

#[tokio::test]
async fn the_longest_lists_are_written_and_found_again() {
    if !namespace::available("the_longest_lists_are_written_and_found_again") {
        return;
    }
    let network = Network::routed(1);
    let pod = network.pod(0);
    let list = |item: &dyn Fn(u32) -> String| (0..500).map(item).collect::<Vec<_>>().join(",");
    let ports = list(&|number| format!("{}-{}", 100 + 20 * number, 110 + 20 * number));
    let networks = list(&|number| match number % 2 {
        0 => format!("fd0a:{number:x}::/32"),
        _ => format!("10.{}.{}.0/24", number / 256, number % 256),
    });
    let flags = [
        format!("--skip-inbound-ports={ports}"),
        format!("--skip-outbound-ports={ports}"),
        format!("--skip-inbound-cidrs={networks}"),
        format!("--skip-outbound-cidrs={networks}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    succeeded(&init(pod, &flags).await);
    let listed = listed(pod, "ruleset");
    for element in ["10080-10090", "fd0a:1f2::/32", "10.1.243.0/24"] {
        assert_eq!(listed.matches(element).count(), 2, "{element}");
    }
}

#[tokio::test]
async fn net_admin_alone_is_enough_and_without_it_that_is_said() {
    if !namespace::available("net_admin_alone_is_enough_and_without_it_that_is_said") {
        return;
    }
    let program = process::program().await;
    for (capabilities, is_enough) in
        [("+net_admin,+net_raw", true), ("+net_admin", true), ("+net_raw", false)]
    {
        let network = Network::routed(1);
        let mut command = network.pod(0).root_program("setpriv");
        command.arg(format!("--bounding-set=-all,{capabilities}"));
        command.args([
            "--inh-caps=-all",
            "--ambient-caps=-all",
            "--no-new-privs",
            "--clear-groups",
        ]);
        let output = command.arg(&program).arg("init").output().expect("setpriv is there");
        let said = text(&output.stderr);
        if is_enough {
            assert_eq!(
                succeeded(&output).matches("holds (by a connection to").count(),
                2,
                "{said}"
            );
        } else {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("needs CAP_NET_ADMIN"), "{said}");
            assert_eq!(listed(network.pod(0), "ruleset"), "");
        }
    }
}

#[tokio::test]
async fn what_was_open_before_the_rules_goes_on() {
    if !namespace::available("what_was_open_before_the_rules_goes_on") {
        return;
    }
    let network = Network::routed(2);
    for v6 in [false, true] {
        succeeded(&init(network.pod(0), &["--remove"]).await);
        let server = network.pod(1).runtime(User::Root);
        let address = std::net::SocketAddr::new(network.pod(1).ip(v6), 0);
        let echo = server.run(App::tcp_at(address, |mut stream| async move {
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }));
        let echo = echo.await;
        let client = network.pod(0).runtime(User::Application);
        let connect = tokio::net::TcpStream::connect(echo.address);
        let mut open = client.run(async move { connect.await.expect("it listens") }).await;
        // Both ends get the rules: one sends the next packet out, the other gets it in.
        succeeded(&init(network.pod(0), &[]).await);
        succeeded(&init(network.pod(1), &[]).await);
        let answer = client.run(async move {
            open.write_all(b"still here").await.expect("it is open");
            let mut answer = [0; 10];
            open.read_exact(&mut answer).await.expect("it is open");
            answer
        });
        assert_eq!(&answer.await, b"still here");
        succeeded(&init(network.pod(1), &["--remove"]).await);
    }
}
