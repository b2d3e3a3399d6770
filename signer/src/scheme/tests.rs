//! One suite over all schemes: keys from a distributed key generation (for ECDSA from the library's dealer, which takes
//! milliseconds where the generation takes seconds; `tests/pool.rs` has a real one), signatures by every quorum, checked
//! by the stock verifiers.

mod enroll;
mod rekey;

use std::collections::BTreeMap;

use dkls23::protocols::Parameters;
use dkls23::protocols::re_key::re_key;
use dkls23_k256::{Scalar, Secp256k1};
use proptest::prelude::*;
use rand_core::{OsRng, RngCore};

use super::*;
use crate::ceremony::echo::echoed;
use crate::protocol::{Fault, Inbox, Letter, Outbox, PartyIndex, Run, Step, batch};
use crate::share::Share;

fn party(index: u8) -> PartyIndex {
    PartyIndex::new(index).unwrap()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// What a test does to a letter on its way: round (from 1), sender, receiver.
type Tamper<'t> = dyn FnMut(u32, PartyIndex, PartyIndex, &mut Letter) + 't;

/// Runs the parties against each other until each is done or has failed. Those that failed send nothing any more.
fn run<O>(runs: BTreeMap<PartyIndex, Run<O>>, tamper: &mut Tamper<'_>) -> BTreeMap<PartyIndex, Result<O, Fault>> {
    let all = runs.keys().copied().collect::<Vec<_>>();
    let mut ended = BTreeMap::new();
    let mut waiting = runs.into_iter().map(|(me, run)| (me, (run, Inbox::default()))).collect::<BTreeMap<_, _>>();
    for round in 1.. {
        let mut sent: BTreeMap<PartyIndex, Outbox> = BTreeMap::new();
        let mut next = BTreeMap::new();
        for (me, (run, inbox)) in waiting {
            match run.step(inbox) {
                Err(fault) => drop(ended.insert(me, Err(fault))),
                Ok(Step::Done(output)) => drop(ended.insert(me, Ok(output))),
                Ok(Step::Continue(run, outbox)) => {
                    next.insert(me, run);
                    sent.insert(me, outbox);
                }
            }
        }
        if next.is_empty() {
            break;
        }
        let inbox = |to: PartyIndex, tamper: &mut Tamper<'_>| {
            let mut letters = BTreeMap::new();
            for from in all.iter().filter(|from| **from != to) {
                if let Some(outbox) = sent.get(from) {
                    let mut letter = outbox.letter_to(to);
                    tamper(round, *from, to, &mut letter);
                    letters.insert(*from, letter);
                }
            }
            Inbox::new(letters)
        };
        waiting = next.into_iter().map(|(me, run)| (me, (run, inbox(me, tamper)))).collect();
    }
    ended
}

fn honest<O>(runs: BTreeMap<PartyIndex, Run<O>>) -> BTreeMap<PartyIndex, O> {
    let ended = run(runs, &mut |_, _, _, _| ());
    ended.into_iter().map(|(party, output)| (party, output.unwrap())).collect()
}

fn generation(scheme: SchemeId, threshold: u8, n: u8) -> BTreeMap<PartyIndex, Run<Share>> {
    let (all, session) = (PartyIndex::first(n).collect::<Vec<_>>(), random());
    let start = |me: &PartyIndex| {
        let setup = Setup::new(*me, &all, threshold).unwrap();
        let run = Share::generate(scheme, &setup, session).unwrap();
        (*me, echoed(run, *me, setup.peers().to_vec()))
    };
    all.iter().map(start).collect()
}

/// The shares of a fresh key.
pub(crate) fn deal(scheme: SchemeId, threshold: u8, n: u8) -> BTreeMap<PartyIndex, Share> {
    match scheme {
        SchemeId::Ecdsa => {
            let parameters = Parameters::new(threshold, n).unwrap();
            let secret = Scalar::from(OsRng.next_u64() | 1);
            let (parties, _) = re_key::<Secp256k1>(&parameters, &random(), &secret, Some(random()), |_| String::new());
            let share = |party| Share::Ecdsa(ecdsa::KeyShare::new(party).unwrap());
            PartyIndex::first(n).zip(parties.into_iter().map(share)).collect()
        }
        SchemeId::Taproot | SchemeId::Ed25519 => honest(generation(scheme, threshold, n)),
    }
}

fn message(scheme: SchemeId, seed: u8) -> Message {
    match scheme {
        SchemeId::Ecdsa => Message::Ecdsa([seed; 32]),
        SchemeId::Taproot => Message::Taproot([seed; 32]),
        SchemeId::Ed25519 => Message::Ed25519(vec![seed; 1 + usize::from(seed) * 5]),
    }
}

fn signing(
    shares: &BTreeMap<PartyIndex, Share>,
    quorum: &[u8],
    path: &KeyPath,
    message: &Message,
) -> BTreeMap<PartyIndex, Run<Signature>> {
    let quorum = quorum.iter().map(|index| party(*index)).collect::<Vec<_>>();
    let session = random();
    let start = |me: &PartyIndex| {
        let setup = Setup::new(*me, &quorum, u8::try_from(quorum.len()).unwrap()).unwrap();
        (*me, shares[me].sign(&setup, session, path, message).unwrap())
    };
    quorum.iter().map(start).collect()
}

fn subsets(n: u8, size: usize) -> Vec<Vec<u8>> {
    let of = |bits: u32| (1..=n).filter(|i| bits & (1 << (i - 1)) != 0).collect::<Vec<_>>();
    (0..1u32 << n).map(of).filter(|subset| subset.len() == size).collect()
}

fn path(text: &str) -> KeyPath {
    text.parse().unwrap()
}

#[test]
fn every_quorum_signs_what_the_stock_verifier_accepts() {
    for (scheme, paths) in
        [(SchemeId::Ecdsa, &["m", "m/0/7"][..]), (SchemeId::Taproot, &["m"]), (SchemeId::Ed25519, &["m"])]
    {
        for (threshold, n) in [(2, 2), (2, 3), (3, 4)] {
            let shares = deal(scheme, threshold, n);
            let group = shares[&party(1)].group();
            assert!(shares.values().all(|share| share.group() == group && group.scheme() == scheme));
            for (seed, quorum) in subsets(n, threshold.into()).into_iter().enumerate() {
                for at in paths {
                    let (at, message) = (path(at), message(scheme, u8::try_from(seed).unwrap()));
                    let signatures = honest(signing(&shares, &quorum, &at, &message));
                    let first = signatures[&party(quorum[0])];
                    assert!(signatures.values().all(|signature| *signature == first), "all parties get the same");
                    let public_key = group.at(&at).unwrap();
                    verify(&public_key, &message, &first).unwrap();
                    let other = self::message(scheme, 200);
                    assert_eq!(verify(&public_key, &other, &first), Err(VerifyError));
                }
            }
        }
    }
}

#[test]
fn shares_survive_encoding_and_do_not_print_themselves() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 2);
        let reload = |(party, share): (&PartyIndex, &Share)| {
            let bytes = share.encode().unwrap();
            assert!(Share::decode(scheme, &bytes[..bytes.len() - 1]).is_err());
            assert!(Share::decode(scheme, &[&bytes[..], &[0]].concat()).is_err());
            (*party, Share::decode(scheme, &bytes).unwrap())
        };
        let again = shares.iter().map(reload).collect::<BTreeMap<_, _>>();
        let message = message(scheme, 1);
        let signatures = honest(signing(&again, &[1, 2], &KeyPath::root(), &message));
        let group = shares[&party(1)].group();
        verify(&group.at(&KeyPath::root()).unwrap(), &message, &signatures[&party(1)]).unwrap();
        let printed = format!("{:?}", shares[&party(1)]);
        assert_eq!(printed, format!("Share {{ group: \"{group}\", .. }}"));
        assert_eq!(group.to_string().parse(), Ok(group));
    }
}

#[test]
fn too_few_or_too_many_do_not_sign() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 3, 4);
        let (me, message) = (party(1), message(scheme, 1));
        for quorum in [&[1, 2][..], &[1, 2, 3, 4]] {
            let quorum = quorum.iter().map(|index| party(*index)).collect::<Vec<_>>();
            // Neither by the true threshold nor by one that fits the quorum.
            for threshold in [3, u8::try_from(quorum.len()).unwrap()] {
                let Ok(setup) = Setup::new(me, &quorum, threshold) else { continue };
                let started = shares[&me].sign(&setup, random(), &KeyPath::root(), &message);
                assert!(matches!(started, Err(SchemeError::Threshold { .. })), "{scheme} {quorum:?} of {threshold}");
            }
        }
        // Three are chosen, one stays away: the others notice and say who.
        let mut runs = signing(&shares, &[1, 2, 3], &KeyPath::root(), &message);
        runs.remove(&party(3));
        for (_, ended) in run(runs, &mut |_, _, _, _| ()) {
            assert_eq!(ended.unwrap_err().culprit, Some(party(3)));
        }
    }
    for (parties, threshold) in [(&[1, 2][..], 1), (&[1, 2], 3), (&[1, 1], 2), (&[2, 3], 2)] {
        let parties = parties.iter().map(|index| party(*index)).collect::<Vec<_>>();
        assert!(Setup::new(party(1), &parties, threshold).is_err(), "{parties:?} {threshold}");
    }
}

#[test]
fn wrong_messages_and_paths_are_refused() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 2);
        let setup = Setup::new(party(1), &[party(1), party(2)], 2).unwrap();
        for other in SchemeId::ALL.into_iter().filter(|other| *other != scheme) {
            let started = shares[&party(1)].sign(&setup, random(), &KeyPath::root(), &message(other, 1));
            assert!(matches!(started, Err(SchemeError::WrongMessage { .. })));
        }
        let child = path("m/0");
        let started = shares[&party(1)].sign(&setup, random(), &child, &message(scheme, 1));
        let group = shares[&party(1)].group();
        if scheme == SchemeId::Ecdsa {
            assert!(started.is_ok() && group.at(&child).is_ok());
        } else {
            assert!(matches!(started, Err(SchemeError::Path { .. })));
            assert!(group.at(&child).is_err());
        }
    }
}

/// One bit of one letter is flipped, at every round, from 1 to 2.
#[test]
fn a_tampered_letter_yields_no_signature_and_names_its_sender() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 2);
        let public_key = shares[&party(1)].group().at(&KeyPath::root()).unwrap();
        let message = message(scheme, 1);
        let rounds = if scheme == SchemeId::Ecdsa { 3 } else { 2 };
        for target in 1..=rounds {
            for share_of_length in [0, 2, 4, 6, 8, 9] {
                let mut flipped = false;
                let mut flip = |round: u32, from: PartyIndex, _: PartyIndex, letter: &mut Letter| {
                    if round == target && from == party(1) {
                        let bytes =
                            if letter.broadcast.is_empty() { &mut *letter.directed } else { &mut letter.broadcast };
                        let position = bytes.len() * share_of_length / 10;
                        bytes[position] ^= 0x10;
                        flipped = true;
                    }
                };
                let mut ended = run(signing(&shares, &[1, 2], &KeyPath::root(), &message), &mut flip);
                assert!(flipped);
                let fault = match ended.remove(&party(2)).unwrap() {
                    Err(fault) => fault,
                    Ok(_) => panic!("{scheme}: a letter altered in round {target} went unnoticed"),
                };
                assert_eq!(fault.culprit, Some(party(1)), "{scheme} round {target}: {fault}");
                if let Ok(signature) = ended.remove(&party(1)).unwrap() {
                    verify(&public_key, &message, &signature).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_batch_signs_every_message_in_the_rounds_of_one() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 3);
        let messages = (0..3).map(|seed| message(scheme, seed)).collect::<Vec<_>>();
        let mut runs: BTreeMap<PartyIndex, Vec<Run<Signature>>> = BTreeMap::new();
        for message in &messages {
            for (party, run) in signing(&shares, &[1, 3], &KeyPath::root(), message) {
                runs.entry(party).or_default().push(run);
            }
        }
        let peer = |me: PartyIndex| if me == party(1) { party(3) } else { party(1) };
        let runs = runs.into_iter().map(|(me, runs)| (me, batch(runs, vec![peer(me)]))).collect();
        let mut rounds = 0;
        let ended = run(runs, &mut |round, _, _, _| rounds = round);
        assert_eq!(rounds, if scheme == SchemeId::Ecdsa { 3 } else { 2 });
        let public_key = shares[&party(1)].group().at(&KeyPath::root()).unwrap();
        for signatures in ended.into_values() {
            for (message, signature) in messages.iter().zip(signatures.unwrap()) {
                verify(&public_key, message, &signature).unwrap();
            }
        }
    }
}

/// A dealer that tells its peers different stories is found out by the echo, before any share is sent.
#[test]
fn an_equivocating_dealer_is_found_out() {
    for scheme in [SchemeId::Taproot, SchemeId::Ed25519] {
        let mut other = None;
        run(generation(scheme, 2, 3), &mut |round, from, to, letter| {
            if (round, from, to) == (1, party(1), party(2)) {
                other = Some(letter.broadcast.clone());
            }
        });
        let other = other.unwrap();
        let mut last = 0;
        let ended = run(generation(scheme, 2, 3), &mut |round, from, to, letter| {
            last = round;
            if (round, from, to) == (1, party(1), party(2)) {
                letter.broadcast.clone_from(&other);
            }
        });
        assert_eq!(last, 2, "no share was sent");
        for (me, ended) in ended {
            let fault = ended.map(|_| ()).unwrap_err();
            // The dealer itself, were it honest, would see that 2 was told something else.
            assert_eq!(fault.culprit, Some(party(if me == party(1) { 2 } else { 1 })), "{scheme} at {me}: {fault}");
        }
    }
}

#[test]
fn a_wrong_share_in_a_key_generation_names_its_dealer() {
    for scheme in [SchemeId::Taproot, SchemeId::Ed25519] {
        let ended = run(generation(scheme, 2, 3), &mut |round, from, to, letter| {
            if (round, from, to) == (3, party(2), party(3)) {
                let position = letter.directed.len() - 10;
                letter.directed[position] ^= 1;
            }
        });
        let fault = ended[&party(3)].as_ref().map(|_| ()).unwrap_err();
        assert_eq!(fault.culprit, Some(party(2)), "{fault}");
    }
}

#[test]
fn the_stock_schnorr_verifier_agrees_with_bip_340() {
    let text = include_str!("../../../tests/vectors/bip-0340.csv");
    let mut checked = 0;
    for line in text.lines().skip(1) {
        let fields = line.split(',').collect::<Vec<_>>();
        let bytes = |field: usize| hex::decode(fields[field]).unwrap();
        let Ok(hash) = <[u8; 32]>::try_from(bytes(4)) else { continue }; // Bitcoin signs 32 bytes only
        let result = bitcoin::secp256k1::XOnlyPublicKey::from_slice(&bytes(2))
            .map_err(VerifyError::from)
            .and_then(|key| schnorr(&key, hash, &bytes(5)));
        assert_eq!(result.is_ok(), fields[6] == "TRUE", "vector {}", fields[0]);
        checked += 1;
    }
    assert_eq!(checked, 15);
}

#[test]
fn the_stock_verifier_refuses_a_high_s_and_a_wrong_recovery_id() {
    let shares = deal(SchemeId::Ecdsa, 2, 2);
    let message = message(SchemeId::Ecdsa, 9);
    let signatures = honest(signing(&shares, &[1, 2], &KeyPath::root(), &message));
    let public_key = shares[&party(1)].group().at(&KeyPath::root()).unwrap();
    let Signature::Ecdsa { rs, recovery_id } = signatures[&party(1)] else { panic!("an ECDSA key signs ECDSA") };
    verify(&public_key, &message, &Signature::Ecdsa { rs, recovery_id }).unwrap();
    for wrong in (0..=4).filter(|id| *id != recovery_id) {
        assert!(verify(&public_key, &message, &Signature::Ecdsa { rs, recovery_id: wrong }).is_err());
    }
    let low = k256::ecdsa::Signature::from_slice(&rs).unwrap();
    let high = k256::ecdsa::Signature::from_scalars(low.r().to_bytes(), (-*low.s()).to_bytes()).unwrap();
    let high = Signature::Ecdsa { rs: high.to_bytes().into(), recovery_id: recovery_id ^ 1 };
    assert!(verify(&public_key, &message, &high).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A child's share signs for the child that anybody can derive from the group's key by BIP-32.
    #[test]
    fn ecdsa_children_are_bip_32s(steps in prop::collection::vec(0u32..1 << 31, 0..4)) {
        let text = steps.iter().fold("m".to_owned(), |text, step| format!("{text}/{step}"));
        let at = path(&text);
        let shares = deal(SchemeId::Ecdsa, 2, 2);
        let GroupKey::Ecdsa(root) = shares[&party(1)].group() else { panic!("an ECDSA key") };
        let message = message(SchemeId::Ecdsa, 3);
        let signatures = honest(signing(&shares, &[1, 2], &at, &message));
        let public_key = PublicKey::Ecdsa(root.derive(&at).unwrap().public_key);
        prop_assert_eq!(verify(&public_key, &message, &signatures[&party(2)]), Ok(()));
    }
}

mod vectors {
    //! The libraries against the vectors of RFC 9591 and of their authors.

    use frost_core::keys::dkg;
    use frost_core::keys::{
        CoefficientCommitment, KeyPackage, PublicKeyPackage, SigningShare, VerifiableSecretSharingCommitment,
        VerifyingShare,
    };
    use frost_core::round1::{Nonce, SigningNonces};
    use frost_core::{Field, Group, Identifier, Scalar, VerifyingKey};
    use serde_json::Value;

    use super::super::frost::{OneTimeNonces, Suite};
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    fn identifier<C: Suite>(value: &Value) -> Identifier<C> {
        u16::try_from(value.as_u64().unwrap()).unwrap().try_into().unwrap()
    }

    fn scalar<C: Suite>(value: &Value) -> Scalar<C> {
        let bytes = bytes(value);
        let mut encoded =
            <<C::Group as Group>::Field as Field>::serialize(&<<C::Group as Group>::Field as Field>::zero());
        encoded.as_mut().copy_from_slice(&bytes);
        <<C::Group as Group>::Field as Field>::deserialize(&encoded).unwrap()
    }

    fn key_packages<C: Suite>(vectors: &Value) -> (BTreeMap<PartyIndex, KeyPackage<C>>, PublicKeyPackage<C>) {
        let inputs = &vectors["inputs"];
        let group = VerifyingKey::<C>::deserialize(&bytes(&inputs["verifying_key_key"])).unwrap();
        let mut shares = BTreeMap::new();
        let mut packages = BTreeMap::new();
        for participant in inputs["participant_shares"].as_array().unwrap() {
            let identifier = identifier(&participant["identifier"]);
            let share = SigningShare::deserialize(&bytes(&participant["participant_share"])).unwrap();
            let public = VerifyingShare::from(share);
            shares.insert(identifier, public);
            let index = u8::try_from(participant["identifier"].as_u64().unwrap()).unwrap();
            packages.insert(party(index), KeyPackage::new(identifier, share, public, group, 2));
        }
        (packages, PublicKeyPackage::new(shares, group, Some(2)))
    }

    fn nonces<C: Suite>(output: &Value) -> SigningNonces<C> {
        let nonce = |name: &str| Nonce::deserialize(&bytes(&output[name])).unwrap();
        SigningNonces::from_nonces(nonce("hiding_nonce"), nonce("binding_nonce"))
    }

    #[test]
    fn ed25519_signs_as_in_rfc_9591() {
        let vectors = include_str!("../../../tests/vectors/frost-ed25519-rfc9591.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let (packages, public) = key_packages::<frost_ed25519::Ed25519Sha512>(&vectors);
        let message = bytes(&vectors["inputs"]["message"]);
        let quorum = [party(1), party(3)];
        let mut runs = BTreeMap::new();
        for (me, output) in quorum.iter().zip(vectors["round_one_outputs"]["outputs"].as_array().unwrap()) {
            assert_eq!(u64::from(me.get()), output["identifier"].as_u64().unwrap());
            let setup = Setup::new(*me, &quorum, 2).unwrap();
            let nonces = OneTimeNonces(nonces(output));
            let key = packages[me].clone();
            runs.insert(*me, super::super::frost::signing(setup, key, public.clone(), message.clone(), nonces));
        }
        let mut shares = BTreeMap::new();
        let ended = run(runs, &mut |round, from, _, letter| {
            if round == 2 {
                shares.insert(from, letter.broadcast.clone());
            }
        });
        for (from, output) in quorum.iter().zip(vectors["round_two_outputs"]["outputs"].as_array().unwrap()) {
            assert_eq!(shares[from], bytes(&output["sig_share"]));
        }
        let expected: [u8; 64] = bytes(&vectors["final_output"]["sig"]).try_into().unwrap();
        assert!(ended.into_values().all(|signature| signature == Ok(Signature::Ed25519(expected))));
        let public_key = PublicKey::Ed25519(bytes(&vectors["inputs"]["verifying_key_key"]).try_into().unwrap());
        verify(&public_key, &Message::Ed25519(message), &Signature::Ed25519(expected)).unwrap();
    }

    /// The vectors know no tap tweak, so they go past our own code to the library.
    #[test]
    fn taproot_signs_as_in_its_authors_vectors() {
        use frost_secp256k1_tr::{Secp256K1Sha256TR, SigningPackage, aggregate, round2};

        let vectors = include_str!("../../../tests/vectors/frost-secp256k1-tr-rfc9591.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let (packages, public) = key_packages::<Secp256K1Sha256TR>(&vectors);
        let message = bytes(&vectors["inputs"]["message"]);
        let outputs = vectors["round_one_outputs"]["outputs"].as_array().unwrap();
        let nonces = outputs.iter().map(|output| (identifier(&output["identifier"]), nonces(output)));
        let nonces = nonces.collect::<BTreeMap<_, SigningNonces<Secp256K1Sha256TR>>>();
        let commitments = nonces.iter().map(|(party, nonces)| (*party, *nonces.commitments())).collect();
        let package = SigningPackage::new(commitments, &message);
        let mut shares = BTreeMap::new();
        for output in vectors["round_two_outputs"]["outputs"].as_array().unwrap() {
            let identifier = identifier(&output["identifier"]);
            let index = u8::try_from(output["identifier"].as_u64().unwrap()).unwrap();
            let share = round2::sign(&package, &nonces[&identifier], &packages[&party(index)]).unwrap();
            assert_eq!(share.serialize(), bytes(&output["sig_share"]));
            shares.insert(identifier, share);
        }
        let signature = aggregate(&package, &shares, &public).unwrap();
        assert_eq!(signature.serialize().unwrap(), bytes(&vectors["final_output"]["sig"]));
    }

    fn generates<C: Suite>(vectors: &str) {
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let inputs = &vectors["inputs"];
        let parties = ["1", "2", "3"];
        let commitment = |party: &str| {
            let coefficients = inputs[party]["vss_commitments"].as_array().unwrap().iter();
            let coefficient = |value: &Value| CoefficientCommitment::<C>::deserialize(&bytes(value)).unwrap();
            VerifiableSecretSharingCommitment::new(coefficients.map(coefficient).collect())
        };
        for me in parties {
            let own = &inputs[me];
            let coefficients = vec![scalar::<C>(&own["signing_key"]), scalar::<C>(&own["coefficient"])];
            let secret =
                dkg::round1::SecretPackage::new(identifier(&own["identifier"]), coefficients, commitment(me), 2, 3);
            let others = parties.iter().filter(|party| **party != me);
            let commitments = others.clone().map(|party| {
                let proof = frost_core::Signature::deserialize(&bytes(&inputs[*party]["proof_of_knowledge"])).unwrap();
                (identifier(&inputs[*party]["identifier"]), dkg::round1::Package::new(commitment(party), proof))
            });
            let commitments = commitments.collect::<BTreeMap<_, _>>();
            let (secret, packages) = dkg::part2(secret, &commitments).unwrap();
            let mut received = BTreeMap::new();
            for party in others {
                let to = identifier(&inputs[*party]["identifier"]);
                assert_eq!(packages[&to].signing_share().serialize(), bytes(&inputs[*party]["signing_shares"][me]));
                let share = SigningShare::deserialize(&bytes(&own["signing_shares"][*party])).unwrap();
                received.insert(to, dkg::round2::Package::new(share));
            }
            let (key, public) = dkg::part3(&secret, &commitments, &received).unwrap();
            assert_eq!(key.signing_share().serialize(), bytes(&own["signing_share"]));
            assert_eq!(key.verifying_share().serialize().unwrap(), bytes(&own["verifying_share"]));
            assert_eq!(public.verifying_key().serialize().unwrap(), bytes(&inputs["verifying_key"]));
        }
    }

    #[test]
    fn key_generation_follows_the_authors_vectors() {
        generates::<frost_ed25519::Ed25519Sha512>(include_str!("../../../tests/vectors/frost-ed25519-dkg.json"));
        generates::<frost_secp256k1_tr::Secp256K1Sha256TR>(include_str!(
            "../../../tests/vectors/frost-secp256k1-tr-dkg.json"
        ));
    }
}
