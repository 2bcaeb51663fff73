//! The waiting room: requests that nginx has no queue for are held here until a server has room.
//!
//! Scheme. Who may wait gets a ticket: 128 random bits that nginx alone sees, and redeems once, on a second hop without a
//! body. It carries nothing, so there is nothing to forge; who guesses one of a thousand among 2^128 gets the grant of
//! another's request, on a port that only the proxies reach. A ticket that is not redeemed within seconds, or whose time is
//! over, is worth nothing. The room is bounded, and where it is full the caller with the most requests in it makes room.

mod hall;
mod room;
mod waited;

pub use hall::{Hall, Left, Outcome, Seat};
pub use room::{Entered, Room, Waiter};
pub use waited::Waited;
