//! One more share of a sharing: it takes all parts, any fewer say nothing, and a lie is found.

use super::*;
use crate::scheme::enroll::Enrollment;

fn enrolling(shares: &BTreeMap<PartyIndex, Share>, helpers: &[u8], place: u8) -> BTreeMap<PartyIndex, Run<Part>> {
    let helpers = helpers.iter().map(|helper| party(*helper)).collect::<Vec<_>>();
    let session = random();
    let start = |me: &PartyIndex| {
        let setup = Setup::new(*me, &helpers, u8::try_from(helpers.len()).unwrap()).unwrap();
        let run = shares[me].enroll(&setup, party(place), session).unwrap();
        (*me, echoed(run, *me, setup.peers().to_vec()))
    };
    helpers.iter().map(start).collect()
}

/// What the helpers yield: the same statement at each, and its own part.
fn enroll(
    shares: &BTreeMap<PartyIndex, Share>,
    helpers: &[u8],
    place: u8,
) -> (Enrollment, BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>) {
    let ended = honest(enrolling(shares, helpers, place));
    let public = ended.values().next().unwrap().public.clone();
    assert!(ended.values().all(|part| part.public == public));
    (public, ended.into_iter().map(|(helper, part)| (helper, part.secret)).collect())
}

#[test]
fn the_new_share_and_enough_others_share_the_key_anew() {
    for scheme in SchemeId::ALL {
        let cases = [(2, 3, &[1, 3][..], &[2][..]), (2, 3, &[2, 3], &[2]), (3, 4, &[1, 2, 4], &[3, 1])];
        // A reshare of an ECDSA key is seconds of computing.
        let count = if scheme == SchemeId::Ecdsa { 1 } else { cases.len() };
        for (threshold, n, helpers, others) in cases.into_iter().take(count) {
            let shares = deal(scheme, threshold, n);
            let group = shares[&party(1)].group();
            let (public, parts) = enroll(&shares, helpers, n + 1);
            let share = Share::assemble(&public, parts).unwrap();
            assert_eq!(share.group(), group);
            // As it comes back from a vault.
            let share = Share::decode(scheme, &share.encode().unwrap()).unwrap();
            let mut old = BTreeMap::from([(party(n + 1), share)]);
            old.extend(others.iter().map(|place| (party(*place), shares[&party(*place)].beside(&public).unwrap())));
            let places = old.keys().map(|place| (*place, *place)).collect::<BTreeMap<_, _>>();
            let all = PartyIndex::first(n).chain(old.keys().copied()).collect::<std::collections::BTreeSet<_>>();
            let session = random();
            let start = |me: &PartyIndex| {
                let resharing = Resharing::new(*me, places.clone(), threshold, n, group).unwrap();
                let old = resharing.place().map(|place| &old[&place]);
                let peers = all.iter().copied().filter(|other| other != me).collect();
                (*me, echoed(Share::reshare(old, &resharing, session).unwrap(), *me, peers))
            };
            let ended = honest(all.iter().map(start).collect());
            let new = ended.into_iter().filter_map(|(party, share)| Some((party, share?))).collect::<BTreeMap<_, _>>();
            let message = message(scheme, 3);
            let quorum = (1..=threshold).collect::<Vec<_>>();
            for signature in honest(signing(&new, &quorum, &KeyPath::root(), &message)).values() {
                verify(&group.at(&KeyPath::root()).unwrap(), &message, signature).unwrap();
            }
        }
    }
}

#[test]
fn fewer_parts_than_all_are_no_share_and_no_two_runs_yield_the_same() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 3, 4);
        let (public, parts) = enroll(&shares, &[1, 2, 4], 5);
        let whole = Share::assemble(&public, parts.clone()).unwrap().encode().unwrap();
        for left_out in [1, 2, 4] {
            let mut fewer = parts.clone();
            fewer.remove(&party(left_out));
            assert!(Share::assemble(&public, fewer.clone()).is_err());
            // Not even by a statement that says that they are all: the points don't add up.
            let mut without = public.clone();
            without.parts.remove(&party(left_out));
            assert!(Share::assemble(&without, fewer).is_err());
        }
        let (again, others) = enroll(&shares, &[1, 2, 4], 5);
        assert_eq!(Share::assemble(&again, others.clone()).unwrap().encode().unwrap(), whole, "it is the same share");
        for (helper, part) in &parts {
            assert_ne!(**part, *others[helper], "{scheme}: the part of {helper} is not blinded anew");
            assert_ne!(public.parts[helper], again.parts[helper]);
        }
        // Parts of two runs don't mix.
        let mut mixed = parts.clone();
        mixed.insert(party(1), others[&party(1)].clone());
        assert_eq!(Share::assemble(&public, mixed).err().unwrap().culprit, Some(party(1)));
    }
}

#[test]
fn a_part_that_was_altered_names_its_helper() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 3);
        let (public, parts) = enroll(&shares, &[1, 2], 4);
        let mut swapped = parts.clone();
        swapped.insert(party(2), parts[&party(1)].clone());
        assert_eq!(Share::assemble(&public, swapped).err().unwrap().culprit, Some(party(2)));
        let mut torn = parts.clone();
        torn.get_mut(&party(1)).unwrap().truncate(20);
        assert_eq!(Share::assemble(&public, torn).err().unwrap().culprit, Some(party(1)));
    }
}

#[test]
fn a_statement_about_another_key_or_sharing_is_refused() {
    for scheme in SchemeId::ALL {
        let (shares, others) = (deal(scheme, 2, 3), deal(scheme, 2, 3));
        let (public, parts) = enroll(&shares, &[1, 2], 4);
        let foreign = Enrollment { group: others[&party(1)].group(), ..public.clone() };
        assert!(Share::assemble(&foreign, parts.clone()).is_err(), "the shares make another key");
        assert!(others[&party(3)].beside(&public).is_err(), "a share of another key");
        assert!(Share::assemble(&Enrollment { place: party(5), ..public.clone() }, parts.clone()).is_err());
        assert!(Share::assemble(&Enrollment { place: party(2), ..public.clone() }, parts.clone()).is_err());
        assert!(Share::assemble(&Enrollment { threshold: 3, ..public.clone() }, parts).is_err());
        // A refresh makes other shares of the same key.
        let refreshed = match scheme {
            SchemeId::Ecdsa => return,
            _ => {
                let (all, session) = (shares.keys().copied().collect::<Vec<_>>(), random());
                let start = |(me, share): (&PartyIndex, &Share)| {
                    let setup = Setup::new(*me, &all, 2).unwrap();
                    (*me, share.refresh(&setup, session).unwrap())
                };
                honest(shares.iter().map(start).collect())
            }
        };
        assert!(refreshed[&party(3)].beside(&public).is_err(), "a share of another epoch");
    }
}

#[test]
fn a_helper_that_lies_is_found_before_anybody_gets_a_part() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 3, 4);
        for victim in [1, 3] {
            // FROST's first round carries what the helpers split, its second one what they state; DKLs23 states at once. The
            // last round of both is the echo.
            for target in 1..=if scheme == SchemeId::Ecdsa { 1 } else { 2 } {
                let runs = enrolling(&shares, &[1, 2, 3], 5);
                let ended = run(runs, &mut |round, from, to, letter| {
                    let body = if letter.broadcast.is_empty() { &mut *letter.directed } else { &mut letter.broadcast };
                    if round == target
                        && from == party(victim)
                        && to == party(2)
                        && let Some(last) = body.last_mut()
                    {
                        *last ^= 1;
                    }
                });
                assert!(
                    ended.iter().filter(|(me, _)| **me != party(victim)).all(|(_, ended)| ended.is_err()),
                    "{scheme}: round {target} of {victim} was altered and nobody saw it"
                );
            }
        }
    }
}

#[test]
fn no_place_of_a_holder_and_no_other_number_of_helpers() {
    for scheme in SchemeId::ALL {
        let shares = deal(scheme, 2, 3);
        let setup = |helpers: &[u8], threshold| {
            let helpers = helpers.iter().map(|helper| party(*helper)).collect::<Vec<_>>();
            Setup::new(party(1), &helpers, threshold).unwrap()
        };
        let refused = |setup: &Setup, place: u8| shares[&party(1)].enroll(setup, party(place), random()).is_err();
        assert!(!refused(&setup(&[1, 2], 2), 4));
        for place in 1..=3 {
            assert!(refused(&setup(&[1, 2], 2), place), "{scheme}: the place {place} is a holder's");
        }
        assert!(refused(&setup(&[1, 2, 3], 2), 4), "more helpers than it takes");
        assert!(refused(&setup(&[1, 2, 3], 3), 4), "another threshold");
    }
}
