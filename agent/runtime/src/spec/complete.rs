//! Completes an order with the configuration of the image, and with the users of the root file system.

use std::path::{Path, PathBuf};

use agent_rootfs::ImageConfig;
use oci_spec::runtime::Process;

use super::Error;
use super::environment::last_of_each;
use super::user::Users;
use crate::order::{Asked, Order};

/// Docker's default `PATH`, which an image or a flag may replace.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Completes the command of an order.
pub(super) fn complete(
    order: &mut Order,
    image: Option<&ImageConfig>,
    users: &Users,
) -> Result<(), Error> {
    let Some(asked) = order.asked.take() else {
        return Ok(());
    };
    let nothing = ImageConfig::default();
    let image = image.unwrap_or(&nothing);
    order.stop_signal = order.stop_signal.or(image.stop_signal);
    let arguments = arguments(&asked, image);
    if arguments.is_empty() {
        return Err(Error::NoCommand);
    }
    let user = asked.user.as_deref();
    let user = user.or(image.user.as_deref().filter(|user| !user.is_empty()));
    let (user, home) = users.find(user, &asked.groups)?;
    let hostname = order.spec.hostname().clone();
    let process = order.spec.process_mut().get_or_insert_default();
    let terminal = process.terminal() == Some(true);
    process.set_args(Some(arguments));
    let environment = environment(&asked, image, hostname.as_deref(), terminal, &home);
    process.set_env(Some(environment));
    let directory = asked.directory.or_else(|| image.directory.clone());
    process.set_cwd(directory_of(directory)?);
    if user.uid() != 0 {
        drop_effective(process);
    }
    process.set_user(user);
    Ok(())
}

/// Returns the command line, by docker's rules for entrypoint and command.
fn arguments(asked: &Asked, image: &ImageConfig) -> Vec<String> {
    let (entrypoint, command) = match &asked.entrypoint {
        Some(entrypoint) => (std::slice::from_ref(entrypoint), &asked.arguments),
        None if asked.arguments.is_empty() => (&*image.entrypoint, &image.command),
        None => (&*image.entrypoint, &asked.arguments),
    };
    let words = entrypoint.iter().filter(|word| !word.is_empty());
    words.chain(command).cloned().collect()
}

/// Returns the environment: the variables of every container, then the image's, then those of the flags. The last value
/// of a name wins.
fn environment(
    asked: &Asked,
    image: &ImageConfig,
    hostname: Option<&str>,
    terminal: bool,
    home: &str,
) -> Vec<String> {
    let mut usual = vec![PATH.to_owned()];
    usual.extend(hostname.map(|name| format!("HOSTNAME={name}")));
    usual.extend(terminal.then(|| "TERM=xterm".to_owned()));
    usual.push(format!("HOME={home}"));
    let all = usual.into_iter().chain(image.environment.iter().cloned());
    last_of_each(all.chain(asked.environment.iter().cloned()))
}

fn directory_of(directory: Option<PathBuf>) -> Result<PathBuf, Error> {
    let directory = directory.filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("/").to_owned());
    if directory.is_absolute() {
        return Ok(directory);
    }
    let shown = directory.display().to_string();
    Err(Error::flag(
        "--workdir",
        &shown,
        "wanted: an absolute path in the container",
    ))
}

/// Clears the effective and permitted sets, as execve(2) does for a user other than root. Such a process gains
/// capabilities only from files that have them.
fn drop_effective(process: &mut Process) {
    if let Some(mut sets) = process.capabilities().clone() {
        sets.set_effective(Some([].into()));
        sets.set_permitted(Some([].into()));
        process.set_capabilities(Some(sets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_command_are_dockers() {
        let image = ImageConfig {
            entrypoint: words("serve --fast"),
            command: words("site"),
            ..ImageConfig::default()
        };
        for (entrypoint, given, all) in [
            (None, "", "serve --fast site"),
            (None, "blog", "serve --fast blog"),
            (Some("sh"), "", "sh"),
            (Some("sh"), "-c x", "sh -c x"),
            (Some(""), "ls", "ls"),
            (Some(""), "", ""),
        ] {
            let asked = Asked {
                entrypoint: entrypoint.map(str::to_owned),
                arguments: words(given),
                ..Asked::default()
            };
            assert_eq!(
                arguments(&asked, &image),
                words(all),
                "{entrypoint:?} {given}"
            );
        }
    }

    #[test]
    fn the_last_of_a_variable_holds() {
        let image = ImageConfig {
            environment: words("PATH=/image A=image"),
            ..ImageConfig::default()
        };
        let asked = Asked {
            environment: words("A=asked HOME=/asked B="),
            ..Asked::default()
        };
        assert_eq!(
            environment(&asked, &image, Some("web"), true, "/root"),
            words("PATH=/image HOSTNAME=web TERM=xterm HOME=/asked A=asked B=")
        );
    }
}
