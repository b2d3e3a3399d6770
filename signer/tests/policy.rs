//! The policy: nothing without a rule, nothing against the denylist, and every denial says why.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "policy/conditions.rs"]
mod conditions;
#[path = "policy/denylist.rs"]
mod denylist;
#[path = "policy/desk.rs"]
mod desk;
#[path = "policy/effects.rs"]
mod effects;
#[path = "policy/forms.rs"]
mod forms;
#[path = "policy/properties.rs"]
mod properties;
