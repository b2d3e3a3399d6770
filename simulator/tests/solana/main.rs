//! The simulated Solana node, driven over HTTP as any client would.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod blockhash;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod history;
#[cfg(test)]
mod network;
#[cfg(test)]
mod node;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod restart;
#[cfg(test)]
#[path = "../support/storm.rs"]
mod storm;
#[cfg(test)]
mod subscribe;
#[cfg(test)]
mod transfer;
