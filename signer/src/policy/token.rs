//! The calls by which an ERC-20 token's own functions do what an effect says (EIP-20).

use chains::account::Account;
use chains::address::Address;
use chains::amount::Amount;
use chains::effects::Call;

const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
const TRANSFER_FROM: [u8; 4] = [0x23, 0xb8, 0x72, 0xdd];
const APPROVE: [u8; 4] = [0x09, 0x5e, 0xa7, 0xb3];

/// The calls that pay so much of a token from the account: `transfer`, and `transferFrom` of its own.
pub(super) fn pays(account: &Account, token: &Address, to: &Address, amount: Amount) -> Vec<Call> {
    let amount = amount.to_be_bytes().to_vec();
    let transfer = word(to).map(|to| [to, amount.clone()].concat());
    let transfer_from = word(account.address()).zip(word(to)).map(|(from, to)| [from, to, amount].concat());
    let both = [(TRANSFER, transfer), (TRANSFER_FROM, transfer_from)];
    both.into_iter().filter_map(|(selector, arguments)| call(account, token, selector, arguments?)).collect()
}

/// The call that lets somebody spend so much of a token of the account's: `approve`.
pub(super) fn approves(account: &Account, token: &Address, spender: &Address, amount: Amount) -> Vec<Call> {
    let arguments = word(spender).map(|spender| [spender, amount.to_be_bytes().to_vec()].concat());
    arguments.and_then(|arguments| call(account, token, APPROVE, arguments)).into_iter().collect()
}

/// A call of the account's own, with nothing sent along; `None` where the chain has no contracts.
pub(super) fn call(account: &Account, contract: &Address, selector: [u8; 4], arguments: Vec<u8>) -> Option<Call> {
    let (Address::Ethereum(contract), Address::Ethereum(caller)) = (contract, account.address()) else { return None };
    Some(Call {
        caller: *caller,
        depth: 0,
        contract: *contract,
        selector: selector.into(),
        arguments: arguments.into(),
        value: Amount::ZERO,
    })
}

/// An address as an argument: 32 bytes, the address at their end.
fn word(address: &Address) -> Option<Vec<u8>> {
    match address {
        Address::Ethereum(address) => Some([&[0; 12][..], address.as_slice()].concat()),
        _ => None,
    }
}
