//! What a plan permits of a request's options: the keys of `[plans.NAME]` from `max_output` to `max_image_size`.

use super::compile::Compiler;
use super::file::Table;
use super::quantity;
use super::value::Value;
use crate::decision::plan::allowance::{Allowance, LeftOpen, Loaded};
use std::time::Duration;

impl Compiler<'_, '_> {
    pub(super) fn allowance(&mut self, table: &Table) -> Allowance {
        let number = |name| match table.get(name) {
            Some((Value::Integer(number), _)) => u64::try_from(number).ok(),
            _ => None,
        };
        if self.word(table, "over", "clamp") == Some("clamp") {
            self.not_yet(table, "over", "clamp");
        }
        let left_open = match self.word(table, "left_open", "refuse allow close") {
            Some("refuse") => Some(LeftOpen::Refuse),
            Some("allow") => Some(LeftOpen::Allow),
            Some(_) => {
                self.not_yet(table, "left_open", "close");
                None
            }
            None => None,
        };
        if left_open.is_some()
            && number("max_output").is_none()
            && let Some((_, at)) = table.get("left_open")
        {
            let hint = "add max_output = 4096, or leave this out";
            self.findings.value(at, "\"left_open\" without \"max_output\"".to_owned(), Some(hint.to_owned()));
        }
        Allowance {
            max_output: number("max_output"),
            left_open,
            max_context: number("max_context"),
            keep_alive: self.keep_alive(table),
            template_only: matches!(table.get("raw"), Some((Value::Bool(false), _))),
            max_images: number("max_images").and_then(|images| u32::try_from(images).ok()),
            max_image_size: number("max_image_size"),
        }
    }

    fn keep_alive(&mut self, table: &Table) -> Loaded {
        let Some((Value::Text(text), at)) = table.get("keep_alive") else { return Loaded::Any };
        match (&*text, quantity::duration(&text)) {
            ("allow", _) => Loaded::Any,
            ("deny", _) => Loaded::Deny,
            (_, Some(longest)) if longest >= Duration::from_secs(1) => Loaded::AtMost(longest.as_secs()),
            _ => {
                let hint = "0 and -1, which unload a model for everybody and pin it, need \"allow\"";
                let what = "\"keep_alive\" must be a duration from \"1s\" on, \"deny\" or \"allow\"";
                self.findings.value(at, what.to_owned(), Some(hint.to_owned()));
                Loaded::Deny
            }
        }
    }

    /// The one of `words` that stands there.
    fn word<'w>(&self, table: &Table, name: &str, words: &'w str) -> Option<&'w str> {
        let Some((Value::Text(text), _)) = table.get(name) else { return None };
        words.split(' ').find(|word| *word == text)
    }

    fn not_yet(&mut self, table: &Table, name: &str, word: &str) {
        if let Some((_, at)) = table.get(name) {
            self.findings.value(at, format!("\"{word}\" in \"{name}\" is not supported yet"), None);
        }
    }
}
