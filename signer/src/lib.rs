//! What may be signed, and the threshold signers that sign it.
