//! How many requests are signed at a time.
//!
//! Signers compute one thing after another, and each answer has a time limit. With more sessions under way than they can serve within
//! it, all of them would run into it, be tried again, and no payment would ever be signed. So requests wait in turn, and how many
//! are let in is found as TCP finds its window (additive increase, multiplicative decrease; RFC 5681 section 3.1): one more
//! for every window of requests that went well while others waited, half as many once signers fall silent together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How many are let in at first.
const FIRST: usize = 16;
/// How many are let in at most: a signer holds 512 sessions, and other gateways may use it, too.
const MOST: usize = 128;

/// The gate before signing: first come, first served.
#[derive(Debug)]
pub(super) struct Admission {
    gate: Semaphore,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    /// How many are let in.
    size: usize,
    /// How many of those that are in leave no place behind: the window was cut while they were.
    surplus: usize,
    /// Requests that went well since the window last grew.
    well: usize,
    /// When it was last cut.
    cut: Option<Instant>,
}

/// A request that was let in, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    admission: &'a Admission,
    place: Option<SemaphorePermit<'a>>,
}

impl Admission {
    /// Waits for a place until `deadline`; none, where none comes free.
    pub(super) async fn enter(&self, deadline: Instant) -> Option<Admitted<'_>> {
        let place = tokio::time::timeout_at(deadline, self.gate.acquire()).await.ok()?.ok()?;
        Some(Admitted { admission: self, place: Some(place) })
    }

    /// Signers answered in time.
    pub(super) fn went_well(&self) {
        let mut window = self.window();
        window.well = window.well.saturating_add(1);
        // A window that isn't full says nothing of a larger one.
        if window.well < window.size || window.size >= MOST || self.gate.available_permits() > 0 {
            return;
        }
        window.well = 0;
        window.size = window.size.saturating_add(1);
        match window.surplus.checked_sub(1) {
            Some(surplus) => window.surplus = surplus,
            None => self.gate.add_permits(1),
        }
    }

    /// Signers fell silent together in an attempt that began at `began`. One window's worth of such attempts cuts it once.
    pub(super) fn fell_silent(&self, began: Instant) {
        let mut window = self.window();
        if window.cut.is_some_and(|cut| began <= cut) {
            return;
        }
        let half = window.size.div_ceil(2);
        let fewer = window.size.saturating_sub(half);
        let free = self.gate.forget_permits(fewer);
        window.surplus = window.surplus.saturating_add(fewer.saturating_sub(free));
        (window.size, window.well, window.cut) = (half, 0, Some(Instant::now()));
        tracing::warn!(at_a_time = half, "signers answer too late; fewer requests are signed at a time");
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Admission {
    fn default() -> Self {
        let window = Window { size: FIRST, surplus: 0, well: 0, cut: None };
        Self { gate: Semaphore::new(FIRST), window: Mutex::new(window) }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut window = self.admission.window();
        if let Some(surplus) = window.surplus.checked_sub(1) {
            window.surplus = surplus;
            self.place.take().into_iter().for_each(SemaphorePermit::forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Lets requests in until no more come in.
    fn fill(admission: &Admission) -> Vec<Admitted<'_>> {
        let next = || tokio::task::unconstrained(admission.enter(later())).now_or_never().flatten();
        std::iter::from_fn(next).collect()
    }

    #[tokio::test]
    async fn a_full_window_grows_by_one_for_each_that_went_well() {
        let admission = Admission::default();
        for size in FIRST..MOST {
            let inside = fill(&admission);
            assert_eq!(inside.len(), size);
            for _ in 0..size {
                admission.went_well();
            }
        }
        for _ in 0..10 * MOST {
            admission.went_well();
        }
        assert_eq!(fill(&admission).len(), MOST);
    }

    #[tokio::test]
    async fn a_window_that_is_not_full_does_not_grow() {
        let admission = Admission::default();
        for _ in 0..10 * FIRST {
            let _inside = admission.enter(later()).await;
            admission.went_well();
        }
        assert_eq!(fill(&admission).len(), FIRST);
    }

    #[tokio::test]
    async fn it_is_halved_once_for_a_window_of_silence_down_to_one() {
        let admission = Admission::default();
        let mut size = FIRST;
        while size > 1 {
            let began = Instant::now();
            let inside = fill(&admission);
            assert_eq!(inside.len(), size);
            for _ in 0..size {
                admission.fell_silent(began);
            }
            size = size.div_ceil(2);
            drop(inside);
        }
        admission.fell_silent(Instant::now());
        let inside = fill(&admission);
        assert_eq!(inside.len(), 1);
        drop(inside);
        // And grows again.
        for size in 1..FIRST {
            let inside = fill(&admission);
            assert_eq!(inside.len(), size);
            for _ in 0..size {
                admission.went_well();
            }
        }
    }

    #[tokio::test]
    async fn a_cut_while_all_are_inside_waits_for_them_to_leave() {
        let admission = Admission::default();
        let began = Instant::now();
        let mut inside = fill(&admission);
        admission.fell_silent(began);
        for _ in 0..FIRST / 2 {
            inside.pop();
            assert!(fill(&admission).is_empty(), "more are inside than may be");
        }
        inside.pop();
        assert_eq!(fill(&admission).len(), 1);
        drop(inside);
        assert_eq!(fill(&admission).len(), FIRST / 2);
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_not_let_in() {
        let admission = Admission::default();
        let inside = fill(&admission);
        assert!(admission.enter(Instant::now() + Duration::from_millis(10)).await.is_none());
        drop(inside);
        assert!(admission.enter(later()).await.is_some());
    }
}
