//! The append-only file that an engine's state is rebuilt from.
