//! Who has which labels, and which services select by them: what has labels and what selects comes in, candidates go out.
//! Both look-ups cost what they find, not what the namespace holds. A candidate has, or selects by, one label that was
//! asked for: whether all of a selector match is for the caller to ask ([`ServiceSpec::selects`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use weft_proto::ServiceName;

use crate::model::ServiceSpec;

/// A namespace, and "KEY=VALUE".
type Label = (Arc<str>, String);

fn label(namespace: &Arc<str>, (key, value): (&String, &String)) -> Label {
    (Arc::clone(namespace), format!("{key}={value}"))
}

/// What has labels, by each of them.
#[derive(Debug)]
pub(super) struct Labelled<K> {
    by_label: HashMap<Label, BTreeSet<K>>,
}

impl<K> Default for Labelled<K> {
    fn default() -> Self {
        Self { by_label: HashMap::new() }
    }
}

impl<K: Ord + Clone> Labelled<K> {
    /// Takes in what has these labels.
    pub(super) fn insert(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
        key: &K,
    ) {
        for pair in labels {
            self.by_label.entry(label(namespace, pair)).or_default().insert(key.clone());
        }
    }

    /// Forgets what was taken in with these labels.
    pub(super) fn remove(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
        key: &K,
    ) {
        for pair in labels {
            forget(&mut self.by_label, &label(namespace, pair), key);
        }
    }

    /// All that has the rarest of a selector's labels; without a selector nothing.
    pub(super) fn candidates(
        &self,
        namespace: &Arc<str>,
        selector: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &K> {
        let having = selector.iter().map(|pair| self.by_label.get(&label(namespace, pair)));
        // `None`, nobody has it, is the rarest.
        let rarest = having.min_by_key(|having| having.map_or(0, BTreeSet::len));
        rarest.flatten().into_iter().flatten()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.by_label.is_empty()
    }
}

/// Services, each by one label that it selects by.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    by_label: HashMap<Label, BTreeSet<ServiceName>>,
    /// Under which label a service stands: of its selector the one by which the fewest did when it came.
    standing: HashMap<ServiceName, Label>,
}

impl Selectors {
    /// Takes in what a service selects by now.
    pub(super) fn set(&mut self, name: &ServiceName, service: &ServiceSpec) {
        self.remove(name);
        let labels = service.selector.iter().map(|pair| label(&name.namespace, pair));
        let Some(rarest) = labels.min_by_key(|it| self.by_label.get(it).map_or(0, BTreeSet::len))
        else {
            return;
        };
        self.by_label.entry(rarest.clone()).or_default().insert(name.clone());
        self.standing.insert(name.clone(), rarest);
    }

    /// Forgets a service.
    pub(super) fn remove(&mut self, name: &ServiceName) {
        if let Some(label) = self.standing.remove(name) {
            forget(&mut self.by_label, &label, name);
        }
    }

    /// Every service that may select what has these labels.
    pub(super) fn candidates(
        &self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &ServiceName> {
        labels.iter().filter_map(|pair| self.by_label.get(&label(namespace, pair))).flatten()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.standing.is_empty()
    }
}

fn forget<K: Ord>(by_label: &mut HashMap<Label, BTreeSet<K>>, label: &Label, key: &K) {
    let Some(keys) = by_label.get_mut(label) else { return };
    keys.remove(key);
    if keys.is_empty() {
        by_label.remove(label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn of_many_only_those_with_the_rarest_label_are_candidates() {
        let (shop, bank): (Arc<str>, Arc<str>) = ("shop".into(), "bank".into());
        let mut pods = Labelled::default();
        for number in 0..100 {
            let app = format!("app-{}", number % 50);
            pods.insert(&shop, &map(&[("a", "all"), ("app", &app)]), &number);
        }
        let found = |namespace, selector: &[(&str, &str)]| -> Vec<_> {
            pods.candidates(namespace, &map(selector)).copied().collect()
        };
        assert_eq!(found(&shop, &[("a", "all"), ("app", "app-7")]), [7, 57]);
        assert_eq!(found(&shop, &[("a", "all")]).len(), 100);
        for selector in [&[("a", "all"), ("app", "app-50")][..], &[]] {
            assert!(found(&shop, selector).is_empty(), "{selector:?}");
        }
        assert!(found(&bank, &[("app", "app-7")]).is_empty(), "another namespace");
    }

    #[test]
    fn of_many_services_only_those_with_a_label_of_their_own_in_common_are_candidates() {
        let shop: Arc<str> = "shop".into();
        let mut selectors = Selectors::default();
        let service = |number| ServiceName {
            namespace: Arc::clone(&shop),
            name: format!("s-{number}").as_str().into(),
        };
        let selecting = |labels: BTreeMap<String, String>| {
            let mut spec = ServiceSpec::default();
            spec.selector = labels;
            spec
        };
        let selector = |number| selecting(map(&[("a", "all"), ("app", &format!("app-{number}"))]));
        for number in 0..100 {
            selectors.set(&service(number), &selector(number));
        }
        let labels = map(&[("a", "all"), ("app", "app-7")]);
        let found: Vec<_> = selectors.candidates(&shop, &labels).cloned().collect();
        // The first one found both labels as rare as each other.
        assert_eq!(found, [service(0), service(7)]);
        // Another selector takes the place of the first; none takes nothing.
        selectors.set(&service(7), &selecting(map(&[("tier", "web")])));
        selectors.set(&service(0), &ServiceSpec::default());
        assert_eq!(selectors.candidates(&shop, &labels).count(), 0);
        for number in 0..100 {
            selectors.remove(&service(number));
        }
        assert!(selectors.is_empty());
    }
}
