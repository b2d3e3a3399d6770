//! Requests: bodies are read strictly and the same by two readers; no token passes that the credential didn't sign.

#![no_main]

use fuzz::roster;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use signer::request::{Cancellation, SignedRequest, Submission, parse_call};

fuzz_target!(|data: &[u8]| {
    if let Ok(call) = parse_call(data) {
        let other: Value = serde_json::from_slice(data).expect("it is JSON for every reader");
        assert_eq!(other.get("method").and_then(Value::as_str), Some(&*call.method));
        assert_eq!(other.get("params").cloned().unwrap_or_default(), call.params);
        if let Ok(submission) = Submission::from_call(&call) {
            let intent = other.pointer("/params/intent").or(other.pointer("/params/0/intent"));
            let read = intent.map(|intent| serde_json::from_value::<chains::intent::Intent>(intent.clone()));
            if let Some(read) = read {
                assert_eq!(read.expect("the intent reads by itself"), submission.intent);
            }
        }
        let _ = Cancellation::from_call(&call);
    }
    // The first line is the token, the rest its body.
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (token, body) = data.split_at(end);
    if let Ok(token) = str::from_utf8(token) {
        let request = SignedRequest { token: token.to_owned(), body: body.to_vec() };
        assert!(request.authenticate(&roster()).is_err(), "nobody has signed this");
    }
});
