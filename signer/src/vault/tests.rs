use super::*;
use crate::protocol::{Inbox, Run, Step};
use crate::scheme::Setup;
use crate::seal::testing::TestSeal;

fn id(name: &str) -> SignerId {
    name.parse().unwrap()
}

fn vault(dir: &Path, node: &str) -> Vault {
    vault_under(Arc::new(TestSeal([7; 32])), dir, node)
}

fn vault_under(seal: Arc<dyn Seal>, dir: &Path, node: &str) -> Vault {
    Vault::open(dir.join(node), id(node), seal).unwrap()
}

/// Both shares of a 2-of-2 Ed25519 key.
fn shares() -> Vec<Share> {
    let all = PartyIndex::first(2).collect::<Vec<_>>();
    let start = |me: &PartyIndex| Share::generate(SchemeId::Ed25519, &Setup::new(*me, &all, 2).unwrap(), [0; 32]);
    let mut runs = all.iter().map(|me| start(me).unwrap()).collect::<Vec<Run<Share>>>();
    let mut inboxes = vec![Inbox::default(), Inbox::default()];
    loop {
        let mut next = Vec::new();
        let mut outboxes = Vec::new();
        let mut done = Vec::new();
        for (run, inbox) in runs.into_iter().zip(inboxes) {
            match run.step(inbox).unwrap() {
                Step::Continue(run, outbox) => {
                    next.push(run);
                    outboxes.push(outbox);
                }
                Step::Done(share) => done.push(share),
            }
        }
        if next.is_empty() {
            return done;
        }
        runs = next;
        let inbox =
            |me: usize, from: usize| Inbox::new(BTreeMap::from([(all[from], outboxes[from].letter_to(all[me]))]));
        inboxes = vec![inbox(0, 1), inbox(1, 0)];
    }
}

fn info(key: &str, epoch: u32, share: &Share) -> KeyInfo {
    KeyInfo {
        key: key.parse().unwrap(),
        scheme: SchemeId::Ed25519,
        epoch,
        threshold: 2,
        participants: vec![id("a"), id("b")],
        group: share.group(),
    }
}

#[test]
fn a_share_is_pending_until_it_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, shares) = (vault(dir.path(), "a"), shares());
    let info = info("main", 1, &shares[0]);
    let held = vault.put(&info, &shares[0]).unwrap();
    assert!(!held.usable && held.share.is_some() && held.info == info);
    assert!(!vault.keys().unwrap()[&info.key].usable);
    vault.discard(&info.key, 1).unwrap();
    assert!(vault.keys().unwrap().is_empty(), "a pending share is discarded");

    vault.put(&info, &shares[0]).unwrap();
    vault.mark_usable(&info).unwrap();
    assert!(matches!(vault.discard(&info.key, 1), Err(VaultError::InUse(_))));
    let keys = vault.keys().unwrap();
    let held = &keys[&info.key];
    assert!(held.usable && held.share.as_ref().unwrap().group() == shares[0].group());
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(mode(&dir.path().join("a/main.1.1.share")), 0o600);
    assert_eq!(mode(&dir.path().join("a")), 0o700);

    fs::remove_file(dir.path().join("a/main.1.1.share")).unwrap();
    let keys = vault.keys().unwrap();
    assert!(keys[&info.key].usable && keys[&info.key].share.is_none(), "a lost share is known to be lost");
}

#[test]
fn blobs_in_anothers_place_do_not_open() {
    blobs_stay_in_their_place(Arc::new(TestSeal([7; 32])), Arc::new(TestSeal([8; 32])));
}

#[test]
fn blobs_in_anothers_place_do_not_open_under_the_software_seal() {
    use crate::seal::software::SoftwareSeal;
    let dir = tempfile::tempdir().unwrap();
    let passphrase = dir.path().join("passphrase");
    fs::write(&passphrase, "correct horse").unwrap();
    let seal = |name: &str| Arc::new(SoftwareSeal::open_or_create(&dir.path().join(name), &passphrase).unwrap());
    blobs_stay_in_their_place(seal("one"), seal("two"));
}

#[cfg(feature = "pkcs11")]
#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn blobs_in_anothers_place_do_not_open_under_softhsm() {
    use crate::seal::pkcs11::{PinSource, Pkcs11Config, Pkcs11Seal};
    let setting = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let seal = |token: &str| {
        let pin = PinSource::File(setting("SOFTHSM2_CONF").with_file_name("pin"));
        let (module, token, key) = (setting("PORTCULLIS_SOFTHSM"), token.to_owned(), "vault".to_owned());
        Arc::new(Pkcs11Seal::open(Pkcs11Config { module, token, pin, key, create: true }).unwrap())
    };
    blobs_stay_in_their_place(seal("a"), seal("b"));
}

/// The file of one (key, signer, epoch, party) opens in the place of no other, even where all signers share one sealing
/// key; nor does one of another format, or under another sealing key.
fn blobs_stay_in_their_place(seal: Arc<dyn Seal>, another: Arc<dyn Seal>) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (vault_under(seal.clone(), dir.path(), "a"), vault_under(seal, dir.path(), "b"));
    let shares = shares();
    a.put(&info("main", 1, &shares[0]), &shares[0]).unwrap();
    a.put(&info("other", 1, &shares[0]), &shares[0]).unwrap();
    a.put(&info("main", 2, &shares[0]), &shares[0]).unwrap();
    b.put(&info("main", 1, &shares[1]), &shares[1]).unwrap();
    let (main, one, two) = ("main".parse().unwrap(), PartyIndex::new(1).unwrap(), PartyIndex::new(2).unwrap());
    let at = |vault: &Vault, key: &KeyId, epoch, party| vault.share_path(key, epoch, party);
    let original = fs::read(at(&a, &main, 1, one)).unwrap();
    assert!(a.load(&main, 1, one).is_ok());

    for donor in [at(&a, &"other".parse().unwrap(), 1, one), at(&a, &main, 2, one), at(&b, &main, 1, two)] {
        fs::copy(&donor, at(&a, &main, 1, one)).unwrap();
        assert!(matches!(a.load(&main, 1, one), Err(VaultError::Refused(_))), "{}", donor.display());
    }
    // Neither under another party's number, nor at another signer.
    fs::write(at(&a, &main, 1, two), &original).unwrap();
    assert!(a.load(&main, 1, two).is_err());
    fs::write(at(&b, &main, 1, one), &original).unwrap();
    assert!(b.load(&main, 1, one).is_err());

    for position in (0..original.len()).step_by(7) {
        let mut altered = original.clone();
        altered[position] ^= 1;
        fs::write(at(&a, &main, 1, one), altered).unwrap();
        assert!(a.load(&main, 1, one).is_err(), "byte {position}");
    }
    assert_eq!(original[0], VERSION);
    for version in [0, VERSION + 1] {
        let mut altered = original.clone();
        altered[0] = version;
        fs::write(at(&a, &main, 1, one), altered).unwrap();
        assert!(matches!(a.load(&main, 1, one), Err(VaultError::Refused(_))), "version {version}");
    }
    fs::write(at(&a, &main, 1, one), &original[..original.len() - 1]).unwrap();
    assert!(a.load(&main, 1, one).is_err());
    fs::write(at(&a, &main, 1, one), &original).unwrap();
    assert!(a.load(&main, 1, one).is_ok());

    let foreign = Vault::open(dir.path().join("a"), id("a"), another).unwrap();
    assert!(matches!(foreign.load(&main, 1, one), Err(VaultError::Seal { .. })), "another sealing key");
    assert!(foreign.keys().unwrap().is_empty(), "shares that don't open are left out");
}

#[test]
fn a_signers_own_secret_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = vault(dir.path(), "a").own_secret("link", || Zeroizing::new(vec![1, 2, 3])).unwrap();
    let again = vault(dir.path(), "a").own_secret("link", || Zeroizing::new(vec![9])).unwrap();
    assert_eq!((first.as_slice(), again.as_slice()), (&[1, 2, 3][..], &[1, 2, 3][..]));
    fs::copy(dir.path().join("a/link.secret"), dir.path().join("a/other.secret")).unwrap();
    assert!(vault(dir.path(), "a").own_secret("other", || Zeroizing::new(vec![9])).is_err());
}

/// A process that is killed while it writes or erases leaves no file that a later one stumbles over, nor any share.
#[test]
fn what_a_crash_left_half_done_is_erased() {
    let dir = tempfile::tempdir().unwrap();
    let (before, shares) = (vault(dir.path(), "a"), shares());
    for epoch in 1..=2 {
        let info = info("main", epoch, &shares[0]);
        before.put(&info, &shares[0]).unwrap();
        before.mark_usable(&info).unwrap();
    }
    let at = |name: &str| dir.path().join("a").join(name);
    fs::rename(at("main.1.usable.json"), at("main.1.usable.json.erased")).unwrap();
    fs::write(at("main.1.usable.json.erased"), [0; 99]).unwrap();
    fs::rename(at("main.1.1.share"), at("main.1.1.share.erased")).unwrap();
    fs::write(at("main.3.1.share.tmp"), "half a sh").unwrap();
    let after = vault(dir.path(), "a");
    let mut left = after.files().unwrap().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    left.sort();
    assert_eq!(left, ["main.2.1.share", "main.2.usable.json"]);
    assert_eq!(after.keys().unwrap()[&"main".parse().unwrap()].info.epoch, 2);
}
