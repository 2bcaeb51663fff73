//! Canonical model names, so that no other spelling of a model's name gets around a plan.
//!
//! Ollama (`types/model/name.go`) fills in an absent host, namespace and tag, compares the parts without regard to
//! ASCII case, and accepts a leading `http://` or `https://`; `server/routes.go` trims white space. All spellings that
//! name one model there must have one canonical form here. The reverse, two models of an exotic server that share a
//! canonical form, merely merges them, so this module folds where in doubt.

use serde::{Deserialize, Serialize};
use std::borrow::{Borrow, Cow};
use std::sync::Arc;

/// Longest model name that is recognized, in bytes. A longer name is that of an unknown model.
pub const NAME_MAX: usize = 256;

/// A canonical model name in short form: `model:tag`, preceded by `namespace/` and `host/` where these differ from the
/// implied `library` and `registry.ollama.ai`. Lower case in ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ModelName(Arc<str>);

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<ModelName, D::Error> {
        Ok(ModelName::canonical(&Cow::<'de, str>::deserialize(from)?))
    }
}

impl ModelName {
    /// Returns the canonical form of a name as a client or an operator wrote it. Never fails: a name that no server has
    /// simply matches none.
    pub fn canonical(written: &str) -> ModelName {
        let mut buffer = NameBuffer::default();
        match buffer.canonical(written) {
            Some(name) => ModelName(name.into()),
            None => ModelName(written.trim().to_ascii_lowercase().into()),
        }
    }

    /// Returns the name in short form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether Ollama would send the prompt to ollama.com for this name: its tag is `cloud` or ends in
    /// `-cloud`.
    pub fn leaves_fleet(&self) -> bool {
        let tag = self.0.rsplit_once(':').map_or("", |(_, tag)| tag);
        tag == "cloud" || tag.ends_with("-cloud")
    }
}

impl Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Room on the stack for one canonical name, so that a decision looks a model up without allocating.
pub struct NameBuffer {
    bytes: [u8; NAME_MAX + 8],
    len: usize,
}

impl Default for NameBuffer {
    fn default() -> NameBuffer {
        NameBuffer { bytes: [0; NAME_MAX + 8], len: 0 }
    }
}

impl NameBuffer {
    /// Writes the canonical short form of `written` into the buffer and returns it, or `None` if `written` is longer
    /// than [`NAME_MAX`].
    pub fn canonical(&mut self, written: &str) -> Option<&str> {
        if written.len() > NAME_MAX {
            return None;
        }
        let mut rest = written.trim();
        for scheme in ["http://", "https://"] {
            if let Some(head) = rest.get(..scheme.len())
                && head.eq_ignore_ascii_case(scheme)
            {
                rest = &rest[scheme.len()..];
                break;
            }
        }
        for (implied, separator) in [("registry.ollama.ai", '/'), ("library", '/')] {
            if let Some((head, tail)) = rest.split_once(separator)
                && head.trim().eq_ignore_ascii_case(implied)
                && !tail.is_empty()
                // Of three parts the first is a host, even if it is called `library`.
                && !(implied == "library" && tail.contains('/'))
            {
                rest = tail;
            }
        }
        // A "/" cannot stand in a tag, so a ":" before the last "/" belongs to a host's port.
        let (mut name, mut tag) = match (rest.rfind(':'), rest.rfind('/')) {
            (Some(colon), slash) if slash.is_none_or(|slash| slash < colon) => (&rest[..colon], &rest[colon + 1..]),
            _ => (rest, ""),
        };
        (name, tag) = (name.trim(), tag.trim());
        // `model:tag:local` and `model:local` name the model on this machine (server/routes.go strips the suffix).
        if tag.eq_ignore_ascii_case("local") {
            match name.rsplit_once(':') {
                Some((inner, inner_tag)) if !inner_tag.contains('/') => (name, tag) = (inner.trim(), inner_tag.trim()),
                _ => tag = "",
            }
        }
        if tag.is_empty() {
            tag = "latest";
        }
        self.len = 0;
        self.push(name);
        self.push(":");
        self.push(tag);
        std::str::from_utf8(&self.bytes[..self.len]).ok()
    }

    fn push(&mut self, part: &str) {
        for byte in part.bytes() {
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte.to_ascii_lowercase();
                self.len += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_has_one_canonical_form() {
        let cases = [
            ("llama3", "llama3:latest"),
            (" LLAMA3:Latest ", "llama3:latest"),
            ("library/llama3", "llama3:latest"),
            ("https://registry.ollama.ai/library/llama3", "llama3:latest"),
            ("registry.ollama.ai/library/llama3:8B", "llama3:8b"),
            ("HTTP://Registry.Ollama.AI/Library/Llama3:8b", "llama3:8b"),
            ("hf.co/a/b:Q4_K_M", "hf.co/a/b:q4_k_m"),
            ("localhost:5000/me/m", "localhost:5000/me/m:latest"),
            ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/llama-3.1-8b-instruct:latest"),
            ("llama3:local", "llama3:latest"),
            ("llama3:8b:local", "llama3:8b"),
            ("llama3:", "llama3:latest"),
            ("", ":latest"),
            ("ein modell", "ein modell:latest"),
            ("größe", "größe:latest"),
        ];
        for (written, canonical) in cases {
            assert_eq!(ModelName::canonical(written).as_str(), canonical, "{written:?}");
            assert_eq!(ModelName::canonical(canonical).as_str(), canonical, "{canonical:?} is its own canonical form");
        }
    }

    /// A reader that normalizes more than Ollama does, or in another order, would turn each name on the left into the
    /// model on the right. Ollama reads it as another model or as none (`types/model/name.go`, `ParseNameBare` and
    /// `isValidPart`).
    #[test]
    fn a_name_ollama_reads_otherwise_does_not_become_an_allowed_one() {
        for (written, allowed) in [
            ("library/me/llama3", "me/llama3"),
            ("library/library/llama3", "llama3"),
            ("registry.ollama.ai/library/me/llama3", "me/llama3"),
            ("example.com/library/llama3", "llama3"),
            ("registry.ollama.ai:443/library/llama3", "llama3"),
            ("//library/llama3", "llama3"),
            ("/llama3", "llama3"),
            ("llama3/", "llama3"),
            ("http:///llama3", "llama3"),
            ("http://http://llama3", "llama3"),
            ("./llama3", "llama3"),
            ("x/../llama3", "llama3"),
            ("llama3.", "llama3"),
            ("llama3:latest.", "llama3"),
            ("llama3@sha256:ab", "llama3"),
            ("llama3:8b@sha256:ab", "llama3:8b"),
            ("llama3:8b:8b", "llama3:8b"),
            ("llama3::8b", "llama3:8b"),
            ("llama3:local/x", "llama3"),
            ("llama3:cloud:local:local", "llama3"),
            ("llama3:cloud", "llama3"),
            ("llama3:8b-cloud", "llama3:8b"),
            ("llama3:8b-cloud:local", "llama3:8b"),
            ("lla ma3", "llama3"),
            ("llama3\0", "llama3"),
            ("\u{feff}llama3", "llama3"),
            ("llama3\u{200b}", "llama3"),
            ("\u{ff4c}lama3", "llama3"),
            ("\u{217c}lama3", "llama3"),
            ("\u{212a}imi", "kimi"),
            ("k\u{131}mi", "kimi"),
            ("mi\u{17f}tral", "mistral"),
            ("%6clama3", "llama3"),
            ("llama3?x", "llama3"),
            ("llama3#x", "llama3"),
            ("llama3\\", "llama3"),
        ] {
            assert_ne!(ModelName::canonical(written), ModelName::canonical(allowed), "{written:?}");
        }
    }

    #[test]
    fn a_name_too_long_to_act_on_has_no_form_in_the_buffer() {
        assert!(NameBuffer::default().canonical(&"m".repeat(NAME_MAX)).is_some());
        assert!(NameBuffer::default().canonical(&"m".repeat(NAME_MAX + 1)).is_none());
    }

    #[test]
    fn names_that_leave_the_fleet_are_known_by_their_tag() {
        let cases = [
            ("gpt-oss:cloud", true),
            ("gpt-oss:120b-cloud", true),
            ("GPT-OSS:120B-CLOUD", true),
            ("cloud", false),
            ("cloud:8b", false),
        ];
        for (name, leaves) in cases {
            assert_eq!(ModelName::canonical(name).leaves_fleet(), leaves, "{name}");
        }
    }
}
