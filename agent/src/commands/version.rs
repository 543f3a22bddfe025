//! `agent version`: the versions of this program, of the server that listens, and of the kernel.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_host::system::System;
use agent_model::text::{error_line, escape};
use agent_stream::{client, socket};
use serde::Serialize;

use super::screen::Output;
use crate::server::ServerVersion;

/// Show the versions of this program, of the agent serve that listens on the socket, and of the kernel
///
/// A server of another version is no error: the commands say where they need the same one.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// human: lines; json: an object
    #[arg(long, value_name = "human|json", default_value = "human")]
    output: Output,

    /// The unix socket of agent serve; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::asked())]
    socket: PathBuf,
}

#[derive(Debug, Serialize)]
struct Versions {
    agent: &'static str,
    /// null where no server answers.
    server: Option<String>,
    /// Why no server answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_server: Option<String>,
    kernel: Option<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let server = client::fetch::<ServerVersion>(&args.socket, "/v1/version").await;
    let (server, no_server) = match server {
        Ok(server) => (Some(server.version), None),
        Err(error) => (None, Some(error_line(&error))),
    };
    let versions = Versions {
        agent: env!("CARGO_PKG_VERSION"),
        server,
        no_server,
        kernel: System::read(Path::new("/")).kernel,
    };
    super::print(&match args.output {
        Output::Human => human(&versions, &args.socket),
        Output::Json => serde_json::to_string_pretty(&versions)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

fn human(versions: &Versions, socket: &Path) -> String {
    let server = match (&versions.server, &versions.no_server) {
        (Some(version), _) => format!("{version} on {}", socket.display()),
        (None, reason) => format!("none: {}", reason.as_deref().unwrap_or("unknown")),
    };
    let kernel = versions.kernel.as_deref().unwrap_or("unknown");
    let (agent, server) = (versions.agent, escape(&server));
    format!("agent   {agent}\nserver  {server}\nkernel  {kernel}\n")
}
