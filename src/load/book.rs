//! An order as the gateway is asked for it: which wallet pays whom, in which asset.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash as _;
use chains::account::WalletId;
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use chains::network::{Family, Network};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde_json::json;
use simulator::load::{Kind, Order};
use simulator::topology::ChainKind;

use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::config::Config;

/// The selector of `transfer(address,uint256)` (EIP-20).
const TRANSFER: &str = "a9059cbb";

/// Who pays whom on each chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    payers: BTreeMap<ChainKind, Vec<Payer>>,
}

/// A wallet and whom it pays.
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    /// The wallet.
    pub(crate) wallet: WalletId,
    /// Whom it pays in its chain's coin.
    pub(crate) natives: Payees,
    /// Whom it pays in which token.
    pub(crate) tokens: Option<(Asset, Payees)>,
}

/// Who is paid.
#[derive(Clone, Debug)]
pub(crate) enum Payees {
    /// One of these.
    Listed(Vec<UncheckedAddress>),
    /// An address of its own for each order, made of the order's bytes.
    OfOrder,
}

/// A wallet as `wallet_list` answers it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WalletRow {
    /// Its name.
    pub(crate) wallet: WalletId,
    /// Its network.
    pub(crate) network: Network,
    /// Its address.
    pub(crate) address: String,
}

/// The gateway's wallets.
///
/// # Errors
/// Where it doesn't answer.
pub(crate) async fn wallets(client: &GatewayClient) -> Result<Vec<WalletRow>, Failure> {
    Ok(client.call("wallet_list", json!({})).await?)
}

/// The chain of a network.
pub(crate) const fn kind(family: Family) -> ChainKind {
    match family {
        Family::Bitcoin => ChainKind::Bitcoin,
        Family::Ethereum => ChainKind::Ethereum,
        Family::Solana => ChainKind::Solana,
    }
}

impl Book {
    /// The wallets with whom the configuration's rules let them pay.
    pub(crate) fn of_config(config: &Config, wallets: &[WalletRow]) -> Self {
        let mut book = Self::default();
        for row in wallets {
            let rules = config.policy.rules.iter().filter(|rule| rule.wallets.contains(&row.wallet));
            let (mut natives, mut tokens) = (Vec::new(), None);
            for rule in rules.filter(|rule| !rule.addresses.is_empty()) {
                let assets = rule.assets.as_deref().unwrap_or(&[Asset::Native]);
                if assets.contains(&Asset::Native) {
                    natives.extend(rule.addresses.iter().cloned());
                }
                let token = assets.iter().find(|asset| **asset != Asset::Native);
                if let (Some(token), None) = (token, &tokens) {
                    tokens = Some((*token, Payees::Listed(rule.addresses.clone())));
                }
            }
            if !natives.is_empty() {
                let natives = Payees::Listed(natives);
                book.add(kind(row.network.family()), Payer { wallet: row.wallet.clone(), natives, tokens });
            }
        }
        book
    }

    /// Lets a wallet pay.
    pub(crate) fn add(&mut self, chain: ChainKind, payer: Payer) {
        self.payers.entry(chain).or_default().push(payer);
    }

    /// The chains on which somebody pays.
    pub(crate) fn chains(&self) -> Vec<ChainKind> {
        self.payers.keys().copied().collect()
    }

    /// What the gateway is asked for, and who is paid. A token that the wallet has no rule for is paid in the chain's coin.
    ///
    /// # Errors
    /// Where nobody pays on the order's chain.
    pub(crate) fn intent(&self, order: &Order) -> Result<(Intent, UncheckedAddress), Failure> {
        let payers = self.payers.get(&order.chain).map(Vec::as_slice).unwrap_or_default();
        let payer = pick(payers, order, 0).ok_or_else(|| format!("no wallet pays on {}", order.chain))?;
        let amount = Amount::from_wei(order.amount.into());
        let (asset, payees) = match (order.kind, &payer.tokens) {
            (Kind::Token | Kind::Call, Some((asset, payees))) => (*asset, payees),
            _ => (Asset::Native, &payer.natives),
        };
        let to = payees.of(order).ok_or_else(|| format!("wallet {} has nobody to pay", payer.wallet))?;
        let action = match (order.kind, asset) {
            (Kind::Call, Asset::Erc20(contract)) => {
                let address = to.as_str().trim_start_matches("0x");
                let amount = hex::encode(amount.to_be_bytes());
                let data = format!("0x{TRANSFER}{address:0>64}{amount}");
                let call = json!({ "kind": "call", "contract": contract, "data": data });
                serde_json::from_value(call)?
            }
            _ => Action::Transfer { asset, to: to.clone(), amount },
        };
        Ok((Intent { wallet: payer.wallet.clone(), action, max_fee: None, reference: None }, to))
    }
}

impl Payees {
    fn of(&self, order: &Order) -> Option<UncheckedAddress> {
        match self {
            Self::Listed(listed) => pick(listed, order, 1).cloned(),
            Self::OfOrder => Some(UncheckedAddress::new(address(order.chain, &order.payee))),
        }
    }
}

/// One of several, chosen by a byte of the order's.
fn pick<'a, T>(from: &'a [T], order: &Order, byte: usize) -> Option<&'a T> {
    let word = usize::from(order.payee.get(byte).copied().unwrap_or_default());
    from.get(word.checked_rem(from.len())?)
}

/// An address made of 32 bytes, on the networks of the simulated chains.
pub(crate) fn address(chain: ChainKind, bytes: &[u8; 32]) -> String {
    match chain {
        ChainKind::Bitcoin => {
            let script = bitcoin::ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(bytes));
            let address = bitcoin::Address::from_script(&script, bitcoin::Network::Regtest);
            address.expect("a pay-to-witness-pubkey-hash script has an address").to_string()
        }
        ChainKind::Ethereum => format!("0x{}", hex::encode(bytes.get(..20).unwrap_or_default())),
        // An account that somebody could sign for: token accounts belong to such.
        ChainKind::Solana => bs58::encode(SigningKey::from_bytes(bytes).verifying_key().as_bytes()).into_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulator::load::{Wave, orders};
    use simulator::seed::Seed;

    #[test]
    fn the_shipped_rules_name_payees_and_orders_are_what_they_allow() {
        let config = Config::load(None).expect("the shipped file parses");
        let row = |wallet: &gateway::config::WalletConfig| WalletRow {
            wallet: wallet.id.clone(),
            network: wallet.network,
            address: String::new(),
        };
        let book = Book::of_config(&config, &config.wallets.iter().map(row).collect::<Vec<_>>());
        assert_eq!(book.chains().len(), 3);
        let mix = "transfers=1,tokens=1,calls=1".parse().expect("it is a mix");
        for chain in book.chains() {
            let wave = Wave { chain, per_minute: 3_000, from_ms: 0, for_ms: 1_000, mix };
            for order in orders(Seed(3), "t", &[wave]) {
                let (intent, to) = book.intent(&order).expect("somebody pays");
                let rule = config.policy.rules.iter().find(|rule| rule.wallets.contains(&intent.wallet));
                let rule = rule.expect("the wallet has a rule");
                assert!(rule.addresses.contains(&to));
                match (&intent.action, order.kind) {
                    (Action::Transfer { asset, .. }, Kind::Transfer) => assert_eq!(*asset, Asset::Native),
                    (Action::Transfer { asset, .. }, Kind::Token) => {
                        assert!(rule.assets.as_deref().is_some_and(|assets| assets.contains(asset)))
                    }
                    (Action::Call { data, .. }, Kind::Call) => assert_eq!(data.len(), 68),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn made_addresses_are_addresses() {
        for (chain, network) in [
            (ChainKind::Bitcoin, "bitcoin:regtest"),
            (ChainKind::Ethereum, "ethereum:31337"),
            (ChainKind::Solana, "solana:localnet"),
        ] {
            let made = UncheckedAddress::new(address(chain, &[7; 32]));
            made.require_network(network.parse().expect("it is a network")).expect("it is an address");
        }
    }
}
