//! What the admit script answered. Pure.

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// All was taken. A second try of the same decision gets the same answer.
    Granted {
        /// How each holder then stands.
        stands: Vec<Stand>,
        /// Limits of shadow terms that were over.
        over: Vec<StoreExcess>,
    },
    /// Nothing was taken.
    Refused {
        /// How each holder stands.
        stands: Vec<Stand>,
        /// The limits that are over, those of shadow terms included.
        over: Vec<StoreExcess>,
    },
    /// This decision has ended before: it was settled or released.
    Ended,
}

/// How one holder stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stand {
    /// Nanoseconds until each request rate is whole again.
    pub ahead_ns: Vec<u64>,
    /// What is missing from the token bucket, in thousandths of a token.
    pub debt: u64,
    /// Nanoseconds until the bucket is full again.
    pub full_in_ns: u64,
    /// Reserved for requests in flight, in thousandths of a token.
    pub reserved: u64,
    /// Charged this day, in thousandths of a token.
    pub day: u64,
    /// Charged this month, likewise.
    pub month: u64,
    /// Requests in flight.
    pub open: u64,
}

/// A limit that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreExcess {
    /// Which holder, by its position in the claim.
    pub entry: usize,
    /// Which of its limits.
    pub which: Which,
    /// Nanoseconds until there is room; `None` where requests in flight must end first.
    pub retry_ns: Option<u64>,
}

/// A kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A request rate, by its position.
    Requests(u8),
    /// The requests in flight at once.
    Concurrency,
    /// The token rate.
    Tokens,
    /// The day's budget.
    Day,
    /// The month's budget.
    Month,
}

/// Reads an answer: what became of the claim, and the store's time in microseconds since 1970. Returns `None` where it
/// makes no sense.
pub fn read(text: &str) -> Option<(Admitted, u64)> {
    let mut words = text.split(' ');
    let kind = words.next()?;
    let now_us = words.next()?.parse().ok()?;
    let count: usize = words.next()?.parse().ok()?;
    let mut stands = Vec::new();
    for _ in 0..count {
        let rates: usize = words.next()?.parse().ok()?;
        let mut stand = Stand::default();
        for _ in 0..rates {
            let (us, ns) = words.next()?.split_once('.')?;
            stand.ahead_ns.push(us.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(ns.parse().ok()?)?);
        }
        let mut next = || words.next()?.parse::<u64>().ok();
        stand.debt = next()?;
        stand.full_in_ns = next()?.checked_mul(1000)?;
        (stand.reserved, stand.day, stand.month, stand.open) = (next()?, next()?, next()?, next()?);
        stands.push(stand);
    }
    let count: usize = words.next()?.parse().ok()?;
    let mut over = Vec::new();
    for _ in 0..count {
        let entry = words.next()?.parse().ok().filter(|entry| *entry < stands.len())?;
        let (which, position) = (words.next()?, words.next()?.parse().ok()?);
        let which = match which {
            "r" => Which::Requests(position),
            "c" => Which::Concurrency,
            "t" => Which::Tokens,
            "d" => Which::Day,
            "m" => Which::Month,
            _ => return None,
        };
        let retry_ns = match words.next()? {
            "-" => None,
            us => Some(us.parse::<u64>().ok()?.checked_mul(1000)?),
        };
        over.push(StoreExcess { entry, which, retry_ns });
    }
    let admitted = match kind {
        "G" => Admitted::Granted { stands, over },
        "R" => Admitted::Refused { stands, over },
        "E" => Admitted::Ended,
        _ => return None,
    };
    words.next().is_none().then_some((admitted, now_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let text = "R 17 2 2 1.005 0.000 3 4 5 6 7 8 0 0 0 0 0 0 0 2 0 r 1 12 1 c 0 -";
        let stand =
            Stand { ahead_ns: vec![1005, 0], debt: 3, full_in_ns: 4000, reserved: 5, day: 6, month: 7, open: 8 };
        let over = vec![
            StoreExcess { entry: 0, which: Which::Requests(1), retry_ns: Some(12_000) },
            StoreExcess { entry: 1, which: Which::Concurrency, retry_ns: None },
        ];
        assert_eq!(read(text), Some((Admitted::Refused { stands: vec![stand, Stand::default()], over }, 17)));
        assert_eq!(read("E 9 0 0"), Some((Admitted::Ended, 9)));
        for end in 0..text.len() {
            let cut = &text[..end];
            assert_eq!(read(cut), None, "{cut}");
        }
        for broken in ["", "G", "X 1 0 0", "G -1 0 0", "G 1 0 0 0", "G 1 0 1 0 r 0 1", "G 1 99999999999999999999 0"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
