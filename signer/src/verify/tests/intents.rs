//! What is signed is what a client asked for, and nothing else.

use super::*;

#[test]
fn what_was_asked_for_is_signed() {
    let guard = guard();
    for intent in intents() {
        let request = request(&intent, built(&intent));
        let judged = guard.judge(&request, |_| NOW).unwrap_or_else(|e| panic!("{intent}: {e}"));
        assert_eq!(judged.account, account(request.wallet.as_str()));
        // Two coins were needed; elsewhere there is one signature.
        let inputs = if request.wallet.as_str().starts_with("btc") { 2 } else { 1 };
        assert_eq!((judged.payloads.len(), judged.uses.slots.len()), (inputs, inputs), "{intent}");
        let expected = |message: &Message| match request.wallet.as_str() {
            "btc-taproot" => matches!(message, Message::Taproot(_)),
            "sol" => matches!(message, Message::Ed25519(_)),
            _ => matches!(message, Message::Ecdsa(_)),
        };
        assert!(judged.payloads.iter().all(|payload| expected(payload.message())), "{intent}");
        let slots: Vec<String> = judged.uses.slots.iter().map(ToString::to_string).collect();
        assert!(slots.iter().all(|slot| slot.starts_with(&format!("{}/", judged.account.network()))), "{slots:?}");
    }
}

#[test]
fn the_intent_is_the_clients_and_not_the_gateways() {
    let intent = &intents()[0];
    let first = request(intent, built(intent));
    let judged = |request: &SigningRequest| guard().judge(request, |_| NOW).expect("asked for").intent;
    // Another name, another lease, another nonce: still the one intent.
    let again = SigningRequest { tx: Uuid::from_u128(2), fence: 9, ..first.clone() };
    assert_eq!(judged(&first), judged(&again));
}

/// Every intent that differs from one in a single word, and can be built, against the transaction of that one.
#[test]
fn a_transaction_serves_no_other_intent() {
    let edits: Vec<(&str, &str)> = vec![
        ("/action/amount", "1001"),
        ("/action/amount", "999"),
        ("/action/amount", "1"),
        ("/action/value", "1001"),
        ("/action/value", "0"),
        ("/action/to", EVM_OTHER),
        ("/action/to", BTC_OTHER),
        ("/action/to", SOL_OTHER),
        ("/action/to", TOKEN),
        ("/action/asset", "native"),
        ("/action/contract", EVM_OTHER),
        ("/action/data", "0xd0e30db0"),
        ("/action/data", "0xd0e30db1"),
        ("/action/data", "0xd0e30db000"),
        ("/action/data", "0xd0e30d"),
        ("/action/data", "0x"),
    ];
    let mut tried = 0;
    for intent in intents() {
        let unsigned = built(&intent);
        for (part, word) in &edits {
            let mut other = intent.clone();
            match other.pointer_mut(part) {
                Some(found) if *found != *word => *found = json!(word),
                _ => continue,
            }
            let refusal = refused(&request(&other, unsigned.clone()));
            assert!(
                matches!(refusal, Refusal::Mismatch(_) | Refusal::Address(_)),
                "{part} = {word} of {intent}: {refusal}"
            );
            tried += 1;
        }
        // Another kind of action with the same outcome is another intent all the same.
        for other in intents().iter().filter(|other| **other != intent && other["wallet"] == intent["wallet"]) {
            let refusal = refused(&request(other, unsigned.clone()));
            assert!(matches!(refusal, Refusal::Mismatch(_)), "{other} for {intent}: {refusal}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn a_wallet_signs_for_itself_alone() {
    for (intent, other) in [(0, "eth-2"), (4, "btc-2"), (4, "btc-taproot"), (6, "sol-2"), (6, "btc"), (4, "eth")] {
        let intent = intents()[intent].clone();
        let unsigned = built(&intent);
        let mut others = intent.clone();
        others["wallet"] = json!(other);
        // The client asked another wallet to pay; the bytes are this one's.
        let refusal = refused(&request(&others, unsigned.clone()));
        assert!(matches!(refusal, Refusal::Decode(_)), "{other}: {refusal}");
        // The gateway says another wallet than the client.
        let request = SigningRequest { wallet: wallet(other), ..request(&intent, unsigned) };
        assert!(matches!(refused(&request), Refusal::OtherWallet { .. }), "{other}");
    }
    let intent = pays("nobody", "native", EVM_PAYEE, "1");
    assert_eq!(refused(&request(&intent, Vec::new())), Refusal::UnknownWallet(wallet("nobody")));
}

#[test]
fn only_an_initiator_asks() {
    let intent = &intents()[0];
    let good = request(intent, built(intent));
    let with = |request: SignedRequest| SigningRequest {
        evidence: Evidence { request, approvals: Vec::new(), cancel: None, release: None },
        ..good.clone()
    };
    for (id, seed, role) in [("approver", 2, Role::Approver), ("operator", 3, Role::Operator)] {
        let expected = Refusal::Role { credential: id.parse().expect("a name"), role };
        assert_eq!(refused(&with(signed_by(id, seed, intent))), expected);
    }
    let stranger = refused(&with(signed_by("stranger", 9, intent)));
    assert!(matches!(stranger, Refusal::Auth(AuthError::UnknownCredential(_))));
    let forged = refused(&with(signed_by("trader", 9, intent)));
    assert!(matches!(forged, Refusal::Auth(AuthError::Signature(_))));

    // The gateway swaps the body under the client's token.
    let mut swapped = good.clone();
    swapped.evidence.request.body = signed_by("trader", 1, &pays("eth", "native", EVM_OTHER, "1000")).body;
    assert!(matches!(refused(&swapped), Refusal::Auth(AuthError::BodyHash(_))));

    // A call of another method, signed by the trader, is no payment.
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tx_list","params":{}}"#.to_vec();
    let trader = "trader".parse().expect("a name");
    let listing = SignedRequest::sign(&key(1), &trader, "/", "jti", 1_700_000_000, 30, body);
    assert!(matches!(refused(&with(listing)), Refusal::Body(BodyError::Method { .. })));
    let batch = [b"[".as_slice(), &good.evidence.request.body, b"]"].concat();
    let batch = SignedRequest::sign(&key(1), &trader, "/", "jti", 1_700_000_000, 30, batch);
    assert!(matches!(refused(&with(batch)), Refusal::Body(BodyError::NotACall(_))));

    // Nobody of the roster approves.
    let approver: CredentialId = "approver".parse().expect("a name");
    let subject = Subject { intent: intent_of(&good), initiator: &trader, body: &good.evidence.request.body };
    let statement = Statement::about(&subject, Decision::Approve, 2_000_000_000);
    let approval = Approval::sign(approver.clone(), &statement, &key(9));
    let mut approved = good.clone();
    approved.evidence.approvals.push(approval);
    assert_eq!(refused(&approved), Refusal::Approval(ApprovalError::NotAnApprover(approver)));
}

#[test]
fn the_fee_stays_below_the_intents_cap() {
    for mut intent in intents() {
        let unsigned = built(&intent);
        let judge = |intent: &Value| guard().judge(&request(intent, unsigned.clone()), |_| NOW);
        // The highest cap that refuses tells the fee.
        intent["max_fee"] = json!("0");
        let Err(Refusal::FeeAboveCap { fee, cap }) = judge(&intent) else { panic!("{intent}") };
        assert_eq!(cap, Amount::ZERO);
        intent["max_fee"] = json!(fee);
        assert!(judge(&intent).is_ok(), "{intent}");
        let below = fee.checked_sub(Amount::from_sat(1)).expect("there is a fee");
        intent["max_fee"] = json!(below);
        assert_eq!(judge(&intent).expect_err("one unit too much"), Refusal::FeeAboveCap { fee, cap: below });
    }
}

#[test]
fn the_policy_is_asked_last_and_denies() {
    let intent = &intents()[0];
    let request = request(intent, built(intent));
    let deny = |config: Value| guard_with(config).judge(&request, |_| NOW).expect_err("it must be denied");
    assert!(matches!(deny(json!({"rules": []})), Refusal::Denied(Denial::NoRule { .. })));
    let denied = json!({"denied_addresses": [EVM_PAYEE], "rules": rules()});
    assert!(matches!(deny(denied), Refusal::Denied(Denial::DeniedAddress { .. })));
    let capped = json!([{"id": "a", "wallets": ["eth"], "addresses": [EVM_PAYEE], "max_amount": "999"}]);
    assert!(matches!(deny(json!({"rules": capped})), Refusal::Denied(Denial::AboveLimit { .. })));

    // What a call does beyond the call itself is the policy's to judge.
    let approve = calls(TOKEN, &approve_data("5"), "0");
    assert!(guard().judge(&super::tests::request(&approve, built(&approve)), |_| NOW).is_ok());
    let unlimited = calls(TOKEN, &approve_data(&"f".repeat(64)), "0");
    let refusal = refused(&super::tests::request(&unlimited, built(&unlimited)));
    assert!(matches!(refusal, Refusal::Denied(Denial::UnlimitedAllowance { .. })));
    let unlisted = calls(TOKEN, "0x00000001", "0");
    let refusal = refused(&super::tests::request(&unlisted, built(&unlisted)));
    assert!(matches!(refusal, Refusal::Denied(Denial::UnlistedContract { .. })));
}

/// An allowance is nothing that a transfer may bring along, whatever the adapter makes of the bytes.
#[test]
fn a_transfer_brings_nothing_along() {
    let intent = pays("eth", &format!("erc20:{TOKEN}"), EVM_PAYEE, "5");
    let account = account("eth");
    let chain = Ethereum::new(31337);
    let unsigned = chain.decode_unsigned(&built(&intent)).expect("decodable");
    let good = chain.effects(&account, &unsigned).expect("decodable");
    let intent: Intent = serde_json::from_value(intent).expect("an intent");
    assert_eq!(require_same(&intent, &account, &good, &BTreeSet::new()), Ok(()));

    let refused = |change: &dyn Fn(&mut Effects)| {
        let mut effects = good.clone();
        change(&mut effects);
        assert!(
            matches!(require_same(&intent, &account, &effects, &BTreeSet::new()), Err(Refusal::Mismatch(_))),
            "{effects:?}"
        );
    };
    let spender = UncheckedAddress::new(EVM_OTHER).require_network(account.network()).expect("an address");
    let allowance =
        chains::effects::Allowance { asset: Asset::Native, spender: spender.clone(), amount: Amount::from_sat(1) };
    refused(&|effects| effects.allowances.push(allowance.clone()));
    refused(&|effects| effects.transfers.push(effects.transfers[0].clone()));
    refused(&|effects| effects.transfers.clear());
    refused(&|effects| effects.transfers[0].from = spender.clone());
    refused(&|effects| effects.transfers[0].to = spender.clone());
    refused(&|effects| effects.transfers[0].asset = Asset::Native);
    refused(&|effects| effects.transfers[0].amount = Amount::from_sat(6));
    refused(&|effects| effects.calls.push(effects.calls[0].clone()));
    refused(&|effects| effects.calls.clear());
    refused(&|effects| effects.calls[0].value = Amount::from_sat(1));
    refused(&|effects| effects.calls[0].selector = [1, 2, 3, 4].into());
    refused(&|effects| effects.calls[0].arguments = vec![0; 64].into());
    refused(&|effects| {
        let mut arguments = effects.calls[0].arguments.to_vec();
        arguments.push(0);
        effects.calls[0].arguments = arguments.into();
    });
}
