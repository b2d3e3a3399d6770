//! Velocity limits: what a transaction draws, what a window counts, and that no cap is passed.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Transfer};
use chains::network::Network;
use proptest::prelude::*;
use serde_json::{Value, json};
use signer::policy::limit::{BucketId, CounterKey, Draw, LimitConfig, LimitError, Minutes, Usage, Window};
use signer::policy::{Circumstances, Denial, Policy, PolicyConfig, PolicyError, Verdict, evaluate};
use signer::roster::CredentialId;

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const APPROVE: [u8; 4] = [0x09, 0x5e, 0xa7, 0xb3];

const HOUR: u64 = 3_600_000;

fn wallets() -> BTreeMap<WalletId, Network> {
    let wallets =
        [("eth", "ethereum:1"), ("eth-two", "ethereum:1"), ("base", "ethereum:8453"), ("sol", "solana:devnet")];
    wallets.into_iter().map(|(w, n)| (w.parse().expect("a name"), n.parse().expect("a network"))).collect()
}

fn account(wallet: &str) -> Account {
    let wallet: WalletId = wallet.parse().expect("a name");
    let network = wallets()[&wallet];
    // Twice secp256k1's base point.
    let point = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
    let public_key = PublicKey::Ecdsa(point.parse().expect("a point"));
    Account::new(wallet, network, "key".parse().expect("a name"), KeyPath::root(), public_key).expect("an account")
}

fn credential(name: &str) -> CredentialId {
    name.parse().expect("a name")
}

fn address(text: &str) -> Address {
    UncheckedAddress::new(text).require_network(Network::Ethereum(1)).expect("an address")
}

fn erc20() -> Asset {
    format!("erc20:{TOKEN}").parse().expect("an asset")
}

/// What the rules allow: anything of both assets to both addresses.
fn compile(limits: &Value) -> Result<Policy, PolicyError> {
    let token = format!("erc20:{TOKEN}");
    let rules = json!([{
        "id": "all", "wallets": ["eth", "eth-two"], "assets": ["native", token], "addresses": [PAYEE, OTHER],
        "contracts": [{"address": TOKEN, "selectors": ["0x095ea7b3"]}]
    }]);
    let config: PolicyConfig = serde_json::from_value(json!({ "rules": rules, "limits": limits })).expect("its form");
    config.compile(&wallets())
}

fn effects(wallet: &str, payments: &[(Asset, &str, u64)]) -> Effects {
    let from = account(wallet).address().clone();
    let transfer = |(asset, to, amount): &(Asset, &str, u64)| Transfer {
        asset: *asset,
        from: from.clone(),
        to: address(to),
        amount: Amount::from_sat(*amount),
    };
    Effects {
        transfers: payments.iter().map(transfer).collect(),
        max_fee: Amount::from_wei(1_000_000),
        ..Effects::default()
    }
}

fn draws(limits: &Value, wallet: &str, initiator: &str, effects: &Effects) -> Vec<(String, u64)> {
    let policy = compile(limits).expect("a sound policy");
    match evaluate(&policy, &account(wallet), &Circumstances { initiator: &credential(initiator), at: 0 }, effects) {
        Verdict::Allow { draws, .. } => {
            let draw = |draw: Draw| {
                assert_eq!((draw.count, draw.window), (1, draw.counter.window()));
                (draw.counter.to_string(), draw.amount.to_u64().expect("a small amount"))
            };
            draws.into_iter().map(draw).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn limit(more: Value) -> Value {
    let mut limit = json!({"id": "l", "wallets": ["eth"], "asset": "native", "window": "24h", "max_amount": "100"});
    let fields = limit.as_object_mut().expect("an object");
    for (field, value) in more.as_object().expect("an object") {
        fields.insert(field.clone(), value.clone());
    }
    limit
}

fn one(counter: &str, amount: u64) -> Vec<(String, u64)> {
    vec![(counter.to_owned(), amount)]
}

#[test]
fn a_payment_draws_on_every_limit_that_is_for_it() {
    let pays = effects("eth", &[(Asset::Native, PAYEE, 7)]);
    let drawn = |more: Value| draws(&json!([limit(more)]), "eth", "alice", &pays);
    assert_eq!(drawn(json!({})), one("l/24h", 7));
    assert_eq!(drawn(json!({"window": "day", "per": "wallet"})), one("l/day/wallet:eth", 7));
    assert_eq!(drawn(json!({"per": "initiator"})), one("l/24h/initiator:alice", 7));
    assert_eq!(drawn(json!({"per": "destination"})), one(&format!("l/24h/destination:{PAYEE}"), 7));
    assert_eq!(drawn(json!({"addresses": [PAYEE], "initiators": ["alice", "bob"]})), one("l/24h", 7));
    // Not for it: another wallet, asset, destination, initiator.
    assert_eq!(drawn(json!({"wallets": ["eth-two"]})), []);
    assert_eq!(drawn(json!({"asset": format!("erc20:{TOKEN}")})), []);
    assert_eq!(drawn(json!({"addresses": [OTHER]})), []);
    assert_eq!(drawn(json!({"initiators": ["bob"]})), []);
    // Two limits, and two wallets with one counter.
    let both = json!([limit(json!({"wallets": ["eth", "eth-two"]})), limit(json!({"id": "m", "window": "7d"}))]);
    assert_eq!(draws(&both, "eth", "alice", &pays), [one("l/24h", 7), one("m/168h", 7)].concat());
    assert_eq!(draws(&both, "eth-two", "alice", &effects("eth-two", &[(Asset::Native, OTHER, 2)])), one("l/24h", 2));
}

#[test]
fn one_transaction_draws_on_a_counter_once() {
    let pays = effects("eth", &[(Asset::Native, PAYEE, 7), (erc20(), PAYEE, 50), (Asset::Native, OTHER, 5)]);
    // A transfer of tokens of its own needs a permitted call only where it spends from others.
    assert_eq!(draws(&json!([limit(json!({}))]), "eth", "alice", &pays), one("l/24h", 12));
    let each = draws(&json!([limit(json!({"per": "destination"}))]), "eth", "alice", &pays);
    let expected = [(PAYEE, 7), (OTHER, 5)].map(|(to, amount)| (format!("l/24h/destination:{to}"), amount));
    assert_eq!(each, expected);
}

#[test]
fn an_approval_draws_its_allowance() {
    let Address::Ethereum(contract) = address(TOKEN) else { panic!("an EVM address") };
    let call = Call {
        caller: contract,
        depth: 0,
        contract,
        selector: APPROVE.into(),
        arguments: vec![0; 64].into(),
        value: Amount::ZERO,
    };
    let allowance = Allowance { asset: erc20(), spender: address(OTHER), amount: Amount::from_sat(90) };
    let approves = Effects { allowances: vec![allowance], calls: vec![call], ..effects("eth", &[]) };
    let limits = json!([limit(json!({"asset": format!("erc20:{TOKEN}"), "per": "destination"}))]);
    assert_eq!(draws(&limits, "eth", "alice", &approves), one(&format!("l/24h/destination:{OTHER}"), 90));
}

#[test]
fn sums_beyond_256_bits_stay_above_every_cap() {
    let mut pays = effects("eth", &[(Asset::Native, PAYEE, 7), (Asset::Native, OTHER, 5)]);
    pays.transfers[0].amount = Amount::MAX;
    let policy = compile(&json!([limit(json!({"max_amount": Amount::MAX.to_string()}))])).expect("a sound policy");
    let verdict = evaluate(&policy, &account("eth"), &Circumstances { initiator: &credential("alice"), at: 0 }, &pays);
    let Verdict::Allow { draws, .. } = verdict else { panic!("the rules allow it") };
    assert_eq!(draws[0].amount, Amount::MAX);
    let mut usage = Usage::default();
    usage.check(&draws, 0).expect("as much as there is");
    usage.record(&draws, 0);
    assert!(usage.check(&[Draw { amount: Amount::from_sat(1), ..draws[0].clone() }], 0).is_err());
}

#[test]
fn a_denial_has_no_draws() {
    let policy = compile(&json!([limit(json!({"max_amount": "1"}))])).expect("a sound policy");
    let denied = effects("eth", &[(Asset::Native, TOKEN, 7)]);
    let verdict =
        evaluate(&policy, &account("eth"), &Circumstances { initiator: &credential("alice"), at: 0 }, &denied);
    assert!(matches!(verdict, Verdict::Deny { reason: Denial::UnlistedAddress { .. }, .. }));
}

#[test]
fn a_limit_that_means_nothing_is_refused() {
    let fault = |limits: Value| match compile(&limits) {
        Err(PolicyError::Limit { limit, source }) => (limit, source),
        other => panic!("{limits}: {other:?}"),
    };
    let of = |more: Value| fault(json!([limit(more)])).1;
    for id in ["", " ", "a/b", "A", &"a".repeat(65)] {
        assert_eq!(fault(json!([limit(json!({ "id": id }))])), (id.to_owned(), LimitError::Id));
    }
    assert_eq!(fault(json!([limit(json!({})), limit(json!({}))])), ("l".to_owned(), LimitError::Id));
    assert_eq!(of(json!({"wallets": []})), LimitError::NoWallet);
    assert_eq!(of(json!({"wallets": ["none"]})), LimitError::UnknownWallet("none".parse().expect("a name")));
    let (first, second) = (Network::Ethereum(1), Network::Ethereum(8453));
    assert_eq!(of(json!({"wallets": ["eth", "base"]})), LimitError::Networks { first, second });
    let network = "solana:devnet".parse().expect("a network");
    let on_solana = json!({"wallets": ["sol"], "asset": format!("erc20:{TOKEN}")});
    assert_eq!(of(on_solana), LimitError::Asset { asset: erc20(), network });
    assert!(matches!(of(json!({"addresses": ["bc1q"]})), LimitError::Address(_)));
    assert_eq!(of(json!({"max_amount": null})), LimitError::NoCap);

    let count = limit(json!({"max_amount": null, "max_count": 3}));
    compile(&json!([count])).expect("a count is a limit");
    for bad in [json!({"window": "0h"}), json!({"per": "asset"}), json!({"max_amount": 5}), json!({"cap": "5"})] {
        assert!(serde_json::from_value::<LimitConfig>(limit(bad.clone())).is_err(), "{bad}");
    }
}

#[test]
fn windows_and_counters_have_one_spelling() {
    for (text, spelled) in
        [("30m", "30m"), ("90m", "90m"), ("120m", "2h"), ("24h", "24h"), ("7d", "168h"), ("day", "day")]
    {
        let window: Window = text.parse().expect("a window");
        assert_eq!(window.to_string(), spelled);
        assert_eq!(spelled.parse(), Ok(window));
    }
    let bad = ["", "24", "h", "0h", "01h", "+1h", "1.5h", "24H", " 24h", "367d", "5000000000m", "year", "-1h", "٣h"];
    for text in bad {
        assert!(text.parse::<Window>().is_err(), "{text:?}");
    }
    assert!(Minutes::new(0).is_none() && Minutes::new(366 * 24 * 60 + 1).is_none());

    let counter: CounterKey = "payroll/24h/wallet:a/b".parse().expect("a counter");
    assert_eq!((counter.limit(), counter.window().to_string()), ("payroll", "24h".to_owned()));
    for text in ["", "payroll", "payroll/", "payroll/7d", "payroll/01h", "payroll/x/24h"] {
        assert!(text.parse::<CounterKey>().is_err(), "{text:?}");
    }
}

/// The days and months of `date -u -d @…`, GNU coreutils.
#[test]
fn calendar_windows_turn_at_midnight_in_utc() {
    let turns = [
        // The first instant, in seconds, and which windows turn.
        (946_684_800, "day month"),        // Sat 2000-01-01
        (951_782_400, "day"),              // Tue 2000-02-29
        (951_868_800, "day month"),        // Wed 2000-03-01
        (1_704_067_200, "day week month"), // Mon 2024-01-01
        (1_709_164_800, "day"),            // Thu 2024-02-29
        (1_709_251_200, "day month"),      // Fri 2024-03-01
        (1_763_942_400, "day week"),       // Mon 2025-11-24
        (4_107_542_400, "day week month"), // Mon 2100-03-01; 2100 has no leap day
    ];
    for (seconds, turning) in turns {
        for (name, window) in [("day", Window::Day), ("week", Window::Week), ("month", Window::Month)] {
            let at = seconds * 1000;
            let step = window.bucket(at).get() - window.bucket(at - 1).get();
            assert_eq!(step, i64::from(turning.contains(name)), "{name} at {seconds}");
            assert_eq!(window.buckets_counted(at), window.bucket(at)..=window.bucket(at));
            assert_eq!(window.bucket(at), window.bucket(at + 24 * HOUR - 1));
        }
    }
    // 2000-01-01 is 30 years on.
    assert_eq!(Window::Month.bucket(946_684_800_000).get(), 360);
    assert_eq!(Window::Month.bucket(0).get(), 0);
    assert!(Window::Month.bucket(u64::MAX).get() > 0 && Window::Week.bucket(u64::MAX).get() > 0);
}

fn draw(counter: &str, amount: u64, cap: u64) -> Draw {
    let counter: CounterKey = counter.parse().expect("a counter");
    Draw {
        window: counter.window(),
        counter,
        amount: Amount::from_sat(amount),
        count: 1,
        max_amount: Some(Amount::from_sat(cap)),
        max_count: None,
    }
}

#[test]
fn a_rolling_window_lets_go_late_and_never_early() {
    // Buckets of an hour: what is drawn at 00:59 counts until 24:59 at least, and until 25:00 exactly.
    let drawn_at = 100 * 24 * HOUR + HOUR - 60_000;
    let mut usage = Usage::default();
    usage.record(&[draw("l/24h", 10, 10)], drawn_at);
    let after = |usage: &Usage, at: u64| usage.check(&[draw("l/24h", 1, 10)], at);
    let above = Denial::AboveVelocity {
        limit: "l".to_owned(),
        used: Amount::from_sat(10),
        amount: Amount::from_sat(1),
        max_amount: Amount::from_sat(10),
    };
    for at in [drawn_at, drawn_at + 24 * HOUR, drawn_at + 24 * HOUR + 59_999] {
        assert_eq!(after(&usage, at), Err(above.clone()), "{at}");
    }
    assert_eq!(after(&usage, drawn_at + 24 * HOUR + 60_000), Ok(()));
    // A check changes nothing, whatever time it is told.
    assert_eq!(after(&usage, drawn_at), Err(above));
}

#[test]
fn a_clock_that_goes_back_frees_nothing() {
    for window in ["1m", "24h", "day", "week", "month"] {
        let counter = format!("l/{window}");
        let mut usage = Usage::default();
        let at = 700 * 24 * HOUR;
        usage.record(&[draw(&counter, 10, 10)], at);
        for back in [1, HOUR, 31 * 24 * HOUR, at] {
            assert!(usage.check(&[draw(&counter, 1, 10)], at - back).is_err(), "{window} {back}");
        }
        // What is recorded then is recorded at the time that was seen.
        let mut usage = usage.clone();
        usage.record(&[draw(&counter, 10, 10)], 0);
        assert_eq!(usage.used(&counter.parse().expect("a counter"), at).amount, Amount::from_sat(20), "{window}");
    }
}

#[test]
fn counts_are_capped_and_later_attempts_are_no_payments() {
    let payment = Draw { max_amount: None, max_count: Some(2), ..draw("l/day", 5, 0) };
    let mut usage = Usage::default();
    for _ in 0..2 {
        usage.check(std::slice::from_ref(&payment), 0).expect("two are permitted");
        usage.record(std::slice::from_ref(&payment), 0);
    }
    let above = Denial::AboveCount { limit: "l".to_owned(), used: 2, max_count: 2 };
    assert_eq!(usage.check(std::slice::from_ref(&payment), 0), Err(above.clone()));
    assert_eq!(above.kind(), "above_count");
    // An attempt that draws more than the one before it.
    assert_eq!(payment.beyond(Amount::from_sat(5)), None);
    assert_eq!(payment.beyond(Amount::from_sat(6)), None);
    let more = payment.beyond(Amount::from_sat(3)).expect("2 more");
    assert_eq!((more.amount, more.count), (Amount::from_sat(2), 0));
    usage.check(&[more], 0).expect("it is the same payment");
}

#[test]
fn a_counter_that_is_drawn_on_twice_counts_both() {
    let twice = [draw("l/day", 6, 10), draw("l/day", 5, 10)];
    assert!(Usage::default().check(&twice, 0).is_err());
    Usage::default().check(&twice[..1], 0).expect("6 of 10");
}

/// The first instants of 800 months from 1970 on, counted by the lengths of months (the rule of the Gregorian calendar).
fn months() -> Vec<u64> {
    let mut starts = vec![0];
    for year in 1970_u64..2037 {
        let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
        for days in [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            starts.push(starts[starts.len() - 1] + days * 24 * HOUR);
        }
    }
    starts
}

/// When the oldest draw that must count was made, and the oldest that may: both the same but for rolling windows.
fn oldest(window: Window, at: u64, months: &[u64]) -> (u64, u64) {
    let day = 24 * HOUR;
    let start = match window {
        Window::Rolling(minutes) => {
            let length = u64::from(minutes.get()) * 60_000;
            return (at.saturating_sub(length), at.saturating_sub(length + length / 24));
        }
        Window::Day => at - at % day,
        // 1970-01-05 was a Monday.
        Window::Week => (at.checked_sub(4 * day)).map_or(0, |since| 4 * day + since - since % (7 * day)),
        Window::Month => *months.iter().rev().find(|start| **start <= at).expect("1970 and later"),
    };
    (start, start)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Against a list of everything that was ever drawn: never less than the window holds, never more than a 24th part
    /// of the window more, and never above the cap.
    #[test]
    fn usage_agrees_with_a_naive_list(
        window in prop::sample::select(vec!["1m", "7m", "24h", "168h", "day", "week", "month"]),
        start in 0_u64..60 * 365 * 24 * HOUR,
        steps in prop::collection::vec(((0_u64..10, 0_u32..10), any::<bool>(), 0_u64..40), 1..60),
    ) {
        let (cap, max_count) = (100, 7);
        let months = months();
        let counter: CounterKey = format!("l/{window}").parse().expect("a counter");
        let window = counter.window();
        let mut usage = Usage::default();
        let mut list: Vec<(u64, u64)> = Vec::new();
        let (mut clock, mut seen) = (start, 0);
        for (step, back, amount) in steps {
            // Steps of very different lengths, up to about 100 days; some backwards.
            let step = step.0 * 10_u64.pow(step.1);
            clock = if back { clock.saturating_sub(step) } else { clock + step };
            let now = seen.max(clock);
            let (must, may) = oldest(window, now, &months);
            let sum = |from: u64| list.iter().filter(|(at, _)| *at >= from).map(|(_, amount)| amount).sum::<u64>();
            let count = |from: u64| list.iter().filter(|(at, _)| *at >= from).count() as u64;
            let used = usage.used(&counter, clock);
            let amount_used = used.amount.to_u64().expect("small");
            prop_assert!((sum(must)..=sum(may)).contains(&amount_used), "{amount_used} at {now}");
            prop_assert!((count(must)..=count(may)).contains(&used.count));
            let draws = [Draw { max_count: Some(max_count), ..draw(&counter.to_string(), amount, cap) }];
            let fits = amount_used + amount <= cap && used.count < max_count;
            prop_assert_eq!(usage.check(&draws, clock).is_ok(), fits);
            if fits {
                usage.record(&draws, clock);
                list.push((now, amount));
                seen = now;
                prop_assert!(list.iter().filter(|(at, _)| *at >= must).map(|(_, a)| a).sum::<u64>() <= cap);
            }
        }
    }

    /// The buckets that count are in order, end in the present one, and move on only.
    #[test]
    fn buckets_move_on_only(minutes in 1_u32..366 * 24 * 60, at: u32, later: u32) {
        let rolling = Window::Rolling(Minutes::new(minutes).expect("in range"));
        for window in [rolling, Window::Day, Window::Week, Window::Month] {
            let at = u64::from(at) * 1000;
            let (one, two) = (window.buckets_counted(at), window.buckets_counted(at + u64::from(later)));
            prop_assert!(one.start() <= one.end() && *one.end() == window.bucket(at));
            prop_assert!(one.start() <= two.start() && one.end() <= two.end());
            let count = |range: &std::ops::RangeInclusive<BucketId>| range.end().get() - range.start().get() + 1;
            prop_assert!(count(&one) <= 25);
        }
    }
}
