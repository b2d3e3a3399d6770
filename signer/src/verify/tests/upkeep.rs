//! What pays nobody: cancelling transactions, by the client's own words, and a wallet's own upkeep.

use chains::chain::Replacement;
use chains::ethereum::{BasisPoints, Replacing};

use super::*;

fn intent_of(intent: &Value) -> Intent {
    serde_json::from_value(intent.clone()).expect("an intent")
}

/// An honest gateway's cancelling transaction for a payment of Ether or a token.
fn cancelling(intent: &Value) -> Vec<u8> {
    let account = account("eth");
    let chain = Ethereum::new(31337);
    let payment = chain.decode_unsigned(&built(intent)).expect("a payment");
    let state =
        chains::ethereum::State { replacing: Some(Replacing { bump: BasisPoints::new(1_250) }), ..ethereum_state() };
    let cancel = chain
        .replace(&intent_of(intent), &account, &[payment], Replacement::Cancel, &state)
        .expect("it can be replaced");
    chain.encode_unsigned(&cancel)
}

/// `id` asks for payment `tx` to be cancelled.
fn cancel_by(id: &str, seed: u8, tx: u128) -> SignedRequest {
    signed_call(id, seed, "tx_cancel", &json!({"tx_id": Uuid::from_u128(tx)}))
}

fn signed_call(id: &str, seed: u8, method: &str, params: &Value) -> SignedRequest {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    SignedRequest::sign(&key(seed), &id.parse().expect("a name"), "/", "jti-2", 1_700_000_000, 30, body.into_bytes())
}

fn with_cancel(intent: &Value, unsigned: Vec<u8>, cancel: SignedRequest) -> SigningRequest {
    let mut request = request(intent, unsigned);
    request.evidence.cancel = Some(cancel);
    request
}

#[test]
fn a_payment_is_cancelled_by_its_initiator_or_an_operator() {
    let intent = pays("eth", "native", EVM_PAYEE, "1000");
    let unsigned = cancelling(&intent);
    for (id, seed) in [("trader", 1), ("operator", 3)] {
        let judged =
            guard().judge(&with_cancel(&intent, unsigned.clone(), cancel_by(id, seed, 1)), |_| NOW).expect("it may");
        let payment = guard().judge(&request(&intent, built(&intent)), |_| NOW).expect("it may");
        assert_eq!(judged.uses.slots, payment.uses.slots, "it excludes the payment");
        assert_eq!(judged.intent, payment.intent);
        assert_ne!(judged.payloads, payment.payloads);
    }
    // Nothing of the client's own words makes those bytes: they don't pay anybody.
    let refusal = refused(&request(&intent, unsigned));
    assert_eq!(refusal, Refusal::Mismatch(Mismatch::Transfers));
}

#[test]
fn a_cancel_is_for_the_payment_that_it_names_by_one_who_may() {
    let intent = pays("eth", "native", EVM_PAYEE, "1000");
    let judge = |cancel| refused(&with_cancel(&intent, cancelling(&intent), cancel));
    let (named, tx) = (Uuid::from_u128(2), Uuid::from_u128(1));
    assert_eq!(judge(cancel_by("trader", 1, 2)), Refusal::OtherCancel { named, tx });
    let approver = Refusal::CancelRole { credential: "approver".parse().expect("a name"), role: Role::Approver };
    assert_eq!(judge(cancel_by("approver", 2, 1)), approver);
    assert!(matches!(judge(cancel_by("trader", 9, 1)), Refusal::Auth(AuthError::Signature(_))));
    assert!(matches!(judge(cancel_by("stranger", 9, 1)), Refusal::Auth(AuthError::UnknownCredential(_))));
    // Another call is no request to cancel, nor is one with something more in it.
    let other = signed_call("trader", 1, "tx_get", &json!({"tx_id": tx}));
    assert!(matches!(judge(other), Refusal::Body(BodyError::Method { .. })));
    for params in [json!({}), json!({"tx_id": tx, "to": EVM_OTHER}), json!([tx]), json!({"tx_id": "1"})] {
        let refusal = judge(signed_call("trader", 1, "tx_cancel", &params));
        assert!(matches!(refusal, Refusal::Body(BodyError::Params(_))), "{params}: {refusal}");
    }
    let mut swapped = cancel_by("trader", 1, 2);
    swapped.body = cancel_by("trader", 1, 1).body;
    assert!(matches!(judge(swapped), Refusal::Auth(AuthError::BodyHash(_))));
}

#[test]
fn a_cancelling_transaction_pays_nobody_and_stays_below_the_caps() {
    let intent = pays("eth", "native", EVM_PAYEE, "1000");
    let cancel = || cancel_by("trader", 1, 1);
    let judge = |unsigned| refused(&with_cancel(&intent, unsigned, cancel()));
    assert_eq!(judge(built(&intent)), Refusal::Mismatch(Mismatch::Transfers), "the payment itself");
    let other = pays("eth", "native", EVM_OTHER, "1");
    assert_eq!(judge(built(&other)), Refusal::Mismatch(Mismatch::Transfers), "another payment");
    let approve = calls(TOKEN, &approve_data("5"), "0");
    assert!(matches!(judge(built(&approve)), Refusal::Mismatch(_)), "a call");

    // The intent's cap holds for every attempt.
    let mut capped = intent.clone();
    capped["max_fee"] = json!("1");
    let refusal = refused(&with_cancel(&capped, cancelling(&intent), cancel()));
    assert!(matches!(refusal, Refusal::FeeAboveCap { cap, .. } if cap == Amount::from_wei(1)), "{refusal}");
    // And so do the policy's, whomever its rules are for.
    let deny =
        |config| guard_with(config).judge(&with_cancel(&intent, cancelling(&intent), cancel()), |_| NOW).map(|_| ());
    assert!(matches!(deny(json!({"rules": []})), Err(Refusal::Denied(Denial::NoRule { .. }))));
    let dear = json!([{"id": "a", "wallets": ["eth"], "addresses": [EVM_OTHER], "max_fee": "1"}]);
    assert!(matches!(deny(json!({"rules": dear})), Err(Refusal::Denied(Denial::AboveFeeLimit { .. }))));
    let cheap = json!([{"id": "a", "wallets": ["eth"], "addresses": [EVM_OTHER]}]);
    assert_eq!(deny(json!({"rules": cheap})), Ok(()));
    let own = account("eth").address().to_string();
    let denied = json!({"denied_addresses": [own], "rules": rules()});
    assert!(matches!(deny(denied), Err(Refusal::Denied(Denial::DeniedAddress { .. }))));
}

/// On Bitcoin a child that pays for its parent looks like a payment back to the wallet: what makes it one is what it spends.
#[test]
fn an_acceleration_spends_an_output_of_the_parent_that_the_client_names() {
    let account = account("btc");
    let chain = Bitcoin::new(BitcoinNetwork::Regtest);
    let parent = pays("btc", "native", BTC_PAYEE, "20000");
    let back = {
        // A payment whose payee is cut out leaves inputs and change: nothing but the wallet's own.
        let unsigned = chain.decode_unsigned(&built(&parent)).expect("a payment");
        let cancel =
            chain.replace(&intent_of(&parent), &account, &[unsigned], Replacement::Cancel, &replacing(&account));
        chain.encode_unsigned(&cancel.expect("it can be replaced"))
    };
    let spent = bitcoin_state(&account).utxos.first().expect("an output").outpoint().txid.to_string();
    let wants = |parent: &str| json!({"wallet": "btc", "action": {"kind": "accelerate", "parent": parent}});
    guard().judge(&request(&wants(&spent), back.clone()), |_| NOW).expect("it spends the parent's output");
    let stranger = refused(&request(&wants(&"0".repeat(64)), back));
    assert_eq!(stranger, Refusal::Mismatch(Mismatch::Upkeep));
    // A payment is none, whatever it spends.
    assert_eq!(refused(&request(&wants(&spent), built(&parent))), Refusal::Mismatch(Mismatch::Transfers));
}

fn replacing(account: &Account) -> chains::bitcoin::State {
    let replaced = chains::bitcoin::Replaced {
        incremental: FeeRate::from_sat_per_vb(1).expect("a rate"),
        fees: bitcoin::Amount::from_sat(500),
        rate: 2_000,
        count: 1,
        own_descendants: false,
    };
    chains::bitcoin::State { waiting: chains::bitcoin::Waiting::Replaced(replaced), ..bitcoin_state(account) }
}

/// Whom no rule of the wallet is for, asks for no upkeep of it; a payment that was allowed is cancelled all the same.
#[test]
fn upkeep_is_for_whom_a_rule_of_the_wallet_is() {
    let open = json!({"wallet": "sol", "action": {"kind": "open_nonce", "index": 3}});
    let (chain, account) = (Solana::new(Cluster::Localnet), account("sol"));
    let state = chains::solana::State {
        nonce_rent: Some(Lamports::new(1_447_680)),
        destination: Destination { lamports: Lamports::new(0), kind: DestinationKind::Absent },
        ..solana_state()
    };
    let bytes = chain.encode_unsigned(&chain.build(&intent_of(&open), &account, &state).expect("possible"));
    let judge = |wallet: &str, initiators: Value, request: &SigningRequest| {
        let rule = json!({"id": "a", "wallets": [wallet], "addresses": [], "initiators": initiators});
        guard_with(json!({"rules": [rule]})).judge(request, |_| NOW).map(drop)
    };
    let request = request(&open, bytes);
    assert_eq!(judge("sol", json!(["trader"]), &request), Ok(()));
    assert_eq!(judge("sol", json!([]), &request), Ok(()), "anybody");
    let refused = judge("sol", json!(["somebody-else"]), &request);
    assert!(matches!(refused, Err(Refusal::Denied(Denial::NoRuleNow { .. }))), "{refused:?}");

    let payment = pays("eth", "native", EVM_PAYEE, "1000");
    let cancel = with_cancel(&payment, cancelling(&payment), cancel_by("trader", 1, 1));
    assert_eq!(judge("eth", json!(["somebody-else"]), &cancel), Ok(()));
}

/// A nonce is opened by whom the client asked for, and only that one.
#[test]
fn a_nonce_is_opened_as_it_was_asked_for() {
    let open = |index: u8| json!({"wallet": "sol", "action": {"kind": "open_nonce", "index": index}});
    let bytes = |index: u8| {
        let (chain, account) = (Solana::new(Cluster::Localnet), account("sol"));
        let state = chains::solana::State {
            nonce_rent: Some(Lamports::new(1_447_680)),
            destination: Destination { lamports: Lamports::new(0), kind: DestinationKind::Absent },
            ..solana_state()
        };
        chain.encode_unsigned(&chain.build(&intent_of(&open(index)), &account, &state).expect("possible"))
    };
    guard().judge(&request(&open(3), bytes(3)), |_| NOW).expect("it was asked for");
    assert_eq!(refused(&request(&open(2), bytes(3))), Refusal::Mismatch(Mismatch::Upkeep));
    let pay = pays("sol", "native", SOL_PAYEE, "1000000");
    assert_eq!(refused(&request(&pay, bytes(3))), Refusal::Mismatch(Mismatch::Transfers));
    // Nor does it keep a payment off the chain.
    let refusal = refused(&with_cancel(&pay, bytes(3), cancel_by("trader", 1, 1)));
    assert_eq!(refusal, Refusal::Mismatch(Mismatch::Upkeep));
}

/// A request that was never paid can't be presented for ever. A payment that was agreed to in time is judged as of then, and one that
/// gets too old can still be cancelled.
#[test]
fn a_request_gets_too_old() {
    const ASKED: u64 = NOW / 1_000;
    let intent = pays("eth", "native", EVM_PAYEE, "1000");
    let asked = request(&intent, built(&intent));
    let end = |hours: u64| (ASKED + hours * 3_600) * 1_000;
    let too_old = |hours: u32| Err(Refusal::Denied(Denial::RequestTooOld { asked_at: ASKED, hours }));
    let judge = |guard: &Guard, request: &SigningRequest, at: u64| guard.judge(request, |_| at).map(drop);
    let hasty = guard_with(json!({"rules": rules(), "request_lifetime_hours": 2}));
    for (guard, hours) in [(guard(), 720), (hasty, 2)] {
        assert_eq!(judge(&guard, &asked, end(hours.into())), Ok(()));
        assert_eq!(judge(&guard, &asked, end(hours.into()) + 1_000), too_old(hours));
        let cancel = with_cancel(&intent, cancelling(&intent), cancel_by("trader", 1, 1));
        assert_eq!(judge(&guard, &cancel, u64::MAX), Ok(()));
    }
}
