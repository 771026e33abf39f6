//! What the documentation shows of objects must be taken as it stands.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::{fs, path::Path};

use weft_control_plane::model::parse_documents;

/// The blocks of YAML of a page, with the line on which each begins.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line) {
            (None, "```yaml") => open = Some((index + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn every_object_that_the_page_on_policies_shows_is_right() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let text = fs::read_to_string(page).expect("the page exists");
    let mut seen = 0;
    for (line, block) in blocks(&text) {
        for parsed in parse_documents("", &block) {
            assert!(parsed.is_ok(), "docs/policy.md, the block of line {line}: {parsed:?}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "only {seen} objects were found");
}
