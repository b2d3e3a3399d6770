//! Calls of Solana's programs: exactly the instructions that were asked for, with exactly their accounts.

use super::*;

const PROGRAM: &str = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4";
const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";

fn instruction(program: &str, accounts: &[(&str, bool)], data: &str) -> Value {
    let accounts: Vec<Value> =
        accounts.iter().map(|(address, writable)| json!({"address": address, "writable": writable})).collect();
    json!({"program": program, "accounts": accounts, "data": data})
}

fn uses(instructions: &[Value]) -> Value {
    json!({"wallet": "sol", "action": {"kind": "call_program", "instructions": instructions}})
}

fn swap() -> Value {
    instruction(PROGRAM, &[(SOL_PAYEE, true), (SOL_OTHER, false)], "0x0102030405060708aa")
}

/// Every instruction of two programs may be used with any accounts, so that a refusal is never the policy's.
fn lenient() -> Guard {
    let mut rules = rules();
    let program =
        |address: &str, begins: &str| json!({"address": address, "discriminators": [begins], "other_accounts": true});
    rules.as_array_mut().expect("a list").push(json!({
        "id": "programs", "wallets": ["sol"],
        "programs": [program(PROGRAM, "0x01"), program(MINT, "0x01"), program(PROGRAM, "0x02")],
    }));
    guard_with(json!({"rules": rules}))
}

#[test]
fn instructions_are_signed_as_they_were_asked_for() {
    let memo = instruction(MEMO, &[], "0x6869");
    for intent in [uses(&[swap()]), uses(&[swap(), memo.clone()]), uses(&[memo])] {
        let request = request(&intent, built(&intent));
        let judged = lenient().judge(&request, |_| NOW).unwrap_or_else(|e| panic!("{intent}: {e}"));
        assert_eq!(judged.payloads.len(), 1);
    }
    let request = request(&uses(&[swap()]), built(&uses(&[swap()])));
    let refusal = guard().judge(&request, |_| NOW).expect_err("no rule names the program");
    assert!(matches!(refusal, Refusal::Denied(Denial::UnlistedProgram { .. })), "{refusal}");
}

#[test]
fn other_instructions_are_refused() {
    let memo = || instruction(MEMO, &[], "0x6869");
    let asked = uses(&[swap(), memo()]);
    let accounts = |accounts: &[(&str, bool)]| instruction(PROGRAM, accounts, "0x0102030405060708aa");
    let others = [
        ("another order", vec![memo(), swap()]),
        ("one less", vec![swap()]),
        ("one more", vec![swap(), memo(), memo()]),
        (
            "other data",
            vec![instruction(PROGRAM, &[(SOL_PAYEE, true), (SOL_OTHER, false)], "0x0102030405060708ab"), memo()],
        ),
        ("another memo", vec![swap(), instruction(MEMO, &[], "0x6868")]),
        (
            "another program",
            vec![instruction(MINT, &[(SOL_PAYEE, true), (SOL_OTHER, false)], "0x0102030405060708aa"), memo()],
        ),
        ("accounts in another order", vec![accounts(&[(SOL_OTHER, false), (SOL_PAYEE, true)]), memo()]),
        ("an account less", vec![accounts(&[(SOL_PAYEE, true)]), memo()]),
        ("an account more", vec![accounts(&[(SOL_PAYEE, true), (SOL_OTHER, false), (MINT, false)]), memo()]),
        ("more to be written", vec![accounts(&[(SOL_PAYEE, true), (SOL_OTHER, true)]), memo()]),
        ("less to be written", vec![accounts(&[(SOL_PAYEE, false), (SOL_OTHER, false)]), memo()]),
    ];
    for (what, instructions) in others {
        let request = request(&asked, built(&uses(&instructions)));
        let refusal = lenient().judge(&request, |_| NOW).expect_err(what);
        assert!(matches!(refusal, Refusal::Mismatch(Mismatch::Calls)), "{what}: {refusal}");
    }
}

#[test]
fn a_payment_carries_no_instructions() {
    // A memo says whose account an exchange credits: it is the client's to write.
    let system = instruction(
        "11111111111111111111111111111111",
        &[(&account("sol").address().to_string(), true), (SOL_PAYEE, true)],
        "0x02000000e803000000000000",
    );
    let both = built(&uses(&[system, instruction(MEMO, &[], "0x6869")]));
    let request = request(&pays("sol", "native", SOL_PAYEE, "1000"), both);
    let refusal = lenient().judge(&request, |_| NOW).expect_err("more than was asked for");
    assert!(matches!(refusal, Refusal::Mismatch(Mismatch::Calls)), "{refusal}");
    // Nor does a call serve as a payment, or on another chain.
    let paid = built(&pays("sol", "native", SOL_PAYEE, "1000"));
    let refusal = lenient().judge(&self::request(&uses(&[swap()]), paid), |_| NOW).expect_err("a payment");
    assert!(matches!(refusal, Refusal::Mismatch(Mismatch::Calls)), "{refusal}");
    let mut elsewhere = uses(&[swap()]);
    elsewhere["wallet"] = json!("eth");
    let paid = built(&pays("eth", "native", EVM_PAYEE, "1000"));
    let refusal = lenient().judge(&self::request(&elsewhere, paid), |_| NOW).expect_err("no programs there");
    assert!(matches!(refusal, Refusal::Mismatch(Mismatch::Family(_))), "{refusal}");
}
