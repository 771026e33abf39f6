//! The shop's objects: the text of `examples/shop.yaml`, which a user can run and change as well.

use crate::up::source::Source;

/// The file's name in the run's objects folder.
pub(super) const FILE: &str = "shop.yaml";
const SHOP: &str = include_str!("../../../examples/shop.yaml");
const RATE: &str = "{name: RATE, value: \"50\"}";

/// The shop, with a load of `rate` requests a second.
pub(super) fn source(rate: u32) -> anyhow::Result<Source> {
    anyhow::ensure!(SHOP.contains(RATE), "the built-in shop says no rate: build weft anew");
    let text = SHOP.replace(RATE, &format!("{{name: RATE, value: \"{rate}\"}}"));
    Ok(Source::Text { name: FILE.into(), text })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use weft_control_plane::{
        index::Index,
        model::{Object, parse_documents},
        status::{self, Judgement, refused::Refused},
    };
    use weft_proto::TrustDomain;

    use super::*;
    use crate::up::plan;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    #[test]
    fn every_example_is_right() {
        for entry in fs::read_dir(format!("{ROOT}/examples")).expect("examples").flatten() {
            // Folders hold what a cluster runs (deploy/k8s/verify.py is its judge), and policies for the shop.
            if entry.path().is_dir() {
                continue;
            }
            let source = Source::Path(entry.path());
            let loaded = source.load().expect("right");
            // What other machines run is not started here.
            let expected = |warning: &String| warning.contains("spec.command is empty");
            let surprising = loaded.warnings().iter().find(|warning| !expected(warning));
            assert_eq!(surprising, None, "{}", entry.path().display());
        }
    }

    #[test]
    fn every_policy_takes_effect_on_the_shop() {
        for (name, text) in policies() {
            let mut index = Index::new(TrustDomain::default());
            index.apply_all(&objects(FILE, SHOP));
            let added = objects(&name, &text);
            index.apply_all(&added);
            for object in &added {
                let judged = status::judge(object, &index, &Refused::default());
                let of_parents = judged.parents.into_iter().flat_map(|(_, said)| said);
                let said: Vec<Judgement> =
                    judged.conditions.into_iter().chain(of_parents).collect();
                assert!(!said.is_empty(), "{name}: {}: nothing is said of it", object.key());
                let bad = said.iter().find(|one| is_bad(object, one));
                assert_eq!(bad, None, "{name}: {}", object.key());
            }
        }
    }

    /// Nothing runs here, so that services and workloads have no instance.
    fn is_bad(object: &Object, said: &Judgement) -> bool {
        let runs = matches!(object, Object::Service(_) | Object::Workload(_));
        let needs_instances = runs && said.r#type == "Programmed";
        !needs_instances && said.holds == (said.r#type == "PartiallyInvalid")
    }

    #[test]
    fn the_page_of_policies_shows_every_example_as_it_is() {
        let page = fs::read_to_string(format!("{ROOT}/docs/policy.md")).expect("the page");
        let shown: BTreeSet<&str> = page
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
            .collect();
        let policies = policies();
        for (name, text) in &policies {
            assert!(
                page.contains(&format!("](../examples/policies/{name})")),
                "{name} is not named"
            );
            assert!(shown.contains(text.as_str()), "{name} is not shown as it is");
        }
        assert_eq!(shown.len(), policies.len(), "a block is no example");
    }

    /// The files of policies for the shop, by name.
    fn policies() -> Vec<(String, String)> {
        let entries = fs::read_dir(format!("{ROOT}/examples/policies")).expect("policies");
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let named = paths.into_iter().map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("text"))
        });
        named.collect()
    }

    fn objects(name: &str, text: &str) -> Vec<Object> {
        let parsed = parse_documents(name, text).into_iter();
        parsed.map(|parsed| parsed.unwrap_or_else(|error| panic!("{error}")).object).collect()
    }

    #[test]
    fn the_shop_is_right_and_has_every_part() {
        let Source::Text { text, .. } = source(123).expect("a shop") else { unreachable!() };
        let plans = plan::plans(&objects(FILE, &text), std::path::Path::new("/"));
        let names: Vec<String> = plans.keys().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "cache-0",
                "cart-0",
                "cart-1",
                "catalog-v1-0",
                "catalog-v2-0",
                "inventory-0",
                "inventory-1",
                "load-0",
                "payments-0",
                "web-0",
                "web-1"
            ]
        );
        let load = plans.values().find(|plan| plan.name.workload == "load").expect("a load");
        assert_eq!(load.env, [("RATE".to_owned(), "123".to_owned())]);
        assert!(plans.values().all(|plan| plan.ports.iter().all(|port| port.number.is_none())));
    }
}
