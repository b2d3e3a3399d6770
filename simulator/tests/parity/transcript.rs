//! What a suite noted of one node, and how two of them are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::subject::Refusal;

/// A difference that is as it should be.
pub(crate) struct Known {
    /// The step, or the start of several with a `*` after it.
    pub(crate) step: &'static str,
    /// The place in the answer, or the start of several with a `*` after it.
    pub(crate) place: &'static str,
    /// Why.
    pub(crate) why: &'static str,
}

/// The notes of one node: for each step what stands at each place of the answer.
pub(crate) struct Transcript {
    chain: &'static str,
    vectors: Vec<Vector>,
    unlisted: Vec<String>,
    steps: Vec<(String, BTreeMap<String, String>)>,
}

impl Transcript {
    pub(crate) fn new(chain: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/send-errors.json");
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let vectors = vectors.into_iter().filter(|row| row.chain == chain).collect();
        Self { chain, vectors, unlisted: Vec::new(), steps: Vec::new() }
    }

    fn note(&mut self, step: impl Into<String>, found: BTreeMap<String, String>) {
        let step = step.into();
        assert!(self.steps.iter().all(|(other, _)| *other != step), "{step} is noted twice");
        self.steps.push((step, found));
    }

    /// Notes a value as it is.
    pub(crate) fn exact(&mut self, step: impl Into<String>, value: &Value) {
        let mut found = BTreeMap::new();
        exact(String::new(), value, &mut found);
        self.note(step, found);
    }

    /// Notes some fields of an object as they are.
    pub(crate) fn fields(&mut self, step: impl Into<String>, object: &Value, names: &[&str]) {
        let mut found = BTreeMap::new();
        for name in names {
            exact((*name).to_owned(), &object[name], &mut found);
        }
        self.note(step, found);
    }

    /// Notes of what kind a value and everything in it is.
    pub(crate) fn shape(&mut self, step: impl Into<String>, value: &Value) {
        let mut kinds = BTreeMap::new();
        shape(String::new(), value, &mut kinds);
        let told = |kinds: BTreeSet<&str>| kinds.into_iter().collect::<Vec<_>>().join(" or ");
        self.note(step, kinds.into_iter().map(|(place, kinds)| (place, told(kinds))).collect());
    }

    /// Notes a refusal's code and words.
    pub(crate) fn refusal(&mut self, step: impl Into<String>, refusal: &Refusal) {
        let found = [("code", refusal.code.to_string()), ("message", refusal.message.clone())];
        self.note(step, found.map(|(place, text)| (place.to_owned(), text)).into());
    }

    /// Notes the code alone of what comes of a call, or that it was answered.
    pub(crate) fn code(&mut self, step: impl Into<String>, outcome: Result<Value, Refusal>) {
        let code = outcome.map_or_else(|refusal| refusal.code.to_string(), |_| "answered".to_owned());
        self.note(step, [("code".to_owned(), code)].into());
    }

    /// Notes what the gateway concludes from a refused transaction. The words must be among those that its tables are tested with.
    pub(crate) fn class(&mut self, step: impl Into<String>, refusal: &Refusal) {
        let words = without_values(&refusal.message);
        let known = self.vectors.iter().find(|row| row.code == refusal.code && without_values(&row.message) == words);
        let class = known.map(|row| row.class.clone());
        if class.is_none() {
            self.unlisted.push(format!("{}: {}", refusal.code, refusal.message));
        }
        self.note(step, [("class".to_owned(), class.unwrap_or_else(|| refusal.message.clone()))].into());
    }

    /// Notes a refusal's code and its words without the values in them, or that there was none.
    pub(crate) fn words(&mut self, step: impl Into<String>, outcome: Result<Value, Refusal>) {
        let (code, words) = match outcome {
            Err(refusal) => (refusal.code.to_string(), without_values(&refusal.message)),
            Ok(_) => ("answered".to_owned(), String::new()),
        };
        self.note(step, [("code".to_owned(), code), ("words".to_owned(), words)].into());
    }

    /// Holds what a simulated node answered against what a real one did.
    pub(crate) fn compare(simulated: &Self, real: &Self, known: &[Known]) {
        let mut needed = BTreeSet::new();
        let missing = |text: &String| format!("tests/vectors/send-errors.json has no {text}");
        let mut wrong: Vec<String> = simulated.unlisted.iter().chain(&real.unlisted).map(missing).collect();
        let names = |transcript: &Self| transcript.steps.iter().map(|(step, _)| step.clone()).collect::<Vec<_>>();
        assert_eq!(names(simulated), names(real), "both went through the same steps");
        for ((step, ours), (_, theirs)) in simulated.steps.iter().zip(&real.steps) {
            let places: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for place in places.into_iter().filter(|place| ours.get(*place) != theirs.get(*place)) {
                match known.iter().position(|row| row.allows(step, place)) {
                    Some(row) => drop(needed.insert(row)),
                    None => {
                        let text = |side: Option<&String>| side.map_or("nothing".to_owned(), Clone::clone);
                        let (ours, theirs) = (text(ours.get(place)), text(theirs.get(place)));
                        wrong.push(format!("{step}: {place}: the simulated node has {ours}, the real one {theirs}"));
                    }
                }
            }
        }
        for (index, row) in known.iter().enumerate().filter(|(index, _)| !needed.contains(index)) {
            wrong.push(format!("row {index} of the known differences ({} at {}) is not needed", row.step, row.place));
        }
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
        let places: usize = real.steps.iter().map(|(_, found)| found.len()).sum();
        println!(
            "{}: {} steps, {places} places compared, {} known kinds of difference",
            real.chain,
            real.steps.len(),
            known.len()
        );
        for row in known {
            println!("  {} at {}: {}", row.step, row.place, row.why);
        }
    }
}

impl Known {
    fn allows(&self, step: &str, place: &str) -> bool {
        let fits = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == pattern,
        };
        fits(self.step, step) && fits(self.place, place)
    }
}

/// A row of `tests/vectors/send-errors.json`.
#[derive(Deserialize)]
struct Vector {
    chain: String,
    code: i64,
    message: String,
    class: String,
}

/// A message without its numbers, addresses and digests, which differ from case to case.
fn without_values(message: &str) -> String {
    let is_value = |word: &str| {
        let digits = word.trim_start_matches("0x");
        let number =
            digits.chars().all(|c| c.is_ascii_digit() || c == '.') && digits.contains(|c: char| c.is_ascii_digit());
        number || (digits.len() >= 16 && digits.chars().all(|c| c.is_ascii_hexdigit()))
    };
    let words = message.trim().split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let masked = words.map(|word| {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len();
        let (word, rest) = word.split_at(end);
        (if is_value(word) { "#" } else { word }).to_owned() + rest
    });
    masked.collect()
}

fn exact(place: String, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                exact(below(&place, name), value, found);
            }
        }
        Value::Array(items) => {
            drop(found.insert(below(&place, "length"), items.len().to_string()));
            for (index, item) in items.iter().enumerate() {
                exact(below(&place, &index.to_string()), item, found);
            }
        }
        leaf => drop(found.insert(place, leaf.to_string())),
    }
}

fn shape(place: String, value: &Value, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(below(&place, name), value, found);
            }
        }
        Value::Array(items) => {
            found.entry(below(&place, "[]")).or_default();
            for item in items {
                shape(below(&place, "[]"), item, found);
            }
        }
        leaf => drop(found.entry(place).or_default().insert(kind(leaf))),
    }
}

fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// Kinds that clients tell apart.
fn kind(leaf: &Value) -> &'static str {
    match leaf {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "a whole number",
        Value::String(text) => match text.strip_prefix("0x") {
            Some(digits) if digits.chars().all(|c| c.is_ascii_hexdigit()) => match digits.len() {
                40 => "an address",
                64 => "a digest",
                512 => "a bloom",
                // A quantity of none of these lengths, and data, can't be told apart.
                _ => "hex",
            },
            _ if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) => "a digest",
            _ => "text",
        },
        Value::Object(_) | Value::Array(_) => "no leaf",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn transcript(value: &Value) -> Transcript {
        let mut transcript = Transcript::new("ethereum");
        transcript.shape("shape", value);
        transcript
    }

    #[test]
    fn a_message_without_its_values() {
        let low = "nonce too low: next nonce 5, tx nonce 17";
        assert_eq!(without_values(low), "nonce too low: next nonce #, tx nonce #");
        let fee = "insufficient fee, rejecting replacement d5f8a9b9b5a8f8a1; 0.00001 < 0.00002";
        assert_eq!(without_values(fee), "insufficient fee, rejecting replacement #; # < #");
    }

    #[test]
    fn the_same_shape_passes() {
        let (ours, theirs) = (json!({ "a": [1, "0x00"] }), json!({ "a": [2, "0x01"] }));
        Transcript::compare(&transcript(&ours), &transcript(&theirs), &[]);
    }

    #[test]
    #[should_panic(expected = "the simulated node has a whole number, the real one nothing")]
    fn another_shape_does_not() {
        Transcript::compare(&transcript(&json!({ "a": 1, "b": 1 })), &transcript(&json!({ "a": 1 })), &[]);
    }

    #[test]
    fn a_known_difference_passes() {
        let known = [Known { step: "sh*", place: "b", why: "for the test" }];
        Transcript::compare(&transcript(&json!({ "a": 1, "b": 1 })), &transcript(&json!({ "a": 1 })), &known);
    }

    #[test]
    #[should_panic(expected = "is not needed")]
    fn a_known_difference_that_is_none_does_not() {
        let known = [Known { step: "shape", place: "b", why: "for the test" }];
        Transcript::compare(&transcript(&json!({ "a": 1 })), &transcript(&json!({ "a": 1 })), &known);
    }
}
