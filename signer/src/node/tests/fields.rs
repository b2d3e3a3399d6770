//! Whatever field of a signed-for request is changed, every signer refuses: three signers with keys of every scheme, a
//! payment of every kind that all of them have agreed to, and every field of the request, the evidence, the intent and
//! the transaction changed in turn.
//!
//! Two changes are none, and are looked at apart: what the intent leaves open as long as the payment stays the same, in the
//! same slot and no dearer (a lower gas price, more change); and words of the client's own that say nothing of the payment.

use bitcoin::psbt::Psbt;
use chains::bitcoin::Bitcoin;
use chains::chain::{Chain, Slot};
use chains::effects::Effects;
use chains::ethereum::Ethereum;
use chains::network::Network;
use chains::solana::Solana;
use ed25519_dalek::Signer as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

use super::desk::{
    self, BTC_OTHER, BTC_PAYEE, Desk, EVM_OTHER, EVM_PAYEE, MINT, PROGRAM, SOL_OTHER, SOL_PAYEE, TOKEN, calls_by_table,
    pays,
};
use super::*;
use crate::approval::{Approval, Proof, pre_authentication};
use crate::tests::cases;

/// A world and the payment that every signer of it has agreed to.
struct Agreed<'w> {
    signers: &'w Signers,
    desk: &'w Desk,
    intent: Value,
    request: SigningRequest,
}

impl<'w> Agreed<'w> {
    /// `intent`, capped at the very fee that its transaction may cost.
    fn new(signers: &'w Signers, desk: &'w Desk, number: u32, mut intent: Value) -> Self {
        let fee = what(desk, &desk.request(number.into(), &intent, number)).unwrap().0.max_fee;
        intent["max_fee"] = json!(fee);
        let request = desk.request(number.into(), &intent, number);
        let agreed = Self { signers, desk, intent, request };
        assert_eq!(agreed.takers(&agreed.request), NAMES, "{}", agreed.intent);
        agreed
    }

    /// The signers that take part.
    fn takers(&self, request: &SigningRequest) -> Vec<&'static str> {
        self.takers_of(&serde_json::to_vec(request).unwrap())
    }

    fn takers_of(&self, json: &[u8]) -> Vec<&'static str> {
        let takes = |name: &&str| {
            let (session, node) = (fresh_session(), self.signers.node(name));
            let other = NAMES.into_iter().find(|other| other != name).unwrap();
            let start = Command::Sign { session, participants: ids(&[name, other]), epoch: 1, request: json.to_vec() };
            match node.carry_out(start) {
                Ok(Answer::Letters { .. }) => {
                    drop(node.carry_out(Command::Abandon { session }));
                    true
                }
                Err(Stop::Refused(_)) => false,
                _ => panic!("a signer takes part or refuses"),
            }
        };
        NAMES.into_iter().filter(takes).collect()
    }

    fn refused(&self, what: &str, request: &SigningRequest) {
        assert_ne!(*request, self.request, "{what}: nothing was changed");
        assert!(self.takers(request).is_empty(), "{what} of {}: {:?} take part", self.intent, self.takers(request));
    }

    fn with(&self, change: impl FnOnce(&mut SigningRequest)) -> SigningRequest {
        let mut request = self.request.clone();
        change(&mut request);
        request
    }
}

/// What a transaction does and uses up.
fn what(desk: &Desk, request: &SigningRequest) -> Option<(Effects, BTreeSet<Slot>)> {
    fn of<C: Chain>(chain: &C, account: &Account, bytes: &[u8]) -> Option<(Effects, BTreeSet<Slot>)> {
        let unsigned = chain.decode_unsigned(bytes).ok()?;
        Some((chain.effects(account, &unsigned).ok()?, chain.slots(account, &unsigned)))
    }
    let account = desk.account(request.wallet.as_str());
    match account.network() {
        Network::Bitcoin(network) => of(&Bitcoin::new(network), account, &request.unsigned),
        Network::Ethereum(chain_id) => of(&Ethereum::new(chain_id), account, &request.unsigned),
        Network::Solana(cluster) => of(&Solana::new(cluster), account, &request.unsigned),
    }
}

/// A payment of every kind.
fn intents() -> Vec<Value> {
    let call = json!({ "kind": "call", "contract": TOKEN, "data": "0xd0e30db0", "value": "1000" });
    let mut intents = vec![
        pays("eth", "native", EVM_PAYEE, 1_000),
        pays("eth", &format!("erc20:{TOKEN}"), EVM_PAYEE, 1_000),
        json!({ "wallet": "eth", "action": call }),
        pays("btc", "native", BTC_PAYEE, 70_000),
        pays("btc-taproot", "native", BTC_PAYEE, 70_000),
        pays("sol", "native", SOL_PAYEE, 1_000),
        pays("sol", &format!("spl:{MINT}"), SOL_PAYEE, 1_000),
        calls_by_table(),
    ];
    intents.iter_mut().for_each(|intent| intent["reference"] = json!("invoice 17"));
    intents
}

fn for_each_payment(test: impl Fn(&Agreed<'_>)) {
    let (signers, desk) = desk::open_for_business(&SchemeId::ALL);
    for (number, intent) in (1..).zip(intents()) {
        test(&Agreed::new(&signers, &desk, number, intent));
    }
}

/// Every leaf of a JSON value, by its pointer.
fn leaves(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let below = |(name, member): (&String, &Value)| {
                leaves(member).into_iter().map(|leaf| format!("/{name}{leaf}")).collect::<Vec<_>>()
            };
            members.iter().flat_map(below).collect()
        }
        Value::Array(items) if !items.is_empty() => {
            let below = |(at, item): (usize, &Value)| {
                leaves(item).into_iter().map(move |leaf| format!("/{at}{leaf}")).collect::<Vec<_>>()
            };
            items.iter().enumerate().flat_map(below).collect()
        }
        _ => vec![String::new()],
    }
}

#[test]
fn every_field_of_the_request_is_bound() {
    for_each_payment(|agreed| {
        // The gateway's own words: the name, the wallet, the lease.
        for bit in 0..128 {
            let tx = Uuid::from_u128(agreed.request.tx.as_u128() ^ 1 << bit);
            agreed.refused("tx", &agreed.with(|request| request.tx = tx));
        }
        for wallet in ["eth", "btc", "btc-2", "btc-taproot", "sol", "nobody"] {
            if wallet != agreed.request.wallet.as_str() {
                agreed.refused("wallet", &agreed.with(|request| request.wallet = wallet.parse().unwrap()));
            }
        }
        // A fence that rises is a takeover, which is a gateway's to declare; it changes nothing of the payment. Any other is
        // refused.
        for fence in [0, u64::MAX, 1 << 63, 1 << 33] {
            agreed.refused("fence", &agreed.with(|request| request.fence = fence));
        }

        // The form itself: a field more, a field less, a field of another kind.
        let json = serde_json::to_value(&agreed.request).unwrap();
        for leaf in leaves(&json).into_iter().filter(|leaf| leaf != "/evidence/approvals") {
            let (parent, name) = leaf.rsplit_once('/').unwrap();
            let mut less = json.clone();
            less.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            let mut more = json.clone();
            more.pointer_mut(parent).unwrap()["more"] = json!(1);
            let mut other = json.clone();
            *other.pointer_mut(&leaf).unwrap() = json!([]);
            for changed in [less, more, other] {
                assert!(agreed.takers_of(&serde_json::to_vec(&changed).unwrap()).is_empty(), "{leaf}");
            }
        }
    });
}

#[test]
fn every_field_of_the_evidence_is_bound() {
    for_each_payment(|agreed| {
        let signed = &agreed.request.evidence.request;
        // Every character of the token (header, claims and signature) and every byte of the body; by default each payment
        // has a fifth of them for its own, with `CASES` all.
        let (first, step) = if cases(1) > 1 { (0, 1) } else { (usize::from(agreed.request.tx.as_bytes()[15] % 5), 5) };
        for at in (first..signed.token.len()).step_by(step) {
            let mut token = signed.token.clone().into_bytes();
            token[at] = if token[at] == b'A' { b'B' } else { b'A' };
            let token = String::from_utf8(token).unwrap();
            agreed.refused("token", &agreed.with(|request| request.evidence.request.token = token));
        }
        // Every field of the intent lies in the body; here whoever changes it is not the client.
        for at in (first..signed.body.len()).step_by(step) {
            let flip = |request: &mut SigningRequest| request.evidence.request.body[at] ^= 1 << (at % 8);
            agreed.refused("body", &agreed.with(flip));
        }
        // No approval is passed over unchecked, though this policy asks for none.
        let approver = ed25519_dalek::SigningKey::from_bytes(&[43; 32]);
        let right = Approval {
            approver: "approver".parse().unwrap(),
            payload: signed.body.clone(),
            signature: Proof::Ed25519(approver.sign(&pre_authentication(&signed.body)).to_bytes().to_vec()),
        };
        let mut wrong = right.clone();
        wrong.payload[0] ^= 1;
        let mut stranger = right.clone();
        stranger.approver = "stranger".parse().unwrap();
        let mut initiator = right.clone();
        initiator.approver = "trader".parse().unwrap();
        for approvals in [vec![right.clone()], vec![wrong], vec![stranger], vec![initiator], vec![right.clone(), right]]
        {
            agreed.refused("approvals", &agreed.with(|request| request.evidence.approvals = approvals));
        }
    });
}

/// The client itself signs other words: then the transaction of the first ones doesn't serve them.
#[test]
fn every_field_of_the_intent_is_bound() {
    for_each_payment(|agreed| {
        let body: Value = serde_json::from_slice(&agreed.request.evidence.request.body).unwrap();
        let mut seen = Vec::new();
        for leaf in leaves(&body) {
            let named = |part: &&str| part.parse::<usize>().is_err();
            let others: Vec<Value> = match leaf.rsplit('/').find(named).unwrap() {
                "jsonrpc" => vec![json!("2.1"), json!(2)],
                "method" => vec![json!("tx_list"), json!("tx_Submit")],
                "idempotency_key" => vec![json!("payment-x"), json!("")],
                "wallet" => vec![json!("btc-2"), json!("nobody"), json!("")],
                "kind" => vec![json!("call"), json!("transfer"), json!("mint")],
                "asset" => {
                    vec![json!("native"), json!(format!("erc20:{EVM_OTHER}")), json!(format!("spl:{SOL_OTHER}"))]
                }
                "to" | "contract" => [EVM_OTHER, BTC_OTHER, SOL_OTHER, TOKEN, ""].map(|to| json!(to)).to_vec(),
                "amount" | "value" => ["999", "1001", "0", "69999", "70001", "-1"].map(|amount| json!(amount)).to_vec(),
                "program" | "address" | "lookup_tables" => {
                    [SOL_OTHER, SOL_PAYEE, MINT, PROGRAM, EVM_OTHER, ""].map(|to| json!(to)).to_vec()
                }
                "writable" => vec![json!(true), json!(false), json!("true")],
                "data" => ["0x", "0xd0e30db1", "0xd0e30db000", "0xa9059cbb"].map(|data| json!(data)).to_vec(),
                "max_fee" => vec![json!("0"), json!("1"), json!(-1)],
                // What the client calls its call and its invoice says nothing of the payment.
                "id" | "reference" => continue,
                other => panic!("a field that this test doesn't know: {other}"),
            };
            for other in others {
                let mut changed = body.clone();
                let field = changed.pointer_mut(&leaf).unwrap();
                if std::mem::replace(field, other.clone()) == other {
                    continue;
                }
                let signed = agreed.desk.sign(serde_json::to_vec(&changed).unwrap());
                agreed.refused(&format!("{leaf} = {other}"), &agreed.with(|request| request.evidence.request = signed));
            }
            seen.push(leaf);
        }
        assert!(seen.len() >= 8, "{seen:?}");
        // One field more, in each place.
        for parent in ["", "/params", "/params/intent", "/params/intent/action"] {
            let mut more = body.clone();
            more.pointer_mut(parent).unwrap()["more"] = json!("1");
            let signed = agreed.desk.sign(serde_json::to_vec(&more).unwrap());
            agreed.refused("a field more", &agreed.with(|request| request.evidence.request = signed));
        }
    });
}

/// Every bit of the transaction: it is refused by all, or it is the same payment in the same slot, and no dearer.
#[test]
fn every_bit_of_the_transaction_is_bound() {
    // One bit of each byte, or with `CASES` all of them.
    let every = cases(1) > 1;
    for_each_payment(|agreed| {
        let (effects, slots) = what(agreed.desk, &agreed.request).unwrap();
        let (mut refused, mut open) = (0, 0);
        for bit in 0..agreed.request.unsigned.len() * 8 {
            if !every && bit / 8 % 8 != bit % 8 {
                continue;
            }
            let flipped = agreed.with(|request| request.unsigned[bit / 8] ^= 1 << (bit % 8));
            let takers = agreed.takers(&flipped);
            if takers.is_empty() {
                refused += 1;
                continue;
            }
            assert_eq!(takers, NAMES, "bit {bit}: they agree");
            let (other, other_slots) = what(agreed.desk, &flipped).unwrap();
            assert_eq!(other_slots, slots, "bit {bit} of {}", agreed.intent);
            assert!(other.max_fee <= effects.max_fee, "bit {bit} of {}: dearer", agreed.intent);
            let same = Effects { max_fee: effects.max_fee, change: effects.change, ..other };
            assert_eq!(same, effects, "bit {bit} of {}", agreed.intent);
            open += 1;
        }
        assert!(refused > 4 * open, "{}: {refused} refused, {open} left open", agreed.intent);
    });
}

/// A transaction of the same intent on another state of the chain (another nonce, another coin, another block hash) is a
/// second payment: refused.
#[test]
fn no_second_transaction_of_an_intent() {
    for_each_payment(|agreed| {
        let second = agreed.desk.request(agreed.request.tx.as_u128(), &agreed.intent, 77);
        assert_ne!(second.unsigned, agreed.request.unsigned);
        agreed.refused("another state", &second);
    });
}

/// The segwit v0 fee attack: the signature of a P2WPKH input commits to its own amount only, so whoever lies about the
/// amounts of two inputs in two requests makes a signer pay a fee that it never saw. The previous transactions give the lie
/// away.
#[test]
fn no_lie_about_what_an_input_spends() {
    let (signers, desk) = desk::open_for_business(&[SchemeId::Ecdsa, SchemeId::Taproot]);
    for (number, wallet) in [(1, "btc"), (2, "btc-taproot")] {
        let agreed = Agreed::new(&signers, &desk, number, pays(wallet, "native", BTC_PAYEE, 70_000));
        let segwit_v0 = wallet == "btc";
        let lie = |what: &str, change: &dyn Fn(&mut Psbt)| {
            let mut psbt = Psbt::deserialize(&agreed.request.unsigned).unwrap();
            change(&mut psbt);
            agreed.refused(what, &agreed.with(|request| request.unsigned = psbt.serialize()));
        };
        let input = |psbt: &mut Psbt, change: &dyn Fn(&mut bitcoin::psbt::Input)| change(&mut psbt.inputs[0]);
        for by in [-1_i64, 1, -20_000, 20_000] {
            let shift =
                |amount: bitcoin::Amount| bitcoin::Amount::from_sat(amount.to_sat().checked_add_signed(by).unwrap());
            let claimed = |input: &mut bitcoin::psbt::Input| {
                let output = input.witness_utxo.as_mut().unwrap();
                output.value = shift(output.value);
            };
            let proved = |input: &mut bitcoin::psbt::Input| {
                let previous = input.non_witness_utxo.as_mut().unwrap();
                previous.output[0].value = shift(previous.output[0].value);
            };
            // A Taproot signature commits to the amounts by itself, so a lie makes it void; the dearer lie is refused by the
            // cap, too. A cheaper one is signed for nothing.
            if segwit_v0 || by > 0 {
                lie("the amount that is claimed", &|psbt| input(psbt, &claimed));
            }
            if segwit_v0 {
                lie("the amount that is proved", &|psbt| input(psbt, &proved));
                lie("both", &|psbt| {
                    input(psbt, &claimed);
                    input(psbt, &proved);
                });
            }
        }
        if segwit_v0 {
            lie("no previous transaction", &|psbt| psbt.inputs[0].non_witness_utxo = None);
            lie("another previous transaction", &|psbt| {
                let previous = psbt.inputs[0].non_witness_utxo.as_mut().unwrap();
                previous.lock_time = bitcoin::absolute::LockTime::from_consensus(4_321);
            });
        } else {
            lie("another internal key", &|psbt| {
                let x = "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
                psbt.inputs[0].tap_internal_key = Some(x.parse().unwrap());
            });
            lie("no internal key", &|psbt| psbt.inputs[0].tap_internal_key = None);
        }
        lie("nothing is claimed", &|psbt| psbt.inputs[0].witness_utxo = None);
        lie("another owner", &|psbt| {
            let other = desk.account("btc-2").address().to_string();
            let other =
                other.parse::<bitcoin::Address<_>>().unwrap().require_network(bitcoin::Network::Regtest).unwrap();
            psbt.inputs[0].witness_utxo.as_mut().unwrap().script_pubkey = other.script_pubkey();
        });
        lie("another coin", &|psbt| psbt.unsigned_tx.input[0].previous_output.vout ^= 1);
        lie("a sighash that signs less", &|psbt| {
            psbt.inputs[0].sighash_type = Some(bitcoin::psbt::PsbtSighashType::from_u32(0x83));
        });
        lie("an input twice", &|psbt| {
            let (txin, input) = (psbt.unsigned_tx.input[0].clone(), psbt.inputs[0].clone());
            psbt.unsigned_tx.input.push(txin);
            psbt.inputs.push(input);
        });
        lie("an output less", &|psbt| {
            psbt.unsigned_tx.output.truncate(1);
            psbt.outputs.truncate(1);
        });
        lie("outputs in another order pay others", &|psbt| {
            let value = psbt.unsigned_tx.output[0].value;
            psbt.unsigned_tx.output[0].value = psbt.unsigned_tx.output[1].value;
            psbt.unsigned_tx.output[1].value = value;
        });
    }
}

/// The owner of the token account that is paid is a claim beside the message; the account's address proves it.
#[test]
fn no_lie_about_who_owns_a_token_account() {
    let (signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    let agreed = Agreed::new(&signers, &desk, 1, pays("sol", &format!("spl:{MINT}"), SOL_PAYEE, 1_000));
    // The format's version, the cluster, the last block height (8 bytes), and then the owners: a count, 32 bytes each.
    let (head, rest) = agreed.request.unsigned.split_at(10);
    let (count, rest) = rest.split_first().unwrap();
    let (owners, message) = rest.split_at(usize::from(*count) * 32);
    assert_eq!(*count, 1, "one token account is paid");
    let with = |count: u8, owners: &[u8]| {
        let unsigned = [head, &[count], owners, message].concat();
        agreed.with(|request| request.unsigned = unsigned)
    };
    agreed.refused("no owner", &with(0, &[]));
    for byte in 0..32 {
        let mut other = owners.to_vec();
        other[byte] ^= 1 << (byte % 8);
        agreed.refused("another owner", &with(1, &other));
    }
    for other in [[0; 32], [7; 32], [255; 32]] {
        agreed.refused("another owner", &with(1, &other));
        agreed.refused("one owner more than is paid", &with(2, &[other.as_slice(), owners].concat()));
        agreed.refused("one owner more than is paid", &with(2, &[owners, other.as_slice()].concat()));
    }
    agreed.refused("an owner twice", &with(2, &[owners, owners].concat()));
    agreed.refused("a count that is none", &with(2, owners));
}

/// What stands in a lookup table is a claim beside the message; the policy's digest proves it.
#[test]
fn no_lie_about_a_lookup_table() {
    let (signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    let agreed = Agreed::new(&signers, &desk, 1, calls_by_table());
    let table = desk::table();
    // The format's version, the cluster, the last block height (8 bytes), no owners, one table: address, owner, length and data.
    let unsigned = &agreed.request.unsigned;
    let (head, rest) = unsigned.split_at(11);
    let (count, rest) = rest.split_first().unwrap();
    let length = 66 + table.data.len();
    let (account, message) = rest.split_at(length);
    assert_eq!((*count, &account[66..]), (1, &*table.data), "one table goes with the message");
    let with = |count: u8, accounts: &[u8], message: &[u8]| {
        let unsigned = [head, &[count], accounts, message].concat();
        agreed.with(|request| request.unsigned = unsigned)
    };
    agreed.refused("no table", &with(0, &[], message));
    agreed.refused("the table twice", &with(2, &[account, account].concat(), message));
    agreed.refused("a count that is none", &with(2, account, message));
    // Every bit of address, owner and length, of the data's kind and deactivation slot, and of the entries. In which slot the table
    // was extended, from where on, and by whose leave, is nothing to the message.
    let open = 66 + 12..66 + 56;
    for bit in (0..length * 8).filter(|bit| !open.contains(&(bit / 8))) {
        let mut other = account.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        agreed.refused("another table", &with(1, &other, message));
    }
    // Every bit of the message's own part, the lookups at its end: the table, and which of its entries are written and read.
    for bit in (message.len() - 37) * 8..message.len() * 8 {
        let mut other = message.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        agreed.refused("another lookup", &with(1, account, &other));
    }
    // Entries that change places, are gone, or are others behind what is read.
    let entries = |order: &[usize]| {
        let mut data = table.data[..56].to_vec();
        order.iter().for_each(|at| data.extend(&table.data[56 + at * 32..88 + at * 32]));
        let len = u16::try_from(data.len()).unwrap().to_le_bytes();
        [&account[..64], &len, &data].concat()
    };
    for order in [&[0, 1][..], &[2, 1, 0], &[1, 0, 2], &[0, 0, 2], &[]] {
        agreed.refused("other entries", &with(1, &entries(order), message));
    }
    // One that has grown is the same in what the policy names.
    assert_eq!(agreed.takers(&with(1, &entries(&[0, 1, 2, 1]), message)), NAMES);
}
