//! What the standard's constraints let through, and what they don't.

use serde_json::{Value, json};

use super::*;

/// Long after every birth in these tests: 2025-06-15.
const NOW: u64 = 1_750_000_000_000;

/// A natural person pays a company; the LEI is GLEIF's own, <https://search.gleif.org/#/record/506700GE1G29325QX363>.
fn example() -> Value {
    json!({
        "originator": {
            "originatorPersons": [{ "naturalPerson": {
                "name": { "nameIdentifier": [
                    { "primaryIdentifier": "Wu", "secondaryIdentifier": "Xinli", "nameIdentifierType": "LEGL" },
                    { "primaryIdentifier": "Wu", "nameIdentifierType": "ALIA" },
                ], "localNameIdentifier": [
                    { "primaryIdentifier": "吴", "secondaryIdentifier": "信利", "nameIdentifierType": "LEGL" },
                ] },
                "geographicAddress": [{
                    "addressType": "HOME", "streetName": "Bahnhofstrasse", "buildingNumber": "1",
                    "postCode": "8001", "townName": "Zürich", "country": "CH",
                }],
                "nationalIdentification": {
                    "nationalIdentifier": "446005", "nationalIdentifierType": "CCPT", "countryOfIssue": "CH",
                },
                "customerIdentification": "1002390",
                "dateAndPlaceOfBirth": { "dateOfBirth": "1974-02-28", "placeOfBirth": "Taipei" },
                "countryOfResidence": "TZ",
            } }],
            "accountNumber": ["0x8617E340B3D01FA5F11F306F4090FD50E238070D"],
        },
        "beneficiary": {
            "beneficiaryPersons": [{ "legalPerson": {
                "name": { "nameIdentifier": [
                    { "legalPersonName": "ABC Limited", "legalPersonNameIdentifierType": "LEGL" },
                    { "legalPersonName": "CBA Trading", "legalPersonNameIdentifierType": "TRAD" },
                ] },
                "geographicAddress": [{
                    "addressType": "GEOG", "townName": "London", "addressLine": ["1 Potential Street"], "country": "GB",
                }],
                "nationalIdentification": { "nationalIdentifier": "506700GE1G29325QX363", "nationalIdentifierType": "LEIX" },
                "countryOfRegistration": "GB",
            } }],
            "accountNumber": ["0x52908400098527886E0F7030069857D2E4169EE7"],
        },
        "originatingVASP": { "originatingVASP": { "legalPerson": {
            "name": { "nameIdentifier": [{ "legalPersonName": "VASP A", "legalPersonNameIdentifierType": "LEGL" }] },
        } } },
        "transferPath": { "transferPath": [{
            "intermediaryVASP": { "legalPerson": {
                "name": { "nameIdentifier": [{ "legalPersonName": "VASP B", "legalPersonNameIdentifierType": "LEGL" }] },
            } },
            "sequence": 0,
        }] },
        "payloadMetadata": { "transliterationMethod": ["hani"] },
    })
}

/// The rule that a payload breaks, none where it isn't even read.
fn read(payload: Value) -> Result<TravelData, Option<Fault>> {
    let payload: Payload = serde_json::from_value(payload).map_err(|_| None)?;
    TravelData::new(payload, NOW).map_err(Some)
}

const PAYER: &str = "/originator/originatorPersons/0/naturalPerson";
const PAYEE: &str = "/beneficiary/beneficiaryPersons/0/legalPerson";

#[test]
fn what_keeps_the_constraints_is_kept_as_it_is() {
    let data = read(example()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&data.to_json()).unwrap(), example());
}

/// What others gave as examples: `tests/vectors/README.md` says who.
#[derive(Deserialize)]
struct Example {
    name: String,
    /// LEIs in it whose check digits are made up.
    wrong_leis: Vec<String>,
    payload: Value,
}

#[test]
fn the_standards_examples_and_those_of_others_are_read() {
    let examples: Vec<Example> = serde_json::from_str(include_str!("../../../../tests/vectors/ivms101.json")).unwrap();
    assert_eq!(examples.len(), 4);
    for Example { name, wrong_leis, payload } in examples {
        let mut text = payload.to_string();
        if !wrong_leis.is_empty() {
            assert_eq!(read(payload).unwrap_err().map(|fault| fault.rule), Some(Rule::C11), "{name}");
            // GLEIF's own in their place: nothing else is wrong.
            text = wrong_leis.iter().fold(text, |text, lei| text.replace(lei, "506700GE1G29325QX363"));
        }
        let payload: Value = serde_json::from_str(&text).unwrap();
        let data = read(payload.clone()).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        assert_eq!(serde_json::from_str::<Value>(&data.to_json()).unwrap(), payload, "{name}");
    }
}

#[test]
fn each_constraint_is_held() {
    type Change = fn(&mut Value);
    let without = |value: &mut Value, place: &str, names: &[&str]| {
        let object = value.pointer_mut(place).unwrap().as_object_mut().unwrap();
        names.iter().for_each(|name| assert!(object.remove(*name).is_some(), "{place}/{name}"));
    };
    let known = ["geographicAddress", "nationalIdentification", "customerIdentification", "dateAndPlaceOfBirth"];
    for kept in known {
        let mut payload = example();
        let others: Vec<_> = known.into_iter().filter(|name| *name != kept).collect();
        without(&mut payload, PAYER, &others);
        assert!(read(payload).is_ok(), "{kept} alone will do");
    }
    let mut payload = example();
    without(&mut payload, PAYER, &known);
    assert_eq!(read(payload).unwrap_err().unwrap().rule, Rule::C1);

    let changes: [(Rule, Change); 14] = [
        (Rule::C2, |p| {
            p["originator"]["originatorPersons"][0]["naturalPerson"]["dateAndPlaceOfBirth"]["dateOfBirth"] =
                json!("2025-06-15")
        }),
        (Rule::C5, |p| {
            p["beneficiary"]["beneficiaryPersons"][0]["legalPerson"]["name"]["nameIdentifier"][0]["legalPersonNameIdentifierType"] =
                json!("SHRT")
        }),
        (Rule::C6, |p| {
            p["originator"]["originatorPersons"][0]["naturalPerson"]["name"]["nameIdentifier"][0]["nameIdentifierType"] =
                json!("MISC")
        }),
        (Rule::C6, |p| p["originator"]["originatorPersons"][0]["naturalPerson"]["name"]["nameIdentifier"] = json!([])),
        (Rule::C7, |p| {
            p["beneficiary"]["beneficiaryPersons"][0]["legalPerson"]["nationalIdentification"]["nationalIdentifierType"] =
                json!("CCPT")
        }),
        (Rule::C8, |p| {
            drop(
                p["originator"]["originatorPersons"][0]["naturalPerson"]["geographicAddress"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("buildingNumber"),
            )
        }),
        (Rule::C8, |p| {
            p["beneficiary"]["beneficiaryPersons"][0]["legalPerson"]["geographicAddress"][0]["addressLine"] =
                json!(vec!["a"; 8])
        }),
        (Rule::C9, |p| {
            p["beneficiary"]["beneficiaryPersons"][0]["legalPerson"]["nationalIdentification"]["countryOfIssue"] =
                json!("GB")
        }),
        (Rule::C9, |p| {
            p["beneficiary"]["beneficiaryPersons"][0]["legalPerson"]["nationalIdentification"]["nationalIdentifierType"] =
                json!("RAID")
        }),
        (Rule::C11, |p| {
            p["beneficiary"]["beneficiaryPersons"][0]["legalPerson"]["nationalIdentification"]["nationalIdentifier"] =
                json!("506700GE1G29325QX364")
        }),
        (Rule::C12, |p| p["transferPath"]["transferPath"][0]["sequence"] = json!(1)),
        (Rule::Count, |p| p["beneficiary"]["beneficiaryPersons"] = json!([])),
        (Rule::Count, |p| p["originator"]["originatorPersons"] = json!([])),
        (Rule::Count, |p| p["originator"]["accountNumber"] = json!(vec!["a"; 51])),
    ];
    for (rule, change) in changes {
        let mut payload = example();
        change(&mut payload);
        assert_eq!(read(payload).unwrap_err().map(|fault| fault.rule), Some(rule), "{rule}");
    }

    // A company that pays.
    let mut payload = example();
    let mut company = payload.pointer(PAYEE).unwrap().clone();
    payload["originator"]["originatorPersons"] = json!([{ "legalPerson": company.clone() }]);
    assert!(read(payload.clone()).is_ok());
    company.as_object_mut().unwrap().remove("nationalIdentification");
    company["geographicAddress"][0]["addressType"] = json!("BIZZ");
    payload["originator"]["originatorPersons"] = json!([{ "legalPerson": company }]);
    let fault = read(payload.clone()).unwrap_err().unwrap();
    assert_eq!((fault.rule, fault.place.as_str()), (Rule::C4, "originator.originatorPersons[0]"));
    payload["originator"]["originatorPersons"][0]["legalPerson"]["customerNumber"] = json!("17");
    assert!(read(payload).is_ok());
}

#[test]
fn what_the_standard_doesnt_know_isnt_read() {
    let set = |place: &str, name: &str, value: Value| {
        let mut payload = example();
        payload.pointer_mut(place).unwrap()[name] = value;
        read(payload)
    };
    for (place, name, value) in [
        ("", "more", json!(1)),
        (PAYER, "more", json!(1)),
        (PAYER, "countryOfResidence", json!("UK")),
        (PAYER, "countryOfResidence", json!("ch")),
        (PAYER, "customerIdentification", json!("x".repeat(51))),
        (PAYER, "customerIdentification", json!(" ")),
        (PAYER, "customerIdentification", json!("a\u{1b}b")),
        ("/originator/originatorPersons/0/naturalPerson/dateAndPlaceOfBirth", "dateOfBirth", json!("1974-02-30")),
        ("/originator/originatorPersons/0/naturalPerson/dateAndPlaceOfBirth", "dateOfBirth", json!("19740228")),
        (
            "/originator/originatorPersons/0/naturalPerson/nationalIdentification",
            "registrationAuthority",
            json!("RA12345"),
        ),
        ("/originator/originatorPersons/0/naturalPerson/geographicAddress/0", "addressType", json!("home")),
        ("/originator/originatorPersons/0", "legalPerson", json!({})),
        ("/payloadMetadata", "transliterationMethod", json!(["HANI"])),
    ] {
        assert_eq!(set(place, name, value.clone()), Err(None), "{place} {name} {value}");
    }
    let mut nobody = example();
    nobody.as_object_mut().unwrap().remove("beneficiary");
    assert_eq!(read(nobody), Err(None));
}
