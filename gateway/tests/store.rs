//! The conformance suite of every store: what the pipeline relies on, written once and run on SQLite and, where
//! `PORTCULLIS_POSTGRES` names a server, on PostgreSQL. What concerns one of them alone is in a file of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "store/approvals.rs"]
mod approvals;
#[path = "store/deals.rs"]
mod deals;
#[path = "store/leases.rs"]
mod leases;
#[path = "store/life.rs"]
mod life;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/papers.rs"]
mod papers;
#[path = "store/policies.rs"]
mod policies;
#[path = "store/postgres.rs"]
mod postgres;
#[path = "store/replacing.rs"]
mod replacing;
#[path = "store/sqlite.rs"]
mod sqlite;
#[path = "store/wallets.rs"]
mod wallets;
#[path = "store/world.rs"]
mod world;
