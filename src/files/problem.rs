//! Problems of operators' files: where, what, and what to try.

use std::fmt;
use std::ops::{Range, RangeInclusive};

/// Most problems reported for one file. A file of garbage could hold millions; of the rest only the count is printed.
pub const PROBLEMS_MAX: usize = 200;

/// Longest source line shown under a problem, in characters.
const EXCERPT_MAX: usize = 160;

/// One problem of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, both counted from 1, the column in characters. Absent where the file as a whole is meant.
    pub position: Option<Position>,
    /// What is wrong, in one line.
    pub what: String,
    /// What to try, in one line.
    pub hint: Option<String>,
    /// The source line, safe to print; absent where it may hold a secret.
    pub excerpt: Option<String>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Every problem of one file, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file's name, as the operator gave it.
    pub file: String,
    /// The problems; never empty in an `Err`.
    pub items: Vec<Problem>,
    /// How many more there were past [`PROBLEMS_MAX`].
    pub left_out: usize,
}

impl Problems {
    /// Makes a single problem of the file as a whole.
    pub fn whole_file(file: &str, what: String, hint: Option<&str>) -> Problems {
        let problem = Problem { position: None, what, hint: hint.map(str::to_owned), excerpt: None };
        Problems { file: file.to_owned(), items: vec![problem], left_out: 0 }
    }

    /// Returns how many problems there are, those not listed included.
    pub fn count(&self) -> usize {
        self.items.len().saturating_add(self.left_out)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.items {
            write_problem(f, &self.file, problem)?;
        }
        if self.left_out > 0 {
            writeln!(f, "{}: and {} more", self.file, self.left_out)?;
        }
        Ok(())
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, file: &str, problem: &Problem) -> fmt::Result {
    match problem.position {
        Some(Position { line, column }) => writeln!(f, "{file}:{line}:{column}: {}", problem.what)?,
        None => writeln!(f, "{file}: {}", problem.what)?,
    }
    if let (Some(Position { line, column }), Some(excerpt)) = (problem.position, &problem.excerpt) {
        let gutter = line.to_string().len();
        writeln!(f, "  {line} | {excerpt}")?;
        writeln!(f, "  {:gutter$} | {:>column$}", "", "^")?;
    }
    match &problem.hint {
        Some(hint) => writeln!(f, "  hint: {hint}"),
        None => Ok(()),
    }
}

/// Collects problems by byte offset in one text.
pub struct Findings<'s> {
    source: &'s str,
    line_starts: Vec<usize>,
    /// Lines, first to last, that the TOML reader could not read; what follows from them is not reported a second time.
    broken: Vec<RangeInclusive<usize>>,
    found: Vec<(Position, Problem)>,
}

impl<'s> Findings<'s> {
    /// Returns an empty collection of findings on `source`.
    pub fn new(source: &'s str) -> Findings<'s> {
        let starts = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at.saturating_add(1));
        Findings {
            source,
            line_starts: std::iter::once(0).chain(starts).collect(),
            broken: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Adds a place that the TOML reader could not read.
    pub fn syntax(&mut self, at: Range<usize>, what: String) {
        let position = self.position(at.start);
        // One broken line often fails in several ways; the first says enough.
        if self.is_broken(position) || self.broken.len() > PROBLEMS_MAX {
            return;
        }
        let is_header = |line: usize| self.line(line).is_some_and(|line| line.trim_start().starts_with('['));
        let last = if is_header(position.line) {
            // The table under a broken header is not known for what it is.
            (position.line..=self.line_starts.len())
                .take_while(|line| *line == position.line || !is_header(*line))
                .last()
                .unwrap_or(position.line)
        } else {
            position.line
        };
        self.push(position, what, None, true);
        self.broken.push(position.line..=last);
    }

    /// Adds a problem with the value (or table) at `at`.
    pub fn value(&mut self, at: Range<usize>, what: String, hint: Option<String>) {
        let position = self.position(at.start);
        if !self.is_broken(position) {
            self.push(position, what, hint, true);
        }
    }

    /// Adds a problem with a key. Its value is not shown: under a key we do not know it may be a secret.
    pub fn key(&mut self, at: Range<usize>, what: String, hint: Option<String>) {
        let position = self.position(at.start);
        if !self.is_broken(position) {
            self.push(position, what, hint, false);
        }
    }

    /// Adds something that the table at `at`, or the whole file (an empty range), lacks. Nothing is added in a broken
    /// file, where it may be there but unreadable.
    pub fn missing(&mut self, at: Range<usize>, what: String, hint: Option<String>) {
        if !self.broken.is_empty() {
            return;
        }
        if at.is_empty() {
            let position = Some(Position { line: 1, column: 1 });
            let problem = Problem { position, what, hint, excerpt: None };
            self.found.push((Position { line: 1, column: 1 }, problem));
        } else {
            self.value(at, what, hint);
        }
    }

    /// Returns whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns everything found, in the order of the text.
    pub fn into_problems(mut self, file: &str) -> Problems {
        self.found.sort_by_key(|(position, _)| *position);
        let left_out = self.found.len().saturating_sub(PROBLEMS_MAX);
        let items = self.found.into_iter().take(PROBLEMS_MAX).map(|(_, problem)| problem).collect();
        Problems { file: file.to_owned(), items, left_out }
    }

    fn push(&mut self, position: Position, what: String, hint: Option<String>, show_value: bool) {
        let excerpt = self.excerpt(position, show_value);
        self.found.push((position, Problem { position: Some(position), what, hint, excerpt }));
    }

    fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.source.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.source.get(start..offset).map_or(0, |before| before.chars().count());
        Position { line: line.max(1), column: column.saturating_add(1) }
    }

    fn is_broken(&self, position: Position) -> bool {
        self.broken.iter().any(|lines| lines.contains(&position.line))
    }

    fn line(&self, number: usize) -> Option<&'s str> {
        let start = *self.line_starts.get(number.checked_sub(1)?)?;
        self.source.get(start..)?.lines().next()
    }

    fn excerpt(&self, position: Position, show_value: bool) -> Option<String> {
        let line = self.line(position.line)?;
        let printable: String = masked(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let shown = match printable.split_once('=') {
            Some((key, _)) if !show_value => format!("{key}= …"),
            _ => printable,
        };
        (!shown.trim().is_empty() && shown.chars().count() <= EXCERPT_MAX && position.column <= EXCERPT_MAX)
            .then_some(shown)
    }
}

/// Returns the line with what looks like a credential starred out, character for character so that columns hold: keys
/// of ours, and what stands between `://` and `@`.
pub fn masked(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    let starts_with =
        |chars: &[char], at: usize, word: &str| word.chars().eq(chars.iter().skip(at).take(word.len()).copied());
    let mut at = 0;
    while at < chars.len() {
        let (from, ends): (usize, fn(char) -> bool) = if starts_with(&chars, at, "hg_") {
            (at.saturating_add(3), |c| !c.is_ascii_alphanumeric())
        } else if starts_with(&chars, at, "://") {
            (at.saturating_add(3), |c| matches!(c, '@' | '"' | '\'' | ' '))
        } else {
            at = at.saturating_add(1);
            continue;
        };
        let to = chars.iter().skip(from).position(|c| ends(*c)).map_or(chars.len(), |len| from.saturating_add(len));
        let is_url = chars.get(at) == Some(&':');
        if !is_url || chars.get(to) == Some(&'@') {
            chars.iter_mut().take(to).skip(from).for_each(|c| *c = '*');
        }
        at = from;
    }
    chars.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_source_line_are_starred_out_in_place() {
        let cases = [
            ("url = \"http://me:pw@host:1\"", "url = \"http://*****@host:1\""),
            ("url = \"http://host:1\" # a@b", "url = \"http://host:1\" # a@b"),
            ("x = \"hg_abc123\" # hg_", "x = \"hg_******\" # hg_"),
            ("", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(masked(line), expected);
        }
    }

    #[test]
    fn a_problem_is_printed_with_place_line_caret_and_hint() {
        let mut findings = Findings::new("[a]\nlänge = 1\nrequets = \"hidden\"\n");
        findings.key(12..13, "unknown key \"requets\" in [a]".into(), Some("did you mean \"requests\"?".into()));
        findings.value(4..5, "odd".into(), None);
        let printed = findings.into_problems("f.toml").to_string();
        let expected = "f.toml:2:1: odd\n  2 | länge = 1\n    | ^\nf.toml:2:8: unknown key";
        assert!(printed.starts_with(expected), "{printed}");
        assert!(!printed.contains("hidden"), "{printed}");
    }
}
