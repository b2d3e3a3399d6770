//! Lookup tables as a node tells them.

use serde_json::json;
use solana_sdk::pubkey::Pubkey;

use super::answer::{AccountInfo, WithContext};
use super::{FINALIZED, SolanaClient, malformed};
use crate::chain::BuildError;
use crate::client::StateError;
use crate::solana::table::{TableAccount, TableError};
use crate::solana::wire::MAX_TABLES;

impl SolanaClient {
    /// The lookup table at an address as final blocks have it, with its entries: what a policy can name.
    ///
    /// # Errors
    /// Where there is none, it is being given up, or the node doesn't answer.
    pub async fn lookup_table(&self, table: Pubkey) -> Result<Vec<Pubkey>, StateError> {
        let found = self.tables(&[table], FINALIZED).await?;
        let account = found.first().ok_or(BuildError::LookupTable(TableError::Absent { table }))?;
        Ok(account.entries().map_err(BuildError::LookupTable)?)
    }

    /// The lookup tables at these addresses, in one snapshot.
    pub(super) async fn tables(&self, tables: &[Pubkey], commitment: &str) -> Result<Vec<TableAccount>, StateError> {
        const METHOD: &str = "getMultipleAccounts";
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        if tables.len() > MAX_TABLES {
            return Err(BuildError::Unsupported("more than 8 lookup tables").into());
        }
        let names: Vec<String> = tables.iter().map(Pubkey::to_string).collect();
        let config = json!({ "encoding": "base64", "commitment": commitment });
        let answer: WithContext<Vec<Option<AccountInfo>>> = self.call(METHOD, json!([names, config])).await?;
        if answer.value.len() != tables.len() {
            return Err(malformed(METHOD, format!("{} accounts for {}", answer.value.len(), tables.len())).into());
        }
        let account = |(table, found): (&Pubkey, Option<AccountInfo>)| {
            let found = found.ok_or(TableError::Absent { table: *table })?;
            Ok(TableAccount { address: *table, owner: found.owner, data: found.data })
        };
        let accounts: Result<Vec<_>, TableError> = tables.iter().zip(answer.value).map(account).collect();
        Ok(accounts.map_err(BuildError::LookupTable)?)
    }
}
