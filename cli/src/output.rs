//! How results reach the user: tables, JSON and YAML on stdout; colour only where a person looks on.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::command::Format;

/// Writes a result to stdout. A reader that went away (`| head`) ends the process quietly.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Writes a value as JSON or YAML; `None` for the tables, which the caller draws.
pub(crate) fn print_structured(
    format: Format,
    value: &impl Serialize,
) -> Option<anyhow::Result<()>> {
    let text = match format {
        Format::Table | Format::Wide => return None,
        Format::Json => {
            serde_json::to_string_pretty(value).map(|json| json + "\n").map_err(Into::into)
        }
        Format::Yaml => serde_norway::to_string(value).map_err(anyhow::Error::from),
    };
    Some(text.and_then(|text| print(&text)))
}

/// An empty table in the plain style that `kubectl` users expect.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|name| name.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Writes a table, or what stands for it when it has no rows.
pub(crate) fn print_table(table: &Table, when_empty: &str) -> anyhow::Result<()> {
    if table.row_iter().next().is_none() {
        eprintln!("{when_empty}");
        return Ok(());
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    print(&lines.collect::<String>())
}

/// Whether a stream takes colours: a terminal, and NO_COLOR is unset (no-color.org).
pub(crate) fn colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether stderr takes colours.
pub(crate) fn stderr_colours() -> bool {
    colours(io::stderr().is_terminal())
}

/// A span of time as `kubectl` shows ages: its two largest units.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_700, "1h1m"), (90_000, "1d1h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn tables_are_plain_text_without_trailing_blanks() {
        let mut table = table(&["name", "age"]);
        table.add_row(["cart", "1s"]);
        let text: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(text, ["NAME  AGE", "cart  1s"]);
    }
}
