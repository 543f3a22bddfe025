//! Carries out a spec: from clone to exec.
