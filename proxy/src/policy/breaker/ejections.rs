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

/// Siblings that differ by less are taken to differ by so much: what is alike has no outliers for a hair's breadth.
const LEAST_DEVIATION: f64 = 0.05;

/// Which of a service's success rates, by their place, are outliers: so many deviations below the mean of the others.
///
/// An endpoint is compared with its siblings without itself: among n it lies at most the root of n - 1 deviations below a
/// mean and a deviation that it is part of, so that among few none could be an outlier. Two cannot be told apart. The
/// deviation is no less than [`LEAST_DEVIATION`], nor than what chance makes of the fewest requests that say something.
#[must_use]
pub fn outliers(rates: &[f64], settings: &BreakerSettings) -> Vec<usize> {
    if rates.len() < 3 || settings.success_rate_deviation == 0 {
        return Vec::new();
    }
    let deviations = f64::from(settings.success_rate_deviation) / 1_000.0;
    let requests = f64::from(settings.min_requests.max(1));
    let siblings = (rates.len() - 1) as f64;
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    let is_outlier = |rate: f64| {
        let mean = (sum - rate) / siblings;
        let variance = (squares - rate * rate) / siblings - mean * mean;
        let of_chance = mean * (1.0 - mean) / requests;
        let deviation = variance.max(of_chance).max(LEAST_DEVIATION.powi(2)).sqrt();
        rate < mean - deviation * deviations
    };
    let places = rates.iter().enumerate().filter(|(_, rate)| is_outlier(**rate));
    places.map(|(place, _)| place).collect()
}
