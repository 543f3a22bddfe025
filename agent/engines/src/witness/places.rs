//! Where engines and their launchers leave records: one row for each.

use std::path::{Path, PathBuf};

use agent_registry::claim::Claim;
use agent_registry::path::Runtime;

use super::evidence::Evidence;
use super::{file, unread};

/// Directories that are looked at where the one with a record is named after somebody's choice.
const NAMED_AT_MOST: usize = 64;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI bundle's `config.json`; the pid is in a file beside it, of this name.
    Bundle { pid: &'static str },
    /// runc's `state.json`.
    Runc,
    /// crun's `status`.
    Crun,
    /// systemd-machined's file on a machine.
    Machine,
    /// The configuration of a container of LXC: where it puts its cgroups by default is known.
    Lxc,
}

/// Below what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// `/run` for root, `/run/user/N` for another.
    Run,
    /// What dockerd has as `--exec-root`; another user's is `/run/user/N/docker`.
    Docker,
    /// Root's only.
    System(&'static str),
}

type Row = (fn(Runtime) -> bool, Base, &'static str, Form);

const SHIM: Form = Form::Bundle { pid: "init.pid" };
const CONMON: Form = Form::Bundle { pid: "pidfile" };

/// `{id}` is the container's, `{any}` any directory's name.
#[rustfmt::skip]
const ROWS: [Row; 12] = [
    // containerd: runtime/v2/bundle.go. dockerd runs one of its own where no system's is there.
    (is_oci,    Base::Docker,             "containerd/daemon/io.containerd.runtime.v2.task/moby/{id}/config.json", SHIM),
    (is_oci,    Base::Run,                "containerd/io.containerd.runtime.v2.task/{any}/{id}/config.json",       SHIM),
    // podman and CRI-O: containers/storage, ContainerRunDirectory.
    (is_oci,    Base::Run,                "containers/storage/overlay-containers/{id}/userdata/config.json",       CONMON),
    (is_oci,    Base::Run,                "containers/storage/vfs-containers/{id}/userdata/config.json",           CONMON),
    (is_oci,    Base::Run,                "containers/overlay-containers/{id}/userdata/config.json",               CONMON),
    (is_oci,    Base::Run,                "containers/vfs-containers/{id}/userdata/config.json",                   CONMON),
    // What the runtimes below them keep: runc's libcontainer/state_linux.go, crun's libcrun/status.c.
    (is_oci,    Base::Docker,             "runtime-runc/moby/{id}/state.json",                                     Form::Runc),
    (is_oci,    Base::Run,                "containerd/runc/{any}/{id}/state.json",                                 Form::Runc),
    (is_oci,    Base::Run,                "runc/{id}/state.json",                                                  Form::Runc),
    (is_oci,    Base::Run,                "crun/{id}/status",                                                      Form::Crun),
    // systemd: src/machine/machine.c, machine_save.
    (is_nspawn, Base::System("run"),      "systemd/machines/{id}",                                                 Form::Machine),
    (is_lxc,    Base::System("var/lib"),  "lxc/{id}/config",                                                       Form::Lxc),
];

fn is_oci(runtime: Runtime) -> bool {
    use Runtime::{Containerd, Cri, Crio, Docker, Podman, Unknown};
    matches!(runtime, Docker | Containerd | Crio | Podman | Cri | Unknown)
}

fn is_nspawn(runtime: Runtime) -> bool {
    runtime == Runtime::Nspawn
}

fn is_lxc(runtime: Runtime) -> bool {
    runtime == Runtime::Lxc
}

/// Where a record of one container may be.
#[derive(Debug)]
pub struct Place {
    base: PathBuf,
    path: PathBuf,
    form: Form,
    user: u32,
}

/// All places of `user`'s records on the container that is claimed, on a host whose tree is at `root`.
pub fn of(root: &Path, docker: &Path, claim: &Claim, user: u32) -> Vec<Place> {
    let rows = ROWS.iter().filter(|(is_for, ..)| is_for(claim.runtime));
    let places = rows.filter_map(|(_, base, path, form)| {
        let base = directory(root, docker, *base, user)?;
        let path = path.replace("{id}", &claim.id);
        let paths = match path.split_once("{any}/") {
            None => vec![PathBuf::from(path)],
            Some((above, below)) => named(&base, above, user, below),
        };
        let place = move |path| Place {
            base: base.clone(),
            path,
            form: *form,
            user,
        };
        Some(paths.into_iter().map(place))
    });
    places.flatten().collect()
}

fn directory(root: &Path, docker: &Path, base: Base, user: u32) -> Option<PathBuf> {
    let own = || root.join("run/user").join(user.to_string());
    match (base, user) {
        (Base::Run, 0) => Some(root.join("run")),
        (Base::Run, _) => Some(own()),
        (Base::Docker, 0) => Some(root.join(docker.strip_prefix("/").unwrap_or(docker))),
        (Base::Docker, _) => Some(own().join("docker")),
        (Base::System(path), 0) => Some(root.join(path)),
        (Base::System(_), _) => None,
    }
}

/// The paths in which a directory of any name below `above` stands for `{any}`.
fn named(base: &Path, above: &str, user: u32, below: &str) -> Vec<PathBuf> {
    let above = Path::new(above);
    let names = file::names(base, above, user).into_iter().flatten();
    let names = names.take(NAMED_AT_MOST);
    names.map(|name| above.join(name).join(below)).collect()
}

impl Place {
    /// Where the record is, if it is there and cannot be read.
    pub fn unread(&self) -> Option<PathBuf> {
        match file::read(&self.base, &self.path, self.user) {
            Some(_) => None,
            None => unread::is_there(self.base.join(&self.path)),
        }
    }

    /// What the record says; `None` where there is none that can be believed.
    pub fn read(&self) -> Option<Evidence> {
        let record = file::read(&self.base, &self.path, self.user)?;
        let beside =
            |name: &str| file::read(&self.base, &self.path.with_file_name(name), self.user);
        Evidence::of(self.form, &record, beside, self.user)
    }
}
