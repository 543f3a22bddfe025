//! Flags to orders.
