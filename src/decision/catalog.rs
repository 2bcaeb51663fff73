//! The catalog: what the fleet offers a caller, in Ollama's and OpenAI's form. (Shape only; being written.)

use super::verdict::Answer;
use super::view::View;

/// A rendered catalog answer, always with status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// `Content-Type`
    pub content_type: &'static str,
    /// The body; an answer to HEAD sends only its length.
    pub body: String,
}

/// Renders an answer on the view it was decided on.
pub fn render(_view: &View, _answer: &Answer<'_>) -> Rendered {
    Rendered { content_type: "application/json", body: String::new() }
}
