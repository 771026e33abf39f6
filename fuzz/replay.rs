//! A fuzz target's corpus as an ordinary test: every file goes through the property that the target fuzzes.
//!
//! Included by path from the crates whose properties are fuzzed, so that `cargo test` needs no fuzzer. A
//! failure names the file, which the target takes as its argument too.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

/// Runs `property` over the corpus of a target.
pub(crate) fn corpus(target: &str, property: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = fs::read(&file).expect("a readable file");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(&bytes))) {
            eprintln!("the property fails for {}", file.display());
            resume_unwind(panic);
        }
    }
}
