//! Why a request is refused ([`Reason`]) and what the client learns of it ([`Code`]): the one table from a reason to
//! its status, public code and label.

use crate::decision::caller::token::TokenFault;
use crate::decision::plan::excess::OptionExcess;
use crate::decision::plan::limits::{Holder, Window};
use crate::decision::request::body::BodyFault;

/// The reason for which a request was refused. The client never learns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The request has no credential header at all.
    NoCredential,
    /// The request has more than one credential header, or one of them twice.
    SeveralCredentials,
    /// The credential cannot be one: wrong scheme, characters, length or checksum.
    MalformedCredential,
    /// No key has this digest.
    UnknownKey,
    /// The key is past its `expires`.
    ExpiredKey,
    /// The key's `not_before` is still to come.
    EarlyKey,
    /// The key was revoked.
    RevokedKey,
    /// Too many failed credentials came from this network; this one was not looked up.
    FailedCredentials,
    /// An operator blocked this key or user for a time.
    Blocked,
    /// The key names its users by a header that the proxy does not pass on.
    OnBehalfNotPassed,
    /// The header that names the key's user occurs twice, contains a comma, or cannot be a name.
    OnBehalfAmbiguous,
    /// The key's team does not exist in the running configuration.
    UnknownTeam,
    /// No issuer's keys prove the JWT, or its claims do not hold.
    Token(TokenFault),
    /// The key's plan does not exist in the running configuration.
    UnknownPlan,
    /// No endpoint has this method and path.
    UnknownRoute,
    /// Two servers could read the path in two ways: `%`, `//`, dot segment, `;`, `\`, control or non-ASCII byte,
    /// fragment.
    UnsafePath,
    /// The query names `model`, to which servers and gateways give different precedence over the body.
    ModelInQuery,
    /// The endpoint's class is not among the plan's `routes`.
    RouteNotInPlan,
    /// No server of the fleet has this model.
    UnknownModel,
    /// The model exists or may exist, but the plan does not list it.
    ModelNotInPlan,
    /// The ingress shows no body and the plan is limited to some models.
    BodyHidden,
    /// The body is a prefix, or larger than the ingress reads.
    BodyNotVisible,
    /// The body cannot be read in one way only.
    Body(BodyFault),
    /// The plan does not permit this option, or this value of it.
    OptionNotInPlan(&'static str),
    /// An option is above the plan's limit.
    OverBound(OptionExcess),
    /// The request has a `Content-Encoding` other than identity.
    Encoding,
    /// A request-rate limit of this holder is used up.
    RequestRate(Holder),
    /// This holder has as many requests in flight as its plan allows.
    Concurrency(Holder),
    /// The token rate of this holder is used up.
    TokenRate(Holder),
    /// This holder has used up its budget of a calendar window.
    Budget(Holder, Window),
    /// The request alone may use more LLM tokens than a limit of this holder ever lets through.
    NeverFits {
        /// The holder of the limit.
        holder: Holder,
        /// Most LLM tokens that the request may use, weighted by the model's cost.
        held: u64,
        /// The limit, in weighted LLM tokens.
        most: u64,
    },
    /// No server that has the model is up.
    NoServer,
    /// The fleet's models are not known yet.
    FleetUnknown,
    /// The verdict would have come after its deadline.
    DeadlineMissed,
    /// The shared store is unavailable, and nothing is granted without it (`on_store_down = "deny"`).
    StoreAway,
    /// The proxy's question lacked a fact that every inquiry must carry.
    MalformedInquiry,
    /// The request has low priority, and the expected wait is long.
    Shed,
    /// Every server that has the model is full; if the ingress can wait, it is told to.
    Full,
    /// As many requests wait as may, and this caller has more waiting than others.
    QueueFull,
    /// No server became free in time.
    QueueTimeout,
}

closed_enum! {
    /// The public code of a refusal.
    pub enum Code {
        /// Status 401.
        InvalidApiKey = "invalid_api_key",
        /// Status 404.
        ModelNotFound = "model_not_found",
        /// Status 404.
        UnknownRoute = "unknown_route",
        /// Status 403.
        NotPermitted = "not_permitted",
        /// Status 400.
        ExceedsLimit = "exceeds_limit",
        /// Status 400.
        InvalidBody = "invalid_body",
        /// Status 400.
        AmbiguousBody = "ambiguous_body",
        /// Status 413.
        BodyNotVisible = "body_not_visible",
        /// Status 415.
        UnsupportedEncoding = "unsupported_encoding",
        /// Status 429.
        RateLimitExceeded = "rate_limit_exceeded",
        /// Status 429.
        QuotaExceeded = "quota_exceeded",
        /// Status 429.
        ConcurrencyExceeded = "concurrency_exceeded",
        /// Status 503.
        NoServer = "no_server",
        /// Status 503.
        Overloaded = "overloaded",
    }
}

impl Code {
    /// The HTTP status (RFC 9110 section 15, RFC 6585 for 429).
    pub fn status(self) -> u16 {
        match self {
            Code::InvalidApiKey => 401,
            Code::ModelNotFound | Code::UnknownRoute => 404,
            Code::NotPermitted => 403,
            Code::ExceedsLimit | Code::InvalidBody | Code::AmbiguousBody => 400,
            Code::BodyNotVisible => 413,
            Code::UnsupportedEncoding => 415,
            Code::RateLimitExceeded | Code::QuotaExceeded | Code::ConcurrencyExceeded => 429,
            Code::NoServer | Code::Overloaded => 503,
        }
    }
}

impl Reason {
    /// Returns whether the request had a credential that does not authenticate, as `[auth] failures` counts.
    pub fn is_failed_credential(&self) -> bool {
        // If we lack an issuer's keys, or a plan for its user, nobody was guessing.
        if let Reason::Token(fault) = self {
            return !matches!(fault, TokenFault::NoKeys | TokenFault::UnknownKid | TokenFault::NoPlan);
        }
        matches!(
            self,
            Reason::SeveralCredentials
                | Reason::MalformedCredential
                | Reason::UnknownKey
                | Reason::ExpiredKey
                | Reason::EarlyKey
                | Reason::RevokedKey
        )
    }

    /// Returns whether the reason is about LLM tokens rather than requests.
    pub fn is_about_tokens(&self) -> bool {
        matches!(self, Reason::TokenRate(_) | Reason::Budget(..) | Reason::NeverFits { .. })
    }

    /// Returns the option that is refused, as it is written in a body. The set is closed.
    pub fn option(&self) -> Option<&'static str> {
        match self {
            Reason::OptionNotInPlan(option) => Some(option),
            Reason::OverBound(excess) => Some(excess.option),
            _ => None,
        }
    }

    /// Returns the code that the client learns for this reason.
    pub fn code(&self) -> Code {
        match self {
            Reason::NoCredential
            | Reason::SeveralCredentials
            | Reason::MalformedCredential
            | Reason::UnknownKey
            | Reason::ExpiredKey
            | Reason::EarlyKey
            | Reason::RevokedKey
            | Reason::Token(_) => Code::InvalidApiKey,
            Reason::UnknownModel | Reason::ModelNotInPlan => Code::ModelNotFound,
            Reason::UnknownRoute | Reason::UnsafePath => Code::UnknownRoute,
            Reason::UnknownPlan
            | Reason::UnknownTeam
            | Reason::Blocked
            | Reason::OnBehalfNotPassed
            | Reason::OnBehalfAmbiguous
            | Reason::RouteNotInPlan
            | Reason::OptionNotInPlan(_)
            | Reason::BodyHidden => Code::NotPermitted,
            Reason::OverBound(_) | Reason::NeverFits { .. } => Code::ExceedsLimit,
            Reason::ModelInQuery => Code::AmbiguousBody,
            Reason::Body(fault) => {
                if fault.is_ambiguous() {
                    Code::AmbiguousBody
                } else {
                    Code::InvalidBody
                }
            }
            Reason::BodyNotVisible => Code::BodyNotVisible,
            Reason::Encoding => Code::UnsupportedEncoding,
            Reason::RequestRate(_) | Reason::TokenRate(_) | Reason::FailedCredentials => Code::RateLimitExceeded,
            Reason::Budget(..) => Code::QuotaExceeded,
            Reason::Concurrency(_) => Code::ConcurrencyExceeded,
            Reason::NoServer | Reason::FleetUnknown => Code::NoServer,
            Reason::DeadlineMissed
            | Reason::StoreAway
            | Reason::MalformedInquiry
            | Reason::Shed
            | Reason::Full
            | Reason::QueueFull
            | Reason::QueueTimeout => Code::Overloaded,
        }
    }

    /// Returns a short fixed name for the log and `explain`. The set is closed, so the name may also be a label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::NoCredential => "no_credential",
            Reason::SeveralCredentials => "several_credentials",
            Reason::MalformedCredential => "malformed_credential",
            Reason::UnknownKey => "unknown_key",
            Reason::ExpiredKey => "expired_key",
            Reason::EarlyKey => "early_key",
            Reason::FailedCredentials => "failed_credentials",
            Reason::Blocked => "blocked",
            Reason::OnBehalfNotPassed => "on_behalf_not_passed",
            Reason::OnBehalfAmbiguous => "on_behalf_ambiguous",
            Reason::UnknownTeam => "unknown_team",
            Reason::RevokedKey => "revoked_key",
            Reason::Token(fault) => fault.as_str(),
            Reason::UnknownPlan => "unknown_plan",
            Reason::UnknownRoute => "unknown_route",
            Reason::UnsafePath => "unsafe_path",
            Reason::ModelInQuery => "model_in_query",
            Reason::RouteNotInPlan => "route_not_in_plan",
            Reason::UnknownModel => "unknown_model",
            Reason::ModelNotInPlan => "model_not_in_plan",
            Reason::BodyHidden => "body_hidden",
            Reason::BodyNotVisible => "body_not_visible",
            Reason::Body(fault) => fault.kind.as_str(),
            Reason::OptionNotInPlan(_) => "option_not_in_plan",
            Reason::OverBound(_) => "over_bound",
            Reason::Encoding => "encoding",
            Reason::RequestRate(Holder::Key) => "request_rate",
            Reason::RequestRate(Holder::User) => "request_rate_of_user",
            Reason::RequestRate(Holder::Team) => "request_rate_of_team",
            Reason::RequestRate(Holder::Address) => "request_rate_of_address",
            Reason::RequestRate(Holder::Anonymous) => "request_rate_of_all_anonymous",
            Reason::RequestRate(Holder::Model) => "request_rate_of_model",
            Reason::RequestRate(Holder::Route) => "request_rate_of_route",
            Reason::RequestRate(Holder::Gate) => "request_rate_of_gate",
            Reason::TokenRate(Holder::Key) => "token_rate",
            Reason::TokenRate(Holder::User) => "token_rate_of_user",
            Reason::TokenRate(Holder::Team) => "token_rate_of_team",
            Reason::TokenRate(Holder::Address) => "token_rate_of_address",
            Reason::TokenRate(Holder::Anonymous) => "token_rate_of_all_anonymous",
            Reason::TokenRate(Holder::Model) => "token_rate_of_model",
            Reason::TokenRate(Holder::Route) => "token_rate_of_route",
            Reason::TokenRate(Holder::Gate) => "token_rate_of_gate",
            Reason::Budget(Holder::Key, _) => "budget",
            Reason::Budget(Holder::User, _) => "budget_of_user",
            Reason::Budget(Holder::Team, _) => "budget_of_team",
            Reason::Budget(Holder::Address, _) => "budget_of_address",
            Reason::Budget(Holder::Anonymous, _) => "budget_of_all_anonymous",
            Reason::Budget(Holder::Model, _) => "budget_of_model",
            Reason::Budget(Holder::Route, _) => "budget_of_route",
            Reason::Budget(Holder::Gate, _) => "budget_of_gate",
            Reason::NeverFits { .. } => "never_fits",
            Reason::Concurrency(Holder::Key) => "concurrency",
            Reason::Concurrency(Holder::User) => "concurrency_of_user",
            Reason::Concurrency(Holder::Team) => "concurrency_of_team",
            Reason::Concurrency(Holder::Address) => "concurrency_of_address",
            Reason::Concurrency(Holder::Anonymous) => "concurrency_of_all_anonymous",
            Reason::Concurrency(Holder::Model) => "concurrency_of_model",
            Reason::Concurrency(Holder::Route) => "concurrency_of_route",
            Reason::Concurrency(Holder::Gate) => "concurrency_of_gate",
            Reason::NoServer => "no_server",
            Reason::FleetUnknown => "fleet_unknown",
            Reason::DeadlineMissed => "deadline_missed",
            Reason::StoreAway => "store_away",
            Reason::MalformedInquiry => "malformed_inquiry",
            Reason::Shed => "shed",
            Reason::Full => "full",
            Reason::QueueFull => "queue_full",
            Reason::QueueTimeout => "queue_timeout",
        }
    }
}
