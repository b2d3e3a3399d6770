//! What is signed, and the signature put in place after it was verified.

use alloy::primitives::{Address, B256, Signature as EvmSignature, U256};

use super::{Signed, Unsigned};
use crate::account::Account;
use crate::chain::AssembleError;
use crate::payload::{Message, Payload, Signature};

/// One ECDSA message: the Keccak-256 of `type || rlp(fields)` (EIP-2718).
pub(super) fn payloads(account: &Account, unsigned: &Unsigned) -> Vec<Payload> {
    vec![Payload::new(account.path().clone(), Message::Ecdsa(unsigned.signature_hash().0))]
}

/// Puts the one signature in place if it recovers to the sender.
pub(super) fn assemble(unsigned: &Unsigned, signatures: &[Signature]) -> Result<Signed, AssembleError> {
    let [signature] = signatures else {
        return Err(AssembleError::Count { expected: 1, found: signatures.len() });
    };
    let signature = evm_signature(signature).ok_or(AssembleError::Invalid(0))?;
    match recover(&signature, unsigned.signature_hash()) {
        Some(signer) if signer == unsigned.from() => Ok(Signed::new(unsigned.clone(), &signature)),
        _ => Err(AssembleError::Invalid(0)),
    }
}

/// Who signed `hash`; `None` where nobody can have, and where `s` is in the upper half of the group order, which EIP-2
/// forbids.
pub(super) fn recover(signature: &EvmSignature, hash: B256) -> Option<Address> {
    let scalars = signature.to_k256().ok()?;
    if scalars.normalize_s().is_some() {
        return None;
    }
    signature.recover_address_from_prehash(&hash).ok()
}

/// The signature as Ethereum writes it. R's x above the group order (recovery ids 2 and 3) can't be written there; it
/// happens with a probability below 2^-127.
fn evm_signature(signature: &Signature) -> Option<EvmSignature> {
    let Signature::Ecdsa { rs, recovery_id } = signature else { return None };
    let y_parity = match recovery_id {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (r, s) = rs.split_first_chunk::<32>()?;
    Some(EvmSignature::new(U256::from_be_bytes(*r), U256::try_from_be_slice(s)?, y_parity))
}
