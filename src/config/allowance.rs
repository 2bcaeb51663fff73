//! What a plan permits of a request's options: the keys of `[plans.NAME]` from `max_output` to `max_image_size`.

use super::compile::Compiler;
use super::file::Table;
use super::key_of::{ChoiceOf, key};
use super::quantity;
use crate::decision::plan::allowance::{Allowance, KeepAliveLimit, LeftOpen};
use std::time::Duration;

/// Whether a request over a bound is to be held to it, which is not supported yet, in place of refused.
const CLAMPS: ChoiceOf<bool> = ChoiceOf::named("over", &[("refuse", false), ("clamp", true)]);

/// `None` is not supported yet.
const LEFT_OPEN: ChoiceOf<Option<LeftOpen>> = ChoiceOf::named(
    "left_open",
    &[("allow", Some(LeftOpen::Allow)), ("refuse", Some(LeftOpen::Refuse)), ("close", None)],
);

impl Compiler<'_, '_> {
    pub(super) fn allowance(&mut self, table: &Table) -> Allowance {
        if table.choice(&CLAMPS) == Some(true) {
            self.not_yet(table, "over", "clamp");
        }
        let left_open = table.choice(&LEFT_OPEN);
        if left_open == Some(None) {
            self.not_yet(table, "left_open", "close");
        }
        let left_open = left_open.flatten();
        let max_output = table.count(key!("max_output")).map(u64::from);
        if left_open.is_some() && max_output.is_none() {
            let hint = "add max_output = 4096, or leave this out";
            let at = table.at("left_open");
            self.findings.value(at, "\"left_open\" without \"max_output\"".to_owned(), Some(hint.to_owned()));
        }
        Allowance {
            max_output,
            left_open,
            max_context: table.count(key!("max_context")).map(u64::from),
            keep_alive: self.keep_alive(table),
            template_only: table.flag(key!("raw")) == Some(false),
            max_images: table.count(key!("max_images")),
            max_image_size: table.count(key!("max_image_size")).map(u64::from),
        }
    }

    fn keep_alive(&mut self, table: &Table) -> KeepAliveLimit {
        let Some(text) = table.text(key!("keep_alive")) else { return KeepAliveLimit::Any };
        match (&*text, quantity::duration(&text)) {
            ("allow", _) => KeepAliveLimit::Any,
            ("deny", _) => KeepAliveLimit::Deny,
            (_, Some(longest)) if longest >= Duration::from_secs(1) => KeepAliveLimit::AtMost(longest.as_secs()),
            _ => {
                let hint = "0 and -1, which unload a model for everybody and pin it, need \"allow\"";
                let what = "\"keep_alive\" must be a duration from \"1s\" on, \"deny\" or \"allow\"";
                self.findings.value(table.at("keep_alive"), what.to_owned(), Some(hint.to_owned()));
                KeepAliveLimit::Deny
            }
        }
    }

    fn not_yet(&mut self, table: &Table, name: &str, word: &str) {
        self.findings.value(table.at(name), format!("\"{word}\" in \"{name}\" is not supported yet"), None);
    }
}
