//! The file as written: every table checked against the schema, with the place of everything in it.

use super::key_of::{ChoiceOf, KeyOf, Readable};
use super::quantity::Rate;
use super::schema::{Fallback, SchemaKey, Section, SettingKind, Shape, quoted};
use super::sections::SECTIONS;
use super::value::{self, AddressText, Budgets, ConfigValue, Texts, WrittenRates};
use crate::files::problem::Findings;
use crate::files::spelling;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tables of one file that this version acts on. A [`Shape::Single`] section that the file lacks is there, empty.
#[derive(Debug, Default)]
pub struct File {
    tables: Vec<Table>,
    mentioned: Vec<&'static str>,
}

/// One table of the file.
#[derive(Debug)]
pub struct Table {
    /// Its section.
    pub section: &'static Section,
    /// The operator's name for it (`[plans.NAME]`).
    pub name: Option<String>,
    /// The place of its header or name.
    pub at: Range<usize>,
    fields: Vec<ConfigField>,
    nested: Vec<Table>,
}

#[derive(Debug)]
struct ConfigField {
    key: &'static SchemaKey,
    value: ConfigValue,
    at: Range<usize>,
}

impl File {
    /// Reads `source`. Everything wrong with it goes to `findings`; what could be read is returned regardless, so that
    /// one mistake does not hide the next.
    pub fn read(source: &str, findings: &mut Findings<'_>) -> File {
        let (document, errors) = DeTable::parse_recoverable(source);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            let text = source.get(at.clone()).unwrap_or_default();
            // Two of the reader's messages leave the operator guessing.
            let what = match error.message() {
                "duplicate key" if text.len() <= 64 => format!("\"{}\" is there already", text.escape_debug()),
                message if message.starts_with("string values must be quoted") && text.is_empty() => {
                    "the value is missing".to_owned()
                }
                message => message.to_owned(),
            };
            findings.syntax(at, what);
        }
        let mut file = File::default();
        for (name, value) in in_order(document.get_ref()) {
            match SECTIONS.iter().find(|section| section.name == &**name.get_ref()) {
                Some(section) => {
                    file.mentioned.push(section.name);
                    file.read_section(section, name.span(), value, findings);
                }
                None => unknown_section(name, value, findings),
            }
        }
        for section in SECTIONS.iter().filter(|section| section.shape == Shape::Single && section.enforced) {
            if file.all(section.name).next().is_none() {
                file.tables.push(Table { section, name: None, at: 0..0, fields: Vec::new(), nested: Vec::new() });
            }
        }
        file
    }

    /// Returns the tables of a section, in the order of the file.
    pub fn all(&self, section: &str) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(move |table| table.section.name == section)
    }

    /// Returns whether the file has this section in any form, even one that could not be read.
    pub fn mentions(&self, section: &str) -> bool {
        self.mentioned.contains(&section)
    }

    fn read_section(
        &mut self,
        section: &'static Section,
        at: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        findings: &mut Findings<'_>,
    ) {
        if !section.enforced {
            findings.key(at.clone(), format!("{} is not supported yet", section.header(None)), None);
        }
        let tables = self.tables.len();
        match (section.shape, value.get_ref()) {
            (Shape::Single, DeValue::Table(table)) => self.add(section, None, at, table, findings),
            (Shape::Free, DeValue::Table(table)) => {
                for (value, key) in table.values().flat_map(|value| section.keys.iter().map(move |key| (value, key))) {
                    value::read(&SchemaKey { name: section.name, ..*key }, value, findings);
                }
            }
            (Shape::Named, DeValue::Table(names)) => {
                for (name, value) in in_order(names) {
                    match value.get_ref() {
                        DeValue::Table(table) => {
                            self.add(section, Some(name.get_ref().to_string()), name.span(), table, findings);
                        }
                        _ => {
                            let what = format!("{:?} in [{}] must be a table", name.get_ref(), section.name);
                            let hint = format!("each one has a name: {}", section.header(None));
                            findings.key(name.span(), what, Some(hint));
                        }
                    }
                }
            }
            (Shape::Repeated, DeValue::Array(items)) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => self.add(section, None, item.span(), table, findings),
                        _ => wrong_shape(section, item.span(), findings),
                    }
                }
            }
            _ => wrong_shape(section, at, findings),
        }
        if !section.enforced {
            self.tables.truncate(tables);
        }
    }

    fn add(
        &mut self,
        section: &'static Section,
        name: Option<String>,
        at: Range<usize>,
        table: &DeTable<'_>,
        findings: &mut Findings<'_>,
    ) {
        self.tables.push(read_table(section, name, at, table, findings));
    }
}

impl Table {
    /// Returns a string.
    pub fn text(&self, key: KeyOf<String>) -> Option<String> {
        self.get(key)
    }

    /// Returns a list of strings, each with its place.
    pub fn texts(&self, key: KeyOf<Texts>) -> Option<Texts> {
        self.get(key)
    }

    /// Returns a file as written.
    pub fn path(&self, key: KeyOf<PathBuf>) -> Option<PathBuf> {
        self.get(key)
    }

    /// Returns an address as written.
    pub fn address(&self, key: KeyOf<AddressText>) -> Option<AddressText> {
        self.get(key)
    }

    /// Returns a whole number within the schema's bounds.
    pub fn count(&self, key: KeyOf<u32>) -> Option<u32> {
        self.get(key)
    }

    /// Returns a number.
    pub fn number(&self, key: KeyOf<f64>) -> Option<f64> {
        self.get(key)
    }

    /// Returns `true` or `false`.
    pub fn flag(&self, key: KeyOf<bool>) -> Option<bool> {
        self.get(key)
    }

    /// Returns a duration.
    pub fn duration(&self, key: KeyOf<Duration>) -> Option<Duration> {
        self.get(key)
    }

    /// Returns a rate.
    pub fn rate(&self, key: KeyOf<Rate>) -> Option<Rate> {
        self.get(key)
    }

    /// Returns one rate, or a list of them.
    pub fn rates(&self, key: KeyOf<WrittenRates>) -> Option<WrittenRates> {
        self.get(key)
    }

    /// Returns budgets, each with its place.
    pub fn budgets(&self, key: KeyOf<Budgets>) -> Option<Budgets> {
        self.get(key)
    }

    /// Returns what the word that stands there means.
    pub fn choice<T: Copy>(&self, choice: &ChoiceOf<T>) -> Option<T> {
        choice.meaning(self.get(choice.key())?)
    }

    /// Returns the value of a key, or the schema's default where the file has none (or none that could be read, which is
    /// a problem already). `None` where there is neither.
    fn get<T: Readable>(&self, key: KeyOf<T>) -> Option<T> {
        let value = match self.field(key.name()) {
            Some(field) => field.value.clone(),
            None => default_value(key_called(self.section.keys, key.name())?)?,
        };
        T::from_value(value)
    }

    fn field(&self, name: &str) -> Option<&ConfigField> {
        self.fields.iter().find(|field| field.key.name == name)
    }

    /// Returns the place of a key's value; the table's own where the file does not have it.
    pub fn at(&self, name: &str) -> Range<usize> {
        self.field(name).map_or(&self.at, |field| &field.at).clone()
    }

    /// Returns whether the file itself has this key, with a value that could be read.
    pub fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// Returns the tables of a section inside this one.
    pub fn nested(&self, section: &str) -> impl Iterator<Item = &Table> {
        self.nested.iter().filter(move |table| table.section.name == section)
    }

    /// Returns the section's header as the file has it.
    pub fn header(&self) -> String {
        self.section.header(self.name.as_deref())
    }
}

/// Returns the key of this name, which may stand in a table inside.
fn key_called(keys: &'static [SchemaKey], name: &str) -> Option<&'static SchemaKey> {
    keys.iter().find(|key| key.name == name).or_else(|| {
        keys.iter().find_map(|key| match key.kind {
            SettingKind::Table(inner) => key_called(inner, name),
            _ => None,
        })
    })
}

/// Returns the default of a key, read by the same reader as the file. `None` where it has none.
pub fn default_value(key: &SchemaKey) -> Option<ConfigValue> {
    let Fallback::Value(written) = key.default else { return None };
    // Strings stand in the schema without quotes.
    let quoted = format!("\"{written}\"");
    let text = match key.kind {
        SettingKind::Integer(..)
        | SettingKind::Number
        | SettingKind::Bool
        | SettingKind::Texts
        | SettingKind::Choices(_) => written,
        _ => &quoted,
    };
    value::read(key, &DeValue::parse(text).ok()?, &mut Findings::new(text))
}

fn read_table(
    section: &'static Section,
    name: Option<String>,
    at: Range<usize>,
    table: &DeTable<'_>,
    findings: &mut Findings<'_>,
) -> Table {
    let place = section.header(name.as_deref());
    let (fields, nested) = read_fields(section.keys, &place, section.enforced, table, findings);
    for key in section.keys.iter().filter(|key| key.default == Fallback::Required) {
        if !table.keys().any(|name| &**name.get_ref() == key.name) {
            findings.missing(at.clone(), format!("{place} needs \"{}\"", key.name), Some(key.kind.phrase()));
        }
    }
    Table { section, name, at, fields, nested }
}

fn read_fields(
    keys: &'static [SchemaKey],
    place: &str,
    enforced: bool,
    table: &DeTable<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<ConfigField>, Vec<Table>) {
    let (mut fields, mut nested) = (Vec::new(), Vec::new());
    for (name, value) in in_order(table) {
        let Some(key) = keys.iter().find(|key| key.name == &**name.get_ref()) else {
            unknown_key(name, keys, place, findings);
            continue;
        };
        if enforced && !key.enforced {
            findings.key(name.span(), format!("\"{}\" in {place} is not supported yet", key.name), None);
        }
        match (&key.kind, value.get_ref()) {
            (SettingKind::Table(inner), DeValue::Table(table)) => {
                let place = format!("\"{}\" of {place}", key.name);
                fields.extend(read_fields(inner, &place, enforced && key.enforced, table, findings).0);
            }
            (SettingKind::Sections(section), DeValue::Array(items)) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            nested.push(read_table(section, None, item.span(), table, findings));
                        }
                        _ => wrong_shape(section, item.span(), findings),
                    }
                }
            }
            _ => {
                if let Some(value_read) = value::read(key, value, findings) {
                    fields.push(ConfigField { key, value: value_read, at: value.span() });
                }
            }
        }
    }
    (fields, nested)
}

fn wrong_shape(section: &Section, at: Range<usize>, findings: &mut Findings<'_>) {
    let what = format!("\"{}\" must be written as {}", section.name, section.header(None));
    findings.key(at, what, None);
}

fn unknown_section(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings<'_>,
) {
    let known = SECTIONS.iter().map(|section| section.name);
    let is_table = match value.get_ref() {
        DeValue::Table(_) => true,
        DeValue::Array(items) => items.iter().next().is_some_and(|item| item.get_ref().is_table()),
        _ => false,
    };
    let shown = name.get_ref().escape_debug();
    let what = if is_table {
        format!("unknown section [{shown}]")
    } else {
        format!("unknown key \"{shown}\" outside of any section")
    };
    let hint = match (spelling::nearest(name.get_ref(), known.clone()), home_of(name.get_ref())) {
        (Some(near), _) if is_table => format!("did you mean \"{near}\"?"),
        (_, Some(home)) if !is_table => format!("it belongs to {home}"),
        _ => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
    };
    findings.key(name.span(), what, Some(hint));
}

fn unknown_key(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    keys: &'static [SchemaKey],
    place: &str,
    findings: &mut Findings<'_>,
) {
    let known = keys.iter().map(|key| key.name);
    let hint = match (spelling::nearest(name.get_ref(), known.clone()), home_of(name.get_ref())) {
        (Some(near), _) => format!("did you mean \"{near}\"?"),
        (None, Some(home)) => format!("it belongs to {home}"),
        (None, None) => format!("known: {}", quoted(known)),
    };
    findings.key(name.span(), format!("unknown key \"{}\" in {place}", name.get_ref().escape_debug()), Some(hint));
}

/// Returns the section that has a key of this name.
fn home_of(name: &str) -> Option<String> {
    let has = |section: &&Section| section.shape != Shape::Free && section.keys.iter().any(|key| key.name == name);
    SECTIONS.iter().find(has).map(|section| section.header(None))
}

/// Returns the entries of a table in the order of the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_the_schema_is_of_its_own_kind() {
        let keys = SECTIONS.iter().flat_map(|section| section.keys);
        let mut checked = 0;
        for key in keys.filter(|key| matches!(key.default, Fallback::Value(_))) {
            assert!(default_value(key).is_some(), "{}", key.name);
            checked += 1;
        }
        assert!(checked > 20, "{checked}");
    }
}
