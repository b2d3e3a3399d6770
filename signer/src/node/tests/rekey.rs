//! What a signer does not let itself be talked into when a key's shares change.

use super::*;

/// Runs a session that begins with `start` at each of `names`, to its end.
pub(super) fn drive(
    signers: &Signers,
    session: SessionId,
    names: &[&str],
    start: impl Fn() -> Command,
) -> Vec<Result<Answer, Stop>> {
    let mut answers = names.iter().map(|name| signers.node(name).carry_out(start())).collect::<Vec<_>>();
    for round in 1.. {
        let mut letters = Vec::new();
        for answer in &answers {
            let Ok(Answer::Letters { letters: sent, .. }) = answer else { return answers };
            letters.extend(sent.clone());
        }
        let command = |name: &&str| {
            let letters = letters.iter().filter(|letter| letter.to.as_str() == *name).cloned().collect();
            signers.node(name).carry_out(Command::Round { session, round, letters })
        };
        answers = names.iter().map(command).collect();
    }
    answers
}

fn prove_epoch(signers: &Signers, epoch: u32, names: &[&str]) -> Vec<Result<Answer, Stop>> {
    let session = fresh_session();
    drive(signers, session, names, || Command::Prove { session, key: key(), epoch, participants: ids(names) })
}

fn refresh(signers: &Signers) -> Vec<Result<Answer, Stop>> {
    let session = fresh_session();
    let start = || Command::Refresh { session, key: key(), epoch: 2, participants: ids(&NAMES) };
    drive(signers, session, &NAMES, start)
}

fn why(answer: Result<Answer, Stop>) -> String {
    match answer {
        Err(Stop::Refused(reason)) => reason,
        _ => panic!("it should have refused"),
    }
}

#[test]
fn a_signer_goes_over_only_to_what_it_has_seen_sign_and_erases_only_what_is_replaced() {
    for scheme in [SchemeId::Taproot, SchemeId::Ed25519] {
        let signers = Signers::with(scheme);
        let at = |name: &str, command| signers.node(name).carry_out(command);
        assert!(
            refresh(&signers).iter().all(|answer| matches!(answer, Ok(Answer::Generated(info)) if info.epoch == 2))
        );
        assert!(prove_epoch(&signers, 1, &["a", "b"]).iter().all(signed), "the present epoch signs meanwhile");
        assert!(why(at("a", Command::Activate { key: key(), epoch: 2 })).contains("has not seen"));
        assert!(prove_epoch(&signers, 2, &["a", "b"]).iter().all(signed));
        for name in ["a", "b"] {
            assert!(matches!(at(name, Command::Activate { key: key(), epoch: 2 }), Ok(Answer::Done)));
        }
        assert!(why(at("c", Command::Activate { key: key(), epoch: 2 })).contains("has not seen"));
        assert!(why(at("c", Command::Retire { key: key(), epoch: 2 })).contains("nothing later"));
        assert!(why(at("a", Command::Discard { key: key(), epoch: 2 })).contains("in use"));
        let again = fresh_session();
        let again = Command::Refresh { session: again, key: key(), epoch: 2, participants: ids(&NAMES) };
        assert!(why(at("a", again)).contains("already"));

        assert!(matches!(at("a", Command::Retire { key: key(), epoch: 2 }), Ok(Answer::Done)));
        let mixed = prove_epoch(&signers, 1, &["a", "c"]).remove(0);
        assert!(why(mixed).contains("shares of different epochs don't mix"));
        // After a restart the signer still knows both, and still wants to see for itself.
        let signers = signers.reopen();
        assert!(why(signers.node("c").carry_out(Command::Activate { key: key(), epoch: 2 })).contains("has not seen"));
        assert!(prove_epoch(&signers, 2, &["a", "c"]).iter().all(signed));
        assert!(matches!(signers.node("c").carry_out(Command::Activate { key: key(), epoch: 2 }), Ok(Answer::Done)));
    }
}

/// A session with the letters of a round of it, of all signers.
type Pending = (SessionId, u32, Vec<SealedLetter>);

/// Has `names` start, and go on up to the letters of round `last`.
fn up_to(signers: &Signers, names: &[&str], last: u32, start: impl Fn(SessionId) -> Command) -> Pending {
    let session = fresh_session();
    let mut answers = names.iter().map(|name| signers.node(name).carry_out(start(session))).collect::<Vec<_>>();
    for round in 1.. {
        let sent = answers.into_iter().flat_map(|answer| match answer {
            Ok(Answer::Letters { letters, .. }) => letters,
            _ => panic!("all take part in round {round}"),
        });
        let pending = (session, round, sent.collect());
        if round == last {
            return pending;
        }
        answers = names.iter().map(|name| give(signers, name, &pending)).collect();
    }
    unreachable!("there are more numbers than rounds")
}

/// Gives one signer its letters.
fn give(signers: &Signers, name: &str, (session, round, letters): &Pending) -> Result<Answer, Stop> {
    let letters = letters.iter().filter(|letter| letter.to.as_str() == name).cloned().collect();
    signers.node(name).carry_out(Command::Round { session: *session, round: *round, letters })
}

/// A refresh up to its last letters.
fn almost_refreshed(signers: &Signers) -> Pending {
    let last = crate::ceremony::refresh::rounds(SchemeId::Ed25519);
    up_to(signers, &NAMES, last, |session| Command::Refresh {
        session,
        key: key(),
        epoch: 2,
        participants: ids(&NAMES),
    })
}

/// Shares of several refreshes to one epoch are of no use together. Whoever could have signers prove one and go over to
/// another would destroy the key.
#[test]
fn what_one_share_has_proved_says_nothing_of_another() {
    let signers = Signers::with(SchemeId::Ed25519);
    let at = |name: &str, command| signers.node(name).carry_out(command);
    let activate = || Command::Activate { key: key(), epoch: 2 };
    let [first, second, third, fourth] = std::array::from_fn(|_| almost_refreshed(&signers));
    for name in NAMES {
        assert!(matches!(give(&signers, name, &first), Ok(Answer::Generated(_))));
    }
    // A share that is replaced while it signs proves nothing.
    let prove = |session| Command::Prove { session, key: key(), epoch: 2, participants: ids(&["a", "b"]) };
    let proving = up_to(&signers, &["a", "b"], 2, prove);
    assert!(matches!(give(&signers, "a", &second), Ok(Answer::Generated(_))), "it has proved nothing yet");
    assert!(signed(&give(&signers, "a", &proving)) && signed(&give(&signers, "b", &proving)));
    assert!(why(at("a", activate())).contains("has not seen"));

    // One that has signed is not replaced: neither by what begins after it nor by what began before.
    let refused = why(give(&signers, "b", &second));
    assert!(refused.contains("has been proved"), "{refused}");
    assert!(refresh(&signers).into_iter().nth(1).is_some_and(|b| why(b).contains("has been proved")));
    assert!(matches!(at("b", activate()), Ok(Answer::Done)));

    // Given up, it has to be proved anew.
    assert!(matches!(give(&signers, "c", &second), Ok(Answer::Generated(_))));
    assert!(prove_epoch(&signers, 2, &["a", "c"]).iter().all(signed));
    assert!(why(give(&signers, "c", &third)).contains("has been proved"));
    assert!(matches!(at("c", Command::Discard { key: key(), epoch: 2 }), Ok(Answer::Done)));
    assert!(matches!(give(&signers, "c", &fourth), Ok(Answer::Generated(_))));
    assert!(why(at("c", activate())).contains("has not seen"));
    assert!(why(at("c", Command::Retire { key: key(), epoch: 2 })).contains("nothing later"));
}

/// Two key generations of one name may be under way at once; the key that came of the first is not lost to the second.
#[test]
fn a_key_is_not_made_over_one_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = NAMES.map(|name| open(dir.path(), name)).into_iter().collect();
    let signers = Signers { dir, nodes };
    signers.join();
    let scheme = SchemeId::Ed25519;
    let start = |session| Command::Generate { session, key: key(), scheme, epoch: 1, participants: ids(&NAMES) };
    let last = crate::ceremony::dkg::rounds(scheme);
    let [first, second] = std::array::from_fn(|_| up_to(&signers, &NAMES, last, start));
    let Ok(Answer::Generated(made)) = give(&signers, "a", &first) else { panic!("it is made") };
    assert!(matches!(signers.node("a").carry_out(Command::Activate { key: key(), epoch: 1 }), Ok(Answer::Done)));
    assert!(why(give(&signers, "a", &second)).contains("exists"));
    let signers = signers.reopen();
    assert_eq!(signers.node("a").share(&key()).ok().unwrap().0, made);
}

#[test]
fn a_refresh_by_some_of_the_holders_is_refused() {
    let signers = Signers::with(SchemeId::Ed25519);
    for (epoch, names) in [(2, &NAMES[..2]), (0, &NAMES[..]), (1, &NAMES[..]), (3, &NAMES[..])] {
        let (session, participants) = (fresh_session(), ids(names));
        let command = Command::Refresh { session, key: key(), epoch, participants };
        assert!(refused(signers.node("a").carry_out(command)), "{epoch} {names:?}");
    }
}

/// Whoever has the coordinator could otherwise have the key dealt to signers of their own.
#[test]
fn a_key_is_dealt_to_the_members_of_the_pool_alone() {
    let mut signers = Signers::with(SchemeId::Ed25519);
    let info = signers.node("a").share(&key()).ok().unwrap().0;
    let ask = |node: &Node, participants: &[&str], threshold: u8, dealers: &[&str]| {
        let target = KeyInfo { epoch: 2, threshold, participants: ids(participants), ..info.clone() };
        let (old, dealers) = (ids(&NAMES), ids(dealers));
        node.carry_out(Command::Reshare { session: fresh_session(), target, old, dealers, leavers: Vec::new() })
    };
    assert!(why(ask(signers.node("a"), &NAMES, 2, &["a", "b"])).contains("was not told"));
    signers.nodes = signers.nodes.into_iter().map(|node| node.with_members(ids(&NAMES))).collect();
    let a = signers.node("a");
    assert!(why(ask(a, &["a", "b", "evil"], 2, &["a", "b"])).contains("evil is no member"));
    assert!(why(ask(a, &NAMES, 3, &["a", "b"])).contains("signs with 2"));
    assert!(why(ask(a, &NAMES, 2, &["a", "b", "c"])).contains("another way"));
    assert!(why(ask(a, &NAMES, 2, &["a"])).contains("takes 2"));
    assert!(why(ask(a, &NAMES, 2, &["b", "b"])).contains("1 are named"));
    assert!(why(ask(a, &["a", "b"], 2, &["a", "c"])).contains("not named"));
    let other = KeyInfo { epoch: 2, group: crate::pool::GroupKey::Ed25519([1; 32]), ..info.clone() };
    let (session, old, dealers) = (fresh_session(), ids(&NAMES), ids(&["a", "b"]));
    let swapped = Command::Reshare { session, target: other, old, dealers, leavers: Vec::new() };
    assert!(why(a.carry_out(swapped)).contains("another one"));
    assert!(matches!(ask(a, &NAMES, 2, &["a", "b"]), Ok(Answer::Letters { round: 1, .. })));
}

fn ask_to_reshare(node: &Node, target: &KeyInfo, dealers: &[&str], leavers: &[&str]) -> Result<Answer, Stop> {
    let (session, old) = (fresh_session(), ids(&NAMES));
    let (target, dealers, leavers) = (target.clone(), ids(dealers), ids(leavers));
    node.carry_out(Command::Reshare { session, target, old, dealers, leavers })
}

/// A reshare to a later epoch than the next one isn't judged by the share of the epoch before, which nobody has. So all
/// that a signer knows of the key counts, and what it has left, too.
#[test]
fn a_reshare_that_skips_an_epoch_replaces_no_key() {
    let mut signers = Signers::with(SchemeId::Ed25519);
    signers.nodes = signers.nodes.into_iter().map(|node| node.with_members(ids(&NAMES))).collect();
    let info = signers.node("a").share(&key()).ok().unwrap().0;
    let at = |epoch| KeyInfo { epoch, ..info.clone() };
    let other = |epoch| KeyInfo { group: crate::pool::GroupKey::Ed25519([1; 32]), ..at(epoch) };
    let scheme = |epoch| KeyInfo { scheme: SchemeId::Taproot, ..at(epoch) };
    let a = signers.node("a");
    assert!(
        matches!(ask_to_reshare(a, &at(3), &["b", "c"], &[]), Ok(Answer::Letters { .. })),
        "as one that comes late"
    );
    for target in [other(3), other(7), scheme(3)] {
        for leavers in [&[][..], &["a"]] {
            let participants = if leavers.is_empty() { ids(&NAMES) } else { ids(&["b", "c"]) };
            let target = KeyInfo { participants, ..target.clone() };
            assert!(why(ask_to_reshare(a, &target, &["b", "c"], leavers)).contains("another one"));
        }
    }

    // It leaves the key to the others.
    let without = KeyInfo { participants: ids(&["b", "c"]), ..at(2) };
    let session = fresh_session();
    let start = || Command::Reshare {
        session,
        target: without.clone(),
        old: ids(&NAMES),
        dealers: ids(&["a", "b"]),
        leavers: ids(&["a"]),
    };
    assert!(drive(&signers, session, &["b", "c", "a"], start).iter().all(Result::is_ok));
    assert!(matches!(a.carry_out(Command::Retire { key: key(), epoch: 2 }), Ok(Answer::Done)));
    let mut signers = signers.reopen();
    signers.nodes = signers.nodes.into_iter().map(|node| node.with_members(ids(&NAMES))).collect();
    let a = signers.node("a");
    assert!(a.share(&key()).is_err(), "it holds nothing");
    assert!(why(a.carry_out(Command::Retire { key: key(), epoch: 3 })).contains("nothing later"));
    assert!(why(ask_to_reshare(a, &other(3), &["b", "c"], &[])).contains("another one"));
    assert!(matches!(ask_to_reshare(a, &at(3), &["b", "c"], &[]), Ok(Answer::Letters { .. })));
}

#[test]
fn fewer_dealers_than_it_takes_to_sign_deal_nothing_to_one_that_knows_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &&str| {
        let seal = Arc::new(TestSeal([3; 32]));
        let node = Node::open(name.parse().unwrap(), dir.path().join(name), seal, 3).unwrap();
        node.with_members(ids(&NAMES))
    };
    let nodes = NAMES.iter().map(open).collect::<Vec<_>>();
    let signers = Signers { dir: tempfile::tempdir().unwrap(), nodes };
    signers.join();
    let (scheme, a) = (SchemeId::Ed25519, signers.node("a"));
    let share = deal(scheme, 3, 3).into_values().next().unwrap();
    let (key, participants, group) = (key(), ids(&NAMES), share.group());
    let info = KeyInfo { key: key.clone(), scheme, epoch: 1, threshold: 3, participants, group };
    let held = a.vault.put(&info, &share).unwrap();
    a.keys.write().unwrap().insert(key.clone(), held);
    assert!(matches!(a.carry_out(Command::Activate { key, epoch: 1 }), Ok(Answer::Done)));
    let target = KeyInfo { epoch: 3, ..info };
    for dealers in [&["b", "c"][..], &["b", "b", "c"]] {
        assert!(why(ask_to_reshare(a, &target, dealers, &[])).contains("takes 3"), "{dealers:?}");
    }
}

#[test]
fn a_signer_goes_over_to_no_other_key() {
    let signers = Signers::with(SchemeId::Ed25519);
    let info = signers.node("a").share(&key()).ok().unwrap().0;
    for (node, share) in signers.nodes.iter().zip(deal(SchemeId::Ed25519, 2, 3).into_values()) {
        node.vault.put(&KeyInfo { epoch: 2, group: share.group(), ..info.clone() }, &share).unwrap();
    }
    let signers = signers.reopen();
    assert!(prove_epoch(&signers, 2, &["a", "b"]).iter().all(signed), "it is a key that signs");
    let gone = signers.node("a").carry_out(Command::Activate { key: key(), epoch: 2 });
    assert!(why(gone).contains("another one than of epoch 1"));
}
