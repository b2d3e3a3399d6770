//! The list of the US Office of Foreign Assets Control, `sdn_advanced.xml`, read as a stream: it has some 80 MB, and a few
//! hundred addresses in it.
//!
//! The file's reference section gives every kind of feature a number; the kinds that are called `Digital Currency Address - *`
//! hold addresses. Which chain an address is of is decided by what it decodes to, not by the ticker: the list of XBT holds
//! an address of Tron, and addresses of ERC-20 tokens are filed under the tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// How the kinds of features are called that hold addresses.
const KIND: &str = "Digital Currency Address - ";

/// The tickers that the list is known to use. Another one may be a chain that the gateway moves money on, so it is told.
const KNOWN_TICKERS: [&str; 19] = [
    "XBT", "ETH", "XMR", "LTC", "ZEC", "DASH", "BTG", "ETC", "BSV", "BCH", "XVG", "USDT", "USDC", "XRP", "TRX", "ARB",
    "BSC", "SOL", "DOGE",
];

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sdn {
    /// When the list was issued, `2026-11-20`, if the file says so.
    pub issued: Option<String>,
    /// Every address with the ticker that it is filed under, in the file's order.
    pub addresses: Vec<Filed>,
    /// Tickers that are in the file and not among the known ones.
    pub unknown_tickers: BTreeSet<String>,
}

/// An address as the list files it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// `XBT`, `ETH`, `USDT`.
    pub ticker: String,
    /// The address in the list's own spelling.
    pub address: String,
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdnError {
    /// Not well-formed XML, cut off, or unreadable.
    #[error("the sanctions list is no well-formed XML (at byte {at}): {reason}")]
    Xml {
        /// Where, in bytes from the start.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// Some other XML. A list without a single address is taken for one, too: it would let everything pass.
    #[error("this is no sdn_advanced.xml: {0}")]
    NotTheList(&'static str),
}

/// Where in the document the reader is, as far as that matters.
#[derive(Debug, Default)]
struct Place {
    /// How many elements are open.
    depth: usize,
    issue: Option<Issue>,
    /// The number of the feature type whose name is being read.
    feature_type: Option<String>,
    /// The ticker of the feature that is open, where it holds addresses.
    ticker: Option<String>,
    in_detail: bool,
    text: String,
}

#[derive(Debug, Default)]
struct Issue {
    parts: BTreeMap<String, String>,
    reading: Option<String>,
}

/// Reads the file.
///
/// # Errors
/// [`SdnError::Xml`] where it isn't well formed up to its very end, [`SdnError::NotTheList`] where it is something else.
pub fn parse(input: impl BufRead) -> Result<Sdn, SdnError> {
    let mut reader = Reader::from_reader(input);
    reader.config_mut().check_end_names = true;
    let mut sdn = Sdn::default();
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut place = Place::default();
    let mut buffer = Vec::new();
    let mut ended = false;
    loop {
        buffer.clear();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(error) => return Err(SdnError::Xml { at: reader.error_position(), reason: error.to_string() }),
        };
        let broken = |reason: String| SdnError::Xml { at: reader.buffer_position(), reason };
        match event {
            Event::Start(element) => {
                if place.depth == 0 && element.local_name().as_ref() != "Sanctions" {
                    return Err(SdnError::NotTheList("its root is not `Sanctions`"));
                }
                place.depth = place.depth.saturating_add(1);
                open(&mut place, &kinds, &element).map_err(broken)?;
            }
            Event::Text(text) if place.wants_text() => place.text.push_str(&text),
            Event::GeneralRef(_) if place.wants_text() => {
                return Err(broken("an entity inside of an address or a name".to_owned()));
            }
            Event::End(element) => {
                place.depth = place.depth.saturating_sub(1);
                ended = place.depth == 0;
                close(&mut place, &mut kinds, &mut sdn, element.local_name().as_ref());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !ended {
        return Err(SdnError::Xml { at: reader.buffer_position(), reason: "the file is cut off".to_owned() });
    }
    if sdn.addresses.is_empty() {
        return Err(SdnError::NotTheList("it has no digital currency address"));
    }
    sdn.unknown_tickers = kinds.into_values().filter(|ticker| !KNOWN_TICKERS.contains(&ticker.as_str())).collect();
    Ok(sdn)
}

impl Place {
    fn wants_text(&self) -> bool {
        self.in_detail
            || self.feature_type.is_some()
            || self.issue.as_ref().is_some_and(|issue| issue.reading.is_some())
    }
}

fn open(place: &mut Place, kinds: &BTreeMap<String, String>, element: &BytesStart<'_>) -> Result<(), String> {
    match element.local_name().as_ref() {
        "DateOfIssue" if place.depth == 2 => place.issue = Some(Issue::default()),
        name @ ("Year" | "Month" | "Day") if place.depth == 3 => {
            if let Some(issue) = &mut place.issue {
                issue.reading = Some(name.to_owned());
                place.text.clear();
            }
        }
        "FeatureType" => {
            place.feature_type = Some(attribute(element, "ID")?.ok_or("a FeatureType without ID")?);
            place.text.clear();
        }
        "Feature" => {
            let kind = attribute(element, "FeatureTypeID")?;
            place.ticker = kind.and_then(|kind| kinds.get(&kind).cloned());
        }
        "VersionDetail" if place.ticker.is_some() => {
            place.in_detail = true;
            place.text.clear();
        }
        _ => {}
    }
    Ok(())
}

fn close(place: &mut Place, kinds: &mut BTreeMap<String, String>, sdn: &mut Sdn, name: &str) {
    match name {
        "DateOfIssue" => {
            if let Some(Issue { parts, .. }) = place.issue.take() {
                let part = |name: &str| parts.get(name).map(String::as_str);
                if let (Some(year), Some(month), Some(day)) = (part("Year"), part("Month"), part("Day")) {
                    sdn.issued = Some(format!("{year:0>4}-{month:0>2}-{day:0>2}"));
                }
            }
        }
        "Year" | "Month" | "Day" => {
            if let Some(issue) = &mut place.issue
                && let Some(reading) = issue.reading.take()
            {
                issue.parts.insert(reading, place.text.trim().to_owned());
            }
        }
        "FeatureType" => {
            if let (Some(id), Some(ticker)) = (place.feature_type.take(), place.text.trim().strip_prefix(KIND)) {
                kinds.insert(id, ticker.trim().to_owned());
            }
        }
        "Feature" => place.ticker = None,
        "VersionDetail" if place.in_detail => {
            place.in_detail = false;
            let address = place.text.trim();
            if let (Some(ticker), false) = (&place.ticker, address.is_empty()) {
                sdn.addresses.push(Filed { ticker: ticker.clone(), address: address.to_owned() });
            }
        }
        _ => {}
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let found = element.try_get_attribute(name).map_err(|e| e.to_string())?;
    Ok(found.map(|found| found.value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of the real file, cut down; `tests/vectors/README.md` says where its parts come from.
    const SMALL: &str = include_str!("../../../tests/vectors/ofac/sdn_advanced_excerpt.xml");

    #[test]
    fn reads_every_ticker_and_the_date() {
        let sdn = parse(SMALL.as_bytes()).unwrap();
        assert_eq!(sdn.issued.as_deref(), Some("2026-11-20"));
        let filed: Vec<_> = sdn.addresses.iter().map(|f| (f.ticker.as_str(), f.address.as_str())).collect();
        assert_eq!(
            filed,
            [
                ("XBT", "1FzWLkAahHooV3kzTgyx6qsswXJ6sCXkSR"),
                ("XBT", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
                ("ETH", "0x098B716B8Aaf21512996dC57EB0615e2383E2f96"),
                ("ETH", "0x901bb9583b24d97e995513c6778dc6888ab6870e"),
                ("USDT", "0xd90e2f925DA726b50C4Ed8D0Fb90Ad053324F31b"),
                ("NEWCOIN", "somewhere else"),
            ]
        );
        assert_eq!(sdn.unknown_tickers, BTreeSet::from(["NEWCOIN".to_owned()]));
    }

    #[test]
    fn other_features_are_passed_over() {
        assert!(!parse(SMALL.as_bytes()).unwrap().addresses.iter().any(|filed| filed.address.contains("Moscow")));
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_refused() {
        for end in 0..SMALL.trim_end().len() {
            if SMALL.is_char_boundary(end) {
                assert!(parse(SMALL.split_at(end).0.as_bytes()).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn something_else_is_refused() {
        for other in ["", "<html><body>502 Bad Gateway</body></html>", "{}", "<Sanctions></Sanctions>"] {
            assert!(parse(other.as_bytes()).is_err(), "{other}");
        }
        let crossed = SMALL.replace("</Profile>", "</Prophile>");
        assert!(matches!(parse(crossed.as_bytes()), Err(SdnError::Xml { .. })));
    }

    #[test]
    fn an_entity_can_not_hide_an_address() {
        let hidden = SMALL.replace("1FzWLkAahHooV3kzTgyx6qsswXJ6sCXkSR", "1FzWLk&#65;ahHooV3kzTgyx6qsswXJ6sCXkSR");
        assert!(matches!(parse(hidden.as_bytes()), Err(SdnError::Xml { .. })));
    }
}
