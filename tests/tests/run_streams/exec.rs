//! A command in a container ends when it ends, whatever it started.

use std::process::Stdio;

use tests::process::wait_for_end;
use tests::run::{Container, output, text};

#[test]
#[ignore = "needs root"]
fn a_child_that_goes_on_writing_holds_nobody_up() {
    let container = Container::new("behind");
    container.start(&[], &["sleep", "1000"]);
    for flags in [&[][..], &["-t"]] {
        for child in ["yes", "sleep 1000"] {
            // It is deaf to the end of its terminal.
            let script = format!("trap '' HUP; {child} & echo started; exit 3");
            let mut exec = container.agent("exec", flags, &["sh", "-c", &script]);
            exec.stdout(Stdio::piped()).stderr(Stdio::null());
            let mut exec = exec.spawn().expect("agent");
            let mut output = exec.stdout.take().expect("a pipe");
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                std::io::Read::read_to_end(&mut output, &mut all).map(|_| all)
            });
            let ended = wait_for_end(&mut exec, "the command's end is the end");
            assert_eq!(ended.code(), Some(3), "{flags:?} {child}");
            let all = reader.join().expect("a thread").expect("bytes");
            assert!(
                all.windows(7).any(|it| it == b"started"),
                "{flags:?} {child}"
            );
        }
    }
    text(&mut container.agent("rm", &["-f"], &[]));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn all_that_a_command_wrote_arrives() {
    let container = Container::new("all");
    container.start(&[], &["sleep", "1000"]);
    for flags in [&[][..], &["-t"]] {
        let seq = ["/bin/busybox", "seq", "1", "20000"];
        let ended = output(&mut container.agent("exec", flags, &seq));
        assert!(ended.status.success(), "{ended:?}");
        let said = String::from_utf8_lossy(&ended.stdout);
        let numbers = said.lines().filter_map(|it| it.parse::<u32>().ok());
        assert!(numbers.eq(1..=20000), "{flags:?}: {} bytes", said.len());
    }
    text(&mut container.agent("rm", &["-f"], &[]));
    container.assert_gone();
}
