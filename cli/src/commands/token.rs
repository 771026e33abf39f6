//! `weft token …`: join tokens, with which sidecars outside Kubernetes get their first certificate.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

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

/// A token's life, as a user writes it: the control plane counts whole seconds, and 0 means its default there.
pub(crate) fn life(text: &str) -> Result<Duration, String> {
    let life = weft_proxy::config::parse_duration(text)?;
    if life < Duration::from_secs(1) {
        return Err(format!(
            "{text:?} is too short for a token's life: use 1s or more, 30m or 24h"
        ));
    }
    Ok(life)
}

pub(crate) async fn create(args: TokenCreateArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    // Before there is a token that nobody would get.
    let secret = args.to_file.as_deref().map(SecretFile::create).transpose()?;
    let request = CreateTokenRequest {
        namespace: args.namespace,
        service_account: args.service_account,
        ttl_seconds: args.ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        uses: args.uses,
    };
    let made = client.create_token(request).await.map_err(client::refused)?.into_inner();
    if let Some(Err(error)) = secret.map(|file| file.keep(&made.token)) {
        let revoked = client.revoke_token(RevokeTokenRequest { id: made.id.clone() }).await;
        let then = match revoked {
            Ok(_) => format!("token {} is revoked", made.id),
            Err(_) => format!("token {} is good all the same: revoke it", made.id),
        };
        return Err(error.context(then));
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

/// A new file that its owner alone may read; gone again unless it is kept.
struct SecretFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl SecretFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            let what = format!("cannot write the token to {}: {error}", path.display());
            let next = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    "name a file that is not there yet, or remove this one"
                }
                _ => "name a new file in a folder that you may write",
            };
            Failure::new(what, next)
        })?;
        Ok(Self { path: path.to_owned(), file, kept: false })
    }

    fn keep(mut self, secret: &str) -> anyhow::Result<()> {
        self.file
            .write_all(secret.as_bytes())
            .with_context(|| format!("cannot write the token to {}", self.path.display()))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_at_least_a_second() {
        for (text, right) in
            [("1s", true), ("24h", true), ("0s", false), ("999ms", false), ("5", false)]
        {
            assert_eq!(life(text).is_ok(), right, "{text}");
        }
        assert!(life("0s").is_err_and(|error| error.contains("use 1s or more")));
    }

    #[test]
    fn a_secrets_file_is_new_and_goes_unless_it_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        drop(SecretFile::create(&path).expect("created"));
        assert!(!path.exists());
        SecretFile::create(&path).expect("created").keep("secret").expect("written");
        let error = SecretFile::create(&path).err().expect("it is there").to_string();
        assert!(error.contains("token: "), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("untouched"), "secret");
    }
}
