//! `weft check`: whether a cluster is ready for Weft (`--pre`), or whether Weft works in it.
//!
//! Comes in: what the API server says. Goes out: one line for each thing looked at, with what to do where something
//! is wrong; exit code 1 when something is. It only reads, and ends in bounded time whatever answers.
//!
//! - [`facts`]: the questions, asked side by side.
//! - [`before`], [`after`]: judgements of the answers; pure.
//! - [`pods`]: those of pods and their namespaces; [`wording`]: those of what namespaces say.
//! - [`webhook`]: those of the webhook's configuration.
//! - [`definitions`]: those of Weft's own kinds.

mod after;
mod before;
mod definitions;
mod facts;
mod finding;
mod pods;
mod webhook;
mod wording;

use std::time::Duration;

use kube::Client;
use weft_proxy::clock;

use self::finding::Finding;
use super::cluster::{self, Answer, ask};
use crate::{command::CheckArgs, failure::AlreadyReported};

/// For all questions: a large cluster's pods are read in pages.
const ALL_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let (client, url) = cluster::connect(&args.cluster).await?;
    let findings = findings(&client, &url, &args).await;
    finding::print(&findings, args.format.output)?;
    if finding::any_failed(&findings) {
        return Err(AlreadyReported.into());
    }
    Ok(())
}

async fn findings(client: &Client, url: &str, args: &CheckArgs) -> Vec<Finding> {
    let version = ask(Box::pin(client.apiserver_version())).await.map(|info| info.git_version);
    let mut findings = vec![server(&version, url)];
    if version.is_err() {
        return findings;
    }
    let rest = async {
        let facts = facts::gather(client).await;
        if args.pre {
            let rights = facts::rights(client).await;
            before::judge(&facts, &rights, &args.namespaces)
        } else {
            after::judge(&facts, &args.namespaces, now())
        }
    };
    match clock::timeout(ALL_WITHIN, rest).await {
        Ok(rest) => findings.extend(rest),
        Err(_) => {
            let message = format!("{url} answers too slowly: not all was looked at within 60 s");
            findings.push(Finding::failed(
                "API server",
                message,
                "try again when it has less to do",
            ));
        }
    }
    findings
}

/// What brings back what is missing. Options that are left out would be the defaults again.
const INSTALL_AGAIN: &str =
    "weft install | kubectl apply -f -, with the options that you installed it with";

/// Native sidecars are on by default from this version on.
const OLDEST: (u32, u32) = (1, 29);

fn server(version: &Answer<String>, url: &str) -> Finding {
    const CHECK: &str = "API server";
    let version = match version {
        Ok(version) => version,
        Err(why) => {
            let fix =
                "is it up, and does `kubectl version` reach it? --context chooses another cluster";
            return Finding::failed(CHECK, format!("{url}: {why}"), fix);
        }
    };
    match numbers(version) {
        Some(found) if found < OLDEST => {
            let fix = "upgrade the cluster: sidecars need 1.29, where init containers that go on are known";
            Finding::failed(CHECK, format!("{version} at {url} is too old"), fix)
        }
        Some(_) => Finding::ok(CHECK, format!("{version} answers at {url}")),
        None => {
            let fix = "make sure that it is Kubernetes 1.29 or newer";
            Finding::warning(
                CHECK,
                format!("{version:?} at {url} is no version that is known"),
                fix,
            )
        }
    }
}

/// "v1.33.2+k3s1" is 1.33.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Seconds since 1970.
fn now() -> i64 {
    i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
