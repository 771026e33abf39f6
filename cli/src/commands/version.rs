//! `weft version`: this command's version, and the control plane's when one is there.

use serde::Serialize;
use weft_proto::api::VersionRequest;

use crate::{client, command::VersionArgs, output};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane: Option<ControlPlane>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ControlPlane {
    version: String,
    trust_domain: String,
    instance: String,
    discovery_address: String,
}

pub(crate) async fn print(args: VersionArgs) -> anyhow::Result<()> {
    let (control_plane, problem) = match control_plane(&args).await {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error)),
    };
    // A control plane that was asked for by name must be there.
    if let (Some(error), true) = (&problem, args.api.api.is_some()) {
        eprintln!("warning: {error:#}");
    }
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), control_plane };
    if let Some(printed) = output::print_structured(args.format.output, &versions) {
        return printed;
    }
    let server = match versions.control_plane {
        Some(found) => format!(
            "{} (trust domain {}, discovery at {})",
            found.version, found.trust_domain, found.discovery_address
        ),
        None => "none runs here (start one with `weft demo` or `weft up FILE`)".into(),
    };
    output::print(&format!("weft          {}\ncontrol plane {server}\n", versions.client))
}

async fn control_plane(args: &VersionArgs) -> anyhow::Result<ControlPlane> {
    let mut client = client::connect(&args.api).await?;
    let answer = client.version(VersionRequest {}).await.map_err(client::refused)?.into_inner();
    Ok(ControlPlane {
        version: answer.version,
        trust_domain: answer.trust_domain,
        instance: answer.instance,
        discovery_address: answer.discovery_address,
    })
}
