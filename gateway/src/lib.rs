//! The JSON-RPC gateway: from an authenticated request to a final transaction, exactly once.
