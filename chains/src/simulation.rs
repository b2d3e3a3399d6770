//! What a node says that a transaction would do if it were sent, held against what its bytes say.
//!
//! A node's word can only be held against a transaction, never for it: what the effects don't explain is refused, and what the
//! node doesn't see changes nothing.

use std::fmt;

use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::effects::Effects;

/// What came of a node's try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Simulation {
    /// The node tries no transactions.
    Unsupported,
    /// It would fail, in the words of whoever made it fail.
    Reverted(String),
    /// It would succeed, and move this, as far as the node tells.
    Passed(Vec<Movement>),
}

/// Something that a try has moved or granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Movement {
    /// An asset went from one to another.
    Transfer {
        /// What.
        asset: Asset,
        /// From whom.
        from: Address,
        /// To whom.
        to: Address,
        /// How much, in base units; of a token that is one of its kind, its number.
        amount: Amount,
    },
    /// Somebody may spend an asset.
    Allowance {
        /// What.
        asset: Asset,
        /// Whose.
        owner: Address,
        /// Who may spend it.
        spender: Address,
        /// Up to how much, in base units.
        amount: Amount,
    },
}

impl fmt::Display for Movement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer { asset, from, to, amount } => write!(f, "{amount} of {asset} go from {from} to {to}"),
            Self::Allowance { asset, owner, spender, amount } => {
                write!(f, "{spender} may spend {amount} of {owner}'s {asset}")
            }
        }
    }
}

/// The first movement that takes something from `wallet`, or lets it be taken, and that the effects don't explain.
///
/// Told transfers and allowances explain as much as they tell. Where a contract other than a token is called, what it takes for
/// itself is explained by the call, and so is what it takes of tokens that the call names; a rule permits that call by name.
/// The wallet's own coin is explained by what is sent along and nothing else.
pub fn unexplained<'m>(effects: &Effects, wallet: &Address, movements: &'m [Movement]) -> Option<&'m Movement> {
    movements.iter().find(|movement| match movement {
        Movement::Transfer { asset, from, to, .. } => {
            from == wallet && to != wallet && !pays(effects, wallet, movements, *asset, to)
        }
        Movement::Allowance { asset, owner, spender, amount } => {
            owner == wallet && !amount.is_zero() && !grants(effects, *asset, spender, *amount)
        }
    })
}

fn pays(effects: &Effects, wallet: &Address, movements: &[Movement], asset: Asset, to: &Address) -> bool {
    let told = effects.transfers.iter().filter(|told| told.asset == asset && told.from == *wallet && told.to == *to);
    let moved = movements.iter().filter_map(|movement| match movement {
        Movement::Transfer { asset: other, from, to: receiver, amount }
            if *other == asset && from == wallet && receiver == to =>
        {
            Some(*amount)
        }
        _ => None,
    });
    if sum(moved) <= sum(told.map(|told| told.amount)) {
        return true;
    }
    let Asset::Erc20(token) = asset else { return false };
    let token = Address::Ethereum(token);
    let open: Vec<Address> = open_calls(effects).collect();
    !open.is_empty() && (open.contains(to) || open.contains(&token) || effects.touches.contains(&token))
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.try_fold(Amount::ZERO, Amount::checked_add).unwrap_or(Amount::MAX)
}

fn grants(effects: &Effects, asset: Asset, spender: &Address, amount: Amount) -> bool {
    let mut told = effects.allowances.iter().filter(|told| told.asset == asset && told.spender == *spender);
    // Some tokens tell what is left of an allowance when it is used.
    told.any(|told| amount <= told.amount) || open_calls(effects).any(|contract| contract == *spender)
}

/// The called contracts that aren't tokens whose movements are told.
fn open_calls(effects: &Effects) -> impl Iterator<Item = Address> + '_ {
    let told = |contract| {
        effects.transfers.iter().any(|told| told.asset == Asset::Erc20(contract))
            || effects.allowances.iter().any(|told| told.asset == Asset::Erc20(contract))
    };
    let open = effects.calls.iter().map(|call| call.contract).filter(move |contract| !told(*contract));
    open.map(Address::Ethereum)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address as EvmAddress;

    use super::*;
    use crate::effects::{Allowance, Call, Transfer};

    fn address(n: u8) -> Address {
        Address::Ethereum(EvmAddress::repeat_byte(n))
    }

    fn token() -> Asset {
        Asset::Erc20(EvmAddress::repeat_byte(0x70))
    }

    fn calls(contract: u8) -> Effects {
        let call = Call {
            caller: EvmAddress::repeat_byte(1),
            depth: 0,
            contract: EvmAddress::repeat_byte(contract),
            selector: Default::default(),
            arguments: Default::default(),
            value: Amount::ZERO,
        };
        Effects { calls: vec![call], ..Effects::default() }
    }

    fn moves(asset: Asset, from: u8, to: u8, amount: u64) -> Movement {
        Movement::Transfer { asset, from: address(from), to: address(to), amount: Amount::from_sat(amount) }
    }

    fn passes(effects: &Effects, movements: &[Movement]) -> bool {
        unexplained(effects, &address(1), movements).is_none()
    }

    /// A token's own transfer of 5 to 2.
    fn pays_token() -> Effects {
        let transfer = Transfer { asset: token(), from: address(1), to: address(2), amount: Amount::from_sat(5) };
        Effects { transfers: vec![transfer], ..calls(0x70) }
    }

    #[test]
    fn a_payment_moves_what_it_tells() {
        let effects = pays_token();
        assert!(passes(&effects, &[]));
        assert!(passes(&effects, &[moves(token(), 1, 2, 5)]));
        assert!(passes(&effects, &[moves(token(), 1, 2, 4)]), "a token that burns some of it");
        assert!(!passes(&effects, &[moves(token(), 1, 2, 6)]));
        assert!(!passes(&effects, &[moves(token(), 1, 2, 3), moves(token(), 1, 2, 3)]), "twice");
        assert!(!passes(&effects, &[moves(token(), 1, 2, 5), moves(token(), 1, 3, 1)]), "and somebody else");
        assert!(!passes(&effects, &[moves(Asset::Native, 1, 2, 1)]));
        assert!(passes(&effects, &[moves(token(), 4, 3, 9)]), "somebody else's");
        let other = Asset::Erc20(EvmAddress::repeat_byte(0x71));
        assert!(!passes(&effects, &[moves(other, 1, 2, 1)]));
    }

    #[test]
    fn a_call_takes_for_itself_and_of_what_it_names() {
        let vault = calls(9);
        assert!(passes(&vault, &[moves(token(), 1, 9, 100)]));
        assert!(!passes(&vault, &[moves(token(), 1, 3, 100)]));
        assert!(!passes(&vault, &[moves(Asset::Native, 1, 9, 1)]), "the coin is told");
        let swap = Effects { touches: vec![address(0x70)], ..calls(9) };
        assert!(passes(&swap, &[moves(token(), 1, 3, 100)]), "a pool");
    }

    #[test]
    fn allowances_are_told() {
        let allows = |spender: u8, amount: u64| Movement::Allowance {
            asset: token(),
            owner: address(1),
            spender: address(spender),
            amount: Amount::from_sat(amount),
        };
        let told = Allowance { asset: token(), spender: address(8), amount: Amount::from_sat(5) };
        let approve = Effects { allowances: vec![told], ..calls(0x70) };
        assert!(passes(&approve, &[allows(8, 5)]) && passes(&approve, &[allows(8, 4)]));
        assert!(!passes(&approve, &[allows(8, 6)]) && !passes(&approve, &[allows(7, 5)]));
        assert!(!passes(&pays_token(), &[allows(7, 1)]) && passes(&pays_token(), &[allows(7, 0)]));
        assert!(passes(&calls(9), &[allows(9, 50)]), "what is left of an allowance that is used");
    }
}
