//! Approvals (DSSE): nothing counts that the approver didn't sign, and what is written reads again.

#![no_main]

use fuzz::roster;
use libfuzzer_sys::fuzz_target;
use signer::approval::{Approval, PAYLOAD_TYPE, Statement, pre_authentication_of};
use signer::roster::Role;

fuzz_target!(|data: &[u8]| {
    if let Ok(approval) = serde_json::from_slice::<Approval>(data) {
        let written = serde_json::to_vec(&approval).expect("an approval has a JSON");
        assert_eq!(serde_json::from_slice::<Approval>(&written).expect("it reads again"), approval);
        let found = approval.statement(&roster(), PAYLOAD_TYPE, &[Role::Approver], Statement::to_payload);
        assert!(found.is_err(), "nobody has signed this");
    }
    // A statement has one spelling.
    if let Ok(statement) = serde_json::from_slice::<Statement>(data) {
        let spelled = statement.to_payload();
        let again: Statement = serde_json::from_slice(&spelled).expect("it reads again");
        assert_eq!((again.to_payload(), again), (spelled, statement));
    }
    // No two pairs of type and payload are signed alike.
    let (kind, payload) = data.split_at(data.len() / 2);
    if let (Ok(kind), Ok(all)) = (str::from_utf8(kind), str::from_utf8(data)) {
        let same = payload.is_empty();
        assert_eq!(pre_authentication_of(kind, payload) == pre_authentication_of(all, b""), same);
    }
});
