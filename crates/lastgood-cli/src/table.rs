//! Columns that line up.

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Lines of cells under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. A cell of several lines makes the row as high as it is.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines: heading, rule, rows, rule.
    pub(crate) fn lines(&self) -> Vec<String> {
        let heading: Vec<String> =
            self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().flat_map(|row| row[column].split('\n'));
            cells.map(|cell| cell.chars().count()).chain([self.columns[column].0.len()]).max()
        };
        let widths: Vec<usize> = (0..self.columns.len()).filter_map(width).collect();
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let mut lines = self.row_lines(&widths, &heading);
        lines.push(rule.clone());
        lines.extend(self.rows.iter().flat_map(|row| self.row_lines(&widths, row)));
        lines.push(rule);
        lines
    }

    fn row_lines(&self, widths: &[usize], cells: &[String]) -> Vec<String> {
        let height = cells.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(0);
        let line = |index: usize| {
            let mut line = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
                let text = cell.split('\n').nth(index).unwrap_or_default();
                let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
                match align {
                    Align::Left => line.extend([text, &blanks, "  "]),
                    Align::Right => line.extend([&blanks, text, "  "]),
                }
            }
            line.trim_end().to_owned()
        };
        (0..height).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_line_up() {
        let mut table = Table::new(&[("ID", Align::Left), ("Size", Align::Right)]);
        table.row(vec!["a\nbcd".to_owned(), "1".to_owned()]);
        table.row(vec!["e".to_owned(), "12345".to_owned()]);
        let expected =
            ["ID    Size", "----------", "a        1", "bcd", "e    12345", "----------"];
        assert_eq!(table.lines(), expected);
    }
}
