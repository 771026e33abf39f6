//! The values of the settings, each from its text: typed values go out, or what is wrong and what would be right.

use super::{PermissivePorts, PortRanges, Sidecar};
use crate::model::mesh_config::Cidr;

/// Opaque and permissive ports travel to every caller as single ports: beyond this a range of addresses or a
/// mode of the whole mesh is meant.
const MOST_PORTS: usize = 1_000;

pub(super) fn cidrs(value: &str) -> Result<Vec<Cidr>, String> {
    if value.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parse = |item: &str| item.trim().parse::<Cidr>().map_err(|error| error.to_string());
    value.split(',').map(parse).collect()
}

pub(super) fn few_ports(value: &str) -> Result<PortRanges, String> {
    let ranges: PortRanges = value.parse()?;
    let count = ranges.count();
    if count > MOST_PORTS {
        return Err(format!("{value:?} names {count} ports: name at most {MOST_PORTS}"));
    }
    Ok(ranges)
}

pub(super) fn permissive(value: &str) -> Result<PermissivePorts, String> {
    if value == "all" {
        return Ok(PermissivePorts::All);
    }
    few_ports(value)
        .map(PermissivePorts::Listed)
        .map_err(|error| format!("{error}; or use \"all\" for every port"))
}

pub(super) fn log_level(value: &str) -> Result<String, String> {
    const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
    let is_target = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
    };
    let is_directive = |item: &str| match item.split_once('=') {
        Some((target, level)) => is_target(target) && LEVELS.contains(&level),
        None => LEVELS.contains(&item),
    };
    if value.split(',').all(is_directive) {
        return Ok(value.to_owned());
    }
    let levels = LEVELS.join(", ");
    Err(format!("{value:?} is no log level: use {levels}, or TARGET=LEVEL joined by ','"))
}

pub(super) fn switch(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{value:?}: use \"true\" or \"false\""))
}

pub(super) fn sidecar(value: &str) -> Result<Sidecar, String> {
    match value {
        "native" => Ok(Sidecar::Native),
        "classic" => Ok(Sidecar::Classic),
        _ => Err(format!("{value:?}: use \"native\" or \"classic\"")),
    }
}

/// Refuses what no container runtime takes; whether there is such an image only the node finds out.
pub(super) fn image(value: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    let starts_well = value.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && value.bytes().all(is_plain) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} is no image: use REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST"))
}
