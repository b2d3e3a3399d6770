//! Records, a page at a time: a store may hold more than anybody wants in memory at once.

use super::{Filter, Store, StoreError};
use crate::record::{Record, State};

/// How many records one page has.
const PAGE: u32 = 500;

/// The records that a filter lets through, newest first. What changes while they are read may or may not be among them.
pub struct Pages<'s> {
    store: &'s dyn Store,
    /// What the next page is asked by; nothing after the last one.
    next: Option<Filter>,
}

impl<'s> Pages<'s> {
    /// Every record.
    pub fn of_all(store: &'s dyn Store) -> Self {
        Self::of(store, None)
    }

    /// Every record in this state.
    pub fn in_state(store: &'s dyn Store, state: State) -> Self {
        Self::of(store, Some(state))
    }

    fn of(store: &'s dyn Store, state: Option<State>) -> Self {
        let filter = Filter { client: None, wallet: None, state, deals: false, before: None, limit: PAGE };
        Self { store, next: Some(filter) }
    }

    /// The next page. Nothing, once there is none.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, StoreError> {
        let Some(filter) = self.next.take() else { return Ok(None) };
        let records = self.store.list(filter.clone()).await?;
        let whole = records.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        self.next = records.last().filter(|_| whole).map(|last| Filter { before: Some(last.id), ..filter });
        Ok(Some(records))
    }
}

impl std::fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("next", &self.next).finish_non_exhaustive()
    }
}
