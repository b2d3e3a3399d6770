//! Bitcoin: P2WPKH and P2TR inputs, any standard output, change to the wallet itself.

pub mod address;
