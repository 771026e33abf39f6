//! What a check found: one line for each, with what to do about it, or JSON for programs.

use serde::Serialize;

use crate::{
    command::Format,
    output::{self, print_structured},
};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it must be.
    Ok,
    /// To be known; nothing is broken.
    Warning,
    /// Something does not work, or will not.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at: "webhook".
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What was found; names objects and values.
    pub(super) message: String,
    /// What to do: a sentence or a command. Empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fix: String,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), fix: String::new() }
    }

    pub(super) fn warning(
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { check, state: State::Warning, message: message.into(), fix: fix.into() }
    }

    pub(super) fn failed(
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { check, state: State::Failed, message: message.into(), fix: fix.into() }
    }

    /// What could not be looked at. That is no proof that something is wrong with it.
    pub(super) fn unknown(check: &'static str, what: &str, why: &str) -> Self {
        let fix = "give your user the right to read it, or ask somebody who has it";
        Self::warning(check, format!("cannot be checked: {what}: {why}"), fix)
    }
}

/// Whether anything failed.
pub(super) fn any_failed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.state == State::Failed)
}

/// Prints all findings, in the order in which they were made.
pub(super) fn print(findings: &[Finding], format: Format) -> anyhow::Result<()> {
    match print_structured(format, &findings) {
        Some(printed) => printed,
        None => output::print(&lines(findings)),
    }
}

fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Failed => "FAILED ",
        };
        text.push_str(&format!("{mark}  {}: {}\n", finding.check, finding.message));
        for line in finding.fix.lines() {
            text.push_str(&format!("           {line}\n"));
        }
    }
    text.push_str(&summary(findings));
    text
}

fn summary(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    match (count(State::Failed), count(State::Warning)) {
        (0, 0) => "\nAll is well.\n".into(),
        (0, warnings) => format!("\nNothing failed; {warnings} to know of.\n"),
        (failed, _) => format!("\n{failed} failed.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_with_what_to_do_below() {
        let findings = [
            Finding::ok("API server", "v1.33.0 answers"),
            Finding::warning("sidecars", "2 are of version 0.0.9", "restart them:\nkubectl …"),
            Finding::failed("webhook", "is not there", "install it"),
        ];
        let expected = "ok       API server: v1.33.0 answers\n\
                        warning  sidecars: 2 are of version 0.0.9\n\
                        \u{20}          restart them:\n\
                        \u{20}          kubectl …\n\
                        FAILED   webhook: is not there\n\
                        \u{20}          install it\n\
                        \n\
                        1 failed.\n";
        assert_eq!(lines(&findings), expected);
        assert!(any_failed(&findings));
        assert!(!any_failed(&findings[..2]));
        assert!(lines(&findings[..2]).ends_with("Nothing failed; 1 to know of.\n"));
        assert!(lines(&findings[..1]).ends_with("All is well.\n"));
    }
}
