//! A certificate authority handed in: an intermediate (or a root) that somebody else made and rotates.
//!
//! Comes in: a PEM file with the signing certificate first, the ones above it after, and every trusted root
//! (self-signed) among them; and a PEM file with the key. Goes out: a signer. Its roots are not ours to
//! rotate: replace the files and restart.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{CaError, root};

/// Where the authority handed in lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalFiles {
    /// PEM: the signing certificate, the ones above it, the roots.
    pub chain: PathBuf,
    /// PEM: the signing certificate's key.
    pub key: PathBuf,
}

/// A signer that was handed in.
pub(super) struct External {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// What is sent after a leaf: the signing certificate and those above it, without roots.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The earliest end among the signing certificate and its chain.
    pub(super) not_after: SystemTime,
}

impl External {
    pub(super) fn open(files: &ExternalFiles) -> Result<Self, CaError> {
        let content = |why: String| CaError::Content { path: files.chain.clone(), why };
        let certificates = CertificateDer::pem_slice_iter(&read(&files.chain)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| content(format!("is no PEM of certificates: {error}")))?;
        let Some(signing) = certificates.first() else {
            return Err(content("holds no certificate; put the signing one first".into()));
        };
        let key = key(&files.key)?;
        check_signing(signing, &key).map_err(content)?;
        let issuer = Issuer::from_ca_cert_der(signing, key)?;
        let (roots, intermediates): (Vec<_>, Vec<_>) =
            certificates.iter().cloned().partition(is_self_issued);
        if roots.is_empty() {
            return Err(content("holds no self-signed root; append the root's certificate".into()));
        }
        let mut not_after = root::not_after(signing).map_err(content)?;
        for above in &intermediates {
            not_after = not_after.min(root::not_after(above).map_err(content)?);
        }
        Ok(Self { issuer, intermediates, roots, not_after })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CaError> {
    fs::read(path).map_err(|source| CaError::Io { path: path.to_owned(), source })
}

fn key(path: &Path) -> Result<KeyPair, CaError> {
    let content = |why: &str| CaError::Content { path: path.to_owned(), why: why.into() };
    let pem = String::from_utf8(read(path)?).map_err(|_| content("is no PEM"))?;
    KeyPair::from_pem(&pem)
        .map_err(|_| content("holds no private key that can sign; use PKCS#8 PEM"))
}

fn check_signing(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<(), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("its first certificate cannot be read: {error}"))?;
    if !parsed.is_ca() {
        return Err("its first certificate is no CA (basicConstraints CA:TRUE)".into());
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err("its first certificate does not belong to the key".into());
    }
    Ok(())
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}
