//! Settings: what flags mean together, and what is refused by name. Where rules meet a kernel is tested in
//! `tests/tests/interception`.

use clap::{Args as _, FromArgMatches as _};

use super::*;

fn settings(flags: &[&str]) -> Result<Settings, String> {
    let command = Settings::augment_args(clap::Command::new("init").no_binary_name(true));
    let matches = command.try_get_matches_from(flags).map_err(|error| error.to_string())?;
    Settings::from_arg_matches(&matches).map_err(|error| error.to_string())
}

/// The rules under some flags.
pub(super) fn table(flags: &[&str]) -> Table {
    Table::new(&settings(flags).expect("they are right"))
}

#[test]
fn what_is_wrong_is_refused_with_the_flag_the_value_and_what_would_be_right() {
    for (flag, parts) in [
        ("--skip-inbound-ports=80,90-80", ["'90-80'", "--skip-inbound-ports", "use 80-90"]),
        ("--skip-outbound-ports=http", ["'http'", "--skip-outbound-ports", "8000-8100"]),
        ("--skip-outbound-cidrs=10.0.0.1/8", ["'10.0.0.1/8'", "-cidrs", "use 10.0.0.0/8"]),
        ("--skip-inbound-cidrs=fd00::/200", ["'fd00::/200'", "-cidrs", "fd00::/8"]),
        ("--outbound-port=0", ["'0'", "--outbound-port", "65535"]),
        ("--timeout=5", ["'5'", "--timeout", "5s"]),
    ] {
        let error = settings(&[flag]).expect_err("it is wrong");
        assert!(parts.iter().all(|part| error.contains(part)), "{flag}: {error}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let many = format!("--skip-inbound-ports={}", vec!["80"; MOST_ITEMS + 1].join(","));
    for (flags, parts) in [
        (vec!["--admin-port=4143"], ["--admin-port 4143", "--inbound-port"]),
        (vec!["--inbound-port=4140"], ["--inbound-port 4140", "--outbound-port"]),
        (vec![many.as_str()], ["--skip-inbound-ports: 501", "at most 500"]),
    ] {
        let settings = settings(&flags).expect("each alone is right");
        let error = settings.check().expect_err("together they are not").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let own = format!("--proxy-user={}", geteuid().as_raw());
    let error = settings(&[&own]).expect("a user").check().expect_err("nothing can be seen");
    assert!(error.to_string().contains("--no-verify"), "{error}");
    settings(&[&own, "--no-verify"]).expect("a user").check().expect("nothing is tried");
}

#[test]
fn the_longest_lists_fit_into_their_messages() {
    let networks: Vec<String> =
        (0..MOST_ITEMS).map(|index| format!("fd{:02x}:{index:x}::/64", index % 2)).collect();
    let flag = format!("--skip-outbound-cidrs={}", networks.join(","));
    let messages = messages::replace(&table(&[&flag]));
    let longest = messages.iter().map(|message| message.attributes.as_bytes().len()).max();
    assert!(longest.is_some_and(|longest| (25_000..64_000).contains(&longest)), "{longest:?}");
}
