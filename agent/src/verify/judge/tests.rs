//! Verdicts, each with one fact changed.
