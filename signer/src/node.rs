//! One signer: an actor with a directory of its own.
//!
//! It answers commands ([`wire`]) one by one and trusts none of them: it judges every signing request by its own copy of
//! roster and policy, computes by itself what is to be signed, burns the slots in its own ledger, and only then sends its
//! first letter. What it keeps, all under its directory: `vault/` (sealed shares and its link key), `ledger`,
//! `nonces` (how many it has made), `ledgers.json` (how long the others' ledgers are), `peers.json` (the signers it has
//! met), `bans.json`, `policy.json` (the versions of the policy after the configured one), and `lock` (one process at a time).

mod actor;
mod bans;
mod escrow;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod liar;
pub(crate) mod link;
mod live;
mod own;
mod recall;
mod rekey;
mod signing;
mod versions;
pub(crate) mod wire;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use chains::account::{Account, KeyId, KeyPath, PublicKey};
use chains::payload::{Message, Signature};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::ceremony::echo::echoed;
use crate::disk;
use crate::ledger::Ledger;
use crate::nonces::{self, NonceJournal};
use crate::policy::Policy;
use crate::pool::WalletSpec;
use crate::protocol::{Fault, Inbox, PartyIndex, Run, Step, map};
use crate::roster::Roster;
use crate::scheme::enroll::Part;
use crate::scheme::{self, SchemeError, SchemeId, Setup};
use crate::seal::Seal;
use crate::share::Share;
use crate::transport::SignerId;
use crate::vault::{Held, KeyInfo, Vault, VaultError};
use crate::verify::Guard;
pub(crate) use actor::Handle;
use bans::{Bans, Checks};
use escrow::{EscrowPlan, Permitted};
use link::{Context, Identity, Link, LinkKey};
use live::{Session, SessionError, Sessions};
#[cfg(feature = "grpc")]
pub(crate) use own::Orders;
use own::Own;
pub(crate) use own::Terms;
use rekey::{Epochs, Handover, Proof};
use versions::PolicyFile;
use wire::{Answer, Command, Peer, SealedLetter, SessionId, WireSignature};
use witness::Witness;

/// How many nonces a signer makes ahead for each key after a command: more than signing takes, and not long to wait for.
const NONCES_A_TIME: usize = 4;

/// One signer's state.
pub(crate) struct Node {
    id: SignerId,
    threshold: u8,
    identity: Identity,
    vault: Vault,
    keys: RwLock<BTreeMap<KeyId, Held>>,
    epochs: Epochs,
    peers: RwLock<BTreeMap<SignerId, LinkKey>>,
    peers_path: PathBuf,
    bans: Bans,
    checks: Checks,
    ledger: Arc<Mutex<Ledger>>,
    nonces: Arc<NonceJournal>,
    witness: Arc<Witness>,
    versions: PolicyFile,
    guard: RwLock<Option<Arc<Guard>>>,
    sessions: Sessions,
    own: Own,
    permitted: Permitted,
    _lock: File,
}

/// What a run yields.
enum Output {
    Key(Share),
    Signatures(Vec<Signature>),
    Part(Part),
    Nothing,
}

/// What a session is for.
enum Purpose {
    Generate(KeyPlan),
    Rekey(KeyInfo),
    Escrow(EscrowPlan),
    Sign { what: Vec<(PublicKey, Message)>, proves: Option<Proof> },
}

/// A key that is being generated.
#[derive(Clone, Serialize)]
struct KeyPlan {
    key: KeyId,
    scheme: SchemeId,
    epoch: u32,
    threshold: u8,
    participants: Vec<SignerId>,
}

/// Why a signer cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NodeError {
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} is in use by another process; stop it first")]
    Locked(PathBuf),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the signer's own link key is damaged; restore it from this signer's backup")]
    Identity,
    #[error("the slot ledger: {0}")]
    Ledger(String),
}

/// Why a command is not carried out; becomes an [`Answer`].
enum Stop {
    Refused(String),
    Fault {
        culprit: Option<SignerId>,
        reason: String,
    },
    Failed(String),
    /// The request was judged under another policy than the one in force here.
    StalePolicy,
}

impl Node {
    /// Opens the signer's directory, which is made where it doesn't exist.
    pub(crate) fn open(id: SignerId, dir: PathBuf, seal: Arc<dyn Seal>, threshold: u8) -> Result<Self, NodeError> {
        disk::create_private_dir(&dir).map_err(|source| NodeError::Io { path: dir.clone(), source })?;
        let lock = lock(dir.join("lock"))?;
        let vault = Vault::open(dir.join("vault"), id.clone(), seal)?;
        let secret = vault.own_secret("link", || Identity::generate().to_bytes())?;
        let identity = Identity::from_bytes(&secret).ok_or(NodeError::Identity)?;
        let keys = vault.keys()?;
        let epochs = Epochs::of(vault.epochs()?, &keys);
        let peers_path = dir.join("peers.json");
        let at = |path: &PathBuf| {
            let path = path.clone();
            move |source| NodeError::Io { path, source }
        };
        let peers = match disk::read(&peers_path).map_err(at(&peers_path))? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| at(&peers_path)(e.into()))?,
            None => BTreeMap::new(),
        };
        let bans_path = dir.join("bans.json");
        let bans = Bans::open(&bans_path).map_err(at(&bans_path))?;
        let ledger = Ledger::open(&dir.join("ledger")).map_err(|error| NodeError::Ledger(error.to_string()))?;
        let witness_path = dir.join("ledgers.json");
        let witness = Witness::open(&witness_path, ledger.entries()).map_err(at(&witness_path))?;
        let nonces_path = dir.join("nonces");
        let nonces = NonceJournal::open(&nonces_path).map_err(at(&nonces_path))?;
        let policy_path = dir.join("policy.json");
        let versions = PolicyFile::open(&policy_path).map_err(at(&policy_path))?;
        Ok(Self {
            id,
            threshold,
            identity,
            vault,
            keys: RwLock::new(keys),
            epochs,
            peers: RwLock::new(peers),
            peers_path,
            bans,
            checks: Checks::default(),
            ledger: Arc::new(Mutex::new(ledger)),
            nonces: Arc::new(nonces),
            witness: Arc::new(witness),
            versions,
            guard: RwLock::new(None),
            sessions: Sessions::default(),
            own: Own::default(),
            permitted: Permitted::default(),
            _lock: lock,
        })
    }

    #[cfg(test)]
    fn answer(&self, request: &[u8]) -> Vec<u8> {
        self.answer_to(wire::from_bytes(request))
    }

    /// The answer to a command; none is one that is malformed.
    fn answer_to(&self, command: Option<Command>) -> Vec<u8> {
        let answer = match command {
            None => Answer::Refused("the command is malformed".to_owned()),
            Some(command) => self.carry_out(command).unwrap_or_else(|stop| match stop {
                Stop::Refused(reason) => Answer::Refused(reason),
                Stop::Fault { culprit, reason } => Answer::Fault { culprit, reason },
                Stop::StalePolicy => match self.policy_standing() {
                    Ok(Answer::Policy(standing)) => Answer::StalePolicy(standing),
                    _ => Answer::Failed("the policy in force can't be told".to_owned()),
                },
                Stop::Failed(reason) => {
                    tracing::error!(signer = %self.id, %reason, "the signer failed");
                    Answer::Failed(reason)
                }
            }),
        };
        wire::to_bytes(&answer)
    }

    fn carry_out(&self, command: Command) -> Result<Answer, Stop> {
        match command {
            Command::Hello => {
                self.vault.ready().map_err(failed)?;
                self.ledger().intact().map_err(failed)?;
                Ok(Answer::Identity(Peer { id: self.id.clone(), key: self.identity.public() }))
            }
            Command::Join { peers } => self.join(peers),
            Command::Keys => Ok(Answer::Keys(self.held_epochs())),
            Command::Generate { session, key, scheme, epoch, participants } => {
                self.generate(session, KeyPlan { key, scheme, epoch, threshold: self.threshold, participants })
            }
            Command::Prove { session, key, epoch, participants } => self.prove(session, &key, epoch, &participants),
            Command::Sign { session, participants, epoch, request } => {
                self.sign(session, &participants, epoch, &request)
            }
            Command::Refresh { session, key, epoch, participants } => self.refresh(session, &key, epoch, &participants),
            Command::Reshare { session, target, old, dealers, leavers } => {
                self.reshare(session, &Handover { target, old, dealers, leavers })
            }
            Command::Round { session, round, letters } => self.round(session, round, &letters),
            Command::Abandon { session } => {
                self.sessions.end(session);
                Ok(Answer::Done)
            }
            Command::Activate { key, epoch } => {
                let activated = self.activate(&key, epoch)?;
                self.renew_orders();
                Ok(activated)
            }
            Command::Discard { key, epoch } => self.discard(&key, epoch),
            Command::Retire { key, epoch } => self.retire(&key, epoch),
            Command::Agree { terms } => self.agree(&terms),
            Command::Escrow { session, key, epoch, helpers, recipient } => {
                self.escrow(session, &key, epoch, &helpers, &recipient)
            }
            Command::NoteEscrow { key, epoch } => self.note_escrow(&key, epoch),
            Command::PolicyStanding => self.policy_standing(),
            Command::OfferPolicy { change } => self.offer_policy(&change),
            Command::PolicyChange { version } => self.policy_change(version),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins the link keys of the pool's signers at the first meeting; later another key under a known name is refused.
    fn join(&self, peers: Vec<Peer>) -> Result<Answer, Stop> {
        self.no_strangers(&peers)?;
        let mut known = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.clone();
        for Peer { id, key } in peers {
            let changed = next.get(&id).is_some_and(|pinned| *pinned != key);
            if changed || (id == self.id && key != self.identity.public()) {
                return Err(Stop::Fault {
                    reason: format!(
                        "{id} shows another link key than before; if it was set up anew, remove it from {}",
                        self.peers_path.display()
                    ),
                    culprit: Some(id),
                });
            }
            next.insert(id, key);
        }
        if next != *known {
            let text = serde_json::to_vec_pretty(&next).map_err(failed)?;
            disk::write_atomic(&self.peers_path, &text).map_err(failed)?;
            *known = next;
        }
        Ok(Answer::Done)
    }

    /// The public key of this signer's links.
    #[cfg(feature = "grpc")]
    pub(crate) fn link_key(&self) -> LinkKey {
        self.identity.public()
    }

    fn generate(&self, session: SessionId, plan: KeyPlan) -> Result<Answer, Stop> {
        if self.keys.read().unwrap_or_else(PoisonError::into_inner).contains_key(&plan.key) {
            return Err(Stop::Refused(format!("key {} exists", plan.key)));
        }
        if plan.epoch == 0 {
            return Err(Stop::Refused("epochs count from 1".to_owned()));
        }
        let place = |name: &SignerId| {
            let position = plan.participants.iter().position(|participant| participant == name)?;
            PartyIndex::new(u8::try_from(position).ok()?.checked_add(1)?)
        };
        let parties = self.parties(&plan.participants, place)?;
        let setup = setup(&parties, self.threshold)?;
        let run = Share::generate(plan.scheme, &setup, session.0).map_err(refused)?;
        let run = echoed(map(run, Output::Key), setup.me(), setup.peers().to_vec());
        let context = context(session, "generate", &plan, &[])?;
        self.start(session, run, Purpose::Generate(plan), &parties, context)
    }

    /// The parties of a session: this signer among them, each known, none banned.
    fn parties(&self, signers: &[SignerId], place: impl Fn(&SignerId) -> Option<PartyIndex>) -> Result<Parties, Stop> {
        let known = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut me = None;
        let mut peers = BTreeMap::new();
        for name in signers {
            let party = place(name).ok_or_else(|| Stop::Refused(format!("{name} holds no share of the key")))?;
            if *name == self.id {
                me = Some(party);
                continue;
            }
            self.not_banned([name])?;
            let key = known.get(name).ok_or_else(|| Stop::Refused(format!("{name} is not known to this signer")))?;
            if peers.insert(name.clone(), (party, key.clone())).is_some() {
                return Err(Stop::Refused(format!("{name} is named twice")));
            }
        }
        let me = me.ok_or_else(|| Stop::Refused("this signer is not among the participants".to_owned()))?;
        Ok(Parties { me, peers })
    }

    /// Refuses where one of `signers` is banned, and names it.
    fn not_banned<'s>(&self, signers: impl IntoIterator<Item = &'s SignerId>) -> Result<(), Stop> {
        for name in signers {
            if let Some(reason) = self.bans.reason(name) {
                return Err(Stop::Fault { culprit: Some(name.clone()), reason: format!("banned: {reason}") });
            }
        }
        Ok(())
    }

    fn start(
        &self,
        session: SessionId,
        run: Run<Output>,
        purpose: Purpose,
        parties: &Parties,
        context: Context,
    ) -> Result<Answer, Stop> {
        let names = parties.peers.keys().cloned().collect();
        self.sessions.reserve(session, names, Instant::now()).map_err(failed)?;
        let link = |(name, (party, key)): (&SignerId, &(PartyIndex, LinkKey))| {
            let link: Link = self.identity.link(key, context, parties.me, *party);
            (name.clone(), (*party, link))
        };
        let peers = parties.peers.iter().map(link).collect();
        let fresh = Session { run, purpose, round: 0, me: self.id.clone(), peers };
        self.advance(session, fresh, Inbox::default())
    }

    fn round(&self, session: SessionId, round: u32, letters: &[SealedLetter]) -> Result<Answer, Stop> {
        let live = match self.sessions.take(session, round, Instant::now()) {
            Ok(live) => live,
            Err(SessionError::Barred) => {
                let barred = self.not_banned(&self.sessions.peers(session));
                self.sessions.end(session);
                return Err(barred.err().unwrap_or_else(|| failed(SessionError::Barred)));
            }
            Err(error) => return Err(failed(error)),
        };
        let peers = live.peers.keys().cloned().collect::<BTreeSet<_>>();
        // Until the answer is there, and a ban written down, no other session with any of them is checked.
        let _check = live.can_ban().then(|| self.checks.begin(peers.clone()));
        if let Err(stop) = self.not_banned(&peers) {
            self.sessions.end(session);
            return Err(stop);
        }
        match live.open(letters) {
            Ok(inbox) => self.advance(session, live, inbox),
            Err(fault) => Err(self.end(session, &live.name_of(&fault), fault)),
        }
    }

    /// One step of the run.
    fn advance(&self, id: SessionId, session: Session, inbox: Inbox) -> Result<Answer, Stop> {
        let Session { run, purpose, round, me, peers } = session;
        let name_of = |fault: &Fault| {
            let named = |party| peers.iter().find(|(_, (index, _))| *index == party).map(|(name, _)| name.clone());
            fault.culprit.and_then(named)
        };
        let step = run.step(inbox);
        // A session that was ended for a ban while this step was computed gives nothing more.
        if let Err(stop) = self.not_banned(peers.keys()) {
            self.sessions.end(id);
            return Err(stop);
        }
        match step {
            Err(fault) => Err(self.end(id, &name_of(&fault), fault)),
            Ok(Step::Continue(run, mut outbox)) => {
                let round = round.saturating_add(1);
                if matches!(purpose, Purpose::Sign { proves: None, .. }) {
                    liar::tamper(&me, &mut outbox);
                }
                let letters = Session::seal(&me, &peers, round, outbox).map_err(|fault| self.end(id, &None, fault))?;
                self.sessions.put(id, Session { run, purpose, round, me, peers }, Instant::now());
                Ok(Answer::Letters { round, letters })
            }
            Ok(Step::Done(output)) => {
                self.sessions.end(id);
                self.finish(purpose, output)
            }
        }
    }

    fn finish(&self, purpose: Purpose, output: Output) -> Result<Answer, Stop> {
        match (purpose, output) {
            (Purpose::Generate(plan), Output::Key(share)) => {
                let KeyPlan { key, scheme, epoch, threshold, participants } = plan;
                let info = KeyInfo { key, scheme, epoch, threshold, participants, group: share.group() };
                let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                // Another session of the same name may have ended meanwhile, and its key be in use.
                if keys.contains_key(&info.key) {
                    return Err(Stop::Refused(format!("key {} exists", info.key)));
                }
                let held = self.vault.put(&info, &share).map_err(failed)?;
                keys.insert(info.key.clone(), held);
                Ok(Answer::Generated(info))
            }
            (Purpose::Rekey(target), output) => self.finish_rekey(&target, output),
            (Purpose::Escrow(plan), Output::Part(part)) => self.finish_escrow(&plan, &part),
            (Purpose::Sign { what, proves }, Output::Signatures(signatures)) if what.len() == signatures.len() => {
                for ((public_key, message), signature) in what.iter().zip(&signatures) {
                    let reason = "the combined signature does not verify".to_owned();
                    let wrong = |_| Stop::Fault { culprit: None, reason };
                    scheme::verify(public_key, message, signature).map_err(wrong)?;
                }
                if let Some(proof) = proves {
                    self.saw(proof);
                }
                Ok(Answer::Signed(signatures.iter().map(WireSignature::from).collect()))
            }
            _ => Err(Stop::Failed("a run yielded something else than it was for".to_owned())),
        }
    }

    /// Ends a session for a fault. A ban is written down before anything else happens, and ends all sessions with the
    /// culprit.
    fn end(&self, id: SessionId, culprit: &Option<SignerId>, fault: Fault) -> Stop {
        self.sessions.end(id);
        if let (true, Some(culprit)) = (fault.ban, culprit) {
            tracing::error!(signer = %self.id, %culprit, reason = %fault.reason, "a signer is banned for good");
            let written = self.bans.ban(culprit.clone(), fault.reason.clone());
            self.sessions.bar(culprit);
            if let Err(error) = written {
                return Stop::Failed(format!("{culprit} is banned, which cannot be written down: {error}"));
            }
        }
        Stop::Fault { culprit: culprit.clone(), reason: fault.reason }
    }

    fn share(&self, key: &KeyId) -> Result<(KeyInfo, Arc<Share>), Stop> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let held = keys.get(key).and_then(|held| Some((held.info.clone(), held.share.clone()?)));
        held.ok_or_else(|| Stop::Refused(format!("no share of key {key} is here")))
    }

    /// Whether any key that signs has fewer than `enough` nonces ready.
    fn short_of_nonces(&self, enough: usize) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut shares = keys.values().filter(|held| held.usable).filter_map(|held| held.share.as_ref());
        shares.any(|share| share.nonces().is_some_and(|ready| ready < enough))
    }

    /// Makes nonces ahead of time until there are as many as there may be.
    fn fill_up(&self) {
        for _ in 0..nonces::FULL.div_ceil(NONCES_A_TIME) {
            if !self.short_of_nonces(nonces::FULL) || !self.restock() {
                break;
            }
        }
    }

    /// Makes some nonces ahead of time, after a command is answered, so that nobody waits for it. Whether that could be
    /// done.
    fn restock(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let shares = keys.values().filter(|held| held.usable).filter_map(|held| held.share.clone());
        let shares = shares.collect::<Vec<_>>();
        drop(keys);
        let mut done = true;
        for share in shares {
            if let Err(error) = share.make_nonces(&self.nonces, NONCES_A_TIME) {
                tracing::error!(signer = %self.id, %error, "no nonces can be made ahead");
                done = false;
            }
        }
        done
    }

    fn install(&self, roster: Arc<Roster>, policy: Arc<Policy>, wallets: &[WalletSpec]) -> Result<(), String> {
        self.epochs.install(&roster, &policy, wallets);
        let mut accounts = BTreeMap::new();
        for spec in wallets {
            let Ok((info, _)) = self.share(&spec.key) else {
                tracing::warn!(signer = %self.id, wallet = %spec.wallet, key = %spec.key, "no share for this wallet");
                continue;
            };
            accounts.insert(spec.wallet.clone(), account(spec, &info)?);
        }
        let networks = wallets.iter().map(|spec| (spec.wallet.clone(), spec.network)).collect();
        let policy = self.policy_in_force(policy, Arc::clone(&roster), networks)?;
        let guard = Guard::new(roster, policy, accounts);
        *self.guard.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(guard));
        Ok(())
    }
}

impl Session {
    fn name_of(&self, fault: &Fault) -> Option<SignerId> {
        fault.culprit.and_then(|party| self.name(party))
    }
}

/// The parties of one session, as one signer sees them.
struct Parties {
    me: PartyIndex,
    peers: BTreeMap<SignerId, (PartyIndex, LinkKey)>,
}

/// The account of a wallet under a key.
pub(crate) fn account(spec: &WalletSpec, info: &KeyInfo) -> Result<Account, String> {
    let public_key = info.group.at(&spec.path).map_err(|error| format!("wallet {}: {error}", spec.wallet))?;
    Account::new(spec.wallet.clone(), spec.network, spec.key.clone(), spec.path.clone(), public_key)
        .map_err(|error| error.to_string())
}

/// What is signed to prove a key. Each signer computes it from the key alone; it is the hash of a tagged text, or begins
/// with a byte that begins no Solana message, so it can never be a transaction.
pub(crate) fn proof_message(info: &KeyInfo) -> Result<Message, SchemeError> {
    let described = postcard::to_allocvec(info).map_err(|error| SchemeError::Library(error.to_string()))?;
    let mut hash = Sha256::new();
    hash.update(b"portcullis: this key signs\n");
    hash.update(&described);
    let hash = <[u8; 32]>::from(hash.finalize());
    Ok(match info.scheme {
        SchemeId::Ecdsa => Message::Ecdsa(hash),
        SchemeId::Taproot => Message::Taproot(hash),
        SchemeId::Ed25519 => Message::Ed25519([b"\xffportcullis: this key signs\n".as_slice(), &hash].concat()),
    })
}

fn setup(parties: &Parties, threshold: u8) -> Result<Setup, Stop> {
    let all = parties.peers.values().map(|(party, _)| *party).chain([parties.me]).collect::<Vec<_>>();
    Setup::new(parties.me, &all, threshold).map_err(refused)
}

/// What the parties of a session must agree on before they can read each other.
fn context<T: Serialize>(
    session: SessionId,
    kind: &'static str,
    who: &T,
    what: &[(KeyPath, Message)],
) -> Result<Context, Stop> {
    let mut hash = Sha256::new();
    let head = postcard::to_allocvec(&("portcullis session v1", session, kind, who, what.len())).map_err(failed)?;
    hash.update(Sha256::digest(head));
    for (path, message) in what {
        let (kind, bytes) = match message {
            Message::Ecdsa(hash) => (0u8, hash.as_slice()),
            Message::Taproot(hash) => (1, hash.as_slice()),
            Message::Ed25519(message) => (2, message.as_slice()),
        };
        let part = postcard::to_allocvec(&(path, kind, Sha256::digest(bytes).as_slice())).map_err(failed)?;
        hash.update(Sha256::digest(part));
    }
    Ok(Context(hash.finalize().into()))
}

pub(crate) fn lock(path: PathBuf) -> Result<File, NodeError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| NodeError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(NodeError::Locked(path)),
        Err(std::fs::TryLockError::Error(source)) => Err(NodeError::Io { path, source }),
    }
}

fn refused(error: impl std::fmt::Display) -> Stop {
    Stop::Refused(error.to_string())
}

fn failed(error: impl std::fmt::Display) -> Stop {
    Stop::Failed(error.to_string())
}

impl From<SchemeError> for Stop {
    fn from(error: SchemeError) -> Self {
        refused(error)
    }
}

#[cfg(test)]
mod tests;
