//! The HTTP server that all dialects share.
