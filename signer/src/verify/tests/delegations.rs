//! Who acts for whom: what every signer wants to see of a delegation.

use super::approvals::{LATER, approved_by, large, people, says, seed};
use super::*;
use crate::approval::delegation::{Delegation, DelegationFault, MAX_SECONDS, UpTo};

const EARLY: u64 = NOW / 1000 - 60;

/// Two of finance and the CFO. Dan is nobody's, and acts for others.
fn house() -> Guard {
    let mut all = people();
    let dan = Approver { person: "dan".parse().expect("a name"), groups: BTreeSet::new(), passkeys: Vec::new() };
    all.insert("approver".parse().expect("a name"), dan);
    let rules = json!([{
        "id": "treasury", "wallets": ["sol"], "addresses": [SOL_PAYEE], "require": "2 of finance and 1 of cfo",
    }]);
    guard_of(json!({ "rules": rules }), all)
}

fn to(delegate: &str) -> Delegation {
    let delegate = delegate.parse().expect("a name");
    Delegation { delegate, from: EARLY, until: EARLY + 3_600, wallets: BTreeSet::new(), up_to: None }
}

fn key_of(name: &str) -> SigningKey {
    key(if name == "approver" { 2 } else { seed(name) })
}

/// `who` approves for `delegator`, who has signed `delegation`.
fn acts(who: &str, delegator: &str, delegation: &Delegation, request: &SigningRequest) -> Approval {
    let trader = "trader".parse().expect("a name");
    let subject = Subject { intent: intent_of(request), initiator: &trader, body: &request.evidence.request.body };
    let envelope = delegation.sign(delegator.parse().expect("a name"), &key_of(delegator));
    let statement = Statement::about(&subject, Decision::Approve, LATER).under(envelope);
    Approval::sign(who.parse().expect("a name"), &statement, &key_of(who))
}

fn verdict_with(names: &[&str], acting: Vec<Approval>) -> Result<(), Refusal> {
    let mut request = approved_by(names);
    request.evidence.approvals.extend(acting);
    house().judge(&request, |_| NOW).map(drop)
}

fn fault(result: Result<(), Refusal>) -> DelegationFault {
    match result {
        Err(Refusal::Approval(ApprovalError::Delegation { fault, .. })) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_delegate_fills_the_place_of_one_and_no_more() {
    let request = large();
    let dan_for_fay = || acts("approver", "fay", &to("approver"), &request);
    assert_eq!(verdict_with(&["finn", "carla"], vec![dan_for_fay()]), Ok(()));
    // Dan for Fay is one of finance, not two; and Finn, who acts for Fay, is one person.
    assert!(matches!(verdict_with(&["carla"], vec![dan_for_fay()]), Err(Refusal::Quorum(_))));
    let finn_for_fay = acts("finn", "fay", &to("finn"), &request);
    assert!(matches!(verdict_with(&["carla"], vec![finn_for_fay]), Err(Refusal::Quorum(_))));
    // Fay's authority counts once: not for herself and for Dan, and not for two who act for her.
    assert_eq!(fault(verdict_with(&["fay", "carla"], vec![dan_for_fay()])), DelegationFault::Used);
    let finn_too = acts("finn", "fay", &to("finn"), &request);
    assert_eq!(fault(verdict_with(&["carla"], vec![dan_for_fay(), finn_too])), DelegationFault::Used);
    // Nor Finn's, for whom Dan acts, beside what Finn says for Fay.
    let finn_for_fay = acts("finn", "fay", &to("finn"), &request);
    let dan_for_finn = acts("approver", "finn", &to("approver"), &request);
    let orders = [vec![finn_for_fay.clone(), dan_for_finn.clone()], vec![dan_for_finn, finn_for_fay]];
    for both in orders {
        assert_eq!(fault(verdict_with(&["carla"], both)), DelegationFault::Used);
    }
}

#[test]
fn there_are_no_chains_and_the_initiator_is_behind_none() {
    let request = large();
    // Fay to Finn, Finn to Dan: Dan acts for Finn, not for Fay, whose word Finn alone may use.
    let by_finn = acts("approver", "finn", &to("approver"), &request);
    assert!(matches!(verdict_with(&["carla"], vec![by_finn]), Err(Refusal::Quorum(_))));
    let not_his = acts("approver", "fay", &to("finn"), &request);
    assert_eq!(fault(verdict_with(&["finn", "carla"], vec![not_his])), DelegationFault::OtherDelegate);
    // Tina is the trader.
    let for_tina = acts("approver", "tina", &to("approver"), &request);
    assert_eq!(fault(verdict_with(&["finn", "carla"], vec![for_tina])), DelegationFault::Initiator);
    let by_tina = verdict_with(&["finn", "carla"], vec![acts("tina", "fay", &to("tina"), &request)]);
    assert!(matches!(by_tina, Err(Refusal::Approval(ApprovalError::Initiator(_)))), "{by_tina:?}");
    let oneself = acts("carla-2", "carla", &to("carla-2"), &request);
    assert_eq!(fault(verdict_with(&["fay", "finn"], vec![oneself])), DelegationFault::Oneself);
}

#[test]
fn it_holds_for_its_time_its_wallets_and_its_amount() {
    let request = large();
    let with = |change: &dyn Fn(&mut Delegation)| {
        let mut delegation = to("approver");
        change(&mut delegation);
        verdict_with(&["finn", "carla"], vec![acts("approver", "fay", &delegation, &request)])
    };
    let up_to = |amount: &str| Some(UpTo { asset: Asset::Native, amount: amount.parse().expect("an amount") });
    assert_eq!(with(&|delegation| delegation.until = NOW / 1000), Ok(()));
    assert_eq!(fault(with(&|delegation| delegation.until = NOW / 1000 - 1)), DelegationFault::NotNow);
    assert_eq!(fault(with(&|delegation| delegation.from = NOW / 1000 + 1)), DelegationFault::NotNow);
    assert_eq!(fault(with(&|delegation| delegation.until = EARLY)), DelegationFault::Term);
    assert_eq!(fault(with(&|delegation| delegation.until = EARLY + MAX_SECONDS + 1)), DelegationFault::Term);
    assert_eq!(with(&|delegation| delegation.wallets = [wallet("sol"), wallet("eth")].into()), Ok(()));
    assert_eq!(fault(with(&|delegation| delegation.wallets = [wallet("eth")].into())), DelegationFault::Scope);
    assert_eq!(with(&|delegation| delegation.up_to = up_to("1000")), Ok(()));
    assert_eq!(fault(with(&|delegation| delegation.up_to = up_to("999"))), DelegationFault::Scope);
    let token = |delegation: &mut Delegation| {
        let asset = format!("spl:{MINT}").parse().expect("an asset");
        delegation.up_to = Some(UpTo { asset, amount: Amount::MAX });
    };
    assert_eq!(fault(with(&token)), DelegationFault::Scope);
}

#[test]
fn nothing_but_the_delegators_own_signature_over_these_bytes_delegates() {
    let request = large();
    let trader = "trader".parse().expect("a name");
    let subject = Subject { intent: intent_of(&request), initiator: &trader, body: &request.evidence.request.body };
    let good = to("approver").sign("fay".parse().expect("a name"), &key_of("fay"));
    let with = |envelope: Approval| {
        let statement = Statement::about(&subject, Decision::Approve, LATER).under(envelope);
        verdict_with(&["finn", "carla"], vec![Approval::sign("approver".parse().expect("a name"), &statement, &key(2))])
    };
    assert_eq!(with(good.clone()), Ok(()));
    for at in 0..good.payload.len() {
        let mut spoiled = good.clone();
        spoiled.payload[at] ^= 1;
        assert!(with(spoiled).is_err(), "payload {at}");
    }
    assert!(with(to("approver").sign("fay".parse().expect("a name"), &key_of("finn"))).is_err(), "signed by another");
    assert!(with(Approval { approver: "finn".parse().expect("a name"), ..good.clone() }).is_err(), "in another's name");
    // An approval is no delegation, whatever its bytes.
    let other =
        Approval::sign_payload(good.approver.clone(), crate::approval::PAYLOAD_TYPE, good.payload, &key_of("fay"));
    assert!(with(other).is_err());
    // The delegation belongs to the statement: it can't be put beside somebody's own word.
    let own = says("finn", &request, Decision::Approve, LATER);
    let mut statement: Statement = serde_json::from_slice(&own.payload).expect("a statement");
    statement.delegation = Some(to("finn").sign("fay".parse().expect("a name"), &key_of("fay")));
    let moved = Approval { payload: statement.to_payload(), ..own };
    assert!(verdict_with(&["carla"], vec![moved]).is_err());
}
