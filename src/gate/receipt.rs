//! Receipts, which tie a later hop or usage line to a decision. One kind lets HAProxy fetch, from herdgate's HTTP port, an
//! answer that herdgate decided on over SPOP; the other settles a grant when its usage line comes.
//!
//! Scheme. The HTTP port must not show a catalog to whoever reaches it, and the second hop carries no credential (HAProxy
//! has removed it). So the verdict `answer` comes with a receipt: `v1.<expiry>.<plan>.<mac>`, with the mac an HMAC-SHA-256
//! cut to 128 bits over version, expiry, plan, method and target under a key drawn at start. It cannot be made without the
//! key, serves only the request it was made for, and expires within seconds. Another herdgate's receipt is refused: HAProxy
//! must send the second hop to the process it asked.
//!
//! A grant's receipt is `g1.<replica>.<id>.<caller>.<model>.<prompt tokens>.<output tokens>.<time>.<mac>`, all hex. The proxy
//! logs it and sends it to nobody, so whoever can write to the usage port cannot invent one, and one that is repeated releases
//! nothing a second time. Replicas share the receipt key, so that each can verify the others' receipts; the slot is with the
//! replica that the receipt names.

use crate::decision::fleet::roster::PoolKey;
use crate::decision::plan::limits::{Scope, Tokens};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Borrow;
use std::fmt::Write;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Seconds a receipt lives. HAProxy redeems it within the same request.
pub const LIFETIME_S: i64 = 30;

/// Result of redeeming a usage line's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedeemedReceipt {
    /// A grant of this herdgate, perhaps of an earlier run.
    Ours(GrantClaims),
    /// A genuine grant of another herdgate with the same receipt key.
    Foreign {
        /// Number of that herdgate.
        replica: u64,
        /// The grant.
        claimed: GrantClaims,
    },
    /// A receipt that no herdgate with this key wrote.
    Forged,
    /// Not a grant's receipt.
    None,
}

/// Content of a grant's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantClaims {
    /// The decision's id.
    pub id: u128,
    /// The scope of the caller's limits.
    pub caller: Scope,
    /// The pool; absent where the body is hidden.
    pub model: Option<PoolKey>,
    /// Tokens reserved.
    pub tokens: Tokens,
    /// When it was granted, in seconds since 1970.
    pub unix_s: i64,
}

/// Issues and redeems receipts under one key.
pub struct Receipts {
    /// Number of this process, which its receipts carry.
    replica: u64,
    /// HMAC state after the key, so that no receipt pays for keying. Wipes itself when dropped, as does each copy.
    keyed: Hmac<Sha256>,
}

/// Longest receipt of a grant, in bytes.
const GRANT_MAX: usize = 192;

/// The receipt of a grant, as text. It is not on the heap, because each grant has one.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantReceipt {
    text: [u8; GRANT_MAX],
    len: usize,
}

impl GrantReceipt {
    const EMPTY: GrantReceipt = GrantReceipt { text: [0; GRANT_MAX], len: 0 };
}

/// The text is ASCII without spaces.
impl std::ops::Deref for GrantReceipt {
    type Target = str;

    fn deref(&self) -> &str {
        self.text.get(..self.len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl std::fmt::Debug for GrantReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantReceipt(redacted)")
    }
}

impl std::fmt::Write for GrantReceipt {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipts(redacted)")
    }
}

impl Receipts {
    /// Returns the receipts of the process called `replica`, any number that no other process shares, under this key.
    pub fn new(key: impl Borrow<[u8; 32]>, replica: u64) -> Receipts {
        // Padded with zeroes to SHA-256's block, as HMAC itself would (RFC 2104 section 2).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key.borrow());
        Receipts { replica, keyed: <Hmac<Sha256> as KeyInit>::new((&*block).into()) }
    }

    /// Returns a receipt for one request of a caller on `plan`: ASCII without spaces, the plan's name as hex.
    pub fn issue(&self, plan: &str, method: &[u8], target: &[u8], now_unix_s: i64) -> String {
        let expiry = now_unix_s.saturating_add(LIFETIME_S);
        let plan_hex = hex(plan.as_bytes());
        let mac = self.mac(expiry, &plan_hex, method, target);
        format!("v1.{expiry}.{plan_hex}.{}", hex(&mac))
    }

    /// Returns the plan that a receipt was issued for, if it is ours, not expired and for this request.
    pub fn redeem(&self, receipt: &str, method: &[u8], target: &[u8], now_unix_s: i64) -> Option<String> {
        let mut parts = receipt.split('.');
        let (version, expiry, plan_hex, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "v1" || parts.next().is_some() || receipt.len() > 1024 {
            return None;
        }
        let expiry_s: i64 = expiry.parse().ok()?;
        let expected = hex(&self.mac(expiry_s, plan_hex, method, target));
        if !bool::from(expected.as_bytes().ct_eq(mac.as_bytes())) || now_unix_s >= expiry_s {
            return None;
        }
        String::from_utf8(unhex(plan_hex)?).ok()
    }

    /// Returns the receipt of a grant.
    pub fn grant(&self, grant: &GrantClaims) -> GrantReceipt {
        let mut receipt = GrantReceipt::EMPTY;
        // At most 2 + 17 + 33 + 33 + 17 + 17 + 17 + 17 + 33 bytes: it always fits.
        let fields = [
            u128::from(self.replica),
            grant.id,
            grant.caller.0,
            u128::from(grant.model.map_or(0, PoolKey::get)),
            u128::from(grant.tokens.prompt),
            u128::from(grant.tokens.output),
            u128::from(grant.unix_s.unsigned_abs()),
        ];
        let widths = [16, 32, 32, 16, 1, 1, 1];
        let _ = receipt.write_str("g1");
        for (field, width) in fields.into_iter().zip(widths) {
            put_hex(&mut receipt, field, width);
        }
        let mac = u128::from_be_bytes(self.mac_of(receipt.as_bytes()));
        put_hex(&mut receipt, mac, 32);
        receipt
    }

    /// Verifies the receipt of a usage line.
    pub fn redeem_grant(&self, receipt: &str) -> RedeemedReceipt {
        if !receipt.starts_with("g1.") {
            return RedeemedReceipt::None;
        }
        let genuine = || {
            let (text, mac) = receipt.rsplit_once('.').filter(|_| receipt.len() <= 256)?;
            let expected = hex(&self.mac_of(text.as_bytes()));
            bool::from(expected.as_bytes().ct_eq(mac.as_bytes())).then_some(())?;
            let mut parts = text.split('.').skip(1);
            let mut field = || u128::from_str_radix(parts.next()?, 16).ok();
            let replica = field()?;
            let (id, caller) = (field()?, Scope(field()?));
            let mut number = || u64::try_from(field()?).ok();
            let (model, tokens) = (PoolKey::new(number()?), Tokens { prompt: number()?, output: number()? });
            let unix_s = i64::try_from(number()?).ok()?;
            Some((replica, GrantClaims { id, caller, model, tokens, unix_s }))
        };
        match genuine() {
            Some((replica, claimed)) if replica == u128::from(self.replica) => RedeemedReceipt::Ours(claimed),
            Some((replica, claimed)) => {
                RedeemedReceipt::Foreign { replica: u64::try_from(replica).unwrap_or(u64::MAX), claimed }
            }
            None => RedeemedReceipt::Forged,
        }
    }

    fn mac(&self, expiry: i64, plan_hex: &str, method: &[u8], target: &[u8]) -> [u8; 16] {
        // Lengths first, so that no two requests give the same bytes.
        let mut text = format!("v1.{expiry}.{plan_hex}.{}.{}.", method.len(), target.len()).into_bytes();
        text.extend_from_slice(method);
        text.extend_from_slice(target);
        self.mac_of(&text)
    }

    fn mac_of(&self, text: &[u8]) -> [u8; 16] {
        let mut mac = self.keyed.clone();
        mac.update(text);
        let full = mac.finalize().into_bytes();
        let mut cut = [0; 16];
        cut.copy_from_slice(&full[..16]);
        cut
    }
}

/// Appends a dot and the number in hex, with at least `width` digits.
fn put_hex(receipt: &mut GrantReceipt, number: u128, width: usize) {
    let digits = width.max((128 - number.leading_zeros() as usize).div_ceil(4)).min(32);
    let mut text = [b'.'; 33];
    for (place, digit) in text.iter_mut().skip(1).take(digits).enumerate() {
        let nibble = number >> ((digits - 1 - place) * 4) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    let _ = receipt.write_str(text.get(..=digits).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_serves_its_own_request_only_and_not_for_long() {
        let receipts = Receipts::new([7; 32], 1);
        let receipt = receipts.issue("team", b"GET", b"/api/tags", 1000);
        type Case<'c> = (&'c str, &'c [u8], &'c [u8], i64, Option<&'c str>);
        let cases: [Case<'_>; 9] = [
            (&receipt, b"GET", b"/api/tags", 1000, Some("team")),
            (&receipt, b"GET", b"/api/tags", 1000 + LIFETIME_S - 1, Some("team")),
            (&receipt, b"GET", b"/api/tags", 1000 + LIFETIME_S, None),
            (&receipt, b"HEAD", b"/api/tags", 1000, None),
            (&receipt, b"GET", b"/v1/models", 1000, None),
            ("", b"GET", b"/api/tags", 1000, None),
            ("v1.9999999999.7465616d.00000000000000000000000000000000", b"GET", b"/api/tags", 1000, None),
            ("v1.9999999999.7465616d.", b"GET", b"/api/tags", 1000, None),
            ("v1.x.y.z.w", b"GET", b"/api/tags", 1000, None),
        ];
        for (receipt, method, target, now, plan) in cases {
            assert_eq!(receipts.redeem(receipt, method, target, now).as_deref(), plan, "{receipt} {now}");
        }
        assert_eq!(Receipts::new([8; 32], 1).redeem(&receipt, b"GET", b"/api/tags", 1000), None, "another key");
    }

    #[test]
    fn changing_any_byte_of_a_receipt_spoils_it() {
        let receipts = Receipts::new([7; 32], 1);
        let receipt = receipts.issue("team", b"GET", b"/", 1000);
        for at in 0..receipt.len() {
            let mut bytes = receipt.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(receipts.redeem(&changed, b"GET", b"/", 1000), None, "{changed}");
        }
    }

    #[test]
    fn a_grants_receipt_names_its_decision_to_its_own_process_only() {
        let ours = Receipts::new([7; 32], 1);
        let tokens = Tokens { prompt: 17, output: 512 };
        let claimed = GrantClaims { id: 0xabc, caller: Scope(5), model: PoolKey::new(9), tokens, unix_s: 1000 };
        let receipt = ours.grant(&claimed).to_string();
        let text = "g1.0000000000000001.00000000000000000000000000000abc.00000000000000000000000000000005.0000000000000009.11.200.3e8.";
        assert!(receipt.starts_with(text), "{receipt}");
        // As earlier versions wrote it: 0 for no pool.
        let old = "g1.0000000000000001.00000000000000000000000000000abc.00000000000000000000000000000005.0000000000000000.11.200.3e8.3613a5cba264ece8e63f9598baa2fc29";
        let hidden = GrantClaims { model: None, ..claimed };
        assert_eq!((&*ours.grant(&hidden), ours.redeem_grant(old)), (old, RedeemedReceipt::Ours(hidden)));
        let (most, all) = (u64::MAX, u128::MAX);
        let longest = GrantClaims {
            id: all,
            caller: Scope(all),
            model: PoolKey::new(most),
            tokens: Tokens { prompt: most, output: most },
            unix_s: i64::MAX,
        };
        assert_eq!(Receipts::new([7; 32], most).grant(&longest).len(), 186, "nothing was cut");
        let redeemed = Receipts::new([7; 32], most).redeem_grant(&Receipts::new([7; 32], most).grant(&longest));
        assert_eq!(redeemed, RedeemedReceipt::Ours(longest));
        let sibling = Receipts::new([7; 32], 2);
        let stranger = Receipts::new([8; 32], 1);
        let cut = &receipt[..receipt.len() - 1];
        let catalog = ours.issue("team", b"GET", b"/", 1000);
        let cases: [(&Receipts, &str, RedeemedReceipt); 8] = [
            (&ours, &receipt, RedeemedReceipt::Ours(claimed)),
            (&sibling, &receipt, RedeemedReceipt::Foreign { replica: 1, claimed }),
            (&stranger, &receipt, RedeemedReceipt::Forged),
            (&ours, cut, RedeemedReceipt::Forged),
            (&ours, "g1.", RedeemedReceipt::Forged),
            (&ours, "-", RedeemedReceipt::None),
            (&ours, "", RedeemedReceipt::None),
            (&ours, &catalog, RedeemedReceipt::None),
        ];
        for (receipts, receipt, expected) in cases {
            assert_eq!(receipts.redeem_grant(receipt), expected, "{receipt}");
        }
        for at in 3..receipt.len() {
            let mut bytes = receipt.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ours.redeem_grant(&changed), RedeemedReceipt::Forged, "{changed}");
        }
    }
}
