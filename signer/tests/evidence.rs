//! The client's signed request: who signed it, what it covers, and what its body says. Nothing else passes.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chains::intent::Action;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use signer::request::{
    AuthError, BodyError, Claims, Evidence, IdempotencyKey, MAX_BODY_LEN, SignedRequest, SigningRequest, Submission,
    parse_call,
};
use signer::roster::{Audience, Credential, CredentialId, Role, Roster};

const BODY: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tx_submit","params":{}}"#;
const IAT: u64 = 1_700_000_000;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn id(name: &str) -> CredentialId {
    name.parse().expect("a name")
}

fn roster_of(name: &str, public_key: VerifyingKey) -> Roster {
    let other = SigningKey::from_bytes(&[9; 32]).verifying_key();
    Roster::new(vec![
        Credential { id: id(name), role: Role::Initiator, public_key },
        Credential { id: id("other"), role: Role::Viewer, public_key: other },
    ])
    .expect("two credentials")
}

fn roster() -> Roster {
    roster_of("trader", key().verifying_key())
}

fn signed() -> SignedRequest {
    SignedRequest::sign(&key(), &id("trader"), "/", "jti-1", IAT, 30, BODY.to_vec())
}

/// Signs any header and claims with the trader's key.
fn token(header: &Value, claims: &Value) -> SignedRequest {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key().sign(message.as_bytes()).to_bytes());
    SignedRequest { token: format!("{message}.{signature}"), body: BODY.to_vec() }
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "JWT"})
}

fn claims() -> Value {
    let (_, claims) = signed().authenticate(&roster()).map(|(c, claims)| (c.clone(), claims)).expect("authentic");
    serde_json::to_value(claims).expect("claims are JSON")
}

fn changed(mut value: Value, name: &str, to: Value) -> Value {
    value[name] = to;
    value
}

#[test]
fn what_a_client_signs_authenticates() {
    let roster = roster();
    let (credential, claims) = signed().authenticate(&roster).expect("authentic");
    assert_eq!(credential.id, id("trader"));
    assert_eq!(credential.role, Role::Initiator);
    assert_eq!((claims.uri.as_str(), claims.jti.as_str(), claims.iat, claims.exp), ("/", "jti-1", IAT, IAT + 30));
    // The helper of the tests below makes the same.
    assert!(token(&header(), &serde_json::to_value(claims).expect("JSON")).authenticate(&roster).is_ok());
}

#[derive(Deserialize)]
struct Clients {
    public_key_x: String,
    body: String,
    claims: Claims,
    tokens: std::collections::BTreeMap<String, String>,
}

#[test]
fn tokens_of_other_libraries_authenticate() {
    let clients: Clients =
        serde_json::from_str(include_str!("../../tests/vectors/jwt-clients.json")).expect("the vectors' form");
    let key = URL_SAFE_NO_PAD.decode(&clients.public_key_x).expect("base64url").try_into().expect("32 bytes");
    let roster = roster_of("demo-trader", VerifyingKey::from_bytes(&key).expect("a key"));
    assert_eq!(clients.tokens.len(), 4);
    for (library, token) in clients.tokens {
        let request = SignedRequest { token, body: clients.body.clone().into_bytes() };
        let (_, claims) = request.authenticate(&roster).unwrap_or_else(|e| panic!("{library}: {e}"));
        assert_eq!(claims, clients.claims, "{library}");
    }
    let call = parse_call(clients.body.as_bytes()).expect("a call");
    Submission::from_call(&call).expect("a submission");

    let pkcs8 = SigningKey::from_bytes(&[7; 32]).to_pkcs8_der().expect("PKCS#8");
    let pkcs8 = EncodingKey::from_ed_der(pkcs8.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &self::claims(), &pkcs8).expect("a token");
    assert!(SignedRequest { token, body: BODY.to_vec() }.authenticate(&self::roster()).is_ok());
}

#[test]
fn only_eddsa_is_taken() {
    let roster = roster();
    for alg in ["none", "None", "HS256", "ES256", "RS256", "Ed25519", "eddsa", ""] {
        let request = token(&changed(header(), "alg", alg.into()), &claims());
        assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::Algorithm, "{alg}");
    }
    // No signature at all.
    let unsigned = token(&changed(header(), "alg", "none".into()), &claims()).token;
    let unsigned = unsigned.rsplit_once('.').expect("three parts").0;
    let request = SignedRequest { token: format!("{unsigned}."), body: BODY.to_vec() };
    assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::Algorithm);
    // The public key taken for an HMAC secret, under either name of the algorithm.
    let secret = EncodingKey::from_secret(key().verifying_key().as_bytes());
    let hmac = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &secret).expect("a token");
    let request = SignedRequest { token: hmac.clone(), body: BODY.to_vec() };
    assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::Algorithm);
    let (_, rest) = hmac.split_once('.').expect("three parts");
    let renamed = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header().to_string()));
    let request = SignedRequest { token: renamed, body: BODY.to_vec() };
    assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::Signature(id("trader")));
}

#[test]
fn headers_that_change_the_meaning_are_refused() {
    let roster = roster();
    for (name, value) in [
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("jwk", json!({})),
        ("jku", json!("https://example.com")),
        ("typ", json!("at+jwt")),
    ] {
        let request = token(&changed(header(), name, value), &claims());
        assert!(matches!(request.authenticate(&roster), Err(AuthError::Malformed(_))), "{name}");
    }
}

#[test]
fn the_key_must_be_the_subjects() {
    let roster = roster();
    // A key of the roster that isn't the subject's; a subject that isn't in the roster.
    let request = token(&header(), &changed(claims(), "sub", "other".into()));
    assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::Signature(id("other")));
    let request = token(&header(), &changed(claims(), "sub", "nobody".into()));
    assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::UnknownCredential(id("nobody")));
    // Not even a signature that verifies under the neutral element: R = identity, s = 0.
    let (message, _) = request.token.rsplit_once('.').expect("three parts");
    let mut forged = [0; 64];
    forged[0] = 1;
    let request = SignedRequest { token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(forged)), body: BODY.to_vec() };
    assert_eq!(request.authenticate(&roster).unwrap_err(), AuthError::UnknownCredential(id("nobody")));
}

#[test]
fn claims_have_one_shape() {
    let roster = roster();
    let refused = |claims: &Value| token(&header(), claims).authenticate(&roster).unwrap_err();
    for (name, value) in [
        ("sub", json!("Trader")),
        ("sub", json!(1)),
        ("uri", json!(null)),
        ("jti", json!("")),
        ("jti", json!("a".repeat(65))),
        ("jti", json!("a b")),
        ("jti", json!("é")),
        ("iat", json!("1700000000")),
        ("iat", json!(1.5)),
        ("iat", json!(-1)),
        ("exp", json!(1e300)),
        ("bodyHash", json!("")),
        ("bodyHash", json!("00")),
        ("bodyHash", json!("g".repeat(64))),
        ("iss", json!("elsewhere")),
        ("nbf", json!(1)),
    ] {
        let error = refused(&changed(claims(), name, value.clone()));
        assert!(matches!(error, AuthError::Malformed(_)), "{name} = {value}: {error}");
    }
    for name in ["sub", "uri", "jti", "iat", "exp", "bodyHash"] {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").remove(name);
        assert!(matches!(refused(&claims), AuthError::Malformed(_)), "{name}");
    }
    for exp in [IAT - 1, IAT, IAT + 61, u64::MAX] {
        let error = refused(&changed(claims(), "exp", exp.into()));
        assert_eq!(error, AuthError::Lifetime { iat: IAT, exp });
    }
    let longest = token(&header(), &changed(claims(), "exp", (IAT + 60).into()));
    assert!(longest.authenticate(&roster).is_ok());
    let upper = claims()["bodyHash"].as_str().expect("a string").to_uppercase();
    assert!(token(&header(), &changed(claims(), "bodyHash", upper.into())).authenticate(&roster).is_ok());
}

#[test]
fn tokens_have_one_form() {
    let roster = roster();
    let good = signed().token;
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b".to_owned(),
        message.to_owned(),
        format!("{good}."),
        format!("{good}.a"),
        format!(".{good}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{message}."),
        format!("{message}.{signature}A"),
        format!("{message}.{}", &signature[1..]),
        "a".repeat(5000),
    ] {
        let request = SignedRequest { token: bad.clone(), body: BODY.to_vec() };
        assert!(request.authenticate(&roster).is_err(), "{bad:?}");
    }
}

#[test]
fn a_request_is_for_one_deployment() {
    let audience = |name: &str| -> Audience { name.parse().expect("a name") };
    let for_it = |name: &str| token(&header(), &changed(claims(), "aud", name.into()));
    let (unnamed, treasury) = (roster(), roster().for_audience(Some(audience("treasury"))));
    let (_, claims) =
        for_it("treasury").authenticate(&treasury).map(|(c, claims)| (c.clone(), claims)).expect("authentic");
    assert_eq!(claims.aud, Some(audience("treasury")));
    for (roster, request, claimed) in [
        (&treasury, signed(), None),
        (&treasury, for_it("staging"), Some(audience("staging"))),
        (&unnamed, for_it("treasury"), Some(audience("treasury"))),
    ] {
        assert_eq!(request.authenticate(roster).unwrap_err(), AuthError::Audience(claimed));
    }
    for odd in [json!(""), json!("Treasury"), json!(["treasury"]), json!(1)] {
        let request = token(&header(), &changed(self::claims(), "aud", odd));
        assert!(matches!(request.authenticate(&treasury), Err(AuthError::Malformed(_))));
    }
}

#[test]
fn freshness_is_the_receivers_to_say() {
    let roster = roster();
    let request = signed();
    let (_, claims) = request.authenticate(&roster).expect("authentic");
    assert_eq!(claims.check_fresh(IAT, 0, "/"), Ok(()));
    assert_eq!(claims.check_fresh(IAT - 5, 5, "/"), Ok(()));
    assert_eq!(claims.check_fresh(IAT - 6, 5, "/"), Err(AuthError::NotYetValid { iat: IAT, now: IAT - 6 }));
    assert_eq!(claims.check_fresh(IAT + 29, 0, "/"), Ok(()));
    assert_eq!(claims.check_fresh(IAT + 30, 0, "/"), Err(AuthError::Expired { exp: IAT + 30, now: IAT + 30 }));
    assert_eq!(claims.check_fresh(IAT + 34, 5, "/"), Ok(()));
    assert_eq!(claims.check_fresh(IAT + 35, 5, "/"), Err(AuthError::Expired { exp: IAT + 30, now: IAT + 35 }));
    assert_eq!(claims.check_fresh(IAT, 0, "/v2"), Err(AuthError::WrongUri { claimed: "/".to_owned() }));
    assert_eq!(claims.check_fresh(u64::MAX, u64::MAX, "/"), Err(AuthError::Expired { exp: IAT + 30, now: u64::MAX }));
}

proptest! {
    #[test]
    fn a_flipped_bit_of_the_body_is_refused(at in 0..BODY.len() * 8) {
        let mut request = signed();
        request.body[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(request.authenticate(&roster()).unwrap_err(), AuthError::BodyHash(id("trader")));
    }

    #[test]
    fn another_body_is_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assume!(body != BODY);
        let request = SignedRequest { body, ..signed() };
        prop_assert_eq!(request.authenticate(&roster()).unwrap_err(), AuthError::BodyHash(id("trader")));
    }

    #[test]
    fn a_changed_character_of_the_token_is_refused(at: prop::sample::Index, by in 0_u8..128) {
        let mut request = signed();
        let mut token = request.token.into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != by);
        token[at] = by;
        request.token = String::from_utf8(token).expect("ASCII");
        prop_assert!(request.authenticate(&roster()).is_err());
    }

    #[test]
    fn nothing_panics(token in "\\PC{0,60}(\\.\\PC{0,60}){0,3}", body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_call(&body);
        let request = SignedRequest { token, body };
        prop_assert!(request.authenticate(&roster()).is_err());
    }

    /// Whatever two readers could read alike, they read alike: the strict reader agrees with serde_json.
    #[test]
    fn the_strict_reader_reads_what_others_read(name in "\\PC{0,10}", text in "\\PC{0,20}", number: i64, flag: bool) {
        let params = json!({name.as_str(): [text, number, flag, null, {"a": {"b": []}}]});
        let body = json!({"jsonrpc": "2.0", "id": text, "method": name, "params": params}).to_string();
        let call = parse_call(body.as_bytes()).expect("a call");
        prop_assert_eq!(call.params, params);
        prop_assert_eq!((call.method, call.id), (name, Value::from(text)));
    }
}

fn parse(body: &str) -> Result<signer::request::Call, BodyError> {
    parse_call(body.as_bytes())
}

/// A call whose `params` hold arrays down to `depth` levels, the call itself counted.
fn nested(depth: usize) -> String {
    let inner = depth - 1;
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{}{}}}"#, "[".repeat(inner), "]".repeat(inner))
}

#[test]
fn depth_and_length_are_bounded() {
    assert!(parse(&nested(32)).is_ok());
    assert_eq!(parse(&nested(33)), Err(BodyError::TooDeep));
    assert_eq!(parse(&nested(10_000)), Err(BodyError::TooDeep));
    assert_eq!(parse(&r#"{"a":"#.repeat(33)), Err(BodyError::TooDeep));
    let spaces = MAX_BODY_LEN - nested(2).len();
    assert!(parse(&(nested(2) + &" ".repeat(spaces))).is_ok());
    assert_eq!(parse(&(nested(2) + &" ".repeat(spaces + 1))), Err(BodyError::TooLong));
}

#[test]
fn a_key_stands_once_at_every_level() {
    for body in [
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","method":"n"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"to":1,"to":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[[{"x":{"to":1,"a":2,"to":3}}]]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"to":1,"\u0074o":2}}"#,
    ] {
        assert!(matches!(parse(body), Err(BodyError::DuplicateKey(_))), "{body}: {:?}", parse(body));
    }
}

#[test]
fn numbers_are_integers_of_64_bits() {
    let with = |number: &str| parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":[{number}]}}"#));
    for good in ["0", "-1", "18446744073709551615", "-9223372036854775808"] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in ["1.0", "1.5", "1e2", "-0", "-0.0", "18446744073709551616", "-9223372036854775809", "1e308"] {
        assert_eq!(with(bad), Err(BodyError::Number), "{bad}");
    }
    for bad in ["NaN", "Infinity", "-Infinity", "1e999", "01", "+1", ".5", "1.", "0x10", "1_000", "--1"] {
        assert!(matches!(with(bad), Err(BodyError::Json(_))), "{bad}: {:?}", with(bad));
    }
}

#[test]
fn a_body_is_one_call() {
    let good = r#"{"jsonrpc":"2.0","id":"a","method":"m"}"#;
    let call = parse(good).expect("a call");
    assert_eq!((call.id, call.method.as_str(), call.params), (json!("a"), "m", Value::Null));

    for tail in ["x", "{}", ",", "]", "\0", good] {
        assert!(matches!(parse(&format!("{good}{tail}")), Err(BodyError::Json(_))), "{tail:?}");
    }
    assert!(parse(&format!(" {good}\r\n")).is_ok());
    for bad in ["", " ", "{", "{\"jsonrpc\"", "'a'", "{a:1}", "[1,]", "// x\n{}", "\u{feff}{}", "\"\u{1}\""] {
        assert!(matches!(parse(bad), Err(BodyError::Json(_))), "{bad:?}");
    }
    assert!(matches!(parse_call(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}"), Err(BodyError::Json(_))));
    assert!(matches!(parse(r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#), Err(BodyError::Json(_))));
    for bad in [
        "[]".to_owned(),
        format!("[{good}]"),
        "null".to_owned(),
        "\"m\"".to_owned(),
        "{}".to_owned(),
        r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#.to_owned(),
        r#"{"jsonrpc":2,"id":1,"method":"m"}"#.to_owned(),
        r#"{"id":1,"method":"m"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"m"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":[1],"method":"m"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"m","extra":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#.to_owned(),
    ] {
        assert!(matches!(parse(&bad), Err(BodyError::NotACall(_))), "{bad}: {:?}", parse(&bad));
    }
}

fn submission(params: &Value) -> Result<Submission, BodyError> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params}).to_string();
    Submission::from_call(&parse(&body).expect("a call"))
}

fn payment() -> Value {
    json!({
        "idempotency_key": "invoice-17",
        "intent": {
            "wallet": "treasury-eth",
            "action": {
                "kind": "transfer", "asset": "native",
                "to": "0x52908400098527886E0F7030069857D2E4169EE7", "amount": "1"
            },
            "max_fee": "10",
            "reference": "invoice 17"
        }
    })
}

#[test]
fn a_submission_has_its_parts_and_no_others() {
    let read = submission(&payment()).expect("a submission");
    assert_eq!(read.idempotency_key.as_str(), "invoice-17");
    assert!(matches!(read.intent.action, Action::Transfer { .. }));

    type Change = fn(&mut Value);
    let changes: [(&str, Change); 15] = [
        ("an unknown parameter", |p| p["priority"] = json!(1)),
        ("an unknown part of the intent", |p| p["intent"]["fee"] = json!("1")),
        ("an unknown part of the action", |p| p["intent"]["action"]["memo"] = json!("x")),
        ("an unknown action", |p| p["intent"]["action"]["kind"] = json!("sweep")),
        ("a call with a transfer's parts", |p| p["intent"]["action"]["kind"] = json!("call")),
        ("a number for an amount", |p| p["intent"]["action"]["amount"] = json!(1)),
        ("a signed amount", |p| p["intent"]["action"]["amount"] = json!("-1")),
        ("an amount with a point", |p| p["intent"]["action"]["amount"] = json!("1.5")),
        ("an amount above 256 bits", |p| p["intent"]["action"]["amount"] = json!("9".repeat(78))),
        ("no such asset", |p| p["intent"]["action"]["asset"] = json!("erc20:0x00")),
        ("no such wallet name", |p| p["intent"]["wallet"] = json!("Treasury")),
        ("no wallet", |p| drop(p["intent"].as_object_mut().map(|i| i.remove("wallet")))),
        ("no intent", |p| drop(p.as_object_mut().map(|p| p.remove("intent")))),
        ("no key", |p| drop(p.as_object_mut().map(|p| p.remove("idempotency_key")))),
        ("an empty key", |p| p["idempotency_key"] = json!("")),
    ];
    for (what, change) in changes {
        let mut params = payment();
        change(&mut params);
        assert!(matches!(submission(&params), Err(BodyError::Params(_))), "{what}: {:?}", submission(&params));
    }
    assert!(matches!(submission(&json!(["invoice-17", payment()["intent"]])), Err(BodyError::Params(_))));

    let mut params = payment();
    params["intent"]["reference"] = json!("é".repeat(128));
    assert!(submission(&params).is_ok());
    params["intent"]["reference"] = json!("é".repeat(128) + "x");
    assert_eq!(submission(&params), Err(BodyError::ReferenceTooLong { found: 257, max: 256 }));

    let other = json!({"jsonrpc": "2.0", "id": 1, "method": "tx_get", "params": payment()}).to_string();
    let other = Submission::from_call(&parse(&other).expect("a call"));
    assert!(matches!(other, Err(BodyError::Method { expected: "tx_submit", .. })));
}

#[test]
fn keys_are_printable() {
    for good in ["a", "~!@#/\\\"'", &"k".repeat(64)] {
        assert_eq!(good.parse::<IdempotencyKey>().map(|key| key.to_string()), Ok(good.to_owned()));
    }
    for bad in ["", "a b", "a\n", "é", "\u{7f}", &"k".repeat(65)] {
        assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
    }
}

#[test]
fn an_intent_is_one_client_and_one_key() {
    let first = submission(&payment()).expect("a submission");
    let mut params = payment();
    params["intent"]["action"]["amount"] = json!("2");
    let same_key = submission(&params).expect("a submission");
    params["idempotency_key"] = json!("invoice-18");
    let other_key = submission(&params).expect("a submission");
    let trader = id("trader");
    assert_eq!(first.intent_id(&trader), same_key.intent_id(&trader));
    assert_ne!(first.intent_id(&trader), other_key.intent_id(&trader));
    assert_ne!(first.intent_id(&trader), first.intent_id(&id("other")));
    // No two pairs run together.
    let key = |text: &str| Submission { idempotency_key: text.parse().expect("a key"), ..first.clone() };
    assert_ne!(key("bc").intent_id(&id("a")), key("c").intent_id(&id("ab")));
}

#[test]
fn a_signing_request_survives_its_json() {
    let request = SigningRequest {
        tx: uuid::Uuid::from_u128(7),
        wallet: "treasury-eth".parse().expect("a name"),
        unsigned: vec![0, 255, 1],
        evidence: Evidence { request: signed(), approvals: Vec::new(), cancel: None, release: None },
        fence: u64::MAX,
        policy: signer::policy::Policy::default().digest(),
    };
    let json = serde_json::to_value(&request).expect("JSON");
    assert_eq!(json["unsigned"], "AP8B");
    assert_eq!(serde_json::from_value::<SigningRequest>(json.clone()).expect("a request"), request);
    for (name, value) in [("hash", json!("00")), ("unsigned", json!("AP8")), ("unsigned", json!([0, 255]))] {
        assert!(serde_json::from_value::<SigningRequest>(changed(json.clone(), name, value)).is_err(), "{name}");
    }
}
