//! The API server that the user means, and the ways of asking it.
//!
//! Comes in: a kubeconfig and a context, as `kubectl` takes them; in a pod, its service account. Goes out: a client
//! none of whose questions waits for long, and answers that say why there is none. Nothing here writes.

use std::{fmt, time::Duration};

use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use weft_proxy::clock;

use crate::{command::ClusterArgs, failure::Failure};

/// For one question. A plug-in that asks for credentials is within it too.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A page of a list: large clusters are read in pieces.
const PAGE: u32 = 500;

/// What was asked, or why there is no answer.
pub(super) type Answer<T> = Result<T, String>;

/// The client, and where it asks.
pub(super) async fn connect(args: &ClusterArgs) -> anyhow::Result<(Client, String)> {
    let config = config(args).await.map_err(|why| {
        let next = "name a file with --kubeconfig or KUBECONFIG, and a context with --context; `kubectl config \
                    get-contexts` lists them";
        Failure::new(format!("no cluster is known: {why}"), next)
    })?;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config)
        .map_err(|error| Failure::new(format!("{url}: {error}"), "correct the kubeconfig"))?;
    Ok((client, url.trim_end_matches('/').to_owned()))
}

async fn config(args: &ClusterArgs) -> Result<Config, String> {
    let options =
        KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| causes(&error))?;
            Config::from_custom_kubeconfig(read, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    };
    let mut config = match config {
        Ok(config) => config,
        // In a pod there is no file.
        Err(error) if args.kubeconfig.is_none() && args.context.is_none() => {
            Config::incluster().map_err(|_| causes(&error))?
        }
        Err(error) => return Err(causes(&error)),
    };
    config.connect_timeout = Some(ANSWER_WITHIN / 2);
    config.read_timeout = Some(ANSWER_WITHIN);
    Ok(config)
}

/// Asks one question, for a bounded time.
pub(super) async fn ask<T>(question: impl Future<Output = kube::Result<T>>) -> Answer<T> {
    ask_within(ANSWER_WITHIN, question).await
}

async fn ask_within<T>(
    bound: Duration,
    question: impl Future<Output = kube::Result<T>>,
) -> Answer<T> {
    match clock::timeout(bound, question).await {
        Err(_) => Err(format!("no answer within {} s", bound.as_secs_f32())),
        Ok(Err(kube::Error::Api(status))) if status.message.is_empty() => {
            Err(format!("it answers {} {}", status.code, status.reason).trim_end().to_owned())
        }
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(causes(&error)),
        Ok(Ok(answer)) => Ok(answer),
    }
}

// A question's future is large, and many are asked at once: each is boxed.

/// One object. `None`: there is none.
pub(super) async fn get<K>(api: Api<K>, name: &str) -> Answer<Option<K>>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    ask(Box::pin(api.get_opt(name))).await
}

/// Every object of a kind, page by page.
pub(super) async fn list<K>(api: Api<K>, selector: ListParams) -> Answer<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug,
{
    let mut objects = Vec::new();
    let mut page = selector.limit(PAGE);
    loop {
        let answer = ask(Box::pin(api.list(&page))).await?;
        objects.extend(answer.items);
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

/// An error with what caused it, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_nobody_answers_is_given_up() {
        let bound = Duration::from_millis(50);
        let answer = ask_within(bound, std::future::pending::<kube::Result<()>>()).await;
        assert_eq!(answer, Err("no answer within 0.05 s".into()));
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named_with_what_to_do() {
        let args = ClusterArgs { kubeconfig: Some("/nowhere/config".into()), context: None };
        let error = connect(&args).await.err().expect("there is no such file");
        let report = crate::failure::report(&error);
        assert!(report.contains("/nowhere/config") && report.contains("--kubeconfig"), "{report}");
    }

    #[tokio::test]
    async fn a_context_that_is_not_known_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "apiVersion: v1\nkind: Config\n").expect("written");
        let args = ClusterArgs {
            kubeconfig: Some(file.path().to_owned()),
            context: Some("production".into()),
        };
        let error = connect(&args).await.err().expect("there is no such context");
        assert!(crate::failure::report(&error).contains("production"), "{error:#}");
    }
}
