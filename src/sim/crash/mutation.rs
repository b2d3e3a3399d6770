//! Known bugs.

use super::MutationArgs;
use crate::cli::Failure;

pub(super) async fn check(_args: MutationArgs) -> Result<(), Failure> {
    Ok(())
}
