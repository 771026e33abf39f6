//! `weft apply`, `get`, `describe` and `delete`: the operator's objects, as `kubectl` users expect.
//!
//! Comes in: files, kinds in any spelling, names. Goes out: one line an object; exit code 1 when one was
//! refused or is not there. Which kinds exist and what is right is the control plane's to say.

mod columns;
mod describe;
pub(crate) mod files;
mod implied;

pub(crate) use describe::describe;
use implied::Implied;

use std::collections::BTreeSet;

use serde_json::Value;
use weft_control_plane::model::Kind;
use weft_proto::api::{
    ApplyRequest, DeleteRequest, GetRequest, ObjectRef, ObjectResult, ProxiesRequest,
    object_result::Outcome,
};

use crate::{
    client::{self, Client},
    command::{ApplyArgs, DeleteArgs, Format, GetArgs, NamespaceArgs},
    failure::{AlreadyReported, Failure},
    output, runs,
};

pub(crate) async fn apply(args: ApplyArgs) -> anyhow::Result<()> {
    let objects = files::read(&args.filename, args.namespace.as_deref())?;
    if objects.is_empty() {
        let what = "there is no object in what was given";
        return Err(Failure::new(what, "give files with objects: weft apply -f FILE").into());
    }
    let mut client = client::connect(&args.api).await?;
    let request = ApplyRequest {
        objects: objects.iter().map(Value::to_string).collect(),
        dry_run: args.dry_run,
    };
    let answer = client.apply(request).await.map_err(client::refused)?.into_inner();
    report(&answer.results, if args.dry_run { " (dry run)" } else { "" })
}

pub(crate) async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let refs = match &args.kind {
        Some(kind) => named(kind, &args.names, &args.namespace)?,
        None => files::read(&args.filename, Some(&args.namespace))?.iter().map(ref_of).collect(),
    };
    if let Some(unnamed) = refs.iter().find(|object| object.name.is_empty()) {
        let what = format!("which {} is to be deleted?", unnamed.kind);
        let next = format!("name it: weft delete {} NAME; `weft get {0}` lists them", unnamed.kind);
        return Err(Failure::new(what, next).into());
    }
    let mut client = client::connect(&args.api).await?;
    let answer = client.delete(DeleteRequest { refs }).await.map_err(client::refused)?;
    report(&answer.into_inner().results, "")
}

/// One line an object: what became of it on stdout, refusals on stderr.
fn report(results: &[ObjectResult], note: &str) -> anyhow::Result<()> {
    let mut failed = false;
    for result in results {
        let (word, bad) = match result.outcome() {
            Outcome::Unspecified => ("done", false),
            Outcome::Created => ("created", false),
            Outcome::Configured => ("configured", false),
            Outcome::Unchanged => ("unchanged", false),
            Outcome::Deleted => ("deleted", false),
            Outcome::Refused => ("refused", true),
            Outcome::NotFound => ("not found", true),
        };
        failed |= bad;
        let why = match result.message.as_str() {
            "" => String::new(),
            message => format!(": {}", runs::in_users_words(message)),
        };
        let line = format!("{} {word}{note}{why}\n", result.object);
        if bad { eprint!("{line}") } else { output::print(&line)? }
    }
    if failed { Err(AlreadyReported.into()) } else { Ok(()) }
}

pub(crate) async fn get(args: GetArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let found = fetch(&mut client, &args.kind, &args.names, &args.namespace).await?;
    for problem in &found.problems {
        eprintln!("warning: {}", runs::in_users_words(problem));
    }
    if !found.by_name && !found.implied.is_empty() {
        eprintln!("{}", implied::note(&found.implied));
    }
    let single = found.by_name && found.objects.len() == 1;
    let printed = if single {
        output::print_structured(args.format.output, &found.objects[0])
    } else {
        let list =
            serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": found.objects });
        output::print_structured(args.format.output, &list)
    };
    if let Some(printed) = printed {
        return printed.and(found.complete());
    }
    let wide = args.format.output == Format::Wide;
    let connected = connected(&mut client, &found.objects).await;
    print_tables(&args, &found, &connected, wide)?;
    found.complete()
}

/// The workloads with a sidecar that is connected, where workloads are to be shown.
async fn connected(client: &mut Client, objects: &[Value]) -> BTreeSet<String> {
    if !objects.iter().any(|object| object["kind"] == "Workload") {
        return BTreeSet::new();
    }
    let answer = client.proxies(ProxiesRequest {}).await;
    let proxies = answer.map(|answer| answer.into_inner().proxies).unwrap_or_default();
    proxies.into_iter().filter(|proxy| proxy.connected).map(|proxy| proxy.workload).collect()
}

/// A table for each kind, in the order in which the kinds came.
fn print_tables(
    args: &GetArgs,
    found: &Found,
    connected: &BTreeSet<String>,
    wide: bool,
) -> anyhow::Result<()> {
    if found.objects.is_empty() && found.implied.is_empty() {
        let place = if args.namespace.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {} (-A shows all)", args.namespace.namespace)
        };
        eprintln!("no {} in {place}", args.kind);
        return Ok(());
    }
    for of_one_kind in found.objects.chunk_by(|a, b| a["kind"] == b["kind"]) {
        let table = columns::table(of_one_kind, connected, args.namespace.all_namespaces, wide);
        output::print_table(&table, "")?;
    }
    Ok(())
}

/// What was found of what was asked for.
struct Found {
    objects: Vec<Value>,
    problems: Vec<String>,
    missing: Vec<String>,
    by_name: bool,
    /// Of the services asked for, those that have no object of their own.
    implied: Vec<Implied>,
}

impl Found {
    fn complete(&self) -> anyhow::Result<()> {
        match (self.missing.as_slice(), self.implied.first()) {
            ([], _) => Ok(()),
            (_, Some(implied)) => {
                let (service, by) = (&implied.service, implied.made_by());
                let what =
                    format!("there is no Service object {service}: {by} makes it by spec.service");
                Err(Failure::new(what, format!("`weft endpoints {service}` shows it")).into())
            }
            (missing, None) => {
                let what = format!("not found: {}", missing.join(", "));
                Err(Failure::new(what, "-A lists every namespace, -n looks into another").into())
            }
        }
    }
}

/// Asks for every object of a kind, or for the named ones.
async fn fetch(
    client: &mut Client,
    kind: &str,
    names: &[String],
    namespace: &NamespaceArgs,
) -> anyhow::Result<Found> {
    let namespace_name = if namespace.all_namespaces { "" } else { namespace.namespace.as_str() };
    let refs = named(kind, names, namespace_name)?;
    let by_name = refs.iter().all(|object| !object.name.is_empty());
    let mut found = Found {
        objects: Vec::new(),
        problems: Vec::new(),
        missing: Vec::new(),
        by_name,
        implied: Vec::new(),
    };
    for wanted in refs {
        if Kind::from_spelling(&wanted.kind) == Some(Kind::Service) {
            let more = implied::implied(client, &wanted.namespace, &wanted.name).await;
            found.implied.extend(more);
        }
        let missing = format!("{} {}", wanted.kind, wanted.name);
        let name = wanted.name.clone();
        let answer = client.get(GetRequest { r#ref: Some(wanted) }).await;
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound && by_name => {
                found.missing.push(missing);
                continue;
            }
            Err(status) => return Err(client::refused(status)),
        };
        if answer.objects.is_empty() && !name.is_empty() {
            found.missing.push(missing);
        }
        for object in &answer.objects {
            found.objects.push(serde_json::from_str(object)?);
        }
        for problem in answer.problems {
            if !found.problems.contains(&problem) {
                found.problems.push(problem);
            }
        }
    }
    Ok(found)
}

/// What "svc cart", "svc/cart", "svc,workloads" and "svc" refer to.
fn named(kind: &str, names: &[String], namespace: &str) -> anyhow::Result<Vec<ObjectRef>> {
    let object = |kind: &str, name: &str| ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    if kind.contains('/') {
        let all = std::iter::once(kind).chain(names.iter().map(String::as_str));
        return all
            .map(|text| match text.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
                    Ok(object(kind, name))
                }
                _ => Err(Failure::new(
                    format!("{text:?} names no object"),
                    "use KIND/NAME for all, or KIND NAME NAME…",
                )
                .into()),
            })
            .collect();
    }
    let kinds = kind.split(',').filter(|kind| !kind.is_empty());
    Ok(kinds
        .flat_map(|kind| match names {
            [] => vec![object(kind, "")],
            names => names.iter().map(|name| object(kind, name)).collect(),
        })
        .collect())
}

fn ref_of(object: &Value) -> ObjectRef {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    ObjectRef {
        kind: text(&object["kind"]),
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_kubectl_users_do() {
        let refs = |kind: &str, names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let refs = named(kind, &names, "shop").expect("valid");
            refs.iter().map(|r| format!("{}/{}/{}", r.kind, r.namespace, r.name)).collect()
        };
        assert_eq!(refs("svc", &[]), ["svc/shop/"]);
        assert_eq!(refs("svc", &["cart", "web"]), ["svc/shop/cart", "svc/shop/web"]);
        assert_eq!(refs("svc/cart", &[]), ["svc/shop/cart"]);
        assert_eq!(refs("svc/cart", &["workload/web"]), ["svc/shop/cart", "workload/shop/web"]);
        assert_eq!(refs("svc,workloads", &[]), ["svc/shop/", "workloads/shop/"]);
        assert!(named("svc/", &[], "shop").is_err());
        assert!(named("svc/cart", &["web".into()], "shop").is_err());
    }
}
