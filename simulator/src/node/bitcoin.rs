//! The simulated bitcoin node.
