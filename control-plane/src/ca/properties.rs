//! What must hold of a signing request of any bytes: fuzzed, and run over the corpus by the tests.
//!
//! It is read or refused; a key gets through only with the proof that the asker holds it, so that no other one
//! does under the same signature.

use rcgen::PublicKeyData;

use super::csr::Csr;

/// Checks it for these bytes in the place of a request.
pub fn check(der: &[u8]) {
    let Ok(request) = Csr::parse(der) else { return };
    for at in 0..der.len() {
        let mut other = der.to_vec();
        other[at] ^= 1;
        if let Ok(other) = Csr::parse(&other) {
            let keys = [&request, &other].map(|csr| csr.public_key.der_bytes());
            assert_eq!(keys[0], keys[1], "byte {at} is not signed");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_requests_is_accepted_with_a_proof_only() {
        crate::replay::corpus("certificate", super::check);
    }
}
