//! What `docs/security.md` says is not in this version, against the rows and the tests: the page must not deny what a test
//! shows, nor claim a row that nothing shows.

use super::harness::root;
use super::rows::{Row, all_rows, folded, sources};
use std::path::Path;

/// How the page marks what is still to come.
const ABSENT: &str = "not in this version";

/// Returns a line of a table: its cells, trimmed. `None` for other lines and for the line of dashes.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
    (!cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')))).then_some(cells)
}

/// Returns the lines of the table whose heading starts with this cell.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let mut lines = page.lines();
    lines.by_ref().find(|line| cells(line).is_some_and(|cells| cells.first() == Some(&heading)));
    let rows = lines.skip(1).map_while(cells);
    rows.collect()
}

/// Row names that a first cell stands for: "H1, H2" is two, "W2 to W5" is one entry of the rows.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(", ")
}

/// Numbers of four digits or more, with which tests carry advisories and issues.
fn numbers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() >= 4)
}

/// Names of functions in a source, folded.
fn functions(source: &str) -> impl Iterator<Item = String> {
    source.lines().filter_map(|line| Some(folded(line.split_once("fn ")?.1.split_once('(')?.0)))
}

/// Everything in which the page contradicts the rows or the tests.
fn contradictions(page: &str, rows: &[&Row], sources: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for cells in table(page, "row") {
        let absent = cells.iter().any(|cell| cell.contains(ABSENT));
        for name in names(cells[0]) {
            let shown = rows.iter().any(|row| row.row == name && !row.tests.is_empty());
            match (absent, shown) {
                (true, true) => found.push(format!("{name} is said to be absent, and has a test")),
                (false, false) => found.push(format!("{name} has no test, and is not said to be absent")),
                _ => {}
            }
        }
    }
    let tests: Vec<String> = sources.iter().flat_map(|source| functions(source)).collect();
    for line in page.lines().filter(|line| line.contains(ABSENT)) {
        for row in rows.iter().filter(|row| !row.tests.is_empty()) {
            let named = row.numbers.iter().filter(|number| folded(line).contains(&folded(number)));
            found.extend(named.map(|number| format!("{number} is said to be absent, and row {} has a test", row.row)));
        }
        for number in numbers(line) {
            let carries = |test: &&String| test.split('_').any(|word| word == number);
            found.extend(tests.iter().find(carries).map(|test| format!("{number} is said to be absent: {test}")));
        }
    }
    found
}

#[test]
fn the_page_says_absent_of_nothing_that_a_test_shows_and_has_a_test_for_the_rest() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    assert!(table(&page, "row").len() > 15, "the table of rows was not found");
    let found = contradictions(&page, &all_rows().collect::<Vec<_>>(), &sources(&root().join("tests")));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn contradictions_are_found() {
    const PAGE: &str = "| row | attack | defence | test |\n|---|---|---|---|\n\
                        | A1, A2 | x | y | z |\n| A3 | x | not in this version | |\n\n\
                        | number | why not |\n|---|---|\n| litellm#18730, gate#77 | limits: not in this version |\n";
    let shown = |name| Row { row: name, numbers: &[], tests: &[("tests/x.rs", "t")] };
    let (a1, a2, a3) = (shown("A1"), shown("A2"), shown("A3"));
    let numbered = Row { row: "A1", numbers: &["gate#77"], tests: &[("tests/x.rs", "t")] };
    let carrying = ["fn litellm_18730_no_limit_is_passed() {}".to_owned()];
    let other = ["fn litellm_187300_is_another_number() {}".to_owned()];
    let check = |rows: &[&Row], sources: &[String], expected: &[&str]| {
        assert_eq!(contradictions(PAGE, rows, sources), expected);
    };
    check(&[&a1, &a2], &other, &[]);
    check(&[&a1], &other, &["A2 has no test, and is not said to be absent"]);
    check(&[&a1, &a2, &a3], &other, &["A3 is said to be absent, and has a test"]);
    check(&[&a1, &a2], &carrying, &["18730 is said to be absent: litellm_18730_no_limit_is_passed"]);
    check(&[&numbered, &a2], &other, &["gate#77 is said to be absent, and row A1 has a test"]);
}

/// Paths of Rust files below a folder, without their extension.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.with_extension("").display().to_string());
        }
    }
    found
}

/// Test files that the page's column names and that are not there. `spop_*` is any that begins so;
fn absent_files(page: &str, there: &[String]) -> Vec<String> {
    let mut absent = Vec::new();
    for cells in table(page, "row") {
        for name in cells.last().unwrap_or(&"").split('`').skip(1).step_by(2) {
            let is_there = |path: &String| match name.strip_suffix('*') {
                Some(start) => path.contains(&format!("/{start}")),
                None => path.ends_with(&format!("/{name}")),
            };
            if !name.contains('(') && !there.iter().any(is_there) {
                absent.push(format!("{}: {name}", cells[0]));
            }
        }
    }
    absent
}

#[test]
fn every_test_that_a_row_names_is_a_file() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let there = [files(&root().join("tests")), files(&root().join("src"))].concat();
    assert_eq!(absent_files(&page, &there), Vec::<String>::new());

    const PAGE: &str =
        "| row | attack | defence | test |\n|---|---|---|---|\n| A1 | x | y | `jwt` j1, `spop_*`, `gone` |\n";
    let there = ["tests/pure/jwt".to_owned(), "tests/pure/spop_wire".to_owned()];
    assert_eq!(absent_files(PAGE, &there), ["A1: gone"]);
}
