//! What only hardware can do, on SoftHSM2. `tests/run` makes its tokens and names it; each is a folder that can be moved
//! away, which is as if the token were pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signer::pool::{PoolConfig, PoolError, Progress, SignError};
use signer::seal::deferred::DeferredSeal;
use signer::seal::pkcs11::{PinSource, Pkcs11Config, Pkcs11Seal};
use signer::seal::{Seal, SealError};
use tokio::sync::Mutex;

use super::world::{NAMES, World, ensure, id, open as open_pool, sol};

/// PKCS#11 v2.40, table 6.
const USER_PIN_COUNT_LOW: u64 = 0x0001_0000;
const USER_PIN_FINAL_TRY: u64 = 0x0002_0000;
const USER_PIN_LOCKED: u64 = 0x0004_0000;

fn setting(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; run tests/run")))
}

pub(super) fn config(token: &str, key: &str) -> Pkcs11Config {
    Pkcs11Config {
        module: setting("PORTCULLIS_SOFTHSM"),
        token: token.to_owned(),
        pin: PinSource::File(setting("SOFTHSM2_CONF").with_file_name("pin")),
        key: key.to_owned(),
        create: true,
    }
}

pub(super) fn open(config: Pkcs11Config) -> Arc<Pkcs11Seal> {
    Arc::new(Pkcs11Seal::open(config).unwrap())
}

fn error(config: Pkcs11Config) -> SealError {
    Pkcs11Seal::open(config).expect_err("the seal must not open")
}

/// Held by whoever moves folders, and by whoever starts a tool that would stumble over one that moves.
static FOLDERS: Mutex<()> = Mutex::const_new(());

/// A token's folder.
struct Folder {
    home: PathBuf,
    away: PathBuf,
}

impl Folder {
    fn of(label: &str) -> Self {
        let tokens = setting("SOFTHSM2_CONF").with_file_name("tokens");
        let padded = format!("{label:32}");
        let holds = |folder: &PathBuf| {
            let token = fs::read(folder.join("token.object")).unwrap_or_default();
            token.windows(32).any(|window| window == padded.as_bytes())
        };
        let home = fs::read_dir(&tokens).unwrap().map(|entry| entry.unwrap().path()).find(holds);
        let home = home.unwrap_or_else(|| panic!("there is no token {label}; run tests/run"));
        let away = tokens.with_file_name(format!("away-{label}"));
        Self { home, away }
    }

    fn pull(&self) {
        fs::rename(&self.home, &self.away).unwrap();
    }

    fn insert(&self) {
        fs::rename(&self.away, &self.home).unwrap();
    }

    /// An attribute as SoftHSM2 2.6 writes it: its number, its kind (1: a byte, 2: eight bytes), its value.
    fn attribute(bytes: &mut [u8], number: u64, kind: u64) -> &mut [u8] {
        let head = [number.to_be_bytes(), kind.to_be_bytes()].concat();
        let at = bytes.windows(head.len()).position(|window| window == head).expect("the attribute") + head.len();
        &mut bytes[at..at + if kind == 1 { 1 } else { 8 }]
    }

    /// The token's flags.
    fn flags(bytes: &mut [u8]) -> &mut [u8] {
        Self::attribute(bytes, 0x8000_534b, 2)
    }

    /// Sets a yes or no of the one key while the token is away.
    fn set_key(&self, number: u64, yes: bool) {
        let paths = fs::read_dir(&self.away).unwrap().map(|entry| entry.unwrap().path());
        let key =
            |path: &PathBuf| path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object");
        let keys = paths.filter(key).collect::<Vec<_>>();
        let [path] = keys.as_slice() else { panic!("one key: {keys:?}") };
        let mut bytes = fs::read(path).unwrap();
        Self::attribute(&mut bytes, number, 1)[0] = if yes { 0xff } else { 0 };
        fs::write(path, bytes).unwrap();
    }

    fn has(&self, flag: u64) -> bool {
        let mut bytes = fs::read(self.home.join("token.object")).unwrap();
        u64::from_be_bytes(Self::flags(&mut bytes).try_into().unwrap()) & flag != 0
    }

    /// Sets the PIN's flags while the token is away.
    fn set(&self, flags: u64) {
        let path = self.away.join("token.object");
        let mut bytes = fs::read(&path).unwrap();
        let place = Self::flags(&mut bytes);
        let before = u64::from_be_bytes((&*place).try_into().unwrap());
        let all = USER_PIN_COUNT_LOW | USER_PIN_FINAL_TRY | USER_PIN_LOCKED;
        place.copy_from_slice(&(before & !all | flags).to_be_bytes());
        fs::write(path, bytes).unwrap();
    }
}

/// Asks until the answer is another than that the token is absent: the module looks for tokens once a second.
fn once_found<T>(mut ask: impl FnMut() -> Result<T, SealError>) -> Result<T, SealError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match ask() {
            Err(SealError::TokenAbsent(_)) if Instant::now() < deadline => std::thread::yield_now(),
            other => return other,
        }
    }
}

#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn what_is_missing_is_named() {
    let good = || config("c", "named");
    let module = error(Pkcs11Config { module: "/nowhere/module.so".into(), ..good() });
    assert!(matches!(&module, SealError::Module { path, .. } if path == Path::new("/nowhere/module.so")), "{module}");
    let module = error(Pkcs11Config { module: setting("SOFTHSM2_CONF"), ..good() });
    assert!(matches!(module, SealError::Module { .. }), "{module}");
    let token = error(Pkcs11Config { token: "no such token".into(), ..good() });
    assert!(matches!(&token, SealError::TokenAbsent(label) if label == "no such token"), "{token}");

    let key = once_found(|| Pkcs11Seal::open(Pkcs11Config { create: false, ..good() })).expect_err("no key yet");
    assert!(matches!(&key, SealError::KeyAbsent { token, key } if token == "c" && key == "named"), "{key}");
    let blob = open(good()).seal(b"secret").unwrap();
    let found = open(Pkcs11Config { create: false, ..good() });
    assert_eq!(found.open(&blob).unwrap().as_slice(), b"secret");
    assert_eq!(open(good()).open(&blob).unwrap().as_slice(), b"secret", "a key that is there is not made anew");

    let another = open(config("c", "another"));
    assert!(matches!(another.open(&blob), Err(SealError::Refused)), "the blob names its key");
}

#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn a_key_that_could_leave_the_token_is_refused() {
    let _folders = FOLDERS.blocking_lock();
    const SENSITIVE: u64 = 0x103;
    const EXTRACTABLE: u64 = 0x162;
    let wanted = || Pkcs11Config { create: false, ..config("unfit", "unfit") };
    let blob = open(config("unfit", "unfit")).seal(b"secret").unwrap();
    let token = Folder::of("unfit");
    for (attribute, good, expected) in [(EXTRACTABLE, false, "extracted"), (SENSITIVE, true, "read")] {
        for bad in [true, false] {
            token.pull();
            assert!(matches!(error(wanted()), SealError::TokenAbsent(_)));
            token.set_key(attribute, good ^ bad);
            token.insert();
            match once_found(|| Pkcs11Seal::open(wanted())) {
                Err(SealError::UnfitKey { reason, .. }) => assert!(bad && reason.contains(expected), "{reason}"),
                Ok(seal) => assert!(!bad && seal.open(&blob).unwrap().as_slice() == b"secret", "{attribute:x}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn a_key_made_elsewhere_must_fit() {
    let _folders = FOLDERS.blocking_lock();
    let dir = tempfile::tempdir().unwrap();
    let import = |label: &str, id: &str, bits: usize| {
        let file = dir.path().join(id);
        fs::write(&file, vec![7; bits / 8]).unwrap();
        let mut tool = Command::new("softhsm2-util");
        tool.arg("--import").arg(&file).args(["--aes", "--token", "b", "--pin", "a PIN for tests"]);
        let made = tool.args(["--label", label, "--id", id]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let wanted = |key: &str| Pkcs11Config { create: false, ..config("b", key) };
    import("long", "01", 256);
    let seal = once_found(|| Pkcs11Seal::open(wanted("long"))).unwrap();
    assert_eq!(seal.open(&seal.seal(b"secret").unwrap()).unwrap().as_slice(), b"secret");
    import("short", "02", 128);
    let short = error(wanted("short"));
    assert!(matches!(&short, SealError::UnfitKey { reason, .. } if reason.contains("256 bits")), "{short}");
    import("long", "03", 256);
    let twice = error(wanted("long"));
    assert!(matches!(&twice, SealError::UnfitKey { reason, .. } if reason.contains("several")), "{twice}");
}

#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn pins_are_read_where_they_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let at = |pin| Pkcs11Config { pin, ..config("c", "pins") };
    let file = dir.path().join("pin");
    let missing = error(at(PinSource::File(file.clone())));
    assert!(matches!(&missing, SealError::Io { path, .. } if *path == file), "{missing}");
    fs::write(&file, "\n").unwrap();
    let empty = error(at(PinSource::File(file.clone())));
    assert!(matches!(&empty, SealError::NoPin(place) if place.contains("pin")), "{empty}");
    let unset = error(at(PinSource::Environment("PORTCULLIS_NO_SUCH_PIN".to_owned())));
    assert!(matches!(&unset, SealError::NoPin(place) if place.contains("PORTCULLIS_NO_SUCH_PIN")), "{unset}");
    fs::write(&file, "a PIN for tests\r\n").unwrap();
    open(at(PinSource::File(file)));
}

#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn a_wrong_pin_is_tried_once_and_a_locked_one_never() {
    let _folders = FOLDERS.blocking_lock();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pin");
    let wanted = || Pkcs11Config { pin: PinSource::File(file.clone()), ..config("pins", "pins") };
    let token = Folder::of("pins");
    // Away and back: the module must read the flags anew.
    let set = |flags| {
        token.pull();
        let gone = once_gone(&file);
        assert!(matches!(gone, SealError::TokenAbsent(_)), "{gone}");
        token.set(flags);
        token.insert();
    };
    let found = || once_found(|| Pkcs11Seal::open(wanted())).map(drop);

    fs::write(&file, "a wrong PIN").unwrap();
    assert!(matches!(found(), Err(SealError::WrongPin(label)) if label == "pins"));
    assert!(token.has(USER_PIN_COUNT_LOW), "the token counted the try");
    set(0);
    assert!(matches!(found(), Err(SealError::WrongPin(_))));
    assert!(!token.has(USER_PIN_COUNT_LOW), "the same PIN was not tried again");
    fs::write(&file, "another wrong PIN").unwrap();
    assert!(matches!(found(), Err(SealError::WrongPin(_))));
    assert!(token.has(USER_PIN_COUNT_LOW), "another one was");

    fs::write(&file, "a PIN for tests").unwrap();
    set(USER_PIN_COUNT_LOW | USER_PIN_FINAL_TRY);
    assert!(matches!(found(), Err(SealError::LastTry(_))));
    set(USER_PIN_LOCKED);
    assert!(matches!(found(), Err(SealError::PinLocked(_))));
    set(0);
    found().unwrap();
}

/// The module has noticed that the token is gone.
fn once_gone(pin: &Path) -> SealError {
    let absent = || Pkcs11Config { pin: PinSource::File(pin.to_owned()), ..config("pins", "pins") };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Pkcs11Seal::open(absent()).err() {
            Some(SealError::TokenAbsent(label)) => return SealError::TokenAbsent(label),
            Some(error) if Instant::now() > deadline => return error,
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
fn a_token_that_comes_back_is_used_again() {
    let _folders = FOLDERS.blocking_lock();
    let (seal, bystander) = (open(config("lost", "lost")), open(config("c", "bystander")));
    let (blob, other) = (seal.seal(b"secret").unwrap(), bystander.seal(b"other").unwrap());
    let token = Folder::of("lost");
    for _ in 0..3 {
        token.pull();
        for gone in [seal.open(&blob).map(drop), seal.seal(b"more").map(drop), seal.ready()] {
            assert!(matches!(&gone, Err(SealError::TokenAbsent(label)) if label == "lost"), "{gone:?}");
        }
        assert_eq!(bystander.open(&other).unwrap().as_slice(), b"other", "the other tokens of the module go on");
        token.insert();
        once_found(|| seal.ready()).unwrap();
        assert_eq!(seal.open(&blob).unwrap().as_slice(), b"secret");
        assert_eq!(bystander.open(&other).unwrap().as_slice(), b"other");
    }
}

/// The first signer's seal is software, the others' are tokens.
fn mixed(config: &mut PoolConfig) {
    for signer in config.signers.iter_mut().skip(1) {
        let token = signer.id.to_string();
        signer.seal =
            Arc::new(DeferredSeal::new(move || Ok(Arc::new(Pkcs11Seal::open(self::config(&token, "portcullis"))?))));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
async fn a_pool_goes_on_when_a_token_vanishes() {
    let _folders = FOLDERS.lock().await;
    let world = World::ready(mixed).await;
    let (keys, wallets) = sol();
    let [_, second, third] = NAMES.map(id);
    let (token, last) = (Folder::of("signer-3"), Folder::of("signer-2"));
    let account = world.pool.account(&wallets[0]).unwrap();

    // While it runs.
    token.pull();
    for number in 1..=4 {
        let outcome = world.sign_sol(number).await.unwrap();
        assert!(!outcome.participants.contains(&third), "{outcome:?}");
    }
    let status = world.pool.status().await;
    let lost = status.signers.iter().find(|signer| signer.signer == third).unwrap();
    let problem = lost.problem.clone().unwrap_or_default();
    assert!(!lost.up && problem.contains("token signer-3 is in no slot"), "{lost:?}");
    assert_eq!(status.signers.iter().filter(|signer| signer.up && signer.problem.is_none()).count(), 2);
    last.pull();
    let error = world.sign_sol(5).await.unwrap_err();
    assert!(matches!(error, SignError::TooFewSigners { needed: 2, up: 1 }), "{error}");
    last.insert();
    once_up(&world, &second).await;

    // From the start.
    let world = world.restart_with(mixed).await;
    let told = ensure(&world.pool, &keys).await.unwrap();
    assert!(
        matches!(told.as_slice(), [Progress::KeyExists { missing, .. }] if *missing == [third.clone()]),
        "{told:?}"
    );
    assert_eq!(world.pool.account(&wallets[0]).unwrap(), account);
    world.install(wallets.clone()).await;
    world.sign_sol(6).await.unwrap();
    let status = world.pool.status().await;
    let lost = status.signers.iter().find(|signer| signer.signer == third).unwrap();
    assert!(!lost.up && lost.problem.as_ref().is_some_and(|problem| problem.contains("in no slot")), "{lost:?}");

    // Too few are left.
    let World { dir, pool, .. } = world;
    pool.shutdown().await;
    last.pull();
    match open_pool(dir.path(), mixed).await.err() {
        Some(PoolError::Start { signer, reason }) => {
            assert!(signer == second && reason.contains("token signer-2 is in no slot"), "{reason}");
        }
        other => panic!("one of three is no quorum: {other:?}"),
    }
    last.insert();
    token.insert();
    let pool = loop {
        let (pool, _) = match open_pool(dir.path(), mixed).await {
            Ok(opened) => opened,
            Err(PoolError::Start { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        if pool.status().await.signers.iter().all(|signer| signer.up) {
            break pool;
        }
        pool.shutdown().await;
    };
    let holders = &pool.status().await.keys[0].holders;
    assert_eq!(*holders, NAMES.map(id), "all shares open again");
    pool.shutdown().await;
}

async fn once_up(world: &World, signer: &signer::pool::SignerId) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = world.pool.status().await;
        let found = status.signers.iter().find(|status| status.signer == *signer).unwrap();
        if found.up {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    }
}
