//! Legs of deals: their terms, and the desk's go.

use gateway::record::State;
use gateway::store::{Accepted, Filter, NewIntent, StoreError};
use serde_json::json;
use signer::request::{Deal, SignedRequest};

use crate::world::{Shop, ask, claims, for_each_place, for_each_store, get, judge};

fn deal(reference: &str) -> Deal {
    serde_json::from_value(json!({
        "party_a": "fund", "party_b": "desk", "fiat_confirmer": "settlement", "expires": 2_000,
        "fiat": { "currency": "EUR", "amount": "97.50", "reference": reference },
    }))
    .unwrap()
}

fn opened(key: &str, reference: &str) -> NewIntent {
    NewIntent { deal: Some(deal(reference)), ..ask(key, 1) }
}

async fn open(store: &Shop, key: &str) -> gateway::store::Hold {
    match store.accept(opened(key, "deal 1")).await.unwrap() {
        Accepted::New(hold) => hold,
        Accepted::Known(id) => panic!("{key} is known as {id}"),
    }
}

#[test]
fn a_deals_terms_and_the_desks_go_are_kept_with_the_record() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let hold = open(&store, "k").await;
        let go = SignedRequest { token: "go-token".to_owned(), body: b"go".to_vec() };
        let early = store.let_deal_go(hold.id, claims(), go.clone(), 4).await.unwrap_err();
        assert!(matches!(early, StoreError::Stale { found: State::Received, .. }), "{early}");
        judge(&store, hold, State::AwaitingApproval).await;
        let used = claims();
        store.let_deal_go(hold.id, used.clone(), go.clone(), 5).await.unwrap();
        let replay = store.let_deal_go(hold.id, used, go.clone(), 6).await.unwrap_err();
        assert_eq!(replay, StoreError::TokenReplayed);
        drop(store);
        let store = place.open().await;
        let record = get(&store, hold).await;
        assert_eq!((record.deal.as_ref(), record.release()), (Some(&deal("deal 1")), Some(go)));
        assert_eq!((record.state, record.history.last().unwrap().at), (State::AwaitingApproval, 5));
    });
}

#[test]
fn a_key_names_the_terms_too() {
    for_each_store(|store| async move {
        let hold = open(&store, "k").await;
        let again = store.accept(opened("k", "deal 1")).await.unwrap();
        assert!(matches!(again, Accepted::Known(id) if id == hold.id));
        for other in [opened("k", "deal 2"), ask("k", 1)] {
            let conflict = store.accept(other).await.unwrap_err();
            assert_eq!(conflict, StoreError::IdempotencyConflict(hold.id));
        }
    });
}

#[test]
fn deals_are_listed_by_themselves() {
    for_each_store(|store| async move {
        let (first, second) = (open(&store, "a").await, open(&store, "b").await);
        store.accept(ask("plain", 1)).await.unwrap();
        let all = Filter { client: None, wallet: None, state: None, deals: false, before: None, limit: 10 };
        assert_eq!(store.list(all.clone()).await.unwrap().len(), 3);
        let deals = store.list(Filter { deals: true, ..all }).await.unwrap();
        assert_eq!(deals.iter().map(|record| record.id).collect::<Vec<_>>(), [second.id, first.id]);
    });
}
