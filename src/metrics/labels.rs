//! The closed words that metrics are labelled with and that belong to no noun of the core: no client can add to them.

use crate::decision::reason::Code;

closed_enum! {
    /// Which port a connection came in on.
    pub enum Port {
        /// SPOP
        Spop = "spop",
        /// nginx handoff, auth_request, catalog
        Http = "http",
        /// agent-check
        AgentCheck = "agent_check",
        /// metrics, status
        Metrics = "metrics",
        /// control socket
        Control = "control",
    }
}

impl Port {
    /// The ports that decisions come in on.
    pub(super) const INGRESSES: [Port; 2] = [Port::Spop, Port::Http];
}

/// How a decision went: the label pair `outcome`, `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecisionLabel {
    /// Allowed.
    Allow,
    /// Answered by herdgate itself.
    Answer,
    /// Refused with this code.
    Refuse(Code),
}

impl DecisionLabel {
    /// Number of pairs: allow, answer, and one for each code.
    pub(super) const COUNT: usize = 2 + Code::COUNT;

    /// The values of the label `outcome`.
    pub(super) const WORDS: [&'static str; 3] = ["allow", "answer", "refuse"];

    /// Returns every outcome, in the order of [`DecisionLabel::index`].
    pub(super) fn all() -> impl Iterator<Item = DecisionLabel> {
        [DecisionLabel::Allow, DecisionLabel::Answer]
            .into_iter()
            .chain(Code::ALL.into_iter().map(DecisionLabel::Refuse))
    }

    /// Returns a position that is less than [`DecisionLabel::COUNT`].
    pub(super) fn index(self) -> usize {
        match self {
            DecisionLabel::Allow => 0,
            DecisionLabel::Answer => 1,
            DecisionLabel::Refuse(code) => 2 + code.index(),
        }
    }

    /// Returns the value of the label `outcome`.
    pub(super) fn as_str(self) -> &'static str {
        let [allow, answer, refuse] = DecisionLabel::WORDS;
        match self {
            DecisionLabel::Allow => allow,
            DecisionLabel::Answer => answer,
            DecisionLabel::Refuse(_) => refuse,
        }
    }

    /// Returns the value of the label `code`.
    pub(super) fn code(self) -> &'static str {
        match self {
            DecisionLabel::Allow | DecisionLabel::Answer => NO_CODE,
            DecisionLabel::Refuse(code) => code.as_str(),
        }
    }
}

/// The label `code` of what was not refused.
pub(super) const NO_CODE: &str = "none";

closed_enum! {
    /// SPOP frames, by kind.
    pub enum FrameLabel {
        /// HAPROXY-HELLO received.
        Hello = "hello",
        /// NOTIFY received.
        Notify = "notify",
        /// ACK sent.
        Ack = "ack",
        /// HAPROXY-DISCONNECT received.
        DisconnectReceived = "disconnect_received",
        /// AGENT-DISCONNECT sent for a framing fault.
        DisconnectSent = "disconnect_sent",
    }
}

closed_enum! {
    /// Result of the check of a JWT.
    pub enum Proof {
        /// The JWT was verified before and is remembered.
        Remembered = "remembered",
        /// Its signature and claims were verified.
        Proven = "proven",
        /// The JWT was refused.
        Refused = "refused",
    }
}

closed_enum! {
    /// Result of a usage line.
    pub enum SettleLabel {
        /// The line released its slot.
        Released = "released",
        /// The line came late: the charge of its request was corrected.
        Corrected = "corrected",
        /// The line released the slot of a request whose verdict never reached the proxy.
        Unheard = "unheard",
        /// No slot was open: the line is of a refusal, a repeated one, or from before a restart.
        Nothing = "nothing",
        /// The line carries a receipt that no herdgate wrote.
        Forged = "forged",
        /// The line carries a receipt of another herdgate.
        Foreign = "foreign",
        /// The datagram is no usage line.
        Malformed = "malformed",
    }
}

closed_enum! {
    /// End of a wait for a server.
    pub enum WaitLabel {
        /// The request got a server.
        Served = "served",
        /// Its time was over.
        TimedOut = "timed_out",
        /// The client left.
        Left = "left",
        /// The wait queue was full.
        TurnedAway = "turned_away",
        /// No server has the model any more.
        NoServer = "no_server",
    }
}

closed_enum! {
    /// Why a fetch of an issuer's key set failed.
    #[derive(thiserror::Error)]
    #[error("{}", self.as_str())]
    pub enum FetchFault {
        /// The certificates or the proxy of the configuration cannot be used.
        Settings = "settings",
        /// An address that no key set is fetched from.
        Address = "address",
        /// No connection, or no TLS.
        Connect = "connect",
        /// No whole answer in time.
        Timeout = "timeout",
        /// A redirect, which is not followed.
        Redirect = "redirect",
        /// A status other than 200.
        Status = "status",
        /// Something other than JSON.
        ContentType = "content_type",
        /// Too large.
        TooLarge = "too_large",
        /// The answer broke off.
        Body = "body",
        /// The discovery document is not the issuer's, or names no usable `jwks_uri`.
        Discovery = "discovery",
        /// No JWK set.
        Malformed = "malformed",
        /// Too many keys.
        TooMany = "too_many",
        /// The same `kid` twice.
        DuplicateKid = "duplicate_kid",
        /// No usable key.
        Empty = "empty",
    }
}

closed_enum! {
    /// Direction of LLM tokens.
    pub enum Direction {
        /// Tokens of prompts.
        Input = "input",
        /// Tokens that were generated.
        Output = "output",
    }
}
