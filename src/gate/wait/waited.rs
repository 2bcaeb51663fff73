//! What waiting came to, for metrics.

/// What waiting for a server came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waited {
    /// A server.
    Served,
    /// Its time was over.
    TimedOut,
    /// The client left.
    Left,
    /// There was no room to wait in.
    TurnedAway,
    /// No server has the model any more.
    NoServer,
}

impl Waited {
    /// Every kind.
    pub const ALL: [Waited; 5] = [Waited::Served, Waited::TimedOut, Waited::Left, Waited::TurnedAway, Waited::NoServer];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Waited::Served => "served",
            Waited::TimedOut => "timed_out",
            Waited::Left => "left",
            Waited::TurnedAway => "turned_away",
            Waited::NoServer => "no_server",
        }
    }
}
