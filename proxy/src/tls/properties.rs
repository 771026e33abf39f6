//! What must hold of a certificate of any bytes: fuzzed, and run over the corpus by the tests.
//!
//! It is read or refused, trusted or not; an identity is read only where it is the one URI name, and webpki,
//! which verifies the chain, reads no other one.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::leaf::Leaf;

/// Checks it for these bytes in the place of a certificate.
pub fn check(der: &[u8]) {
    let der = CertificateDer::from(der);
    let Ok(leaf) = Leaf::parse(&der) else { return };
    let Ok(identity) = &leaf.identity else { return };
    assert_eq!(leaf.presented, identity.as_str());
    if let Ok(certificate) = EndEntityCert::try_from(&der) {
        let mut names = certificate.valid_uri_names();
        assert!(names.all(|name| name == identity.as_str()), "another name than {identity}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_certificates_has_one_identity_each() {
        crate::replay::corpus("certificate", super::check);
    }
}
