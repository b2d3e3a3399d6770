//! All that one wallet can do of what there are names for.

use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Proceeds, Transfer};
use chains::network::Network;
use signer::policy::prove::{Act, Among, Question, Witness};
use signer::policy::trace::{Input, Wanted};
use signer::roster::CredentialId;

use super::names::*;
use super::tx::{Arguments, call, nothing};

/// The effects after a change of one input, once for each value that will do.
pub fn changes(effects: &Effects, input: &Input, wanted: &Wanted) -> Vec<Effects> {
    let values: Vec<(Option<Asset>, Option<Address>, Option<Amount>)> = match wanted {
        Wanted::AmountAtMost { amount } | Wanted::AmountAtLeast { amount } => vec![(None, None, Some(*amount))],
        Wanted::OneOfAddresses { addresses } => addresses.iter().map(|to| (None, Some(to.clone()), None)).collect(),
        Wanted::OneOfAssets { assets } => assets.iter().map(|asset| (Some(*asset), None, None)).collect(),
        other => panic!("{other:?}"),
    };
    let change = |(asset, to, amount): (Option<Asset>, Option<Address>, Option<Amount>)| {
        let mut effects = effects.clone();
        match input {
            Input::Transfer { index, .. } => {
                let of = &mut effects.transfers[*index];
                let before = of.clone();
                of.asset = asset.unwrap_or(of.asset);
                of.to = to.unwrap_or_else(|| of.to.clone());
                of.amount = amount.unwrap_or(of.amount);
                let after = of.clone();
                // The token's own call says the same.
                let words = |of: &Transfer| match &of.to {
                    Address::Ethereum(to) => [&[0; 12][..], to.as_slice(), &of.amount.to_be_bytes()].concat(),
                    other => panic!("{other}"),
                };
                let says = |call: &&mut Call| {
                    Asset::Erc20(call.contract) == before.asset
                        && call.selector.0 == FUNCTIONS[0].1
                        && call.arguments[..] == words(&before)[..]
                };
                if let Some(call) = effects.calls.iter_mut().find(says)
                    && let Asset::Erc20(contract) = after.asset
                {
                    call.contract = contract;
                    call.arguments = words(&after).into();
                }
            }
            Input::Allowance { index, .. } => {
                let of = &mut effects.allowances[*index];
                of.asset = asset.unwrap_or(of.asset);
                of.spender = to.unwrap_or_else(|| of.spender.clone());
                of.amount = amount.unwrap_or(of.amount);
            }
            Input::Proceeds { index, .. } => effects.proceeds[*index].to = to.unwrap(),
            other => panic!("{other:?}"),
        }
        effects
    };
    values.into_iter().map(change).collect()
}

/// Everything that the first wallet may do and that the question admits, of the few values that there are: who asks and
/// when, and what is done.
pub fn universe(question: &Question) -> (Vec<(CredentialId, u64)>, Vec<Effects>) {
    let does = |act: Act| question.acts.is_empty() || question.acts.contains(&act);
    let least = question.min_amount.unwrap_or(Amount::from_sat(1));
    let most = question.max_amount.unwrap_or(Amount::MAX);
    let (own, fee) = (account(0).address().clone(), question.min_fee);
    let blank = Effects { max_fee: fee, ..nothing() };
    let all: Vec<usize> = (0..=ADDRESSES).collect();
    let admitted: Vec<usize> = all.iter().copied().filter(|at| admits(&question.addresses, &address(*at))).collect();
    let mut deeds = Vec::new();
    for (at, to) in (0..ASSETS).flat_map(|at| admitted.iter().map(move |to| (at, *to))) {
        if !question.assets.admits(&asset(at)) {
            continue;
        }
        for number in (1..=8).filter(|number| (least..=most).contains(&Amount::from_sat(*number))) {
            let (to_address, amount) = (address(to), Amount::from_sat(number));
            let transfer = Transfer { asset: asset(at), from: own.clone(), to: to_address.clone(), amount };
            let with = |calls: Vec<Call>| Effects { transfers: vec![transfer.clone()], calls, ..blank.clone() };
            let Some(token) = at.checked_sub(1).map(|at| TOKENS[at]) else {
                if does(Act::Pay) {
                    deeds.push(with(Vec::new()));
                }
                continue;
            };
            if does(Act::Pay) {
                deeds.push(with(vec![call(token, 0, &Arguments::Of(vec![to], number), 0)]));
                deeds.push(with(vec![call(token, 2, &Arguments::Of(vec![OWN, to], number), 0)]));
            }
            if does(Act::Approve) {
                let allowances = vec![Allowance { asset: asset(at), spender: to_address, amount }];
                deeds.push(Effects {
                    allowances,
                    calls: vec![call(token, 1, &Arguments::Of(vec![to], number), 0)],
                    ..blank.clone()
                });
            }
        }
    }
    for (contract, function) in
        CONTRACTS.iter().flat_map(|contract| (0..FUNCTIONS.len()).map(move |function| (*contract, function)))
    {
        if !(does(Act::Call) || does(Act::Collect)) {
            break;
        }
        let mut arguments = vec![Arguments::Garbage];
        match FUNCTIONS[function].2 {
            0 => arguments.extend([Arguments::Of(Vec::new(), 0), Arguments::Tailed(Vec::new(), 0)]),
            1 => arguments.extend(all.iter().flat_map(|to| (0..=8).map(|number| Arguments::Of(vec![*to], number)))),
            _ => arguments.extend(all.iter().flat_map(|from| all.iter().map(|to| Arguments::Of(vec![*from, *to], 0)))),
        }
        for arguments in arguments {
            let calls = vec![call(contract, function, &arguments, 0)];
            if does(Act::Call) {
                deeds.push(Effects { calls: calls.clone(), ..blank.clone() });
            }
            if does(Act::Collect) {
                let to = |at: &usize| vec![Proceeds { to: address(*at) }];
                deeds.extend(admitted.iter().map(|at| Effects {
                    calls: calls.clone(),
                    proceeds: to(at),
                    ..blank.clone()
                }));
            }
        }
    }
    let times = (0..7).flat_map(|day| [0, 3, 12, 15].map(|hour| question.from + day * DAY + hour * 60 * MINUTE));
    let times: Vec<u64> = times.collect();
    let askers = (0..ASKERS.len()).map(initiator).filter(|asker| question.initiators.admits(asker));
    (askers.flat_map(|asker| times.iter().map(move |at| (asker.clone(), *at))).collect(), deeds)
}

pub fn admits(among: &Among<UncheckedAddress>, address: &Address) -> bool {
    let is = |text: &UncheckedAddress| text.require_network(Network::Ethereum(1)).as_ref() == Ok(address);
    match among {
        Among::Any => true,
        Among::OneOf(some) => some.iter().any(is),
        Among::NoneOf(some) => !some.iter().any(is),
    }
}

/// Whether a witness is what was asked about.
pub fn fits_question(question: &Question, witness: &Witness) -> bool {
    let Effects { transfers, allowances, calls, proceeds, max_fee, .. } = &witness.effects;
    let moved = transfers
        .iter()
        .map(|of| (of.asset, &of.to, of.amount))
        .chain(allowances.iter().map(|of| (of.asset, &of.spender, of.amount)));
    let act = match (transfers.is_empty(), allowances.is_empty(), proceeds.is_empty()) {
        (false, ..) => Act::Pay,
        (_, false, _) => Act::Approve,
        (.., false) => Act::Collect,
        _ => Act::Call,
    };
    let least = question.min_amount.unwrap_or(Amount::from_sat(1));
    (question.acts.is_empty() || question.acts.contains(&act))
        && question.wallets.admits(&witness.wallet)
        && question.initiators.admits(&witness.initiator)
        && (question.from..=question.until.unwrap()).contains(&witness.at)
        && *max_fee >= question.min_fee
        && proceeds.iter().all(|of| admits(&question.addresses, &of.to))
        && !(calls.is_empty() && transfers.is_empty() && allowances.is_empty())
        && { moved }.all(|(asset, to, amount)| {
            let within = (least..=question.max_amount.unwrap_or(Amount::MAX)).contains(&amount);
            question.assets.admits(&asset) && admits(&question.addresses, to) && within && place_of(to) < TEXTS.len()
        })
}
