//! What holds whatever a transaction does.

use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Effects};
use proptest::prelude::*;
use signer::policy::{Policy, Verdict, evaluate, screen};

use super::desk::*;

/// Some effects of an Ethereum wallet, drawn from few addresses so that rules and lists are hit.
fn some_effects() -> impl Strategy<Value = Effects> {
    let party = || prop::sample::select(vec![PAYEE, OTHER, TOKEN, ROUTER]);
    let pay = (any::<bool>(), party(), 0_u64..2000).prop_map(|(token, to, amount)| {
        transfer(&account("eth"), if token { erc20() } else { Asset::Native }, to, amount)
    });
    let calling = (party(), prop::sample::select(vec![[0xa9, 0x05, 0x9c, 0xbb], [9; 4]]))
        .prop_map(|(contract, selector)| call(&account("eth"), contract, selector));
    let allowing = (party(), any::<u64>()).prop_map(|(spender, amount)| Allowance {
        asset: erc20(),
        spender: address(&account("eth"), spender),
        amount: Amount::from_sat(amount),
    });
    let touching = party().prop_map(|party| address(&account("eth"), party));
    let few = 0..3_usize;
    (
        prop::collection::vec(pay, few.clone()),
        prop::collection::vec(calling, few.clone()),
        prop::collection::vec(allowing, few.clone()),
        prop::collection::vec(touching, few),
        0_u128..1000,
    )
        .prop_map(|(transfers, calls, allowances, touches, fee)| Effects {
            transfers,
            calls,
            allowances,
            touches,
            max_fee: Amount::from_wei(fee),
            ..nothing()
        })
}

const PARTIES: [&str; 6] = [PAYEE, OTHER, TOKEN, ROUTER, P2PKH, SOL_PAYEE];

fn is_allowed(policy: &Policy, effects: &Effects) -> bool {
    matches!(evaluate(policy, &account("eth"), &circumstances(&asker()), effects), Verdict::Allow { .. })
}

proptest! {
    #[test]
    fn denying_more_never_permits_more(
        effects in some_effects(),
        mut list in prop::sample::subsequence(PARTIES.to_vec(), 0..PARTIES.len()),
        more in prop::sample::select(PARTIES.to_vec()),
    ) {
        let before = is_allowed(&denying(&list, eth_rules()), &effects);
        list.push(more);
        let policy = denying(&list, eth_rules());
        prop_assert!(before || !is_allowed(&policy, &effects));
        prop_assert!(screen(&policy, &effects).is_none() || !is_allowed(&policy, &effects));
    }

    #[test]
    fn what_two_transactions_may_not_do_one_may_not(a in some_effects(), b in some_effects()) {
        let policy = policy(eth_rules());
        let mut both = a.clone();
        both.transfers.extend(b.transfers.iter().cloned());
        both.calls.extend(b.calls.iter().cloned());
        both.allowances.extend(b.allowances.iter().cloned());
        both.max_fee = a.max_fee.max(b.max_fee);
        // Nothing here spends for others, so no call changes what a transfer is.
        if is_allowed(&policy, &both) {
            let empty = |e: &Effects| e.transfers.is_empty() && e.calls.is_empty() && e.allowances.is_empty();
            prop_assert!(empty(&a) || is_allowed(&policy, &a));
            prop_assert!(empty(&b) || is_allowed(&policy, &b));
        }
    }

    #[test]
    fn a_higher_amount_is_never_easier(effects in some_effects(), at: prop::sample::Index, more in 1_u64..5000) {
        prop_assume!(!effects.transfers.is_empty());
        let policy = policy(eth_rules());
        let mut higher = effects.clone();
        let at = at.index(higher.transfers.len());
        let amount = higher.transfers[at].amount.checked_add(Amount::from_sat(more)).expect("far from the edge");
        higher.transfers[at].amount = amount;
        prop_assert!(is_allowed(&policy, &effects) || !is_allowed(&policy, &higher));
    }
}
