//! `docs/configuration.md`, written from the schema.

use super::schema::{Fallback, Key, Kind, SECTIONS, Section, Shape};
use std::fmt::Write;

/// The reference page: every key with its type, default, meaning, and whether this version acts on it.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for section in SECTIONS {
        write_section(&mut page, section);
    }
    page.push_str(KEY_FILE);
    page
}

const INTRODUCTION: &str = "\
# Configuration

Made from `src/config/schema.rs`; a test holds it to that.

herdgate reads `herdgate.toml` (TOML 1.0), by default in the working directory, then in `/etc/herdgate/`; `--config F` names
another, `-` is standard input. Paths in it are relative to the file. `herdgate check` names every problem with line and
column. A running herdgate reads a changed file again by itself, or on SIGHUP; where the new file has a problem, it is logged
and nothing changes.

What is *not supported yet* is known and checked, and refused until a version acts on it: a limit that is written down is
never silently ignored.

Durations are a whole number with `ms`, `s`, `m`, `h` or `d`; rates a count over `s`, `min`, `h` or `day`; counts may end in `k`
(thousand) or `M` (million).
";

const KEY_FILE: &str = "
## The key file

Written by `herdgate key`, and readable by hand: one table for each secret, its header on a line of its own. Mode 0600, owned by
the user herdgate runs as. Two tables may share a name, to replace a secret without a gap; they share its plan and its quota.

```toml
[[key]]
name = \"alice@example.com\"                # 1 to 64 letters, digits or any of _.@+-/:
plan = \"team\"
sha256 = \"…\"                             # SHA-256 of the secret, 64 hexadecimal digits
created = 2026-01-31T12:00:00Z
expires = 2027-01-31T12:00:00Z             # optional
revoked = 2026-06-30T08:15:00Z             # optional: refused from the moment the file is read
```
";

fn write_section(page: &mut String, section: &Section) {
    let state = if section.enforced { "" } else { " *Not supported yet.*" };
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## `{}`\n\n{}{state}\n\n", section.header(None), section.doc);
    page.push_str("| key | value | default | meaning | this version |\n|---|---|---|---|---|\n");
    for key in section.keys {
        write_key(page, "", section, key);
    }
}

fn write_key(page: &mut String, prefix: &str, section: &Section, key: &Key) {
    let default = match key.default {
        Fallback::Required => "required".to_owned(),
        Fallback::Nothing => "–".to_owned(),
        Fallback::Value(value) => format!("`{value}`"),
    };
    let state = if section.enforced && key.enforced { "enforced" } else { "not supported yet" };
    let name = format!("{prefix}{}", key.name);
    let _ = writeln!(page, "| `{name}` | {} | {default} | {} | {state} |", cell(&key.kind), key.doc);
    match key.kind {
        Kind::Table(keys) => keys.iter().for_each(|inner| write_key(page, &format!("{name}."), section, inner)),
        Kind::Sections(inner) if inner.shape == Shape::Repeated => {
            inner.keys.iter().for_each(|key| write_key(page, &format!("{name}[]."), inner, key));
        }
        _ => {}
    }
}

fn cell(kind: &Kind) -> String {
    let phrase = match kind {
        // The words that are not acted on yet are told apart.
        Kind::Choices(words) => {
            let word = |word: &super::schema::Word| match word.enforced {
                true => format!("\"{}\"", word.word),
                false => format!("\"{}\" (not supported yet)", word.word),
            };
            format!("a list of {}", words.iter().map(word).collect::<Vec<_>>().join(", "))
        }
        kind => kind.phrase(),
    };
    phrase.replace('|', "\\|")
}
