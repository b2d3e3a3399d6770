//! The policy in force, and how it changes. The signers decide: each has its own copy, its own roster and its own clock. The
//! gateway keeps what was proposed and what people said of it, carries that to every signer, and judges by what as many of them
//! have in force as it takes to sign.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chains::account::WalletId;
use chains::network::Network;
use serde::Serialize;
use signer::approval::{Approval, ApprovalError, Decision};
use signer::policy::Policy;
use signer::policy::change::{Change, ChangeError, ChangesConfig, Version, check_roster};
use signer::policy::document::{Document, DocumentError, PolicyDigest};
use signer::policy::quorum::{Group, Person};
use signer::policy::versions::PolicyStanding;
use signer::pool::{PolicyRefusal, Pool, SignerId};
use signer::request::proposal::Proposal;
use signer::request::{Claims, SignedRequest, parse_call};
use signer::roster::Roster;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::screening::Screening;
use crate::store::policies::{PolicyRecord, PolicyState, PolicyStep};
use crate::store::{Store, StoreError};

/// How often the signers are asked while a change is under way, or one of them is behind.
const LOOK: Duration = Duration::from_secs(1);
/// How many versions one look brings a signer forward, at most.
const STEPS: usize = 64;

/// The policy's keeper.
pub struct Governance {
    store: Arc<dyn Store>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    screening: Arc<Screening>,
    roster: Roster,
    wallets: BTreeMap<WalletId, Network>,
    in_force: RwLock<Arc<InForce>>,
    signers: RwLock<Arc<Vec<SignerPolicy>>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    changed: watch::Sender<Version>,
}

/// A policy in force, with the digests of every version so far.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Its version.
    pub version: Version,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The digest of each version, from 0 to this one.
    chain: Vec<PolicyDigest>,
    /// The configured policy, version 0.
    base: Arc<Policy>,
}

/// What a signer has in force, as it last said.
#[derive(Clone, Debug, Serialize)]
pub struct SignerPolicy {
    /// The signer.
    pub signer: SignerId,
    /// What it has in force, and what waits there.
    #[serde(flatten)]
    pub standing: Option<PolicyStanding>,
    /// Why that isn't known, or why it doesn't take what it is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Why a change isn't taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GovernanceError {
    /// It doesn't hold.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// There is no such version.
    #[error("there is no version {0} of the policy")]
    NoVersion(Version),
    /// The change isn't in force, and won't be before its time.
    #[error("the change isn't in force at enough signers yet; {0}")]
    NotDue(String),
    /// The store failed, or another change is open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InForce {
    fn digest_of(&self, version: Version) -> Option<PolicyDigest> {
        self.chain.get(usize::try_from(version.get()).ok()?).copied()
    }
}

impl std::fmt::Debug for Governance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governance").field("in_force", &self.in_force().version).finish_non_exhaustive()
    }
}

impl Governance {
    /// A keeper who starts from the configured policy.
    pub(crate) fn new(
        base: Arc<Policy>,
        store: Arc<dyn Store>,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        screening: Arc<Screening>,
        roster: Roster,
        wallets: BTreeMap<WalletId, Network>,
    ) -> Arc<Self> {
        let in_force =
            InForce { version: Version::default(), chain: vec![base.digest()], policy: Arc::clone(&base), base };
        Arc::new(Self {
            store,
            pool,
            clock,
            screening,
            roster,
            wallets,
            in_force: RwLock::new(Arc::new(in_force)),
            signers: RwLock::default(),
            looking: tokio::sync::Mutex::new(()),
            changed: watch::Sender::new(Version::default()),
        })
    }

    /// The policy in force. Whoever judges takes it once for all of one step.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.in_force().policy)
    }

    /// The policy in force, with its version.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the signers have in force, as they last said.
    pub fn signers(&self) -> Arc<Vec<SignerPolicy>> {
        Arc::clone(&self.signers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of each version that comes into force.
    pub(crate) fn changes(&self) -> watch::Receiver<Version> {
        self.changed.subscribe()
    }

    /// The document of a version that is or was in force, or of the one that is open.
    ///
    /// # Errors
    /// Where there is no such version, or the store fails.
    pub async fn document(&self, version: Version) -> Result<Document, GovernanceError> {
        if version == Version::default() {
            return Ok(self.in_force().base.document().clone());
        }
        Ok(self.record(version).await?.change.document())
    }

    /// The policy of a version.
    ///
    /// # Errors
    /// Where there is no such version, or it doesn't fit the wallets that are configured.
    pub async fn policy_of(&self, version: Version) -> Result<Arc<Policy>, GovernanceError> {
        let in_force = self.in_force();
        if version == in_force.version {
            return Ok(Arc::clone(&in_force.policy));
        }
        Ok(Arc::new(self.compile(&self.document(version).await?)?))
    }

    /// The policy of a document.
    ///
    /// # Errors
    /// Where it is none, or doesn't fit the wallets that are configured.
    pub fn compile(&self, document: &Document) -> Result<Policy, GovernanceError> {
        document.compile(&self.wallets).map_err(|error| ChangeError::from(error).into())
    }

    /// The change that makes or made a version: of several to the same version the one that counts.
    ///
    /// # Errors
    /// Where there is no such version, or the store fails.
    pub async fn record(&self, version: Version) -> Result<PolicyRecord, GovernanceError> {
        let mut all = self.store.policies(version).await?;
        all.retain(|record| record.version() == version);
        let counts = all.iter().position(|record| record.state == PolicyState::Active);
        let counts = counts.or_else(|| all.len().checked_sub(1));
        counts.map(|at| all.swap_remove(at)).ok_or(GovernanceError::NoVersion(version))
    }

    /// Every change so far.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn records(&self) -> Result<Vec<PolicyRecord>, StoreError> {
        self.store.policies(Version::new(1)).await
    }

    /// Takes in a proposal, as a policy admin has signed it.
    ///
    /// # Errors
    /// Where it could never come into force, or another one is open.
    pub async fn propose(&self, request: SignedRequest, claims: Claims) -> Result<PolicyRecord, GovernanceError> {
        let in_force = self.in_force();
        self.rules(&in_force)?;
        let call = parse_call(&request.body).map_err(ChangeError::from)?;
        let document = match Proposal::from_call(&call).map_err(ChangeError::from)? {
            Proposal::Document { document, .. } => document.into_bytes(),
            Proposal::Rollback { version, .. } => {
                in_force.digest_of(version).ok_or(ChangeError::NoSuchVersion(version))?;
                self.document(version).await?.bytes().to_vec()
            }
        };
        let previous = in_force.policy.digest();
        let change = Change { version: in_force.version.next(), previous, document, request, approvals: Vec::new() };
        let (proposer, proposal) = change.proposer(&self.roster, |version| in_force.digest_of(version))?;
        let digest = change.document().digest();
        if digest == previous {
            return Err(ChangeError::Same.into());
        }
        check_roster(&self.compile(&change.document())?, &self.roster)?;
        let at = self.clock.unix_millis();
        let record = PolicyRecord {
            change,
            digest,
            proposer,
            note: proposal.note().to_owned(),
            state: PolicyState::Proposed,
            proposed_at: at,
            approved_at: None,
            active_at: None,
            rejected_by: None,
        };
        self.store.propose_policy(record.clone(), Some(claims), at).await?;
        tracing::info!(version = %record.version(), %digest, proposer = %record.proposer, "a policy is proposed");
        Ok(record)
    }

    /// Takes in an approver's word on the open change to a version, and carries it to the signers.
    ///
    /// # Errors
    /// Where it doesn't hold, or the change is at its end.
    pub async fn say(
        &self,
        version: Version,
        approval: Approval,
        claims: Claims,
    ) -> Result<PolicyRecord, GovernanceError> {
        let (in_force, record) = (self.in_force(), self.record(version).await?);
        if !record.state.is_open() {
            return Err(StoreError::PolicyEnded(version).into());
        }
        let rules = self.rules(&in_force)?;
        let (statement, _) = record.change.check(&approval, &self.roster, rules, &record.proposer)?;
        let at = self.clock.unix_millis();
        if statement.expires < at / 1000 {
            let (approver, at) = (approval.approver, statement.expires);
            return Err(ChangeError::from(ApprovalError::Expired { approver, at }).into());
        }
        let (approver, decision) = (approval.approver.clone(), statement.decision);
        let step = PolicyStep::Word { approval, decision };
        self.store.step_policy(version, record.digest, step, Some(claims), at).await?;
        tracing::info!(%version, digest = %record.digest, %approver, ?decision, "an approver has decided on a policy");
        self.look().await?;
        self.record(version).await
    }

    /// Asks the signers to bring an approved change into force, which each does once its delay is over.
    ///
    /// # Errors
    /// Where not enough of them have.
    pub async fn activate(&self, version: Version) -> Result<PolicyRecord, GovernanceError> {
        self.look().await?;
        let record = self.record(version).await?;
        if record.state == PolicyState::Active {
            return Ok(record);
        }
        let told = self.signers();
        let told = told.iter().map(|at| match (&at.standing, &at.problem) {
            (_, Some(problem)) => format!("{}: {problem}", at.signer),
            (Some(PolicyStanding { pending: Some(pending), .. }), None) if pending.digest == record.digest => {
                format!("{}: due at {}", at.signer, pending.due_at)
            }
            _ => format!("{}: it waits for approvals", at.signer),
        });
        Err(GovernanceError::NotDue(told.collect::<Vec<_>>().join("; ")))
    }

    /// How many more people a change takes, and by which quorum; none where the policy in force isn't changed over the wire.
    pub fn missing(&self, record: &PolicyRecord) -> Option<(String, usize)> {
        let in_force = self.in_force();
        let rules = in_force.policy.changes()?;
        let (people, _) = self.valid(record, rules);
        Some((rules.require.to_string(), rules.require.missing(&people)))
    }

    /// Takes up the policy that was in force, and asks the signers. They may be away.
    ///
    /// # Errors
    /// Where the store fails, or holds a version that doesn't follow from the configured policy.
    pub(crate) async fn take_up(&self) -> Result<(), StoreError> {
        self.load().await?;
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "the signers' policies can't be compared");
        }
        Ok(())
    }

    /// Looks at the signers from time to time while a change is under way or one of them is behind.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let under_way = match self.store.policies(self.in_force().version.next()).await {
                Ok(records) => !records.is_empty(),
                Err(error) => {
                    tracing::warn!(%error, "changes of the policy can't be read");
                    continue;
                }
            };
            if (under_way || self.is_somebody_behind())
                && let Err(error) = self.look().await
            {
                tracing::warn!(%error, "the signers' policies can't be compared");
            }
        }
    }

    /// Compares with the signers after they refused a request for the policy that it was judged under; whether it is worth trying
    /// again.
    ///
    /// # Errors
    /// Where they judge by a policy that this gateway knows nothing of: somebody has configured another one.
    pub(crate) async fn reconcile(&self) -> Result<(), String> {
        self.look().await.map_err(|error| error.to_string())?;
        let in_force = self.in_force();
        let next = in_force.version.next();
        let told = self.signers();
        let foreign = told.iter().filter_map(|told| told.standing.as_ref().map(|standing| (&told.signer, standing)));
        let foreign = foreign.filter(|(_, standing)| {
            standing.version < next && in_force.digest_of(standing.version) != Some(standing.digest)
        });
        let foreign: Vec<String> = foreign.map(|(signer, at)| format!("{signer} judges by {}", at.digest)).collect();
        let left = told.len().saturating_sub(foreign.len());
        if left < usize::from(self.pool.threshold()) {
            return Err(format!("the policy here is {}; {}", in_force.policy.digest(), foreign.join(", ")));
        }
        Ok(())
    }

    /// The rules by which the policy in force is changed.
    fn rules<'p>(&self, in_force: &'p InForce) -> Result<&'p ChangesConfig, ChangeError> {
        in_force.policy.changes().ok_or(ChangeError::Unchangeable)
    }

    fn is_somebody_behind(&self) -> bool {
        let in_force = self.in_force();
        let signers = self.signers();
        let even = |at: &SignerPolicy| at.standing.as_ref().is_some_and(|at| at.version == in_force.version);
        in_force.version > Version::default() && !signers.iter().all(even)
    }

    /// The words on a change that hold at present, and the people who approve it by them.
    fn valid(
        &self,
        record: &PolicyRecord,
        rules: &ChangesConfig,
    ) -> (BTreeMap<Person, BTreeSet<Group>>, Vec<Approval>) {
        let now = self.clock.unix_millis() / 1000;
        let mut people: BTreeMap<Person, BTreeSet<Group>> = BTreeMap::new();
        let mut valid = Vec::new();
        for approval in &record.change.approvals {
            let checked = record.change.check(approval, &self.roster, rules, &record.proposer);
            let Ok((statement, approver)) = checked else { continue };
            if statement.expires < now {
                continue;
            }
            if statement.decision == Decision::Approve {
                people.entry(approver.person).or_default().extend(approver.groups);
            }
            valid.push(approval.clone());
        }
        (people, valid)
    }

    /// Takes up the versions that the store has in force.
    async fn load(&self) -> Result<(), StoreError> {
        for record in self.store.policies(self.in_force().version.next()).await? {
            if record.state == PolicyState::Active {
                self.adopt(&record)?;
            }
        }
        Ok(())
    }

    /// Judges by the next version from here on.
    fn adopt(&self, record: &PolicyRecord) -> Result<(), StoreError> {
        let in_force = self.in_force();
        let version = record.version();
        if version <= in_force.version {
            return Ok(());
        }
        let corrupt = |reason: String| StoreError::Corrupt(format!("version {version} of the policy: {reason}"));
        if version != in_force.version.next() || record.change.previous != in_force.policy.digest() {
            let wanted = record.change.previous;
            return Err(corrupt(format!("it replaces {wanted}, and {} is in force", in_force.policy.digest())));
        }
        let policy = record.change.document().compile(&self.wallets).map_err(|error| corrupt(error.to_string()))?;
        let policy = Arc::new(policy);
        let mut chain = in_force.chain.clone();
        chain.push(policy.digest());
        let next = InForce { version, policy: Arc::clone(&policy), chain, base: Arc::clone(&in_force.base) };
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.pool.adopt_policy(Arc::clone(&policy));
        self.screening.adopt_policy(policy);
        tracing::info!(%version, digest = %record.digest, "another policy is in force");
        self.changed.send_replace(version);
        Ok(())
    }

    /// Compares with every signer: brings forward those that are behind, offers the change that is open, and goes over to the next
    /// version once as many signers have it in force as it takes to sign.
    async fn look(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.looking.lock().await;
        self.load().await?;
        self.note_approval().await?;
        let mut told = Vec::new();
        for (signer, standing) in self.pool.policy_standings().await {
            told.push(match standing {
                Ok(standing) => self.bring_forward(signer, standing).await?,
                Err(problem) => SignerPolicy { signer, standing: None, problem: Some(problem.to_string()) },
            });
        }
        *self.signers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(told.clone());
        while self.go_over(&told).await? {}
        Ok(())
    }

    /// Notes that enough people have approved the open change.
    async fn note_approval(&self) -> Result<(), StoreError> {
        let in_force = self.in_force();
        let Some(rules) = in_force.policy.changes() else { return Ok(()) };
        for record in self.store.policies(in_force.version.next()).await? {
            if record.state == PolicyState::Proposed && rules.require.is_met_by(&self.valid(&record, rules).0) {
                let at = self.clock.unix_millis();
                self.store.step_policy(record.version(), record.digest, PolicyStep::Approved, None, at).await?;
            }
        }
        Ok(())
    }

    /// Offers a signer what it lacks.
    async fn bring_forward(&self, signer: SignerId, mut standing: PolicyStanding) -> Result<SignerPolicy, StoreError> {
        let mut problem = None;
        for _ in 0..STEPS {
            let Some(change) = self.lacking(&standing).await? else { break };
            let before = standing.clone();
            match self.pool.offer_policy(&signer, &change).await {
                Ok(after) => standing = after,
                Err(PolicyRefusal::Away(reason)) => {
                    return Ok(SignerPolicy { signer, standing: None, problem: Some(reason) });
                }
                Err(refusal) => {
                    tracing::warn!(%signer, version = %change.version, %refusal, "a signer doesn't take a change");
                    problem = Some(refusal.to_string());
                    break;
                }
            }
            if standing == before {
                break;
            }
        }
        Ok(SignerPolicy { signer, standing: Some(standing), problem })
    }

    /// The change that a signer in this standing should be offered, if there is one.
    async fn lacking(&self, standing: &PolicyStanding) -> Result<Option<Change>, StoreError> {
        let in_force = self.in_force();
        let next = standing.version.next();
        if in_force.digest_of(standing.version) != Some(standing.digest) {
            return Ok(None); // it follows from another policy: nothing of this side's would fit
        }
        let waits = standing.pending.as_ref().map(|pending| pending.digest);
        let mut records = self.store.policies(next).await?;
        records.retain(|record| record.version() == next);
        let active = records.iter().find(|record| record.state == PolicyState::Active);
        if let Some(active) = active.filter(|active| waits != Some(active.digest)) {
            return Ok(Some(active.change.clone()));
        }
        if active.is_some() {
            return Ok(None);
        }
        let rejected =
            records.iter().find(|record| record.state == PolicyState::Rejected && waits == Some(record.digest));
        let approved = records.iter().find(|record| record.state == PolicyState::Approved && waits.is_none());
        let Some(rules) = in_force.policy.changes() else { return Ok(None) };
        Ok(rejected
            .or(approved)
            .map(|record| Change { approvals: self.valid(record, rules).1, ..record.change.clone() }))
    }

    /// Goes over to the next version, where enough signers have it in force; whether they have.
    async fn go_over(&self, told: &[SignerPolicy]) -> Result<bool, StoreError> {
        let in_force = self.in_force();
        let next = in_force.version.next();
        let ahead: Vec<(&SignerId, &PolicyStanding)> = told
            .iter()
            .filter_map(|told| Some((&told.signer, told.standing.as_ref()?)))
            .filter(|(_, standing)| standing.version >= next)
            .collect();
        if ahead.len() < usize::from(self.pool.threshold()) {
            return Ok(false);
        }
        // By the word of as many signers as it takes to sign; whoever has a later version has had this one.
        let mut votes: BTreeMap<PolicyDigest, Vec<(&SignerId, Option<Change>)>> = BTreeMap::new();
        for (signer, standing) in ahead {
            if standing.version == next {
                votes.entry(standing.digest).or_default().push((signer, None));
            } else if let Ok(change) = self.pool.policy_change(signer, next).await {
                votes.entry(change.document().digest()).or_default().push((signer, Some(change)));
            }
        }
        let agreed = votes.into_iter().find(|(_, votes)| votes.len() >= usize::from(self.pool.threshold()));
        let Some((digest, votes)) = agreed else { return Ok(false) };
        let known = self.store.policies(next).await?;
        if !known.iter().any(|record| record.version() == next && record.digest == digest) {
            let Some(record) = self.learn(next, digest, votes).await else { return Ok(false) };
            self.store.propose_policy(record, None, self.clock.unix_millis()).await?;
        }
        let at = self.clock.unix_millis();
        let record = self.store.step_policy(next, digest, PolicyStep::Active, None, at).await?;
        self.adopt(&record)?;
        Ok(true)
    }

    /// The change that the signers have in force and that this store has lost, as one of them has it.
    async fn learn(
        &self,
        version: Version,
        digest: PolicyDigest,
        votes: Vec<(&SignerId, Option<Change>)>,
    ) -> Option<PolicyRecord> {
        let in_force = self.in_force();
        for (signer, change) in votes {
            let change = match change {
                Some(change) => change,
                None => self.pool.policy_change(signer, version).await.ok()?,
            };
            let fits = change.version == version && change.document().digest() == digest;
            if !fits || change.previous != in_force.policy.digest() {
                continue;
            }
            let Ok((proposer, proposal)) = change.proposer(&self.roster, |version| in_force.digest_of(version)) else {
                continue;
            };
            tracing::warn!(%version, %digest, %signer, "the signers have a policy in force that the store has lost");
            let at = self.clock.unix_millis();
            return Some(PolicyRecord {
                note: proposal.note().to_owned(),
                change,
                digest,
                proposer,
                state: PolicyState::Approved,
                proposed_at: at,
                approved_at: Some(at),
                active_at: None,
                rejected_by: None,
            });
        }
        None
    }
}

impl From<DocumentError> for GovernanceError {
    fn from(error: DocumentError) -> Self {
        ChangeError::from(error).into()
    }
}
