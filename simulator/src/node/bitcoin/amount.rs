//! Amounts as bitcoind writes and reads them: decimals of whole bitcoins, made from integers without floating point.

use serde_json::{Number, Value};

use crate::rpc::RpcError;

/// Satoshis in a bitcoin.
const COIN: u64 = 100_000_000;
/// bitcoind's `RPC_TYPE_ERROR`.
const TYPE_ERROR: i64 = -3;

/// An amount of satoshis as a JSON number in BTC.
pub(super) fn btc(sats: u64) -> Value {
    decimal(&eight_places(sats))
}

/// A JSON number from its decimal text.
///
/// A double tells all amounts up to 21 million BTC in satoshis apart, and is written with the fewest digits that do, so the exact
/// decimal comes out.
pub(super) fn decimal(text: &str) -> Value {
    serde_json::from_str::<Number>(text).map_or(Value::Null, Value::Number)
}

/// An amount as Bitcoin Core writes it in messages (`FormatMoney`): at least two decimal places.
pub(super) fn money(sats: u64) -> String {
    let text = eight_places(sats);
    let shortest = text.len().saturating_sub(6);
    let trimmed = text.trim_end_matches('0').len().max(shortest);
    text.chars().take(trimmed).collect()
}

/// A fee rate as Bitcoin Core writes it in messages (`CFeeRate::ToString`), from satoshis per 1000 virtual bytes.
pub(super) fn fee_rate(sats_per_kvb: u64) -> String {
    format!("{} BTC/kvB", eight_places(sats_per_kvb))
}

fn eight_places(sats: u64) -> String {
    format!("{}.{:08}", sats / COIN, sats % COIN)
}

/// Reads an amount in BTC, a number or a string, as satoshis (Core: `AmountFromValue`).
pub(super) fn parse_btc(value: &Value) -> Result<u64, RpcError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err(RpcError::new(TYPE_ERROR, "Amount is not a number or string")),
    };
    if text.starts_with('-') {
        return Err(RpcError::new(TYPE_ERROR, "Amount out of range"));
    }
    match fixed_point(&text) {
        Some(sats) if sats <= 21_000_000 * COIN => Ok(sats),
        Some(_) => Err(RpcError::new(TYPE_ERROR, "Amount out of range")),
        None => Err(RpcError::new(TYPE_ERROR, "Invalid amount")),
    }
}

/// Reads `digits[.digits][e[+-]digits]` with at most eight decimal places.
fn fixed_point(text: &str) -> Option<u64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || mantissa.ends_with('.') {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    if digits.len() > 40 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 8_i32.checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some(0);
    }
    let dropped = i32::try_from(digits.len().checked_sub(kept.len())?).ok()?;
    let power = u32::try_from(scale.checked_add(dropped)?).ok()?;
    kept.parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn amounts_as_core_writes_them() {
        assert_eq!(btc(1).to_string().parse::<f64>().unwrap(), 1e-8);
        assert_eq!(btc(5_000_000_000), json!(50.0));
        assert_eq!(money(0), "0.00");
        assert_eq!(money(1_000), "0.00001");
        assert_eq!(money(150_000_000), "1.50");
        assert_eq!(money(100_000_000), "1.00");
        assert_eq!(fee_rate(1_000), "0.00001000 BTC/kvB");
    }

    #[test]
    fn amounts_as_core_reads_them() {
        for (value, sats) in [
            (json!(0), 0),
            (json!(0.1), 10_000_000),
            (json!(1e-8), 1),
            (json!("0.00000001"), 1),
            (json!("1.000000000"), COIN),
            (json!("2e1"), 20 * COIN),
            (json!(21_000_000), 21_000_000 * COIN),
        ] {
            assert_eq!(parse_btc(&value), Ok(sats), "{value}");
        }
        for bad in [
            json!(null),
            json!(-1),
            json!(1e-9),
            json!("0.000000001"),
            json!("x"),
            json!(""),
            json!("."),
            json!("1."),
            json!("1e99"),
            json!(21_000_001),
            json!("99999999999999999999"),
        ] {
            assert!(parse_btc(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_survives_the_way_through_json(sats in 0..=21_000_000 * COIN) {
            let sent = btc(sats).to_string();
            prop_assert_eq!(parse_btc(&serde_json::from_str(&sent).unwrap()), Ok(sats));
        }
    }
}
