//! Whole-program tests on a real kernel, and what they share.
