//! Root file systems, each as a detached mount.
