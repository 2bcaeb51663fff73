//! A key of the schema, tied to the type that its values have.
//!
//! `key!` names a key for a getter of [`Table`](super::file::Table), which asks for one form of value. The
//! compiler looks the name up in the schema: a name that is not there, or whose kind has another form, does not build. So
//! a key whose kind changes cannot turn into "absent" on its way to the policy, and with it a limit into none.

use super::quantity::Rate;
use super::schema::{SchemaKey, SettingKind};
use super::sections::SECTIONS;
use super::value::{AddressText, Budgets, ConfigValue, Texts, WrittenRates};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

/// The forms in which values reach the code: one for each getter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueForm {
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A file.
    Path,
    /// Where to listen.
    Address,
    /// A whole number.
    Count,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A span of time.
    Duration,
    /// A rate.
    Rate,
    /// One rate, or a list of them.
    Rates,
    /// A list of budgets.
    Budgets,
    /// One word of a few.
    Word,
    /// None: nothing in this version acts on it, or it is a table.
    Unread,
}

impl ValueForm {
    /// Returns the form of the values of a kind.
    pub const fn of(kind: &SettingKind) -> ValueForm {
        match kind {
            SettingKind::Text | SettingKind::Url => ValueForm::Text,
            SettingKind::Texts | SettingKind::Choices(_) => ValueForm::Texts,
            SettingKind::Path => ValueForm::Path,
            SettingKind::Address | SettingKind::Socket => ValueForm::Address,
            SettingKind::Integer(..) => ValueForm::Count,
            SettingKind::Number => ValueForm::Number,
            SettingKind::Bool => ValueForm::Flag,
            SettingKind::Duration => ValueForm::Duration,
            SettingKind::Rate => ValueForm::Rate,
            SettingKind::Rates => ValueForm::Rates,
            SettingKind::Budgets => ValueForm::Budgets,
            SettingKind::Choice(_) => ValueForm::Word,
            SettingKind::IntegerOr(_) | SettingKind::Table(_) | SettingKind::Sections(_) => ValueForm::Unread,
        }
    }
}

/// A type that values of one form have.
pub trait Readable: Sized {
    /// Their form.
    const FORM: ValueForm;

    /// Takes the value out of its form; `None` where it has another.
    fn from_value(value: ConfigValue) -> Option<Self>;
}

macro_rules! readable {
    ($($form:ident: $type:ty),*) => {$(
        impl Readable for $type {
            const FORM: ValueForm = ValueForm::$form;

            fn from_value(value: ConfigValue) -> Option<$type> {
                if let ConfigValue::$form(value) = value { Some(value) } else { None }
            }
        }
    )*};
}

readable! {
    Text: String, Texts: Texts, Path: PathBuf, Address: AddressText, Count: u32, Number: f64, Flag: bool, Duration: Duration,
    Rate: Rate, Rates: WrittenRates, Budgets: Budgets, Word: &'static str
}

/// The name of a key whose values are `T`.
#[derive(Debug)]
pub struct KeyOf<T> {
    name: &'static str,
    values: PhantomData<fn() -> T>,
}

impl<T> Clone for KeyOf<T> {
    fn clone(&self) -> KeyOf<T> {
        *self
    }
}

impl<T> Copy for KeyOf<T> {}

impl<T: Readable> KeyOf<T> {
    /// Returns the key called `name`, in every section that has one. To be evaluated by the compiler: see
    /// `key!`.
    ///
    /// # Panics
    /// Where the schema has no such key, or one of another form, which ends the build.
    pub const fn named(name: &'static str) -> KeyOf<T> {
        let mut uses = Uses { any: false, all_fit: true };
        let mut at = 0;
        while at < SECTIONS.len() {
            uses = uses.and_of(SECTIONS[at].keys, name, T::FORM);
            at += 1;
        }
        assert!(uses.any, "the schema has no key of this name");
        assert!(uses.all_fit, "the schema has this key with values of another form");
        KeyOf { name, values: PhantomData }
    }
}

impl<T> KeyOf<T> {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// Names a key of the schema for a getter, checked by the compiler.
macro_rules! key {
    ($name:literal) => {
        const { $crate::config::key_of::KeyOf::named($name) }
    };
}
pub(super) use key;

/// A key that is one word of a few, and what each word stands for.
#[derive(Debug)]
pub struct ChoiceOf<T: 'static> {
    key: KeyOf<&'static str>,
    meanings: &'static [(&'static str, T)],
}

impl<T: Copy> ChoiceOf<T> {
    /// Returns the choice called `name`. To be evaluated by the compiler.
    ///
    /// # Panics
    /// Where the words of the schema are not those of `meanings`, in their order, which ends the build.
    pub const fn named(name: &'static str, meanings: &'static [(&'static str, T)]) -> ChoiceOf<T> {
        let mut at = 0;
        while at < SECTIONS.len() {
            check_words(SECTIONS[at].keys, name, meanings);
            at += 1;
        }
        ChoiceOf { key: KeyOf::named(name), meanings }
    }

    /// Returns its key.
    pub const fn key(&self) -> KeyOf<&'static str> {
        self.key
    }

    /// Returns what a word of the schema stands for.
    pub fn meaning(&self, word: &str) -> Option<T> {
        self.meanings.iter().find_map(|(known, meaning)| (*known == word).then_some(*meaning))
    }
}

/// What the schema's keys of one name are.
#[derive(Clone, Copy)]
struct Uses {
    any: bool,
    all_fit: bool,
}

impl Uses {
    const fn and_of(mut self, keys: &[SchemaKey], name: &str, form: ValueForm) -> Uses {
        let mut at = 0;
        while at < keys.len() {
            if is_same(keys[at].name, name) {
                self.any = true;
                self.all_fit = self.all_fit && ValueForm::of(&keys[at].kind) as u8 == form as u8;
            }
            match keys[at].kind {
                SettingKind::Table(inner) => self = self.and_of(inner, name, form),
                SettingKind::Sections(section) => self = self.and_of(section.keys, name, form),
                _ => {}
            }
            at += 1;
        }
        self
    }
}

const fn check_words<T>(keys: &[SchemaKey], name: &str, meanings: &[(&str, T)]) {
    let mut at = 0;
    while at < keys.len() {
        if let SettingKind::Choice(words) = keys[at].kind
            && is_same(keys[at].name, name)
        {
            assert!(words.len() == meanings.len(), "the schema has more or fewer words than have a meaning");
            let mut word = 0;
            while word < words.len() {
                assert!(is_same(words[word], meanings[word].0), "a word of the schema has no meaning at its place");
                word += 1;
            }
        }
        at += 1;
    }
}

/// Returns whether two names are the same; `==` cannot be evaluated by the compiler yet.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value;
    use crate::files::problem::Findings;
    use toml::de::DeValue;

    /// Returns a value of a kind, as it stands in a file.
    fn sample(kind: &SettingKind) -> String {
        match kind {
            SettingKind::Text | SettingKind::Path | SettingKind::Url => "\"a\"".to_owned(),
            SettingKind::Texts => "[\"a\"]".to_owned(),
            SettingKind::Address | SettingKind::Socket => "\"unix:a\"".to_owned(),
            SettingKind::Integer(low, _) => low.to_string(),
            SettingKind::Number => "1.5".to_owned(),
            SettingKind::Bool => "true".to_owned(),
            SettingKind::Duration => "\"1s\"".to_owned(),
            SettingKind::Rate | SettingKind::Rates => "\"1/s\"".to_owned(),
            SettingKind::Budgets => "[\"1/day\"]".to_owned(),
            SettingKind::Choice(words) => format!("\"{}\"", words[0]),
            SettingKind::Choices(words) => format!("[\"{}\"]", words[0].word),
            SettingKind::IntegerOr(word) => format!("\"{word}\""),
            SettingKind::Table(_) | SettingKind::Sections(_) => unreachable!("walked into"),
        }
    }

    fn form_of(value: &ConfigValue) -> ValueForm {
        match value {
            ConfigValue::Text(_) => ValueForm::Text,
            ConfigValue::Texts(_) => ValueForm::Texts,
            ConfigValue::Path(_) => ValueForm::Path,
            ConfigValue::Address(_) => ValueForm::Address,
            ConfigValue::Count(_) => ValueForm::Count,
            ConfigValue::Number(_) => ValueForm::Number,
            ConfigValue::Flag(_) => ValueForm::Flag,
            ConfigValue::Duration(_) => ValueForm::Duration,
            ConfigValue::Rate(_) => ValueForm::Rate,
            ConfigValue::Rates(_) => ValueForm::Rates,
            ConfigValue::Budgets(_) => ValueForm::Budgets,
            ConfigValue::Word(_) => ValueForm::Word,
            ConfigValue::Checked => ValueForm::Unread,
        }
    }

    fn walk(keys: &'static [SchemaKey], visit: &mut dyn FnMut(&'static SchemaKey)) {
        for key in keys {
            match key.kind {
                SettingKind::Table(inner) => walk(inner, visit),
                SettingKind::Sections(section) => walk(section.keys, visit),
                _ => visit(key),
            }
        }
    }

    #[test]
    fn every_key_of_the_schema_is_read_in_the_form_that_its_getter_takes() {
        let mut walked = 0;
        let mut check = |key: &'static SchemaKey| {
            let text = sample(&key.kind);
            let value = value::read(key, &DeValue::parse(&text).unwrap(), &mut Findings::new(&text));
            let form = value.as_ref().map(form_of);
            assert_eq!(form, Some(ValueForm::of(&key.kind)), "{} = {text} is read as {value:?}", key.name);
            walked += 1;
        };
        SECTIONS.iter().for_each(|section| walk(section.keys, &mut check));
        assert!(walked > 80, "{walked}");
    }

    #[test]
    fn every_value_is_taken_out_by_its_own_form_alone() {
        fn taken<T: Readable>(value: &ConfigValue) -> bool {
            let taken = T::from_value(value.clone()).is_some();
            assert_eq!(taken, form_of(value) == T::FORM, "{value:?} as {:?}", T::FORM);
            taken
        }
        let by: [fn(&ConfigValue) -> bool; 12] = [
            taken::<String>,
            taken::<Texts>,
            taken::<PathBuf>,
            taken::<AddressText>,
            taken::<u32>,
            taken::<f64>,
            taken::<bool>,
            taken::<Duration>,
            taken::<Rate>,
            taken::<WrittenRates>,
            taken::<Budgets>,
            taken::<&'static str>,
        ];
        let mut check = |key: &'static SchemaKey| {
            let text = sample(&key.kind);
            let value = value::read(key, &DeValue::parse(&text).unwrap(), &mut Findings::new(&text)).unwrap();
            let takers = by.iter().filter(|taken| taken(&value)).count();
            assert_eq!(takers, usize::from(ValueForm::of(&key.kind) != ValueForm::Unread), "{}", key.name);
        };
        SECTIONS.iter().for_each(|section| walk(section.keys, &mut check));
    }

    #[test]
    fn a_name_fits_where_all_keys_of_that_name_have_the_form() {
        let uses = |name: &str, form: ValueForm| {
            let none = Uses { any: false, all_fit: true };
            let uses = SECTIONS.iter().fold(none, |uses, section| uses.and_of(section.keys, name, form));
            (uses.any, uses.all_fit)
        };
        let cases = [
            ("tokens", ValueForm::Rate, (true, true)),
            ("tokens", ValueForm::Rates, (true, false)),
            ("requests", ValueForm::Rates, (true, true)),
            ("input", ValueForm::Number, (true, true)),
            ("claim", ValueForm::Text, (true, true)),
            ("token", ValueForm::Rate, (false, true)),
            ("", ValueForm::Text, (false, true)),
        ];
        for (name, form, expected) in cases {
            assert_eq!(uses(name, form), expected, "{name} as {form:?}");
        }
    }
}
