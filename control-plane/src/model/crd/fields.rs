//! Schemas of values that are one text or number with rules of their own: what their parsers take, as a
//! pattern and bounds. The bounds also keep the cost of CEL rules small, which the API server estimates.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A DNS label (RFC 1123).
pub(in crate::model) fn label(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    })
}

/// A DNS label, or nothing.
pub(in crate::model) fn optional_label(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
    })
}

/// Labels joined by dots (RFC 1123).
pub(in crate::model) fn subdomain(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 253,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    })
}

/// NAME or NAME.NAMESPACE.
pub(in crate::model) fn service(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 127,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
    })
}

/// A trust domain (SPIFFE ID, section 2.1).
pub(in crate::model) fn trust_domain(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[a-z0-9._-]+$",
    })
}

/// A TCP port.
pub(in crate::model) fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535})
}

/// A number that is at least 1.
pub(in crate::model) fn positive(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 1, "maximum": u32::MAX})
}

/// The name of an environment variable.
pub(in crate::model) fn variable(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^=\\x00]+$"})
}

/// An absolute path of HTTP.
pub(in crate::model) fn path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 2048, "pattern": "^/"})
}

/// An address that can be dialled. An IPv6 multicast address begins with ff and two more digits.
pub(in crate::model) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 45,
        "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
        "x-kubernetes-validations": [{
            "rule": "!(self in ['0.0.0.0', '::']) && !self.matches('^(22[4-9]|23[0-9])[.]') \
                     && !self.matches('^[fF]{2}[0-9a-fA-F]{2}:')",
            "message": "nobody can dial it: use the instance's own address",
        }],
    })
}

/// Ranges of addresses, "10.0.0.0/8" or "fd00::/8".
pub(in crate::model) fn ranges(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "maxLength": 49, "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"},
    })
}

/// Suffixes of names.
pub(in crate::model) fn subdomains(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": subdomain(generator)})
}

/// A program and its arguments.
pub(in crate::model) fn command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string"},
        "x-kubernetes-validations": [{
            "rule": "size(self) == 0 || size(self[0]) > 0",
            "message": "the first entry is the program: name one",
        }],
    })
}
