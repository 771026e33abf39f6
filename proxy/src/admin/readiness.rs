//! May requests come? Put together from those who know.

use super::Admin;
use crate::clock;

impl Admin {
    /// What readiness waits for, one sentence each; nothing when ready. Once ready, a lost control plane
    /// changes nothing until the certificate expires.
    #[must_use]
    pub fn waits_for(&self) -> Vec<String> {
        let mut waits = Vec::new();
        if self.drain.drain().is_draining() {
            waits.push("draining".to_owned());
        }
        match self.identity.credentials() {
            None => waits.push(match self.identity.status().last_failure {
                Some(failure) => format!("there is no certificate yet: {failure}"),
                None => "there is no certificate yet".to_owned(),
            }),
            Some(credentials) if !credentials.svid.holds_at(clock::since_epoch()) => {
                waits.push(format!(
                    "the certificate of {} is not valid at this time",
                    credentials.svid.identity()
                ));
            }
            Some(_) => {}
        }
        waits.extend(self.directory.status().borrow().waits_for());
        waits
    }
}
