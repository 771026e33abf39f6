//! What is shown while the shop starts: a bar on a terminal, a line for each step elsewhere.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::up::readiness::Progress;

/// The progress on stderr.
#[derive(Debug)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    last: String,
}

impl Shown {
    pub(super) fn begin() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style =
                ProgressStyle::with_template("{spinner} {pos}/{len} replicas ready  {wide_msg}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, last: String::new() }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        let Some(wanted) = progress.wanted else { return };
        let ready = wanted - progress.missing.len();
        let waits = progress
            .missing
            .iter()
            .next()
            .map(|(name, why)| format!("{name} {}", why.lines().next().unwrap_or_default()));
        match &self.bar {
            Some(bar) => {
                bar.set_length(wanted as u64);
                bar.set_position(ready as u64);
                bar.set_message(waits.unwrap_or_default());
            }
            None => self.line(format!("starting: {ready} of {wanted} replicas ready")),
        }
    }

    fn line(&mut self, line: String) {
        if line != self.last {
            eprintln!("{line}");
            self.last = line;
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
