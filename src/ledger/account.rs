//! The counters of one holder: its request rates, its requests in flight, its token bucket and its budgets. Pure.

use super::bucket::{Bucket, BucketExcess};
use super::calendar::{Day, Today};
use super::gcra::{self, Take};
use crate::decision::plan::limits::{Account, Holder, RATES_MAX, Terms, Window};
use crate::decision::verdict::LimitStanding;

/// Why the limits of a holder do not admit a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitExcess {
    /// Whose limits they are.
    pub holder: Holder,
    /// The limit that is used up.
    pub limit: ExhaustedLimit,
    /// Nanoseconds until the request would be admitted; `None` where requests in flight must end first, or it never
    /// fits.
    pub retry_ns: Option<u64>,
    /// How the holder stands with that limit; absent for concurrency.
    pub standing: Option<LimitStanding>,
}

/// A limit that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExhaustedLimit {
    /// A request rate.
    Requests,
    /// The requests in flight at once.
    Concurrency,
    /// The token rate.
    Tokens,
    /// A budget.
    Budget(Window),
    /// The request would reserve more tokens than the whole limit: it never fits.
    NeverFits {
        /// What the request would reserve, in tokens.
        reserved: u64,
        /// The limit, in tokens.
        most: u64,
    },
}

/// How a holder stands once a request is admitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standings {
    /// The tightest of its request rates.
    pub requests: Option<LimitStanding>,
    /// The tightest of its token rate and budgets, in tokens.
    pub tokens: Option<LimitStanding>,
}

impl Standings {
    /// Keeps the tighter of each.
    pub fn tighten(&mut self, requests: Option<LimitStanding>, tokens: Option<LimitStanding>) {
        for (mine, other) in [(&mut self.requests, requests), (&mut self.tokens, tokens)] {
            if let Some(standing) = other
                && mine.is_none_or(|mine| is_tighter(standing, mine))
            {
                *mine = Some(standing);
            }
        }
    }
}

/// Returns whether `one` has fewer left, or as few and longer until it is whole.
fn is_tighter(one: LimitStanding, other: LimitStanding) -> bool {
    (one.remaining, std::cmp::Reverse(one.reset_ns)) < (other.remaining, std::cmp::Reverse(other.reset_ns))
}

/// The amount charged in the current window of one kind, in thousandths of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct InWindow {
    window: i32,
    charged: u64,
}

impl InWindow {
    fn charged(&self, window: i32) -> u64 {
        if self.window == window { self.charged } else { 0 }
    }

    fn turn_to(&mut self, window: i32) {
        if self.window != window {
            *self = InWindow { window, charged: 0 };
        }
    }
}

/// The times at which the request rates of a holder would be whole again, in nanoseconds (monotonic).
pub type Rates = [u64; RATES_MAX];

/// The counters of one holder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountBooks {
    /// The times at which its request rates would be whole again.
    whole_at_ns: Rates,
    /// Requests in flight.
    open: u32,
    /// Thousandths of a token reserved for them.
    reserved: u64,
    bucket: Option<Bucket>,
    day: InWindow,
    month: InWindow,
    /// Whether the charges are kept though no budget limits them now, because a reload may bring one.
    keeps: bool,
}

impl AccountBooks {
    /// Checks whether a request that reserves `need` thousandths of a token fits every limit. Changes nothing; `after`
    /// becomes the rates as they are once the request is taken, where a rate without room stays as it is.
    ///
    /// # Errors
    /// The limit that takes longest to have room.
    pub fn check(
        &self,
        account: &Account<'_>,
        need: u64,
        today: Today,
        now_ns: u64,
        after: &mut Rates,
    ) -> Result<Standings, LimitExcess> {
        let Terms { requests, concurrency, tokens, budgets, shadow: _ } = account.terms;
        let mut standings = Standings::default();
        let mut worst: Option<LimitExcess> = None;
        let mut found = |limit, retry_ns, standing| {
            let excess = LimitExcess { holder: account.holder, limit, retry_ns, standing };
            if worst.is_none_or(|other| excess.outlasts(&other)) {
                worst = Some(excess);
            }
        };
        *after = self.whole_at_ns;
        for (quota, whole_at_ns) in requests.iter().zip(after) {
            match gcra::take(*quota, *whole_at_ns, now_ns) {
                Take::Allow { tat_ns, standing } => {
                    *whole_at_ns = tat_ns;
                    standings.tighten(Some(standing), None);
                }
                Take::Deny { retry_ns, standing } => found(ExhaustedLimit::Requests, Some(retry_ns), Some(standing)),
            }
        }
        if concurrency.is_some_and(|most| self.open >= most) {
            found(ExhaustedLimit::Concurrency, None, None);
        }
        let never = |most: u64| ExhaustedLimit::NeverFits { reserved: need.div_ceil(1000), most };
        if let Some(quota) = tokens {
            let bucket = self.bucket.unwrap_or(Bucket::new(*quota)).at_rate(*quota, now_ns);
            if need > Bucket::capacity(*quota) {
                found(never(quota.burst.get()), None, None);
            } else {
                match bucket.check(self.reserved, need, now_ns) {
                    Ok(standing) => standings.tighten(None, Some(standing)),
                    Err(BucketExcess { retry_ns, standing }) => found(ExhaustedLimit::Tokens, retry_ns, Some(standing)),
                }
            }
        }
        for budget in budgets {
            let most = budget.most.get().saturating_mul(1000);
            let charged = self.in_window(budget.window).charged(today.window(budget.window));
            let standing = |reserved: u64| LimitStanding {
                limit: budget.most.get(),
                remaining: most.saturating_sub(charged).saturating_sub(reserved) / 1000,
                reset_ns: today.left_ns(budget.window),
            };
            let reserved = self.reserved.saturating_add(need);
            if need > most {
                found(never(budget.most.get()), None, None);
            } else if charged.saturating_add(need) > most {
                found(
                    ExhaustedLimit::Budget(budget.window),
                    Some(today.left_ns(budget.window)),
                    Some(standing(self.reserved)),
                );
            } else if charged.saturating_add(reserved) > most {
                found(ExhaustedLimit::Budget(budget.window), None, Some(standing(self.reserved)));
            } else {
                standings.tighten(None, Some(standing(reserved)));
            }
        }
        worst.map_or(Ok(standings), Err)
    }

    /// Takes a request from the rates, as [`AccountBooks::check`] computed them. It is to be called where that found
    /// room, or where the terms are a shadow.
    pub fn take(&mut self, account: &Account<'_>, after: Rates, now_ns: u64) {
        self.whole_at_ns = after;
        if let Some(quota) = account.terms.tokens {
            self.bucket = Some(self.bucket.unwrap_or(Bucket::new(quota)).at_rate(quota, now_ns));
        }
        // Addresses come and go by the thousand, and no reload gives one of them a budget of its own.
        self.keeps = account.holder != Holder::Address || !account.terms.budgets.is_empty();
    }

    /// Returns to the rates what [`AccountBooks::take`] took.
    pub fn give_back(&mut self, terms: &Terms) {
        for (quota, whole_at_ns) in terms.requests.iter().zip(&mut self.whole_at_ns) {
            *whole_at_ns = gcra::give_back(*quota, *whole_at_ns);
        }
    }

    /// Counts a request in flight, and reserves so many thousandths of a token for it.
    pub fn open(&mut self, reserved: u64) {
        self.open = self.open.saturating_add(1);
        self.reserved = self.reserved.saturating_add(reserved);
    }

    /// Ends what [`AccountBooks::open`] began.
    pub fn close(&mut self, reserved: u64) {
        self.open = self.open.saturating_sub(1);
        self.reserved = self.reserved.saturating_sub(reserved);
    }

    /// Charges what a request used, into debt where need be.
    pub fn charge(&mut self, amount: u64, today: Today, now_ns: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.charge(amount, now_ns);
        }
        self.spend(amount, today);
    }

    /// Charges the current windows alone, with what an earlier process charged today.
    pub fn spend(&mut self, amount: u64, today: Today) {
        for (place, window) in [(&mut self.day, today.day.0), (&mut self.month, today.month)] {
            place.turn_to(window);
            place.charged = place.charged.saturating_add(amount);
        }
    }

    /// Keeps what is charged from now on, whatever the terms say.
    pub fn keep(&mut self) {
        self.keeps = true;
    }

    /// Adds what an earlier process charged this month before today.
    pub fn spend_earlier_this_month(&mut self, amount: u64, today: Today) {
        self.month.turn_to(today.month);
        self.month.charged = self.month.charged.saturating_add(amount);
    }

    /// Takes back what was charged too much on `day` of `month`. The bucket is left alone: it may have been full since,
    /// and a credit would then be more than it ever lost.
    pub fn refund(&mut self, amount: u64, day: Day, month: i32) {
        for (place, window) in [(&mut self.day, day.0), (&mut self.month, month)] {
            if place.window == window {
                place.charged = place.charged.saturating_sub(amount);
            }
        }
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.open
    }

    /// Returns the thousandths of a token reserved for them.
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Returns the thousandths of a token charged in the current window.
    pub fn charged(&self, window: Window, today: Today) -> u64 {
        self.in_window(window).charged(today.window(window))
    }

    /// Returns whether forgetting these counters would change nothing.
    pub fn is_blank(&self, today: Today, now_ns: u64) -> bool {
        let spent = self.keeps && self.month.charged(today.month) > 0;
        self.open == 0
            && self.reserved == 0
            && !spent
            && self.whole_at_ns.iter().all(|whole_at_ns| *whole_at_ns <= now_ns)
            && self.bucket.is_none_or(|bucket| bucket.is_full(now_ns))
    }

    fn in_window(&self, window: Window) -> &InWindow {
        match window {
            Window::Day => &self.day,
            Window::Month => &self.month,
        }
    }
}

impl LimitExcess {
    /// Returns whether this excess says more than the other: one that never fits comes first, then the one that takes
    /// longest; one that waits for requests to end comes last, because how long that takes is a guess.
    pub fn outlasts(&self, other: &LimitExcess) -> bool {
        let rank = |excess: &LimitExcess| match excess.limit {
            ExhaustedLimit::NeverFits { .. } => (2, 0),
            _ => excess.retry_ns.map_or((0, 0), |retry_ns| (1, retry_ns)),
        };
        rank(self) > rank(other)
    }
}
