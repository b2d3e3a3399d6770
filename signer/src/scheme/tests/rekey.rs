//! Refresh, reshare and split over all schemes: the key stays, every quorum of the new shares signs, and old and new
//! shares are of no use together.

use ed25519_dalek::SigningKey;

use super::*;

fn refreshing(shares: &BTreeMap<PartyIndex, Share>, threshold: u8) -> BTreeMap<PartyIndex, Run<Share>> {
    let (all, session) = (shares.keys().copied().collect::<Vec<_>>(), random());
    let start = |(me, share): (&PartyIndex, &Share)| {
        let setup = Setup::new(*me, &all, threshold).unwrap();
        (*me, echoed(share.refresh(&setup, session).unwrap(), *me, setup.peers().to_vec()))
    };
    shares.iter().map(start).collect()
}

/// The old holders `dealers` share the key among `parties` new ones. The old holder i is the session's party `seat(i)`.
fn resharing(
    shares: &BTreeMap<PartyIndex, Share>,
    dealers: &[u8],
    threshold: u8,
    parties: u8,
    seat: impl Fn(u8) -> u8,
) -> BTreeMap<PartyIndex, Run<Option<Share>>> {
    let group = shares.values().next().unwrap().group();
    let places = dealers.iter().map(|place| (party(seat(*place)), party(*place))).collect::<BTreeMap<_, _>>();
    let all = PartyIndex::first(parties).chain(places.keys().copied()).collect::<std::collections::BTreeSet<_>>();
    let session = random();
    let start = |me: &PartyIndex| {
        let resharing = Resharing::new(*me, places.clone(), threshold, parties, group).unwrap();
        let old = resharing.place().map(|place| &shares[&place]);
        let peers = all.iter().copied().filter(|other| other != me).collect();
        (*me, echoed(Share::reshare(old, &resharing, session).unwrap(), *me, peers))
    };
    all.iter().map(start).collect()
}

/// Every quorum signs under the key.
fn all_sign(shares: &BTreeMap<PartyIndex, Share>, threshold: u8, group: GroupKey) {
    let message = message(group.scheme(), 7);
    let public_key = group.at(&KeyPath::root()).unwrap();
    assert!(shares.values().all(|share| share.group() == group));
    for quorum in subsets(u8::try_from(shares.len()).unwrap(), threshold.into()) {
        let signatures = honest(signing(shares, &quorum, &KeyPath::root(), &message));
        signatures.values().for_each(|signature| verify(&public_key, &message, signature).unwrap());
    }
}

fn received(ended: BTreeMap<PartyIndex, Option<Share>>, parties: u8) -> BTreeMap<PartyIndex, Share> {
    let shares = ended.into_iter().filter_map(|(party, share)| Some((party, share?))).collect::<BTreeMap<_, _>>();
    assert!(shares.keys().copied().eq(PartyIndex::first(parties)), "the new holders and nobody else get a share");
    shares
}

#[test]
fn refreshed_shares_sign_for_the_same_key_and_not_with_the_old_ones() {
    for scheme in SchemeId::ALL {
        let old = deal(scheme, 2, 3);
        let group = old[&party(1)].group();
        let new = honest(refreshing(&old, 2));
        all_sign(&new, 2, group);
        for (party, share) in &new {
            assert_ne!(*share.encode().unwrap(), *old[party].encode().unwrap());
        }
        // One old share and one new one.
        let (me, other) = (party(1), party(2));
        let mut mixed = new.into_iter().filter(|(p, _)| *p == me).collect::<BTreeMap<_, _>>();
        let message = message(scheme, 1);
        if scheme != SchemeId::Ecdsa {
            // Two refreshes of the same shares.
            mixed.extend(honest(refreshing(&old, 2)).into_iter().filter(|(p, _)| *p == other));
            for (_, ended) in run(signing(&mixed, &[1, 2], &KeyPath::root(), &message), &mut |_, _, _, _| ()) {
                assert!(!ended.unwrap_err().ban, "{scheme}: shares of two refreshes signed");
            }
        }
        mixed.insert(other, Share::decode(scheme, &old[&other].encode().unwrap()).unwrap());
        for (_, ended) in run(signing(&mixed, &[1, 2], &KeyPath::root(), &message), &mut |_, _, _, _| ()) {
            assert!(!ended.unwrap_err().ban, "{scheme}: an old and a new share signed, or banned each other");
        }
    }
}

#[test]
fn a_refresh_takes_all_holders_and_names_who_cheats() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 3);
        let two = Setup::new(party(1), &[party(1), party(2)], 2).unwrap();
        assert!(matches!(shares[&party(1)].refresh(&two, random()), Err(SchemeError::Threshold { .. })));
        // Somebody's share of the zero polynomial is altered on its way.
        let round = if scheme == SchemeId::Ecdsa { 1 } else { 3 };
        let ended = run(refreshing(&shares, 2), &mut |at, from, to, letter| {
            if (at, from, to) == (round, party(2), party(3)) {
                let position = letter.directed.len() - 2;
                letter.directed[position] ^= 1;
            }
        });
        let fault = ended[&party(3)].as_ref().map(|_| ()).unwrap_err();
        if scheme != SchemeId::Ecdsa {
            // DKLs23 sees that the sum is wrong, not whose part of it.
            assert_eq!(fault.culprit, Some(party(2)), "{scheme}: {fault}");
        }
        assert!(!fault.ban);
    }
}

#[test]
fn a_reshare_changes_holders_and_threshold_and_nothing_else() {
    for scheme in SchemeId::ALL {
        let old = deal(scheme, 2, 3);
        let group = old[&party(1)].group();
        // Two of three deal; the third is lost. The dealers hold the places 1 and 2, then 4 and 2.
        let five = received(honest(resharing(&old, &[1, 3], 3, 5, |place| if place == 3 { 2 } else { place })), 5);
        all_sign(&five, 3, group);
        // Back to other three, two of the dealers among them; the others come after the new holders.
        let back = resharing(&five, &[2, 4, 5], 2, 3, |place| match place {
            2 => 3,
            4 => 1,
            _ => 4,
        });
        let three = received(honest(back), 3);
        all_sign(&three, 2, group);
    }
}

#[test]
fn a_dealer_that_cheats_is_found_out() {
    for scheme in SchemeId::ALL {
        let old = deal(scheme, 2, 3);
        let ended = run(resharing(&old, &[1, 2], 2, 3, |place| place), &mut |round, from, to, letter| {
            if (round, from, to) == (1, party(2), party(3)) {
                let position = letter.directed.len() - 2;
                letter.directed[position] ^= 1;
            }
        });
        let fault = ended[&party(3)].as_ref().map(|_| ()).unwrap_err();
        assert_eq!(fault.culprit, Some(party(2)), "{scheme}: {fault}");

        // A dealer that deals a share of another key: everything fits but the sum.
        let mut mixed = deal(scheme, 2, 3);
        mixed.insert(party(1), Share::decode(scheme, &old[&party(1)].encode().unwrap()).unwrap());
        let other = mixed[&party(2)].group();
        let group = old[&party(1)].group();
        assert_ne!(group, other);
        let ended = run(resharing(&mixed, &[1, 2], 2, 3, |place| place), &mut |_, _, _, _| ());
        for (me, ended) in ended {
            let fault = ended.map(|_| ()).unwrap_err();
            assert!(fault.culprit.is_none_or(|culprit| culprit != me), "{scheme} at {me}: {fault}");
        }
    }
    for (dealers, threshold, parties) in [(&[1][..], 2, 3), (&[1, 1], 2, 3), (&[1, 2], 1, 3), (&[1, 2], 4, 3)] {
        let places =
            dealers.iter().enumerate().map(|(at, place)| (party(u8::try_from(at).unwrap() + 1), party(*place)));
        let group = GroupKey::Ed25519([1; 32]);
        assert!(Resharing::new(party(1), places.collect(), threshold, parties, group).is_err());
    }
}

#[test]
fn a_split_key_signs_for_its_own_public_key() {
    let (secret, chain) = ([7; 32], [9; 32]);
    let context = bitcoin::secp256k1::Secp256k1::new();
    let public = bitcoin::secp256k1::SecretKey::from_slice(&secret).unwrap().public_key(&context);
    let ed25519 = SigningKey::from_bytes(&secret);
    for scheme in SchemeId::ALL {
        let (secret, expected) = match scheme {
            SchemeId::Ecdsa => {
                let public_key = CompressedPublicKey(public);
                (secret, GroupKey::Ecdsa(ExtendedKey { public_key, chain_code: chain }))
            }
            SchemeId::Taproot => (secret, GroupKey::Taproot(public.x_only_public_key().0)),
            SchemeId::Ed25519 => {
                (ed25519.to_scalar().to_bytes(), GroupKey::Ed25519(ed25519.verifying_key().to_bytes()))
            }
        };
        let shares = Share::split(scheme, &secret, chain, 2, 3).unwrap();
        all_sign(&PartyIndex::first(3).zip(shares).collect(), 2, expected);
        assert!(Share::split(scheme, &[0; 32], chain, 2, 3).is_err(), "{scheme}: zero is no key");
        assert!(Share::split(scheme, &[0xff; 32], chain, 2, 3).is_err(), "{scheme}: above the group's order");
        assert!(Share::split(scheme, &secret, chain, 3, 2).is_err());
    }
}
