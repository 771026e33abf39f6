//! The live table: drawn over and over on a terminal, printed from time to time elsewhere, or not at all when a
//! program reads the result.
//!
//! The terminal is left as it is found: no other screen, no raw mode, no hidden cursor. A demo that is killed
//! leaves a usable terminal, one that ends leaves its last table.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Stdout},
};

use comfy_table::Table as PlainTable;
use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::{Backend as _, CrosstermBackend},
    layout::{Constraint, Layout, Position, Rect, Size},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Paragraph, Row, Table},
};

use super::traffic::Numbers;
use crate::{
    command::{DemoArgs, DemoFormat},
    output,
};

const COLUMNS: [&str; 7] = ["service", "success", "req/s", "p50 ms", "p95 ms", "p99 ms", "mtls"];
/// The head and an empty line.
const HEAD_LINES: u16 = 2;
/// Where nobody draws over it, the table comes this seldom.
const EVERY: u32 = 5;

/// Where the table goes.
pub(super) enum Screen {
    /// A terminal.
    Live(Live),
    /// A pipe or a file.
    Lines { since: u32 },
    /// Nowhere.
    Off,
}

impl Screen {
    /// What fits the arguments and stdout.
    pub(super) fn choose(args: &DemoArgs) -> Self {
        if args.output == DemoFormat::Json || args.logs {
            Self::Off
        } else if io::stdout().is_terminal() {
            Self::Live(Live::default())
        } else {
            Self::Lines { since: 0 }
        }
    }

    /// Begins with what stands above and below the table.
    pub(super) fn begin(&mut self, head: &str, hints: &[String]) -> anyhow::Result<()> {
        match self {
            Self::Live(live) => {
                head.clone_into(&mut live.head);
                hints.clone_into(&mut live.hints);
                live.draw(&BTreeMap::new())
            }
            Self::Lines { .. } | Self::Off => {
                eprintln!("{head}\nIn another terminal:");
                hints.iter().for_each(|hint| eprintln!("  {hint}"));
                Ok(())
            }
        }
    }

    /// Shows the present numbers.
    pub(super) fn show(&mut self, services: &BTreeMap<String, Numbers>) -> anyhow::Result<()> {
        match self {
            Self::Live(live) => live.draw(services)?,
            Self::Lines { since } => {
                *since += 1;
                if *since == EVERY {
                    *since = 0;
                    output::print_table(&plain(services), "no service was asked yet")?;
                    output::print("\n")?;
                }
            }
            Self::Off => {}
        }
        Ok(())
    }

    /// Leaves the terminal below the table.
    pub(super) fn end(self) {
        if let Self::Live(Live { on: Some((mut terminal, size)), .. }) = self {
            let bottom = Position::new(0, size.height.saturating_sub(1));
            let _ = terminal.set_cursor_position(bottom);
            let _ = output::print("\n");
        }
    }
}

/// The table on a terminal.
#[derive(Default)]
pub(super) struct Live {
    /// The terminal, and its size when it was begun.
    on: Option<(Terminal<CrosstermBackend<Stdout>>, Size)>,
    head: String,
    hints: Vec<String>,
}

impl Live {
    fn draw(&mut self, services: &BTreeMap<String, Numbers>) -> anyhow::Result<()> {
        let mut backend = CrosstermBackend::new(io::stdout());
        let size = usual(backend.size()?);
        let (mut terminal, _) = match self.on.take() {
            Some(on) if on.1 == size => on,
            // Begun anew when its size has changed. A fixed area is never asked for the cursor's place, which
            // would take an answer from stdin.
            _ => {
                backend.clear()?;
                let viewport = Viewport::Fixed(Rect::from((Position::ORIGIN, size)));
                (Terminal::with_options(backend, TerminalOptions { viewport })?, size)
            }
        };
        terminal.draw(|frame| draw(frame, &self.head, &self.hints, services))?;
        self.on = Some((terminal, size));
        Ok(())
    }
}

/// A terminal that does not know its size says 0: it is taken for the usual one.
fn usual(size: Size) -> Size {
    if size.width == 0 || size.height == 0 { Size::new(80, 24) } else { size }
}

/// How many of the hints there is room for below the head and the table; with none their title goes, too.
fn hints_that_fit(height: u16, rows: u16, hints: usize) -> usize {
    let left = height.saturating_sub(HEAD_LINES).saturating_sub(rows);
    // An empty line and the title come before the first.
    usize::from(left.saturating_sub(2)).min(hints)
}

fn draw(frame: &mut Frame<'_>, head: &str, hints: &[String], services: &BTreeMap<String, Numbers>) {
    let coloured = output::colours(true);
    let rows = u16::try_from(services.len()).unwrap_or(u16::MAX).saturating_add(1);
    let hints = &hints[..hints_that_fit(frame.area().height, rows, hints.len())];
    let hint_lines = u16::try_from(hints.len()).unwrap_or_default();
    let heights = if hints.is_empty() {
        [HEAD_LINES, rows, 0, 0]
    } else {
        [HEAD_LINES, rows, 1, 1 + hint_lines]
    };
    let [above, middle, _, below] =
        Layout::vertical(heights.map(Constraint::Length)).areas(frame.area());
    frame.render_widget(Paragraph::new(Line::styled(head, bold(coloured))), above);
    frame.render_widget(live(services, coloured), middle);
    let mut lines = vec![Line::raw("In another terminal:")];
    lines.extend(hints.iter().map(|hint| Line::raw(format!("  {hint}"))));
    frame.render_widget(Paragraph::new(lines), below);
    frame.set_cursor_position(bottom_left(below, frame.area()));
}

/// Where the cursor rests, so that it need not be hidden.
fn bottom_left(last: Rect, screen: Rect) -> Position {
    Position::new(0, last.bottom().min(screen.bottom().saturating_sub(1)))
}

fn bold(coloured: bool) -> Style {
    if coloured { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() }
}

fn live(services: &BTreeMap<String, Numbers>, coloured: bool) -> Table<'static> {
    let rows = services.iter().map(|(name, numbers)| {
        let bad = |share: Option<f64>| coloured && share.is_some_and(|share| share < 1.0);
        let shares = [None, numbers.success_rate, None, None, None, None, numbers.mtls_share];
        let cells = cells(name, numbers).into_iter().zip(shares).map(|(text, share)| {
            let style = if bad(share) { Style::new().fg(Color::Red) } else { Style::new() };
            Cell::from(text).style(style)
        });
        Row::new(cells.collect::<Vec<_>>())
    });
    let widths = [14, 9, 8, 8, 8, 8, 7].map(Constraint::Length);
    let header = Row::new(COLUMNS.map(str::to_uppercase)).style(bold(coloured));
    Table::new(rows.collect::<Vec<_>>(), widths).header(header)
}

/// The same as plain text.
pub(super) fn plain(services: &BTreeMap<String, Numbers>) -> PlainTable {
    let mut table = output::table(&COLUMNS);
    for (name, numbers) in services {
        table.add_row(cells(name, numbers));
    }
    table
}

fn cells(name: &str, numbers: &Numbers) -> [String; 7] {
    let percent = |share: Option<f64>| {
        // 99.995 % is not 100 %.
        share.map_or_else(
            || "-".into(),
            |share| format!("{:.2}%", (share * 10_000.0).floor() / 100.0),
        )
    };
    let millis = |ms: Option<f64>| ms.map_or_else(|| "-".into(), |ms| format!("{ms:.1}"));
    [
        name.to_owned(),
        percent(numbers.success_rate),
        format!("{:.1}", numbers.rps),
        millis(numbers.p50_ms),
        millis(numbers.p95_ms),
        millis(numbers.p99_ms),
        percent(numbers.mtls_share),
    ]
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;

    fn services() -> BTreeMap<String, Numbers> {
        let cart = Numbers {
            requests: 100_000,
            success_rate: Some(0.99999),
            rps: 12.34,
            p50_ms: Some(1.0),
            p95_ms: Some(2.25),
            p99_ms: Some(30.0),
            mtls_share: Some(1.0),
        };
        BTreeMap::from([("cart".into(), cart), ("idle".into(), Numbers::default())])
    }

    #[test]
    fn almost_all_is_not_shown_as_all() {
        let services = services();
        assert_eq!(
            cells("cart", &services["cart"]),
            ["cart", "99.99%", "12.3", "1.0", "2.2", "30.0", "100.00%"]
        );
        assert_eq!(cells("idle", &services["idle"]), ["idle", "-", "0.0", "-", "-", "-", "-"]);
    }

    #[test]
    fn the_screen_shows_the_head_each_service_and_the_hints() {
        let mut terminal = Terminal::new(TestBackend::new(80, 12)).expect("a terminal");
        let hints = ["weft proxies".to_owned()];
        terminal.draw(|frame| draw(frame, "The shop", &hints, &services())).expect("drawn");
        let buffer = terminal.backend().buffer();
        let screen: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
        for text in ["The shop", "SERVICE", "cart", "99.99%", "idle", "weft proxies"] {
            assert!(screen.contains(text), "{text} in {screen}");
        }
    }

    #[test]
    fn hints_go_before_rows_do() {
        let hints: Vec<String> = (0..6).map(|number| format!("hint {number}")).collect();
        for (height, shown) in [(24, 6), (13, 6), (10, 3), (8, 1), (7, 0), (5, 0)] {
            let mut terminal = Terminal::new(TestBackend::new(80, height)).expect("a terminal");
            terminal.draw(|frame| draw(frame, "The shop", &hints, &services())).expect("drawn");
            let buffer = terminal.backend().buffer();
            let screen: String =
                buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
            assert!(screen.contains("cart") && screen.contains("idle"), "{height}: {screen}");
            assert_eq!(screen.matches("hint ").count(), shown, "{height}: {screen}");
            assert_eq!(screen.contains("In another terminal"), shown > 0, "{height}");
        }
    }

    #[test]
    fn a_terminal_without_a_size_is_taken_for_the_usual_one() {
        assert_eq!(usual(Size::new(0, 0)), Size::new(80, 24));
        assert_eq!(usual(Size::new(100, 0)), Size::new(80, 24));
        assert_eq!(usual(Size::new(10, 5)), Size::new(10, 5));
    }

    #[test]
    fn a_tiny_terminal_is_no_panic() {
        for (width, height) in [(1, 1), (5, 2), (200, 3)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
            terminal.draw(|frame| draw(frame, "The shop", &[], &services())).expect("drawn");
        }
    }
}
