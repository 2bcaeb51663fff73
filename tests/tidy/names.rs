//! Names and sizes of files, and names of types.

use crate::sources::{code_lines, sources};
use std::collections::BTreeMap;

/// Longest a source file may be, in lines.
const LINES_MAX: usize = 700;

/// Most type names that may be defined more than once, in hundredths of all.
const SHARED_NAMES_MAX_PERCENT: usize = 1;

#[test]
fn every_source_file_says_what_it_is_for_and_stays_readable() {
    let mut broken = Vec::new();
    for folder in ["src", "tools", "tests"] {
        for file in sources(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            if !text.starts_with("//!") {
                broken.push(format!("{}: no purpose in its first line", file.display()));
            }
            if text.lines().count() > LINES_MAX {
                broken.push(format!("{}: {} lines", file.display(), text.lines().count()));
            }
            if ["util", "utils", "common", "helper", "helpers", "types", "misc"].contains(&name) {
                broken.push(format!("{}: a name that says nothing", file.display()));
            }
            for word in ["todo!(", "unimplemented!(", "#[ignore"] {
                if text.contains(word) && !file.ends_with("tidy/names.rs") {
                    broken.push(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_type_name_stands_for_one_type() {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources("src") {
        for (number, line) in code_lines(&file) {
            if let Some(name) = defined_type(&line) {
                names.entry(name).or_default().push(format!("{}:{number}", file.display()));
            }
        }
    }
    let all = names.len();
    names.retain(|_, places| places.len() > 1);
    let listed: Vec<String> = names.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    println!("{} of {all} type names are defined more than once:\n{}", listed.len(), listed.join("\n"));
    assert!(all > 300, "found only {all} types");
    assert!(listed.len() * 100 <= all * SHARED_NAMES_MAX_PERCENT, "{} of {all}:\n{}", listed.len(), listed.join("\n"));
}

/// The name of the type that a line defines, wherever it stands; associated types (indented `type`) are no definitions.
fn defined_type(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().peekable();
    if words.peek().is_some_and(|word| word.starts_with("pub")) {
        words.next();
    }
    let keyword = words.next()?;
    let indented = line.starts_with(' ');
    let defines = matches!(keyword, "struct" | "enum" | "trait" | "union") || (keyword == "type" && !indented);
    if !defines {
        return None;
    }
    let name: String = words.next()?.chars().take_while(|character| character.is_alphanumeric()).collect();
    name.chars().next().filter(char::is_ascii_uppercase).map(|_| name)
}

#[test]
fn type_definitions_are_told_from_other_lines() {
    let cases = [
        ("pub struct Gate {", Some("Gate")),
        ("    pub(super) enum Kind<'a> {", Some("Kind")),
        ("type Half = HashMap<u8, u8>;", Some("Half")),
        ("    type Error = io::Error;", None),
        ("let structure = 1;", None),
        ("trait Journal: Send {", Some("Journal")),
    ];
    for (line, expected) in cases {
        assert_eq!(defined_type(line).as_deref(), expected, "{line}");
    }
}
