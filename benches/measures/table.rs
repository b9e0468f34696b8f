//! What was measured beside what is aimed at, as a table that people and Markdown can read.

use std::fmt::Write as _;

/// One figure.
#[derive(Debug)]
pub struct Row {
    what: String,
    ours: String,
    aim: &'static str,
    peer: &'static str,
}

/// All figures, and what stands behind them.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    details: Vec<(String, Vec<(String, usize)>)>,
}

impl Table {
    /// A figure; `aim` and `peer` (CloudNativePG 1.30.0) may be empty.
    pub fn row(
        &mut self,
        what: impl Into<String>,
        ours: impl Into<String>,
        aim: &'static str,
        peer: &'static str,
    ) {
        let row = Row {
            what: what.into(),
            ours: ours.into(),
            aim,
            peer,
        };
        eprintln!("  {}: {}", row.what, row.ours);
        self.rows.push(row);
    }

    /// The requests behind a figure.
    pub fn detail(&mut self, what: impl Into<String>, counts: Vec<(String, usize)>) {
        self.details.push((what.into(), counts));
    }

    /// The whole as Markdown.
    pub fn markdown(&self) -> String {
        let mut lines = vec![["measure", "dbclaim", "aim", "CloudNativePG 1.30.0"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|row| {
            [
                row.what.clone(),
                row.ours.clone(),
                row.aim.to_owned(),
                row.peer.to_owned(),
            ]
        }));
        let mut widths = [0; 4];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            push(&mut text, line, &widths);
            if number == 0 {
                let dashes = widths.map(|width| "-".repeat(width));
                push(&mut text, &dashes, &widths);
            }
        }
        for (what, counts) in &self.details {
            let counts: Vec<_> = counts
                .iter()
                .map(|(name, count)| format!("{count} {name}"))
                .collect();
            let _ = writeln!(text, "\n{what}: {}", counts.join(", "));
        }
        text
    }
}

fn push(text: &mut String, line: &[String; 4], widths: &[usize; 4]) {
    for (cell, width) in line.iter().zip(widths) {
        let _ = write!(text, "| {cell:<width$} ");
    }
    text.push_str("|\n");
}

/// Bytes for people.
pub fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
