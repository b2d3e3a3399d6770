//! A transport that does something at a certain call: what happens in the middle of a session happens at a known place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use signer::pool::SignerId;
use signer::transport::{Transport, TransportError};

/// A wire that can be set, once at a time.
pub(crate) struct Trip {
    inner: Arc<dyn Transport>,
    set: Mutex<Option<Wire>>,
}

struct Wire {
    signer: SignerId,
    calls: u32,
    act: Box<dyn FnOnce() + Send>,
}

impl Trip {
    pub(crate) fn around(inner: Arc<dyn Transport>) -> Arc<Self> {
        Arc::new(Self { inner, set: Mutex::default() })
    }

    /// Has `act` done right before the call to `signer` that comes after so many others.
    pub(crate) fn set(&self, signer: &SignerId, calls: u32, act: impl FnOnce() + Send + 'static) {
        let wire = Wire { signer: signer.clone(), calls, act: Box::new(act) };
        *self.set.lock().expect("no test panics with it") = Some(wire);
    }

    /// Lets calls pass as if nothing had been set.
    #[allow(dead_code, reason = "not every test file sets wires in vain")]
    pub(crate) fn disarm(&self) {
        *self.set.lock().expect("no test panics with it") = None;
    }

    /// Whether it has been done.
    pub(crate) fn tripped(&self) -> bool {
        self.set.lock().expect("no test panics with it").is_none()
    }
}

impl Transport for Trip {
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let mut set = self.set.lock().expect("no test panics with it");
        match &mut *set {
            Some(wire) if wire.signer == *to && wire.calls == 0 => {
                let wire = set.take();
                drop(set);
                wire.into_iter().for_each(|wire| (wire.act)());
            }
            Some(wire) if wire.signer == *to => wire.calls = wire.calls.saturating_sub(1),
            _ => (),
        }
        self.inner.call(to, request, deadline).boxed()
    }
}
