//! Reasons in words, for operators: what is wrong, and where to look.

use crate::decision::body::FaultKind;
use crate::decision::limits::Holder;
use crate::decision::verdict::Reason;

/// What a reason means. For operators only: clients are told less.
pub fn why(reason: &Reason) -> &'static str {
    match reason {
        Reason::NoCredential => "no credential, and the configuration has no plan for callers without one",
        Reason::SeveralCredentials => "more than one credential, or one of them twice; none is chosen",
        Reason::MalformedCredential => "it cannot be a credential: wrong scheme, characters or length",
        Reason::UnknownKey => "no key has this secret",
        Reason::ExpiredKey => "the key is past its end",
        Reason::EarlyKey => "the key's beginning is still to come",
        Reason::RevokedKey => "the key was revoked",
        Reason::FailedCredentials => {
            "too many credentials of this network have failed ([auth] failures); this one was not looked up"
        }
        Reason::Blocked => "an operator has shut it out for a time (herdgate block --list)",
        Reason::OnBehalfNotPassed => "the key names its users by a header that the proxy does not pass on",
        Reason::OnBehalfAmbiguous => "the header that names the user stands twice, holds a comma, or is no name",
        Reason::UnknownTeam => "the key's team is not in the configuration",
        Reason::UnknownPlan => "the key's plan is not in the configuration",
        Reason::UnknownRoute => "no endpoint has this method and path",
        Reason::UnsafePath => "two servers could read this path in two ways",
        Reason::ModelInQuery => "the query names a model, which servers rank differently against the body",
        Reason::RouteNotInPlan => "the plan's routes do not hold it; what changes servers is in no plan",
        Reason::UnknownModel => "no server of the fleet has this model",
        Reason::ModelNotInPlan => {
            "the plan's models do not hold it (a pattern never holds one that leaves the fleet, such as :cloud)"
        }
        Reason::BodyHidden => "this proxy shows no body, and the plan does not permit every model",
        Reason::BodyNotVisible => "the proxy cannot show all of it (tune.bufsize, client_max_body_size)",
        Reason::Body(fault) => match fault.kind {
            FaultKind::Syntax => "it is not one JSON object",
            FaultKind::Incomplete => "it ends before its JSON does",
            FaultKind::TooDeep => "it is nested too deep",
            FaultKind::NotUtf8(_) | FaultKind::KeyNotUtf8 => "it holds text that is not UTF-8 where that matters",
            FaultKind::DuplicateKey(_) => "a key stands twice, and parsers differ on which one holds",
            FaultKind::CaseVariant(_) => "a key differs from one that matters only in case, and some parsers fold case",
            FaultKind::WrongType(_) => "a value that matters is absent, or of a type or range that servers reject",
        },
        Reason::Encoding => "it is compressed, so what is in it is not seen",
        Reason::RequestRate(Holder::Key) => "the key's request rate is used up",
        Reason::RequestRate(Holder::User) => "the user's request rate is used up",
        Reason::RequestRate(Holder::Team) => "the team's request rate is used up",
        Reason::RequestRate(Holder::Address) => "the network's request rate is used up",
        Reason::RequestRate(Holder::Anonymous) => "the request rate of all anonymous callers together is used up",
        Reason::Concurrency(Holder::Key) => "the key has as many requests on their way as it may",
        Reason::Concurrency(Holder::User) => "the user has as many requests on their way as it may",
        Reason::Concurrency(Holder::Team) => "the team has as many requests on their way as it may",
        Reason::Concurrency(Holder::Address) => "the network has as many requests on their way as it may",
        Reason::Concurrency(Holder::Anonymous) => {
            "all anonymous callers together have as many on their way as they may"
        }
        Reason::NoServer => "none of the servers that have it takes requests",
        Reason::FleetUnknown => "not every server has answered a probe yet, and one that has not may have it",
        Reason::DeadlineMissed => "the verdict would have come too late for the proxy",
        Reason::MalformedInquiry => "the proxy's question lacked a fact; its files are not those of this version",
    }
}
