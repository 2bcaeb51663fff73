//! Every metric: its name, labels and help text, in one place. (Shape only here; written on its own branch.)

use crate::decision::verdict::Code;

/// Which port a connection came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// SPOP
    Spop,
    /// nginx handoff, auth_request, catalog
    Http,
    /// agent-check
    AgentCheck,
    /// metrics, status
    Metrics,
    /// control socket
    Control,
}

impl Port {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Port::Spop => "spop",
            Port::Http => "http",
            Port::AgentCheck => "agent_check",
            Port::Metrics => "metrics",
            Port::Control => "control",
        }
    }
}

/// How a decision went: the label pair `outcome`, `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Allowed.
    Allow,
    /// Answered by herdgate itself.
    Answer,
    /// Refused with this code.
    Refuse(Code),
}

/// SPOP frames, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Frame {
    /// HAPROXY-HELLO received.
    Hello,
    /// NOTIFY received.
    Notify,
    /// ACK sent.
    Ack,
    /// HAPROXY-DISCONNECT received.
    DisconnectReceived,
    /// AGENT-DISCONNECT sent for a framing fault.
    DisconnectSent,
}

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Fresh metrics, all zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }
    /// Counts a decision; `ns` is what it took, in nanoseconds.
    pub fn decision(&self, _ingress: Port, _outcome: Outcome, _ns: u64) {}
    /// Counts a connection opened.
    pub fn connection_opened(&self, _port: Port) {}
    /// Counts a connection closed.
    pub fn connection_closed(&self, _port: Port) {}
    /// Counts a connection turned away at the cap.
    pub fn connection_rejected(&self, _port: Port) {}
    /// Counts a SPOP frame.
    pub fn frame(&self, _frame: Frame) {}
}
