//! Model names as Ollama reads them (`types/model/name.go`, `internal/modelref`): implied parts, no regard to case.
//!
//! Written on its own and not shared with herdgate, because it is what herdgate's own canonical form is checked against.

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// A complete model name; parts as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// Empty.
    Missing,
    /// A part is empty, too long or has a character it may not have.
    Invalid,
    /// Both `:cloud` and `:local`.
    Conflict,
}

/// Where a request wants its model to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// On this server.
    Here,
    /// On ollama.com: tag `cloud`, or a tag ending in `-cloud`.
    Cloud,
}

/// A name in a request, its source suffix taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name meant.
    pub name: Name,
    /// Where it shall run.
    pub source: Source,
}

impl Reference {
    /// Reads a model as a request names it: trimmed, with its `:local` or `:cloud` suffix.
    pub fn parse(written: &str) -> Result<Reference, NameFault> {
        let written = written.trim();
        if written.is_empty() {
            return Err(NameFault::Missing);
        }
        let (base, source) = split_source(written);
        if split_source(&base).1.is_some() && source.is_some() {
            return Err(NameFault::Conflict);
        }
        let name = Name::parse(&base).ok_or(NameFault::Invalid)?;
        Ok(Reference { name, source: source.unwrap_or(Source::Here) })
    }
}

/// Takes a source suffix off: `:local`, `:cloud` or `-cloud` at the end of a tag.
fn split_source(written: &str) -> (String, Option<Source>) {
    let Some((base, tag)) = written.rsplit_once(':') else { return (written.to_owned(), None) };
    let lower = tag.trim().to_ascii_lowercase();
    match lower.as_str() {
        "local" => (base.to_owned(), Some(Source::Here)),
        "cloud" => (base.to_owned(), Some(Source::Cloud)),
        _ => match lower.strip_suffix("-cloud") {
            Some(rest) if !tag.contains('/') => (format!("{base}:{rest}"), Some(Source::Cloud)),
            _ => (written.to_owned(), None),
        },
    }
}

impl Name {
    /// Reads `[host/][namespace/]model[:tag]`; `None` where a part is not valid.
    pub fn parse(written: &str) -> Option<Name> {
        let (rest, tag) = match (written.rfind(':'), written.rfind('/')) {
            (Some(colon), slash) if slash.is_none_or(|slash| slash < colon) => {
                (written.get(..colon)?, written.get(colon + 1..)?)
            }
            _ => (written, TAG),
        };
        let mut name =
            Name { host: HOST.to_owned(), namespace: NAMESPACE.to_owned(), model: String::new(), tag: tag.to_owned() };
        match rest.rsplit_once('/') {
            None => name.model = rest.to_owned(),
            Some((rest, model)) => {
                name.model = model.to_owned();
                match rest.rsplit_once('/') {
                    None => name.namespace = rest.to_owned(),
                    Some((host, namespace)) => {
                        name.namespace = namespace.to_owned();
                        name.host = host.split_once("://").map_or(host, |(_, host)| host).to_owned();
                    }
                }
            }
        }
        let valid = is_part(&name.host, 350, "-.:")
            && is_part(&name.namespace, 80, "-")
            && is_part(&name.model, 80, "-.")
            && is_part(&name.tag, 80, "-.");
        valid.then_some(name)
    }

    /// Returns a name that is not read at all, as vLLM takes it.
    pub fn verbatim(written: &str) -> Name {
        let (host, namespace, tag) = (HOST.to_owned(), NAMESPACE.to_owned(), TAG.to_owned());
        Name { host, namespace, model: written.to_owned(), tag }
    }

    /// Returns the name in short form, parts as written: host and namespace only where they are not the implied ones.
    pub fn short(&self) -> String {
        let mut short = String::new();
        let host = !self.host.eq_ignore_ascii_case(HOST);
        if host {
            short = format!("{}/", self.host);
        }
        if host || !self.namespace.eq_ignore_ascii_case(NAMESPACE) {
            short.push_str(&format!("{}/", self.namespace));
        }
        format!("{short}{}:{}", self.model, self.tag)
    }

    /// Returns the short form in lower case: equal for two names exactly where Ollama takes them for one model.
    pub fn key(&self) -> String {
        self.short().to_ascii_lowercase()
    }

    /// Returns the namespace, which `/v1/models` shows as the owner.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Letters, digits and `_`, then also `others`.
fn is_part(part: &str, longest: usize, others: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut chars = part.chars();
    part.len() <= longest && chars.next().is_some_and(word) && chars.all(|c| word(c) || others.contains(c))
}
