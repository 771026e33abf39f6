//! Certificates as PEM (RFC 7468), the form in which Kubernetes and people want them.

use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::CertificateDer;

/// The certificates, one after the other.
#[must_use]
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    let blocks: Vec<_> = certificates
        .into_iter()
        .map(|certificate| Pem::new("CERTIFICATE", certificate.to_vec()))
        .collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_lines_are_short() {
        let certificates: Vec<_> = [0, 1, 47, 48, 49, 700]
            .map(|length| CertificateDer::from(vec![7; length]))
            .into_iter()
            .filter(|certificate| !certificate.is_empty())
            .collect();
        let text = pem(&certificates);
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        let read: Vec<_> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, certificates);
    }
}
