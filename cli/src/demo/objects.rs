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
    use weft_control_plane::model::{Object, parse_documents};

    use super::*;
    use crate::up::plan;

    #[test]
    fn every_example_is_right() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        for entry in std::fs::read_dir(folder).expect("examples").flatten() {
            // Folders hold what a cluster runs: deploy/k8s/verify.py is its judge.
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
    fn the_shop_is_right_and_has_every_part() {
        let Source::Text { text, .. } = source(123).expect("a shop") else { unreachable!() };
        let parsed = parse_documents(FILE, &text).into_iter();
        let objects: Vec<Object> = parsed.map(|parsed| parsed.expect("right").object).collect();
        let plans = plan::plans(&objects, std::path::Path::new("/"));
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
