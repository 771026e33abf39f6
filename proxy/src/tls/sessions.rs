//! The sessions with one endpoint that may be resumed.
//!
//! In come the tickets that the endpoint's sidecar gives, two with each handshake; each is used for one connection. As many
//! are kept as connections are opened at a time, so that a burst of them resumes too.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;

/// Tickets kept for one server name.
const TICKETS: usize = 32;

/// Server names of an endpoint: one for each port that is called there.
const NAMES: usize = 4;

/// What is remembered of one endpoint.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<ServerName<'static>, Remembered>>);

#[derive(Default)]
struct Remembered {
    group: Option<NamedGroup>,
    /// The newest last.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Remembered)) {
        let mut all = self.all();
        if all.len() >= NAMES && !all.contains_key(&name) {
            all.clear();
        }
        edit(all.entry(name).or_default());
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |remembered| remembered.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.all().get(name).and_then(|remembered| remembered.group)
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.edit(name, |remembered| {
            if remembered.tickets.len() >= TICKETS {
                remembered.tickets.pop_front();
            }
            remembered.tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.all().get_mut(name)?.tickets.pop_back()
    }

    // TLS 1.2 is not spoken.

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
