//! Who has to approve: `2 of finance and 1 of cfo and 1 of ceo`.
//!
//! ```text
//! quorum = all { "or" all }
//! all    = one { "and" one }
//! one    = number "of" group | "(" quorum ")"
//! ```
//!
//! Approvers are distinct people: each counts once, for one of the groups that the person is in. So the example takes four
//! people, even where the CFO is of finance, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many people a quorum may ask for at most, on any of its ways.
const MAX_PEOPLE: usize = 64;
/// How many ways there may be to fulfil one.
const MAX_WAYS: usize = 64;
/// How deep brackets may nest.
const MAX_DEPTH: usize = 16;

/// A group of approvers: `finance`, `cfo`. 1 to 64 characters of `a-z`, `0-9`, `-` and `_`, and not a word of the grammar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Group(String);

/// A person behind one or several credentials: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Person(String);

/// A quorum expression, as the ways to fulfil it: each a number of people of each of some groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Quorum {
    /// Never empty; each way needs somebody.
    ways: BTreeSet<Way>,
}

/// So many of each group, all different people.
type Way = BTreeMap<Group, usize>;

/// A string that is no quorum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no quorum ({reason}); write it like: 2 of finance and (1 of cfo or 1 of ceo)")]
pub struct QuorumError {
    text: String,
    reason: &'static str,
}

/// A string that is no name of a group or a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a group or person; use 1 to 64 characters of a-z, 0-9, - and _")]
pub struct NameError(String);

impl Quorum {
    /// Whether these people fulfil it.
    pub fn is_met_by(&self, people: &BTreeMap<Person, BTreeSet<Group>>) -> bool {
        self.ways.iter().any(|way| missing(way, people) == 0)
    }

    /// How many more people it takes at least, on the nearest way; 0 where it is met.
    pub fn missing(&self, people: &BTreeMap<Person, BTreeSet<Group>>) -> usize {
        self.ways.iter().map(|way| missing(way, people)).min().unwrap_or(0)
    }

    /// Either of the two.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self { ways: self.ways.union(&other.ways).cloned().collect() }
    }

    /// Somebody of each group, all different people. A group that is named twice asks for two.
    pub fn one_of_each<'g>(groups: impl IntoIterator<Item = &'g Group>) -> Self {
        let mut way = Way::new();
        for group in groups {
            let count = way.entry(group.clone()).or_default();
            *count = count.saturating_add(1);
        }
        Self { ways: BTreeSet::from([way]) }
    }

    /// Whether whoever fulfils this one fulfils the other as well, by their numbers: each way of this one has at least the
    /// people of some way of the other.
    pub fn implies(&self, other: &Self) -> bool {
        let covers =
            |way: &Way, less: &Way| less.iter().all(|(group, count)| way.get(group).is_some_and(|has| has >= count));
        self.ways.iter().all(|way| other.ways.iter().any(|less| covers(way, less)))
    }

    /// Every group that it names.
    pub fn groups(&self) -> BTreeSet<&Group> {
        self.ways.iter().flat_map(BTreeMap::keys).collect()
    }
}

/// How many of the way's places stay empty when everybody takes the best one: the complement of a largest matching of
/// people to places (Kuhn's algorithm).
fn missing(way: &Way, people: &BTreeMap<Person, BTreeSet<Group>>) -> usize {
    let places: Vec<&Group> = way.iter().flat_map(|(group, count)| std::iter::repeat_n(group, *count)).collect();
    let people: Vec<&BTreeSet<Group>> = people.values().collect();
    let mut holders: Vec<Option<usize>> = vec![None; places.len()];
    let seated = (0..people.len()).filter(|person| seat(*person, &people, &places, &mut holders, &mut BTreeSet::new()));
    let seated = seated.count();
    places.len().saturating_sub(seated)
}

/// Finds a place for a person, moving others to other places where that helps.
fn seat(
    person: usize,
    people: &[&BTreeSet<Group>],
    places: &[&Group],
    holders: &mut Vec<Option<usize>>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    for (place, group) in places.iter().enumerate() {
        if !people.get(person).is_some_and(|groups| groups.contains(*group)) || !tried.insert(place) {
            continue;
        }
        let holder = holders.get(place).copied().flatten();
        if holder.is_none_or(|holder| seat(holder, people, places, holders, tried)) {
            if let Some(holder) = holders.get_mut(place) {
                *holder = Some(person);
            }
            return true;
        }
    }
    false
}

fn join(left: &BTreeSet<Way>, right: &BTreeSet<Way>) -> Result<BTreeSet<Way>, &'static str> {
    let mut ways = BTreeSet::new();
    for one in left {
        for other in right {
            let mut way = one.clone();
            for (group, count) in other {
                let sum = way.entry(group.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
            if way.values().fold(0_usize, |sum, count| sum.saturating_add(*count)) > MAX_PEOPLE {
                return Err("it asks for more than 64 people");
            }
            ways.insert(way);
            if ways.len() > MAX_WAYS {
                return Err("there are more than 64 ways to fulfil it");
            }
        }
    }
    Ok(ways)
}

/// What is left to read of an expression.
struct Tokens<'t>(std::iter::Peekable<std::vec::IntoIter<&'t str>>);

impl<'t> Tokens<'t> {
    fn take(&mut self, word: &str) -> bool {
        self.0.next_if(|token| *token == word).is_some()
    }

    fn quorum(&mut self, depth: usize) -> Result<BTreeSet<Way>, &'static str> {
        let mut ways = self.all(depth)?;
        while self.take("or") {
            ways.extend(self.all(depth)?);
        }
        if ways.len() > MAX_WAYS { Err("there are more than 64 ways to fulfil it") } else { Ok(ways) }
    }

    fn all(&mut self, depth: usize) -> Result<BTreeSet<Way>, &'static str> {
        let mut ways = self.one(depth)?;
        while self.take("and") {
            ways = join(&ways, &self.one(depth)?)?;
        }
        Ok(ways)
    }

    fn one(&mut self, depth: usize) -> Result<BTreeSet<Way>, &'static str> {
        if self.take("(") {
            if depth == MAX_DEPTH {
                return Err("its brackets nest too deep");
            }
            let ways = self.quorum(depth.saturating_add(1))?;
            return if self.take(")") { Ok(ways) } else { Err("a bracket isn't closed") };
        }
        let count = self.0.next().ok_or("it ends too early")?;
        let plain = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
        let count = count.parse().ok().filter(|_| plain).ok_or("a number of people from 1 is expected")?;
        if count > MAX_PEOPLE {
            return Err("it asks for more than 64 people");
        }
        if !self.take("of") {
            return Err("`of` is expected after the number");
        }
        let group = self.0.next().ok_or("it ends too early")?.parse().map_err(|_| "a group's name is expected")?;
        Ok(BTreeSet::from([Way::from([(group, count)])]))
    }
}

impl FromStr for Quorum {
    type Err = QuorumError;

    fn from_str(text: &str) -> Result<Self, QuorumError> {
        let error = |reason| QuorumError { text: text.chars().take(200).collect(), reason };
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let tokens: Vec<&str> = spaced.split_ascii_whitespace().collect();
        let mut tokens = Tokens(tokens.into_iter().peekable());
        let ways = tokens.quorum(0).map_err(error)?;
        match tokens.0.next() {
            None => Ok(Self { ways }),
            Some(_) => Err(error("something follows its end")),
        }
    }
}

impl fmt::Display for Quorum {
    /// The ways, spelled out: the same quorum has one spelling, however it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, way) in self.ways.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " or " })?;
            for (index, (group, count)) in way.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { " and " })?;
                write!(f, "{count} of {group}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Quorum {
    type Error = QuorumError;

    fn try_from(text: String) -> Result<Self, QuorumError> {
        text.parse()
    }
}

impl From<Quorum> for String {
    fn from(quorum: Quorum) -> Self {
        quorum.to_string()
    }
}

/// Whether a name is plain: 1 to 64 characters of `a-z`, `0-9`, and those of `others`.
fn is_plain(text: &str, others: &[u8]) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

impl FromStr for Group {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = matches!(text, "and" | "or" | "of");
        if is_plain(text, b"-_") && !word { Ok(Self(text.to_owned())) } else { Err(NameError(cut(text))) }
    }
}

impl FromStr for Person {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_plain(text, b"-_.") { Ok(Self(text.to_owned())) } else { Err(NameError(cut(text))) }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

as_text!(Group, Person);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TREASURY: &str = "2 of finance and 1 of cfo and 1 of ceo";

    fn quorum(text: &str) -> Quorum {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn people(list: &[(&str, &[&str])]) -> BTreeMap<Person, BTreeSet<Group>> {
        let person = |(name, groups): &(&str, &[&str])| {
            let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
            (name.parse().unwrap(), groups)
        };
        list.iter().map(person).collect()
    }

    #[test]
    fn every_missing_role_leaves_it_unmet() {
        let all: [(&str, &[&str]); 4] =
            [("fay", &["finance"]), ("finn", &["finance"]), ("carla", &["cfo"]), ("eve", &["ceo"])];
        assert!(quorum(TREASURY).is_met_by(&people(&all)));
        for subset in 0..15_u32 {
            let some: Vec<_> = (0..4).filter(|at| subset & (1 << at) != 0).map(|at| all[at]).collect();
            assert!(!quorum(TREASURY).is_met_by(&people(&some)), "{some:?}");
            assert_eq!(quorum(TREASURY).missing(&people(&some)), 4 - some.len());
        }
    }

    #[test]
    fn a_person_counts_once() {
        let three: [(&str, &[&str]); 3] =
            [("fay", &["finance"]), ("carla", &["finance", "cfo"]), ("eve", &["ceo", "finance", "cfo"])];
        assert!(!quorum(TREASURY).is_met_by(&people(&three)));
        assert!(quorum("1 of finance and 1 of cfo and 1 of ceo").is_met_by(&people(&three)));
        // Whoever takes a place that only somebody else could fill, moves.
        let two: [(&str, &[&str]); 2] = [("a", &["x", "y"]), ("b", &["x"])];
        assert!(quorum("1 of x and 1 of y").is_met_by(&people(&two)));
        assert!(!quorum("1 of x and 1 of y").is_met_by(&people(&[("a", &["x", "y"])])));
    }

    #[test]
    fn either_way_will_do() {
        let either = quorum("2 of family and (1 of adviser or 1 of trustee)");
        let with = |last: &'static [&'static str]| people(&[("a", &["family"]), ("b", &["family"]), ("c", last)]);
        assert!(either.is_met_by(&with(&["adviser"])) && either.is_met_by(&with(&["trustee"])));
        assert!(!either.is_met_by(&with(&["family"])));
        assert_eq!(either.to_string(), "1 of adviser and 2 of family or 2 of family and 1 of trustee");
    }

    #[test]
    fn what_is_no_quorum_is_refused() {
        let wrong = [
            "",
            "finance",
            "2 finance",
            "0 of finance",
            "-1 of finance",
            "2 of",
            "of finance",
            "2 of and",
            "(1 of a",
            "1 of a)",
            "1 of a and",
            "1 of a or or 1 of b",
            "1 of A",
            "01 of a",
            "65 of a",
            "1 of a 1 of b",
            "40 of a and 40 of b",
            "99999999999999999999 of a",
        ];
        for text in wrong {
            assert!(text.parse::<Quorum>().is_err(), "{text:?}");
        }
        let deep = format!("{}1 of a{}", "(".repeat(40), ")".repeat(40));
        assert!(deep.parse::<Quorum>().is_err());
        let wide = (0..7).map(|n| format!("(1 of a{n} or 1 of b{n})")).collect::<Vec<_>>().join(" and ");
        assert!(wide.parse::<Quorum>().is_err(), "128 ways");
    }

    /// Tries every way to hand out places, the slow way.
    fn met_by_hand(way: &[(usize, u8)], people: &[u8], used: usize) -> bool {
        let Some(((count, group), rest)) = way.split_first() else { return true };
        if *count == 0 {
            return met_by_hand(rest, people, used);
        }
        (0..people.len()).filter(|person| used & (1 << person) == 0 && people[*person] & (1 << group) != 0).any(
            |person| {
                let mut fewer = way.to_vec();
                fewer[0].0 -= 1;
                met_by_hand(&fewer, people, used | (1 << person))
            },
        )
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(
            way in proptest::collection::vec((1_usize..3, 0_u8..4), 1..4),
            members in proptest::collection::vec(0_u8..16, 0..6),
        ) {
            let text = way.iter().map(|(count, group)| format!("{count} of g{group}")).collect::<Vec<_>>().join(" and ");
            let people: BTreeMap<Person, BTreeSet<Group>> = members
                .iter()
                .enumerate()
                .map(|(at, member)| {
                    let groups = (0..4).filter(|group| member & (1 << group) != 0);
                    let groups = groups.map(|group| format!("g{group}").parse().unwrap()).collect();
                    (format!("p{at}").parse().unwrap(), groups)
                })
                .collect();
            prop_assert_eq!(quorum(&text).is_met_by(&people), met_by_hand(&way, &members, 0));
        }

        #[test]
        fn more_people_never_unmake_it(members in proptest::collection::vec(0_u8..16, 1..6)) {
            let all: Vec<(String, Vec<String>)> = members.iter().enumerate().map(|(at, member)| {
                let groups = (0..4).filter(|group| member & (1 << group) != 0).map(|group| format!("g{group}"));
                (format!("p{at}"), groups.collect())
            }).collect();
            let of = |list: &[(String, Vec<String>)]| -> BTreeMap<Person, BTreeSet<Group>> {
                let pair = |(name, groups): &(String, Vec<String>)| {
                    (name.parse().unwrap(), groups.iter().map(|group| group.parse().unwrap()).collect())
                };
                list.iter().map(pair).collect()
            };
            let quorum = quorum("2 of g0 and 1 of g1 or 1 of g2 and 2 of g3");
            let (fewer, _) = all.split_at(all.len() - 1);
            prop_assert!(quorum.missing(&of(&all)) <= quorum.missing(&of(fewer)));
        }

        #[test]
        fn a_quorum_is_spelled_in_one_way(text in "[0-9()a-z ]{0,30}") {
            if let Ok(quorum) = text.parse::<Quorum>() {
                prop_assert_eq!(quorum.to_string().parse::<Quorum>(), Ok(quorum));
            }
        }
    }
}
