//! The scenarios that come with the binary, found by name.

use simulator::scenario::Scenario;

use super::BadScenario;

/// Each with its name.
pub(super) const SHIPPED: [(&str, &str); 10] = [
    ("steady", include_str!("../../../config/scenarios/steady.toml")),
    ("burst", include_str!("../../../config/scenarios/burst.toml")),
    ("reorg-storm", include_str!("../../../config/scenarios/reorg-storm.toml")),
    ("partition", include_str!("../../../config/scenarios/partition.toml")),
    ("lying-node", include_str!("../../../config/scenarios/lying-node.toml")),
    ("fee-spike", include_str!("../../../config/scenarios/fee-spike.toml")),
    ("signer-loss", include_str!("../../../config/scenarios/signer-loss.toml")),
    ("byzantine-signer", include_str!("../../../config/scenarios/byzantine-signer.toml")),
    ("blockhash-expiry", include_str!("../../../config/scenarios/blockhash-expiry.toml")),
    ("kill-the-gateway", include_str!("../../../config/scenarios/kill-the-gateway.toml")),
];

/// The scenario of a file, or else of a name.
///
/// # Errors
/// Where there is none, or it can't be used.
pub(super) fn find(name: &str) -> Result<Scenario, BadScenario> {
    if let Some((name, text)) = SHIPPED.into_iter().find(|(shipped, _)| *shipped == name) {
        return Ok(Scenario::parse(name, text)?);
    }
    let unknown = || {
        let names: Vec<_> = SHIPPED.into_iter().map(|(name, _)| name).collect();
        BadScenario::Unknown { name: name.to_owned(), shipped: names.join(", ") }
    };
    let text = std::fs::read_to_string(name).map_err(|_| unknown())?;
    Ok(Scenario::parse(name, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_sound_and_says_how_it_is_broken() {
        for (name, _) in SHIPPED {
            let scenario = find(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name);
            assert!(scenario.broken.is_some(), "{name}");
            let whole = scenario.load_end_ms() + scenario.settle_ms;
            assert!((20_000..=120_000).contains(&whole), "{name} may take {whole} ms");
        }
    }
}
