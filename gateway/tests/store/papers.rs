//! What is kept beside the records, and Travel Rule data that belongs to one.

use gateway::record::State;
use gateway::store::{Paper, PaperKind, StoreError};
use serde_json::json;

use crate::world::{accept, claims, for_each_place, for_each_store, get, judge_with};

fn paper(kind: PaperKind, name: &str, content: &str) -> Paper {
    Paper { kind, name: name.to_owned(), content: content.to_owned() }
}

#[test]
fn papers_are_kept_by_kind_and_name_the_latest_of_each() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let used = claims();
        let papers = [
            paper(PaperKind::Override, "b", "1"),
            paper(PaperKind::Override, "a", "2"),
            paper(PaperKind::Delegation, "a", "3"),
            paper(PaperKind::Override, "b", "4"),
        ];
        for paper in papers {
            store.keep(paper, claims(), 5).await.unwrap();
        }
        store.keep(paper(PaperKind::Revocation, "x", "5"), used.clone(), 6).await.unwrap();
        let replay = store.keep(paper(PaperKind::Override, "c", "6"), used, 7).await.unwrap_err();
        assert_eq!(replay, StoreError::TokenReplayed);
        drop(store);
        let store = place.open().await;
        let kept = store.papers(PaperKind::Override).await.unwrap();
        assert_eq!(kept, [paper(PaperKind::Override, "a", "2"), paper(PaperKind::Override, "b", "4")]);
        let one = store.paper(PaperKind::Delegation, "a").await.unwrap();
        assert_eq!(one, Some(paper(PaperKind::Delegation, "a", "3")));
        assert_eq!(store.paper(PaperKind::Delegation, "b").await.unwrap(), None);
    });
}

#[test]
fn travel_data_comes_with_its_event_and_takes_the_reason_away() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        let attach =
            |data: &str| store.attach_travel(hold.id, data.to_owned(), json!({ "travel_digest": data }), claims(), 7);
        assert!(matches!(attach("early").await, Err(StoreError::Stale { found: State::Received, .. })));
        judge_with(&store, hold, State::AwaitingApproval, Vec::new()).await.unwrap();
        assert!(get(&store, hold).await.reason.is_some());
        for data in ["first", "second"] {
            attach(data).await.unwrap();
        }
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.reason), (State::AwaitingApproval, None));
        let told = record.history.last().unwrap().detail.as_ref().unwrap();
        assert_eq!(*told, json!({ "travel_digest": "second" }));
        let kept = store.papers(PaperKind::Travel).await.unwrap();
        assert_eq!(kept, [paper(PaperKind::Travel, &hold.id.to_string(), "second")], "the refused one left nothing");
    });
}
