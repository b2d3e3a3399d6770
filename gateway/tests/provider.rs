//! A screening provider that is slow, failing or talking nonsense clears nobody.

#![allow(clippy::unwrap_used, reason = "tests state their assumptions bluntly")]

use std::time::Duration;

use chains::address::{Address, UncheckedAddress};
use gateway::screening::provider::{Identification, Provider, ProviderConfig, ProviderError};
use serde_json::json;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const ADDRESS: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

fn address() -> Address {
    UncheckedAddress::new(ADDRESS).require_network("ethereum:1".parse().unwrap()).unwrap()
}

struct Desk {
    server: MockServer,
    provider: Provider,
    _dir: tempfile::TempDir,
}

/// Longer than anything here takes.
const PATIENT: u64 = 30_000;

async fn desk(timeout_ms: u64) -> Desk {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = MockServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let api_key_file = dir.path().join("key");
    std::fs::write(&api_key_file, "s3cret\n").unwrap();
    let config = ProviderConfig { id: "p".to_owned(), url: server.uri(), api_key_file, timeout_ms };
    Desk { provider: Provider::new(&config).unwrap(), server, _dir: dir }
}

impl Desk {
    async fn answers(&self, response: ResponseTemplate) {
        self.server.reset().await;
        Mock::given(method("GET")).respond_with(response).mount(&self.server).await;
    }

    async fn ask(&self) -> Result<Vec<Identification>, String> {
        self.provider.identifications(&address()).await.map_err(|e| e.to_string())
    }
}

/// The answers of the service's own documentation.
#[tokio::test]
async fn asks_as_the_service_wants_and_reads_its_answers() {
    let desk = desk(PATIENT).await;
    let asked = || {
        Mock::given(method("GET")).and(path(format!("/api/v1/address/{ADDRESS}"))).and(header("x-api-key", "s3cret"))
    };
    asked()
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "identifications": [] })))
        .up_to_n_times(1)
        .mount(&desk.server)
        .await;
    assert_eq!(desk.ask().await, Ok(vec![]));
    let found = json!({ "identifications": [{
        "category": "sanctions",
        "name": "SANCTIONS: OFAC SDN Secondeye Solution 2021-04-15",
        "description": "Pakistan-based Secondeye Solution",
        "url": "https://home.treasury.gov/news/press-releases/jy0126",
    }] });
    asked().respond_with(ResponseTemplate::new(200).set_body_json(found)).mount(&desk.server).await;
    let answer = desk.ask().await.unwrap();
    assert_eq!(answer.first().map(|found| found.category.as_str()), Some("sanctions"));
}

#[tokio::test]
async fn whatever_is_no_answer_clears_nobody() {
    let long = format!(r#"{{"identifications": [], "padding": "{}"}}"#, "x".repeat(100_000));
    let responses = [
        ResponseTemplate::new(200).set_body_string(""),
        ResponseTemplate::new(200).set_body_string("<html>It works!</html>"),
        ResponseTemplate::new(200).set_body_string("{}"),
        ResponseTemplate::new(200).set_body_string("null"),
        ResponseTemplate::new(200).set_body_string(r#"{"identifications": null}"#),
        ResponseTemplate::new(200).set_body_string(r#"{"identifications": [}"#),
        ResponseTemplate::new(200).set_body_string(long),
        ResponseTemplate::new(204),
        ResponseTemplate::new(302).insert_header("location", "/elsewhere"),
        ResponseTemplate::new(401),
        ResponseTemplate::new(404),
        ResponseTemplate::new(429),
        ResponseTemplate::new(503),
    ];
    for response in responses {
        let desk = desk(PATIENT).await;
        desk.answers(response.clone()).await;
        assert!(desk.ask().await.is_err(), "{response:?}");
    }
}

#[tokio::test]
async fn a_slow_or_absent_provider_clears_nobody_and_tells_no_address() {
    let desk = desk(300).await;
    let late = ResponseTemplate::new(200).set_body_json(json!({ "identifications": [] }));
    desk.answers(late.set_delay(Duration::from_secs(60))).await;
    let error = desk.ask().await.unwrap_err();
    assert!(error.contains("in time") && !error.contains(ADDRESS), "{error}");
    let Desk { server, provider, _dir } = desk;
    drop(server);
    let error = provider.identifications(&address()).await.unwrap_err().to_string();
    assert!(!error.contains(ADDRESS) && !error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_dead_provider_is_left_alone_for_a_while() {
    let desk = desk(PATIENT).await;
    desk.answers(ResponseTemplate::new(500)).await;
    for _ in 0..20 {
        assert!(desk.ask().await.is_err());
    }
    let asked: Vec<Request> = desk.server.received_requests().await.unwrap();
    assert_eq!(asked.len(), 5);
    // Resting, it clears nobody, whatever it would say.
    desk.answers(ResponseTemplate::new(200).set_body_json(json!({ "identifications": [] }))).await;
    assert!(desk.ask().await.is_err());
}

#[test]
fn a_provider_needs_a_key_and_a_url() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let config = |url: &str| ProviderConfig {
        id: "p".to_owned(),
        url: url.to_owned(),
        api_key_file: key.clone(),
        timeout_ms: 300,
    };
    assert!(matches!(Provider::new(&config("https://example.org")), Err(ProviderError::Key { .. })));
    std::fs::write(&key, "\n\n").unwrap();
    assert!(Provider::new(&config("https://example.org")).is_err());
    std::fs::write(&key, "k").unwrap();
    assert!(matches!(Provider::new(&config("nowhere")), Err(ProviderError::Url { .. })));
}
