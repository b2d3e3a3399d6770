use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use prost::Message;
use rustls::pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;

use super::dial::{Broken, Line};
use super::*;
use crate::transport::{SignerId, Transport, TransportError};

fn reassemble(frames: Vec<Frame>) -> Result<Option<Vec<u8>>, TooMuch> {
    let mut unfinished = Unfinished::default();
    for frame in frames {
        if let Some(post) = unfinished.take(frame)? {
            return Ok(Some(post.body));
        }
    }
    Ok(None)
}

#[test]
fn a_message_of_any_length_arrives_whole_in_frames_of_at_most_a_mebibyte() {
    for len in [0, 1, MAX_FRAME - FRAME_HEAD, MAX_FRAME, 3 * MAX_FRAME + 7] {
        let body = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>();
        let post = Post { call: u64::MAX, patience: Duration::from_millis(u64::MAX), body: body.clone() };
        let frames = post.frames();
        assert!(frames.iter().all(|frame| frame.encoded_len() <= MAX_FRAME), "{len}");
        assert_eq!(reassemble(frames).unwrap().unwrap(), body, "{len}");
    }
}

#[test]
fn frames_of_several_messages_may_be_mixed() {
    let post = |call, byte| Post { call, patience: Duration::ZERO, body: vec![byte; 2 * MAX_FRAME] }.frames();
    let mut unfinished = Unfinished::default();
    let mut done = Vec::new();
    for (one, other) in post(1, 7).into_iter().zip(post(2, 9)) {
        done.extend(unfinished.take(one).unwrap());
        done.extend(unfinished.take(other).unwrap());
    }
    let done = done.iter().map(|post| (post.call, post.body.len(), post.body[0])).collect::<Vec<_>>();
    assert_eq!(done, [(1, 2 * MAX_FRAME, 7), (2, 2 * MAX_FRAME, 9)]);
    assert_eq!(unfinished.parts.len(), 0);
}

#[test]
fn an_endless_message_is_refused_and_so_are_endless_beginnings() {
    let frame = |call| Frame { call, more: true, patience_ms: 0, body: vec![0; MAX_FRAME - FRAME_HEAD] };
    let mut unfinished = Unfinished::default();
    assert!((0..40).any(|_| unfinished.take(frame(1)).is_err()));
    let mut unfinished = Unfinished::default();
    let empty = |call| Frame { call, more: true, patience_ms: 0, body: Vec::new() };
    assert!((0..1000).any(|call| unfinished.take(empty(call)).is_err()));
}

const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers with what it is asked, but never to `silence`.
#[derive(Default)]
struct Parrot {
    asked: AtomicU32,
}

impl Transport for Parrot {
    fn call<'a>(
        &'a self,
        _to: &'a SignerId,
        request: Vec<u8>,
        _deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        async move { if request == b"silence" { std::future::pending().await } else { Ok(request) } }.boxed()
    }
}

fn identity(name: &str) -> LinkIdentity {
    LinkIdentity::generate(name, UnixTime::now().as_secs(), HOUR).unwrap()
}

/// An identity whose certificate ran out an hour ago.
fn expired(name: &str) -> LinkIdentity {
    LinkIdentity::generate(name, UnixTime::now().as_secs() - 7_200, HOUR).unwrap()
}

fn id(name: &str) -> SignerId {
    name.parse().unwrap()
}

async fn listen(identity: &LinkIdentity, pins: &[(&str, Pin)]) -> Coordinator {
    let pins = pins.iter().map(|(name, pin)| (id(name), *pin)).collect::<BTreeMap<_, _>>();
    Coordinator::listen("127.0.0.1:0".parse().unwrap(), identity, pins).await.unwrap()
}

fn line(coordinator: &Coordinator, pin: Pin, identity: LinkIdentity) -> Line {
    let route = Route { address: coordinator.addr().to_string(), coordinator: pin, identity };
    Line::new(&route, Arc::new(Parrot::default()), id("a")).unwrap()
}

/// Attends until the line is refused.
async fn refusal(line: &Line) -> Broken {
    match tokio::time::timeout(PATIENCE, line.attend()).await.expect("a refusal comes at once") {
        Err(broken) => broken,
    }
}

#[tokio::test]
async fn a_signer_that_dials_is_asked_and_answers() {
    let (gateway, signer) = (identity("gateway"), identity("a"));
    let coordinator = listen(&gateway, &[("a", signer.pin()), ("b", identity("b").pin())]).await;
    let call = |request: Vec<u8>| {
        let (coordinator, a) = (&coordinator, id("a"));
        async move { coordinator.call(&a, request, PATIENCE).await }
    };
    assert_eq!(call(vec![1]).await, Err(TransportError::Unreachable), "nobody is there, which is known at once");

    let route = Route { address: coordinator.addr().to_string(), coordinator: gateway.pin(), identity: signer };
    let dialing = dial(&route, Arc::new(Parrot::default()), id("a")).unwrap();
    let mut arrivals = coordinator.arrivals();
    arrivals.wait_for(|count| *count > 0).await.unwrap();
    assert_eq!(coordinator.connected(), [id("a")]);
    assert_eq!(call(b"hello".to_vec()).await.unwrap(), b"hello");
    assert_eq!(call(Vec::new()).await.unwrap(), b"");
    let long = (0..5 * MAX_FRAME).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>();
    assert_eq!(call(long.clone()).await.unwrap(), long, "in several frames, with other calls between");
    assert_eq!(call(vec![0; MAX_MESSAGE + 1]).await, Err(TransportError::TooLong));
    let calls = futures::future::join_all((0..64u8).map(|n| call(vec![n; 10_000]))).await;
    assert!(calls.into_iter().zip(0..64u8).all(|(answer, n)| answer == Ok(vec![n; 10_000])));

    let (a, b) = (id("a"), id("b"));
    let soon = Duration::from_millis(50);
    assert_eq!(coordinator.call(&a, b"silence".to_vec(), soon).await, Err(TransportError::Timeout));
    assert_eq!(coordinator.call(&b, vec![1], PATIENCE).await, Err(TransportError::Unreachable));
    // A question under way when the line breaks has no answer, which is known at once.
    let (silence, ()) = tokio::join!(call(b"silence".to_vec()), dialing.stop());
    assert_eq!(silence, Err(TransportError::Unreachable));
}

#[tokio::test]
async fn a_signer_dials_again_when_the_coordinator_comes_back() {
    let (gateway, signer) = (identity("gateway"), identity("a"));
    let pins = [("a", signer.pin())];
    let coordinator = listen(&gateway, &pins).await;
    let addr = coordinator.addr();
    let route = Route { address: addr.to_string(), coordinator: gateway.pin(), identity: signer };
    let dialing = dial(&route, Arc::new(Parrot::default()), id("a")).unwrap();
    coordinator.gather(PATIENCE).await;
    assert_eq!(coordinator.connected().len(), 1);
    drop(coordinator);
    let pins = pins.iter().map(|(name, pin)| (id(name), *pin)).collect::<BTreeMap<_, _>>();
    // The address is free once the old listener's task has ended.
    let listens = async {
        loop {
            match Coordinator::listen(addr, &gateway, pins.clone()).await {
                Ok(coordinator) => break coordinator,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let coordinator = tokio::time::timeout(PATIENCE, listens).await.expect("the address is free again");
    coordinator.gather(PATIENCE).await;
    assert_eq!(coordinator.call(&id("a"), b"again".to_vec(), PATIENCE).await.unwrap(), b"again");
    dialing.stop().await;
}

#[tokio::test]
async fn a_signer_that_connects_twice_is_asked_over_the_newer_line() {
    let (gateway, signer) = (identity("gateway"), identity("a"));
    let pin = signer.pin();
    let coordinator = listen(&gateway, &[("a", pin)]).await;
    let route = Route { address: coordinator.addr().to_string(), coordinator: gateway.pin(), identity: signer };
    let (old, new) = (Arc::new(Parrot::default()), Arc::new(Parrot::default()));
    let first = Line::new(&route, old.clone(), id("a")).unwrap();
    let first = tokio::spawn(async move { first.attend().await });
    let mut arrivals = coordinator.arrivals();
    arrivals.wait_for(|count| *count == 1).await.unwrap();
    let second = Line::new(&route, new.clone(), id("a")).unwrap();
    let second = tokio::spawn(async move { second.attend().await });
    arrivals.wait_for(|count| *count == 2).await.unwrap();
    assert_eq!(coordinator.call(&id("a"), vec![7], PATIENCE).await.unwrap(), [7]);
    assert_eq!((old.asked.load(Ordering::SeqCst), new.asked.load(Ordering::SeqCst)), (0, 1));
    let ended = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Broken::Ended(reason)) if reason.contains("connected again")));
    assert_eq!(coordinator.connected(), [id("a")], "the end of the older line is not the newer one's");
    second.abort();
}

#[tokio::test]
async fn keys_that_are_not_pinned_are_refused_by_both_ends() {
    let (gateway, signer) = (identity("gateway"), identity("a"));
    let coordinator = listen(&gateway, &[("a", signer.pin())]).await;

    // The signer expects another coordinator.
    let refused = refusal(&line(&coordinator, identity("gateway").pin(), signer)).await;
    assert!(matches!(&refused, Broken::Connect(reason) if reason.contains("UnknownIssuer")), "{refused}");
    // The coordinator expects another signer, of whatever name.
    let refused = refusal(&line(&coordinator, gateway.pin(), identity("a"))).await;
    assert!(!matches!(refused, Broken::Address(..)), "{refused}");
    assert_eq!((coordinator.connected().len(), *coordinator.arrivals().borrow()), (0, 0));
}

#[tokio::test]
async fn one_key_is_one_signers() {
    let (gateway, signer) = (identity("gateway"), identity("a"));
    let pins = [(id("a"), signer.pin()), (id("b"), signer.pin())].into();
    assert!(Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.is_err());
}

#[tokio::test]
async fn certificates_out_of_term_are_refused_by_both_ends() {
    let (gateway, stale) = (identity("gateway"), expired("a"));
    let coordinator = listen(&gateway, &[("a", stale.pin())]).await;
    let refused = refusal(&line(&coordinator, gateway.pin(), stale)).await;
    assert!(!matches!(refused, Broken::Address(..)), "{refused}");
    assert_eq!(*coordinator.arrivals().borrow(), 0);

    let (stale, signer) = (expired("gateway"), identity("a"));
    let coordinator = listen(&stale, &[("a", signer.pin())]).await;
    let refused = refusal(&line(&coordinator, stale.pin(), signer)).await;
    let reason = refused.to_string();
    assert!(reason.contains("Expired") || reason.contains("expired"), "{reason}");
    assert_eq!(*coordinator.arrivals().borrow(), 0);
}

#[tokio::test]
async fn without_a_certificate_or_by_an_older_tls_nobody_gets_in() {
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (gateway, signer) = (identity("gateway"), identity("a"));
    let coordinator = listen(&gateway, &[("a", signer.pin())]).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let good = tls::client(&signer, gateway.pin()).unwrap();
    let mut nameless = good.clone();
    nameless.client_auth_cert_resolver = Arc::new(NoCertificate);
    let older =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let older = older.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    for (config, welcome) in [(good, true), (nameless, false), (older, false)] {
        let stream = TcpStream::connect(coordinator.addr()).await.unwrap();
        let name = ServerName::try_from("coordinator").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let greeted = async {
            let mut stream = connected?;
            // HTTP/2's preface and empty settings (RFC 9113, section 3.4).
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
            stream.read_u8().await
        };
        assert_eq!(tokio::time::timeout(PATIENCE, greeted).await.unwrap().is_ok(), welcome);
    }
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_frame_longer_than_a_mebibyte_ends_the_line() {
    let (gateway, signer) = (identity("gateway"), identity("a"));
    let coordinator = listen(&gateway, &[("a", signer.pin())]).await;
    let line = line(&coordinator, gateway.pin(), signer);
    for (len, welcome) in [(MAX_FRAME - FRAME_HEAD, true), (MAX_FRAME + 1, false)] {
        let mut grpc = Grpc::new(line.connect().await.unwrap());
        grpc.ready().await.unwrap();
        let frame = Frame { call: 1_000, more: false, patience_ms: 0, body: vec![0; len] };
        let frames = futures::stream::iter([frame]).chain(futures::stream::pending());
        let path = PathAndQuery::from_static(METHOD);
        let mut questions = grpc.streaming(Request::new(frames), path, codec()).await.unwrap().into_inner();
        if welcome {
            // An answer that nobody waits for is dropped, and the line stays.
            let a = id("a");
            let asked = coordinator.call(&a, b"question".to_vec(), PATIENCE);
            let question = tokio::select! {
                question = questions.message() => question.unwrap().unwrap(),
                asked = asked => unreachable!("nobody answers: {asked:?}"),
            };
            assert_eq!(question.body, b"question");
        } else {
            let ended = tokio::time::timeout(PATIENCE, questions.message()).await.unwrap().unwrap_err();
            assert_eq!(ended.code(), tonic::Code::OutOfRange, "{ended}");
        }
    }
}
