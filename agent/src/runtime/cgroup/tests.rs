//! On a tree that looks like a host's: the kernel's own files are tested by `tests/tests/run_limits.rs`.

use super::*;

#[test]
fn paths() {
    assert_eq!(names("/agent/a.b").unwrap(), ["agent", "a.b"]);
    for path in ["", "/", "agent", "/a/", "//a", "/a/../b", "/./a", "/a\n"] {
        assert!(names(path).is_err(), "{path:?}");
    }
}
