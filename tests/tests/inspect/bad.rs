//! What is not there.

use std::fs;
use std::path::Path;

use tests::run::Container;
use tests::serve::Serve;

use crate::{NOBODY, SLEEP, call};

#[test]
#[ignore = "needs root"]
fn what_is_not_there_is_told() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    // Above what any kernel gives out.
    let most: u32 = fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .expect("a number");
    let pid = (most + 1).to_string();
    let ended = Container::new("inspect-ended");
    ended.start(&[], SLEEP);
    let mut stop = ended.agent("stop", &["--time", "0"], &[]);
    assert_eq!(tests::run::status(&mut stop), 0);
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        for (target, words) in [
            (&*pid, "there is no such process"),
            ("0", "agent ps"),
            ("-", "agent ps"),
            ("no-such-one", "agent ps"),
            ("../../etc", "agent ps"),
            ("a\x1b[31m", "agent ps"),
            (&*ended.name, "agent ps"),
        ] {
            let output = call(socket, target, &[]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert_eq!(output.stdout, b"", "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(
                stderr.contains(words) && !stderr.contains('\x1b'),
                "{stderr}"
            );
        }
    }
}
