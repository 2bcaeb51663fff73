//! One value of the file, read as the kind its schema entry asks for.

use super::quantity::{self, Rate};
use super::schema::{ChoiceWord, SchemaKey, SettingKind, quoted};
use crate::decision::plan::limits::Budget;
use crate::files::problem::Findings;
use crate::files::spelling;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeArray, DeValue};

/// Largest number that is no whole one: a weight.
pub const NUMBER_MAX: f64 = 1000.0;

/// Longest string acted on, in bytes.
const TEXT_MAX: usize = 4096;

/// Strings, each with its place.
pub type Texts = Vec<(String, Range<usize>)>;

/// Budgets, each with its place.
pub type Budgets = Vec<(Budget, Range<usize>)>;

/// A value that is of its kind, in the form that the getters of [`Table`](super::file::Table) take. Kinds that nothing in
/// this version acts on are checked and read as `Checked`.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigValue {
    /// Text, or a URL.
    Text(String),
    /// A list of strings, each with its place.
    Texts(Texts),
    /// A file, as written.
    Path(PathBuf),
    /// An address as written.
    Address(AddressText),
    /// A whole number within its bounds.
    Count(u32),
    /// A number, from 0 to [`NUMBER_MAX`].
    Number(f64),
    /// `true` or `false`.
    Flag(bool),
    /// A duration.
    Duration(Duration),
    /// One rate, where no list may stand.
    Rate(Rate),
    /// One rate or a list of them.
    Rates(WrittenRates),
    /// Budgets, each with its place.
    Budgets(Budgets),
    /// One word of a choice, as the schema has it.
    Word(&'static str),
    /// Well-formed, and not acted on.
    Checked,
}

/// Rates of one key: a single one may have a burst beside it.
#[derive(Debug, Clone, PartialEq)]
pub enum WrittenRates {
    /// `"60/min"`
    One(Rate),
    /// `["60/min", "1000/day"]`
    Each(Vec<Rate>),
}

/// An address as the file has it: a relative socket path is not yet taken from the file's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressText {
    /// `"off"`
    Off,
    /// `"127.0.0.1:9901"`
    Tcp(SocketAddr),
    /// `"unix:herdgate.sock"`
    Unix(PathBuf),
}

/// Reads `value` as `key.kind`; what is wrong with it goes to `findings`.
pub fn read(key: &SchemaKey, value: &Spanned<DeValue<'_>>, findings: &mut Findings<'_>) -> Option<ConfigValue> {
    let mut reader = ValueReader { name: key.name, kind: &key.kind, findings };
    reader.read(value)
}

struct ValueReader<'r, 's> {
    name: &'r str,
    kind: &'r SettingKind,
    findings: &'r mut Findings<'s>,
}

impl ValueReader<'_, '_> {
    fn read(&mut self, value: &Spanned<DeValue<'_>>) -> Option<ConfigValue> {
        match *self.kind {
            SettingKind::Text | SettingKind::Url => self.text(value).map(|text| ConfigValue::Text(text.to_owned())),
            SettingKind::Path => self.text(value).map(|text| ConfigValue::Path(text.into())),
            SettingKind::Texts => self
                .list(value, |reader, item| Some((reader.text(item)?.to_owned(), item.span())))
                .map(ConfigValue::Texts),
            SettingKind::Address => self.address(value).map(ConfigValue::Address),
            SettingKind::Socket => match self.address(value)? {
                AddressText::Tcp(_) => {
                    self.wrong(value, Some("anyone who can reach a TCP port could command the daemon"))
                }
                written => Some(ConfigValue::Address(written)),
            },
            SettingKind::Integer(low, high) => {
                match count(value.get_ref()).filter(|number| (low..=high).contains(number)) {
                    Some(number) => Some(ConfigValue::Count(number)),
                    None => self.wrong(value, None),
                }
            }
            SettingKind::Number => match value.get_ref() {
                DeValue::Integer(_) | DeValue::Float(_) => match number(value.get_ref()) {
                    Some(number) => Some(ConfigValue::Number(number)),
                    None => self.wrong(value, None),
                },
                _ => self.wrong(value, None),
            },
            SettingKind::Bool => match value.get_ref() {
                DeValue::Boolean(value) => Some(ConfigValue::Flag(*value)),
                _ => self.wrong(value, Some("without quotes")),
            },
            SettingKind::Duration => self.quantity(value, quantity::duration).map(ConfigValue::Duration),
            SettingKind::Rate => self.quantity(value, quantity::rate).map(ConfigValue::Rate),
            SettingKind::Rates => match value.get_ref() {
                DeValue::Array(_) => {
                    let rates = self.list(value, |reader, item| reader.quantity(item, quantity::rate));
                    rates.map(|rates| ConfigValue::Rates(WrittenRates::Each(rates)))
                }
                _ => self.quantity(value, quantity::rate).map(|rate| ConfigValue::Rates(WrittenRates::One(rate))),
            },
            SettingKind::Budgets => {
                let read = |reader: &mut Self, item: &Spanned<DeValue<'_>>| {
                    Some((reader.quantity(item, quantity::budget)?, item.span()))
                };
                self.list(value, read).map(ConfigValue::Budgets)
            }
            SettingKind::Choice(words) => self.choice(value, words),
            SettingKind::Choices(words) => self.choices(value, words),
            SettingKind::IntegerOr(word) => match value.get_ref() {
                DeValue::Integer(_) => Some(ConfigValue::Checked),
                DeValue::String(text) if &**text == word => Some(ConfigValue::Checked),
                _ => self.wrong(value, None),
            },
            // The reader of the file walks into tables before it asks for values.
            SettingKind::Table(_) | SettingKind::Sections(_) => self.wrong(value, None),
        }
    }

    /// Reports that `value` is not of this kind.
    fn wrong<T>(&mut self, value: &Spanned<DeValue<'_>>, hint: Option<&str>) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(text) if text.chars().count() <= 60 => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            other => article(other.type_str()),
        };
        let what = format!("\"{}\" must be {}, not {}", self.name, self.kind.phrase(), concealed(&found));
        self.findings.value(value.span(), what, hint.map(str::to_owned));
        None
    }

    fn text<'v>(&mut self, value: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
        let Some(text) = value.get_ref().as_str() else { return self.wrong(value, Some("in quotes")) };
        let fault = if text.trim().is_empty() {
            "is empty"
        } else if text.len() > TEXT_MAX {
            "is too long: at most 4,096 bytes"
        } else if text.chars().any(char::is_control) {
            "holds a control character"
        } else {
            return Some(text);
        };
        self.findings.value(value.span(), format!("\"{}\" {fault}", self.name), None);
        None
    }

    fn list<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        mut item: impl FnMut(&mut Self, &Spanned<DeValue<'_>>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(array) = value.get_ref() else {
            return self
                .wrong(value, value.get_ref().is_str().then_some("in square brackets, also where it is only one"));
        };
        let (items, array): (_, &DeArray<'_>) = (array.len(), array);
        let read: Vec<T> = array.iter().filter_map(|value| item(self, value)).collect();
        (read.len() == items).then_some(read)
    }

    fn quantity<T>(&mut self, value: &Spanned<DeValue<'_>>, parse: fn(&str) -> Option<T>) -> Option<T> {
        match value.get_ref() {
            DeValue::String(text) => match parse(text) {
                Some(quantity) => Some(quantity),
                None => self.wrong(value, quantity_hint(self.kind, text).as_deref()),
            },
            DeValue::Integer(_) if matches!(self.kind, SettingKind::Duration) => {
                self.wrong(value, Some("add a unit and quotes: \"5s\""))
            }
            DeValue::Integer(_) => self.wrong(value, Some("add a period and quotes: \"60/min\"")),
            _ => self.wrong(value, None),
        }
    }

    fn address(&mut self, value: &Spanned<DeValue<'_>>) -> Option<AddressText> {
        let text = self.text(value)?;
        if text == "off" {
            return Some(AddressText::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" | "/" => self.wrong(value, Some("the path is missing")),
                path => Some(AddressText::Unix(path.into())),
            };
        }
        match text.parse() {
            Ok(address) => Some(AddressText::Tcp(address)),
            Err(_) => {
                let hint = if text.starts_with('/') {
                    format!("for a unix socket write \"unix:{text}\"")
                } else if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("localhost:")) {
                    format!("write \"127.0.0.1:{port}\"")
                } else {
                    "the address in numbers, then \":\" and the port; IPv6 in brackets: \"[::1]:9901\"".to_owned()
                };
                self.wrong(value, Some(&hint))
            }
        }
    }

    fn choice(&mut self, value: &Spanned<DeValue<'_>>, words: &'static [&'static str]) -> Option<ConfigValue> {
        let text = self.text(value)?;
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(ConfigValue::Word(word));
        }
        let hint = spelling::nearest(text, words.iter().copied()).map(|word| format!("did you mean \"{word}\"?"));
        self.wrong(value, hint.as_deref())
    }

    fn choices(&mut self, value: &Spanned<DeValue<'_>>, words: &'static [ChoiceWord]) -> Option<ConfigValue> {
        self.list(value, |reader, item| {
            let text = reader.text(item)?;
            match words.iter().find(|word| word.word == text) {
                Some(word) if word.enforced => Some((text.to_owned(), item.span())),
                Some(_) => {
                    reader.findings.value(
                        item.span(),
                        format!("\"{text}\" in \"{}\" is not supported yet", reader.name),
                        None,
                    );
                    None
                }
                None => {
                    let known = words.iter().map(|word| word.word);
                    let hint = match spelling::nearest(text, known.clone()) {
                        Some(word) => format!("did you mean \"{word}\"?"),
                        None => format!("known: {}", quoted(known)),
                    };
                    let what = format!("unknown word {} in \"{}\"", concealed(&format!("{text:?}")), reader.name);
                    reader.findings.value(item.span(), what, Some(hint));
                    None
                }
            }
        })
        .map(ConfigValue::Texts)
    }
}

/// Returns what to write in place of a quantity that cannot be read.
fn quantity_hint(kind: &SettingKind, text: &str) -> Option<String> {
    if matches!(kind, SettingKind::Duration) {
        return text.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("add a unit: \"{text}s\""));
    }
    let (count, period) = text.split_once('/')?;
    if count.trim() == "0" {
        return Some("at least 1: leave a model or a route out of the plan to forbid it".to_owned());
    }
    let period = match period.trim() {
        "m" | "minute" | "mins" => "min",
        "sec" | "second" => "s",
        "hour" | "hr" => "h",
        "d" => "day",
        period => period,
    };
    let corrected = format!("{}/{period}", count.trim());
    quantity::rate(&corrected).map(|_| format!("write \"{corrected}\""))
}

/// Returns a quoted value as a message may show it: one that may be a credential is not shown.
fn concealed(shown: &str) -> &str {
    if shown.contains("hg_") || shown.contains('@') { "this" } else { shown }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn count(value: &DeValue<'_>) -> Option<u32> {
    u32::try_from(integer(value)?).ok()
}

/// Returns a number within its bounds.
fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok()?,
        value => f64::from(i32::try_from(integer(value)?).ok()?),
    };
    (0.0..=NUMBER_MAX).contains(&number).then_some(number)
}

fn article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {type_name}")
}
