//! Judgements of the webhook's configuration: whether the API server can ask the injector. Pure.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use x509_parser::pem::Pem;

use super::{
    super::{cluster::Answer, manifests},
    INSTALL_AGAIN,
    facts::INJECTOR,
    finding::Finding,
};
use crate::command::InstallArgs;

const CHECK: &str = "webhook";

/// `now` in seconds since 1970.
pub(super) fn judge(found: &Answer<Option<MutatingWebhookConfiguration>>, now: i64) -> Finding {
    let configuration = match found {
        Ok(Some(configuration)) => configuration,
        Ok(None) => {
            let message =
                format!("MutatingWebhookConfiguration {INJECTOR} is not there: no pod is meshed");
            return Finding::failed(CHECK, message, INSTALL_AGAIN);
        }
        Err(why) => return Finding::unknown(CHECK, INJECTOR, why),
    };
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    if let Some(name) =
        expected().into_iter().find(|name| !webhooks.iter().any(|w| w.name == *name))
    {
        return Finding::failed(CHECK, format!("{INJECTOR} has no webhook {name}"), INSTALL_AGAIN);
    }
    for webhook in webhooks {
        if let Err(problem) = certificates(webhook, now) {
            let fix = "the control plane writes it: is it running, and what does it log?\n\
                       kubectl logs -n weft-system deploy/weft-control-plane";
            return Finding::failed(CHECK, format!("{INJECTOR}: {}: {problem}", webhook.name), fix);
        }
    }
    Finding::ok(CHECK, format!("{INJECTOR} is there, with certificates that are good now"))
}

/// The names of the webhooks that an installation has.
pub(super) fn expected() -> Vec<String> {
    let objects = manifests::objects(&InstallArgs::default()).unwrap_or_default();
    let webhooks = objects.iter().filter_map(|object| object.get("webhooks")?.as_sequence());
    webhooks.flatten().filter_map(|webhook| webhook["name"].as_str()).map(str::to_owned).collect()
}

/// Whether the API server can trust somebody by this bundle now.
fn certificates(webhook: &MutatingWebhook, now: i64) -> Result<(), String> {
    let bundle = webhook.client_config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
    if bundle.is_empty() {
        return Err("caBundle is empty: the API server trusts no certificate".into());
    }
    let mut lives = Vec::new();
    for pem in Pem::iter_from_buffer(bundle) {
        let pem = pem.map_err(|error| format!("caBundle is no PEM: {error}"))?;
        let certificate =
            pem.parse_x509().map_err(|error| format!("caBundle holds no certificate: {error}"))?;
        let validity = certificate.validity();
        lives.push((validity.not_before.timestamp(), validity.not_after.timestamp()));
    }
    match lives.iter().map(|(_, end)| end).max() {
        None => Err("caBundle holds no certificate".into()),
        Some(_) if lives.iter().any(|(from, to)| (*from..=*to).contains(&now)) => Ok(()),
        Some(end) if *end < now => Err("every certificate in caBundle has ended".into()),
        Some(_) => Err("no certificate in caBundle is good yet: compare the clocks".into()),
    }
}
