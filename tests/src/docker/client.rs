//! The command `docker`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::{PATH, program};
use crate::slow::longer;
use crate::wait::PATIENCE;

/// Calls of the client to one engine.
#[derive(Clone, Debug)]
pub struct Client {
    /// Has the engine's socket; the client's own configuration would be here too.
    directory: PathBuf,
}

impl Client {
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    /// A call that ends in time, whatever the engine does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("timeout"));
        command
            .arg("--kill-after=1")
            .arg(longer(PATIENCE).as_secs().to_string())
            .arg(program("docker"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("DOCKER_CONFIG", &self.directory)
            .stdin(Stdio::null());
        command
    }

    /// What it printed, without the last newline.
    ///
    /// # Panics
    /// Where it fails.
    pub fn call(&self, arguments: &[&str]) -> String {
        let called = self.try_call(arguments);
        called.unwrap_or_else(|error| panic!("docker {}: {error}", arguments.join(" ")))
    }

    /// Likewise; where it fails, what it said about that.
    pub fn try_call(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: {said}", output.status))
        }
    }
}
