//! An option that asks for more than a plan permits, in figures.

/// An option above its limit, as a client is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionExcess {
    /// The key, as it is written in a body.
    pub option: &'static str,
    /// The amount that the request asked for.
    pub asked: RequestedAmount,
    /// The plan's limit, in [`OptionExcess::unit`].
    pub bound: u64,
    /// The unit of the limit.
    pub unit: Unit,
}

/// The amount that a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedAmount {
    /// This amount.
    Given(u64),
    /// This amount, over this many answers.
    Times(u64, u64),
    /// An answer without end.
    Endless,
    /// No amount, although a bound must be given.
    Open,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// LLM tokens of an answer.
    Output,
    /// LLM tokens of a context.
    Context,
    /// Seconds.
    Seconds,
    /// Images.
    Images,
    /// Bytes of an image.
    Bytes,
}
