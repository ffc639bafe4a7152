//! Tables: a heading, rows, columns as wide as their widest cell.

use super::printable;

/// Where a cell stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table in the making.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The text, with a line end after each row. Columns in which no row says anything are left out.
    pub(crate) fn render(&self) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|column| self.is_used(*column)).collect();
        let heading: Vec<String> = self.columns.iter().map(|(heading, _)| heading.to_string()).collect();
        std::iter::once(&heading)
            .chain(&self.rows)
            .map(|row| self.line(&shown, row) + "\n")
            .collect()
    }

    fn is_used(&self, column: usize) -> bool {
        self.rows
            .iter()
            .any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()))
    }

    fn line(&self, shown: &[usize], row: &[String]) -> String {
        let mut line = String::new();
        for column in shown {
            let Some((heading, align)) = self.columns.get(*column) else {
                continue;
            };
            let cells = self.rows.iter().filter_map(|row| row.get(*column));
            let width = cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(heading.len());
            let cell = row.get(*column).map(String::as_str).unwrap_or_default();
            line.push_str(&match align {
                Align::Left => format!("{cell:<width$}  "),
                Align::Right => format!("{cell:>width$}  "),
            });
        }
        line.trim_end().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("LABEL", Align::Left)]);
        table.row(["shop".into(), "1.0 GiB".into(), String::new()]);
        table.row(["a".into(), "2 B".into()]);
        assert_eq!(table.render(), "NAME     SIZE\nshop  1.0 GiB\na         2 B\n");
    }
}
