//! WebAuthn assertions: the three parts as bytes, the browser's with the right challenge in it.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fuzz::roster;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use signer::approval::passkey::Assertion;
use signer::approval::{Approval, PAYLOAD_TYPE, Proof, Statement, pre_authentication};
use signer::roster::Role;

fuzz_target!(|data: &[u8]| {
    let Some((lengths, rest)) = data.split_first_chunk::<2>() else { return };
    let Some((authenticator, rest)) = rest.split_at_checked(usize::from(lengths[0])) else { return };
    let Some((client, signature)) = rest.split_at_checked(usize::from(lengths[1])) else { return };
    let payload = b"{}".to_vec();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(pre_authentication(&payload)));
    let made = format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"https://example.org"}}"#);
    let relying_party = Sha256::digest("example.org");
    for (authenticator_data, client_data) in [
        (authenticator.to_vec(), client.to_vec()),
        ([relying_party.as_slice(), authenticator].concat(), made.into_bytes()),
    ] {
        let assertion = Assertion { authenticator_data, client_data, signature: signature.to_vec() };
        let written = serde_json::to_vec(&assertion).expect("an assertion has a JSON");
        assert_eq!(serde_json::from_slice::<Assertion>(&written).expect("it reads again"), assertion);
        let approver = "pia".parse().expect("a name");
        let approval = Approval { approver, payload: payload.clone(), signature: Proof::Passkey(assertion) };
        let found = approval.statement(&roster(), PAYLOAD_TYPE, &[Role::Approver], Statement::to_payload);
        assert!(found.is_err(), "no authenticator has signed this");
    }
});
