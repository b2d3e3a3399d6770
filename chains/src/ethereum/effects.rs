//! What a transaction does, decoded from its fields.

use super::{Unsigned, decode};
use crate::address::Address as ChainAddress;
use crate::amount::Amount;
use crate::chain::DecodeError;
use crate::effects::Effects;

/// Decodes the fields of `unsigned`.
pub(super) fn effects(unsigned: &Unsigned) -> Result<Effects, DecodeError> {
    let (from, to) = (unsigned.from(), unsigned.to());
    let max_fee = unsigned.gas_limit().cost(unsigned.max_gas_price());
    let mut effects = Effects {
        transfers: Vec::new(),
        allowances: Vec::new(),
        calls: Vec::new(),
        programs: Vec::new(),
        proceeds: Vec::new(),
        change: Amount::ZERO,
        max_fee,
        touches: unsigned.access_list().iter().map(|item| ChainAddress::Ethereum(item.address)).collect(),
        tables: Vec::new(),
        upkeep: None,
    };

    decode::call(&mut effects, from, to, unsigned.value(), unsigned.input())?;
    effects.touches.sort_unstable();
    effects.touches.dedup();
    Ok(effects)
}
