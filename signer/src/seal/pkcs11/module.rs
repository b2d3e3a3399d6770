//! A vendor's library: loaded once in the process, and initialised once at a time.
//!
//! Some libraries learn of a token that came back only when they are initialised anew. That voids every session of the
//! process, so whoever works over a session holds the module [entered](Module::enter) meanwhile, and sessions carry the
//! generation that they belong to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use zeroize::Zeroizing;

use crate::seal::SealError;

/// How much time passes between two reloads: each costs the other seals of the module their sessions.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// `C_Initialize` is for a whole process (PKCS#11 v2.40, 5.4), so this table is too.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A loaded library.
pub(super) struct Module {
    path: PathBuf,
    context: Pkcs11,
    state: RwLock<State>,
    refused: Mutex<RefusedPins>,
}

/// The PIN that each token refused last, by the token's label.
pub(super) type RefusedPins = BTreeMap<String, Zeroizing<Vec<u8>>>;

struct State {
    /// How often the library was initialised.
    generation: u64,
    reloaded: Option<Instant>,
}

/// The library, which is not reloaded as long as this lives. A thread must not hold two.
pub(super) struct Entered<'m> {
    module: &'m Module,
    state: RwLockReadGuard<'m, State>,
}

impl Module {
    /// The library at `path`.
    pub(super) fn shared(path: &Path) -> Result<Arc<Self>, SealError> {
        let unusable = |reason: String| SealError::Module { path: path.to_owned(), reason };
        let real = std::fs::canonicalize(path).map_err(|error| unusable(error.to_string()))?;
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(&real) {
            return Ok(module.clone());
        }
        let context = Pkcs11::new(&real).map_err(|error| unusable(error.to_string()))?;
        initialize(&context).map_err(|error| unusable(error.to_string()))?;
        let state = RwLock::new(State { generation: 1, reloaded: None });
        let refused = Mutex::default();
        let module = Arc::new(Self { path: path.to_owned(), context, state, refused });
        modules.insert(real, module.clone());
        Ok(module)
    }

    /// Keeps the library as it is.
    pub(super) fn enter(&self) -> Entered<'_> {
        Entered { module: self, state: self.state.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Initialises the library anew, unless that was done since `generation`. Tells whether it is worth trying again;
    /// it is not where the last reload was a moment ago.
    pub(super) fn reload(&self, generation: u64) -> Result<bool, SealError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation {
            return Ok(true);
        }
        let now = Instant::now();
        if state.reloaded.is_some_and(|last| now.saturating_duration_since(last) < RELOAD_PAUSE) {
            return Ok(false);
        }
        state.reloaded = Some(now);
        state.generation = state.generation.saturating_add(1);
        if let Err(error) = self.context.clone().finalize() {
            tracing::debug!(module = %self.path.display(), %error, "the module was not finalised");
        }
        initialize(&self.context)
            .map(|()| true)
            .map_err(|error| SealError::Module { path: self.path.clone(), reason: error.to_string() })
    }
}

impl Entered<'_> {
    pub(super) fn context(&self) -> &Pkcs11 {
        &self.module.context
    }

    pub(super) fn generation(&self) -> u64 {
        self.state.generation
    }

    /// The refused PINs. Logins happen one at a time, each holding this, so that a wrong PIN is tried once, however many
    /// ask, and however often a seal is opened.
    pub(super) fn refused_pins(&self) -> MutexGuard<'_, RefusedPins> {
        self.module.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn initialize(context: &Pkcs11) -> Result<(), Error> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another part of the process uses the same library.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}
