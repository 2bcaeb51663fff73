//! A claim in the words of the scripts, and their answers in the words of the books. Pure.

use super::reply::{Stand, StoreExcess, Which};
use super::terms::{HolderTerms, StoreTerms};
use crate::decision::plan::limits::{self, Account, Accounts, Budget, Holder, Quota, Window};
use crate::decision::verdict::LimitStanding;
use crate::ledger::account::{ExhaustedLimit, LimitExcess, Standings};
use crate::ledger::bucket::Bucket;
use crate::ledger::calendar::Today;
use crate::ledger::gcra;
use crate::shared_store::fraction::Fraction;

/// Writes the holders of a claim for the scripts. Returns `None` where there are more than they take: the caller must
/// refuse.
pub fn terms_of(accounts: &Accounts<'_>) -> Option<StoreTerms> {
    let entries: Vec<HolderTerms<'_>> = accounts.iter().map(entry).collect();
    StoreTerms::of(&entries)
}

fn entry<'a>(account: &Account<'a>) -> HolderTerms<'a> {
    let terms = account.terms;
    let most = |window| budget(terms, window).map(|budget| budget.most.get().saturating_mul(1000));
    HolderTerms {
        scope: account.scope,
        requests: &terms.requests,
        concurrency: terms.concurrency,
        tokens: terms.tokens,
        day_most: most(Window::Day),
        month_most: most(Window::Month),
        shadow: terms.shadow,
        // Addresses come and go by the thousand, and no reload gives one of them a budget of its own.
        keeps: account.holder != Holder::Address || !terms.budgets.is_empty(),
    }
}

fn budget(terms: &limits::Terms, window: Window) -> Option<Budget> {
    terms.budgets.iter().find(|budget| budget.window == window).copied()
}

/// Returns the first limit that a claim could never fit into, among enforced limits or among those of shadow plans. The
/// store need not be asked for that.
pub fn never_fits(accounts: &Accounts<'_>, need: u64, shadow: bool) -> Option<LimitExcess> {
    accounts.iter().filter(|account| account.terms.shadow == shadow).find_map(|account| {
        let of_bucket = account.terms.tokens.map(|quota| (Bucket::capacity(quota), quota.burst.get()));
        let of_budgets =
            account.terms.budgets.iter().map(|budget| (budget.most.get().saturating_mul(1000), budget.most.get()));
        let (_, most) = of_bucket.into_iter().chain(of_budgets).find(|(most, _)| need > *most)?;
        let limit = ExhaustedLimit::NeverFits { reserved: need.div_ceil(1000), most };
        Some(LimitExcess { holder: account.holder, limit, retry_ns: None, standing: None })
    })
}

/// Returns the tightest limits by what the store answered.
pub fn standings_of(accounts: &Accounts<'_>, stands: &[Stand], today: Today) -> Standings {
    let mut standings = Standings::default();
    for (account, stand) in accounts.iter().zip(stands) {
        for (quota, ahead_ns) in account.terms.requests.iter().zip(&stand.ahead_ns) {
            standings.tighten(Some(of_rate(*quota, *ahead_ns)), None);
        }
        if let Some(quota) = account.terms.tokens {
            standings.tighten(None, Some(of_bucket(quota, stand)));
        }
        for budget in &account.terms.budgets {
            standings.tighten(None, Some(of_budget(*budget, stand, today)));
        }
    }
    standings
}

/// Returns the limit that refused a claim, or that would have refused it if it were enforced; `None` where no limit was
/// exceeded.
pub fn excess_of(
    accounts: &Accounts<'_>,
    stands: &[Stand],
    over: &[StoreExcess],
    shadow: bool,
    today: Today,
) -> Option<LimitExcess> {
    let mut worst: Option<LimitExcess> = None;
    for StoreExcess { entry, which, retry_ns } in over {
        let Some((account, stand)) = accounts.iter().zip(stands).nth(*entry) else { continue };
        if account.terms.shadow != shadow {
            continue;
        }
        let budget = |window| {
            let standing = budget(account.terms, window).map(|budget| of_budget(budget, stand, today));
            (ExhaustedLimit::Budget(window), standing)
        };
        let (limit, standing) = match which {
            Which::Requests(position) => {
                let position = usize::from(*position);
                let rate = account.terms.requests.get(position).zip(stand.ahead_ns.get(position));
                (ExhaustedLimit::Requests, rate.map(|(quota, ahead_ns)| of_rate(*quota, *ahead_ns)))
            }
            Which::Concurrency => (ExhaustedLimit::Concurrency, None),
            Which::Tokens => (ExhaustedLimit::Tokens, account.terms.tokens.map(|quota| of_bucket(quota, stand))),
            Which::Day => budget(Window::Day),
            Which::Month => budget(Window::Month),
        };
        let found = LimitExcess { holder: account.holder, limit, retry_ns: *retry_ns, standing };
        if worst.is_none_or(|other| found.outlasts(&other)) {
            worst = Some(found);
        }
    }
    worst
}

fn of_rate(quota: Quota, ahead_ns: u64) -> LimitStanding {
    let interval_ns = gcra::interval_ns(quota);
    let horizon_ns = interval_ns.saturating_mul(quota.burst.get());
    let remaining = horizon_ns.saturating_sub(ahead_ns) / interval_ns.max(1);
    LimitStanding { limit: quota.burst.get(), remaining, reset_ns: ahead_ns }
}

fn of_bucket(quota: Quota, stand: &Stand) -> LimitStanding {
    let remaining = Bucket::capacity(quota).saturating_sub(stand.debt).saturating_sub(stand.reserved) / 1000;
    LimitStanding { limit: quota.burst.get(), remaining, reset_ns: stand.full_in_ns }
}

fn of_budget(budget: Budget, stand: &Stand, today: Today) -> LimitStanding {
    let charged = match budget.window {
        Window::Day => stand.day,
        Window::Month => stand.month,
    };
    let most = budget.most.get().saturating_mul(1000);
    let remaining = most.saturating_sub(charged).saturating_sub(stand.reserved) / 1000;
    LimitStanding { limit: budget.most.get(), remaining, reset_ns: today.left_ns(budget.window) }
}

/// Returns this herdgate's part of each holder's terms.
pub fn shares_of(accounts: &Accounts<'_>, share: Fraction) -> Vec<limits::Terms> {
    let divided = |terms: &limits::Terms| limits::Terms {
        requests: terms.requests.iter().map(|quota| share.of_quota(*quota)).collect(),
        concurrency: terms.concurrency.map(|count| share.of_count(count)),
        tokens: terms.tokens.map(|quota| share.of_quota(quota)),
        budgets: terms.budgets.iter().map(|budget| Budget { most: share.of_amount(budget.most), ..*budget }).collect(),
        shadow: terms.shadow,
    };
    accounts.iter().map(|account| divided(account.terms)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::limits::Scope;
    use std::num::{NonZeroU32, NonZeroU64};

    const S: u64 = 1_000_000_000;

    fn quota(count: u64, burst: u64) -> Quota {
        let some = |value| NonZeroU64::new(value).unwrap();
        Quota { count: some(count), period_ns: some(60 * S), burst: some(burst) }
    }

    fn terms(shadow: bool) -> limits::Terms {
        limits::Terms {
            requests: vec![quota(60, 20), quota(600, 5)],
            concurrency: Some(4),
            tokens: Some(quota(6_000, 100)),
            budgets: vec![Budget { most: NonZeroU64::new(1_000).unwrap(), window: Window::Day }],
            shadow,
        }
    }

    fn check(shadow: bool, test: impl FnOnce(&Accounts<'_>)) {
        let (blank, terms) = (limits::Terms::default(), terms(shadow));
        let mut accounts = Accounts::default();
        assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Address, terms: &blank }));
        assert!(accounts.push(Account { scope: Scope(2), holder: Holder::Team, terms: &terms }));
        test(&accounts);
    }

    #[test]
    fn a_claim_is_written_with_all_its_limits() {
        let rates = "1000000.000,20000000.000/100000.000,500000.000";
        check(true, |accounts| {
            let written = terms_of(accounts).unwrap();
            assert_eq!(written.scopes, [Scope(1), Scope(2)]);
            assert_eq!(written.text, format!("- - - - - -;sk 4 6000,60000,100000 {rates} 1000000 -"));
        });
    }

    #[test]
    fn the_tightest_limit_is_told_and_the_worst_excess() {
        let today = Today { day_left_ms: 5_000, ..Today::default() };
        check(false, |accounts| {
            let stand = Stand {
                ahead_ns: vec![17 * S + 1, S / 10],
                debt: 10_000,
                full_in_ns: S,
                reserved: 20_500,
                day: 900_000,
                ..Stand::default()
            };
            let stands = [Stand::default(), stand];
            let requests = LimitStanding { limit: 20, remaining: 2, reset_ns: 17 * S + 1 };
            let tokens = LimitStanding { limit: 100, remaining: 69, reset_ns: S };
            let found = standings_of(accounts, &stands, today);
            assert_eq!(found, Standings { requests: Some(requests), tokens: Some(tokens) });
            let over = |which, retry_ns| StoreExcess { entry: 1, which, retry_ns };
            let all = [
                over(Which::Concurrency, None),
                over(Which::Requests(1), Some(S)),
                over(Which::Day, Some(5 * S)),
                over(Which::Tokens, Some(2 * S)),
                over(Which::Month, None),
            ];
            let worst = excess_of(accounts, &stands, &all, false, today).unwrap();
            let standing = LimitStanding { limit: 1_000, remaining: 79, reset_ns: 5 * S };
            let expected = ExhaustedLimit::Budget(Window::Day);
            assert_eq!((worst.limit, worst.retry_ns, worst.standing), (expected, Some(5 * S), Some(standing)));
            assert_eq!(excess_of(accounts, &stands, &all, true, today), None, "none of a shadow");
            assert_eq!(excess_of(accounts, &stands, &[StoreExcess { entry: 7, ..all[0] }], false, today), None);
        });
    }

    #[test]
    fn what_never_fits_is_known_without_the_store() {
        check(false, |accounts| {
            assert_eq!(never_fits(accounts, 100_000, false), None);
            let found = never_fits(accounts, 100_001, false).unwrap();
            assert_eq!(found.limit, ExhaustedLimit::NeverFits { reserved: 101, most: 100 });
            assert_eq!(never_fits(accounts, 100_001, true), None);
        });
        check(true, |accounts| {
            assert_eq!(never_fits(accounts, 2_000_000, false), None);
            assert!(never_fits(accounts, 2_000_000, true).is_some());
        });
    }

    #[test]
    fn every_limit_is_divided() {
        check(false, |accounts| {
            let shares = shares_of(accounts, Fraction(NonZeroU32::new(2).unwrap()));
            assert_eq!(shares[0], limits::Terms::default());
            let whole = terms(false);
            let half = &shares[1];
            assert_eq!(half.requests[0].period_ns.get(), 2 * whole.requests[0].period_ns.get());
            assert_eq!((half.requests[1].burst.get(), half.concurrency, half.budgets[0].most.get()), (2, Some(2), 500));
            assert_eq!(half.tokens.map(|quota| quota.burst.get()), Some(50));
        });
    }
}
