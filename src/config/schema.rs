//! The configuration's schema as data: what a section and a key are. The sections themselves stand in
//! [`sections`](super::sections).

/// A section of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name, `[name]`.
    pub name: &'static str,
    /// How it is written.
    pub shape: Shape,
    /// Whether this version acts on it. What it does not act on is an error, never ignored.
    pub enforced: bool,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [SchemaKey],
}

/// How a section is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[probe]`: once.
    Single,
    /// `[plans.NAME]`: once for each name.
    Named,
    /// `[[server]]`: any number of times.
    Repeated,
    /// `[aliases]`: each key is a name of the operator's; the only entry of `keys` says what its value is.
    Free,
}

impl Section {
    /// Returns the section's header in the file; `name` stands for itself where there is one.
    pub fn header(&self, name: Option<&str>) -> String {
        match self.shape {
            Shape::Single | Shape::Free => format!("[{}]", self.name),
            Shape::Named => format!("[{}.{}]", self.name, name.unwrap_or("NAME")),
            Shape::Repeated => format!("[[{}]]", self.name),
        }
    }
}

/// A key of a section.
#[derive(Debug)]
pub struct SchemaKey {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: SettingKind,
    /// What holds where it is absent.
    pub default: Fallback,
    /// Whether this version acts on it.
    pub enforced: bool,
    /// What it means.
    pub doc: &'static str,
}

/// What holds where a key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The key must be given.
    Required,
    /// Nothing: `doc` says what that means.
    Nothing,
    /// This value, written as in the file.
    Value(&'static str),
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum SettingKind {
    /// Any string.
    Text,
    /// A list of strings.
    Texts,
    /// A file, relative to the configuration file.
    Path,
    /// `"IP:PORT"`, `"unix:/path"` or `"off"`.
    Address,
    /// `"unix:/path"` or `"off"`.
    Socket,
    /// A model server's base URL.
    Url,
    /// A whole number between two bounds, both included.
    Integer(u32, u32),
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// `"250ms"`, `"5s"`, `"10m"`, `"24h"`, `"14d"`.
    Duration,
    /// `"60/min"`.
    Rate,
    /// One rate, or a list of them.
    Rates,
    /// A list of `"2M/day"`, `"40M/month"`.
    Budgets,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [ChoiceWord]),
    /// A whole number, or this word.
    IntegerOr(&'static str),
    /// A table with these keys.
    Table(&'static [SchemaKey]),
    /// Tables of this section inside this one: `[[issuer.rule]]`.
    Sections(&'static Section),
}

/// A word of [`SettingKind::Choices`].
#[derive(Debug)]
pub struct ChoiceWord {
    /// The word.
    pub word: &'static str,
    /// Whether this version acts on it.
    pub enforced: bool,
}

impl SettingKind {
    /// Returns what a value of this kind is, for a message: "must be …".
    pub fn phrase(&self) -> String {
        match self {
            SettingKind::Text => "a string".to_owned(),
            SettingKind::Texts => "a list of strings".to_owned(),
            SettingKind::Path => "a file name".to_owned(),
            SettingKind::Address => "an address: \"IP:PORT\", \"unix:/path\" or \"off\"".to_owned(),
            SettingKind::Socket => "a unix socket: \"unix:/path\" or \"off\"".to_owned(),
            SettingKind::Url => "a URL: \"http://HOST:PORT\"".to_owned(),
            SettingKind::Integer(low, high) => format!("a whole number from {low} to {high}"),
            SettingKind::Number => "a number from 0 to 1000".to_owned(),
            SettingKind::Bool => "true or false".to_owned(),
            SettingKind::Duration => "a duration: \"250ms\", \"5s\", \"10m\", \"24h\" or \"14d\"".to_owned(),
            SettingKind::Rate => "a rate: \"60/min\", \"5/s\", \"1000/h\" or \"10000/day\"".to_owned(),
            SettingKind::Rates => "a rate such as \"60/min\", or a list of rates".to_owned(),
            SettingKind::Budgets => "a list of budgets: \"2M/day\", \"40M/month\"".to_owned(),
            SettingKind::Choice(words) => format!("one of {}", quoted(words.iter().copied())),
            SettingKind::Choices(words) => format!("a list of {}", quoted(words.iter().map(|word| word.word))),
            SettingKind::IntegerOr(word) => format!("a whole number or \"{word}\""),
            SettingKind::Table(_) => "a table".to_owned(),
            SettingKind::Sections(_) => "a list of tables".to_owned(),
        }
    }
}

/// Words in quotes with commas between them.
pub fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
