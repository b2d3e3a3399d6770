//! One signer's own judgement of a signing request: the second authority.
//!
//! A signer believes nothing that the gateway says. From the client's signed request it learns what is wanted and from
//! the unsigned bytes what would be done; it takes part only where the one is the other, its own copy of the policy
//! allows it, and the messages to sign are those that it computed itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chains::account::{Account, WalletId};
use chains::address::{Address, AddressError, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::Bitcoin;
use chains::chain::{Chain, DecodeError, Slot};
use chains::effects::{Effects, Transfer, Upkeep};
use chains::ethereum::Ethereum;
use chains::intent::{Action, Intent, ProgramInstruction};
use chains::network::{Family, Network};
use chains::payload::Payload;
use chains::solana::Solana;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::approval::{self, ApprovalError, Subject};
use crate::ledger::Uses;
use crate::policy::quorum::{Group, Person, Quorum};
use crate::policy::{self, Circumstances, Denial, Policy, Verdict};
use crate::request::{
    AuthError, BodyError, Cancellation, Deal, Go, IntentId, SignedRequest, SigningRequest, Submission, parse_call,
};
use crate::roster::{CredentialId, Role, Roster};

#[cfg(test)]
mod tests;

/// What a signer judges by: its own roster, its own policy, and the accounts that it derived from its own keys.
#[derive(Debug)]
pub(crate) struct Guard {
    roster: Arc<Roster>,
    policy: Arc<Policy>,
    accounts: BTreeMap<WalletId, Account>,
}

/// A request that this signer stands behind: what it signs, and what it must burn in its ledger first.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The account that pays.
    pub(crate) account: Account,
    /// What has to be signed, computed from the unsigned bytes; never empty.
    pub(crate) payloads: Vec<Payload>,
    /// What the transaction uses up: its slots on chain, and its draws on the limits of this signer's policy.
    pub(crate) uses: Uses,
    /// The one intent that the transaction carries out, whatever name the gateway gave it.
    pub(crate) intent: IntentId,
}

/// What is asked for, and by whom.
struct Asked<'r> {
    initiator: &'r CredentialId,
    id: IntentId,
    wanted: Wanted<'r>,
    /// The terms under which it is paid, where it is a deal's crypto leg.
    deal: Option<&'r Deal>,
    /// Who has approved it.
    people: BTreeMap<Person, BTreeSet<Group>>,
    /// As of when it is judged, in milliseconds since the Unix epoch.
    at: u64,
}

/// Why a signer takes no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// The client's request isn't signed by a credential of this signer's roster.
    #[error("the evidence doesn't authenticate: {0}")]
    Auth(#[from] AuthError),
    /// The credential may not ask for payments.
    #[error("{credential} is {role}; only an initiator asks for payments")]
    Role { credential: CredentialId, role: Role },
    /// An approval doesn't hold, or says no.
    #[error("the approvals: {0}")]
    Approval(#[from] ApprovalError),
    /// Too few people have approved.
    #[error("it takes the approval of {0}")]
    Quorum(Quorum),
    /// The deal's time is over.
    #[error("the deal's time was over at {0}, before this signer agreed to it")]
    DealOver(u64),
    /// The desk has given no go.
    #[error("the deal waits for the explicit go of whoever opened it")]
    NotReleased,
    /// The desk's go is for another deal, or somebody else's.
    #[error("the go is for another deal, or by somebody who didn't open it")]
    OtherRelease,
    /// The credential may not have the payment cancelled.
    #[error("{credential} is {role} and didn't ask for the payment; only its initiator or an operator cancels it")]
    CancelRole { credential: CredentialId, role: Role },
    /// The request to cancel names another payment.
    #[error("the request to cancel is for {named}, not for {tx}")]
    OtherCancel { named: Uuid, tx: Uuid },
    /// The client's body is no submission.
    #[error("the evidence has no intent: {0}")]
    Body(#[from] BodyError),
    /// The request is for another wallet than the intent.
    #[error("the request is for wallet {request}, the intent for {intent}")]
    OtherWallet { request: WalletId, intent: WalletId },
    /// This signer has no such wallet.
    #[error("wallet {0} is unknown to this signer")]
    UnknownWallet(WalletId),
    /// The bytes are no transaction of the account, or hold what can't be decoded.
    #[error("the unsigned transaction: {0}")]
    Decode(#[from] DecodeError),
    /// The bytes say what other bytes would say as well.
    #[error("the unsigned transaction isn't in its one encoding")]
    Encoding,
    /// An address of the intent is none on the account's network.
    #[error("the intent: {0}")]
    Address(#[from] AddressError),
    /// The transaction does something else than the intent says.
    #[error("the transaction isn't what the intent says: {0}")]
    Mismatch(Mismatch),
    /// The transaction may cost more than the intent permits.
    #[error("the fee may be {fee}, above the intent's {cap}")]
    FeeAboveCap { fee: Amount, cap: Amount },
    /// The policy denies it.
    #[error("the policy denies it: {0}")]
    Denied(Denial),
    /// The adapter found nothing to sign, or nothing that makes the transaction the only one of its kind.
    #[error("the transaction has nothing to sign or no slot")]
    Empty,
}

/// What the transaction must be.
#[derive(Clone, Copy, Debug)]
enum Wanted<'i> {
    /// What the intent says.
    Payment(&'i Intent),
    /// Nothing but what keeps every attempt at the intent off the chain.
    Cancel(&'i Intent),
}

/// Where a transaction and its intent part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Mismatch {
    /// Not exactly the payments that are asked for.
    #[error("other payments")]
    Transfers,
    /// It grants somebody a right to spend.
    #[error("it grants an allowance")]
    Allowances,
    /// Not exactly the calls that are asked for.
    #[error("other calls")]
    Calls,
    /// Not exactly the lookup tables that are named, in their order.
    #[error("other lookup tables")]
    Tables,
    /// Not exactly the upkeep of the wallet that is asked for.
    #[error("other upkeep")]
    Upkeep,
    /// The chain can't do what the intent says.
    #[error("{0} has nothing of the kind")]
    Family(&'static str),
}

impl Guard {
    /// A guard of these accounts, which the signer derived from its own share's public key.
    pub(crate) fn new(roster: Arc<Roster>, policy: Arc<Policy>, accounts: BTreeMap<WalletId, Account>) -> Self {
        Self { roster, policy, accounts }
    }

    /// The same under another policy.
    pub(crate) fn with_policy(&self, policy: Arc<Policy>) -> Self {
        Self { roster: Arc::clone(&self.roster), policy, accounts: self.accounts.clone() }
    }

    /// The policy that it judges by.
    pub(crate) const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Judges a request, as of `when` this signer first agreed to the intent, or else its present time, in milliseconds since
    /// the Unix epoch: hours and approvals that were good then are good for every further attempt. It writes nothing: whoever
    /// goes on to sign burns the slots first.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) fn judge(
        &self,
        request: &SigningRequest,
        when: impl FnOnce(IntentId) -> u64,
    ) -> Result<Judged, Refusal> {
        let signed = &request.evidence.request;
        let (credential, claims) = signed.authenticate(&self.roster)?;
        if credential.role != Role::Initiator {
            return Err(Refusal::Role { credential: credential.id.clone(), role: credential.role });
        }
        let submission = Submission::from_call(&parse_call(&signed.body)?)?;
        let intent = &submission.intent;
        if intent.wallet != request.wallet {
            return Err(Refusal::OtherWallet { request: request.wallet.clone(), intent: intent.wallet.clone() });
        }
        let account = self.accounts.get(&intent.wallet).ok_or_else(|| Refusal::UnknownWallet(intent.wallet.clone()))?;
        let wanted = match &request.evidence.cancel {
            None => Wanted::Payment(intent),
            Some(cancel) => {
                self.require_cancel(cancel, &credential.id, request.tx)?;
                Wanted::Cancel(intent)
            }
        };
        let id = submission.intent_id(&credential.id);
        let at = when(id);
        if matches!(wanted, Wanted::Payment(_)) {
            self.policy.require_recent(claims.iat, at).map_err(Refusal::Denied)?;
        }
        let subject = Subject { intent: id, initiator: &credential.id, body: &signed.body };
        let people = approval::weigh(&request.evidence.approvals, &self.roster, &subject, at)?;
        let deal = submission.deal.as_ref().filter(|_| matches!(wanted, Wanted::Payment(_)));
        if deal.is_some_and(Deal::is_released_by_hand) {
            self.require_go(request.evidence.release.as_ref(), &subject)?;
        }
        let asked = Asked { initiator: &credential.id, id, wanted, deal, people, at };
        match account.network() {
            Network::Bitcoin(network) => self.judge_on(&Bitcoin::new(network), account, &asked, &request.unsigned),
            Network::Ethereum(chain_id) => self.judge_on(&Ethereum::new(chain_id), account, &asked, &request.unsigned),
            Network::Solana(cluster) => self.judge_on(&Solana::new(cluster), account, &asked, &request.unsigned),
        }
    }

    /// Whoever asked for the payment, or an operator, asks for exactly this payment to be cancelled. The ledger ties the name
    /// `tx` to the intent.
    fn require_cancel(&self, cancel: &SignedRequest, initiator: &CredentialId, tx: Uuid) -> Result<(), Refusal> {
        let (credential, _) = cancel.authenticate(&self.roster)?;
        if credential.role != Role::Operator && credential.id != *initiator {
            return Err(Refusal::CancelRole { credential: credential.id.clone(), role: credential.role });
        }
        let named = Cancellation::from_call(&parse_call(&cancel.body)?)?.tx_id;
        if named == tx { Ok(()) } else { Err(Refusal::OtherCancel { named, tx }) }
    }

    /// Whoever opened the deal has given the go for exactly this request.
    fn require_go(&self, release: Option<&SignedRequest>, subject: &Subject<'_>) -> Result<(), Refusal> {
        let release = release.ok_or(Refusal::NotReleased)?;
        let (credential, _) = release.authenticate(&self.roster)?;
        let go = Go::from_call(&parse_call(&release.body)?)?;
        let same = credential.id == *subject.initiator && go.request == <[u8; 32]>::from(Sha256::digest(subject.body));
        if same { Ok(()) } else { Err(Refusal::OtherRelease) }
    }

    fn judge_on<C: Chain>(
        &self,
        chain: &C,
        account: &Account,
        asked: &Asked<'_>,
        bytes: &[u8],
    ) -> Result<Judged, Refusal> {
        let unsigned = chain.decode_unsigned(bytes)?;
        if chain.encode_unsigned(&unsigned) != bytes {
            return Err(Refusal::Encoding);
        }
        let effects = chain.effects(account, &unsigned)?;
        let slots = chain.slots(account, &unsigned);
        let verdict = match asked.wanted {
            Wanted::Payment(intent) => {
                require_same(intent, account, &effects, &slots)?;
                let circumstances = Circumstances { initiator: asked.initiator, at: asked.at };
                if intent.action.is_upkeep() {
                    policy::evaluate_upkeep(&self.policy, account, &circumstances, &effects)
                } else {
                    self.policy.require_deal(account.wallet(), asked.deal.is_some()).map_err(Refusal::Denied)?;
                    policy::evaluate(&self.policy, account, &circumstances, &effects)
                }
            }
            Wanted::Cancel(intent) => {
                require_nothing(&effects)?;
                require_fee(intent, &effects)?;
                policy::evaluate_cancel(&self.policy, account, &effects)
            }
        };
        let draws = match verdict {
            Verdict::Allow { draws, .. } => draws,
            Verdict::Require { quorums, draws, .. } => {
                match quorums.into_iter().find(|quorum| !quorum.is_met_by(&asked.people)) {
                    Some(unmet) => return Err(Refusal::Quorum(unmet)),
                    None => draws,
                }
            }
            Verdict::Deny { reason, .. } => return Err(Refusal::Denied(reason)),
        };
        if let Some(deal) = asked.deal {
            require_deal(deal, asked)?;
        }
        let payloads = chain.payloads(account, &unsigned)?;
        if payloads.is_empty() || slots.is_empty() {
            return Err(Refusal::Empty);
        }
        let uses = Uses { slots, draws };
        Ok(Judged { account: account.clone(), payloads, uses, intent: asked.id })
    }
}

/// Both parties have approved, the fiat leg is confirmed, and the deal's time wasn't over.
fn require_deal(deal: &Deal, asked: &Asked<'_>) -> Result<(), Refusal> {
    if deal.is_over(asked.at) {
        return Err(Refusal::DealOver(deal.terms().expires));
    }
    if deal.is_met_by(&asked.people) { Ok(()) } else { Err(Refusal::Quorum(deal.quorum())) }
}

/// Proves that the effects are what the intent says, all of it and nothing else.
fn require_same(intent: &Intent, account: &Account, effects: &Effects, slots: &BTreeSet<Slot>) -> Result<(), Refusal> {
    match &intent.action {
        Action::Transfer { asset, to, amount } => require_transfer(account, *asset, to, *amount, effects)?,
        Action::Call { contract, data, value } => require_call(account, contract, data, *value, effects)?,
        Action::CallProgram { instructions, .. } => require_programs(account, instructions, effects)?,
        Action::OpenNonce { index } => require_upkeep(&Upkeep::OpenNonce { index: *index }, effects)?,
        Action::Accelerate { parent } => {
            require_nothing(effects)?;
            if !slots.iter().any(|slot| slot.is_output_of(parent)) {
                return Err(Refusal::Mismatch(Mismatch::Upkeep));
            }
        }
    }
    require_tables(intent, account, effects)?;
    require_fee(intent, effects)
}

/// The lookup tables that are read are those that the intent names, each of them, in its order. What has to stand in them is the
/// policy's to say.
fn require_tables(intent: &Intent, account: &Account, effects: &Effects) -> Result<(), Refusal> {
    let named: &[UncheckedAddress] = match &intent.action {
        Action::CallProgram { lookup_tables, .. } => lookup_tables,
        _ => &[],
    };
    let named = named.iter().map(|table| table.require_network(account.network()));
    let named: Vec<Address> = named.collect::<Result<_, _>>()?;
    let read = effects.tables.iter().map(|read| Address::Solana(read.address));
    if read.eq(named) { Ok(()) } else { Err(Refusal::Mismatch(Mismatch::Tables)) }
}

/// The transaction costs no more than the intent permits.
fn require_fee(intent: &Intent, effects: &Effects) -> Result<(), Refusal> {
    match intent.max_fee {
        Some(cap) if effects.max_fee > cap => Err(Refusal::FeeAboveCap { fee: effects.max_fee, cap }),
        _ => Ok(()),
    }
}

/// The transaction pays nobody, grants nothing, calls nothing and is no upkeep that somebody could have asked for by itself.
fn require_nothing(effects: &Effects) -> Result<(), Refusal> {
    if !effects.transfers.is_empty() {
        return Err(Refusal::Mismatch(Mismatch::Transfers));
    }
    if !effects.allowances.is_empty() {
        return Err(Refusal::Mismatch(Mismatch::Allowances));
    }
    if !effects.calls.is_empty() || !effects.programs.is_empty() {
        return Err(Refusal::Mismatch(Mismatch::Calls));
    }
    if !effects.tables.is_empty() {
        return Err(Refusal::Mismatch(Mismatch::Tables));
    }
    if effects.upkeep.is_none() { Ok(()) } else { Err(Refusal::Mismatch(Mismatch::Upkeep)) }
}

/// The one payment, and for an ERC-20 token the one call that makes it.
fn require_transfer(
    account: &Account,
    asset: Asset,
    to: &UncheckedAddress,
    amount: Amount,
    effects: &Effects,
) -> Result<(), Refusal> {
    let to = to.require_network(account.network())?;
    let from = account.address().clone();
    if !asset.exists_on(account.network().family()) {
        return Err(Refusal::Mismatch(Mismatch::Family(account.network().family().name())));
    }
    let calls_match = match (asset, &to, effects.calls.as_slice()) {
        (Asset::Erc20(token), Address::Ethereum(to), [call]) => {
            call.contract == token
                && call.selector.0 == ERC20_TRANSFER
                && call.value.is_zero()
                && *call.arguments == *abi_transfer(to.as_slice(), amount)
        }
        (Asset::Erc20(_), _, _) => false,
        (Asset::Native | Asset::Spl(_), _, calls) => calls.is_empty() && effects.programs.is_empty(),
    };
    if !calls_match {
        return Err(Refusal::Mismatch(Mismatch::Calls));
    }
    if effects.transfers != [Transfer { asset, from, to, amount }] {
        return Err(Refusal::Mismatch(Mismatch::Transfers));
    }
    if effects.allowances.is_empty() { Ok(()) } else { Err(Refusal::Mismatch(Mismatch::Allowances)) }
}

/// The one call, with its value. What the call itself does beyond that, as far as it is decoded, is the policy's to judge.
fn require_call(
    account: &Account,
    contract: &UncheckedAddress,
    data: &[u8],
    value: Amount,
    effects: &Effects,
) -> Result<(), Refusal> {
    let to = contract.require_network(account.network())?;
    let (Family::Ethereum, Address::Ethereum(contract)) = (account.network().family(), &to) else {
        return Err(Refusal::Mismatch(Mismatch::Family(account.network().family().name())));
    };
    // The transaction's own call comes first; the others lie in it.
    let calls_match = match effects.calls.split_first() {
        Some((call, inner)) => {
            call.contract == *contract
                && call.value == value
                && data.split_first_chunk() == Some((&call.selector.0, &*call.arguments))
                && inner.iter().all(|call| call.depth > 0)
        }
        None => false,
    };
    if !calls_match {
        return Err(Refusal::Mismatch(Mismatch::Calls));
    }
    let from = account.address().clone();
    let sent = Transfer { asset: Asset::Native, from: from.clone(), to, amount: value };
    let expected: &[&Transfer] = if value.is_zero() { &[] } else { &[&sent] };
    let own = |transfer: &&Transfer| transfer.asset == Asset::Native && transfer.from == from;
    let native: Vec<&Transfer> = effects.transfers.iter().filter(own).collect();
    if native == expected { Ok(()) } else { Err(Refusal::Mismatch(Mismatch::Transfers)) }
}

/// Exactly these instructions in their order, with the accounts in theirs, and nothing writable that the intent doesn't have
/// written to. What they do beyond that, as far as it is decoded, is the policy's to judge.
fn require_programs(account: &Account, instructions: &[ProgramInstruction], effects: &Effects) -> Result<(), Refusal> {
    let network = account.network();
    if network.family() != Family::Solana {
        return Err(Refusal::Mismatch(Mismatch::Family(network.family().name())));
    }
    let mut writable = BTreeSet::from([account.address().clone()]);
    for used in instructions.iter().flat_map(|instruction| &instruction.accounts).filter(|used| used.writable) {
        writable.insert(used.address.require_network(network)?);
    }
    let mut asked = Vec::with_capacity(instructions.len());
    for ProgramInstruction { program, accounts, data } in instructions {
        let accounts = accounts.iter().map(|used| used.address.require_network(network));
        let accounts = accounts.collect::<Result<Vec<Address>, _>>()?;
        let accounts: Vec<_> = accounts.into_iter().map(|used| (writable.contains(&used), used)).collect();
        asked.push((program.require_network(network)?, accounts, data));
    }
    let read = effects.programs.iter().map(|call| {
        let accounts = call.accounts.iter().map(|used| (used.writable, Address::Solana(used.address))).collect();
        (Address::Solana(call.program), accounts, &call.data)
    });
    if !asked.is_empty() && effects.calls.is_empty() && read.collect::<Vec<_>>() == asked {
        return Ok(());
    }
    Err(Refusal::Mismatch(Mismatch::Calls))
}

/// Exactly this upkeep: nobody is paid, nothing is called or granted.
fn require_upkeep(expected: &Upkeep, effects: &Effects) -> Result<(), Refusal> {
    let nothing_else = effects.transfers.is_empty()
        && effects.allowances.is_empty()
        && effects.calls.is_empty()
        && effects.programs.is_empty();
    let same = nothing_else && effects.upkeep.as_ref() == Some(expected);
    if same { Ok(()) } else { Err(Refusal::Mismatch(Mismatch::Upkeep)) }
}

/// `transfer(address,uint256)` (ERC-20).
const ERC20_TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];

/// The arguments of `transfer`: two words of 32 bytes (Solidity's contract ABI).
fn abi_transfer(to: &[u8], amount: Amount) -> Vec<u8> {
    [[0; 12].as_slice(), to, &amount.to_be_bytes()].concat()
}
