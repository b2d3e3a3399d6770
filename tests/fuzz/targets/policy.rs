//! Policies as TOML: what is read is written and read again as the same, and allows nothing to a stranger's wallet.

#![no_main]

use fuzz::{ethereum, solana, wallets};
use libfuzzer_sys::fuzz_target;
use signer::policy::{Circumstances, PolicyConfig, evaluate_traced};

fuzz_target!(|text: &str| {
    let Ok(config) = toml::from_str::<PolicyConfig>(text) else { return };
    let written = toml::to_string(&config).expect("a policy has a TOML");
    assert_eq!(toml::from_str::<PolicyConfig>(&written).expect("it reads again"), config);
    let Ok(policy) = config.compile(&wallets()) else { return };
    assert_eq!(policy.digest(), config.compile(&wallets()).expect("it compiled before").digest());
    let initiator = "trader".parse().expect("a name");
    for account in [ethereum(), solana()] {
        let nothing = chains::effects::Effects::default();
        let circumstances = Circumstances { initiator: &initiator, at: 1_700_000_000_000 };
        let trace = evaluate_traced(&policy, &account, &circumstances, &nothing);
        assert!(trace.verdict.is_denial(), "nothing is nothing that a rule could permit");
    }
});
