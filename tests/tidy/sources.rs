//! Files of the tree, and what their code imports.

use std::path::{Path, PathBuf};

/// Rust files below a folder, sorted.
pub fn sources(folder: &str) -> Vec<PathBuf> {
    files_below(Path::new(folder), "rs")
}

/// Files with this extension below a folder, sorted; without build products and hidden folders.
pub fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_str().unwrap().starts_with('.') {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Lines of a file that are code, with their numbers: comments and the test module left out.
pub fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or_default().to_owned()))
        .collect()
}

/// The room a file of `src` belongs to: its folder or file directly below `src`.
pub fn room_of(file: &Path, src: &Path) -> String {
    let below = file.strip_prefix(src).unwrap();
    below.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Every path below `crate::` that a file's code names, with its line: groups (`use crate::{a, b::c}`) taken apart.
pub fn imports(file: &Path) -> Vec<(usize, String)> {
    let lines = code_lines(file);
    let mut found = Vec::new();
    for (position, (number, line)) in lines.iter().enumerate() {
        for (start, _) in line.match_indices("crate::") {
            let rest = &line[start + "crate::".len()..];
            let rest = match rest.starts_with('{') {
                // A group may go on over the next lines, up to its `;`.
                true => lines[position + 1..].iter().fold(rest.to_owned(), |mut whole, (_, next)| {
                    if !whole.contains(';') {
                        whole.push_str(next.trim());
                    }
                    whole
                }),
                false => rest.to_owned(),
            };
            found.extend(members(&rest).into_iter().map(|path| (*number, path)));
        }
    }
    found
}

/// `{a, b::{c, d}}` → `a`, `b`; `a::b` → `a::b`.
fn members(text: &str) -> Vec<String> {
    let path = |text: &str| -> String {
        let word = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
        text.trim()
            .chars()
            .take_while(|character| word(*character))
            .collect::<String>()
            .trim_end_matches(':')
            .to_owned()
    };
    let Some(inner) = text.strip_prefix('{') else { return vec![path(text)] };
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(path(&inner[start..index]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(path(&inner[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

#[test]
fn imports_are_found_in_every_form_they_are_written_in() {
    let cases = [
        ("a::b;", vec!["a::b"]),
        ("a::b::{C, D};", vec!["a::b"]),
        ("{a, b::c, d::{E, F}};", vec!["a", "b::c", "d"]),
        ("gate::Gate) -> u8 {", vec!["gate::Gate"]),
    ];
    for (text, expected) in cases {
        assert_eq!(members(text), expected, "{text}");
    }
}
