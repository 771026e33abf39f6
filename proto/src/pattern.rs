//! A regular expression of a policy: for a path, a header, a query parameter.
//!
//! Comes in: what an operator wrote (RE2's syntax, as the `regex` crate has it). Goes out: a matcher of whole values,
//! in time linear to the value. The control plane and the proxy compile by the same bounds, so that what the one took
//! in the other never refuses. It must never take more memory than [`COMPILED_BYTES`] allows.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// The longest pattern: what people write by hand is shorter by far.
pub const MAX_BYTES: usize = 1024;

/// What one compiled pattern may take. Enough for alternatives by the hundred; `(\\w{100}){100}` needs more.
const COMPILED_BYTES: usize = 256 * 1024;

/// A compiled pattern.
#[derive(Clone)]
pub struct Pattern {
    /// As it was written.
    source: Box<str>,
    whole: Regex,
}

/// A pattern that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Above [`MAX_BYTES`].
    #[error("is {0} bytes long: use at most {MAX_BYTES}")]
    TooLong(usize),
    /// It would take too much memory.
    #[error("would take more than {COMPILED_BYTES} bytes: use fewer or smaller repetitions")]
    TooLarge,
    /// No regular expression.
    #[error("is no regular expression (RE2 syntax): {0}")]
    Syntax(String),
}

impl Pattern {
    /// Compiles a pattern. It takes whole values: `^` and `$` are implied.
    ///
    /// # Errors
    /// It is too long, too large, or no regular expression.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        if source.len() > MAX_BYTES {
            return Err(PatternError::TooLong(source.len()));
        }
        // By itself first: within the parentheses below, "a)(b" would be a pattern.
        compile(source, false)?;
        let whole = compile(&format!("^(?:{source})$"), false)?;
        Ok(Self { source: source.into(), whole })
    }

    /// The same pattern, which takes values in upper and in lower case.
    ///
    /// # Errors
    /// It is too large, even within the wider bound that a letter's several forms are given.
    pub fn ignoring_case(&self) -> Result<Self, PatternError> {
        let whole = compile(&format!("^(?:{})$", self.source), true)?;
        Ok(Self { source: self.source.clone(), whole })
    }

    /// Whether the whole value is what the pattern says.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.whole.is_match(value)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

fn compile(source: &str, ignoring_case: bool) -> Result<Regex, PatternError> {
    // A letter has up to four forms, of up to three bytes each.
    let limit = if ignoring_case { COMPILED_BYTES * 12 } else { COMPILED_BYTES };
    let mut builder = RegexBuilder::new(source);
    builder.size_limit(limit).case_insensitive(ignoring_case);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
        error => PatternError::Syntax(last_line(&error.to_string())),
    })
}

/// The reason, without the drawing above it.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_whole_values_only() {
        for (pattern, value, expected) in [
            ("/items/[0-9]+", "/items/42", true),
            ("/items/[0-9]+", "/items/42/x", false),
            ("/items/[0-9]+", "/v1/items/42", false),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            ("(?i)chrome", "Chrome", true),
            (".*", "", true),
            ("^/a$", "/a", true),
            ("a", "a\n", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(value),
                expected,
                "{pattern} {value:?}"
            );
        }
    }

    #[test]
    fn case_can_be_ignored_in_whatever_is_taken_at_all() {
        let pattern = Pattern::new("/Admin/[a-f]+").unwrap().ignoring_case().unwrap();
        assert!(pattern.matches("/aDMIN/ABC") && !pattern.matches("/admin/xyz"));
        let large = Pattern::new("(?:[a-z]{10}k){90}").unwrap();
        assert!(large.ignoring_case().unwrap().matches(&"ABCDEFGHIJK".repeat(90)));
        // Letters with the most forms, and the longest ones, as often as they are taken.
        for letter in ["k", "\u{3b9}", "\u{1c6}", "[ks]", "\u{212a}", "."] {
            let times = (1..=1_000).rev().step_by(3);
            let mut patterns =
                times.map(|times| Pattern::new(&format!("(?:{letter}{{10}}){{{times}}}")));
            let largest = patterns.find_map(Result::ok).unwrap();
            assert!(largest.ignoring_case().is_ok(), "{largest}");
        }
    }

    #[test]
    fn what_is_none_or_could_blow_up_is_refused_with_what_would_be_right() {
        let refused = |pattern: &str| Pattern::new(pattern).unwrap_err().to_string();
        assert_eq!(refused("("), "is no regular expression (RE2 syntax): unclosed group");
        assert!(refused("a)(b").contains("unopened group"), "{}", refused("a)(b"));
        assert!(refused("(?=a)").contains("look-around"), "{}", refused("(?=a)"));
        assert_eq!(refused(&"a".repeat(1025)), "is 1025 bytes long: use at most 1024");
        assert!(refused("((a{100}){100}){100}").starts_with("would take more than"));
    }

    #[test]
    fn a_pattern_that_makes_backtracking_matchers_stand_still_is_quick() {
        let pattern = Pattern::new("(a*)*b").unwrap();
        assert!(!pattern.matches(&"a".repeat(100_000)));
    }
}
