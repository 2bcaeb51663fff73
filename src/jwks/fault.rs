//! A key set that could not be taken up, as one of the faults that are counted.

use crate::decision::caller::token::ring::RingFault;
use crate::metrics::FetchFault;

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
