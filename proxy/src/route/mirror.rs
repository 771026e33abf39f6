//! Which requests are sent somewhere else, too.
//!
//! Comes in: randomness for each request. Goes out: whether a copy is made. How it travels stands in
//! `exchange/mirror.rs`.

use std::sync::Arc;

use super::Backend;

/// Where copies go, and of how many requests.
#[derive(Debug)]
pub struct Mirror {
    /// Who gets them; its filters and its weight mean nothing.
    pub backend: Arc<Backend>,
    /// Of so many in `denominator` requests.
    pub numerator: u32,
    /// Never zero.
    pub denominator: u32,
}

impl Mirror {
    /// Whether a request is mirrored.
    #[must_use]
    pub fn takes(&self, random: &mut fastrand::Rng) -> bool {
        random.u32(..self.denominator.max(1)) < self.numerator
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Target;

    #[test]
    fn so_many_requests_are_mirrored_as_the_fraction_says() {
        let mut random = fastrand::Rng::with_seed(3);
        for (numerator, denominator, expected) in [(1, 1, 1.0), (0, 100, 0.0), (25, 100, 0.25)] {
            let backend = Arc::new(Backend::new(Target::Invalid("".into()), Box::default()));
            let mirror = Mirror { backend, numerator, denominator };
            let taken = (0..20_000).filter(|_| mirror.takes(&mut random)).count();
            assert!((taken as f64 / 20_000.0 - expected).abs() < 0.02, "{numerator}: {taken}");
        }
    }
}
