//! Random identifiers that leave the process: decision ids, and tickets of requests that wait.

use std::fmt;

/// Hex digits of an identifier.
const DIGITS: usize = 32;

/// A random number of 128 bits and its lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct RandomNumber {
    value: u128,
    digits: [u8; DIGITS],
}

impl RandomNumber {
    fn random() -> RandomNumber {
        RandomNumber::of(rand::random())
    }

    fn of(value: u128) -> RandomNumber {
        let mut digits = [b'0'; DIGITS];
        // Cannot fail: the digits of 16 bytes are 32.
        let _ = hex::encode_to_slice(value.to_be_bytes(), &mut digits);
        RandomNumber { value, digits }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).unwrap_or("")
    }
}

/// The public id of a decision (`x-request-id`): 128 random bits, shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecisionId(RandomNumber);

impl DecisionId {
    /// Returns a new id.
    pub(super) fn random() -> DecisionId {
        DecisionId(RandomNumber::random())
    }

    /// Returns the number, as the ledger and receipts keep it.
    pub fn number(&self) -> u128 {
        self.0.value
    }

    /// Returns the 32 hex digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in the wait queue: 128 random bits, shown as 32 hex digits. Whoever knows them gets the place, so `Debug` shows none
/// of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket(RandomNumber);

impl Ticket {
    /// Returns a new ticket.
    pub(super) fn random() -> Ticket {
        Ticket(RandomNumber::random())
    }

    /// Reads the 32 hex digits of a ticket; `None` where `text` is not that.
    pub fn parse(text: &str) -> Option<Ticket> {
        let mut bytes = [0; DIGITS / 2];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Ticket(RandomNumber::of(u128::from_be_bytes(bytes))))
    }

    /// Returns the number that the wait queue knows it by.
    pub(super) fn number(&self) -> u128 {
        self.0.value
    }

    /// Returns the 32 hex digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_back_and_nothing_else_is_one() {
        let ticket = Ticket::random();
        assert_eq!(Ticket::parse(ticket.as_str()), Some(ticket));
        let zeros = "0".repeat(31);
        for text in ["", "+", &zeros, &format!("+{zeros}"), &format!("{zeros}g"), &format!("{zeros}00")] {
            assert_eq!(Ticket::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn debug_shows_the_public_id_and_no_ticket() {
        let (id, ticket) = (DecisionId::random(), Ticket::random());
        assert_eq!(format!("{id:?}"), id.as_str());
        assert!(!format!("{ticket:?}").contains(ticket.as_str()));
    }
}
