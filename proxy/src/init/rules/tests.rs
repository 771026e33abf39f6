//! The rules' text under some settings: what `nft` would load.

use crate::init::tests::table;

#[test]
fn the_rules_leave_out_what_is_skipped_and_redirect_the_rest() {
    let flags = [
        "--skip-inbound-ports=22,9000-9010,9005-9020",
        "--skip-outbound-ports=4480",
        "--skip-inbound-cidrs=10.1.0.0/16",
        "--skip-outbound-cidrs=10.2.0.0/16,fd02::/32,192.0.2.7",
    ];
    let text = table(&flags).to_string();
    assert_eq!(text, include_str!("skipping.nft"), "{text}");
}

#[test]
fn ports_and_user_are_those_of_the_settings() {
    let flags = [
        "--proxy-user=1337",
        "--outbound-port=15001",
        "--inbound-port=15006",
        "--admin-port=15020",
    ];
    let text = table(&flags).to_string();
    for line in [
        "meta skuid 1337 return",
        "meta l4proto tcp counter redirect to :15001",
        "meta l4proto tcp counter redirect to :15006",
        "elements = { 15001, 15006, 15020 }",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
