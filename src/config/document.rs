//! `docs/configuration.md`, written from the schema.

use super::reload::{Uptake, uptake};
use super::schema::{Fallback, SchemaKey, Section, SettingKind, Shape};
use super::sections::SECTIONS;
use std::fmt::Write;

/// Returns the reference page: every key with its type, default, meaning, and whether this version acts on it. The key
/// file's part is appended by its own room.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for section in SECTIONS {
        write_section(&mut page, section);
    }
    page
}

const INTRODUCTION: &str = "\
# Configuration

Made from `src/config/sections.rs`; a test holds it to that.

herdgate reads `herdgate.toml` (TOML 1.0), by default in the working directory, then in `/etc/herdgate/`; `--config F` names
another, `-` is standard input. Paths in it are relative to the file. `herdgate check` names every problem with line and
column. A running herdgate reads a changed file again by itself, or on SIGHUP; where the new file has a problem, it is logged
and nothing changes. \"A change\" says what makes a new value hold: that reload, or a restart, which the log then names.

What is *not supported yet* is known and checked, and refused until a version acts on it: a limit that is written down is
never silently ignored.

Durations are a whole number with `ms`, `s`, `m`, `h` or `d`; rates a count over `s`, `min`, `h` or `day`; counts may end in `k`
(thousand) or `M` (million).
";

fn write_section(page: &mut String, section: &Section) {
    let state = if section.enforced { "" } else { " *Not supported yet.*" };
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## `{}`\n\n{}{state}\n\n", section.header(None), section.doc);
    page.push_str("| key | value | default | meaning | a change | this version |\n|---|---|---|---|---|---|\n");
    for key in section.keys {
        write_key(page, "", section, key);
    }
}

fn write_key(page: &mut String, prefix: &str, section: &Section, key: &SchemaKey) {
    let default = match key.default {
        Fallback::Required => "required".to_owned(),
        Fallback::Nothing => "–".to_owned(),
        Fallback::Value(value) => format!("`{value}`"),
    };
    let state = if section.enforced && key.enforced { "enforced" } else { "not supported yet" };
    let name = format!("{prefix}{}", key.name);
    let change = match uptake(section.name, key.name) {
        Uptake::Reload => "reload",
        Uptake::Restart => "restart",
    };
    let _ = writeln!(page, "| `{name}` | {} | {default} | {} | {change} | {state} |", cell(&key.kind), key.doc);
    match key.kind {
        SettingKind::Table(keys) => keys.iter().for_each(|inner| write_key(page, &format!("{name}."), section, inner)),
        SettingKind::Sections(inner) if inner.shape == Shape::Repeated => {
            inner.keys.iter().for_each(|key| write_key(page, &format!("{name}[]."), inner, key));
        }
        _ => {}
    }
}

fn cell(kind: &SettingKind) -> String {
    let phrase = match kind {
        // The words that are not acted on yet are told apart.
        SettingKind::Choices(words) => {
            let word = |word: &super::schema::ChoiceWord| {
                let state = if word.enforced { "" } else { " (not supported yet)" };
                format!("\"{}\"{state}", word.word)
            };
            format!("a list of {}", words.iter().map(word).collect::<Vec<_>>().join(", "))
        }
        kind => kind.phrase(),
    };
    phrase.replace('|', "\\|")
}
