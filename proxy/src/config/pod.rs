//! Settings of a sidecar in a pod of Kubernetes; the injector sets them all (docs/kubernetes-proxy.md).

use std::{ffi::OsStr, net::IpAddr, path::PathBuf};

use clap::{Arg, Args, Command, builder::TypedValueParser, error::ErrorKind};
use serde::Serialize;

use crate::kubelet::Probes;

/// What a sidecar in a pod is told.
#[derive(Debug, Clone, Args, Serialize)]
pub struct PodSettings {
    /// In Kubernetes: file that holds the pod's projected ServiceAccount token (audience `weft.dev`), instead of a
    /// join token
    #[arg(
        long,
        env = "WEFT_SERVICE_ACCOUNT_TOKEN_FILE",
        requires = "roots_file",
        conflicts_with_all = ["token_file", "token_fd"]
    )]
    pub service_account_token_file: Option<PathBuf>,
    /// In Kubernetes: file of certificates (PEM); who gets the ServiceAccount token must be verified by one of them
    #[arg(long, env = "WEFT_ROOTS_FILE", requires = "service_account_token_file")]
    pub roots_file: Option<PathBuf>,
    /// In Kubernetes: the pod's own addresses, separated by commas (`status.podIPs`)
    #[arg(
        id = "pod_ips",
        long = "pod-ips",
        env = "WEFT_POD_IPS",
        value_name = "IP,IP",
        default_value = "",
        hide_default_value = true
    )]
    pub ips: PodIps,
    /// In Kubernetes: the probes and hooks of the pod's containers, which are made for the kubelet at
    /// /probe/CONTAINER/KIND of the admin port (JSON)
    #[arg(
        long,
        env = "WEFT_PROBES",
        value_name = "JSON",
        value_parser = ProbesParser,
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub probes: Probes,
}

/// A pod's own addresses, the main one first; none outside a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PodIps(pub Vec<IpAddr>);

impl std::str::FromStr for PodIps {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parsed = parts.map(|part| {
            part.parse().map_err(|_| format!("{part:?}: use IP or IP,IP such as 10.0.0.5,fd00::5"))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}

/// Reads the probes. Its errors do not repeat the whole value, as clap's own would: headers may be secrets.
#[derive(Clone)]
struct ProbesParser;

impl TypedValueParser for ProbesParser {
    type Value = Probes;

    fn parse_ref(
        &self,
        command: &Command,
        _argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Probes, clap::Error> {
        let parsed = match value.to_str() {
            Some(text) => text.parse(),
            None => Err("it is no text in UTF-8".to_owned()),
        };
        parsed.map_err(|why| {
            let message = format!("the probes (--probes, WEFT_PROBES) are not usable: {why}");
            command.clone().error(ErrorKind::ValueValidation, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::config::Config;

    fn parsed(arguments: &[&str]) -> Result<Config, clap::Error> {
        let command = Config::augment_args(Command::new("test"));
        let first = ["test", "--workload=shop/cart"];
        let matches = command.try_get_matches_from(first.iter().chain(arguments))?;
        Config::from_arg_matches(&matches)
    }

    #[test]
    fn a_proxy_proves_itself_in_one_way() {
        let account = "--service-account-token-file=/token";
        for (arguments, missing) in [
            (&[account, "--roots-file=/roots.pem"][..], ""),
            (&[account], "--roots-file <ROOTS_FILE>"),
            (&["--roots-file=/roots.pem"], "--service-account-token-file"),
            (&[account, "--roots-file=/roots.pem", "--token-file=/join"], "cannot be used with"),
            (&[account, "--roots-file=/roots.pem", "--token-fd=3"], "cannot be used with"),
        ] {
            let error = parsed(arguments).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error.is_empty(), missing.is_empty(), "{arguments:?}: {error}");
            assert!(error.contains(missing), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_pods_addresses_are_listed_as_kubernetes_writes_them() {
        for (text, count) in [("", 0), ("10.0.0.5", 1), ("10.0.0.5,fd00::5", 2)] {
            assert_eq!(text.parse::<PodIps>().expect("valid").0.len(), count, "{text}");
        }
        let error = "10.0.0.5,pod".parse::<PodIps>().expect_err("no address");
        assert_eq!(error, "\"pod\": use IP or IP,IP such as 10.0.0.5,fd00::5");
    }

    #[test]
    fn probes_that_are_wrong_are_named_without_their_headers() {
        let good = r#"--probes={"web/liveness": {"httpGet": {"port": 1}}}"#;
        assert_eq!(parsed(&[good]).expect("good").pod.probes.0.len(), 1);
        assert!(parsed(&[]).expect("good").pod.probes.0.is_empty());
        let bad = r#"--probes={"web/liveness": {"httpGet": {"port": 0,
            "httpHeaders": [{"name": "Authorization", "value": "secret"}]}}}"#;
        let error = parsed(&[bad]).expect_err("no port").to_string();
        let expected =
            "(--probes, WEFT_PROBES) are not usable: web/liveness.httpGet.port: 0: use a number";
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}
