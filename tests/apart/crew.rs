//! Three signers as processes, and a pool that reaches them over wires that can be tripped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chains::account::KeyId;
use chains::chain::Chain;
use chains::ethereum::Ethereum;
use chains::network::{Cluster, Network};
use chains::solana::Solana;
use ed25519_dalek::SigningKey;
use signer::pool::{
    ApartConfig, ApartSigner, KeySpec, Pool, PoolError, Rekeyed, SignOutcome, SignerStatus, WalletSpec,
};
use signer::roster::{Credential, Role, Roster};
use signer::transport::Transport;
use signer::transport::grpc::{Coordinator, LinkIdentity};
use tokio::sync::watch;

use crate::process::{PATIENCE, Process};
use crate::site::{NAMES, Site, id, policy, request};
use crate::trip::Trip;

/// The processes that run, by name.
type Processes = Arc<Mutex<BTreeMap<&'static str, Process>>>;

pub(crate) struct Crew {
    pub(crate) site: Site,
    pub(crate) pool: Pool,
    pub(crate) trip: Arc<Trip>,
    client: SigningKey,
    processes: Processes,
    arrivals: watch::Receiver<u64>,
    signed: u64,
}

impl Crew {
    /// Starts all of them.
    pub(crate) async fn gather(site: Site, client: SigningKey) -> Self {
        let gateway = LinkIdentity::read(&site.path("gateway").join("signers/link")).unwrap();
        let pins = site.keys.iter().map(|(name, (pin, _))| (id(name), *pin)).collect();
        let coordinator = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.unwrap();
        let arrivals = coordinator.arrivals();
        let processes = Processes::default();
        for name in NAMES {
            site.write_signer(name, coordinator.addr());
            processes.lock().unwrap().insert(name, site.start(name));
        }
        coordinator.gather(PATIENCE).await;
        let config = ApartConfig {
            threshold: 2,
            signers: NAMES.iter().map(|name| ApartSigner { id: id(name), region: None }).collect(),
            min_regions: 0,
            deadline: Duration::from_secs(120),
            round_timeout: Duration::from_secs(60),
        };
        let trip = Trip::around(Arc::new(coordinator) as Arc<dyn Transport>);
        let pool = Pool::coordinate(config, trip.clone()).await.unwrap();
        Self { site, pool, trip, client, processes, arrivals, signed: 0 }
    }

    /// Has the keys made, and tells the pool what the signers' files say.
    pub(crate) async fn make(&self, keys: &[KeySpec], wallets: &[WalletSpec]) {
        self.pool.ensure_keys(keys, |_| ()).await.unwrap();
        let (id, public_key) = ("demo-trader".parse().unwrap(), self.client.verifying_key());
        let trader = Credential { id, role: Role::Initiator, public_key };
        let roster = Roster::new(vec![trader]).unwrap();
        self.pool.install(roster, policy(wallets), wallets.to_vec()).await.unwrap();
    }

    /// Signs another payment, and puts the signatures in place, which verifies them.
    pub(crate) async fn sign(&mut self, wallet: &WalletSpec) -> SignOutcome {
        self.sign_at_once(wallet, 1).await.remove(0)
    }

    /// The same with several payments in flight.
    pub(crate) async fn sign_at_once(&mut self, wallet: &WalletSpec, count: u64) -> Vec<SignOutcome> {
        let numbers = self.signed + 1..=self.signed + count;
        self.signed += count;
        let (pool, account) = (&self.pool, &self.pool.account(wallet).unwrap());
        let signing = numbers.map(|number| {
            let request = request(&self.client, account, number, &self.pool.policy().unwrap());
            async move {
                let outcome = pool.sign(request.clone()).await.unwrap();
                match wallet.network {
                    Network::Solana(_) => {
                        let chain = Solana::new(Cluster::Localnet);
                        let unsigned = chain.decode_unsigned(&request.unsigned).unwrap();
                        chain.assemble(account, &unsigned, &outcome.signatures).unwrap();
                    }
                    Network::Ethereum(chain) => {
                        let chain = Ethereum::new(chain);
                        let unsigned = chain.decode_unsigned(&request.unsigned).unwrap();
                        chain.assemble(account, &unsigned, &outcome.signatures).unwrap();
                    }
                    Network::Bitcoin(_) => panic!("no wallet here is on Bitcoin"),
                }
                outcome
            }
        });
        futures::future::join_all(signing).await
    }

    /// The generation of a key's shares.
    pub(crate) async fn epoch(&self, key: &KeyId) -> u32 {
        self.pool.status().await.keys.into_iter().find(|status| status.key == *key).unwrap().epoch
    }

    /// Refreshes a key, or reshares it among the same signers.
    pub(crate) async fn renew(&self, key: &KeyId, reshare: bool) -> Result<Rekeyed, PoolError> {
        if reshare {
            self.pool.reshare(key, &NAMES.map(id), |_| ()).await
        } else {
            self.pool.refresh(key, |_| ()).await
        }
    }

    /// Starts those again that were killed in a ceremony of the wallet's key. All are at the epoch `before` it then, or at the next,
    /// as they have to be if it `ended` well, and sign for the same address. Answers whether they went over.
    pub(crate) async fn come_back(&mut self, wallet: &WalletSpec, before: u32, ended: bool, what: &str) -> bool {
        let account = self.pool.account(wallet).unwrap();
        self.revive().await;
        let keys = self.pool.status().await.keys;
        let status = keys.into_iter().find(|status| status.key == wallet.key).unwrap();
        let went_over = status.epoch == before + 1;
        assert!(went_over || (status.epoch == before && !ended), "{what}: {status:?}");
        assert_eq!((status.holders.len(), status.signers_up.len()), (3, 3), "{what}: {status:?}");
        for _ in 0..2 {
            self.sign(wallet).await;
        }
        assert_eq!(self.pool.account(wallet).unwrap(), account, "{what}");
        went_over
    }

    /// How a signer is.
    pub(crate) async fn status(&self, name: &str) -> SignerStatus {
        self.pool.status().await.signers.into_iter().find(|status| status.signer.as_str() == name).unwrap()
    }

    /// Something that kills these processes as `kill -9` does.
    pub(crate) fn killer(&self, names: &[&'static str]) -> impl FnOnce() + Send + 'static {
        let (processes, names) = (self.processes.clone(), names.to_vec());
        move || {
            let mut processes = processes.lock().unwrap();
            names.iter().filter_map(|name| processes.remove(name)).for_each(Process::kill);
        }
    }

    /// Starts those again that do not run, and waits until the pool has met all.
    pub(crate) async fn revive(&mut self) {
        for name in NAMES {
            let runs = self.processes.lock().unwrap().contains_key(name);
            if !runs {
                let process = self.site.start(name);
                self.processes.lock().unwrap().insert(name, process);
            }
        }
        self.all_up().await;
    }

    /// Waits until every signer is up and has met the others.
    pub(crate) async fn all_up(&mut self) {
        let all = async {
            loop {
                // Whoever comes up after the others have met would be missing, so they meet once all are up.
                let up = self.pool.status().await.signers.iter().all(|signer| signer.up);
                if up && self.pool.meet().await.is_ok() {
                    break;
                }
                let _ = tokio::time::timeout(Duration::from_secs(1), self.arrivals.changed()).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all come back");
    }
}
