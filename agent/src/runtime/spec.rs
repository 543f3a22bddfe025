//! Flags to an order: pure.
