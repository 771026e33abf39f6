//! Which endpoints of a service are ejected, and how many may be.
//!
//! An endpoint counts from its ejection until it takes requests again, the time in which it is tried out included: until
//! then it has next to no share of the requests. Pure; `K` tells endpoints apart.

use super::BreakerSettings;

/// The endpoints that are ejected or being tried out, each with the time at which its trying out begins.
#[derive(Debug, Clone)]
pub struct Ejections<K>(Vec<(K, u64)>);

impl<K> Default for Ejections<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq> Ejections<K> {
    /// How many endpoints do not take their share of the requests.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them are not tried out yet at this time.
    #[must_use]
    pub fn ejected(&self, now_ms: u64) -> usize {
        self.0.iter().filter(|(_, until_ms)| now_ms < *until_ms).count()
    }

    /// Whether this one of `total` may be ejected. One always may be, and one that is tried out may be again.
    #[must_use]
    pub fn allows(&self, endpoint: &K, total: usize, settings: &BreakerSettings) -> bool {
        let most = total * settings.max_ejected_percent.min(100) as usize / 100;
        self.len() < most.max(1) || self.0.iter().any(|(held, _)| held == endpoint)
    }

    /// Notes an ejection.
    pub fn note(&mut self, endpoint: K, until_ms: u64) {
        self.forget(&endpoint);
        self.0.push((endpoint, until_ms));
    }

    /// The endpoint takes requests again, or is gone.
    pub fn forget(&mut self, endpoint: &K) {
        self.0.retain(|(held, _)| held != endpoint);
    }

    /// Forgets all; those that were held.
    pub fn take(&mut self) -> impl Iterator<Item = K> {
        std::mem::take(&mut self.0).into_iter().map(|(endpoint, _)| endpoint)
    }
}

/// Whether so few of a service's endpoints take their share that all are used.
#[must_use]
pub const fn panics(ejected: usize, total: usize, settings: &BreakerSettings) -> bool {
    ejected > 0 && total.saturating_sub(ejected) * 100 < total * settings.panic_percent as usize
}

/// What of a service's success rates counts as an outlier: rates below the one that comes out, if any can be.
#[must_use]
pub fn outliers_below(rates: &[f64], deviation_thousandths: u32) -> Option<f64> {
    if rates.len() < 3 || deviation_thousandths == 0 {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    Some(mean - variance.sqrt() * f64::from(deviation_thousandths) / 1_000.0)
}
