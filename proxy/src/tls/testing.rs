//! For tests: a certificate authority, and what it issues.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use weft_proto::SpiffeId;

use crate::identity::{Identity, PrivateKey, Svid};

/// A root.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// A new root of this name.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let root = params.self_signed(&key).unwrap();
        let (pem, root) = (root.pem(), root.der().clone());
        Self { issuer: Issuer::new(params, key), root, pem }
    }

    /// The root's certificate.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    /// The same, in PEM.
    pub(crate) fn root_pem(&self) -> String {
        self.pem.clone()
    }

    /// An SVID that holds for an hour, and did so for five minutes.
    pub(crate) fn svid(&self, identity: &str) -> Svid {
        let key = PrivateKey::generate().unwrap();
        Svid::new(vec![self.issue(leaf_params(identity), &key)], key).unwrap()
    }

    /// A certificate with these contents.
    pub(crate) fn issue(
        &self,
        params: CertificateParams,
        key: &impl rcgen::PublicKeyData,
    ) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// The live identity of a workload of `shop`, under this root.
    pub(crate) fn sidecar(&self, account: &str) -> Identity {
        let identity = Identity::default();
        identity.install(self.svid(&id(account)), vec![self.root()]).unwrap();
        identity
    }
}

/// The SPIFFE ID of a service account in `shop`, as text.
pub(crate) fn id(account: &str) -> String {
    format!("spiffe://weft.local/ns/shop/sa/{account}")
}

/// The SPIFFE ID of a service account in `shop`.
pub(crate) fn spiffe_id(account: &str) -> SpiffeId {
    id(account).parse().unwrap()
}

/// What an SVID holds.
pub(crate) fn leaf_params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - Duration::from_secs(300)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    params
}
