//! One deep check of a server: what is asked for, and what was found.

/// Tokens a check asks for. The first shows that a prompt is evaluated, the second that decoding goes on after it: a server
/// that stalls mid-stream is as dead as one that never begins, and nothing else finds it, because a proxy cannot tell such a
/// server's end from a client that lost patience.
pub(super) const TOKENS: u32 = 2;

/// What a check found.
#[derive(Debug)]
pub(super) enum CheckFinding {
    /// The server answered with tokens, or an embedding.
    Token,
    /// The server says that it is full.
    Busy,
    /// The server did not answer in time.
    Late,
    /// The server refused the check, which proves nothing.
    Refused(u16),
    /// The check failed, with what was seen.
    Failed(String),
}
