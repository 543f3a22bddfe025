//! Containers with a terminal, driven through tmux, which is a real one.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests::agent::binary;
use tests::run::{Container, rootfs, text};
use tests::wait::{PATIENCE, poll};

/// One server at a time: of two that start together, one may show nothing.
static ONE: Mutex<()> = Mutex::new(());

/// A tmux server of this test's own, with a shell in it.
struct Tmux {
    socket: String,
    _alone: MutexGuard<'static, ()>,
}

impl Tmux {
    fn new(name: &str) -> Self {
        let tmux = Self {
            socket: format!("agent-{name}-{}", std::process::id()),
            _alone: ONE.lock().unwrap_or_else(PoisonError::into_inner),
        };
        tmux.call(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "sh",
        ]);
        tmux
    }

    fn call(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket]).args(arguments);
        // It would refuse to be run in another one; and bash keeps the prompt from what it runs.
        tmux.env_remove("TMUX")
            .env("SHELL", "/bin/sh")
            .env("PS1", "host> ")
            .env("TERM", "xterm");
        text(&mut tmux)
    }

    /// Types a line for a shell, once that asks for one: what is typed before, it may drop, or show at another place.
    fn enter(&self, prompt: &str, line: &str) {
        self.wait_for_prompt(prompt);
        self.type_line(line);
    }

    fn type_line(&self, line: &str) {
        self.call(&["send-keys", "-l", line]);
        self.call(&["send-keys", "Enter"]);
    }

    /// Waits until a line of the screen is this one.
    fn wait_for_line(&self, wanted: &str) {
        let mut screen = String::new();
        let found = poll(PATIENCE, || {
            screen = self.call(&["capture-pane", "-p"]);
            screen
                .lines()
                .any(|line| line.trim_end() == wanted)
                .then_some(())
        });
        assert!(found.is_some(), "no line {wanted:?}:\n{screen}");
    }
}

impl Tmux {
    /// Interrupts what runs, and waits for the shell: what is typed before it asks, it drops with the rest of the line.
    fn interrupt(&self, prompt: &str) {
        self.call(&["send-keys", "C-c"]);
        self.wait_for_prompt(prompt);
    }

    /// Waits until the shell asks for a line.
    fn wait_for_prompt(&self, prompt: &str) {
        let mut screen = String::new();
        let asked = poll(PATIENCE, || {
            screen = self.call(&["capture-pane", "-p"]);
            let last = screen.lines().rfind(|line| !line.trim().is_empty());
            (last.map(str::trim_end) == Some(prompt)).then_some(())
        });
        assert!(asked.is_some(), "no prompt {prompt:?}:\n{screen}");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        // It may have ended.
        let _ = tmux.args(["-L", &self.socket, "kill-server"]).status();
    }
}

#[test]
#[ignore = "needs root"]
fn a_terminal_works_and_is_restored() {
    let container = Container::new("tty");
    let tmux = Tmux::new("tty");
    tmux.enter("host>", "stty -g > /tmp/agent-stty-$$; echo host $((1+1))");
    tmux.wait_for_line("host 2");
    tmux.enter(
        "host>",
        &format!(
            "{} run -it --name {} -e PS1=inside: --rootfs {} sh; echo ended $?",
            binary().display(),
            container.name,
            rootfs().display()
        ),
    );
    tmux.enter("inside:", "tty; stty size; echo $((40+2))");
    tmux.wait_for_line("24 80");
    tmux.wait_for_line("42");
    tmux.enter("inside:", "test -t 0 -a -t 1 -a -t 2 && echo all three");
    tmux.wait_for_line("all three");

    // The size follows, and the foreground is told.
    let follow = "trap 'stty size' WINCH; echo following; while :; do sleep 0.05; done";
    tmux.enter("inside:", &format!("sh -c \"{follow}\""));
    tmux.wait_for_line("following");
    tmux.call(&["resize-window", "-x", "100", "-y", "30"]);
    tmux.wait_for_line("30 100");
    tmux.interrupt("inside:");

    // ^C is for what runs in the container, and not for the agent.
    tmux.enter("inside:", "sh -c 'echo sleeping; sleep 1000'");
    tmux.wait_for_line("sleeping");
    tmux.interrupt("inside:");
    tmux.enter("inside:", "echo cut $?");
    tmux.wait_for_line("cut 130");

    // ^D is the end of the shell that asks, and nothing to one that does not yet.
    tmux.enter("inside:", "sh -c 'echo seven; exit 7'");
    tmux.wait_for_line("seven");
    tmux.wait_for_prompt("inside:");
    tmux.call(&["send-keys", "C-d"]);
    tmux.wait_for_line("ended 7");
    tmux.enter(
        "host>",
        "test \"$(stty -g)\" = \"$(cat /tmp/agent-stty-$$)\" && echo restored $((1+2))",
    );
    tmux.wait_for_line("restored 3");
    tmux.enter("host>", "rm /tmp/agent-stty-$$; echo removed $((2+2))");
    tmux.wait_for_line("removed 4");
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_command_has_a_terminal_of_its_own() {
    let container = Container::new("exectty");
    container.start(&["--rm"], &["sleep", "1000"]);
    let tmux = Tmux::new("exectty");
    tmux.enter(
        "host>",
        &format!(
            "{} exec -it -e PS1=inside: {} sh; echo ended $?",
            binary().display(),
            container.name
        ),
    );
    tmux.enter("inside:", "stty size; echo $$ is not 1");
    tmux.wait_for_line("24 80");
    tmux.enter("inside:", "exit 5");
    tmux.wait_for_line("ended 5");
    text(&mut container.agent("rm", &["-f"], &[]));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn the_agents_terminal_is_not_the_containers() {
    let container = Container::new("notty");
    let tmux = Tmux::new("notty");
    // Without -t it has pipes, through which all goes all the same.
    tmux.enter("host>", &format!(
        "{} run -i --name {} --rootfs {} sh -c 'tty; read x; echo got $x; ls -l /proc/self/fd >&2; test ! -t 1 -a ! -t 2 && echo none'",
        binary().display(),
        container.name,
        rootfs().display()
    ));
    tmux.wait_for_line("not a tty");
    tmux.type_line("typed");
    tmux.wait_for_line("got typed");
    tmux.wait_for_line("none");
    container.assert_gone();
    // And a terminal that is to be typed at must be there.
    let mut run = container.run(&["-it"], &["sh"]);
    let ended = tests::run::output(&mut run);
    assert_eq!(ended.status.code(), Some(125), "{ended:?}");
    container.assert_gone();
}
