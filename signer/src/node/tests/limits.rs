//! Every signer holds the limits of its own policy by its own count.

use serde_json::json;

use super::desk;
use super::witness::{pay, restart};
use super::*;

/// Payment number n pays 1000 + n.
#[test]
fn a_signer_refuses_what_passes_a_limit_by_its_own_count() {
    let (mut signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    let limit = json!({
        "id": "sol-monthly", "wallets": ["sol"], "asset": "native", "per": "initiator",
        "window": "366d", "max_amount": "3000"
    });
    let desk = desk.with_limits(&json!([limit]));
    signers.nodes.iter().for_each(|node| desk.install(node));
    assert!(pay(&signers, &desk, ["a", "b"], 1).iter().all(signed));
    assert!(pay(&signers, &desk, ["a", "b"], 2).iter().all(signed));
    for _ in 0..2 {
        for answer in pay(&signers, &desk, ["a", "b"], 3) {
            let Err(Stop::Refused(reason)) = answer else { panic!("a limit is passed") };
            assert!(reason.contains("sol-monthly") && reason.contains("2003"), "{reason}");
        }
        restart(&mut signers, &desk, "a", |_| ());
        restart(&mut signers, &desk, "b", |_| ());
    }
    // What was signed may be signed again: it draws nothing.
    assert!(pay(&signers, &desk, ["a", "b"], 2).iter().all(signed));
    // A signer that took no part has counted nothing, so it is the quorum that holds the limit.
    let answers = pay(&signers, &desk, ["c", "a"], 3);
    assert!(matches!(answers[0], Ok(Answer::Letters { .. })) && refused_by_limit(&answers[1]));
}

fn refused_by_limit(answer: &Result<Answer, Stop>) -> bool {
    matches!(answer, Err(Stop::Refused(reason)) if reason.contains("limit"))
}
