//! `weft token …`: join tokens, with which sidecars outside Kubernetes get their first certificate.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::Context as _;
use serde::Serialize;
use weft_proto::api::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Token};

use crate::{
    client,
    command::{TokenCreateArgs, TokenListArgs, TokenRevokeArgs},
    commands::time::{self, Instant},
    failure::Failure,
    output,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    expires_at: i64,
}

pub(crate) async fn create(args: TokenCreateArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let request = CreateTokenRequest {
        namespace: args.namespace,
        service_account: args.service_account,
        ttl_seconds: args.ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        uses: args.uses,
    };
    let made = client.create_token(request).await.map_err(client::refused)?.into_inner();
    if let Some(file) = &args.to_file {
        write_secret(file, &made.token)?;
    }
    let created = Created {
        id: made.id,
        token: args.to_file.is_none().then(|| made.token.clone()),
        file: args.to_file.as_ref().map(|file| file.display().to_string()),
        expires_at: made.expires_at,
    };
    if let Some(printed) = output::print_structured(args.format.output, &created) {
        return printed;
    }
    let until = time::in_future(Instant::of_seconds(created.expires_at));
    match &created.file {
        Some(file) => eprintln!("token {} is in {file}, good for {until}", created.id),
        None => {
            output::print(&format!("{}\n", made.token))?;
            eprintln!("token {}, good for {until}; it is not shown again", created.id);
        }
    }
    eprintln!("give it to a sidecar: weft proxy --token-file FILE …");
    Ok(())
}

/// Writes a secret to a new file that its owner alone may read.
fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(secret.as_bytes()))
        .with_context(|| format!("cannot write the token to {}", path.display()))
}

/// The uses left of a token without a bound.
const UNBOUND: u32 = u32::MAX;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    namespace: String,
    service_account: String,
    expires_at: i64,
    /// Null: no bound.
    uses_left: Option<u32>,
    revoked: bool,
}

impl From<Token> for Listed {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            namespace: token.namespace,
            service_account: token.service_account,
            expires_at: token.expires_at,
            uses_left: (token.uses_left != UNBOUND).then_some(token.uses_left),
            revoked: token.revoked,
        }
    }
}

pub(crate) async fn list(args: TokenListArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let answer = client.list_tokens(ListTokensRequest {}).await.map_err(client::refused)?;
    let tokens: Vec<Listed> = answer.into_inner().tokens.into_iter().map(Listed::from).collect();
    if let Some(printed) = output::print_structured(args.format.output, &tokens) {
        return printed;
    }
    let mut table = output::table(&["id", "service account", "state", "uses left"]);
    for token in &tokens {
        let expires = Instant::of_seconds(token.expires_at);
        let state = match (token.revoked, expires.left()) {
            (true, _) => "revoked".to_owned(),
            (false, None) => "expired".to_owned(),
            (false, Some(left)) => format!("good for {}", output::span(left)),
        };
        let uses = token.uses_left.map_or_else(|| "no bound".to_owned(), |left| left.to_string());
        let account = format!("{}/{}", token.namespace, token.service_account);
        table.add_row([token.id.clone(), account, state, uses]);
    }
    output::print_table(&table, "no tokens; make one with `weft token create SERVICE_ACCOUNT`")
}

pub(crate) async fn revoke(args: TokenRevokeArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let request = RevokeTokenRequest { id: args.id.clone() };
    let answer = client.revoke_token(request).await.map_err(client::refused)?.into_inner();
    if !answer.existed {
        let what = format!("there is no token {:?}", args.id);
        return Err(Failure::new(what, "`weft token list` shows their ids").into());
    }
    output::print(&format!("token {} revoked\n", args.id))
}
