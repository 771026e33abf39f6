//! What the documentation names must exist.

use std::{fs, path::Path};

/// Links of the form [`path::to::function`](../file.rs).
fn named_functions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("[`").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("`](")?;
        let (file, _) = rest.split_once(')')?;
        Some((name, file))
    })
}

#[test]
fn every_function_that_the_request_path_names_is_in_the_file_it_links() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let text = fs::read_to_string(docs.join("request-path.md")).expect("the page exists");
    let mut seen = 0;
    for (name, file) in named_functions(&text) {
        let source = fs::read_to_string(docs.join(file));
        let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
        let last = name.rsplit("::").next().unwrap_or(name);
        let is_there =
            ["fn ", "struct ", "mod "].iter().any(|kind| source.contains(&format!("{kind}{last}")));
        let is_module = file.ends_with(&format!("/{last}.rs"));
        assert!(is_there || is_module, "{file} has no {name}");
        seen += 1;
    }
    assert!(seen > 10, "only {seen} links were found");
}

#[test]
fn every_page_that_a_readme_links_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in ["README.md", "deploy/k8s/README.md", "deploy/images/README.md"] {
        let text = fs::read_to_string(root.join(page)).expect("the page exists");
        let folder = root.join(page).parent().expect("it lies in a folder").to_owned();
        for link in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
        {
            assert!(folder.join(link).exists(), "{page} links {link}, which is not there");
        }
    }
}
