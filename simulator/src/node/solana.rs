//! The simulated solana node.
