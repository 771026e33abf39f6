//! The sidecar's private key: made in memory, never written out, never shown.
//!
//! The key lives in aws-lc's own memory and is never serialized; aws-lc clears that memory when the last
//! handle is dropped. It signs two things: certificate signing requests and TLS handshakes.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    error::Unspecified,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey, public_key_to_spki},
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, alg_id};

/// An ECDSA P-256 key.
#[derive(Clone)]
pub struct PrivateKey(Arc<EcdsaKeyPair>);

/// The system's source of randomness, or aws-lc, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {0}: the cryptographic library failed")]
pub struct KeyError(&'static str);

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|Unspecified| KeyError("make a private key"))?;
        Ok(Self(Arc::new(pair)))
    }

    /// A certificate signing request, PKCS#10 in DER. It names nobody: who the holder is, the control plane
    /// decides from the proof that goes with it.
    ///
    /// # Errors
    /// The signature cannot be made.
    pub fn signing_request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params
            .serialize_request(self)
            .map_err(|_| KeyError("sign a certificate signing request"))?;
        Ok(request.der().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        Ok(self.0.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign(message).map_err(|Unspecified| rcgen::Error::RemoteKeyError)
    }
}

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

impl SigningKey for PrivateKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, self.0.public_key()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.sign(message)
            .map_err(|Unspecified| rustls::Error::General("signing failed".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_request_carries_the_key_and_its_own_signature() {
        use x509_parser::prelude::FromDer as _;
        let key = PrivateKey::generate().unwrap();
        let request = key.signing_request().unwrap();
        let (rest, parsed) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&request)
                .unwrap();
        assert!(rest.is_empty());
        let info = &parsed.certification_request_info;
        let spki = SigningKey::public_key(&key).unwrap();
        assert_eq!(info.subject_pki.raw, spki.as_ref());
        // rcgen checks the signature when it reads one.
        rcgen::CertificateSigningRequestParams::from_der(&request.as_slice().into()).unwrap();
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", PrivateKey::generate().unwrap()), "PrivateKey(hidden)");
    }
}
