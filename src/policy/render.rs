//! What one policy changes of another, in lines for people: entry by entry, field by field, value by value.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use signer::policy::PolicyConfig;

use crate::cli::Failure;

/// What `after` changes of `before`.
///
/// # Errors
/// Where a policy can't be shown.
pub(crate) fn difference(before: &PolicyConfig, after: &PolicyConfig) -> Result<Vec<String>, Failure> {
    let (before, after) = (object(before)?, object(after)?);
    let mut lines = Vec::new();
    for section in keys(&before, &after) {
        let (was, is) = (before.get(section), after.get(section));
        if was == is {
            continue;
        }
        match (was, is) {
            (was, is) if is_table(was) || is_table(is) => table(section, entries(was), entries(is), &mut lines),
            (was, is) => field(section, was, is, "", &mut lines),
        }
    }
    if lines.is_empty() {
        lines.push("nothing but the way it is written".to_owned());
    }
    Ok(lines)
}

/// A whole policy.
///
/// # Errors
/// Where it can't be shown.
pub(crate) fn whole(policy: &PolicyConfig) -> Result<Vec<String>, Failure> {
    let text = serde_json::to_string_pretty(&object(policy)?)?;
    Ok(text.lines().map(escaped).collect())
}

/// A value in one line. What would move the cursor, or turn the direction of writing, is not shown as such.
pub(crate) fn plain(value: &Value) -> String {
    escaped(&value.to_string())
}

fn escaped(text: &str) -> String {
    let shown = |letter: char| {
        let plain = letter.is_ascii() && !letter.is_ascii_control();
        if plain { letter.to_string() } else { letter.escape_unicode().to_string() }
    };
    text.chars().map(shown).collect()
}

fn object(policy: &PolicyConfig) -> Result<Map<String, Value>, Failure> {
    match serde_json::to_value(policy)? {
        Value::Object(object) => Ok(object),
        _ => Err("the policy can't be shown".into()),
    }
}

fn keys<'m>(before: &'m Map<String, Value>, after: &'m Map<String, Value>) -> BTreeSet<&'m String> {
    before.keys().chain(after.keys()).collect()
}

/// Whether it is a list of entries with names.
fn is_table(value: Option<&Value>) -> bool {
    let named = |entry: &Value| entry.get("id").is_some();
    value.and_then(Value::as_array).is_some_and(|entries| !entries.is_empty() && entries.iter().all(named))
}

fn entries(value: Option<&Value>) -> Vec<&Map<String, Value>> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect()
}

fn table(section: &str, was: Vec<&Map<String, Value>>, is: Vec<&Map<String, Value>>, lines: &mut Vec<String>) {
    let named = |entries: &[&Map<String, Value>], name: &Value| {
        entries.iter().find(|entry| entry.get("id") == Some(name)).copied().cloned()
    };
    let names: Vec<&Value> = was.iter().chain(&is).filter_map(|entry| entry.get("id")).collect();
    let mut told: Vec<&Value> = Vec::new();
    for name in names {
        if told.contains(&name) {
            continue;
        }
        told.push(name);
        let head = format!("{section} {}", plain(name));
        match (named(&was, name), named(&is, name)) {
            (None, Some(entry)) => {
                lines.push(format!("+ {head}"));
                lines.extend(entry.iter().map(|(field, value)| format!("+   {field}: {}", plain(value))));
            }
            (Some(entry), None) => {
                lines.push(format!("- {head}"));
                lines.extend(entry.iter().map(|(field, value)| format!("-   {field}: {}", plain(value))));
            }
            (Some(was), Some(is)) if was != is => {
                lines.push(format!("~ {head}"));
                for name in keys(&was, &is) {
                    field(name, was.get(name), is.get(name), "  ", lines);
                }
            }
            _ => {}
        }
    }
}

fn field(name: &str, was: Option<&Value>, is: Option<&Value>, indent: &str, lines: &mut Vec<String>) {
    if was == is {
        return;
    }
    let list = |value: Option<&Value>| value.map_or(Some(Vec::new()), |value| value.as_array().cloned());
    match (list(was), list(is)) {
        (Some(was), Some(is)) => {
            lines.push(format!("{indent}~ {name}"));
            let gone = was.iter().filter(|item| !is.contains(item));
            lines.extend(gone.map(|item| format!("{indent}  - {}", plain(item))));
            let fresh = is.iter().filter(|item| !was.contains(item));
            lines.extend(fresh.map(|item| format!("{indent}  + {}", plain(item))));
        }
        _ => {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), plain);
            lines.push(format!("{indent}~ {name}: {} -> {}", shown(was), shown(is)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(before: Value, after: Value) -> Vec<String> {
        let config = |value: Value| serde_json::from_value::<PolicyConfig>(value).unwrap();
        difference(&config(before), &config(after)).unwrap()
    }

    #[test]
    fn every_change_is_told_where_it_is() {
        let rule = |id: &str, to: &[&str]| json!({ "id": id, "wallets": ["w"], "addresses": to, "max_amount": "5" });
        let before = json!({ "denied_addresses": ["0x1"], "rules": [rule("one", &["0xa", "0xb"]), rule("two", &[])] });
        let mut changed = rule("one", &["0xb", "0xc"]);
        changed["max_amount"] = json!("6");
        let changes = json!({ "require": "1 of policy", "delay_seconds": 60 });
        let after = json!({ "rules": [changed, rule("three", &[])], "changes": changes });
        let told = lines(before.clone(), after);
        for line in [
            "~ rules \"one\"",
            "  ~ addresses",
            "    - \"0xa\"",
            "    + \"0xc\"",
            "  ~ max_amount: \"5\" -> \"6\"",
            "- rules \"two\"",
            "+ rules \"three\"",
            "  - \"0x1\"",
        ] {
            assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
        }
        assert!(told.iter().any(|line| line.starts_with("~ changes: nothing -> ")), "{told:#?}");
        assert!(!told.iter().any(|line| line.contains("0xb")), "{told:#?}");
        assert_eq!(lines(before.clone(), before), ["nothing but the way it is written"]);
    }

    #[test]
    fn what_would_move_the_cursor_is_not_shown_as_such() {
        let rule = |id: &str| json!({ "id": id, "wallets": ["w"] });
        let told = lines(json!({}), json!({ "rules": [rule("a\u{1b}[2J\u{202e}b")] }));
        assert!(told.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))), "{told:?}");
    }
}
