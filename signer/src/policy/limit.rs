//! Velocity limits: how much may move, and how often, within a window of time.
//!
//! The policy's function stays pure. Where it allows a transaction it says what the transaction draws on each counter
//! ([`Draw`]); whoever keeps the counters checks that against the caps and records it in one step with the reservation of
//! the slots: a signer in its ledger, the gateway in its store. Both count in the same buckets ([`Window`]).
//!
//! - [`Usage`]: counters in memory;
//! - [`config`]: limits as people write them, and their compilation.
//!
//! What is drawn is what the bytes transfer, and in full what they let somebody spend (an ERC-20 `approve` draws its
//! allowance, spent or not). Fees are not drawn: a rule's `max_fee` bounds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chains::account::{Account, WalletId};
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::Effects;
use serde::{Deserialize, Serialize};

use crate::roster::CredentialId;

pub mod config;
mod usage;

pub use config::{LimitConfig, LimitError};
pub use usage::{Usage, Used};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// How many buckets a rolling window has; it counts one more, the one that it ends in.
const BUCKETS: u64 = 24;
/// The longest rolling window, in minutes: 366 days.
const MAX_MINUTES: u32 = 366 * 24 * 60;

/// A compiled limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Limit {
    id: String,
    wallets: BTreeSet<WalletId>,
    asset: Asset,
    /// Whose payments count; everybody's where it is empty.
    addresses: BTreeSet<Address>,
    /// Who must have asked; anybody where it is empty.
    initiators: BTreeSet<CredentialId>,
    per: Per,
    window: Window,
    max_amount: Option<Amount>,
    max_count: Option<u64>,
}

/// What has a counter of its own under a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The limit itself: everything that it is for shares one counter.
    #[default]
    Limit,
    /// Each wallet that pays.
    Wallet,
    /// Each credential that asks.
    Initiator,
    /// Each address that is paid, or may spend.
    Destination,
}

/// The time over which a limit counts: rolling (`30m`, `24h`, `7d`) or a calendar `day`, `week` (from Monday, ISO 8601) or
/// `month` in UTC.
///
/// Time is cut into buckets. A calendar window is one bucket. A rolling window has a bucket for each 24th part of it and
/// counts every bucket that it touches, the oldest as a whole: a draw counts for at least the window and at most a 24th
/// part longer, so that a counter is never too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Window {
    /// The last minutes.
    Rolling(Minutes),
    /// From midnight.
    Day,
    /// From Monday's midnight.
    Week,
    /// From the first of the month, midnight.
    Month,
}

/// The length of a rolling window, 1 minute to 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minutes(u32);

/// A string that is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no window; write day, week, month, or a length of 1 minute to 366 days: 30m, 24h, 7d")]
pub struct WindowError(String);

/// The number of a bucket of some window. Later buckets have higher numbers; of different windows they don't compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BucketId(i64);

/// The name of a counter: the limit, its window, and what the counter is for, `payroll/24h` or
/// `payroll/24h/wallet:treasury-eth`. A limit whose window or `per` is changed so starts with other counters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CounterKey {
    text: String,
    /// As the text says it.
    window: Window,
}

/// A string that names no counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no counter; it is a limit's name, a slash, and a window as it is written shortest")]
pub struct CounterKeyError(String);

/// What a transaction draws on one counter, and what the counter is capped by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draw {
    /// The counter.
    pub counter: CounterKey,
    /// What the counter counts over: [`CounterKey::window`].
    pub window: Window,
    /// How much is drawn, in the base units of the limit's asset.
    pub amount: Amount,
    /// How many payments are drawn: 1 for the first attempt of an intent, 0 for what a later one draws beyond it.
    pub count: u64,
    /// The most that the window may hold, in base units.
    pub max_amount: Option<Amount>,
    /// The most payments that the window may hold.
    pub max_count: Option<u64>,
}

impl Limit {
    /// Its name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Its name, and the most that its window may hold, in base units and in payments.
    pub(super) fn caps(&self) -> (&str, Option<Amount>, Option<u64>) {
        (&self.id, self.max_amount, self.max_count)
    }

    /// Who must have asked; anybody where it is empty.
    pub(super) const fn initiators(&self) -> &BTreeSet<CredentialId> {
        &self.initiators
    }

    /// The most that its window may hold of an asset, in base units; `None` where it isn't for the asset or caps no amount.
    pub(super) fn cap(&self, asset: Asset) -> Option<Amount> {
        self.max_amount.filter(|_| self.asset == asset)
    }

    /// What a transaction of `account` that `initiator` asked for draws on this limit's counters.
    fn draws<'l>(
        &'l self,
        account: &'l Account,
        initiator: &'l CredentialId,
        effects: &'l Effects,
    ) -> impl Iterator<Item = Draw> + 'l {
        let mut amounts: BTreeMap<CounterKey, Amount> = BTreeMap::new();
        let asked = self.initiators.is_empty() || self.initiators.contains(initiator);
        if asked && self.wallets.contains(account.wallet()) {
            let transfers = effects.transfers.iter().map(|transfer| (transfer.asset, &transfer.to, transfer.amount));
            let allowances = effects.allowances.iter().map(|grant| (grant.asset, &grant.spender, grant.amount));
            for (asset, to, amount) in transfers.chain(allowances) {
                if asset == self.asset && (self.addresses.is_empty() || self.addresses.contains(to)) {
                    let total = amounts.entry(self.counter(account.wallet(), initiator, to)).or_default();
                    *total = total.checked_add(amount).unwrap_or(Amount::MAX);
                }
            }
        }
        amounts.into_iter().map(|(counter, amount)| Draw {
            counter,
            window: self.window,
            amount,
            count: 1,
            max_amount: self.max_amount,
            max_count: self.max_count,
        })
    }

    fn counter(&self, wallet: &WalletId, initiator: &CredentialId, to: &Address) -> CounterKey {
        let Self { id, window, .. } = self;
        let text = match self.per {
            Per::Limit => format!("{id}/{window}"),
            Per::Wallet => format!("{id}/{window}/wallet:{wallet}"),
            Per::Initiator => format!("{id}/{window}/initiator:{initiator}"),
            Per::Destination => format!("{id}/{window}/destination:{to}"),
        };
        CounterKey { text, window: *window }
    }
}

/// What a transaction draws on the counters of all these limits, each counter once.
pub(super) fn draws(limits: &[Limit], account: &Account, initiator: &CredentialId, effects: &Effects) -> Vec<Draw> {
    limits.iter().flat_map(|limit| limit.draws(account, initiator, effects)).collect()
}

impl Window {
    /// The bucket of an instant, in milliseconds since 1970.
    pub fn bucket(self, at_unix_millis: u64) -> BucketId {
        let day = at_unix_millis / DAY_MS;
        BucketId::new(match self {
            Self::Rolling(minutes) => at_unix_millis / minutes.bucket_ms(),
            Self::Day => day,
            // 1970 began on a Thursday.
            Self::Week => day.saturating_add(3) / 7,
            Self::Month => month(day),
        })
    }

    /// The buckets that count at an instant, in milliseconds since 1970: the last is the instant's own.
    pub fn buckets_counted(self, at_unix_millis: u64) -> RangeInclusive<BucketId> {
        let last = self.bucket(at_unix_millis);
        match self {
            Self::Rolling(minutes) => self.bucket(at_unix_millis.saturating_sub(minutes.millis()))..=last,
            Self::Day | Self::Week | Self::Month => last..=last,
        }
    }
}

impl Minutes {
    /// That many minutes; `None` for 0 and for more than 366 days.
    pub const fn new(minutes: u32) -> Option<Self> {
        if minutes == 0 || minutes > MAX_MINUTES { None } else { Some(Self(minutes)) }
    }

    /// The number of minutes.
    pub const fn get(self) -> u32 {
        self.0
    }

    fn millis(self) -> u64 {
        u64::from(self.0).saturating_mul(MINUTE_MS)
    }

    /// The length of a bucket. A minute is divided by 24 without a rest.
    fn bucket_ms(self) -> u64 {
        u64::from(self.0).saturating_mul(MINUTE_MS / BUCKETS)
    }
}

/// The months from January 1970 to a day that is counted from 1970-01-01, in the Gregorian calendar: `civil_from_days` of
/// <https://howardhinnant.github.io/date_algorithms.html>. No step can overflow: a day number is below 2^38.
fn month(day: u64) -> u64 {
    // Years that begin on the first of March, so that the leap day is the last; eras of 400 of them.
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + month_from_march + 2 - 1970 * 12
}

impl BucketId {
    fn new(number: u64) -> Self {
        // The highest is 2^64 ms by 2500 ms.
        Self(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// The number, never negative: what a store keeps.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl CounterKey {
    /// The name, 1 to about 200 characters, always the same for the same counter: what a store keeps.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The limit that the counter belongs to.
    pub fn limit(&self) -> &str {
        self.text.split_once('/').map_or(&self.text, |(limit, _)| limit)
    }

    /// The window that the counter counts over, and so what its buckets' numbers mean.
    pub const fn window(&self) -> Window {
        self.window
    }
}

impl FromStr for CounterKey {
    type Err = CounterKeyError;

    fn from_str(text: &str) -> Result<Self, CounterKeyError> {
        let mut parts = text.splitn(3, '/').skip(1);
        let window = parts.next().and_then(|part| Some((part, part.parse::<Window>().ok()?)));
        // One spelling only, so that two names are two counters.
        match window.filter(|(part, window)| window.to_string() == *part) {
            Some((_, window)) => Ok(Self { text: text.to_owned(), window }),
            None => Err(CounterKeyError(text.chars().take(100).collect())),
        }
    }
}

impl TryFrom<String> for CounterKey {
    type Error = CounterKeyError;

    fn try_from(text: String) -> Result<Self, CounterKeyError> {
        text.parse()
    }
}

impl From<CounterKey> for String {
    fn from(counter: CounterKey) -> Self {
        counter.text
    }
}

impl Draw {
    /// Whether a counter that holds nothing has room for it. What has none can never be signed.
    pub fn fits_alone(&self) -> bool {
        self.max_amount.is_none_or(|most| self.amount <= most) && self.max_count.is_none_or(|most| self.count <= most)
    }

    /// What is left to draw for an intent that has `drawn` on the counter by an earlier attempt; `None` where that covers
    /// it. An intent pays once, whatever the number of its attempts.
    #[must_use]
    pub fn beyond(&self, drawn: Amount) -> Option<Self> {
        let amount = self.amount.checked_sub(drawn).filter(|more| !more.is_zero())?;
        Some(Self { amount, count: 0, ..self.clone() })
    }
}

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Window {
    /// One spelling for each length: whole hours as such, `168h` and not `7d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(Minutes(minutes)) if minutes.is_multiple_of(60) => write!(f, "{}h", minutes / 60),
            Self::Rolling(Minutes(minutes)) => write!(f, "{minutes}m"),
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
        }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let rolling = |(unit, minutes): (char, u32)| {
            let digits = text.strip_suffix(unit)?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
            let length = digits.parse::<u32>().ok().filter(|_| plain)?.checked_mul(minutes)?;
            Minutes::new(length).map(Self::Rolling)
        };
        let window = match text {
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            _ => [('m', 1), ('h', 60), ('d', 24 * 60)].into_iter().find_map(rolling),
        };
        window.ok_or_else(|| WindowError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}
