//! A pod's proof: its projected ServiceAccount token, and the roots that the control plane is verified by before
//! it gets that token.
//!
//! Comes in: two files. Both are read at each join: the kubelet replaces the token as it ages, and the roots when
//! they are rotated. Anybody in the pod may read them, so their modes are the kubelet's business. Goes out: a
//! [`Proof`]. The token never shows in `Debug`, and errors name the file, never its content.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{Proof, TokenError};

/// A token has some 1,200 bytes, a root 1,000.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a pod's proof lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The projected token.
    pub token: PathBuf,
    /// Certificates in PEM, one or more: the control plane's chain must lead to one of them.
    pub roots: PathBuf,
}

/// A ServiceAccount token. It shows only where it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountToken(String);

impl ServiceAccountToken {
    /// The secret itself.
    pub(super) fn into_secret(self) -> String {
        self.0
    }
}

impl fmt::Debug for ServiceAccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccountToken")
    }
}

impl ServiceAccount {
    /// Reads both files as they are now. Blocks.
    ///
    /// # Errors
    /// One cannot be read, or does not hold what it should.
    pub fn read(&self) -> Result<Proof, TokenError> {
        let from = format!("the ServiceAccount token's file {:?}", self.token);
        let token = token(&read(&self.token, &from)?);
        let token = token.map_err(|why| TokenError::Form { from, why: why.to_owned() })?;
        let from = format!("the roots' file {:?}", self.roots);
        let roots = roots(&read(&self.roots, &from)?);
        let roots = roots.map_err(|why| TokenError::Form { from, why })?;
        Ok(Proof::ServiceAccount { token, roots })
    }
}

fn read(path: &Path, from: &str) -> Result<Vec<u8>, TokenError> {
    let failed = |error| TokenError::Read { from: from.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let too_long = format!("it is longer than {MAX_BYTES} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, too_long)));
    }
    Ok(bytes)
}

/// A JSON web token, as far as its form goes (RFC 7515 3.1); whether it is good is the API server's to say.
fn token(bytes: &[u8]) -> Result<ServiceAccountToken, &'static str> {
    const FORM: &str =
        "it is no ServiceAccount token; project one with the audience weft.dev into the pod";
    let text = std::str::from_utf8(bytes).map_err(|_| FORM)?.trim();
    let is_base64url = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.split('.').count() != 3 || !text.split('.').all(is_base64url) {
        return Err(FORM);
    }
    Ok(ServiceAccountToken(text.to_owned()))
}

fn roots(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    const RIGHT: &str = "use certificates in PEM, such as roots.pem of the ConfigMap weft-roots";
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match roots {
        Ok(roots) if roots.is_empty() => Err(format!("it holds no certificate; {RIGHT}")),
        Ok(roots) => Ok(roots),
        Err(error) => Err(format!("{error}; {RIGHT}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tls::testing::Authority;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsid2VmdC5kZXYiXX0.c2lnbmF0dXJl-_";

    /// A volume as the kubelet makes it: the files are links into a folder that is swapped whole.
    struct Volume(tempfile::TempDir);

    impl Volume {
        fn new(token: &str, roots: &str) -> Self {
            let volume = Self(tempfile::tempdir().unwrap());
            for name in ["token", "roots.pem"] {
                symlink(format!("..data/{name}"), volume.0.path().join(name)).unwrap();
            }
            volume.swap("1", token, roots);
            volume
        }

        fn swap(&self, version: &str, token: &str, roots: &str) {
            let folder = self.0.path().join(version);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("token"), token).unwrap();
            std::fs::write(folder.join("roots.pem"), roots).unwrap();
            symlink(version, self.0.path().join("next")).unwrap();
            std::fs::rename(self.0.path().join("next"), self.0.path().join("..data")).unwrap();
        }

        fn source(&self) -> ServiceAccount {
            let path = |name| self.0.path().join(name);
            ServiceAccount { token: path("token"), roots: path("roots.pem") }
        }

        fn error(token: &str, roots: &str) -> String {
            Self::new(token, roots).source().read().unwrap_err().to_string()
        }
    }

    fn proof(token: &str, authorities: &[&Authority]) -> Proof {
        let roots = authorities.iter().map(|authority| authority.root()).collect();
        Proof::ServiceAccount { token: ServiceAccountToken(token.to_owned()), roots }
    }

    #[test]
    fn what_the_kubelet_swapped_in_is_read_next_time() {
        let (one, two) = (Authority::new("one"), Authority::new("two"));
        let volume = Volume::new(TOKEN, &one.root_pem());
        assert_eq!(volume.source().read().unwrap(), proof(TOKEN, &[&one]));
        let rotated = TOKEN.replace("c2ln", "AAAA");
        volume.swap("2", &format!("{rotated}\n"), &(two.root_pem() + "\n" + &one.root_pem()));
        assert_eq!(volume.source().read().unwrap(), proof(&rotated, &[&two, &one]));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_without_the_token() {
        let root = Authority::new("root").root_pem();
        let missing = ServiceAccount { token: "/nowhere/token".into(), roots: "/nowhere".into() };
        let error = missing.read().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read the ServiceAccount token's file \"/nowhere/token\": "),
            "{error}"
        );
        for (token, roots, file, right) in [
            ("", &*root, "/token", "the audience weft.dev"),
            ("weft1.secret", &root, "/token", "the audience weft.dev"),
            ("a.secret b.c", &root, "/token", "the audience weft.dev"),
            (&"secret".repeat(20_000), &root, "/token", "longer than 65536 bytes"),
            (TOKEN, "", "/roots.pem", "it holds no certificate; use certificates in PEM"),
            (TOKEN, "-----BEGIN CERTIFICATE-----\n", "/roots.pem", "use certificates in PEM"),
        ] {
            let error = Volume::error(token, roots);
            assert!(error.contains(file) && error.contains(right), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(!format!("{:?}", proof(TOKEN, &[])).contains("c2ln"));
    }
}
