//! Columns that are as wide as their widest cell, as Go's `text/tabwriter` makes them.
//!
//! A tab ends a cell. A column is a run of consecutive lines that have a cell there; the last cell
//! of a line belongs to no column.

pub struct TabWriter {
    minimum: usize,
    padding: usize,
    /// Widths of the last flush, which the next one does not go below: for tables that go on.
    remembered: Option<Vec<usize>>,
    /// Tabs stay tabs.
    raw: bool,
    lines: Vec<Vec<String>>,
    out: String,
}

impl TabWriter {
    /// For the tables of `get`.
    pub fn table() -> Self {
        Self { minimum: 6, padding: 3, remembered: Some(Vec::new()), raw: false, lines: Vec::new(), out: String::new() }
    }

    /// For `describe`.
    pub fn page() -> Self {
        Self { minimum: 0, padding: 2, remembered: None, raw: false, lines: Vec::new(), out: String::new() }
    }

    /// Without columns: for what goes into another text.
    pub fn raw() -> Self {
        Self { raw: true, ..Self::page() }
    }

    /// Lines without the newline at the end.
    pub fn line(&mut self, text: &str) {
        for line in text.split('\n') {
            self.lines.push(line.split('\t').map(str::to_owned).collect());
        }
    }

    /// A new table begins.
    pub fn forget(&mut self) {
        if let Some(widths) = &mut self.remembered {
            widths.clear();
        }
    }

    /// Everything since the last flush, in columns.
    pub fn flush(&mut self) -> String {
        let lines = std::mem::take(&mut self.lines);
        if self.raw {
            return lines.iter().map(|cells| cells.join("\t") + "\n").collect();
        }
        self.format(&lines, &mut Vec::new());
        std::mem::take(&mut self.out)
    }

    fn format(&mut self, lines: &[Vec<String>], widths: &mut Vec<usize>) {
        let column = widths.len();
        let has_cell = |line: &Vec<String>| column + 1 < line.len();
        let mut rest = lines;
        while !rest.is_empty() {
            let before = rest.iter().position(has_cell).unwrap_or(rest.len());
            self.write(&rest[..before], widths);
            rest = &rest[before..];
            let block = rest.iter().position(|line| !has_cell(line)).unwrap_or(rest.len());
            if block == 0 {
                continue;
            }
            let widest = rest[..block].iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
            let mut width = self.minimum.max(widest + self.padding);
            if let Some(remembered) = &mut self.remembered {
                width = width.max(remembered.get(column).copied().unwrap_or_default());
                if remembered.len() <= column {
                    remembered.resize(column + 1, 0);
                }
                remembered[column] = width;
            }
            widths.push(width);
            self.format(&rest[..block], widths);
            widths.pop();
            rest = &rest[block..];
        }
    }

    fn write(&mut self, lines: &[Vec<String>], widths: &[usize]) {
        for line in lines {
            for (at, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = widths.get(at) {
                    self.out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_are_runs_of_lines() {
        let mut writer = TabWriter::page();
        writer.line("Name:\tweb\nLabels:\t<none>\nNode:\nConditions:\n  Type\tStatus\n  ----\t------\n  Initialized\tTrue \na\t\tb\nlong cell\t\tb");
        expect![[r#"
            Name:    web
            Labels:  <none>
            Node:
            Conditions:
              Type         Status
              ----         ------
              Initialized  True 
            a                b
            long cell        b
        "#]]
        .assert_eq(&writer.flush());
    }

    #[test]
    fn tables_do_not_get_narrower() {
        let mut writer = TabWriter::table();
        writer.line("NAME\tAGE\nlong-name\t5s");
        expect![[r#"
            NAME        AGE
            long-name   5s
        "#]]
        .assert_eq(&writer.flush());
        writer.line("a\t6s");
        assert_eq!(writer.flush(), "a           6s\n");
        writer.forget();
        writer.line("a\t6s");
        assert_eq!(writer.flush(), "a     6s\n");
    }
}
