//! Columns for people to read.

use std::fmt::Write as _;

/// Rows in columns as wide as they need, the heading first. Nothing in them can steer a terminal.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let cell = plain(cell);
            // Writing to a string cannot fail.
            let _written: std::fmt::Result = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Without control characters, which a name from elsewhere may hold.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_and_hold_no_control_characters() {
        let rows = [
            ["A", "B", "C"],
            ["long one", "", "x"],
            ["e\u{1b}[2J", "ü", ""],
        ];
        let text = table(&rows.map(|row| row.map(str::to_owned)));
        assert_eq!(text, "A         B  C\nlong one     x\ne\u{fffd}[2J     ü\n");
    }
}
