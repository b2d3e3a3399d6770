//! The simulated ethereum node.
