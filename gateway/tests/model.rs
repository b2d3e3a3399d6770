//! The life of a transaction against a naive reference: whole gateways (the real pipeline, the real SQLite store, real threshold signers) on
//! a chain that the test drives, through crashes, pauses, takeovers, reorgs, lost answers and lying nodes.
//!
//! After every step the store holds what the reference says, and every write was one that the rules allow. At the end the
//! weather clears, and everything comes to rest: every payment is at its end, its money moved at most once, and the spend
//! ledger equals the chain. `PROPTEST_CASES` says how many sequences there are; `just model` runs many.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "model/chain.rs"]
mod chain;
#[path = "model/house.rs"]
mod house;
#[path = "model/plan.rs"]
mod plan;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/street.rs"]
mod street;
#[path = "model/town.rs"]
mod town;

use proptest::test_runner::Config;
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use plan::{Plan, Step};
use street::Street;

/// How many sequences there are if `PROPTEST_CASES` doesn't say.
const CASES: u32 = 16;

struct Lifecycle;

impl StateMachineTest for Lifecycle {
    type SystemUnderTest = Street;
    type Reference = Plan;

    fn init_test(_: &Plan) -> Street {
        Street::open()
    }

    fn apply(street: Street, _: &Plan, step: Step) -> Street {
        street.take(step);
        street
    }

    fn check_invariants(street: &Street, plan: &Plan) {
        street.check(plan);
    }

    fn teardown(street: Street, plan: Plan) {
        street.come_to_rest(&plan);
    }
}

fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    // What runs at the same time isn't the same twice, so a failure is told with all that was written, and hardly shrunk.
    Config { cases, max_shrink_iters: 30, failure_persistence: None, ..Config::default() }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn every_payment_moves_money_at_most_once(sequential 10..60 => Lifecycle);
}
