//! Reasons in words, for operators: what is wrong, and where to look.

use crate::decision::caller::token::TokenFault;
use crate::decision::plan::limits::{Holder, Window};
use crate::decision::reason::Reason;
use crate::decision::request::body::FaultKind;

/// Returns what a reason means, for operators only: clients are told less.
pub fn why(reason: &Reason) -> &'static str {
    match reason {
        Reason::NoCredential => "no credential, and the configuration has no plan for callers without one",
        Reason::SeveralCredentials => "more than one credential, or one of them twice; none is chosen",
        Reason::MalformedCredential => "it cannot be a credential: wrong scheme, characters or length",
        Reason::UnknownKey => "no key has this secret",
        Reason::ExpiredKey => "the key has expired",
        Reason::EarlyKey => "the key is not valid yet",
        Reason::RevokedKey => "the key was revoked",
        Reason::Token(fault) => token(*fault),
        Reason::FailedCredentials => {
            "too many credentials of this network have failed ([auth] failures); this one was not looked up"
        }
        Reason::Blocked => "an operator has blocked it for a while (herdgate block --list)",
        Reason::OnBehalfNotPassed => "the key names its users by a header that the proxy does not pass on",
        Reason::OnBehalfAmbiguous => "the header that names the user was sent twice, contains a comma, or is no name",
        Reason::UnknownTeam => "the key's team is not in the configuration",
        Reason::UnknownPlan => "the key's plan is not in the configuration",
        Reason::UnknownRoute => "no endpoint has this method and path",
        Reason::UnsafePath => "two servers could read this path in two ways",
        Reason::ModelInQuery => "the query names a model, which servers rank differently against the body",
        Reason::RouteNotInPlan => "the plan's routes do not include it; endpoints that change servers are in no plan",
        Reason::UnknownModel => "no server of the fleet has this model",
        Reason::ModelNotInPlan => {
            "the plan's models do not list it (a pattern never matches a cloud model, which sends prompts elsewhere: name it)"
        }
        Reason::BodyHidden => "this proxy shows no body, and the plan does not permit every model",
        Reason::BodyNotVisible => "the proxy cannot show all of it (tune.bufsize, client_max_body_size)",
        Reason::Body(fault) => match fault.kind {
            FaultKind::Syntax => "it is not one JSON object",
            FaultKind::Incomplete => "it ends before its JSON does",
            FaultKind::TooDeep => "it is nested too deep",
            FaultKind::NotUtf8(_) | FaultKind::KeyNotUtf8 => "it contains text that is not UTF-8 where that matters",
            FaultKind::DuplicateKey(_) => "a key stands twice, and parsers differ on which one holds",
            FaultKind::CaseVariant(_) => "a key differs from one that matters only in case, and some parsers fold case",
            FaultKind::WrongType(_) => "a value that matters is absent, or of a type or range that servers reject",
        },
        Reason::OptionNotInPlan(_) => "the plan does not permit this option, or this value of it",
        Reason::OverBound(_) => "it asks for more than the plan's request limit",
        Reason::Encoding => "it is compressed, so what is in it is not seen",
        Reason::RequestRate(Holder::Key) => "the key's request rate is used up",
        Reason::RequestRate(Holder::User) => "the user's request rate is used up",
        Reason::RequestRate(Holder::Team) => "the team's request rate is used up",
        Reason::RequestRate(Holder::Address) => "the network's request rate is used up",
        Reason::RequestRate(Holder::Model) => "the request rate of the model is used up",
        Reason::RequestRate(Holder::Route) => "the request rate of the endpoint is used up",
        Reason::RequestRate(Holder::Gate) => "the request rate of all requests together is used up",
        Reason::TokenRate(Holder::Key) => "the key's token rate is used up, by what was used and what is reserved",
        Reason::TokenRate(Holder::User) => "the user's token rate is used up, by what was used and what is reserved",
        Reason::TokenRate(Holder::Team) => "the team's token rate is used up, by what was used and what is reserved",
        Reason::TokenRate(Holder::Address) => {
            "the network's token rate is used up, by what was used and what is reserved"
        }
        Reason::TokenRate(Holder::Anonymous) => "the token rate of all anonymous callers together is used up",
        Reason::TokenRate(Holder::Model) => {
            "the token rate of the model is used up, by what was used and what is reserved"
        }
        Reason::TokenRate(Holder::Route) => {
            "the token rate of the endpoint is used up, by what was used and what is reserved"
        }
        Reason::TokenRate(Holder::Gate) => "the token rate of all requests together is used up",
        Reason::Budget(holder, window) => match (holder, window) {
            (Holder::Key, Window::Day) => "the key's budget of the day is used up, or reserved by requests in flight",
            (Holder::Key, Window::Month) => {
                "the key's budget of the month is used up, or reserved by requests in flight"
            }
            (Holder::User, _) => "the user's budget is used up, or reserved by requests in flight",
            (Holder::Team, _) => "the team's budget is used up, or reserved by requests in flight",
            (Holder::Address | Holder::Anonymous, _) => "the budget of callers without a credential is used up",
            (Holder::Model, _) => "the model's budget is used up, or reserved by requests in flight",
            (Holder::Route, _) => "the endpoint's budget is used up, or reserved by requests in flight",
            (Holder::Gate, _) => "the budget of all requests together is used up",
        },
        Reason::NeverFits { .. } => "it would need more tokens than a limit ever allows at once",
        Reason::RequestRate(Holder::Anonymous) => "the request rate of all anonymous callers together is used up",
        Reason::Concurrency(Holder::Key) => "the key has as many requests in flight as it may",
        Reason::Concurrency(Holder::User) => "the user has as many requests in flight as it may",
        Reason::Concurrency(Holder::Team) => "the team has as many requests in flight as it may",
        Reason::Concurrency(Holder::Address) => "the network has as many requests in flight as it may",
        Reason::Concurrency(Holder::Model) => "the model has as many requests in flight as it may",
        Reason::Concurrency(Holder::Route) => "the endpoint has as many requests in flight as it may",
        Reason::Concurrency(Holder::Gate) => "there are as many requests in flight as there may be",
        Reason::Concurrency(Holder::Anonymous) => {
            "all anonymous callers together have as many requests in flight as they may"
        }
        Reason::NoServer => "none of the servers that have it takes requests",
        Reason::FleetUnknown => "not every server has answered a probe yet, and one that has not may have it",
        Reason::StoreAway => "the shared store is away, and nothing is granted without it",
        Reason::DeadlineMissed => "the verdict would have come too late for the proxy",
        Reason::MalformedInquiry => "the proxy's question lacked a fact; its files are not those of this version",
        Reason::Shed => "low priority, and the expected wait is above [queue] shed_wait",
        Reason::Full => "every server that has it is full: it waits for one",
        Reason::QueueFull => "as many wait for a server as may, and this caller more than others",
        Reason::QueueTimeout => "no server became free within [queue] timeout",
    }
}

fn token(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Malformed => "it looks like a token and is none: three parts of base64url that hold JSON objects",
        TokenFault::Header => "the token's header has a member twice, or one of a wrong type",
        TokenFault::Critical => "the token's header asks for something that is not understood (crit, b64, zip, cty)",
        TokenFault::Type => "the token's typ is that of another kind of token",
        TokenFault::Algorithm => "the token's algorithm is none that its issuer may use",
        TokenFault::UnknownIssuer => "the token's iss is no [[issuer]] of the configuration",
        TokenFault::NoKeys => "the issuer's keys were never fetched, or too long ago (see /status)",
        TokenFault::UnknownKid => "the issuer has no key of the token's kid for its algorithm",
        TokenFault::Signature => "the token's signature does not fit",
        TokenFault::Claim(_) => "a claim that the token must have is absent, or of a wrong type",
        TokenFault::Audience => "the token is for another audience",
        TokenFault::Expired => "the token is past its exp",
        TokenFault::Early => "the token's nbf or iat lies ahead",
        TokenFault::Lifetime => "the token would live longer than tokens may",
        TokenFault::NoPlan => "no rule of the issuer gives this user a plan",
    }
}
