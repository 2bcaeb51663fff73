//! A table of text for people: columns as wide as their widest cell.

use std::io::{self, Write};

/// Side on which the cells of a column are flush.
#[derive(Debug, Clone, Copy)]
enum CellSide {
    Left,
    Right,
}

/// A column of a [`TextTable`].
#[derive(Debug, Clone, Copy)]
pub struct TableColumn<'h> {
    heading: &'h str,
    width_min: usize,
    side: CellSide,
}

impl<'h> TableColumn<'h> {
    /// Returns a column of text, at least `width_min` characters wide.
    pub fn text(heading: &'h str, width_min: usize) -> TableColumn<'h> {
        TableColumn { heading, width_min, side: CellSide::Left }
    }

    /// Returns a column of numbers, at least `width_min` characters wide.
    pub fn numbers(heading: &'h str, width_min: usize) -> TableColumn<'h> {
        TableColumn { heading, width_min, side: CellSide::Right }
    }
}

/// A table with a line of headings.
#[derive(Debug)]
pub struct TextTable<'h> {
    /// Spaces between two columns.
    gap: usize,
    columns: Vec<TableColumn<'h>>,
    rows: Vec<Vec<String>>,
}

impl<'h> TextTable<'h> {
    /// Returns a table without rows, with `gap` spaces between columns.
    pub fn new(gap: usize, columns: Vec<TableColumn<'h>>) -> TextTable<'h> {
        TextTable { gap, columns, rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes the headings and all rows. No line ends in spaces.
    ///
    /// # Errors
    /// Where `out` cannot be written to.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |(at, column): (usize, &TableColumn<'_>)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(String::as_str);
            let widths = cells.chain([column.heading]).map(|cell| cell.chars().count());
            widths.max().unwrap_or(0).max(column.width_min)
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(width).collect();
        let headings = self.columns.iter().map(|column| column.heading).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(String::as_str).collect());
        for cells in std::iter::once::<Vec<&str>>(headings).chain(rows) {
            let mut line = String::new();
            for (at, ((cell, column), &width)) in cells.iter().zip(&self.columns).zip(&widths).enumerate() {
                let gap = if at == 0 { 0 } else { self.gap };
                line.extend(std::iter::repeat_n(' ', gap));
                match column.side {
                    CellSide::Left => line.push_str(&format!("{cell:<width$}")),
                    CellSide::Right => line.push_str(&format!("{cell:>width$}")),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[[&str; 3]], expected: &str) {
        let columns =
            vec![TableColumn::text("KEY", 4), TableColumn::numbers("requests", 0), TableColumn::text("STATE", 6)];
        let mut table = TextTable::new(2, columns);
        rows.iter().for_each(|row| table.push(row.map(str::to_owned).to_vec()));
        let mut text = Vec::new();
        table.print(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_spaces() {
        check(&[], "KEY   requests  STATE\n");
        check(&[["a", "1", ""]], "KEY   requests  STATE\na            1\n");
        check(
            &[["größer", "1234567890", "ok"], ["b", "2", "revoked"]],
            "KEY       requests  STATE\ngrößer  1234567890  ok\nb                2  revoked\n",
        );
    }
}
