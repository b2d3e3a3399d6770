//! The node alone: value is conserved, and a journal is replayed exactly.

use proptest::prelude::*;
use solana_sdk::account::{AccountSharedData, ReadableAccount};
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};

use super::*;
use crate::clock::ManualClock;
use crate::rpc::CancellationToken;
use crate::topology::ChainKind;

const KEYS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Pay { from: usize, to: usize, lamports: u64 },
    Fund { to: usize, lamports: u64 },
    Mint { to: usize, amount: u64 },
    Produce,
    Mine(u32),
    Reorg(u32),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..KEYS, 0..KEYS, 0..3_000_000_000_u64)
            .prop_map(|(from, to, lamports)| Step::Pay { from, to, lamports }),
        2 => (0..KEYS, 0..2_000_000_000_u64).prop_map(|(to, lamports)| Step::Fund { to, lamports }),
        1 => (0..KEYS, any::<u64>()).prop_map(|(to, amount)| Step::Mint { to, amount }),
        4 => Just(Step::Produce),
        1 => (0..30_u32).prop_map(Step::Mine),
        1 => (0..12_u32).prop_map(Step::Reorg),
        1 => Just(Step::Restart),
    ]
}

type State = (Slot, Vec<(Pubkey, AccountSharedData)>, Vec<(Pubkey, AccountSharedData)>);

fn state(validator: &Validator) -> State {
    let tip = validator.engine.ledger().tip();
    let final_slot = validator.engine.finalized();
    (tip, validator.engine.accounts(tip), validator.engine.accounts(final_slot))
}

fn lamports(validator: &Validator) -> u64 {
    validator.engine.accounts(validator.engine.ledger().tip()).iter().map(|(_, account)| account.lamports()).sum()
}

fn fees(validator: &Validator) -> u64 {
    let ledger = validator.engine.ledger();
    (0..=ledger.tip()).flat_map(|slot| ledger.block(slot)).map(|executed| executed.outcome.fee).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Lamports only move or are burned as fees, and a replayed journal gives the same state, past and present.
    #[test]
    fn value_is_conserved_and_replay_is_exact(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let open = || {
            let seat = Seat::alone(ChainKind::Solana, clock.clone(), CancellationToken::new());
            let rules = Rules { interval: None, depth: 8, skipped: Probability::NEVER };
            Validator::restore(Some(&path), seat, rules).unwrap()
        };
        let keys: Vec<Keypair> = (1_u8..).take(KEYS).map(|seed| Keypair::new_from_array([seed; 32])).collect();
        let mut validator = open();
        let supply = lamports(&validator);
        for step in steps {
            clock.advance(std::time::Duration::from_millis(400));
            match step {
                Step::Pay { from, to, lamports } => {
                    let (from, to) = (&keys[from], keys[to].pubkey());
                    let pay = solana_system_interface::instruction::transfer(&from.pubkey(), &to, lamports);
                    let blockhash = validator.engine.ledger().latest().blockhash;
                    let message = Message::new_with_blockhash(&[pay], Some(&from.pubkey()), &blockhash);
                    let message = VersionedMessage::Legacy(message);
                    validator.submit(VersionedTransaction::try_new(message, &[from]).unwrap(), true).unwrap();
                }
                // What would fail is refused, and that is fine.
                Step::Fund { to, lamports } => drop(validator.fund(&keys[to].pubkey(), lamports)),
                Step::Mint { to, amount } => {
                    drop(validator.fund_token(&keys[to].pubkey(), &genesis::demo_mint(), amount));
                }
                Step::Produce => drop(validator.produce().unwrap()),
                Step::Mine(slots) => drop(validator.mine(slots).unwrap()),
                Step::Reorg(depth) => {
                    let (before, sure) = (state(&validator), validator.engine.finalized());
                    match validator.reorganize(depth) {
                        Ok(branch) => prop_assert_eq!(branch.len(), usize::try_from(depth).unwrap() + 1),
                        Err(ReorgError::TooDeep(_)) => prop_assert_eq!(state(&validator), before),
                        Err(error) => panic!("{error}"),
                    }
                    prop_assert!(validator.engine.finalized() >= sure);
                }
                Step::Restart => {
                    let before = state(&validator);
                    drop(validator);
                    validator = open();
                    prop_assert_eq!(state(&validator), before);
                }
            }
            prop_assert_eq!(lamports(&validator) + fees(&validator), supply);
        }
    }
}
