//! Rule tables and transactions at random, and what policy.md says to them, read as simply as it can be.

mod names;
mod random;
mod says;
mod solana;
mod table;
mod tx;
mod universe;

pub use names::*;
pub use random::Random;
pub use says::{Said, as_people, met, some_people};
pub use solana::{SolanaTable, SolanaTx, solana_account};
pub use table::{Rule, Table};
pub use tx::Tx;
pub use universe::{changes, fits_question, universe};
