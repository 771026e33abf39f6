//! One root of the authority: its certificate, its key, and where it stands in its life.
//!
//! ```text
//!  announced ──(bundle distributed)──► signing ──(another one signs)──► old ──(retired)──► gone
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use weft_proto::{TrustDomain, join_token::hex};

use super::{CaError, svid};

/// Where a root stands. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub(super) enum Phase {
    /// In the bundle; signs when it is distributed.
    Announced { since: u64 },
    /// Signs.
    Signing,
    /// Trusted still, signs no more. By `expired_at` no certificate under it is valid.
    Old { expired_at: u64, retire: bool },
}

/// A root as it lies in the state file.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredRoot {
    pub(super) certificate: String,
    pub(super) key: String,
    /// This root's key, signed by the root before it: for whoever trusts only that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cross: Option<String>,
    #[serde(flatten)]
    pub(super) phase: Phase,
}

/// A root, ready to sign.
pub(super) struct Root {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) cross: Option<CertificateDer<'static>>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) not_after: SystemTime,
    pub(super) stored: StoredRoot,
}

impl StoredRoot {
    /// A new root, cross-signed by the one that signs now.
    pub(super) fn generate(
        domain: &TrustDomain,
        lifetime: Duration,
        now: SystemTime,
        previous: Option<&Root>,
    ) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = parameters(domain, now, now + lifetime)?;
        let certificate = params.self_signed(&key)?;
        let cross = match previous {
            Some(previous) => {
                params.not_after = (now + lifetime).min(previous.not_after).into();
                params.serial_number = Some(svid::random_serial()?);
                params.use_authority_key_identifier_extension = true;
                Some(params.signed_by(&key, &previous.issuer)?.pem())
            }
            None => None,
        };
        let phase = match previous {
            Some(_) => Phase::Announced { since: unix(now) },
            None => Phase::Signing,
        };
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), cross, phase })
    }

    /// Makes it ready to sign.
    pub(super) fn open(self) -> Result<Root, String> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| format!("a root's certificate is no PEM: {error}"))?;
        let cross = match &self.cross {
            Some(pem) => Some(
                CertificateDer::from_pem_slice(pem.as_bytes())
                    .map_err(|error| format!("a cross-signed certificate is no PEM: {error}"))?,
            ),
            None => None,
        };
        let key = KeyPair::from_pem(&self.key).map_err(|_| "a root's key is no PKCS#8 PEM")?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| format!("a root's certificate: {error}"))?;
        let not_after = not_after(&certificate)?;
        Ok(Root { certificate, cross, issuer, not_after, stored: self })
    }
}

impl Root {
    /// Names the root: SHA-256 of its certificate.
    pub(super) fn sha256(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }
}

fn parameters(
    domain: &TrustDomain,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Weft");
    // Roots of one trust domain differ by name, so that a verifier finds the right one at once.
    let name = format!("Weft root {}", hex(&svid::random::<8>()?));
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names =
        vec![SanType::URI(format!("spiffe://{domain}").as_str().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - svid::BACKDATED).into();
    params.not_after = not_after.into();
    params.serial_number = Some(svid::random_serial()?);
    Ok(params)
}

/// SHA-256 of a certificate.
pub(super) fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    bytes
}

/// When a certificate ends.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<SystemTime, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("a certificate cannot be read: {error}"))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Unix seconds.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
