//! The certificate signing request: a key, and the proof that the asker holds it.
//!
//! Comes in: PKCS#10, DER, from anybody. Goes out: a P-256 public key whose owner signed the request. The
//! subject and the requested extensions never count: who somebody is comes from the proof, not from here.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256},
    prelude::FromDer,
};

use super::CaError;

/// Above this no P-256 request is, with whatever subject.
const MAX_BYTES: usize = 8 * 1024;
/// An uncompressed P-256 point: 04, x, y (SEC 1, 2.3.3).
const POINT_BYTES: usize = 65;
const POINT_UNCOMPRESSED: u8 = 4;

/// A request that was checked.
#[derive(Debug)]
pub struct Csr {
    pub(super) public_key: SubjectPublicKeyInfo,
}

impl Csr {
    /// Checks a request: form, key type, signature.
    ///
    /// # Errors
    /// [`CaError::Csr`] says what is wrong and what would be right.
    pub fn parse(der: &[u8]) -> Result<Self, CaError> {
        if der.len() > MAX_BYTES {
            return Err(CaError::Csr("it is longer than 8 KiB"));
        }
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|_| CaError::Csr("it is not a PKCS#10 request in DER"))?;
        if !rest.is_empty() {
            return Err(CaError::Csr("bytes follow the request"));
        }
        let info = &request.certification_request_info;
        let key = &info.subject_pki;
        let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
            return Err(CaError::Csr(
                "its key is not an ECDSA key on P-256; make one of that kind",
            ));
        }
        let point = key.subject_public_key.data.as_ref();
        if point.len() != POINT_BYTES || point.first() != Some(&POINT_UNCOMPRESSED) {
            return Err(CaError::Csr("its key is not an uncompressed point on P-256"));
        }
        if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
            return Err(CaError::Csr("it is not signed with ECDSA and SHA-256"));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(info.raw, request.signature_value.data.as_ref())
            .map_err(|_| CaError::Csr("its signature is not by its own key"))?;
        Ok(Self { public_key: SubjectPublicKeyInfo::from_der(key.raw)? })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    };

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_p256_request_is_accepted() {
        Csr::parse(&request(&KeyPair::generate().unwrap())).unwrap();
    }

    #[test]
    fn other_kinds_of_keys_are_refused_by_name() {
        for algorithm in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let error = Csr::parse(&request(&key)).unwrap_err().to_string();
            assert!(error.contains("not an ECDSA key on P-256"), "{error}");
        }
    }

    #[test]
    fn a_signature_by_another_key_is_refused() {
        let mut der = request(&KeyPair::generate().unwrap());
        let other = request(&KeyPair::generate().unwrap());
        // The signature is the tail of the DER; the first bytes of it hold lengths, the last ones numbers.
        let (end, from) = (der.len(), other.len());
        der[end - 16..].copy_from_slice(&other[from - 16..]);
        let error = Csr::parse(&der).unwrap_err().to_string();
        assert!(error.contains("not by its own key"), "{error}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let whole = request(&KeyPair::generate().unwrap());
        let mut longer = whole.clone();
        longer.push(0);
        for wrong in [&[][..], b"hello", &whole[..whole.len() - 1], &longer, &vec![0x30; 9000]] {
            assert!(matches!(Csr::parse(wrong), Err(CaError::Csr(_))));
        }
    }
}
