//! What stands in a leaf certificate (SPIFFE X.509-SVID).
//!
//! Comes in: an identity, names, a lifetime. Goes out: the parameters to sign. It must never make a
//! certificate that may sign others, nor one with two SPIFFE IDs.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, SerialNumber,
};
use weft_proto::SpiffeId;

use super::CaError;
use crate::model::InstanceKey;

/// Clocks differ: a certificate is valid this long before it was made.
pub(super) const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The names that the control plane is reached at, beside its identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostNames {
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Whose certificate it is.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The SPIFFE ID.
    pub identity: &'a SpiffeId,
    /// The one instance that it was issued for, where the proof named one. It stands in the subject (OU
    /// "NAMESPACE/WORKLOAD", CN the instance), which no peer but the control plane looks at.
    pub instance: Option<&'a InstanceKey>,
    pub(super) hosts: Option<&'a HostNames>,
}

impl<'a> Holder<'a> {
    /// Whoever has this identity.
    #[must_use]
    pub const fn of(identity: &'a SpiffeId) -> Self {
        Self { identity, instance: None, hosts: None }
    }
}

/// The parameters of a leaf: one URI, digitalSignature, serverAuth and clientAuth, no CA.
pub(super) fn leaf(
    holder: &Holder<'_>,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Without any subject the alternative name would have to be critical (RFC 5280, 4.2.1.6).
    params.distinguished_name.push(DnType::OrganizationName, "Weft");
    if let Some(InstanceKey { workload, instance }) = holder.instance {
        params.distinguished_name.push(DnType::OrganizationalUnitName, workload.to_string());
        params.distinguished_name.push(DnType::CommonName, &**instance);
    }
    params.subject_alt_names.push(SanType::URI(holder.identity.as_str().try_into()?));
    for name in holder.hosts.iter().flat_map(|hosts| &hosts.dns) {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    let addresses = holder.hosts.iter().flat_map(|hosts| &hosts.addresses);
    params.subject_alt_names.extend(addresses.copied().map(SanType::IpAddress));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (now - BACKDATED).into();
    params.not_after = not_after.into();
    params.serial_number = Some(random_serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 126 random bits: positive, never 0, at most 20 bytes (RFC 5280, 4.1.2.2).
pub(super) fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = random::<16>()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(bytes)
}
