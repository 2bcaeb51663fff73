//! A key set that could not be taken up, as one of the faults that are counted.

use crate::decision::caller::token::ring::RingFault;
use crate::metrics::FetchFault;

/// A fetch that failed: why, and what may be logged of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
pub struct FetchError {
    /// The kind of failure.
    pub fault: FetchFault,
    /// What may be logged besides; empty where the kind says all.
    pub detail: String,
}

impl FetchError {
    /// Returns an error of this kind.
    pub fn new(fault: FetchFault, detail: impl Into<String>) -> FetchError {
        FetchError { fault, detail: detail.into() }
    }
}

impl From<RingFault> for FetchFault {
    fn from(fault: RingFault) -> FetchFault {
        match fault {
            RingFault::Malformed => FetchFault::Malformed,
            RingFault::TooMany => FetchFault::TooMany,
            RingFault::DuplicateKid => FetchFault::DuplicateKid,
            RingFault::Empty => FetchFault::Empty,
        }
    }
}
