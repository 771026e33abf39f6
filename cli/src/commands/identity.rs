//! `weft identity …`: the certificates of a workload's sidecars, decoded, and the mesh's roots.

use anyhow::Context as _;
use serde::Serialize;
use weft_proto::api::{IdentitiesRequest, IssuedIdentity, RotateRootRequest};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{
    client,
    command::{IdentityArgs, RotateRootArgs},
    commands::{
        in_namespace,
        time::{self, Instant},
    },
    failure::Failure,
    output,
};

/// A certificate as people read it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Decoded {
    workload: String,
    /// Empty until its sidecar has connected with it.
    instance: String,
    subject_alternative_names: Vec<String>,
    issuer: String,
    serial: String,
    not_before: String,
    not_after: String,
    /// Seconds; negative when expired.
    seconds_left: i64,
    key: String,
    signature: String,
    sha256: String,
    chain_length: usize,
    issued_at: i64,
    #[serde(skip)]
    not_after_seconds: i64,
}

pub(crate) async fn show(args: IdentityArgs) -> anyhow::Result<()> {
    let workload = args.workload.unwrap_or_default();
    let workload = in_namespace(&workload, args.namespace.as_deref());
    let mut client = client::connect(&args.api).await?;
    let request = IdentitiesRequest { workload: workload.clone() };
    let answer = client.identities(request).await.map_err(client::refused)?.into_inner();
    let decoded: Vec<Decoded> =
        answer.identities.iter().map(decode).collect::<anyhow::Result<_>>()?;
    if decoded.is_empty() {
        let what = format!("no certificate was issued to {workload}");
        let next = "`weft proxies` lists the workloads whose sidecars have one; name one of these";
        return Err(Failure::new(what, next).into());
    }
    if let Some(printed) = output::print_structured(args.format.output, &decoded) {
        return printed;
    }
    let texts: Vec<String> = decoded.iter().map(text).collect();
    output::print(&texts.join("\n"))
}

fn decode(identity: &IssuedIdentity) -> anyhow::Result<Decoded> {
    let leaf = identity.chain.first().context("the control plane sent an empty chain")?;
    let (_, certificate) =
        X509Certificate::from_der(leaf).context("the control plane sent no X.509 certificate")?;
    let names = certificate.subject_alternative_name()?.map_or_else(Vec::new, |extension| {
        extension.value.general_names.iter().map(name_text).collect()
    });
    let validity = certificate.validity();
    let not_after_seconds = validity.not_after.timestamp();
    let left = validity.time_to_expiration().map_or_else(
        || -i64::try_from(Instant::of_seconds(not_after_seconds).age().as_secs()).unwrap_or(0),
        |left| left.whole_seconds(),
    );
    Ok(Decoded {
        workload: identity.workload.clone(),
        instance: identity.instance.clone(),
        subject_alternative_names: names,
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        seconds_left: left,
        key: key_text(&certificate),
        signature: oid_text(&certificate.signature_algorithm.algorithm),
        sha256: fingerprint(leaf),
        chain_length: identity.chain.len(),
        issued_at: identity.issued_at,
        not_after_seconds,
    })
}

fn name_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        other => other.to_string(),
    }
}

/// The names of the algorithms that SVIDs use; others by their number.
fn oid_text(oid: &x509_parser::der_parser::oid::Oid<'_>) -> String {
    let number = oid.to_id_string();
    let name = match number.as_str() {
        "1.2.840.10045.2.1" => "EC",
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.34" => "P-384",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.3.101.112" => "Ed25519",
        _ => return number,
    };
    name.to_owned()
}

fn key_text(certificate: &X509Certificate<'_>) -> String {
    let algorithm = &certificate.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    match curve {
        Some(curve) => format!("{} {}", oid_text(&algorithm.algorithm), oid_text(&curve)),
        None => oid_text(&algorithm.algorithm),
    }
}

fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(decoded: &Decoded) -> String {
    let left = time::left(Instant::of_seconds(decoded.not_after_seconds));
    let issued = output::span(Instant::of_seconds(decoded.issued_at).age());
    let names = decoded.subject_alternative_names.join(", ");
    let instance = match decoded.instance.as_str() {
        "" => "none has connected with it yet".to_owned(),
        instance => instance.to_owned(),
    };
    let rows = [
        ("Workload", decoded.workload.clone()),
        ("Instance", instance),
        ("Subject alternative name", names),
        ("Issuer", decoded.issuer.clone()),
        ("Serial", decoded.serial.clone()),
        ("Valid from", decoded.not_before.clone()),
        ("Valid until", format!("{} ({left})", decoded.not_after)),
        ("Issued", format!("{issued} ago")),
        ("Key", decoded.key.clone()),
        ("Signature", decoded.signature.clone()),
        ("SHA-256", decoded.sha256.clone()),
        ("Chain", format!("{} certificate(s)", decoded.chain_length)),
    ];
    rows.iter().map(|(name, value)| format!("{:<26}{value}\n", format!("{name}:"))).collect()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Root {
    sha256: String,
    signing: bool,
    not_after: i64,
}

pub(crate) async fn rotate_root(args: RotateRootArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let request = RotateRootRequest { retire_old: args.retire_old };
    let answer = client.rotate_root(request).await.map_err(client::refused)?.into_inner();
    let roots: Vec<Root> = answer
        .roots
        .into_iter()
        .map(|root| Root { sha256: root.sha256, signing: root.signing, not_after: root.not_after })
        .collect();
    if let Some(printed) = output::print_structured(args.format.output, &roots) {
        return printed;
    }
    let mut table = output::table(&["root (sha-256)", "signs", "valid"]);
    for root in &roots {
        let signs = if root.signing { "yes" } else { "no, trusted" };
        let valid = time::left(Instant::of_seconds(root.not_after));
        table.add_row([root.sha256.clone(), signs.into(), valid]);
    }
    output::print_table(&table, "the control plane has no root")?;
    if roots.len() > 1 {
        let next = if args.retire_old {
            "an old root goes once every sidecar under it has renewed or gone; nothing is left to do"
        } else {
            "once every sidecar has renewed: weft identity rotate-root --retire-old"
        };
        eprintln!("{next}");
    }
    Ok(())
}
