//! What went wrong, as a user reads it: the problem, its causes, and what to do next.

use std::fmt;

/// A failure that knows what the user can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong; names the object and the value.
    what: String,
    /// What to do next; a sentence or a command.
    next: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// A command's end with results already printed, some of which were failures: no more to say.
#[derive(Debug)]
pub(crate) struct AlreadyReported;

impl fmt::Display for AlreadyReported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("some of it failed")
    }
}

impl std::error::Error for AlreadyReported {}

/// The text for stderr: the error with its causes, and the hint of the innermost failure that has one.
pub(crate) fn report(error: &anyhow::Error) -> String {
    if error.is::<AlreadyReported>() {
        return String::new();
    }
    let mut text = format!("error: {error:#}\n");
    let next = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(failure) = next {
        text.push_str(&format!(" next: {}\n", failure.next.replace('\n', "\n       ")));
    } else {
        text.push_str(" next: `weft --help` lists what can be done\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_report_names_the_cause_and_what_to_do_next() {
        let error: anyhow::Error =
            Failure::new("no mesh runs", "start one with `weft demo`").into();
        let error = Err::<(), _>(error).context("cannot list services").expect_err("an error");
        assert_eq!(
            report(&error),
            "error: cannot list services: no mesh runs\n next: start one with `weft demo`\n"
        );
    }
}
