//! What nodes say to a transaction that is sent to them: tables of their codes and words, one for each chain.
//!
//! Every implementation has its own code and words for the same thing, and nothing else to tell it by, so this is the one place that
//! reads words. What no row knows is [`SendClass::Unknown`]. The rows are tested with whole messages as the implementations
//! make them (`tests/vectors/send-errors.json`), and every row is needed by one of them.
//!
//! **An answer to a send is never evidence that a payment is not out.** The node may have taken the bytes before it failed to say
//! so, may have passed them on and dropped them, may lie, and another node may have them. A class says what may be worth
//! trying; what became of a transaction is for the chain to say.

pub(crate) mod bitcoin;
pub(crate) mod ethereum;
pub(crate) mod solana;

use serde::Serialize;

/// What a node means by its refusal of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SendClass {
    /// The node has this very transaction. That is success, so no refusal carries it. It doesn't follow that any
    /// other node has it, or that it will be included.
    AlreadyKnown,
    /// This very transaction is in a block of the node's chain. That is success too. It doesn't follow that the
    /// block stays.
    AlreadyIncluded,
    /// What it uses up is used up already: its nonce, an input, a durable nonce's value; or the node doesn't know the
    /// input. It may have been used up by this very transaction or by another attempt of the same payment, so
    /// nothing follows for whether the payee is paid.
    SlotUsed,
    /// It pays less than the node takes at present. It may wait at other nodes, so a replacement for more must
    /// use the same slot.
    Underpriced,
    /// The node holds another transaction in its slot, and this one doesn't pay enough more. Which of the two, or
    /// whether an earlier attempt, is included is open.
    ReplacementUnderpriced,
    /// The account has too little for amount, fees or rent, as this node sees its balance, its waiting payments
    /// counted. It can be valid again without anybody's doing as soon as funds arrive.
    InsufficientFunds,
    /// Against the chain's rules or the node's own: malformed, too large, wrong signature, dust, too much gas. Another node's
    /// rules may differ.
    Invalid,
    /// The blockhash is not known, or not any more. A node that is behind says the same of a fresh one, and a
    /// transaction that was included long ago looks the same, so this never shows that it can't be on chain.
    Expired,
    /// The node can't take it at present: overloaded, behind, starting, its mempool full, a payment before it missing.
    Busy,
    /// The node tried it and it failed. Tried on another state it may succeed; sent without a try it may be on chain and
    /// have failed there.
    Reverted,
    /// No row of the tables. Nothing follows at all.
    Unknown,
}

impl SendClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::AlreadyKnown,
        Self::AlreadyIncluded,
        Self::SlotUsed,
        Self::Underpriced,
        Self::ReplacementUnderpriced,
        Self::InsufficientFunds,
        Self::Invalid,
        Self::Expired,
        Self::Busy,
        Self::Reverted,
        Self::Unknown,
    ];

    /// Its name in snake case, as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyKnown => "already_known",
            Self::AlreadyIncluded => "already_included",
            Self::SlotUsed => "slot_used",
            Self::Underpriced => "underpriced",
            Self::ReplacementUnderpriced => "replacement_underpriced",
            Self::InsufficientFunds => "insufficient_funds",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Reverted => "reverted",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the node has the transaction: no refusal at all.
    pub const fn is_taken(self) -> bool {
        matches!(self, Self::AlreadyKnown | Self::AlreadyIncluded)
    }

    /// Whether the same payment for a higher fee, in the same slot, may be taken.
    pub const fn asks_for_more(self) -> bool {
        matches!(self, Self::Underpriced | Self::ReplacementUnderpriced)
    }

    /// How much a refusal says about the transaction itself, for choosing among those of several nodes: 0 where it only
    /// speaks of the node.
    pub const fn weight(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Busy => 1,
            Self::Expired | Self::InsufficientFunds | Self::Reverted => 2,
            Self::Underpriced | Self::ReplacementUnderpriced => 3,
            Self::Invalid => 4,
            Self::SlotUsed => 5,
            Self::AlreadyKnown | Self::AlreadyIncluded => 6,
        }
    }
}

/// A code, words, and what they mean. Words end with `*` where more may follow; case doesn't matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    code: i64,
    words: &'static str,
    class: SendClass,
}

const fn row(code: i64, words: &'static str, class: SendClass) -> Row {
    Row { code, words, class }
}

impl Row {
    fn matches(&self, code: i64, words: &str) -> bool {
        code == self.code
            && match self.words.strip_suffix('*') {
                Some(start) => words.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)),
                None => words.eq_ignore_ascii_case(self.words),
            }
    }
}

/// The class of the first row that matches.
fn look_up(rows: &[Row], code: i64, words: &str) -> SendClass {
    rows.iter().find(|row| row.matches(code, words)).map_or(SendClass::Unknown, |row| row.class)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        chain: String,
        node: String,
        source: String,
        code: i64,
        message: String,
        #[serde(default)]
        data: Option<Value>,
        class: String,
    }

    fn samples() -> Vec<Sample> {
        let text = include_str!("../../tests/vectors/send-errors.json");
        serde_json::from_str(text).expect("the vectors have this form")
    }

    /// The table of the sample's chain, and the words that are looked up in it.
    fn place(sample: &Sample) -> (&'static [Row], String) {
        match sample.chain.as_str() {
            "bitcoin" => (&bitcoin::ROWS, bitcoin::words(&sample.message).to_owned()),
            "ethereum" => (&ethereum::ROWS, sample.message.clone()),
            "solana" => (&solana::ROWS, solana::words(&sample.message, sample.data.as_ref()).to_owned()),
            other => panic!("no table for {other}"),
        }
    }

    #[test]
    fn every_message_has_its_class() {
        for sample in samples() {
            let class = match sample.chain.as_str() {
                "bitcoin" => bitcoin::class(sample.code, &sample.message),
                "ethereum" => ethereum::class(sample.code, &sample.message),
                _ => solana::class(sample.code, &sample.message, sample.data.as_ref()),
            };
            assert_eq!(class.name(), sample.class, "{}: {} {}", sample.node, sample.code, sample.message);
            assert!(!sample.source.is_empty(), "{} says where it is from", sample.message);
        }
    }

    #[test]
    fn every_row_is_some_message_s() {
        let samples = samples();
        for (chain, rows) in
            [("bitcoin", &bitcoin::ROWS[..]), ("ethereum", &ethereum::ROWS[..]), ("solana", &solana::ROWS[..])]
        {
            let mut hit = BTreeSet::new();
            for sample in samples.iter().filter(|sample| sample.chain == chain) {
                let (rows, words) = place(sample);
                hit.extend(rows.iter().position(|row| row.matches(sample.code, &words)));
            }
            for (index, row) in rows.iter().enumerate() {
                assert!(hit.contains(&index), "{chain}: no message for {row:?}");
            }
        }
    }

    #[test]
    fn every_row_has_its_own_code_only() {
        for sample in samples() {
            let (rows, words) = place(&sample);
            // A code that no implementation has.
            assert_eq!(look_up(rows, sample.code - 100_000, &words), SendClass::Unknown, "{}", sample.message);
        }
    }

    #[test]
    fn what_no_row_knows_is_unknown() {
        for words in ["", "é", "already known by nobody", "not already known", "<html>"] {
            assert_eq!(ethereum::class(-32000, words), SendClass::Unknown, "{words:?}");
            assert_eq!(bitcoin::class(-26, words), SendClass::Unknown, "{words:?}");
        }
        assert_eq!(bitcoin::class(-25, "txn-already-known"), SendClass::Unknown);
        assert_eq!(solana::class(-32603, "Internal error", None), SendClass::Unknown);
        assert_eq!(
            solana::class(-32603, "Internal error", Some(&serde_json::json!({ "err": "AlreadyProcessed" }))),
            SendClass::Unknown,
            "the name alone is no evidence under another code"
        );
    }

    #[test]
    fn names_are_those_of_json() {
        for class in SendClass::ALL {
            assert_eq!(serde_json::to_value(class).expect("a name"), Value::from(class.name()));
        }
    }
}
