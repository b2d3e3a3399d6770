//! Rules for programs of Solana, and rules that files or code stand behind.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{AccountUse, Allowance, Call, Effects, Proceeds, ProgramCall, TableRead};
use chains::network::Network;
use chains::solana::{TokenProgram, associated_token_account, table_digest};
use serde_json::{Value, json};
use signer::policy::code::{CodeHash, code_demands};
use signer::policy::prove::{Act, Among, Question};
use signer::policy::trace::{Input, Wanted};
use signer::policy::{
    Circumstances, Denial, Discriminator, Policy, PolicyConfig, PolicyError, Verdict, diff, evaluate, evaluate_cancel,
    evaluate_traced, evaluate_upkeep, prove,
};
use signer::roster::CredentialId;

const PROGRAM: &str = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4";
const OTHER_PROGRAM: &str = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc";
const POOL: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
const OTHER: &str = "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi";
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const SWAP: [u8; 8] = [0xe5, 0x17, 0xcb, 0x97, 0x7a, 0xe3, 0xad, 0x2a];

fn wallets() -> BTreeMap<WalletId, Network> {
    [("sol", "solana:devnet"), ("eth", "ethereum:1")]
        .map(|(wallet, network)| (wallet.parse().expect("a name"), network.parse().expect("a network")))
        .into()
}

fn account(wallet: &str) -> Account {
    let wallet: WalletId = wallet.parse().expect("a name");
    let key = match wallets()[&wallet] {
        Network::Solana(_) => PublicKey::Ed25519([7; 32]),
        _ => PublicKey::Ecdsa(
            "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().expect("a point"),
        ),
    };
    let network = wallets()[&wallet];
    Account::new(wallet, network, "key".parse().expect("a name"), KeyPath::root(), key).expect("an account")
}

fn asker() -> CredentialId {
    "treasurer".parse().expect("a name")
}

fn compile(rules: Value) -> Result<Policy, PolicyError> {
    let config: PolicyConfig = serde_json::from_value(json!({ "rules": rules })).expect("the policy's form");
    config.compile(&wallets())
}

fn policy(rules: Value) -> Policy {
    compile(rules).expect("a sound policy")
}

fn judge(policy: &Policy, effects: &Effects) -> Verdict {
    evaluate(policy, &account("sol"), &Circumstances { initiator: &asker(), at: 0 }, effects)
}

fn denial(policy: &Policy, effects: &Effects) -> Denial {
    match judge(policy, effects) {
        Verdict::Deny { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn key(text: &str) -> AccountUse {
    match UncheckedAddress::new(text).require_network(account("sol").network()) {
        Ok(Address::Solana(address)) => AccountUse { address, writable: true },
        other => panic!("{other:?}"),
    }
}

fn own() -> AccountUse {
    key(&account("sol").address().to_string())
}

fn own_token() -> AccountUse {
    let (own, mint) = (own().address, key(MINT).address);
    AccountUse { address: associated_token_account(&own, &mint, TokenProgram::Token), writable: true }
}

fn nothing() -> Effects {
    Effects { max_fee: Amount::from_lamports(5_000), ..Effects::default() }
}

fn uses(program: &str, data: &[u8], accounts: &[AccountUse]) -> Effects {
    let call = ProgramCall {
        program: key(program).address,
        accounts: accounts.to_vec(),
        data: data.to_vec().into(),
        explained: false,
    };
    Effects { programs: vec![call], ..nothing() }
}

/// The wallet, its token account, and the pool.
fn swap() -> Effects {
    uses(PROGRAM, &[&SWAP[..], &[1, 2, 3]].concat(), &[own(), own_token(), key(POOL)])
}

fn rule(programs: Value) -> Value {
    json!([{ "id": "swap", "wallets": ["sol"], "programs": programs }])
}

fn program(accounts: Value, others: bool) -> Value {
    json!([{
        "address": PROGRAM, "discriminators": ["0xe517cb977ae3ad2a"], "accounts": accounts, "other_accounts": others,
    }])
}

fn all_accounts() -> Value {
    json!([{ "at": 0, "wallet": true }, { "at": 1, "wallet_token": MINT }, { "at": 2, "one_of": [POOL] }])
}

#[test]
fn an_instruction_passes_only_by_program_discriminator_and_accounts() {
    let policy = policy(rule(program(all_accounts(), false)));
    assert!(matches!(judge(&policy, &swap()), Verdict::Allow { rule, .. } if rule == "swap"));

    let elsewhere = uses(OTHER_PROGRAM, &SWAP, &[own(), own_token(), key(POOL)]);
    assert_eq!(denial(&policy, &elsewhere).kind(), "unlisted_program");
    let mut data = SWAP;
    data[7] ^= 1;
    let other = uses(PROGRAM, &data, &[own(), own_token(), key(POOL)]);
    assert_eq!(denial(&policy, &other).kind(), "unlisted_program");
    assert_eq!(denial(&policy, &uses(PROGRAM, &SWAP[..7], &[])).kind(), "unlisted_program");
    for accounts in [
        vec![key(OTHER), own_token(), key(POOL)],
        vec![own(), key(OTHER), key(POOL)],
        vec![own(), own_token(), key(OTHER)],
        vec![own(), own_token()],
        vec![own(), own_token(), key(POOL), key(OTHER)],
    ] {
        let found = uses(PROGRAM, &SWAP, &accounts);
        assert_eq!(denial(&policy, &found).kind(), "unlisted_accounts", "{accounts:?}");
    }
    let two = Effects { programs: [swap().programs, elsewhere.programs].concat(), ..nothing() };
    assert_eq!(denial(&policy, &two).kind(), "unlisted_program", "each instruction for itself");
    assert_eq!(denial(&self::policy(rule(json!([]))), &swap()).kind(), "unlisted_program");
    let (asker, sol) = (asker(), account("sol"));
    let circumstances = Circumstances { initiator: &asker, at: 0 };
    assert!(evaluate_upkeep(&policy, &sol, &circumstances, &swap()).is_denial(), "it is no upkeep");
    assert!(evaluate_cancel(&policy, &sol, &swap()).is_denial(), "nor a cancel");
}

#[test]
fn a_rule_may_leave_accounts_open() {
    let open = policy(rule(program(json!([{ "at": 0, "wallet": true }]), true)));
    assert!(!judge(&open, &swap()).is_denial());
    assert!(!judge(&open, &uses(PROGRAM, &SWAP, &[own()])).is_denial());
    assert!(judge(&open, &uses(PROGRAM, &SWAP, &[])).is_denial(), "the wallet isn't there");
}

#[test]
fn a_denying_rule_beats_it() {
    let mut rules = rule(program(all_accounts(), false));
    let deny = |programs: Value, addresses: Value| {
        let mut rules = rules.clone();
        let denying = json!({
            "id": "no", "effect": "deny", "wallets": ["sol"], "programs": programs, "addresses": addresses,
        });
        rules.as_array_mut().expect("a list").push(denying);
        policy(rules)
    };
    let any = json!([{ "address": PROGRAM, "discriminators": ["0xe5"], "other_accounts": true }]);
    assert_eq!(denial(&deny(any, json!([])), &swap()).kind(), "denied_by_rule");
    let others = json!([{ "address": OTHER_PROGRAM, "discriminators": ["0xe5"], "other_accounts": true }]);
    assert!(!judge(&deny(others, json!([])), &swap()).is_denial());
    assert_eq!(denial(&deny(json!([]), json!([PROGRAM])), &swap()).kind(), "denied_by_rule", "by its address");
    rules[0]["max_fee"] = json!("4999");
    assert_eq!(denial(&policy(rules), &swap()).kind(), "above_fee_limit");
}

#[test]
fn a_denying_rule_minds_no_accounts_beside_its_own() {
    let mut rules = rule(program(json!([{ "at": 0, "wallet": true }]), true));
    let denying = json!({
        "id": "no", "effect": "deny", "wallets": ["sol"],
        "programs": [{ "address": PROGRAM, "discriminators": ["0xe5"], "accounts": [{ "at": 2, "one_of": [POOL] }] }],
    });
    rules.as_array_mut().expect("a list").push(denying);
    let named = policy(rules.clone());
    for more in [vec![], vec![key(OTHER)], vec![own(); 3]] {
        let accounts = [vec![own(), own_token(), key(POOL)], more].concat();
        assert_eq!(denial(&named, &uses(PROGRAM, &SWAP, &accounts)).kind(), "denied_by_rule", "{accounts:?}");
    }
    for other in [vec![own()], vec![own(), own_token(), key(OTHER)], vec![own(), key(POOL), own_token()]] {
        assert!(!judge(&named, &uses(PROGRAM, &SWAP, &other)).is_denial(), "{other:?}");
    }
    // Without accounts it denies the instruction with any.
    rules[1]["programs"][0]["accounts"] = json!([]);
    let whole = policy(rules);
    assert_eq!(denial(&whole, &swap()).kind(), "denied_by_rule");
    let question = Question { acts: [Act::Call].into(), ..Question::default() };
    assert_eq!(prove(&whole, &[account("sol")], &question), Ok(None));
    assert!(prove(&named, &[account("sol")], &question).expect("an answer").is_some());
}

#[test]
fn what_is_explained_needs_no_rule_for_the_program() {
    let mut memo = uses(OTHER_PROGRAM, b"text", &[]);
    memo.programs[0].explained = true;
    let policy = policy(rule(program(all_accounts(), false)));
    assert!(!judge(&policy, &memo).is_denial(), "its fee is within the rule's");
    let to = UncheckedAddress::new(OTHER).require_network(account("sol").network()).expect("an address");
    let pays_out = Effects { proceeds: vec![Proceeds { to }], ..swap() };
    assert_eq!(denial(&policy, &pays_out).kind(), "unlisted_recipient");
}

#[test]
fn all_of_an_spl_token_is_an_unlimited_allowance() {
    let asset: Asset = format!("spl:{MINT}").parse().expect("an asset");
    let policy = policy(json!([{
        "id": "approve", "wallets": ["sol"], "assets": [asset.to_string()], "addresses": [POOL],
    }]));
    let grants = |amount: u64| Effects {
        allowances: vec![Allowance {
            asset,
            spender: Address::Solana(key(POOL).address),
            amount: Amount::from_lamports(amount),
        }],
        ..nothing()
    };
    assert!(!judge(&policy, &grants(u64::MAX - 1)).is_denial());
    assert_eq!(denial(&policy, &grants(u64::MAX)).kind(), "unlimited_allowance");
    let asks = Question { min_amount: Some(Amount::from_lamports(u64::MAX)), ..Question::default() };
    assert_eq!(prove(&policy, &[account("sol")], &Question { acts: [Act::Approve].into(), ..asks }), Ok(None));
}

#[test]
fn the_trace_says_what_would_fit() {
    let policy = policy(rule(program(all_accounts(), false)));
    let wanted = |effects: &Effects| {
        let trace = evaluate_traced(&policy, &account("sol"), &Circumstances { initiator: &asker(), at: 0 }, effects);
        assert!(trace.nearest.is_none(), "another call is another thing");
        let miss = trace.rules[0].misses[0].clone();
        assert!(matches!(miss.input, Input::Program { index: 0, .. }));
        miss.wanted
    };
    assert!(
        matches!(wanted(&uses(OTHER_PROGRAM, &SWAP, &[])), Wanted::OneOfPrograms { programs } if programs.len() == 1)
    );
    assert!(matches!(wanted(&uses(PROGRAM, &[1], &[])), Wanted::OneOfDiscriminators { .. }));
    assert_eq!(wanted(&uses(PROGRAM, &SWAP, &[])), Wanted::OtherAccounts);
}

#[test]
fn prove_finds_calls_of_programs() {
    let sol = account("sol");
    let question = Question { acts: [Act::Call].into(), ..Question::default() };
    let allowing = policy(rule(program(all_accounts(), true)));
    let witness = prove(&allowing, std::slice::from_ref(&sol), &question).expect("an answer").expect("a witness");
    assert!(!judge(&allowing, &witness.effects).is_denial());

    let mut rules = rule(program(all_accounts(), true));
    let denying = json!({
        "id": "no", "effect": "deny", "wallets": ["sol"],
        "programs": [{ "address": PROGRAM, "discriminators": ["0xe517"], "other_accounts": true }],
    });
    rules.as_array_mut().expect("a list").push(denying.clone());
    assert_eq!(prove(&policy(rules.clone()), std::slice::from_ref(&sol), &question), Ok(None));
    // A denying rule for a longer discriminator, or for one account, leaves the others.
    rules[1]["programs"][0]["discriminators"] = json!(["0xe517cb977ae3ad2a00"]);
    assert!(prove(&policy(rules.clone()), std::slice::from_ref(&sol), &question).expect("an answer").is_some());
    rules[1]["programs"][0] = json!({
        "address": PROGRAM, "discriminators": ["0xe5"], "accounts": [{ "at": 3, "one_of": [OTHER] }],
        "other_accounts": true,
    });
    assert!(prove(&policy(rules), std::slice::from_ref(&sol), &question).expect("an answer").is_some());
    let elsewhere = Question { contracts: Among::OneOf(vec![UncheckedAddress::new(OTHER_PROGRAM)]), ..question };
    assert_eq!(prove(&allowing, &[sol], &elsewhere), Ok(None));
}

#[test]
fn rules_that_can_not_be_meant() {
    for programs in [
        json!([{ "address": PROGRAM }]),
        json!([{ "address": "0x52908400098527886E0F7030069857D2E4169EE7", "discriminators": ["0x01"] }]),
        program(json!([{ "at": 256, "wallet": true }]), false),
        program(json!([{ "at": 0 }]), false),
        program(json!([{ "at": 0, "wallet": true, "one_of": [POOL] }]), false),
        program(json!([{ "at": 0, "one_of": ["nobody"] }]), false),
        program(json!([{ "at": 0, "wallet_token": "nothing" }]), false),
        json!([{ "address": PROGRAM, "idl_file": "jupiter.json", "instructions": ["route"] }]),
    ] {
        assert!(compile(rule(programs.clone())).is_err(), "{programs}");
    }
    let on_ethereum = json!([{ "id": "x", "wallets": ["eth"], "programs": program(json!([]), true) }]);
    assert!(matches!(compile(on_ethereum), Err(PolicyError::Programs { .. })));
    for text in ["", "0x", "0x1", "e5", "0xzz", "0x0102030405060708090a0b0c0d0e0f1011"] {
        assert!(text.parse::<Discriminator>().is_err(), "{text}");
    }
}

/// Anchor's documentation gives `sha256("global:initialize")[..8]`; the swap's is that of Jupiter's deployed IDL.
#[test]
fn discriminators_of_anchor() {
    assert_eq!(Discriminator::of_anchor("initialize").to_string(), "0xafaf6d1f0d989bed");
    assert_eq!(Discriminator::of_anchor("route").to_string(), "0xe517cb977ae3ad2a");
    assert_eq!(Discriminator::of_anchor("sharedAccountsRoute"), Discriminator::of_anchor("shared_accounts_route"));
    let new = r#"{"instructions":[{"name":"route","discriminator":[1,2,3]},{"name":"other","accounts":[]}]}"#;
    assert_eq!(Discriminator::of_idl(new, "route").map(|found| found.to_string()), Ok("0x010203".to_owned()));
    assert_eq!(Discriminator::of_idl(new, "other"), Ok(Discriminator::of_anchor("other")));
    for (idl, name) in [
        (new, "third"),
        ("{}", "route"),
        ("no JSON", "route"),
        (r#"{"instructions":[{"name":"a"},{"name":"a"}]}"#, "a"),
        (r#"{"instructions":[{"name":"a","discriminator":[]}]}"#, "a"),
        (r#"{"instructions":[{"name":"a","discriminator":[256]}]}"#, "a"),
    ] {
        assert!(Discriminator::of_idl(idl, name).is_err(), "{idl}");
    }
}

#[test]
fn files_are_read_once_and_leave_no_trace() {
    let text = json!({ "rules": [
        { "id": "swap", "wallets": ["sol"], "programs": [{
            "address": PROGRAM, "idl_file": "jupiter.json", "instructions": ["route"], "other_accounts": true,
        }] },
        { "id": "deposit", "wallets": ["eth"], "contracts": [{
            "address": "0xde709f2102306220921060314715629080e2fb77",
            "functions": [{ "abi_file": "vault.json", "name": "deposit", "arguments": [{ "at": "1", "wallet": true }] }],
        }] },
    ] });
    let abi = json!([{ "type": "function", "name": "deposit", "stateMutability": "nonpayable", "outputs": [],
        "inputs": [{ "name": "assets", "type": "uint256" }, { "name": "receiver", "type": "address" }] }]);
    let read = |files: &[(&str, String)], config: &mut PolicyConfig| {
        config.read_files(|name| {
            let found = files.iter().find(|(file, _)| *file == name);
            found.map(|(_, text)| text.clone()).ok_or_else(|| format!("{name}: not there"))
        })
    };
    let idl = ("jupiter.json", r#"{"instructions":[{"name":"route"}]}"#.to_owned());
    let mut config: PolicyConfig = serde_json::from_value(text.clone()).expect("the policy's form");
    assert!(config.compile(&wallets()).is_err(), "the files aren't read");
    for vault in [abi.to_string(), json!({ "contractName": "Vault", "abi": abi }).to_string()] {
        let mut config: PolicyConfig = serde_json::from_value(text.clone()).expect("the policy's form");
        read(&[idl.clone(), ("vault.json", vault)], &mut config).expect("both are there");
        let written = serde_json::to_value(&config).expect("a JSON");
        assert_eq!(written["rules"][0]["programs"][0]["discriminators"], json!(["0xe517cb977ae3ad2a"]));
        assert_eq!(written["rules"][1]["contracts"][0]["functions"][0]["signature"], "deposit(uint256,address)");
        assert!(!written.to_string().contains("_file"));
        assert!(!judge(&config.compile(&wallets()).expect("sound"), &swap()).is_denial());
    }
    assert!(read(std::slice::from_ref(&idl), &mut config).is_err(), "a file is missing");
    let twice = json!([abi[0], { "type": "function", "name": "deposit", "inputs": [], "outputs": [],
        "stateMutability": "view" }]);
    for vault in [twice.to_string(), "[]".to_owned(), "{}".to_owned()] {
        let mut config: PolicyConfig = serde_json::from_value(text.clone()).expect("the policy's form");
        assert!(read(&[idl.clone(), ("vault.json", vault)], &mut config).is_err());
    }
}

#[test]
fn a_rule_may_want_a_contract_s_code() {
    let eth = account("eth");
    let (one, two) = (format!("0x{}", "11".repeat(32)), format!("0x{}", "22".repeat(32)));
    let contract = "0xde709f2102306220921060314715629080e2fb77";
    let with = |code: &[Option<&str>]| {
        let contracts: Vec<Value> = code
            .iter()
            .map(|code| match code {
                Some(code) => json!({ "address": contract, "selectors": ["0x01020304"], "code_hash": code }),
                None => json!({ "address": contract, "selectors": ["0x01020304"] }),
            })
            .collect();
        policy(json!([{ "id": "vault", "wallets": ["eth"], "contracts": contracts }]))
    };
    let (Address::Ethereum(caller), Ok(Address::Ethereum(to))) =
        (eth.address(), UncheckedAddress::new(contract).require_network(eth.network()))
    else {
        panic!("addresses of Ethereum")
    };
    let call = Call {
        caller: *caller,
        depth: 0,
        contract: to,
        selector: [1, 2, 3, 4].into(),
        arguments: Default::default(),
        value: Amount::ZERO,
    };
    let effects = Effects { calls: vec![call], ..nothing() };
    let demanded = |policy: &Policy| -> Vec<Vec<CodeHash>> {
        code_demands(policy, &eth, &effects).into_iter().map(|demand| demand.code.into_iter().collect()).collect()
    };
    let hash = |text: &str| text.parse::<CodeHash>().expect("a hash");
    assert_eq!(demanded(&with(&[None])), Vec::<Vec<CodeHash>>::new());
    assert_eq!(demanded(&with(&[Some(&one)])), [vec![hash(&one)]]);
    assert_eq!(demanded(&with(&[Some(&one), Some(&two)])), [vec![hash(&one), hash(&two)]]);
    assert_eq!(demanded(&with(&[Some(&one), None])), Vec::<Vec<CodeHash>>::new(), "a form wants nothing");
    assert_ne!(with(&[Some(&one)]).digest(), with(&[Some(&two)]).digest());
    assert!("0x11".parse::<CodeHash>().is_err());
}

fn with_tables(tables: Value, wallets: &BTreeMap<WalletId, Network>) -> Result<Policy, PolicyError> {
    let rules = rule(program(all_accounts(), false));
    let config: PolicyConfig =
        serde_json::from_value(json!({ "rules": rules, "lookup_tables": tables })).expect("the policy's form");
    config.compile(wallets)
}

fn table(more: Value) -> Value {
    let mut table = json!({ "address": OTHER, "length": 2, "sha256": "ab".repeat(32) });
    table.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    table
}

/// The swap, read from a table whose entries are these in every byte.
fn by_table(entries: &[u8], last: u8) -> Effects {
    let entries = entries.iter().map(|n| [*n; 32].into()).collect();
    Effects { tables: vec![TableRead { address: key(OTHER).address, last, entries }], ..swap() }
}

#[test]
fn a_lookup_table_is_named_with_its_first_entries() {
    let digest = table_digest(&[[5; 32].into(), [6; 32].into()], 2).expect("there are two");
    let policy = with_tables(json!([table(json!({ "sha256": hex::encode(digest) }))]), &wallets()).expect("sound");
    assert!(!judge(&policy, &by_table(&[5, 6], 1)).is_denial());
    assert!(!judge(&policy, &by_table(&[5, 6, 7], 1)).is_denial(), "it has grown");
    let address = || Address::Solana(key(OTHER).address);
    let other = Denial::OtherTable { table: address(), length: 2 };
    for entries in [&[6, 5][..], &[5, 7], &[5], &[], &[7, 5, 6]] {
        assert_eq!(denial(&policy, &by_table(entries, 1)), other, "{entries:?}");
    }
    let behind = Denial::UnlistedEntry { table: address(), index: 2, length: 2 };
    assert_eq!(denial(&policy, &by_table(&[5, 6, 7], 2)), behind);
    assert_eq!(
        denial(&with_tables(json!([]), &wallets()).expect("sound"), &by_table(&[5, 6], 1)),
        Denial::UnlistedTable { table: address() }
    );
    // It is said before the rules are asked, and no change of what they look at would help.
    let trace =
        evaluate_traced(&policy, &account("sol"), &Circumstances { initiator: &asker(), at: 0 }, &by_table(&[], 1));
    assert_eq!(trace.nearest, None);
    assert!(matches!(&trace.verdict, Verdict::Deny { reason, .. } if *reason == other));
    // Upkeep reads none.
    let idle = Effects { programs: Vec::new(), ..by_table(&[5, 6], 1) };
    let asker = asker();
    let circumstances = Circumstances { initiator: &asker, at: 0 };
    assert!(evaluate_upkeep(&policy, &account("sol"), &circumstances, &idle).is_denial());
}

#[test]
fn lookup_tables_that_cannot_be_meant() {
    let two: BTreeMap<WalletId, Network> = [("sol", "solana:devnet"), ("sol-2", "solana:testnet")]
        .map(|(wallet, network)| (wallet.parse().expect("a name"), network.parse().expect("a network")))
        .into();
    for (what, tables, wallets) in [
        ("no entry", json!([table(json!({ "length": 0 }))]), wallets()),
        ("too many", json!([table(json!({ "length": 257 }))]), wallets()),
        ("twice", json!([table(json!({})), table(json!({ "length": 1 }))]), wallets()),
        ("no address", json!([table(json!({ "address": "0x12" }))]), wallets()),
        ("on Ethereum", json!([table(json!({ "network": "ethereum:1" }))]), wallets()),
        ("where no wallet is", json!([table(json!({ "network": "solana:localnet" }))]), wallets()),
        ("on which cluster?", json!([table(json!({}))]), two.clone()),
    ] {
        let found = with_tables(tables, &wallets);
        assert!(matches!(found, Err(PolicyError::LookupTable { .. })), "{what}: {found:?}");
    }
    let on = |network: &str| table(json!({ "network": network }));
    assert!(with_tables(json!([on("solana:devnet"), on("solana:testnet")]), &two).is_ok(), "one on each");
    for wrong in [json!({ "sha256": "ab" }), json!({ "length": -1 }), json!({ "more": 1 })] {
        let text = json!({ "rules": [], "lookup_tables": [table(wrong)] });
        assert!(serde_json::from_value::<PolicyConfig>(text.clone()).is_err(), "{text}");
    }
}

#[test]
fn another_table_is_another_policy() {
    let named = |more: Value| with_tables(json!([table(more)]), &wallets()).expect("sound");
    let (none, one) = (with_tables(json!([]), &wallets()).expect("sound"), named(json!({})));
    assert_ne!(none.digest(), one.digest());
    let longer = named(json!({ "length": 3 }));
    assert_ne!(longer.digest(), one.digest());
    let name = format!("{OTHER} on solana:devnet");
    let changes = diff(&none, &one, &[account("sol")], 0).expect("few cases").lookup_tables;
    assert_eq!(changes.added, std::slice::from_ref(&name));
    let changes = diff(&one, &longer, &[account("sol")], 0).expect("few cases").lookup_tables;
    assert_eq!(changes.changed[&name], ["length"]);
}
