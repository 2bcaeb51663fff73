//! An option that asks for more than a plan permits, in figures.

/// An option above its bound: what a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// The key, as it is written in a body.
    pub option: &'static str,
    /// What was asked for.
    pub asked: Asked,
    /// The plan's bound.
    pub bound: u64,
    /// What the bound counts.
    pub unit: Unit,
}

/// How much was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// So much.
    Given(u64),
    /// So much, over so many answers.
    Times(u64, u64),
    /// No end.
    Endless,
    /// Nothing was said, and a bound must be given.
    Open,
}

/// What a bound counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Tokens of an answer.
    Output,
    /// Tokens of a context.
    Context,
    /// Seconds.
    Seconds,
    /// Images.
    Images,
    /// Bytes of an image.
    Bytes,
}
