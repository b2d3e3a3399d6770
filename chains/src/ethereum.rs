//! Ethereum and every EVM network: EIP-1559 and EIP-2930 transactions, native transfers and contract calls.

pub mod address;
